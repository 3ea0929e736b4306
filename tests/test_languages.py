"""The formal languages: exact labels, exact members, exact chances, and the distributions of the paper."""

import functools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise, product
from math import comb

import numpy as np
import pytest
from language_facts import COUNT, MEMBER, labels, members
from scipy import stats

import lengen_fast as lf
from lengen_fast.automata import Automaton
from lengen_fast.cli import main
from lengen_fast.counters import CounterMachine
from lengen_fast.tasks import LABELS
from lengen_fast.tasks.definitions import named_languages

NAMES = tuple(each.name for each in named_languages())
REGULAR = tuple(each.name for each in named_languages() if isinstance(each.acceptor, Automaton))
LEAST_P = 1e-4  # of one test at a fixed seed
# Of brute force: twelve symbols, but where those are too many strings; and how many more show all that may follow.
LONGEST = dict.fromkeys(NAMES, 12) | {"last_zero": 9, "shuffle_dyck_2": 8, "boolean_3": 6, "boolean_5": 4}
MORE = dict.fromkeys(NAMES, 2) | {"aa_star": 4, "aaaa_star": 4, "abab_star": 4, "a_n_b_n_c_n": 3, "a_n_b_n_c_n_d_n": 4}
MORE |= {"boolean_3": 3, "boolean_5": 5}


def strings(task: lf.Language, batch: lf.Batch) -> list[str]:
    """x of every row, its symbols side by side."""
    names, tokens, bounds = task.symbols, batch.tokens.tolist(), batch.cu_seqlens.tolist()
    return ["".join(names[i] for i in tokens[begin + 1 : end - 1]) for begin, end in pairwise(bounds)]


def label_names(task: lf.Language, batch: lf.Batch) -> list[list[str]]:
    """The names of the targets of every row."""
    bounds = np.searchsorted(batch.scored.numpy(), batch.cu_seqlens.numpy())
    names = [task.symbols[i] for i in batch.targets.tolist()]
    return [names[begin:end] for begin, end in pairwise(bounds)]


def matrix(task: lf.Language, count: int, n: int, seed: int, distribution: str = "paper") -> np.ndarray:
    """[count, n] symbols of strings of one length."""
    return task.sample(count, n, seed, distribution).tokens.numpy().reshape(count, n + 2)[:, 1:-1]


def label_of(symbols: str) -> str:
    return "{" + ",".join(symbols) + "}"


# ---- definitions ----


@pytest.mark.parametrize("name", REGULAR)
def test_expression_and_table_of_a_language_agree(name):
    language = lf.task(name)
    automaton = Automaton.from_regex(language.regex, language.alphabet)
    assert automaton.transitions.tolist() == language.acceptor.transitions.tolist()
    assert automaton.accepting.tolist() == language.acceptor.accepting.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_those_of_closed_forms(name):
    acceptor = lf.task(name).acceptor
    if name in COUNT:
        assert [acceptor.count(n) for n in range(25)] == [COUNT[name](n) for n in range(25)]
    for n in range(8):
        assert acceptor.count(n) == sum(1 for _ in members(name, acceptor.alphabet, n))


@pytest.mark.parametrize("name", NAMES)
def test_lengths_are_those_of_the_members(name):
    task = lf.task(name)
    with_members = [n for n in range(21) if task.acceptor.count(n)]
    assert list(task.reachable(0, 20)) == with_members
    assert task.min_length == with_members[0]
    for n in range(with_members[0], 16):
        if n not in with_members:
            with pytest.raises(ValueError, match="has no string; the nearest length") as error:
                task.sample(1, n)
            nearest = [max(m for m in with_members if m < n), min(m for m in with_members if m > n)]
            assert str(error.value).endswith(f"{nearest[0]} and {nearest[1]}")


# ---- every prefix of every string of some length ----


def with_prefixes(whole: list[set]) -> list[set]:
    """By length: some strings and all their prefixes."""
    prefixes = [set(each) for each in whole]
    for n in reversed(range(1, len(prefixes))):
        prefixes[n - 1] |= {x[:-1] for x in prefixes[n]}
    return prefixes


