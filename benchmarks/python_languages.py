"""The formal languages in plain Python: strings, and the label of every prefix by a table or a count."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate

from benchmarks.python_tasks import Row
from lengen_fast.automata import Automaton
from lengen_fast.tasks import Language

Draw = Callable[[random.Random, int], list[int]]
Step = tuple[list[float], list[tuple[int, int]]]

# ---- strings ----


def repeat(rng: random.Random, n: int, *, word: list[int]) -> list[int]:
    return word * (n // len(word))


def tomita_3(rng: random.Random, n: int) -> list[int]:
    x, ones = [], 0
    while len(x) < n:
        left, symbol = n - len(x), rng.getrandbits(1)
        if symbol == 0 and ones % 2 and left == 1:
            symbol = 1
        length = 2 * rng.randint(1, left // 2) if symbol == 0 and ones % 2 else rng.randint(1, left)
        ones = (ones if x and x[-1] == 1 else 0) + length if symbol else ones
        x += [symbol] * length
    return x


def tomita_4(rng: random.Random, n: int) -> list[int]:
    x: list[int] = []
    while len(x) < n:
        symbol = rng.getrandbits(1)
        if symbol or x[-2:] != [0, 0]:
            x.append(symbol)
    return x


def blocks(rng: random.Random, n: int, *, parts: list[tuple[list[int], int, int]]) -> list[int]:
    x, spare = [], n - sum(least for _, least, _ in parts)
    for i, (symbols, least, most) in enumerate(parts):
        extra = spare if i == len(parts) - 1 else rng.randint(0, min(spare, most - least))
        spare -= extra
        x += symbols * (least + extra) if len(symbols) == 1 else rng.choices(symbols, k=least + extra)
    return x


def nested(rng: random.Random, n: int, *, depth: int) -> list[int]:
    if depth == 1:
        return [0, 1] * (n // 2)
    x, pairs = [], n // 2
    while pairs:
        inside = min(max(round(rng.gauss(0.75, 0.075) * pairs), 0), pairs - 1)
        x += [0, *nested(rng, 2 * inside, depth=depth - 1), 1]
        pairs -= inside + 1
    return x


def balanced(rng: random.Random, n: int) -> list[int]:
    """By the cycle lemma: the rotation of a shuffled string that never falls below its start."""
    steps = [1] * (n // 2) + [-1] * (n // 2 + 1)
    rng.shuffle(steps)
    level = lowest = start = 0
    for i, step in enumerate(steps):
        level += step
        if level < lowest:
            lowest, start = level, i + 1
    return [int(step < 0) for step in (steps[start:] + steps[:start])[:-1]]


def shuffled(rng: random.Random, n: int) -> list[int]:
    pairs = n // 2
    first_pairs = sum(i < pairs for i in rng.sample(range(n + 2), pairs + 1))
    first, second = iter(balanced(rng, 2 * first_pairs)), iter(balanced(rng, 2 * (pairs - first_pairs)))
    kinds = [0] * (2 * first_pairs) + [1] * (n - 2 * first_pairs)
    rng.shuffle(kinds)
    return [next(second) + 2 if kind else next(first) for kind in kinds]


def equal_blocks(rng: random.Random, n: int, *, symbols: int) -> list[int]:
    return [symbol for symbol in range(symbols) for _ in range(n // symbols)]


def trees(rng: random.Random, n: int, *, arities: list[int], tilt: float) -> list[int]:
    """Independent symbols, an arity's chance in proportion to tilt^arity, until their sum is right; then the rotation
    that is an expression. Any tilt will do, that of mean arity 1 soonest."""
    weights = [tilt**arity for arity in arities]
    while True:
        x = rng.choices(range(len(arities)), weights, k=n)
        if sum(arities[symbol] for symbol in x) == n - 1:
            break
    level, lowest, start = 0, 1, 0
    for i, symbol in enumerate(x):
        level += arities[symbol] - 1
        if level < lowest:
            lowest, start = level, i + 1
    return x[start:] + x[:start]


def fair(rng: random.Random, n: int, *, table: list[list[int]], accepting: list[bool]) -> list[int]:
    """Fair symbols, drawn again until they are a member."""
    while True:
        x, state = rng.choices((0, 1), k=n), 0
        for symbol in x:
            state = table[state][symbol]
        if accepting[state]:
            return x


def uniform(rng: random.Random, n: int, *, steps: list[list[Step]]) -> list[int]:
    """Each symbol in proportion to the number of members that go on with it."""
    x, state = [], 0
    for left in range(n, 0, -1):
        shares, choices = steps[left][state]
        symbol, state = choices[bisect(shares, rng.random())] if shares else choices[0]
        x.append(symbol)
    return x


def uniform_steps(automaton: Automaton, longest: int) -> list[list[Step]]:
    """By the symbols that are left and the state: all cumulative shares but the last, and each (symbol, next state)."""
    table, counts = automaton.transitions.tolist(), [int(accepted) for accepted in automaton.accepting]
    steps: list[list[Step]] = [[]]
    for _ in range(longest):
        steps.append([_step(row, [counts[target] for target in row]) for row in table])
        counts = [sum(counts[target] for target in row) for row in table]
    return steps


def _step(row: list[int], counts: list[int]) -> Step:
    choices = [(symbol, target) for symbol, target in enumerate(row) if counts[symbol]]
    total = sum(counts)
    return [below / total for below in accumulate(filter(None, counts))][:-1], choices


ANY = 2**20
DRAW: dict[str, Draw] = {
    "tomita_1": partial(repeat, word=[1]),
    "tomita_2": partial(repeat, word=[1, 0]),
    "tomita_3": tomita_3,
    "tomita_4": tomita_4,
    "tomita_7": partial(blocks, parts=[([0], 0, ANY), ([1], 0, ANY), ([0], 0, ANY), ([1], 0, ANY)]),
    **{f"dyck_depth_{depth}": partial(nested, depth=depth) for depth in (2, 3, 4, 12)},
    "ordered_blocks": partial(blocks, parts=[([symbol], 1, ANY) for symbol in range(5)]),
    "ab_d_bc": partial(blocks, parts=[([0, 1], 0, ANY), ([3], 1, 1), ([1, 2], 0, ANY)]),
    "last_zero": partial(blocks, parts=[([0, 1, 2], 0, ANY), ([0], 1, 1), ([2], 0, ANY)]),
    "aa_star": partial(repeat, word=[0]),
    "aaaa_star": partial(repeat, word=[0]),
    "abab_star": partial(repeat, word=[0, 1]),
    "dyck_1": balanced,
    "shuffle_dyck_2": shuffled,
    "a_n_b_n": partial(equal_blocks, symbols=2),
    "a_n_b_n_c_n": partial(equal_blocks, symbols=3),
    "a_n_b_n_c_n_d_n": partial(equal_blocks, symbols=4),
    "boolean_3": partial(trees, arities=[0, 0, 1, 2, 3], tilt=0.858),
    "boolean_5": partial(trees, arities=[0, 0, 1, 2, 3, 4, 5], tilt=0.653),
}
STOPPED = (
    "tomita_5",
    "tomita_6",
)  # fair symbols until a coin stops them, kept if they are a member of a length in range

# ---- labels ----


def table_labels(language: Language) -> Callable[[list[int]], list[int]]:
    table = language.acceptor.transitions.tolist()
    label = [len(language.alphabet) + each for each in language.classes.tolist()]

    def read(x: list[int]) -> list[int]:
        state, targets = 0, [label[0]]
        for symbol in x:
            state = table[state][symbol]
            targets.append(label[state])
        return targets

    return read


def bracket_labels(language: Language) -> Callable[[list[int]], list[int]]:
    by_open = _labels_by_mask(language, 1 << language.acceptor.counters)

    def read(x: list[int]) -> list[int]:
        counts, targets = [0] * language.acceptor.counters, [by_open[0]]
        for symbol in x:
            counts[symbol // 2] += 1 - 2 * (symbol % 2)
            targets.append(by_open[sum(1 << i for i, count in enumerate(counts) if count)])
        return targets

    return read


def expression_labels(language: Language) -> Callable[[list[int]], list[int]]:
    changes = [-1, -1, *range(len(language.alphabet) - 2)]
    ended, begun = _labels_by_mask(language, 2)

    def read(x: list[int]) -> list[int]:
        missing, targets = 1, [begun]
        for symbol in x:
            missing += changes[symbol]
            targets.append(begun if missing else ended)
        return targets

    return read


def block_labels(language: Language) -> Callable[[list[int]], list[int]]:
    size = len(language.alphabet)
    names = language.symbols
    first, more, only = (
        names.index("{a}"),
        names.index("{a,b}"),
        [names.index(f"{{{s}}}") for s in language.alphabet[1:]],
    )
    end = names.index("{$}")

    def read(x: list[int]) -> list[int]:
        targets, count, last = [first], 0, -1
        whole = x.count(0)
        for symbol in x:
            count = count + 1 if symbol == last else 1
            last = symbol
            if symbol == 0:
                targets.append(more)
            elif count < whole:
                targets.append(only[symbol - 1])
            else:
                targets.append(only[symbol] if symbol + 1 < size else end)
        return targets

    return read


def _labels_by_mask(language: Language, masks: int) -> list[int]:
    return [len(language.alphabet) + int(each) for each in language.classes[:masks]]


def labeller(language: Language) -> Callable[[list[int]], list[int]]:
    if isinstance(language.acceptor, Automaton):
        return table_labels(language)
    if language.name.startswith("boolean"):
        return expression_labels(language)
    return block_labels(language) if language.name.startswith("a_n") else bracket_labels(language)


# ---- rows ----


def rows(language: Language, lengths: tuple[int, int], context: int, distribution: str, seed: int = 0) -> Iterator[Row]:
    """Rows of a language without end, of ``"paper"`` or ``"uniform"``, with offsets uniform over those that fit."""
    rng, reachable, read = random.Random(seed), language.reachable(*lengths), labeller(language)
    draw, weights = _drawing(language, reachable, sum(lengths) / 2, distribution)
    while True:
        [n] = rng.choices(reachable, cum_weights=weights)
        x = draw(rng, n)
        tokens = [language.bos, *x, language.eos]
        yield Row(tokens, range(len(x) + 1), read(x), rng.randint(0, context - len(tokens)))


def _drawing(language: Language, lengths: Sequence[int], middle: float, how: str) -> tuple[Draw, list[float] | None]:
    """What draws the strings, and the cumulative weights of their lengths if those are not equally likely."""
    if how == "uniform":
        return partial(uniform, steps=uniform_steps(language.acceptor, lengths[-1])), None
    if language.name in STOPPED:
        table, accepting = language.acceptor.transitions.tolist(), language.acceptor.accepting.tolist()
        members = (language.acceptor.count(n) / 2**n for n in lengths)
        weights = [share * (middle / (1 + middle)) ** n for n, share in zip(lengths, members, strict=True)]
        return partial(fair, table=table, accepting=accepting), list(accumulate(weights))
    return DRAW[language.name], None
