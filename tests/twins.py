"""Plain Python twins of the engine: the same words, the same integers, the same rows, with no attempt at speed."""

from __future__ import annotations

import functools
import itertools
import operator
from collections import Counter
from collections.abc import Callable

MASK32, MASK64 = 2**32 - 1, 2**64 - 1
PLACEMENT = 2**31
LENGTH, OFFSET = 0, 1
LETTERS = 26


def _times(one: int, other: int) -> int:
    """Product in the field of 256 elements that AES uses."""
    product = 0
    for bit in range(8):
        product ^= one << bit if other >> bit & 1 else 0
    for bit in range(14, 7, -1):
        product ^= 0x11B << bit - 8 if product >> bit & 1 else 0
    return product


def _substitute(byte: int) -> int:
    """FIPS 197, section 5.1.1."""
    inverse = next((x for x in range(256) if _times(x, byte) == 1), 0)
    return 0x63 ^ functools.reduce(operator.xor, ((inverse << by | inverse >> 8 - by) & 255 for by in range(5)))


SUBSTITUTES = [_substitute(byte) for byte in range(256)]
MIXED = [  # of a byte in row r, the column that its substitute becomes
    [sum(_times(SUBSTITUTES[byte], (2, 1, 1, 3)[(row - r) % 4]) << 8 * row for row in range(4)) for byte in range(256)]
    for r in range(4)
]
PLAIN = [[SUBSTITUTES[byte] << 8 * r for byte in range(256)] for r in range(4)]


def ars(counter: list[int], key: list[int], rounds: int = 7) -> list[int]:
    """One ARS 4x32 block, of a counter of four words and a key of two 64-bit words."""
    low, high = key
    state = [x ^ k for x, k in zip(counter, (low & MASK32, low >> 32, high & MASK32, high >> 32), strict=True)]
    for images in [MIXED] * (rounds - 1) + [PLAIN]:
        low, high = (low + 0x9E3779B97F4A7C15) & MASK64, (high + 0xBB67AE8584CAA73B) & MASK64
        state = [
            images[0][state[c] & 255]
            ^ images[1][state[(c + 1) % 4] >> 8 & 255]
            ^ images[2][state[(c + 2) % 4] >> 16 & 255]
            ^ images[3][state[(c + 3) % 4] >> 24]
            ^ k
            for c, k in enumerate((low & MASK32, low >> 32, high & MASK32, high >> 32))
        ]
    return state