@pytest.mark.parametrize("name", NAMES)
def test_the_label_of_every_prefix_is_that_of_brute_force(name):
    """Every prefix of a member, of which longer members show everything that may follow."""
    task, longest = lf.task(name), LONGEST[name]
    alphabet = "".join(task.alphabet)
    whole = [set(members(name, alphabet, n)) for n in range(longest + MORE[name] + 1)]
    longer = with_prefixes(whole)
    number = {symbol: i for i, symbol in enumerate(alphabet)}
    expected = {}
    for n, prefixes in enumerate(with_prefixes(whole[: longest + 1])):
        for prefix in prefixes:
            following = [symbol for symbol in alphabet if prefix + symbol in longer[n + 1]]
            label = label_of(following + ["$"] * (prefix in whole[n]))
            situation = int(task.acceptor.run([number[symbol] for symbol in prefix])[-1])
            assert expected.setdefault(situation, label) == label
    classes = task.symbols[len(alphabet) :]
    assert {situation: classes[task.classes[situation]] for situation in expected} == expected
    assert task.acceptor.live[list(expected)].all()


@pytest.mark.parametrize("name", NAMES)
def test_exactly_the_members_are_accepted(name):
    task = lf.task(name)
    size = len(task.alphabet)
    for n in range(13):
        if size**n <= 5000:
            for symbols in product(range(size), repeat=n):
                x = "".join(task.alphabet[i] for i in symbols)
                assert task.acceptor.accepts(symbols) == MEMBER[name](x)


# ---- uniform ----


@pytest.mark.parametrize("name", NAMES)
def test_uniform_draws_every_member_equally_often(name):
    task = lf.task(name)
    for n in range(13):
        size = task.acceptor.count(n)
        if not 2 <= size <= 700:
            continue
        batch = task.sample(20 * size, n, 61, "uniform")
        drawn = Counter(strings(task, batch))
        every = set(members(name, "".join(task.alphabet), n))
        assert set(drawn) <= every
        assert stats.chisquare([drawn[x] for x in every]).pvalue > LEAST_P


@pytest.mark.parametrize("name", ["tomita_3", "tomita_4", "tomita_6", "dyck_1", "shuffle_dyck_2"])
def test_long_uniform_strings_begin_with_the_exact_chances(name):
    """The first three of 500 symbols, against exact counts of how they can be completed."""
    task, n, size = lf.task(name), 500, 3000
    drawn = Counter(map(tuple, matrix(task, size, n, 62, "uniform")[:, :3].tolist()))
    ways = {
        symbols: completions(task.acceptor, symbols, n - 3) for symbols in product(range(len(task.alphabet)), repeat=3)
    }
    expected = {symbols: size * (count / sum(ways.values())) for symbols, count in ways.items() if count}
    assert set(drawn) <= set(expected)
    common = [symbols for symbols, count in expected.items() if count >= 5]
    rest = [size - sum(each[symbols] for symbols in common) for each in (drawn, expected)]
    observed = [drawn[symbols] for symbols in common] + rest[:1]
    assert (
        rest[1] < 5 or stats.chisquare(observed, [expected[symbols] for symbols in common] + rest[1:]).pvalue > LEAST_P
    )
    if rest[1] < 5:
        total = sum(expected[symbols] for symbols in common)
        scaled = [expected[symbols] * sum(observed[:-1]) / total for symbols in common]
        assert stats.chisquare(observed[:-1], scaled).pvalue > LEAST_P


def completions(acceptor, symbols, n: int) -> int:
    """How many strings of n symbols complete some others to a member."""
    if isinstance(acceptor, Automaton):
        counts = [int(each) for each in acceptor.accepting]
        for _ in range(n):
            counts = [sum(counts[target] for target in row) for row in acceptor.transitions.tolist()]
        return counts[int(acceptor.run(symbols)[-1])]
    levels = dict.fromkeys(("()", "[]")[: len(acceptor.start)], 0)
    for symbol in symbols:
        pair = next(pair for pair in levels if acceptor.alphabet[symbol] in pair)
        levels[pair] += 1 if acceptor.alphabet[symbol] == pair[0] else -1
        if levels[pair] < 0:
            return 0
    return closings(tuple(levels.values()), n)


