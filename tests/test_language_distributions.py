"""How strings of languages are distributed: as the paper draws them, and hard."""

from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from language_facts import MEMBER, members
from scipy import stats
from test_languages import LEAST_P, NAMES, matrix, strings

import lengen_fast as lf

# ---- how the paper draws ----


def paper_strings(name: str, count: int, n: int, seed: int = 91) -> list[str]:
    task = lf.task(name)
    return strings(task, task.sample(count, n, seed))


def assert_uniform(values, choices: int) -> None:
    counts = np.bincount(np.asarray(values), minlength=choices)
    assert len(counts) == choices
    assert stats.chisquare(counts).pvalue > LEAST_P


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("tomita_5", "tomita_6")])
def test_lengths_are_uniform_over_those_with_members(name):
    task = lf.task(name)
    lengths = list(task.reachable(task.min_length, 40))
    drawn = [len(x) for x in strings(task, task.sample(3000, (task.min_length, 40), 92))]
    assert_uniform([lengths.index(n) for n in drawn], len(lengths))


@pytest.mark.parametrize("name", ["tomita_5", "tomita_6"])
@pytest.mark.parametrize("length", [(0, 50), (51, 100)])
def test_lengths_of_tomita_5_and_6_are_those_of_stopped_walks_in_the_language(name, length):
    """Fair symbols, an end with probability 1 / (1 + L) before each, kept if in range and in the language."""
    task, middle = lf.task(name), sum(length) / 2
    drawn = Counter(len(x) for x in strings(task, task.sample(6000, length, 93)))
    lengths = list(task.reachable(*length))
    chances = np.array([(1 - 1 / (1 + middle)) ** n * (task.acceptor.count(n) / 2**n) for n in lengths])
    expected = 6000 * chances / chances.sum()
    assert stats.chisquare([drawn[n] for n in lengths], expected).pvalue > LEAST_P


@pytest.mark.parametrize("name", ["tomita_5", "tomita_6"])
def test_strings_of_tomita_5_and_6_of_one_length_are_uniform(name):
    drawn = Counter(paper_strings(name, 4000, 8))
    assert stats.chisquare([drawn[x] for x in members(name, "01", 8)]).pvalue > LEAST_P


def coins(x: str, left: int) -> dict[str, float]:
    """A fair coin a symbol, a third 0 is drawn again."""
    return {"1": 1.0} if x.endswith("00") else {"0": 0.5, "1": 0.5}


def runs(x: str, left: int) -> dict[str, float]:
    """A fair coin for the symbol and a uniform length; after an odd run of 1s a run of 0s is even, or else of 1s."""
    ones = len(x.rstrip("0")) - len(x.rstrip("0").rstrip("1"))
    even = [length for length in range(1, left + 1) if ones % 2 == 0 or length % 2 == 0]
    chances = {"1" * length: (0.5 if even else 1.0) / left for length in range(1, left + 1)}
    return chances | {"0" * length: 0.5 / len(even) for length in even}


def in_blocks(*parts: tuple) -> Callable[[str, int], dict[str, float]]:
    """Blocks of (symbols, least length, greatest), but for the last uniform in what is left, of independent symbols."""

    def chances(n: int) -> dict[str, float]:
        found = {("", 0): 1.0}
        for symbols, least, most in parts:
            step = defaultdict(float)
            for (x, place), chance in found.items():
                behind = sum(each[1] for each in parts[place + 1 :])
                spare = n - len(x) - behind
                lengths = [spare] if place == len(parts) - 1 else range(least, min(spare, most) + 1)
                for length in lengths:
                    for block in map("".join, product(symbols, repeat=length)):
                        step[x + block, place + 1] += chance / len(lengths) / len(symbols) ** length
            found = step
        return sum_by_string(found)

    return chances


def sum_by_string(found: dict[tuple[str, int], float]) -> dict[str, float]:
    total = defaultdict(float)
    for (x, _), chance in found.items():
        total[x] += chance
    return total


def by_pieces(piece: Callable[[str, int], dict[str, float]]) -> Callable[[int], dict[str, float]]:
    """The chance of every string of n symbols, if each piece is drawn by what stands before it and how much is left."""

    def chances(n: int) -> dict[str, float]:
        whole, open_strings = defaultdict(float), {"": 1.0}
        while open_strings:
            longer = defaultdict(float)
            for x, chance in open_strings.items():
                if len(x) == n:
                    whole[x] += chance
                    continue
                for added, share in piece(x, n - len(x)).items():
                    longer[x + added] += chance * share
            open_strings = longer
        return whole

    return chances


ANY = 99
AS_IN_THE_PAPER = {
    "tomita_3": by_pieces(runs),
    "tomita_4": by_pieces(coins),
    "tomita_7": in_blocks(("0", 0, ANY), ("1", 0, ANY), ("0", 0, ANY), ("1", 0, ANY)),
    "ordered_blocks": in_blocks(*((symbol, 1, ANY) for symbol in "abcde")),
    "ab_d_bc": in_blocks(("ab", 0, ANY), ("d", 1, 1), ("bc", 0, ANY)),
    "last_zero": in_blocks(("012", 0, ANY), ("0", 1, 1), ("2", 0, ANY)),
}


