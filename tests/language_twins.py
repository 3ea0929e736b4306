"""Plain Python twins of the strings of languages: the same words, the same symbols, with exact big integers."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import deque
from fractions import Fraction
from functools import cache

from field_twins import letters
from twins import LENGTH, MASK32, PLACEMENT, Words, ars, exact_ones

from lengen_fast.automata import Automaton
from lengen_fast.counters import CounterMachine
from lengen_fast.edits import has_all_or_none, replacements
from lengen_fast.tasks import Language

ALL = 1 << 63


def string(language: Language, words: Words, n: int, distribution: str) -> list[int]:
    """The symbols of one string of length n."""
    if distribution == "corrupted":
        return corrupted(language, words, n)
    if distribution == "negative":
        if isinstance(language.acceptor, Automaton):
            return uniform(language.acceptor.complement(), words, n)
        return outsider(language.acceptor, words, n)
    kind, *details = language.recipes.get(distribution, (distribution,))
    return KINDS[kind](language.acceptor, words, n, *details)


def weighted_length(lengths, thresholds, seed: int, stream: int, row: int) -> int:
    """One of some lengths by the cumulative chances, times 2^64, of each."""
    words = ars([PLACEMENT, row, stream & MASK32, stream >> 32], [seed, 0])
    draw = words[2 * LENGTH] | words[2 * LENGTH + 1] << 32
    return lengths[bisect_right([int(each) for each in thresholds[:-1]], draw)]


# ---- shapes ----


def repeat(automaton: Automaton, words: Words, n: int, word: str) -> list[int]:
    symbols = [automaton.alphabet.index(symbol) for symbol in word]
    return list(itertools.islice(itertools.cycle(symbols), n))


def blocks(automaton: Automaton, words: Words, n: int, *parts) -> list[int]:
    spare = n - sum(least for least, *_ in parts)
    x: list[int] = []
    for i, (least, symbols, *most) in enumerate(parts):
        extra = spare if not most else min(spare, most[0] - least)
        if i < len(parts) - 1 and extra > 0:
            extra = words.below(extra + 1)
        spare -= extra
        x += some_letters(words, least + extra, [automaton.alphabet.index(symbol) for symbol in symbols])
    return x


def some_letters(words: Words, n: int, symbols: list[int]) -> list[int]:
    if len(symbols) == 1 or n == 0:
        return symbols[:1] * n
    return [symbols[i] for i in letters(words, n, len(symbols))]


def nested(automaton: Automaton, words: Words, n: int, depth: int) -> list[int]:
    if depth == 1:
        return [0, 1] * (n // 2)
    pairs, x = n // 2, []
    while pairs > 0:
        inside = 0
        if pairs > 1:
            share = 7500 + 265 * (words.next().bit_count() - 16)
            inside = min(pairs * share // 10000, pairs - 1)
        x += [0, *nested(automaton, words, 2 * inside, depth - 1), 1]
        pairs -= inside + 1
    return x


def runs(automaton: Automaton, words: Words, n: int) -> list[int]:
    x: list[int] = []
    while len(x) < n:
        word = words.next()
        symbol = word >> 31
        allowed = allowed_runs(automaton, x, symbol, n - len(x))
        if not allowed:
            symbol = 1 - symbol
            allowed = allowed_runs(automaton, x, symbol, n - len(x))
        x += [symbol] * allowed[words.below_by_low_bits(word, len(allowed))]
    return x


def allowed_runs(automaton: Automaton, x: list[int], symbol: int, left: int) -> list[int]:
    state, found = int(automaton.run(x)[-1]), []
    for length in range(1, left + 1):
        state = automaton.transitions[state][symbol]
        if automaton.accepting[state]:
            found.append(length)
    return found


# ---- walks ----


def legal(automaton: Automaton, state: int) -> list[int]:
    return [a for a, target in enumerate(automaton.transitions[state].tolist()) if automaton.live[target]]


def coins(automaton: Automaton, words: Words, n: int) -> list[int]:
    state, x = 0, []
    for bit in words.fair_bits(n):
        choices = legal(automaton, state)
        x.append(choices[bit if len(choices) > 1 else 0])
        state = int(automaton.transitions[state][x[-1]])
    return x


@cache
def completions(automaton: Automaton, n: int) -> list[list[int]]:
    """[n + 1][S] how many strings of each length lead from each state to acceptance."""
    counts = [[int(each) for each in automaton.accepting]]
    table = automaton.transitions.tolist()
    for _ in range(n):
        counts.append([sum(counts[-1][target] for target in row) for row in table])
    return counts


LONGEST_BLOCK, MOST_PATHS = 8, 16


@cache
def paths(automaton: Automaton, length: int) -> dict[int, list[tuple[tuple[int, ...], int]]]:
    """From each live state: the words of a length that stay in live states, in order, and where they lead."""
    found = {state: [((), state)] for state in range(automaton.states) if automaton.live[state]}
    for _ in range(length):
        for state, ways in found.items():
            found[state] = [
                ((*word, symbol), int(automaton.transitions[end][symbol]))
                for word, end in ways
                for symbol in legal(automaton, end)
            ]
    return found


@cache
def block_length(automaton: Automaton) -> int:
    """The most symbols, up to which no state has too many paths; or one."""
    for length in range(2, LONGEST_BLOCK + 1):
        if max(map(len, paths(automaton, length).values())) > MOST_PATHS:
            return length - 1
    return LONGEST_BLOCK


def uniform(automaton: Automaton, words: Words, n: int) -> list[int]:
    block = block_length(automaton)
    if max(map(len, paths(automaton, block).values())) == 1:
        return list(paths(automaton, n)[0][0][0])
    counts, x, state = completions(automaton, n), [], 0
    for draw in halves(words, -(-n // block)):
        length = (n - len(x)) % block or block
        ways = paths(automaton, length)[state]
        left = n - len(x) - length
        word, state = ways[choose(words, draw, [counts[left][end] for _, end in ways])]
        x += word
    return x


def halves(words: Words, count: int) -> list[int]:
    """The halves of the next words, low before high."""
    drawn = [words.next() for _ in range((count + 1) // 2)]
    return [half for word in drawn for half in (word & 0xFFFF, word >> 16)][:count]


def choose(words: Words, draw: int, weights: list[int]) -> int:
    """The last place whose cumulative weight before it is not above a 63-bit number. The number begins with the high 15
    bits of `draw`; the others are drawn if it begins as a cumulative weight does."""
    total, high = sum(weights), draw >> 1
    thresholds = [sum(weights[:j]) * ALL // total for j in range(len(weights))]
    place = sum(high >= threshold >> 48 for threshold in thresholds) - 1
    if high == thresholds[place] >> 48:
        whole = high << 48 | (words.next() | words.next() << 32) >> 16
        place = sum(whole >= threshold for threshold in thresholds) - 1
    return place


# ---- hard ----


class Events:
    """None to three, each in the first half of its own equal stretch."""

    def __init__(self, n: int, words: Words) -> None:
        self.n, self.words, self.count, self.happened = n, words, words.below(4), 0
        self.plan()

    def plan(self) -> None:
        if self.happened < self.count:
            begin, end = (self.n * i // self.count for i in (self.happened, self.happened + 1))
            self.next = begin + self.words.below((end - begin + 1) // 2 + 1)

    def due(self, done: int) -> bool:
        return self.happened < self.count and done >= self.next

    def happen(self) -> None:
        self.happened += 1
        self.plan()


@cache
def shortest_ways(automaton: Automaton) -> dict[int, dict[int, list[int]]]:
    """From each live state, to each state that can be reached: the shortest word, the least one of them."""
    ways = {}
    for start in range(automaton.states):
        if automaton.live[start]:
            found, queue = {start: []}, deque([start])
            while queue:
                state = queue.popleft()
                for symbol in legal(automaton, state):
                    target = int(automaton.transitions[state][symbol])
                    if target not in found:
                        found[target] = [*found[state], symbol]
                        queue.append(target)
            ways[start] = found
    return ways


@cache
def shortest_loops(automaton: Automaton, state: int) -> list[list[int]]:
    ways, found = shortest_ways(automaton), []
    for symbol in legal(automaton, state):
        back = ways[int(automaton.transitions[state][symbol])].get(state)
        if back is not None:
            found.append([symbol, *back])
    shortest = min(map(len, found), default=0)
    return [loop for loop in found if len(loop) == shortest][:8]


def hard(automaton: Automaton, words: Words, n: int) -> list[int]:
    counts, ways = completions(automaton, n), shortest_ways(automaton)
    events, state, x = Events(n, words), 0, []

    def draw_loop() -> list[int]:
        loops = shortest_loops(automaton, state)
        return loops[words.below(len(loops)) if len(loops) > 1 else 0] if loops else []

    loop = draw_loop()
    while len(x) < n:
        left = n - len(x)
        if events.due(len(x)):
            targets = [
                target
                for target, way in sorted(ways[state].items())
                if way and len(way) <= left and counts[left - len(way)][target]
            ]
            target = targets[words.below(len(targets))] if targets else None
            events.happen()
            if target is None:
                continue
            x += ways[state][target]
            state = target
        elif loop and len(loop) <= left and counts[left - len(loop)][state]:
            x += loop
            continue
        else:
            row = automaton.transitions[state].tolist()
            choices = [symbol for symbol, target in enumerate(row) if counts[left - 1][target]]
            x.append(choices[words.below(len(choices)) if len(choices) > 1 else 0])
            state = row[x[-1]]
        loop = draw_loop()
    return x


def hard_counting(machine: CounterMachine, words: Words, n: int, *recipe) -> list[int]:
    rises = [rule[1:] for rule in recipe if rule[0] == 0]
    falls = [rule[1:] for rule in recipe if rule[0] == 1]
    neutral = [rule[1:] for rule in recipe if rule[0] == 2]
    counters, ends = machine.counters, [3] in recipe
    whole = n - ends
    heights, x, events = [0] * counters, [], Events(n - ends, words)
    one_of = lambda several: several[words.below(len(several)) if len(several) > 1 else 0]  # noqa: E731
    falls_of = lambda which: [symbol for counter, symbol in falls if counter == which]  # noqa: E731
    spare = lambda: whole - len(x) - sum(heights)  # noqa: E731
    word = one_of(neutral)
    while spare() >= len(neutral[0]):
        if not events.due(len(x)):
            x += word if len(word) <= spare() else neutral[0]
            continue
        which = words.below(counters) if counters > 1 else 0
        if words.below(2):
            _, symbol, by = one_of([rise for rise in rises if rise[0] == which])
            count = words.below(spare() // (1 + by) + 1)
            x += [symbol] * count
            heights[which] += by * count
        else:
            symbol = one_of(falls_of(which))
            count = words.below(heights[which] + 1)
            x += [symbol] * count
            heights[which] -= count
        events.happen()
        word = one_of(neutral)
    for which in range(counters):
        x += [one_of(falls_of(which))] * heights[which]
    return x + ([one_of(falls_of(0))] if ends else [])


# ---- counting ----


def balanced(machine: CounterMachine, words: Words, n: int) -> list[int]:
    return brackets(words, n // 2)


def brackets(words: Words, pairs: int) -> list[int]:
    """0 opens, 1 closes: the only rotation that never falls below its start before its end, without that end."""
    steps = exact_ones(words, 2 * pairs + 1, pairs)
    for start in range(len(steps)):
        rotated = steps[start:] + steps[:start]
        levels = list(itertools.accumulate(1 if step else -1 for step in rotated))
        if all(level >= 0 for level in levels[:-1]):
            return [1 - step for step in rotated[:-1]]
    raise AssertionError


def shuffled(machine: CounterMachine, words: Words, n: int) -> list[int]:
    pairs = n // 2
    first_pairs = sum(exact_ones(words, n + 2, pairs + 1)[:pairs])
    places = exact_ones(words, n, 2 * first_pairs)
    first, second = brackets(words, first_pairs), brackets(words, pairs - first_pairs)
    return [first.pop(0) if place else second.pop(0) + 2 for place in places]


def equal_blocks(machine: CounterMachine, words: Words, n: int) -> list[int]:
    symbols = len(machine.alphabet)
    return [symbol for symbol in range(symbols) for _ in range(n // symbols)]


BLOCK = 32


def trees(machine: CounterMachine, words: Words, n: int, arities: list[int]) -> list[int]:
    weights, chances = tree_weights(tuple(arities)), sum_chances(tuple(arities))
    drawn: list[int] = []
    wanted = -1
    while (left := n - len(drawn)) > BLOCK:
        level = 0
        while BLOCK << (level + 1) <= left // 2:
            level += 1
        while True:
            free = [by_weight(words, weights) for _ in range(left - (BLOCK << level))]
            rest = wanted - sum(arities[symbol] - 1 for symbol in free)
            if words.pair() >> 1 < chances(level, rest):
                break
        drawn, wanted = drawn + free, rest
    drawn += ends(words, arities, n - len(drawn), wanted)
    for start in range(n):
        rotated = drawn[start:] + drawn[:start]
        levels = list(itertools.accumulate(arities[symbol] - 1 for symbol in rotated))
        if all(level >= 0 for level in levels[:-1]):
            return rotated
    raise AssertionError


def by_weight(words: Words, weights: list[int]) -> int:
    draw = words.below(sum(weights))
    return next(i for i, total in enumerate(itertools.accumulate(weights)) if draw < total)


@cache
def tree_weights(arities: tuple[int, ...]) -> list[int]:
    """a^i b^(D - i) for the fraction a / b with which the mean arity is nearest one, all within 32 bits."""
    most, best = max(arities), None
    low, high = 0.0, 2.0
    for _ in range(60):  # the mean arity grows with a / b
        middle = (low + high) / 2
        if sum(middle**arity * (arity - 1) for arity in arities) < 0:
            low = middle
        else:
            high = middle
    for b in itertools.count(1):
        if b**most > 4 * 10**9:
            return best[1]
        for a in (int(low * b), int(low * b) + 1):
            weights = [a**arity * b ** (most - arity) for arity in arities]
            mean = Fraction(sum(w * arity for w, arity in zip(weights, arities, strict=True)), sum(weights))
            if a > 0 and sum(weights) <= 4 * 10**9 and (best is None or abs(mean - 1) < best[0]):
                best = abs(mean - 1), weights


@cache
def sum_chances(arities: tuple[int, ...]):
    """The chance of a sum of 32 * 2^level steps, as a share of the greatest, times 2^63."""
    step = [0] * (max(arities) + 1)
    for weight, arity in zip(tree_weights(arities), arities, strict=True):
        step[arity] += weight

    @cache
    def power(length: int) -> list[int]:
        return step if length == 1 else product(power(length // 2), power(length // 2))

    def threshold(level: int, total: int) -> int:
        chances = power(BLOCK << level)
        place = total + (BLOCK << level)
        return chances[place] * ALL // max(chances) if 0 <= place < len(chances) else 0

    return threshold


def product(one: list[int], other: list[int]) -> list[int]:
    found = [0] * (len(one) + len(other) - 1)
    for i, each in enumerate(one):
        for j, factor in enumerate(other):
            found[i + j] += each * factor
    return found


def ends(words: Words, arities: list[int], n: int, wanted: int) -> list[int]:
    """Symbols whose arities, less one each, have the wanted sum; all such strings equally likely."""
    most, x = BLOCK * (max(arities) - 1), []
    for i, draw in enumerate(halves(words, n)):  # a block is one symbol: of two there are more than 16
        symbols = [symbol for symbol, arity in enumerate(arities) if -BLOCK <= wanted - arity + 1 <= most]
        weights = [sequences(tuple(arities), n - i - 1, wanted - arities[symbol] + 1) for symbol in symbols]
        x.append(symbols[choose(words, draw, weights)])
        wanted -= arities[x[-1]] - 1
    return x


@cache
def sequences(arities: tuple[int, ...], n: int, total: int) -> int:
    if n == 0 or not -n <= total <= n * (max(arities) - 1):
        return int(n == 0 and total == 0)
    return sum(sequences(arities, n - 1, total - arity + 1) for arity in arities)


# ---- strings outside the language ----


def corrupted(language: Language, words: Words, n: int) -> list[int]:
    acceptor = language.acceptor
    if isinstance(acceptor, CounterMachine):
        return replaced_in_a_member(language, words, n)
    if has_all_or_none(acceptor):
        return uniform(acceptor.complement(), words, n)
    word = uniform(replacements(acceptor), words, n + 2)
    place = word.index(len(acceptor.alphabet))
    return [*word[:place], *word[place + 2 :]]


def replaced_in_a_member(language: Language, words: Words, n: int) -> list[int]:
    symbols = len(language.alphabet)
    while True:
        x = string(language, words, n, "uniform")
        place = words.below(n)
        x[place] = (x[place] + 1 + words.below(symbols - 1)) % symbols
        if not language.acceptor.accepts(x):
            return x


def outsider(machine: CounterMachine, words: Words, n: int) -> list[int]:
    while True:
        x = letters(words, n, len(machine.alphabet)) if len(machine.alphabet) > 1 else [0] * n
        if not machine.accepts(x):
            return x


KINDS = {
    "repeat": repeat,
    "blocks": blocks,
    "nested": nested,
    "runs": runs,
    "coins": coins,
    "stopping": uniform,
    "uniform": uniform,
    "hard": hard,
    "hard_counting": hard_counting,
    "balanced": balanced,
    "shuffled": shuffled,
    "equal_blocks": equal_blocks,
    "trees": trees,
}
