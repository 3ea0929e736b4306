"""The interpreter against the definition, position by position; and as a stream."""

import numpy as np
import pytest
from crasp_oracle import program_texts, values
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import lengen_fast as lf

parse = lf.theory.parse
strings = st.lists(st.integers(0, 4), max_size=14)


@given(program_texts(), strings, st.integers(0, 50))
@hypothesis_settings(max_examples=200)
def test_values_are_those_of_the_definition(text, tokens, offset):
    program = parse(text)
    found = program.run(np.array(tokens, dtype=np.int64), offset)
    for name, expected in values(program, tokens, offset).items():
        assert found[name].tolist() == expected


@given(program_texts(), st.lists(strings, min_size=1, max_size=4), st.lists(st.integers(0, 6), max_size=6), st.data())
@hypothesis_settings(max_examples=100)
def test_any_batch_and_any_stretches_give_the_same(text, batch, cuts, data):
    program = parse(text)
    length = max(map(len, batch))
    tokens = np.array([row + [0] * (length - len(row)) for row in batch], dtype=np.int64).reshape(len(batch), length)
    offsets = np.array(data.draw(st.lists(st.integers(0, 9), min_size=len(batch), max_size=len(batch))))
    whole = program.run(tokens, offsets)
    stream = program.stream(len(batch), offsets)
    parts = [stream.feed(part) for part in np.split(tokens, sorted(cuts), axis=1)]
    for name, expected in whole.items():
        assert (np.concatenate([part[name] for part in parts], axis=1) == expected).all()
        for row, (string, offset) in enumerate(zip(batch, offsets, strict=True)):
            alone = program.run(np.array(string, dtype=np.int64), int(offset))[name]
            assert (alone == expected[row, : len(string)]).all()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_nothing_gives_nothing(shape):
    program = parse("alphabet a\nNEXT_a := exists[j = i - 2] Q_a and #Q_a > 3")
    assert program.run(np.zeros(shape, np.int64))["NEXT_a"].shape == shape
    assert program.legal(np.zeros(shape, np.int64)).shape == (*shape, 2)


def test_a_million_tokens_in_stretches(monkeypatch):
    program = parse("alphabet a b\nLEAD := #Q_a - #Q_b\nOLD := #[j = i - 4096] Q_a\nNEXT_a := LEAD + OLD >= 1000")
    tokens = np.random.default_rng(0).integers(0, 2, 1_000_000)
    lead = np.cumsum(1 - 2 * tokens)
    old = np.concatenate([np.zeros(4096, np.int64), 1 - tokens[:-4096]])
    assert (program.run(tokens)["NEXT_a"] == (lead + old >= 1000)).all()


def test_counts_are_outputs_too():
    program = parse("alphabet a b\nC := 3 * #Q_a - 1")
    assert program.run(program.encode("a b a"))["C"].tolist() == [2, 2, 5]


def test_memory_of_a_stream_does_not_grow(memory_growth):
    setup = """
        import numpy as np
        import lengen_fast as lf
        program = lf.theory.parse("alphabet a b\\nNEXT_a := exists[j = i - 3] Q_a and #Q_a > #Q_b")
        stream, part = program.stream(), np.zeros(1 << 16, np.int64)
        stream.feed(part)
    """
    assert memory_growth(setup, "for _ in range(50): stream.feed(part)") < 2 << 20


@pytest.mark.parametrize(
    ("call", "error", "what"),
    [
        (lambda p: p.run([0, 5]), ValueError, "0..3"),
        (lambda p: p.run([-1]), ValueError, "0..3"),
        (lambda p: p.run([0.5]), TypeError, "whole numbers"),
        (lambda p: p.run([[[0]]]), ValueError, r"\[T\] or \[B, T\]"),
        (lambda p: p.run([0], offset=-1), ValueError, "must not be negative, got -1"),
        (lambda p: p.run([0], offset=[1, 2]), ValueError, "one for each of 1 strings"),
        (lambda p: p.stream(2).feed([0]), ValueError, r"\[2, T\]"),
        (lambda p: p.stream().feed([[0]]), ValueError, r"\[T\]"),
        (lambda p: p.encode("a x"), ValueError, "'x' is no token"),
    ],
)
def test_bad_input(call, error, what):
    with pytest.raises(error, match=what):
        call(parse("alphabet a\nNEXT_a := true"))


def test_numbers_beyond_64_bits_are_refused():
    program = parse(f"alphabet a\nNEXT_a := {2**60} * #Q_a >= 3")
    assert program.run([0, 0])["NEXT_a"].tolist() == [True, True]
    with pytest.raises(ValueError, match="beyond numbers of 64 bits"):
        program.run([0] * 8)