@pytest.mark.parametrize("name", AS_IN_THE_PAPER)
def test_the_paper_draws_each_string_with_its_exact_chance(name):
    n = 9 if name == "ordered_blocks" else 7 if name in ("tomita_3", "tomita_4", "tomita_7") else 5
    chances = AS_IN_THE_PAPER[name](n)
    assert sum(chances.values()) == pytest.approx(1)
    drawn = Counter(paper_strings(name, 20_000, n))
    assert set(drawn) <= set(chances)
    common = [x for x in chances if 20_000 * chances[x] >= 5]
    rare = 20_000 * (1 - sum(chances[x] for x in common))
    observed = [drawn[x] for x in common] + [20_000 - sum(drawn[x] for x in common)] * (rare >= 5)
    expected = np.array([20_000 * chances[x] for x in common] + [rare] * (rare >= 5))
    assert stats.chisquare(observed, expected * sum(observed) / expected.sum()).pvalue > LEAST_P


@pytest.mark.parametrize(("name", "first"), [("ab_d_bc", "d"), ("last_zero", "0")])
def test_long_blocks_are_uniform_in_length_and_in_symbols(name, first):
    task = lf.task(name)
    x = matrix(task, 4000, 60, 94)
    place = np.argmax(np.cumsum(x == task.alphabet.index(first), axis=1), axis=1)  # of the last d or 0
    assert_uniform(place, 60)
    inside = np.arange(60) < place[:, None]
    symbols = 2 if name == "ab_d_bc" else 3
    assert_uniform(x[inside], symbols)
    both = inside[:, 1:][:, ::2] & inside[:, :-1][:, ::2]
    assert_uniform((x[:, :-1][:, ::2] * symbols + x[:, 1:][:, ::2])[both], symbols**2)


@pytest.mark.parametrize("depth", [2, 3, 4, 12])
def test_nested_blocks_hold_three_quarters_of_what_is_left(depth):
    levels = np.cumsum(1 - 2 * matrix(lf.task(f"dyck_depth_{depth}"), 3000, 402, 91), axis=1)
    inside = (np.argmax(levels == 0, axis=1) - 1) / 402  # of the first block
    assert abs(inside.mean() - 0.75) < 0.01
    assert abs(inside.std() - 0.075) < 0.01
    assert levels.max() == depth


@pytest.mark.parametrize("name", ["dyck_1", "shuffle_dyck_2", "boolean_3", "boolean_5"])
def test_the_paper_draws_counting_languages_uniformly(name):
    task = lf.task(name)
    n = task.reachable(30, 40)[0]
    assert strings(task, task.sample(20, n, 94)) == strings(task, task.sample(20, n, 94, "uniform"))


def test_heights_of_brackets_are_those_of_a_walk_that_returns():
    """The mean height of 2m balanced brackets is the square root of pi m, less 3/2 (de Bruijn, Knuth and Rice 1972)."""
    heights = np.cumsum(1 - 2 * matrix(lf.task("dyck_1"), 2000, 800, 91), axis=1).max(axis=1)
    assert abs(heights.mean() - (np.sqrt(np.pi * 400) - 1.5)) < 1


# ---- hard ----


@pytest.mark.parametrize("name", NAMES)
def test_hard_strings_are_mostly_long_repetitions(name):
    """All but a few places repeat what stood one, two, three or four places before, in stretches much longer than those
    of uniform strings."""
    task = lf.task(name)
    n = task.reachable(200, 210)[0]
    for x in strings(task, task.sample(100, n, 95, "hard")):
        assert MEMBER[name](x)
        repeats = np.array([any(x[i] == x[i - k] for k in (1, 2, 3, 4)) for i in range(4, n)])
        assert repeats.mean() > 0.85


def test_hard_strings_differ_in_what_only_the_distant_past_tells():
    five = lf.task("tomita_5")
    runs_of = [five.acceptor.run(x) for x in matrix(five, 200, 200, 96, "hard")]
    assert {int(states[place]) for states in runs_of for place in (150, 151)} == {0, 1, 2, 3}
    deep = np.cumsum(1 - 2 * matrix(lf.task("dyck_depth_12"), 300, 200, 96, "hard"), axis=1)
    assert {*deep[:, 149].tolist(), *deep[:, 150].tolist()} == set(range(13))
    tails = matrix(lf.task("last_zero"), 300, 200, 96, "hard")[:, ::-1] != 2
    assert np.argmax(tails, axis=1).max() > 150
    heights = np.cumsum(1 - 2 * matrix(lf.task("dyck_1"), 300, 200, 96, "hard"), axis=1).max(axis=1)
    assert heights.max() > 80
    assert heights.min() == 1
