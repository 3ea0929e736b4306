"""The named languages in other words: membership by definition, every member of a length, and a reader that streams.

Nothing here knows an automaton, a counter machine or the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, combinations, groupby, pairwise, product
from math import comb

END = "$"
DEPTHS = {f"dyck_depth_{k}": k for k in (2, 3, 4, 12)}
ARITIES = {"0": 0, "1": 0, "~": 1, "+": 2, ">": 3, "*": 4, "^": 5}

# ---- membership ----


def _runs(x: str) -> list[tuple[str, int]]:
    return [(symbol, len(list(run))) for symbol, run in groupby(x)]


def _tomita_3(x: str) -> bool:
    runs = _runs(x)
    return not any(a == "1" and i % 2 and b == "0" and j % 2 for (a, i), (b, j) in pairwise(runs))


def _nested(depth: int) -> Callable[[str], bool]:
    def member(x: str) -> bool:
        levels = [0, *accumulate(1 if symbol == "a" else -1 for symbol in x)]
        return levels[-1] == 0 and min(levels) >= 0 and max(levels) <= depth

    return member


def _balanced(x: str, pair: str) -> bool:
    levels = [0, *accumulate((symbol == pair[0]) - (symbol == pair[1]) for symbol in x)]
    return levels[-1] == 0 and min(levels) == 0


def _equal(symbols: str) -> Callable[[str], bool]:
    return lambda x: len(x) > 0 and x == "".join(s * (len(x) // len(symbols)) for s in symbols)


def _expression(most: int) -> Callable[[str], bool]:
    def member(x: str) -> bool:
        values = 0  # read from the right, each operator takes its arguments off a stack and puts one value on it
        for symbol in reversed(x):
            if not ARITIES[symbol] <= min(values, most):
                return False
            values += 1 - ARITIES[symbol]
        return values == 1

    return member


MEMBER: dict[str, Callable[[str], bool]] = {
    "tomita_1": lambda x: "0" not in x,
    "tomita_2": lambda x: x == "10" * (len(x) // 2),
    "tomita_3": _tomita_3,
    "tomita_4": lambda x: "000" not in x,
    "tomita_5": lambda x: x.count("0") % 2 == x.count("1") % 2 == 0,
    "tomita_6": lambda x: (x.count("0") - x.count("1")) % 3 == 0,
    "tomita_7": lambda x: x.count("10") <= 1,
    **{name: _nested(depth) for name, depth in DEPTHS.items()},
    "ordered_blocks": lambda x: [symbol for symbol, _ in _runs(x)] == list("abcde"),
    "ab_d_bc": lambda x: x.count("d") == 1 and "c" not in x.split("d")[0] and "a" not in x.split("d")[1],
    "last_zero": lambda x: x.rstrip("2").endswith("0"),
    "aa_star": lambda x: len(x) % 2 == 0,
    "aaaa_star": lambda x: len(x) % 4 == 0,
    "abab_star": lambda x: x == "abab" * (len(x) // 4),
    "dyck_1": lambda x: _balanced(x, "()"),
    "shuffle_dyck_2": lambda x: _balanced(x, "()") and _balanced(x, "[]"),
    "a_n_b_n": _equal("ab"),
    "a_n_b_n_c_n": _equal("abc"),
    "a_n_b_n_c_n_d_n": _equal("abcd"),
    "boolean_3": _expression(3),
    "boolean_5": _expression(5),
}

# ---- every member of a length ----


def members(name: str, alphabet: str, n: int) -> Iterator[str]:
    """All of them: by trying every string, or by putting them together where there would be too many to try."""
    if name in PUT_TOGETHER:
        return PUT_TOGETHER[name](n)
    return filter(MEMBER[name], map("".join, product(alphabet, repeat=n)))


def _words(symbols: str, n: int) -> Iterable[str]:
    return map("".join, product(symbols, repeat=n))


def _ordered_blocks(n: int) -> Iterator[str]:
    for cuts in combinations(range(1, n), 4):
        bounds = (0, *cuts, n)
        yield "".join(symbol * (bounds[i + 1] - bounds[i]) for i, symbol in enumerate("abcde"))


def _ab_d_bc(n: int) -> Iterator[str]:
    for i in range(n):
        for before in _words("ab", i):
            yield from (before + "d" + after for after in _words("bc", n - 1 - i))


def _last_zero(n: int) -> Iterator[str]:
    for twos in range(n):
        yield from (before + "0" + "2" * twos for before in _words("012", n - 1 - twos))


def _dyck(n: int, pair: str) -> Iterator[str]:
    """The first bracket, what is inside of it, and what follows."""
    if n == 0:
        yield ""
    for inside in range(0, n - 1, 2) if n % 2 == 0 else ():
        for within in _dyck(inside, pair):
            yield from (pair[0] + within + pair[1] + rest for rest in _dyck(n - 2 - inside, pair))


def _shuffles(n: int) -> Iterator[str]:
    for size in range(0, n + 1, 2) if n % 2 == 0 else ():
        others = list(_dyck(n - size, "[]"))
        for one in _dyck(size, "()"):
            for places in combinations(range(n), size):
                for other in others:
                    left, right, inside = iter(one), iter(other), set(places)
                    yield "".join(next(left) if i in inside else next(right) for i in range(n))


def _equal_blocks(symbols: str) -> Callable[[int], Iterator[str]]:
    return lambda n: iter(
        ["".join(s * (n // len(symbols)) for s in symbols)] if n > 0 and n % len(symbols) == 0 else []
    )


def _expressions(most: int) -> Callable[[int], Iterator[str]]:
    def lists(count: int, n: int) -> Iterator[str]:
        """`count` expressions one behind the other, of n symbols in all."""
        if count == 0:
            yield from [""] if n == 0 else []
            return
        for first in range(1, n - count + 2):
            for head in one(first):
                yield from (head + tail for tail in lists(count - 1, n - first))

    def one(n: int) -> Iterator[str]:
        for symbol, arity in ARITIES.items():
            if arity <= most and n >= 1:
                yield from (symbol + arguments for arguments in lists(arity, n - 1))

    return one


PUT_TOGETHER: dict[str, Callable[[int], Iterator[str]]] = {
    "ordered_blocks": _ordered_blocks,
    "ab_d_bc": _ab_d_bc,
    "last_zero": _last_zero,
    "shuffle_dyck_2": _shuffles,
    "a_n_b_n_c_n": _equal_blocks("abc"),
    "a_n_b_n_c_n_d_n": _equal_blocks("abcd"),
    "boolean_3": _expressions(3),
    "boolean_5": _expressions(5),
}

# ---- how many members there are ----


def catalan(m: int) -> int:
    return comb(2 * m, m) // (m + 1)


def _even(count: Callable[[int], int]) -> Callable[[int], int]:
    return lambda n: count(n // 2) if n % 2 == 0 else 0


def _fibonacci(n: int) -> int:
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def _tribonacci(n: int) -> int:
    counts = [1, 2, 4]
    while len(counts) <= n:
        counts.append(sum(counts[-3:]))
    return counts[n]


# Closed forms, some with their number in the On-Line Encyclopedia of Integer Sequences.
COUNT: dict[str, Callable[[int], int]] = {
    "tomita_1": lambda n: 1,
    "tomita_2": _even(lambda m: 1),
    "tomita_4": _tribonacci,  # A000073
    "tomita_5": lambda n: 1 if n == 0 else 2 ** (n - 1) if n % 2 == 0 else 0,
    "tomita_6": lambda n: sum(comb(n, k) for k in range(n + 1) if (n - 2 * k) % 3 == 0),
    "tomita_7": lambda n: sum(comb(n, k) for k in range(4)),  # the cake numbers, A000125
    "dyck_depth_2": _even(lambda m: 2 ** max(m - 1, 0)),
    "dyck_depth_3": _even(lambda m: 1 if m == 0 else _fibonacci(2 * m - 1)),  # A001519
    "dyck_depth_4": _even(lambda m: 1 if m == 0 else (3 ** (m - 1) + 1) // 2),  # A007051
    "dyck_depth_12": _even(lambda m: catalan(m) if m <= 12 else catalan(13) - 1),  # to 26: only 13 deep is forbidden
    "ordered_blocks": lambda n: comb(n - 1, 4) if n else 0,
    "ab_d_bc": lambda n: n * 2 ** (n - 1) if n else 0,  # A001787
    "last_zero": lambda n: (3**n - 1) // 2,  # A003462
    "aa_star": _even(lambda m: 1),
    "aaaa_star": lambda n: int(n % 4 == 0),
    "abab_star": lambda n: int(n % 4 == 0),
    "dyck_1": _even(catalan),  # A000108
    "shuffle_dyck_2": _even(lambda m: catalan(m) * catalan(m + 1)),  # A005568
    "a_n_b_n": lambda n: int(n > 0 and n % 2 == 0),
    "a_n_b_n_c_n": lambda n: int(n > 0 and n % 3 == 0),
    "a_n_b_n_c_n_d_n": lambda n: int(n > 0 and n % 4 == 0),
}

# ---- streaming: what may come next, symbol by symbol ----


def labels(name: str, x: Iterable[str]) -> Iterator[str]:
    """For each prefix of a member, the empty one first: the symbols that may come next, and $ if it may end."""
    return STREAM[name](iter(x))


def _fixed(word: str, alphabet: str) -> Callable:
    def read(x: Iterator[str]) -> Iterator[str]:
        place = 0
        yield word[0] + END
        for symbol in x:
            assert symbol == word[place]
            place = (place + 1) % len(word)
            yield word[place] + (END if place == 0 else "")

    return read


def _read_tomita_3(x: Iterator[str]) -> Iterator[str]:
    ones = zeros = 0  # of the last run of each, while it lasts or is followed by the other
    yield "01" + END
    for symbol in x:
        if symbol == "1":
            assert not (ones % 2 and zeros % 2)
            ones, zeros = (1, 0) if zeros else (ones + 1, 0)
        else:
            zeros += 1
        yield "0" if ones % 2 and zeros % 2 else "01" + END


def _read_tomita_4(x: Iterator[str]) -> Iterator[str]:
    zeros = 0
    yield "01" + END
    for symbol in x:
        zeros = zeros + 1 if symbol == "0" else 0
        assert zeros < 3
        yield "1" + END if zeros == 2 else "01" + END


def _counted(accepts: Callable[[int, int], bool]) -> Callable:
    def read(x: Iterator[str]) -> Iterator[str]:
        zeros = ones = 0
        yield "01" + END
        for symbol in x:
            zeros, ones = zeros + (symbol == "0"), ones + (symbol == "1")
            yield "01" + (END if accepts(zeros, ones) else "")

    return read


def _read_tomita_7(x: Iterator[str]) -> Iterator[str]:
    changes, last = 0, "0"
    yield "01" + END
    for symbol in x:
        changes, last = changes + (symbol != last), symbol
        assert changes <= 3
        yield "1" + END if changes == 3 else "01" + END


def _depths(most: int) -> Callable:
    def read(x: Iterator[str]) -> Iterator[str]:
        depth = 0
        yield "a" + END
        for symbol in x:
            depth += 1 if symbol == "a" else -1
            assert 0 <= depth <= most
            yield "a" + END if depth == 0 else "b" if depth == most else "ab"

    return read


def _read_ordered_blocks(x: Iterator[str]) -> Iterator[str]:
    last = ""
    yield "a"
    for symbol in x:
        assert symbol == "a" if not last else symbol in (last, chr(ord(last) + 1))
        last = symbol
        yield "e" + END if last == "e" else last + chr(ord(last) + 1)


def _read_ab_d_bc(x: Iterator[str]) -> Iterator[str]:
    past = False
    yield "abd"
    for symbol in x:
        assert symbol in ("bc" if past else "abd")
        past |= symbol == "d"
        yield "bc" + END if past else "abd"


def _read_last_zero(x: Iterator[str]) -> Iterator[str]:
    last = "1"
    yield "012"
    for symbol in x:
        last = last if symbol == "2" else symbol
        yield "012" + (END if last == "0" else "")


def _read_brackets(*pairs: str) -> Callable:
    def read(x: Iterator[str]) -> Iterator[str]:
        depths = dict.fromkeys(pairs, 0)
        yield from [_may_follow(depths)]
        for symbol in x:
            pair = next(pair for pair in pairs if symbol in pair)
            depths[pair] += 1 if symbol == pair[0] else -1
            assert depths[pair] >= 0
            yield _may_follow(depths)

    return read


def _may_follow(depths: dict[str, int]) -> str:
    symbols = "".join(pair[0] + (pair[1] if depth else "") for pair, depth in depths.items())
    return symbols + ("" if any(depths.values()) else END)


def _read_equal_blocks(symbols: str) -> Callable:
    def read(x: Iterator[str]) -> Iterator[str]:
        counts = dict.fromkeys(symbols, 0)
        yield symbols[0]
        for symbol in x:
            counts[symbol] += 1
            place = symbols.index(symbol)
            whole, here = counts[symbols[0]], counts[symbol]
            assert all(counts[each] == whole for each in symbols[:place])
            assert not any(counts[each] for each in symbols[place + 1 :])
            if place == 0:
                yield symbols[:2]
            elif here < whole:
                yield symbol
            else:
                assert here == whole
                yield symbols[place + 1] if place + 1 < len(symbols) else END

    return read


def _read_expressions(most: int) -> Callable:
    symbols = "".join(symbol for symbol, arity in ARITIES.items() if arity <= most)

    def read(x: Iterator[str]) -> Iterator[str]:
        missing = 1
        yield symbols
        for symbol in x:
            assert missing > 0
            missing += ARITIES[symbol] - 1
            yield symbols if missing else END

    return read


STREAM: dict[str, Callable[[Iterator[str]], Iterator[str]]] = {
    "tomita_1": _fixed("1", "01"),
    "tomita_2": _fixed("10", "01"),
    "tomita_3": _read_tomita_3,
    "tomita_4": _read_tomita_4,
    "tomita_5": _counted(lambda zeros, ones: zeros % 2 == ones % 2 == 0),
    "tomita_6": _counted(lambda zeros, ones: (zeros - ones) % 3 == 0),
    "tomita_7": _read_tomita_7,
    **{name: _depths(depth) for name, depth in DEPTHS.items()},
    "ordered_blocks": _read_ordered_blocks,
    "ab_d_bc": _read_ab_d_bc,
    "last_zero": _read_last_zero,
    "aa_star": _fixed("aa", "a"),
    "aaaa_star": _fixed("aaaa", "a"),
    "abab_star": _fixed("abab", "ab"),
    "dyck_1": _read_brackets("()"),
    "shuffle_dyck_2": _read_brackets("()", "[]"),
    "a_n_b_n": _read_equal_blocks("ab"),
    "a_n_b_n_c_n": _read_equal_blocks("abc"),
    "a_n_b_n_c_n_d_n": _read_equal_blocks("abcd"),
    "boolean_3": _read_expressions(3),
    "boolean_5": _read_expressions(5),
}
