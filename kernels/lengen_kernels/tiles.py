"""The tile of every kernel: block sizes, warps and stages of the software pipeline. Nothing is tuned at run time.

A row is found by kernel, without terms beside the products, with a bias over distance (and a scale), or with other
options (biases of keys, windows, chosen rows), by the operands, "16" for 16-bit ones and the precision for fp32 ones,
by padded head width, and where it makes a difference by length class and architecture. Rows were chosen by the
compiler's figures for sm90 (``benchmarks/compilation.py``): no spills, registers that let several programs share a
processor, and for 16-bit operands few instructions for a cell of the loops; by the figures of Triton 3.6 and 3.9, which
differ by up to a quarter. Exceptions keep heads of up to D = 64 from spilling elsewhere.
"""

from __future__ import annotations

import functools
from typing import NamedTuple


class Tile(NamedTuple):
    """Rows of queries and of keys in a tile, warps of a program, stages of its loads, bound of a thread's registers.

    Without a bound the assembler takes more registers than it needs, and fewer programs share a processor.
    """

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int
    max_registers: int | None = None


WIDTHS = (16, 32, 64, 128, 256)
SHORT = 128  # tokens: sequences of at most two tiles of 64

# Wide heads need small tiles, and so do fp32 operands: three tf32 products or scalar arithmetic take registers.
TILES = {
    "forward": {
        "16": [Tile(128, 64, 4, 3, 168)] * 2 + [Tile(128, 64, 4, 3), Tile(128, 128, 8, 2), Tile(64, 32, 8, 2)],
        "tf32": [
            Tile(64, 64, 4, 2, 168),
            Tile(64, 64, 4, 2),
            Tile(64, 64, 4, 2),
            Tile(32, 32, 8, 2),
            Tile(16, 32, 8, 1),
        ],
        "ieee": [Tile(64, 32, 8, 2, 128)] * 3 + [Tile(32, 32, 8, 1), Tile(16, 16, 8, 1)],
    },
    "forward with a bias": {
        "16": [Tile(64, 64, 4, 2)] * 3 + [Tile(128, 128, 8, 2), Tile(64, 32, 8, 1)],
    },
    "forward with options": {
        "16": [Tile(64, 64, 4, 2)] * 3 + [Tile(64, 32, 8, 2), Tile(64, 32, 8, 1)],
        "tf32": [Tile(64, 64, 4, 2), Tile(64, 32, 4, 2), Tile(64, 32, 4, 2), Tile(32, 32, 8, 2), Tile(16, 32, 8, 1)],
        "ieee": [Tile(64, 32, 8, 2, 128)] * 3 + [Tile(32, 32, 8, 1), Tile(16, 16, 8, 1)],
    },
    "query_gradient": {
        "16": [Tile(64, 64, 4, 2, 168)] * 3 + [Tile(64, 64, 4, 2), Tile(32, 32, 8, 1)],
        "tf32": [
            Tile(64, 64, 4, 2, 168),
            Tile(64, 32, 4, 2),
            Tile(64, 32, 4, 2),
            Tile(32, 32, 8, 1),
            Tile(16, 16, 8, 1),
        ],
        "ieee": [Tile(64, 32, 8, 2, 128)] * 3 + [Tile(16, 32, 8, 1), Tile(16, 16, 8, 1)],
    },
    "query_gradient with a bias": {
        "16": [Tile(64, 32, 4, 2), Tile(128, 32, 4, 2)] + [Tile(64, 64, 4, 2)] * 2 + [Tile(32, 32, 8, 1)],
    },
    "query_gradient with options": {
        "16": [Tile(64, 64, 4, 2), Tile(64, 32, 4, 2), Tile(64, 32, 4, 2), Tile(64, 32, 8, 2), Tile(32, 32, 8, 1)],
        "tf32": [Tile(64, 32, 4, 2), Tile(64, 32, 4, 2), Tile(32, 32, 8, 2), Tile(32, 32, 8, 1), Tile(16, 16, 8, 1)],
        "ieee": [Tile(64, 32, 8, 2)] * 3 + [Tile(16, 32, 8, 1), Tile(16, 16, 8, 1)],
    },
    "key_gradient": {
        "16": [
            Tile(32, 128, 4, 2, 168),
            Tile(32, 128, 4, 2),
            Tile(32, 64, 4, 2, 168),
            Tile(32, 64, 4, 2),
            Tile(16, 32, 8, 1),
        ],
        "tf32": [Tile(32, 64, 4, 2), Tile(32, 64, 4, 2), Tile(32, 32, 4, 2), Tile(16, 32, 8, 1), Tile(16, 16, 8, 1)],
        "ieee": [Tile(32, 32, 8, 1)] * 3 + [Tile(16, 16, 8, 1), Tile(16, 16, 8, 1)],
    },
    "key_gradient with a bias": {
        "16": [Tile(32, 128, 4, 2)] * 2 + [Tile(32, 64, 4, 2)] * 2 + [Tile(16, 32, 8, 1)],
    },
    "key_gradient with options": {
        "16": [Tile(32, 64, 4, 2), Tile(32, 64, 4, 2), Tile(16, 64, 4, 2), Tile(32, 64, 8, 2), Tile(16, 32, 8, 1)],
        "tf32": [Tile(32, 64, 4, 2), Tile(16, 64, 4, 2), Tile(32, 32, 8, 2), Tile(16, 32, 8, 1), Tile(16, 16, 8, 1)],
        "ieee": [Tile(32, 32, 8, 1)] * 3 + [Tile(16, 16, 8, 1), Tile(16, 16, 8, 1)],
    },
    "diagonal with a bias": {
        "16": [Tile(64, 64, 4, 1)] * 3 + [Tile(64, 64, 8, 1), Tile(16, 16, 4, 1)],
    },
    "diagonal with options": {
        "16": [Tile(64, 64, 4, 2), Tile(64, 64, 4, 2), Tile(64, 64, 8, 2), Tile(64, 64, 8, 1), Tile(16, 16, 4, 1)],
        "tf32": [Tile(64, 64, 4, 2), Tile(32, 32, 4, 2), Tile(16, 16, 4, 1), Tile(16, 16, 8, 1), Tile(16, 16, 8, 1)],
        "ieee": [Tile(32, 32, 8, 1)] * 3 + [Tile(16, 16, 8, 1)] * 2,
    },
    "split with options": {
        "16": [
            Tile(16, 64, 4, 2),
            Tile(16, 64, 4, 2, 168),
            Tile(16, 64, 4, 2, 168),
            Tile(16, 64, 4, 2),
            Tile(16, 32, 4, 2),
        ],
        "tf32": [Tile(16, 64, 4, 2)] * 3 + [Tile(16, 32, 4, 2), Tile(16, 16, 4, 2)],
        "ieee": [Tile(16, 64, 4, 2)] * 2 + [Tile(16, 32, 4, 2)] + [Tile(16, 16, 4, 2)] * 2,
    },
    "split_query_gradient with options": {
        "16": [Tile(16, 64, 4, 2, 255)] + [Tile(16, 64, 4, 2, 168)] * 2 + [Tile(16, 64, 4, 1), Tile(16, 32, 4, 1)],
        "tf32": [Tile(16, 32, 4, 2)] * 3 + [Tile(16, 32, 4, 1), Tile(16, 16, 4, 1)],
        "ieee": [Tile(16, 64, 4, 2)] * 2 + [Tile(16, 32, 4, 2)] + [Tile(16, 16, 4, 1)] * 2,
    },
    "chosen_rows with options": {
        "16": [Tile(16, 64, 4, 1, 168)] * 4 + [Tile(16, 32, 4, 1)],
        "tf32": [Tile(16, 64, 4, 1, 168)] * 3 + [Tile(16, 32, 4, 1), Tile(16, 16, 4, 1)],
        "ieee": [Tile(16, 64, 4, 1, 168)] * 3 + [Tile(16, 32, 4, 1), Tile(16, 16, 4, 1)],
    },
    # Up to D = 64. Sequences of no more than half a tile's rows take a smaller tile, and as many warps fewer.
    "short_forward with a bias": {
        "16": [Tile(64, 64, 4, 2)] * 3,
    },
    "short_forward with options": {
        "16": [Tile(64, 64, 4, 2)] * 3,
        "tf32": [Tile(64, 32, 4, 2), Tile(64, 32, 4, 2), Tile(32, 32, 4, 2)],
        "ieee": [Tile(32, 32, 8, 2), Tile(32, 32, 8, 2), Tile(64, 32, 8, 2)],
    },
    # Keys in multiples of queries. Two programs of 4 warps and 255 registers share a processor.
    "short_backward": {
        "16": [Tile(64, 64, 4, 1)] * 3,
        "tf32": [Tile(32, 32, 4, 1, 255), Tile(16, 32, 4, 1), Tile(32, 32, 8, 1)],
        "ieee": [Tile(32, 32, 8, 1), Tile(16, 32, 8, 1), Tile(16, 16, 8, 1)],
    },
    "short_backward with a bias": {
        "16": [Tile(64, 64, 4, 1)] * 2 + [Tile(32, 64, 4, 1)],
    },
    "short_backward with options": {
        "16": [Tile(32, 64, 4, 1), Tile(16, 64, 4, 1), Tile(32, 64, 4, 1)],
        "tf32": [Tile(16, 32, 8, 1), Tile(16, 32, 4, 1, 255), Tile(16, 32, 8, 1)],
        "ieee": [Tile(16, 32, 8, 1), Tile(16, 32, 8, 1), Tile(16, 16, 8, 1)],
    },
}
# Where a row would spill. Bounds are loose ones: without any the assembler may spill so that more programs fit.
EXCEPTIONS = {
    ("forward", "16", 64, "sm100"): Tile(128, 64, 8, 2),
    ("forward", "tf32", 64, "sm80"): Tile(64, 64, 8, 2),
    ("forward", "tf32x3", 32, "sm80"): Tile(64, 32, 4, 2),
    ("forward", "tf32x3", 64, "sm80"): Tile(32, 32, 8, 2),
    ("forward", "tf32x3", 64, "sm90"): Tile(64, 32, 8, 2),
    ("forward", "tf32x3", 64, "sm100"): Tile(64, 32, 8, 2),
    ("forward with a bias", "16", 16, "sm80"): Tile(64, 32, 4, 2),
    ("forward with a bias", "16", 32, "sm80"): Tile(64, 32, 4, 2),
    ("forward with a bias", "tf32", 16, "sm80"): Tile(64, 32, 4, 2),
    ("forward with a bias", "tf32x3", 16, "sm80"): Tile(32, 32, 4, 2),
    ("forward with a bias", "tf32x3", 16, "sm90"): Tile(64, 32, 4, 2),
    ("forward with options", "16", 32, "sm80"): Tile(64, 32, 4, 2),
    ("forward with options", "16", 64, "sm80"): Tile(64, 32, 4, 2),
    ("forward with options", "16", 64, "sm100"): Tile(64, 64, 4, 2),
    ("forward with options", "tf32", 16, "sm100"): Tile(64, 32, 4, 2),
    ("forward with options", "tf32x3", 16, "sm80"): Tile(64, 32, 4, 2),
    ("forward with options", "tf32x3", 16, "sm90"): Tile(64, 32, 4, 2),
    ("forward with options", "tf32x3", 16, "sm100"): Tile(64, 64, 8, 2),
    ("forward with options", "tf32x3", 32, "sm100"): Tile(64, 32, 8, 2),
    ("forward with options", "tf32x3", 64, "sm80"): Tile(32, 32, 8, 2),
    ("forward with options", "tf32x3", 64, "sm100"): Tile(64, 32, 8, 2),
    ("forward with options", "ieee", 32, "sm90"): Tile(64, 32, 8, 2, 255),
    ("forward with options", "ieee", 64, "sm90"): Tile(64, 32, 8, 2, 255),
    ("query_gradient", "16", 64, "sm100"): Tile(64, 32, 4, 2),
    ("query_gradient", "tf32x3", 64, "sm80"): Tile(32, 32, 8, 2),
    ("query_gradient", "tf32x3", 64, "sm100"): Tile(64, 32, 8, 2),
    ("query_gradient", "ieee", 64, "sm90"): Tile(64, 32, 8, 2, 255),
    ("query_gradient with a bias", "16", 64, "sm80"): Tile(64, 32, 4, 2),
    ("query_gradient with options", "16", 16, "sm100"): Tile(64, 32, 4, 2),
    ("query_gradient with options", "16", 32, "sm100"): Tile(64, 32, 4, 2),
    ("query_gradient with options", "tf32x3", 16, "sm100"): Tile(64, 16, 8, 2),
    ("query_gradient with options", "tf32x3", 32, "sm80"): Tile(64, 32, 8, 2),
    ("query_gradient with options", "tf32x3", 32, "sm100"): Tile(64, 32, 8, 2),
    ("query_gradient with options", "tf32x3", 64, "sm100"): Tile(64, 16, 8, 2),
    ("query_gradient with options", "ieee", 32, "sm90"): Tile(64, 32, 8, 2, 255),
    ("query_gradient with options", "ieee", 64, "sm90"): Tile(64, 32, 8, 2, 255),
    ("key_gradient", "16", 64, "sm80"): Tile(16, 64, 4, 2),
    ("key_gradient", "tf32", 64, "sm90"): Tile(32, 32, 4, 2, 255),
    ("key_gradient", "tf32x3", 32, "sm80"): Tile(16, 64, 4, 2),
    ("key_gradient", "tf32x3", 32, "sm100"): Tile(32, 64, 8, 2),
    ("key_gradient", "tf32x3", 64, "sm100"): Tile(32, 32, 8, 2),
    ("key_gradient with options", "16", 32, "sm80"): Tile(16, 64, 4, 2),
    ("key_gradient with options", "16", 64, "sm100"): Tile(16, 64, 4, 2, 255),
    ("key_gradient with options", "tf32x3", 16, "sm80"): Tile(16, 64, 4, 2),
    ("key_gradient with options", "tf32x3", 32, "sm100"): Tile(16, 64, 8, 2),
    ("key_gradient with options", "tf32x3", 64, "sm80"): Tile(16, 32, 8, 1),
    ("key_gradient with options", "ieee", 16, "sm90"): Tile(16, 32, 8, 1),
    ("key_gradient with options", "ieee", 64, "sm80"): Tile(16, 32, 8, 1),
    ("diagonal with a bias", "16", 64, "sm80"): Tile(32, 32, 4, 2),
    ("diagonal with a bias", "tf32x3", 32, "sm90"): Tile(16, 16, 4, 1),
    ("diagonal with options", "16", 64, "sm80"): Tile(32, 32, 4, 2),
    ("diagonal with options", "tf32x3", 16, "sm80"): Tile(32, 32, 4, 2),
    ("diagonal with options", "tf32x3", 16, "sm90"): Tile(32, 32, 4, 2),
    ("diagonal with options", "tf32x3", 32, "sm80"): Tile(32, 32, 8, 2),
    ("diagonal with options", "tf32x3", 64, "sm90"): Tile(16, 16, 8, 1),
    ("diagonal with options", "ieee", 16, "sm90"): Tile(32, 32, 8, 1, 255),
    ("split_query_gradient with options", "16", 16, "sm100"): Tile(16, 64, 4, 2, 255),
    ("split_query_gradient with options", "tf32x3", 16, "sm90"): Tile(16, 32, 4, 2, 255),
    ("split_query_gradient with options", "tf32x3", 32, "sm90"): Tile(16, 32, 4, 2, 255),
    ("split_query_gradient with options", "ieee", 32, "sm80"): Tile(16, 32, 4, 2),
    ("chosen_rows with options", "16", 64, "sm100"): Tile(16, 64, 4, 1, 168),
    ("short_forward", "ieee", 16, "sm90"): Tile(32, 32, 8, 2, 80),
    ("short_forward with a bias", "16", 16, "sm80"): Tile(64, 32, 4, 2),
    ("short_forward with a bias", "16", 32, "sm80"): Tile(64, 32, 4, 2),
    ("short_forward with a bias", "ieee", 64, "sm90"): Tile(64, 32, 8, 2, 255),
    ("short_forward with options", "ieee", 64, "sm100"): Tile(32, 32, 8, 2),
    ("short_backward", "16", 32, "sm100"): Tile(32, 64, 4, 1),
    ("short_backward", "16", 64, "sm80"): Tile(32, 64, 4, 1),
    ("short_backward", "tf32", 64, "sm90"): Tile(32, 32, 8, 1, 255),
    ("short_backward", "ieee", 16, "sm100"): Tile(16, 32, 8, 1),
    ("short_backward", "ieee", 32, "sm100"): Tile(16, 16, 8, 1),
    ("short_backward with a bias", "16", 16, "sm80"): Tile(32, 64, 8, 1),
    ("short_backward with a bias", "16", 16, "sm100"): Tile(32, 64, 4, 1),
    ("short_backward with a bias", "16", 32, "sm80"): Tile(16, 64, 4, 1),
    ("short_backward with a bias", "16", 32, "sm100"): Tile(32, 64, 4, 1),
    ("short_backward with a bias", "16", 64, "sm80"): Tile(16, 32, 4, 1),
    ("short_backward with options", "16", 16, "sm80"): Tile(16, 32, 4, 1),
    ("short_backward with options", "16", 32, "sm80"): Tile(16, 64, 4, 1),
    ("short_backward with options", "16", 64, "sm80"): Tile(16, 16, 4, 1),
    ("short_backward with options", "tf32x3", 16, "sm80"): Tile(16, 16, 4, 1),
    ("short_backward with options", "tf32x3", 16, "sm100"): Tile(16, 16, 8, 1),
    ("short_backward with options", "ieee", 32, "sm100"): Tile(16, 16, 8, 1),
}
MOST_REGISTERS = 255  # of a thread
FIXED = {  # no products: one tile for all
    "merge": Tile(16, 16, 8, 1),  # warps of the sum, which would spill on sm80 with 4; merging always has 4
    "table_gradient": Tile(16, 128, 4, 1),
    "distance_gradient": Tile(16, 64, 4, 1, 128),
}
SHORT_FORWARD = Tile(64, 64, 4, 2, 168)  # where larger tiles would be half empty