class Words:
    """The content words of one row, in order."""

    def __init__(self, seed: int, stream: int, row: int) -> None:
        self.key = [seed, 0]
        self.rest = [row, stream & MASK32, stream >> 32]
        self.block = 0
        self.ready: list[int] = []

    def next(self) -> int:
        if not self.ready:
            self.ready = ars([self.block, *self.rest], self.key)
            self.block += 1
        return self.ready.pop(0)

    def pair(self) -> int:
        low = self.next()
        return low | self.next() << 32

    def below(self, bound: int) -> int:
        """Uniform in 0..bound-1."""
        while True:
            product = self.next() * bound
            if product & MASK32 >= 2**32 % bound:
                return product >> 32

    def below_by_low_bits(self, word: int, bound: int) -> int:
        """The same from the lowest 31 bits of `word`, or of words behind it."""
        while (word % 2**31 * bound) % 2**31 < 2**31 % bound:
            word = self.next()
        return word % 2**31 * bound >> 31

    def group(self, bounds: list[int]) -> list[int]:
        """Uniform below each bound, all from one pair of words: the digits of one uniform integer in a mixed base."""
        base = 1
        for bound in bounds:
            base *= bound
        while True:
            product = self.pair() * base
            if product & MASK64 >= 2**64 % base:
                break
        rest, digits = product >> 64, []
        for bound in reversed(bounds):
            rest, digit = divmod(rest, bound)
            digits.append(digit)
        return digits[::-1]

    def fair_bits(self, count: int) -> list[int]:
        pairs = [self.pair() for _ in range((count + 63) // 64)]
        return [pairs[i // 64] >> i % 64 & 1 for i in range(count)]


def placement(seed: int, stream: int, row: int, which: int, bound: int) -> int:
    """Uniform in 0..bound-1 from half a block: the first half for the length, the second for the offset."""
    for block in itertools.count(PLACEMENT):
        words = ars([block, row, stream & MASK32, stream >> 32], [seed, 0])
        product = (words[2 * which] | words[2 * which + 1] << 32) * bound
        if product & MASK64 >= 2**64 % bound:
            return product >> 64
    raise AssertionError


def shuffle_indices(words: Words, count: int, bound: int) -> list[int]:
    indices: list[int] = []
    while len(indices) < count:
        left = bound - len(indices)
        size = min(6, left) if left <= 2**8 else 4 if left <= 2**12 else 3 if left <= 2**16 else 2
        indices += words.group([left - i for i in range(size)])
    return indices[:count]


def shuffle_front(words: Words, order: list, steps: int) -> None:
    for i, index in enumerate(shuffle_indices(words, steps, len(order))):
        order[i], order[i + index] = order[i + index], order[i]


def sieve(words: Words, n: int, symbols: int) -> list[int]:
    """The first n different values of numbers below `symbols`, of 16 bits each; see Distinct in permutations.hpp."""
    found: list[int] = []
    usual = min(n + n * n // symbols + 2, 64)
    words_at_once = 8 * ((usual + 15) // 16)
    while len(found) < n:
        drawn, words_at_once = [words.next() for _ in range(words_at_once)], 8
        for draw in (word >> shift & 0xFFFF for word in drawn for shift in (0, 16)):
            number = draw * symbols >> 16
            if draw * symbols % 2**16 >= 2**16 % symbols and number not in found:
                found.append(number)
    return found[:n]


def distinct(words: Words, n: int, symbols: int) -> list[int]:
    if n <= 64 and symbols <= 256:
        return sieve(words, n, symbols)
    order = list(range(symbols))
    shuffle_front(words, order, n)
    return order[:n]


def exact_ones(words: Words, n: int, ones: int) -> list[int]:
    inverted = 2 * ones > n
    rarer = n - ones if inverted else ones
    digits = 4 if n <= 64 else n.bit_length() // 2 + 1
    margin = (1 << rarer.bit_length() // 2) // 2
    numerator = ((rarer - margin) << digits) // n if n else 0
    bits = biased_bits(words, n, numerator, digits)
    correct(words, bits, rarer)
    return [1 - bit for bit in bits] if inverted else bits


def biased_bits(words: Words, n: int, numerator: int, digits: int) -> list[int]:
    bits = [0] * n
    for digit in range(digits):
        # even the empty string and the unused end of a word use up their fair bits
        fresh = words.fair_bits(max(n, 1))[:n]
        either = numerator >> digit & 1
        bits = [old | new if either else old & new for old, new in zip(bits, fresh, strict=True)]
    return bits


def correct(words: Words, bits: list[int], ones: int) -> None:
    size = 8 if len(bits) <= 64 else 4 if len(bits) <= 2**12 else 2
    from_value = int(sum(bits) > ones)
    while sum(bits) != ones:
        for place in words.group([len(bits)] * size):
            if bits[place] == from_value and sum(bits) != ones:
                bits[place] = 1 - from_value


def zeros_without_tie(words: Words, n: int, hard: bool) -> int:
    if hard:
        return (n - 1) // 2 if words.below(2) == 0 else n // 2 + 1
    if n % 2:
        return words.below(n + 1)
    zeros = words.below(n)
    return zeros + (zeros >= n // 2)


def binary_majority(words: Words, n: int, symbols: int, hard: bool) -> tuple[list[int], list[int]]:
    ones = n - zeros_without_tie(words, n, hard)
    return exact_ones(words, n, ones), [int(2 * ones > n)]


def binary_majority_interleave(words: Words, n: int, symbols: int, hard: bool) -> tuple[list[int], list[int]]:
    strings = [binary_majority(words, n // 3, symbols, hard) for _ in range(3)]
    x = [bit for triple in zip(*(bits for bits, _ in strings), strict=True) for bit in triple]
    return x, [answer for _, (answer,) in strings]


def majority(words: Words, n: int, symbols: int, hard: bool) -> tuple[list[int], list[int]]:
    if hard:
        x = near_tie(words, n)
        return x, [Counter(x).most_common(1)[0][0]]
    while True:
        x = letters(words, n)
        counts = Counter(x).most_common(2)
        if len(counts) == 1 or counts[0][1] > counts[1][1]:
            return x, [counts[0][0]]


def letters(words: Words, n: int) -> list[int]:
    blocks = (n + 7) // 8
    halves = [half for _ in range(4 * blocks) for word in [words.next()] for half in (word & 0xFFFF, word >> 16)]
    x = [half * LETTERS >> 16 for half in halves[:n]]
    for i, half in enumerate(halves[:n]):
        if half * LETTERS & 0xFFFF < 2**16 % LETTERS:
            x[i] = words.below(LETTERS)
    return x


def near_tie(words: Words, n: int) -> list[int]:
    order = distinct(words, LETTERS, LETTERS)
    share = -(-(n - 1) // LETTERS)
    x = [order[0]] * (share + 1)
    for rival in order[1:]:
        x += [rival] * min(share, n - len(x))
    shuffle_front(words, x, n)
    return x


def unique(words: Words, n: int, symbols: int, hard: bool) -> list[int]:
    if not hard:
        return distinct(words, n, symbols)
    first = words.below(symbols)
    x = [(first + i) % symbols for i in range(n)]
    for _ in range(1 + words.below(3)):
        one, other = words.below(n), words.below(n)
        x[one], x[other] = x[other], x[one]
    return x


def unique_copy(words: Words, n: int, symbols: int, hard: bool) -> tuple[list[int], list[int]]:
    x = unique(words, n, symbols, hard)
    return x, x


def repeat_copy(words: Words, n: int, symbols: int, hard: bool) -> tuple[list[int], list[int]]:
    if not hard:
        x = words.fair_bits(n)
        return x, x
    period = 1 + words.below(8)
    block = words.next()
    x = [block >> i % period & 1 for i in range(n)]
    x[words.below(n)] ^= 1
    return x, x


def sort(words: Words, n: int, symbols: int, hard: bool) -> tuple[list[int], list[int]]:
    if not hard:
        x = distinct(words, n, symbols)
        return x, sorted(x)
    first = words.below(symbols - n + 1)
    x = list(range(first, first + n))
    shuffle_front(words, x, n)
    return x, sorted(x)


def parity(words: Words, n: int, symbols: int, hard: bool) -> tuple[list[int], list[int]]:
    x = few_rare(words, n) if hard else exact_ones(words, n, words.below(n + 1))
    return x, [2 + sum(x) % 2]


def few_rare(words: Words, n: int) -> list[int]:
    rare = words.below(2)
    count = words.below(min(3, n) + 1)
    x = [1 - rare] * n
    for i in range(count):
        begin, end = n * i // count, n * (i + 1) // count
        x[begin + words.below((end - begin + 1) // 2)] = rare
    return x


def addition(words: Words, n: int, symbols: int, hard: bool) -> tuple[list[int], list[int]]:
    a_digits = 1 + words.below(n - 3)
    b_digits = n - 2 - a_digits
    a, b = words.fair_bits(a_digits), words.fair_bits(b_digits)  # least significant digit first
    if hard:
        carry_chain(words, *((a, b) if a_digits >= b_digits else (b, a)))
    for digits in (a, b):
        if len(digits) > 1:
            digits[-1] = 1
    total = number(a) + number(b)
    return [*a[::-1], 2, *b[::-1], 3], [int(digit) for digit in f"{total:b}"]


def carry_chain(words: Words, longer: list[int], shorter: list[int]) -> None:
    start = words.below((len(shorter) + 1) // 2)
    longer[start] = shorter[start] = words.below(2)
    if len(shorter) - 1 > start:
        shorter[-1] = 1
    for column in range(start + 1, len(longer)):
        longer[column] = 1 - (shorter[column] if column < len(shorter) else 0)


def number(digits: list[int]) -> int:
    return sum(digit << i for i, digit in enumerate(digits))


def offset_copy(k: int) -> Callable:
    def every_kth(words: Words, n: int, symbols: int, hard: bool) -> tuple[list[int], list[int]]:
        x = [symbols] * (k - 1) + unique(words, n - k + 1, symbols, hard)
        return x, x[k - 1 :: k]

    return every_kth


SAMPLERS = {
    "binary_majority": binary_majority,
    "majority": majority,
    "binary_majority_interleave": binary_majority_interleave,
    "unique_copy": unique_copy,
    "repeat_copy": repeat_copy,
    "sort": sort,
    "parity": parity,
    "addition": addition,
    "offset_copy_1": offset_copy(1),
    "offset_copy_2": offset_copy(2),
    "offset_copy_3": offset_copy(3),
}


def row(task, lengths: range, context: int, seed: int, stream: int, index: int, distribution: str):
    """One row as (tokens, offset, scored, targets), scored counted from the start of the row."""
    n = lengths[placement(seed, stream, index, LENGTH, len(lengths))]
    symbols = getattr(task.symbols, "count", 0) if task.alphabet_grows else 0
    x, y = SAMPLERS[task.name](Words(seed, stream, index), n, symbols, distribution == "hard")
    separator = [] if task.name == "addition" else [task.sep]
    tokens = [task.bos, *x, *separator, *y, task.eos]
    offset = placement(seed, stream, index, OFFSET, context - len(tokens) + 1) if context else 0
    first = len(tokens) - len(y) - 2
    return tokens, offset, list(range(first, first + len(y) + 1)), [*y, task.eos]
