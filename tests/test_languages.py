"""The formal languages: exact labels, exact members, exact chances, and the distributions of the paper."""

import functools
import json
import re
from collections import Counter
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


@pytest.mark.parametrize("name", ["tomita_3", "tomita_4", "tomita_6", "dyck_depth_12", "dyck_1", "shuffle_dyck_2"])
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


def of_membership(name: str) -> lf.Language:
    """A language by its name or its expression."""
    return lf.task(name, labels="membership") if name in NAMES else lf.language(name, labels="membership")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNARY])
def test_corrupted_strings_are_one_symbol_away_from_a_member(name):
    task = of_membership(name)
    n = next(iter(task.reachable(20, 30)))
    edited, originals, places = task.sample_corrupted(60, n, 81)
    for one, other, place in zip(strings(task, edited), strings(task, originals), places.tolist(), strict=True):
        assert MEMBER[name](other)
        assert not MEMBER[name](one)
        assert [i for i in range(n) if one[i] != other[i]] == [place]
    for row in label_names(task, edited):
        assert row[-1] == "{out}"
    assert len(set(places.tolist())) > 1


def replaced(task: lf.Language, n: int) -> list[tuple[str, str]]:
    """Every member of a length with every string that is none and differs from it in one symbol."""
    texts = {
        x: MEMBER[task.name](x) if task.name in MEMBER else bool(re.fullmatch(task.regex, x))
        for x in map("".join, product(task.alphabet, repeat=n))
    }
    return [
        (x, other)
        for x, is_member in texts.items()
        if is_member
        for i in range(n)
        for symbol in task.alphabet
        if not texts[other := x[:i] + symbol + x[i + 1 :]]
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("tomita_3", "tomita_4", "tomita_7", "dyck_depth_2", "ordered_blocks", "ab_d_bc", "last_zero", "abab_star"),
        *("dyck_1", "shuffle_dyck_2", "a_n_b_n_c_n", "boolean_3"),
        *("(a|b)*a(a|b)*", "(a|b)*a(a|b)(a|b)", "a(b|c)?|cb", "(a|b|c|d|e|f|g|h|i|j)*j"),
    ],
)
def test_every_replacement_that_leaves_the_language_is_equally_likely(name):
    """Every triple of a member, a place and a symbol."""
    task = of_membership(name)
    most = {2: 9, 3: 6, 4: 5, 5: 5}.get(len(task.alphabet), 3)
    for n in range(task.min_length, min(most, task.max_length) + 1):
        expected = replaced(task, n) if task.reachable(n, n) else []
        if not expected:
            with pytest.raises(ValueError, match="; the nearest length"):
                task.sample_corrupted(1, n)
            continue
        edited, originals, _ = task.sample_corrupted(20 * len(expected), n, 82)
        drawn = Counter(zip(strings(task, originals), strings(task, edited), strict=True))
        assert set(drawn) <= set(expected)
        assert len(expected) == 1 or stats.chisquare([drawn[pair] for pair in expected]).pvalue > LEAST_P


def test_corrupted_strings_are_found_where_few_members_have_one():
    """Of the 2**n - 1 members with an a those n with a single one have one way out, to the one string without."""
    task = of_membership("(a|b)*a(a|b)*")
    for n in (12, 1000):
        edited, originals, places = task.sample_corrupted(4000, n, 85)
        assert set(strings(task, edited)) == {"b" * n}
        assert all(
            x.count("a") == 1 and x[place] == "a" for x, place in zip(strings(task, originals), places, strict=True)
        )
        assert stats.chisquare(np.histogram(places, min(n, 20), (0, n))[0]).pvalue > LEAST_P


@pytest.mark.parametrize("name", ["tomita_3", "dyck_depth_12", "last_zero", "(a|b)*a(a|b)*"])
def test_long_corrupted_strings_are_one_symbol_away_from_a_member(name):
    task = of_membership(name)
    n = task.reachable(100_000, 100_010)[0]
    edited, originals, places = task.sample_corrupted(3, n, 86)
    for one, other, place in zip(strings(task, edited), strings(task, originals), places.tolist(), strict=True):
        assert not task.acceptor.accepts([task.alphabet.index(symbol) for symbol in one])
        assert task.acceptor.accepts([task.alphabet.index(symbol) for symbol in other])
        assert one[:place] == other[:place]
        assert one[place] != other[place]
        assert one[place + 1 :] == other[place + 1 :]


@pytest.mark.parametrize("name", ["tomita_3", "tomita_4", "dyck_depth_3", "last_zero"])
def test_the_places_of_long_corrupted_strings_have_the_exact_chances(name):
    """Twelve stretches of 300 places, against counts of the ways to each place and of the pairs of ways behind it."""
    task, n, size = of_membership(name), 300, 3000
    states, table = range(task.acceptor.states), task.acceptor.transitions.tolist()
    accepts = task.acceptor.accepting.tolist()
    ways, pairs = [[1, *(0 for _ in states[1:])]], [[[int(a and not b) for b in accepts] for a in accepts]]
    for _ in range(n):
        ways.append([sum(ways[-1][before] * table[before].count(state) for before in states) for state in states])
        last = pairs[-1]
        both = [[zip(table[p], table[q], strict=True) for q in states] for p in states]
        pairs.append([[sum(last[a][b] for a, b in each) for each in row] for row in both])
    expected = [
        sum(ways[i][q] * pairs[n - 1 - i][a][b] for q in states for a in table[q] for b in table[q]) for i in range(n)
    ]
    _, _, places = task.sample_corrupted(size, n, 89)
    shares = [sum(expected[i : i + 25]) / sum(expected) for i in range(0, n, 25)]
    assert stats.chisquare(np.histogram(places, 12, (0, n))[0], np.array(shares) * size).pvalue > LEAST_P


