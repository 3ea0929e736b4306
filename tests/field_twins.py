"""Plain Python twins of the samplers of the field's tasks, and of any task: rows as (tokens, offset, scored, targets).

A twin draws what stands between BOS and EOS, its scored places counted from BOS, and their targets.
"""

from __future__ import annotations

import bisect
from itertools import pairwise

import twins
from twins import Words, distinct, exact_ones, shuffle_front

Labelled = tuple[list[int], list[int], list[int]]


def letters(words: Words, n: int, count: int) -> list[int]:
    """Independent letters: as many to a 16-bit draw as keep its number of outcomes within 256."""
    per_draw = max(k for k in range(1, 9) if count**k <= 256)
    bound = count**per_draw
    draws = -(-n // per_draw)
    halves = [
        half for _ in range(4 * -(-draws // 8)) for word in [words.next()] for half in (word & 0xFFFF, word >> 16)
    ]
    numbers = [half * bound >> 16 for half in halves[:draws]]
    for i, half in enumerate(halves[:draws]):
        if half * bound & 0xFFFF < 2**16 % bound:
            numbers[i] = words.below(bound)
    return [number // count**i % count for number in numbers for i in range(per_draw)][:n]


def place_in_stretch(words: Words, n: int, i: int, count: int) -> int:
    begin, end = n * i // count, n * (i + 1) // count
    return begin + words.below((end - begin + 1) // 2)


def answered(task, x: list[int], y: list[int]) -> Labelled:
    """`x SEP y` with `y EOS` scored."""
    first = len(x) + 1
    return [*x, task.sep, *y], list(range(first, first + len(y) + 1)), [*y, task.eos]


def mode(task, words: Words, n: int, hard: bool) -> Labelled:
    count = len(task.symbols)
    while True:
        x = near_tie(words, n, count) if hard else letters(words, n, count)
        counts = [x.count(letter) for letter in range(count)]
        if counts.count(max(counts)) == 1:
            return answered(task, x, [counts.index(max(counts))])


def near_tie(words: Words, n: int, count: int) -> list[int]:
    order = distinct(words, count, count)
    share = -(-(n - 1) // count)
    x = [order[0]] * (share + 1)
    for rival in order[1:]:
        x += [rival] * min(share, n - len(x))
    shuffle_front(words, x, n)
    return x


def histogram(task, words: Words, n: int, hard: bool) -> Labelled:
    symbols, counts = task.symbols.count, []
    least = 1 + words.below(8) if hard else 0
    while sum(counts) < n:
        left = n - sum(counts)
        counts.append(min(least + words.below(2), left) if hard else 1 + words.below(min(9, left)))
    drawn = distinct(words, len(counts), symbols)
    x = [(symbol, count) for symbol, count in zip(drawn, counts, strict=True) for _ in range(count)]
    shuffle_front(words, x, n)
    return answered(task, [symbol for symbol, _ in x], [symbols - 1 + count for _, count in x])


def count(task, words: Words, n: int, hard: bool) -> Labelled:
    (k,) = task.parameters
    if hard:
        which = words.below(4)
        ones = k if which < 2 else k + 1 if which == 3 and k < n else k - 1
        x = [0] * n
        for i in range(ones):
            x[place_in_stretch(words, n, i, ones)] = 1
    else:
        ones = k if words.below(2) == 0 else [m for m in range(n + 1) if m != k][words.below(n)]
        x = exact_ones(words, n, ones)
    return answered(task, x, [3 if ones == k else 2])


def letter_copy(copied):
    def twin(task, words: Words, n: int, hard: bool) -> Labelled:
        x, _ = twins.repeat_copy(words, n, 0, hard)
        return answered(task, x, copied(x))

    return twin


def selective_copy(task, words: Words, n: int, hard: bool) -> Labelled:
    blank = 16
    kept = 1 + words.below(min(n, 16) if hard else n)
    x = [blank] * n
    if hard:
        common = words.below(16)
        other = (common + 1 + words.below(15)) % 16
        odd = words.below(kept)
        y = [other if i == odd else common for i in range(kept)]
        places = [place_in_stretch(words, n, i, kept) for i in range(kept)]
    else:
        places = [place for place, bit in enumerate(exact_ones(words, n, kept)) if bit]
        y = letters(words, kept, 16)
    for place, letter in zip(places, y, strict=True):
        x[place] = letter
    return answered(task, x, y)


def bucket_sort(task, words: Words, n: int, hard: bool) -> Labelled:
    count = len(task.symbols)
    x = rare_letters(words, n, count) if hard else letters(words, n, count)
    return answered(task, x, sorted(x))


def rare_letters(words: Words, n: int, count: int) -> list[int]:
    common, rare = words.below(count), []
    for letter in range(count):
        wanted = words.below(3) if letter != common else 0
        rare += [letter] * min(wanted, (n - 1) // 2 - len(rare))
    x = [common] * n
    for letter in rare:
        while True:
            place = words.below(n)
            if x[place] == common:
                break
        x[place] = letter
    return x


def few_moves(words: Words, n: int, count: int, neutral: int) -> list[int]:
    """Zero to three letters other than the neutral one."""
    x, moves = [neutral] * n, words.below(min(3, n) + 1)
    for i in range(moves):
        place = place_in_stretch(words, n, i, moves)
        letter = words.below(count - 1)
        x[place] = letter + (letter >= neutral)
    return x


def modular_sum(task, words: Words, n: int, hard: bool) -> Labelled:
    modulus = len(task.symbols)
    x = few_moves(words, n, modulus, 0) if hard else letters(words, n, modulus)
    return answered(task, x, [sum(x) % modulus])


def cycle_navigation(task, words: Words, n: int, hard: bool) -> Labelled:
    (positions,) = task.parameters
    x = few_moves(words, n, 3, 0) if hard else letters(words, n, 3)
    return answered(task, x, [3 + (x.count(1) - x.count(2)) % positions])


def flip_flop(task, words: Words, n: int, hard: bool) -> Labelled:
    numbers = letters(words, n // 2, 200 if hard else 20)
    x, scored, targets = [], [], []
    for i, number in enumerate(numbers):
        instruction = 0 if i == 0 else 1 if i == n // 2 - 1 else min(number // 2, 2)
        if instruction == 0:
            memory = 3 + number % 2
        if instruction == 1:
            scored.append(len(x) + 1)
            targets.append(memory)
        ignored = 7 - memory if hard else 3 + number % 2
        x += [instruction, ignored if instruction == 2 else memory]
    return x, scored, targets


def word_problem(task, words: Words, n: int, hard: bool) -> Labelled:
    count, (identity, *table) = len(task.symbols), task.parameters
    x = few_moves(words, n, count, identity) if hard else letters(words, n, count)
    products = [identity]
    for element in x:
        products.append(table[products[-1] * count + element])
    return x, list(range(1, n + 1)), products[1:]


def mqar(task, words: Words, n: int, hard: bool) -> Labelled:
    symbols, pairs = task.symbols.count, n // 2
    if hard:
        first, common = words.below(symbols), words.below(16)
        drawn = [((first + i) % symbols, common) for i in range(pairs)]
        for _ in range(1 + words.below(3)):
            place = words.below(pairs)
            drawn[place] = (drawn[place][0], (common + 1 + words.below(15)) % 16)
    else:
        keys = distinct(words, pairs, symbols)
        drawn = list(zip(keys, letters(words, pairs, 16), strict=True))
    x = [token for key, value in drawn for token in (key, symbols + value)]
    shuffle_front(words, drawn, pairs)
    queries = [key for key, _ in drawn]
    return [*x, task.sep, *queries], list(range(n + 2, n + 2 + pairs)), [symbols + value for _, value in drawn]


def induction_head(task, words: Words, n: int, hard: bool) -> Labelled:
    first = words.below((n + 1) // 4 if hard else n - 2)
    if hard:
        common = words.below(16)
        x = [common] * n
        x[first + 1] = (common + 1 + words.below(15)) % 16
    else:
        x = letters(words, n, 16)
    x[first] = x[-1] = 16
    return [*x, x[first + 1]], [n, n + 1], [x[first + 1], task.eos]


def addition(task, words: Words, sizes: tuple[int, int], hard: bool) -> Labelled:
    """The paper's addition, of two lengths."""

    class Given(Words):
        """Words whose first draw is the size of the first number."""

        def __init__(self) -> None:
            self.__dict__.update(words.__dict__)
            self.size_is_drawn = False

        def below(self, bound: int) -> int:
            if self.size_is_drawn:
                return super().below(bound)
            self.size_is_drawn = True
            return sizes[0] - 1

    x, y = twins.addition(Given(), sum(sizes) + 2, 0, hard)
    first = len(x)
    return [*x, *y], list(range(first, first + len(y) + 1)), [*y, task.eos]


def decimal_addition(task, words: Words, sizes: list[int], hard: bool) -> Labelled:
    """Decimal numbers of the given sizes, their digits drawn in the order they are written, with one for each sign."""
    order = 1 if task.name.endswith("reversed") else -1
    drawn = letters(words, sum(sizes) + len(sizes), 10)
    numbers, begin = [], 0
    for size in sizes:
        numbers.append(drawn[begin : begin + size][::order])  # least significant digit first
        begin += size + 1
    for digits in numbers:
        if len(digits) > 1:
            digits[-1] = 1 + words.below(9)
    if hard:
        carry_chain(words, numbers)
    x = []
    for digits in numbers:
        x += [*digits[::order], 10]
    x[-1] = 11
    y = [int(digit) for digit in str(sum(map(value_of, numbers)))][::-order]
    return [*x, *y], list(range(len(x), len(x) + len(y) + 1)), [*y, task.eos]


def carry_chain(words: Words, numbers: list[list[int]]) -> None:
    longest = max(numbers, key=len)
    others = [digits for digits in numbers if digits is not longest]
    start = words.below((max(map(len, others)) + 1) // 2)
    total = sum(map(value_of, others))
    column = [total // 10**i % 10 for i in range(len(longest))]
    if column[start] == 9 or (words.below(2) == 1 and column[start] > 0):
        longest[start] = 10 - column[start] + words.below(column[start])
    else:
        longest[start] = words.below(9 - column[start])
    for i in range(start + 1, len(longest)):
        longest[i] = 9 - column[i]
    if len(longest) > 1 and longest[-1] == 0:
        longest[-1] = 1


def value_of(digits: list[int]) -> int:
    return sum(digit * 10**i for i, digit in enumerate(digits))


def two_sizes(words: Words, n: int) -> list[int]:
    first = 1 + words.below(n - 3)
    return [first, n - 2 - first]


def many_sizes(words: Words, n: int) -> list[int]:
    count = 2 + words.below(min(10, n // 2) - 1)
    places, cuts = n - count - 1, []
    for newest in range(places - count + 1, places):
        drawn = words.below(newest + 1)
        bisect.insort(cuts, newest if drawn in cuts else drawn)
    ends = [-1, *cuts, places]
    return [end - begin for begin, end in pairwise(ends)]


def sum_of(sizes_of):
    def twin(task, words: Words, n: int, hard: bool) -> Labelled:
        return decimal_addition(task, words, sizes_of(words, n), hard)

    return twin


SAMPLERS = {
    "mode": mode,
    "histogram": histogram,
    "count": count,
    "reverse": letter_copy(lambda x: x[::-1]),
    "duplicate": letter_copy(lambda x: x + x),
    "selective_copy": selective_copy,
    "bucket_sort": bucket_sort,
    "modular_sum": modular_sum,
    "cycle_navigation": cycle_navigation,
    "flip_flop": flip_flop,
    "word_problem": word_problem,
    "mqar": mqar,
    "induction_head": induction_head,
    "decimal_addition": sum_of(two_sizes),
    "decimal_addition_reversed": sum_of(two_sizes),
    "multi_operand_addition": sum_of(many_sizes),
    "multi_operand_addition_reversed": sum_of(many_sizes),
}


def row(task, lengths, context: int, seed: int, stream: int, index: int, distribution: str):
    """One row as (tokens, offset, scored, targets), scored counted from the start of the row."""
    n = lengths[twins.placement(seed, stream, index, twins.LENGTH, len(lengths))]
    twin = SAMPLERS[getattr(task, "engine", task.name)]
    drawn = twin(task, Words(seed, stream, index), n, distribution == "hard")
    return framed(task, drawn, context, seed, stream, index)


def paired_row(task, low, high, context: int, seed: int, stream: int, index: int, distribution: str):
    """One row of two lengths."""
    words, hard = Words(seed, stream, index), distribution == "hard"
    firsts, seconds = high.first - low.first + 1, high.second - low.second + 1
    if task.name.startswith("multi"):
        count = low.first + twins.placement(seed, stream, index, twins.LENGTH, firsts)
        sizes = [low.second + words.below(seconds) for _ in range(count)]
    else:
        number = twins.placement(seed, stream, index, twins.LENGTH, firsts * seconds)
        sizes = [low.first + number // seconds, low.second + number % seconds]
    drawn = (addition if task.name == "addition" else decimal_addition)(task, words, sizes, hard)
    return framed(task, drawn, context, seed, stream, index)


def framed(task, drawn: Labelled, context: int, seed: int, stream: int, index: int):
    inside, scored, targets = drawn
    tokens = [task.bos, *inside, task.eos]
    offset = twins.placement(seed, stream, index, twins.OFFSET, context - len(tokens) + 1) if context else 0
    return tokens, offset, scored, targets