def closings(levels: tuple[int, ...], n: int) -> int:
    """Strings of n brackets that close what is open, by the ballot theorem; of two kinds, by how many are of each."""
    if len(levels) == 1:
        (level,) = levels
        if n < level or (n - level) % 2:
            return 0
        return comb(n, (n - level) // 2) * (level + 1) // ((n + level) // 2 + 1)
    return sum(comb(n, k) * closings(levels[:1], k) * closings(levels[1:], n - k) for k in range(n + 1))


# ---- long strings, read by streaming ----


@pytest.mark.parametrize("n", [0, 1, 2, 1000, 100_000])
@pytest.mark.parametrize("name", NAMES)
def test_strings_have_the_right_length_and_labels_as_read_by_streaming(name, n):
    task = lf.task(name)
    n = next(iter(task.reachable(max(n, task.min_length), n + 10)))
    for distribution in ("paper", "uniform", "hard") if n <= 1010 else ("uniform",):
        batch = task.sample(1, (n, n), 71, distribution)
        (x,), (found,) = strings(task, batch), label_names(task, batch)
        assert len(x) == n
        assert MEMBER[name](x)
        label = functools.cache(label_of)
        assert found == [label(symbols) for symbols in labels(name, x)]


# ---- three kinds of labels ----


@pytest.mark.parametrize("name", NAMES)
def test_the_kinds_of_labels_agree_with_one_another(name):
    kinds = {kind: lf.task(name, labels=kind) for kind in LABELS}
    for distribution in ("paper", "uniform", "hard"):
        length = (kinds["legal"].min_length, 60)
        drawn = {kind: each.sample(40, length, 5, distribution) for kind, each in kinds.items()}
        texts = [strings(kinds[kind], drawn[kind]) for kind in kinds]
        assert texts[0] == texts[1] == texts[2]
        for whole, legal, inside in zip(*(label_names(kinds[kind], drawn[kind]) for kind in kinds), strict=True):
            for one, other, membership in zip(whole, legal, inside, strict=True):
                assert membership == ("{in}" if "$" in one else "{out}")
                assert other == one.replace(",$", "").replace("$", "")


@pytest.mark.parametrize("name", NAMES)
def test_every_class_occurs_and_is_the_same_in_every_batch(name):
    task = lf.task(name)
    names = set()
    for seed in range(3):
        for distribution in task.distributions:
            batch = task.sample(50, (task.min_length, 60), seed, distribution)
            names |= {each for row in label_names(task, batch) for each in row}
    assert names == set(task.symbols[len(task.alphabet) :])


# ---- strings outside the language ----

UNARY = ("aa_star", "aaaa_star")  # all strings of the lengths of their members are members


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNARY])
def test_corrupted_strings_are_one_symbol_away_from_a_member(name):
    task = lf.task(name, labels="membership")
    n = next(iter(task.reachable(20, 30)))
    edited, originals, places = task.sample_corrupted(60, n, 81)
    for one, other, place in zip(strings(task, edited), strings(task, originals), places.tolist(), strict=True):
        assert MEMBER[name](other)
        assert not MEMBER[name](one)
        assert [i for i in range(n) if one[i] != other[i]] == [place]
    for row in label_names(task, edited):
        assert row[-1] == "{out}"
    assert len(set(places.tolist())) > 1


@pytest.mark.parametrize("name", ["tomita_4", "tomita_7", "dyck_depth_2", "last_zero", "a_n_b_n_c_n"])
def test_every_replacement_that_leaves_the_language_is_equally_likely(name):
    task = lf.task(name, labels="membership")
    n = next(iter(task.reachable(6, 8)))
    edited, originals, _ = task.sample_corrupted(6000, n, 82)
    drawn = Counter(zip(strings(task, originals), strings(task, edited), strict=True))
    by_member = Counter(strings(task, originals))
    statistic, freedom = 0.0, 0
    for member, size in by_member.items():
        breaking = [
            member[:i] + symbol + member[i + 1 :]
            for i in range(n)
            for symbol in task.alphabet
            if symbol != member[i] and not MEMBER[name](member[:i] + symbol + member[i + 1 :])
        ]
        if size >= 5 * len(breaking):
            statistic += stats.chisquare([drawn[member, x] for x in breaking]).statistic
            freedom += len(breaking) - 1
    assert freedom > 0
    assert stats.chi2.sf(statistic, freedom) > LEAST_P


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNARY])
def test_negative_strings_are_all_others_equally_often(name):
    task = lf.task(name, labels="membership")
    alphabet = "".join(task.alphabet)
    most = 8 if len(alphabet) <= 2 else 4 if len(alphabet) <= 4 else 3
    n = max([n for n in range(1, most + 1) if task.reachable(n, n)], default=task.min_length)
    others = [x for x in map("".join, product(alphabet, repeat=n)) if not MEMBER[name](x)]
    if not 2 <= len(others) <= 1000:
        n, others = task.min_length, []
    batch = task.sample(4000, n, 83, "negative") if n else None
    if batch is None:
        return
    drawn = Counter(strings(task, batch))
    assert not any(map(MEMBER[name], drawn))
    if others:
        assert stats.chisquare([drawn[x] for x in others]).pvalue > LEAST_P


def test_a_language_with_every_string_of_a_length_has_no_others():
    with pytest.raises(ValueError, match="every string over a of the lengths that members have, 2 to 8, is in"):
        lf.task("aa_star", labels="membership").sample(1, (2, 8), distribution="corrupted")
    with pytest.raises(ValueError, match="it must be 'paper' or 'uniform' or 'hard' for aa_star; negative goes with "):
        lf.task("aa_star").sample(1, 2, distribution="negative")
    with pytest.raises(ValueError, match=r"--labels membership on the command line$"):
        lf.task("dyck_1").sample_corrupted(1, 2)