@functools.lru_cache(4096)
def choose(kernel: str, block_d: int, operands: str, longest: int, architecture: str) -> Tile:
    """The tile for head width ``block_d`` (16 to 256, a power of two) and sequences of up to ``longest`` rows.

    ``kernel`` ends in " with a bias" or " with options" where a logit is more than a product. Architectures share their
    rows beside ``EXCEPTIONS``. The bounds of registers are those of sm90: the products of the others take more, and so
    do three products of tf32 for one.
    """
    name = kernel.partition(" with ")[0]
    if name in FIXED:
        return FIXED[name]
    column = "tf32" if operands == "tf32x3" else operands
    row = kernel if column in TILES.get(kernel, ()) else f"{name} with options"
    tile = TILES[row][column][WIDTHS.index(block_d)]
    key = operands, block_d, architecture
    exception = EXCEPTIONS.get((kernel, *key))
    if exception is None and kernel.endswith(" with a bias"):
        exception = EXCEPTIONS.get((row, *key))
    if exception is not None:
        tile = exception
    if kernel == "forward" and longest <= SHORT and tile.block_m > SHORT_FORWARD.block_m:
        tile = SHORT_FORWARD if block_d <= 64 else SHORT_FORWARD._replace(max_registers=None)
    if exception is not None and exception.max_registers is not None:
        return tile
    return tile._replace(max_registers=_bound(tile, operands, architecture))


def _bound(tile: Tile, operands: str, architecture: str) -> int | None:
    """Of the registers of a row's tile, or of an exception without its own."""
    if architecture == "sm90":
        return None if operands == "tf32x3" else tile.max_registers
    return None if (architecture, operands) == ("sm100", "16") else MOST_REGISTERS
