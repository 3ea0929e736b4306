"""Every program of the standard library against the oracle of its task, and the bridge between the two."""

import itertools
import re
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

import lengen_fast as lf
from lengen_fast.automata import Automaton
from lengen_fast.data import Batch
from lengen_fast.tasks import DISTRIBUTIONS
from lengen_fast.theory.crasp import bridge, parse, standard
from lengen_fast.theory.crasp.syntax import BOS, END

REGULAR = {
    "tomita_1": ("1*", "01"),
    "tomita_2": ("(10)*", "01"),
    "tomita_4": ("(1|01|001)*(0|00)?", "01"),
    "tomita_7": ("0*1*0*1*", "01"),
    "dyck_depth_2": ("(a(ab)*b)*", "ab"),
    "dyck_depth_3": ("(a(a(ab)*b)*b)*", "ab"),
    "dyck_depth_4": ("(a(a(a(ab)*b)*b)*b)*", "ab"),
    "ordered_blocks": ("aa*bb*cc*dd*ee*", "abcde"),
    "ab_d_bc": ("(a|b)*d(b|c)*", "abcd"),
    "aa_star": ("(aa)*", "a"),
    "aaaa_star": ("(aaaa)*", "a"),
    "abab_star": ("(abab)*", "ab"),
}
SOLVED = [name for name in lf.tasks() if name in standard.names()]


# ---- languages: the legal next symbols after every prefix ----


def _dyck(pairs):
    def legal(prefix):
        depth = dict.fromkeys(pairs, 0)
        for symbol in prefix:
            for left, right in pairs.items():
                depth[left] += (symbol == left) - (symbol == right)
            if min(depth.values()) < 0:
                return None
        closing = {right for left, right in pairs.items() if depth[left]}
        return {*pairs, *closing, *([END] if not closing else [])}

    return legal


def _blocks(letters):
    def legal(prefix):
        """What may follow in a^n b^n ...: n is known as soon as a b is there."""
        matched = re.fullmatch("".join(f"({letter}*)" for letter in letters), "".join(prefix))
        if not matched:
            return None
        counts = [len(group) for group in matched.groups()]
        n, last = counts[0], max([i for i, count in enumerate(counts) if count], default=-1)
        if any(count > n for count in counts) or any(counts[i] != n for i in range(1, max(last, 0))):
            return None
        if last <= 0:
            return {letters[0], *([letters[1]] if n else [])}
        if counts[last] < n:
            return {letters[last]}
        return {letters[last + 1]} if last + 1 < len(letters) else {END}

    return legal


def _polish(arities):
    def legal(prefix):
        need = 1
        for symbol in prefix:
            if need == 0:
                return None
            need += arities[symbol] - 1
        return set(arities) if need else {END}

    return legal


COUNTER = {
    "boolean_3": (_polish({"0": 0, "1": 0, "~": 1, "+": 2, ">": 3}), 6),
    "boolean_5": (_polish({"0": 0, "1": 0, "~": 1, "+": 2, ">": 3, "*": 4, "^": 5}), 5),
    "dyck_1": (_dyck({"(": ")"}), 10),
    "shuffle_dyck_2": (_dyck({"(": ")", "[": "]"}), 6),
    "a_n_b_n": (_blocks("ab"), 10),
    "a_n_b_n_c_n": (_blocks("abc"), 8),
    "a_n_b_n_c_n_d_n": (_blocks("abcd"), 6),
}


def _all_words(symbols, longest):
    for n in range(longest + 1):
        yield np.array(list(itertools.product(range(symbols), repeat=n)), dtype=np.int64).reshape(symbols**n, n)


def _with_bos(program, words):
    return np.concatenate([np.full((len(words), 1), program.token(BOS)), words], axis=1)


def _states(automaton, words):
    """[B, T + 1] states of an automaton."""
    states = np.zeros((len(words), words.shape[1] + 1), np.int64)
    for i in range(words.shape[1]):
        states[:, i + 1] = automaton.transitions[states[:, i], words[:, i]]
    return states


def _longest(symbols):
    """All strings up to length 10, or as many lengths as have about 100,000 of them."""
    return next(n for n in range(10, 0, -1) if symbols**n <= 100_000)