def test_negative_strings_over_one_letter_have_the_lengths_that_members_have_not():
    task = lf.task("aaaa_star", labels="membership")
    batch = task.sample(300, (0, 9), 84, "negative")
    assert {len(x) for x in strings(task, batch)} == {1, 2, 3, 5, 6, 7, 9}
    with pytest.raises(ValueError, match="every string over a of the lengths"):
        task.sample(1, 4, distribution="negative")


def test_generate_shows_which_symbol_was_replaced(capsys):
    command = ["generate", "tomita_2", "--labels", "membership", "--distribution", "corrupted", "--length", "2:12"]
    task = lf.task("tomita_2", labels="membership")
    _, members, places = task.sample_corrupted(10, (2, 12))
    assert main([*command, "--format", "json"]) == 0
    for line, member, place in zip(capsys.readouterr().out.splitlines(), strings(task, members), places, strict=True):
        shown = json.loads(line)
        x = shown["tokens"][1:-1]
        assert [i for i, (one, other) in enumerate(zip(x, member, strict=True)) if one != other] == [shown["edited"]]
        assert shown["edited"] == place
    assert main(command) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if line.startswith("string")]
    assert [title.split(", ")[-1] for title in titles] == [f"symbol {place + 1} replaced" for place in places]


def test_the_description_of_a_language_names_the_distributions_of_membership(capsys):
    assert main(["tasks", "tomita_2"]) == 0
    assert "with --labels membership also negative and corrupted" in capsys.readouterr().out


@pytest.mark.parametrize("symbol", ["<bos>", "<sep>", "<eos>", "$", "a,b", ",", "a b", "", "\u200b", "a\t"])
def test_symbols_that_labels_cannot_name_are_refused(symbol):
    content = {"alphabet": ["a", symbol], "accepting": [0], "transitions": [[0, 0]]}
    with pytest.raises(ValueError, match=re.escape(f"alphabet has {symbol!r}; a symbol must be ")):
        lf.language(dfa=content)


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


# ---- as a task ----


@pytest.mark.parametrize("name", NAMES)
def test_the_tokens_are_alphabet_classes_and_specials(name):
    task = lf.task(name)
    classes = task.symbols[len(task.alphabet) :]
    assert all(re.fullmatch(r"\{.*\}", each) for each in classes)
    assert task.decode([task.bos, task.sep, task.eos]) == ["<bos>", "<sep>", "<eos>"]
    batch = task.sample(30, (task.min_length, 30), 97)
    assert set(batch.tokens.tolist()) <= {*range(len(task.alphabet)), task.bos, task.eos}
    assert set(batch.targets.tolist()) <= set(range(len(task.alphabet), len(task.symbols)))
    for i in range(batch.rows):
        row = batch.row(i)
        assert (int(row[0]), int(row[-1])) == (task.bos, task.eos)
    assert task.chance == (1.0 if len(classes) == 1 else 0.0)
    assert task.tokens_at(10) == task.context_for(10) == 12


def test_labels_of_tasks_that_are_no_language_are_refused():
    with pytest.raises(ValueError, match="parity is no formal language"):
        lf.task("parity", labels="legal")
    with pytest.raises(ValueError, match="labels is 'illegal'; it must be one of 'legal\\+end', 'legal', 'membership'"):
        lf.task("tomita_4", labels="illegal")


@pytest.mark.parametrize(
    ("text", "message"),
    [("0 1 <eos>", "start with BOS"), ("<bos> 0 {0,1,$} <eos>", r"only ids 0\.\.1 before EOS")],
)
def test_the_oracle_refuses_what_is_no_string(text, message):
    task = lf.task("tomita_4")
    with pytest.raises(ValueError, match=message):
        task.oracle(task.encode(text))


def test_the_oracle_labels_dead_strings_as_not_in_the_language():
    task = lf.task("tomita_4", labels="membership")
    scored, targets = task.oracle(task.encode("<bos> 1 0 0 0 1"))
    assert scored.tolist() == list(range(6))
    assert task.decode(targets) == ["{in}"] * 4 + ["{out}"] * 2


def test_counting_languages_say_what_they_count():
    machines = [each.acceptor for each in named_languages() if isinstance(each.acceptor, CounterMachine)]
    assert [machine.counters for machine in machines] == [1, 2, 1, 2, 3, 1, 1]