@pytest.mark.parametrize(
    ("name", "lengths"),
    [("aa_star", {1: 1, 3: 1, 5: 1, 7: 1}), ("aaaa_star", {1: 1, 3: -1, 5: 1, 7: -1}), ("(a|b)(a|b)", {1: -1, 3: 1})],
)
def test_where_replacing_changes_nothing_a_symbol_is_added_or_removed(name, lengths):
    """By length: whether the members are shorter by one, or else longer."""
    task = of_membership(name)
    every = range(7 if len(task.alphabet) > 1 else 8)
    assert lengths == {n: lengths.get(n) for n in every if task._reachable_outside(n, n, "corrupted")}
    edited, originals, places = task.sample_corrupted(300, (0, every[-1]), 87)
    assert {len(x) for x in strings(task, edited)} == set(lengths)
    for one, other, place in zip(strings(task, edited), strings(task, originals), places.tolist(), strict=True):
        assert len(one) - len(other) == lengths[len(one)]
        assert max(one, other, key=len)[:-1] == min(one, other, key=len)
        assert place == min(len(one), len(other))
        assert re.fullmatch(task.regex, other)
        assert not re.fullmatch(task.regex, one)
    for batch in (edited, originals):
        assert batch.targets.tolist() == [
            target for i in range(batch.rows) for target in task.oracle(batch.row(i))[1].tolist()
        ]


def test_strings_just_outside_a_set_of_lengths_are_equally_likely():
    task = of_membership("((a|b)(a|b)(a|b))*")
    drawn = Counter(strings(task, task.sample(1600, 4, 88, "corrupted")))
    assert stats.chisquare([drawn["".join(x)] for x in product("ab", repeat=4)]).pvalue > LEAST_P


@pytest.mark.parametrize(
    ("name", "length", "message"),
    [
        ("(ab)*", 0, "no string of (ab)* leaves it by one replaced symbol; the nearest length with one: 2"),
        ("a(b|c)?|cb|ddd|dda|ddb|ddc", (4, 9), "length ends at 9; the longest string of"),
        ("aa_star", (4, 4), "no string outside aa_star is one symbol longer or shorter than one in it; "
                            "the nearest lengths with one: 3 and 5"),
        ("a*", 5, "no string outside a* is one symbol longer or shorter than one in it; no length has one"),
        ("aaaa_star", -1, "length is -1; it must be in 0..1048576"),
    ],
)  # fmt: skip
def test_a_length_without_corrupted_strings_is_an_error_that_names_the_nearest(name, length, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        of_membership(name).sample(1, length, distribution="corrupted")


def test_corrupted_strings_that_take_too_much_memory_are_refused():
    task = of_membership("(abcdefghijklmnopqrstuvwxyz)*")
    assert task.sample(2, 52, 1, "corrupted").rows == 2
    with pytest.raises(ValueError, match=r"pairs of paths of 1048554 symbols in .* takes over 4 GiB; ask for shorter"):
        task.sample(1, (52, 2**20), distribution="corrupted")


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
    with pytest.raises(ValueError, match=r"every string over a is in aa_star; the nearest lengths with one: 3 and 5"):
        of_membership("aa_star").sample(1, 4, distribution="negative")
    with pytest.raises(ValueError, match=r"every string over a is in a\*; no length has one"):
        of_membership("a*").sample(1, (0, 9), distribution="negative")
    with pytest.raises(ValueError, match="it must be 'paper' or 'uniform' or 'hard' for aa_star; negative goes with "):
        lf.task("aa_star").sample(1, 2, distribution="negative")
    with pytest.raises(ValueError, match=r"--labels membership on the command line$"):
        lf.task("dyck_1").sample_corrupted(1, 2)


def test_negative_strings_over_one_letter_have_the_lengths_that_members_have_not():
    task = of_membership("aaaa_star")
    assert {len(x) for x in strings(task, task.sample(300, (0, 9), 84, "negative"))} == {1, 2, 3, 5, 6, 7, 9}
    assert strings(task, task.sample(1, 6, 84, "negative")) == ["a" * 6]


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


def test_generate_shows_which_symbol_was_added_or_removed(capsys):
    command = ["generate", "--regex", "aaa", "--labels", "membership", "--distribution", "corrupted", "--count", "1"]
    for length, kind, place in (("2", "removed", 2), ("4", "added", 3)):
        assert main([*command, "--length", length]) == 0
        assert f"symbol {place + 1} {kind}" in capsys.readouterr().out
        assert main([*command, "--length", length, "--format", "json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert (shown["edited"], shown["edit"]) == (place, kind)


def test_the_description_of_a_language_names_the_distributions_of_membership(capsys):
    assert main(["tasks", "tomita_2"]) == 0
    assert "with --labels membership also negative and corrupted" in capsys.readouterr().out


@pytest.mark.parametrize("symbol", ["<bos>", "<sep>", "<eos>", "$", "a,b", ",", "a b", "", "\u200b", "a\t"])
def test_symbols_that_labels_cannot_name_are_refused(symbol):
    content = {"alphabet": ["a", symbol], "accepting": [0], "transitions": [[0, 0]]}
    with pytest.raises(ValueError, match=re.escape(f"alphabet has {symbol!r}; a symbol must be ")):
        lf.language(dfa=content)


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(TypeError, match="name is 5; it must be a string"):
        lf.language("a", name=5)


def test_the_longest_string_is_that_of_the_language_or_the_longest_drawn():
    for regex, message in (
        ("(ab)*", "the longest string has length 1048576"),
        ("ab", "the longest string of ab has length 2"),
    ):
        with pytest.raises(ValueError, match=rf"length ends at 9999999; {message}$"):
            lf.language(regex).sample(1, 9999999)


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