@pytest.mark.parametrize("name", REGULAR)
def test_a_regular_language_on_all_short_strings(name):
    automaton, program = Automaton.from_regex(*REGULAR[name]), standard.program(name)
    assert program.alphabet == automaton.alphabet
    generator = np.random.default_rng(0)
    for words in _all_words(len(program.alphabet), _longest(len(program.alphabet))):
        legal = program.legal(_with_bos(program, words), generator.integers(0, 1000, len(words)))
        states = _states(automaton, words)
        live = automaton.live[states]  # (aa)* and the like say nothing of what cannot become a member
        assert (legal == automaton.legal[states])[live].all()
        if not name.endswith("_star"):
            assert not legal[~live].any()


def _member(automaton, length, generator, stay):
    """A long walk through states from which the language can still be reached, prone to repeat its last symbol."""
    word, state = [], 0
    while len(word) < length:
        choices = np.flatnonzero(automaton.live[automaton.transitions[state]])
        symbol = word[-1] if word and word[-1] in choices and generator.random() < stay else generator.choice(choices)
        word.append(int(symbol))
        state = automaton.transitions[state, symbol]
    return word


@pytest.mark.parametrize("name", REGULAR)
@pytest.mark.parametrize("stay", [0.0, 0.99])
def test_a_regular_language_on_long_strings(name, stay):
    automaton, program = Automaton.from_regex(*REGULAR[name]), standard.program(name)
    generator = np.random.default_rng(1)
    for _ in range(3):
        word = np.array(_member(automaton, 3000, generator, stay))
        legal = program.legal(_with_bos(program, word[None]), generator.integers(0, 10**6, 1))
        assert (legal == automaton.legal[_states(automaton, word[None])]).all()


def test_bounded_brackets_twelve_deep():
    program = standard.program("dyck_depth_12")
    generator = np.random.default_rng(0)
    steps = generator.choice([1, -1], (4000, 80), p=[0.6, 0.4])
    depth = np.concatenate([np.zeros((4000, 1), int), steps.cumsum(1)], axis=1)
    good = np.minimum.accumulate((depth >= 0) & (depth <= 12), axis=1)
    legal = program.legal(_with_bos(program, (1 - steps) // 2))
    expected = np.stack([depth < 12, depth > 0, depth == 0], axis=-1) & good[..., None]
    assert (legal == expected).all()
    assert (depth[good] == 12).any()


@pytest.mark.parametrize("name", COUNTER)
def test_a_counter_language_on_all_short_strings(name):
    legal_after, longest = COUNTER[name]
    program = standard.program(name)
    for words in _all_words(len(program.alphabet), longest):
        legal = program.legal(_with_bos(program, words))[:, -1]
        for word, row in zip(words, legal, strict=True):
            expected = legal_after([program.alphabet[i] for i in word]) or set()
            assert {s for s, is_legal in zip(program.next_symbols, row, strict=True) if is_legal} == expected


@pytest.mark.parametrize("n", [1, 2, 50, 3000])
@pytest.mark.parametrize("letters", ["ab", "abc", "abcd"])
def test_long_equal_blocks(letters, n):
    program = standard.program("_n_".join(letters) + "_n")
    word = np.repeat(np.arange(len(letters)), n)
    legal = program.legal(_with_bos(program, word[None]))[0]
    last = np.concatenate([[0], word])
    expected = np.zeros_like(legal)
    expected[np.arange(len(last)), last] = True
    expected[np.arange(len(last)) == n, 1] = True
    expected[1 : n + 1, 1] = True
    for block in range(1, len(letters)):
        expected[(block + 1) * n] = False
        expected[(block + 1) * n, block + 1] = True
    assert (legal == expected).all()


# ---- tasks with an answer ----


@pytest.mark.parametrize("name", SOLVED)
def test_targets_of_every_distribution_at_random_offsets(name):
    task = lf.task(name)
    task = lf.task(name, symbols=24) if task.alphabet_grows else task
    for distribution in getattr(task, "distributions", DISTRIBUTIONS):
        batch = task.sample(200, (task.min_length, 24), 3, distribution, context=1000)
        assert bridge.correct_positions(bridge.program_for(task), task, batch).all()


@pytest.mark.parametrize("name", ["binary_majority", "binary_majority_interleave", "majority"])
def test_counting_at_a_hundred_thousand(name):
    task = lf.task(name)
    batch = task.sample(2, (99_999, 99_999) if name.endswith("interleave") else 100_000, 0, "hard")
    assert bridge.correct_positions(bridge.program_for(task), task, batch).all()


def _question(task, x):
    return np.array([task.bos, *x, task.sep], dtype=np.int64)


def _all_questions(task, longest):
    """Every string of the task up to a length, with its answer."""
    symbols = task.vocab_size - 3
    for n in range(task.min_length, longest + 1):
        for x in itertools.product(range(symbols), repeat=n):
            try:
                _, targets = task.oracle(_question(task, x))
            except ValueError:
                continue
            yield np.concatenate([_question(task, x), targets]), targets


@pytest.mark.parametrize(
    ("name", "symbols", "longest"),
    [
        ("binary_majority", None, 10),
        ("binary_majority_interleave", None, 9),
        ("unique_copy", 5, 5),
        ("sort", 5, 5),
        ("offset_copy_2", 4, 5),
        ("offset_copy_3", 4, 5),
    ],
)
def test_every_short_question(name, symbols, longest):
    task = lf.task(name, symbols=symbols) if symbols else lf.task(name)
    strings = list(_all_questions(task, longest))
    batch = _batch([tokens for tokens, _ in strings], [targets for _, targets in strings])
    assert len(strings) > 20
    assert bridge.correct_positions(bridge.program_for(task), task, batch).all()


def _batch(strings, targets):
    """Strings whose last rows but one are scored."""
    bounds = np.concatenate([[0], np.cumsum([len(string) for string in strings])])
    scored = [np.arange(end - 1 - len(target), end - 1) for end, target in zip(bounds[1:], targets, strict=True)]
    return Batch(
        tokens=torch.from_numpy(np.concatenate(strings)),
        cu_seqlens=torch.from_numpy(bounds.astype(np.int32)),
        offsets=torch.zeros(len(strings), dtype=torch.int64),
        scored=torch.from_numpy(np.concatenate(scored)),
        targets=torch.from_numpy(np.concatenate(targets)),
        longest=max(map(len, strings)),
    )


# ---- the bridge ----


@dataclass(frozen=True)
class Words:
    """A language as a task, as far as the bridge looks at it."""

    labels: str = "legal+end"
    name: str = "(ab)*"
    symbols: tuple = ("a", "b", "{a,$}", "{b}", "{a}", "{in}", "{out}")
    eos: int = field(default=9)
    vocab_size: int = field(default=10)


PAIRS = """
alphabet a b
OPEN := #Q_a - #Q_b
NEXT_a := OPEN = 0
NEXT_b := OPEN = 1
NEXT_<end> := OPEN = 0
"""


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("legal+end", ["{a,$}", "{b}", "{a,$}", "{b}"]),
        ("legal", ["{a}", "{b}", "{a}", "{b}"]),
        ("membership", ["{in}", "{out}", "{in}", "{out}"]),
    ],
)
def test_the_class_of_a_legal_set(labels, expected):
    task = Words(labels)
    tokens = torch.tensor([7, 0, 1, 0, 1, 9])
    batch = Batch(
        tokens=tokens,
        cu_seqlens=torch.tensor([0, 6]),
        offsets=torch.zeros(1, dtype=torch.int64),
        scored=torch.arange(4),
        targets=torch.zeros(4, dtype=torch.int64),
        longest=6,
    )
    found = bridge.predicted_targets(parse(PAIRS), task, batch)
    assert [task.symbols[i] for i in found] == expected


