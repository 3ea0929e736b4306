"""Checks of launches that need kernels compiled: run as a script, in a process without the interpreter.

A device that is not there takes the launches, and hands out another function for each kernel that is loaded.
"""

import itertools
import sys
from pathlib import Path

import torch
import triton
import triton.language as tl

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

from lengen_kernels import launch  # noqa: E402

from benchmarks.host import pretended  # noqa: E402
from lengen_fast.ops import DistanceBias, attention  # noqa: E402


@triton.jit(do_not_specialize=["size"])
def copy_kernel(rows, p_out, p_extra, step, size, SHAPE: tl.constexpr, FLAG: tl.constexpr):
    pointer, stride = rows
    offsets = tl.arange(0, SHAPE[0])
    values = tl.load(pointer + offsets * stride, mask=offsets < size)
    if FLAG:
        values += 1
    if p_extra is not None:
        values += tl.load(p_extra + offsets * step)
    tl.store(p_out + offsets, values)


def calls_of_every_kind() -> list[dict]:
    """Arguments of ``copy_kernel``: each differs from the first in one thing that Triton may compile anew for."""
    numbers, out = torch.zeros(64), torch.zeros(64)
    small, large = (tl.constexpr(16),), (tl.constexpr(32),)
    first = dict(rows=(numbers, 3), p_out=out, p_extra=None, step=7, size=16, SHAPE=small, FLAG=False, num_warps=1)
    first |= dict(num_stages=1, maxnreg=None)
    others = [
        {"rows": (numbers[1:], 3)},
        {"rows": (numbers.half(), 3)},
        {"rows": (numbers, 1)},
        {"rows": (numbers, 16)},
        {"rows": (numbers, 1 << 33)},
        {"rows": (numbers, 3 + (1 << 33))},
        {"rows": (numbers, 0)},
        {"p_out": out[2:]},
        {"p_extra": numbers},
        {"p_extra": numbers[1:]},
        {"step": 1},
        {"step": 32},
        {"step": True},
        {"step": -16},
        {"step": -(1 << 31) - 1},
        {"size": 1},
        {"size": 17},
        {"size": 1 << 40},
        {"SHAPE": large},
        {"FLAG": True},
        {"num_warps": 2},
        {"maxnreg": 64},
    ]
    return [first, *(first | other for other in others)]


def check_specializations() -> None:
    """A call without Triton's help runs the kernel that Triton would choose, with the same arguments."""
    with pretended() as launches:
        calls = calls_of_every_kind()
        for arguments, times in itertools.product(calls, range(2)):
            launches.clear()
            launch.launch(copy_kernel, 5 + times, **arguments)
            launch.through_triton(copy_kernel, 5 + times, arguments)
            direct, expected = launches
            assert is_same(direct, expected), (arguments, direct, expected)
        functions = {id(each) for arguments in calls for each in [function_of(launches, arguments)]}
    assert 15 <= len(functions) < len(calls), "Triton does not compile all of these anew, but most"


def function_of(launches: list, arguments: dict) -> object:
    launches.clear()
    launch.launch(copy_kernel, 1, **arguments)
    return launches[0][1]


def check_asking_once() -> None:
    """Triton is asked at the first call of a kind alone, whatever the sizes of the others."""
    asked, ask = [], launch.through_triton
    launch.through_triton = lambda kernel, *rest: asked.append(kernel) or ask(kernel, *rest)
    numbers = torch.zeros(64)
    shape = (tl.constexpr(16),)
    with pretended() as launches:
        for size in range(2, 30):
            arguments = dict(rows=(numbers, 3), p_out=torch.zeros(64), p_extra=None, step=7, size=size, SHAPE=shape)
            launch.launch(copy_kernel, size, **arguments, FLAG=False, num_warps=1, num_stages=1, maxnreg=None)
    assert len(asked) == 1
    assert [grid[0] for grid, _, _ in launches] == list(range(2, 30))


def check_attention() -> None:
    """Both passes launch the same, by short rows and by tiles, whether or not Triton is asked; other lengths of the
    same kind do not ask again."""
    asked, ask = [], launch.through_triton
    launch.through_triton = lambda kernel, *rest: asked.append(kernel) or ask(kernel, *rest)
    with pretended() as launches:
        for lengths in ((150, 140), (300, 290)):
            both_passes(lengths[0])
            assert asked
            asked.clear()
            launches.clear()
            both_passes(lengths[1])
            assert not asked
            direct = list(launches)
            launches.clear()
            launch.launch, original = (lambda kernel, count, **given: ask(kernel, count, given)), launch.launch
            both_passes(lengths[1])
            launch.launch = original
            assert len(direct) == len(launches)
            assert all(map(is_same, direct, launches))


def both_passes(length: int) -> None:
    q, k, v = torch.zeros(2, length, 3, 2, 16, dtype=torch.bfloat16).requires_grad_().unbind(2)
    table = torch.zeros(2, 512, requires_grad=True)
    attention(q, k, v, bias=DistanceBias(table)).sum().backward()


def is_same(one: object, other: object) -> bool:
    """Whether launches are the same but for the memory of what they write."""
    if isinstance(one, torch.Tensor):
        return (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return one is other or one == other


if __name__ == "__main__":
    globals()[f"check_{sys.argv[1]}"]()