def test_no_or_several_answers_are_undecided():
    task = lf.task("binary_majority")
    batch = task.sample(5, 5)
    for body in ("NEXT_0 := false", "NEXT_0 := true\nNEXT_1 := true"):
        predicted = bridge.predicted_targets(parse(f"alphabet 0 1\n{body}"), task, batch)
        assert (predicted == bridge.UNDECIDED).all()


@pytest.mark.parametrize("alphabet", ["0", "0 1 2"])
def test_another_alphabet_is_refused(alphabet):
    task = lf.task("binary_majority")
    with pytest.raises(ValueError, match=r"has not the alphabet of task binary_majority: symbol '[12]' is not in"):
        bridge.predicted_targets(parse(f"alphabet {alphabet}\nNEXT_0 := true"), task, task.sample(1, 5))


def test_a_task_without_a_program_has_none():
    assert bridge.program_for(lf.task("parity")) is None
    with pytest.raises(ValueError, match="no program for 'paritty'"):
        standard.source("paritty")
    with pytest.raises(ValueError, match="did you mean 'dyck_1'"):
        standard.source("dyck_l")


def test_the_library_uses_what_theory_says():
    """The fragment of every program is one in which the paper predicts the task to generalize."""
    for name in standard.names():
        program = standard.program(name, "abcd" if "alphabet *" in standard.source(name) else None)
        assert not program.properties.unused
        if lf.published(name, "ape").predicted is not None:
            assert lf.published(name, "ape").predicted
            assert (program.fragment == "[]") == lf.published(name, "nope").predicted
