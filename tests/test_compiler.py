"""Compiled programs: the model says what the interpreter says, up to the guaranteed length and in every order."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from crasp_oracle import program_texts
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from test_crasp_library import PAIRS, SOLVED, Words

import lengen_fast as lf
from lengen_fast.ops import attention_op
from lengen_fast.tasks import DISTRIBUTIONS
from lengen_fast.theory import compiler, standard
from lengen_fast.theory.compiler import precision
from lengen_fast.theory.compiler.circuit import Circuit, Form, Gate, Source, Union, after_attention, after_mlp
from lengen_fast.theory.compiler.layout import Layout
from lengen_fast.theory.compiler.lowering import lower
from lengen_fast.theory.compiler.verification import differences, hard_strings
from lengen_fast.theory.crasp import bridge

parse = lf.theory.parse
COUNTING = "alphabet a b\nNEXT_a := #Q_a < #Q_b\nNEXT_b := #Q_b < #Q_a\nNEXT_<end> := #Q_a = #Q_b"


def library(name):
    return standard.program(name, list("vwxyz") if standard.is_template(standard.source(name)) else None)


def values(program, model, tokens, offsets):
    """[B, T, S + 1] logits of the symbols that NEXT lines predict."""
    rows, length = tokens.shape
    packing = lf.ops.Packing.uniform(rows, length)
    with torch.no_grad():
        found = model(torch.from_numpy(tokens).flatten(), cu_seqlens=packing, offsets=torch.from_numpy(offsets))
    return found.view(rows, length, -1)[..., [program.token(s) for s in program.next_symbols]].double().numpy()


def random_strings(program, rows, length, generator):
    """[B, T] tokens that begin with BOS, symbols and <sep> behind it."""
    symbols = len(program.alphabet)
    tokens = generator.integers(0, symbols + 1, (rows, length))
    tokens[tokens == symbols] = program.token("<sep>")
    tokens[:, 0] = program.token("<bos>")
    return tokens


# ---- any program ----


@given(program_texts(), st.integers(0, 2**32 - 1), st.sampled_from([torch.float32, torch.float64]))
@hypothesis_settings(max_examples=120)
def test_random_programs(text, seed, dtype):
    program = parse(text)
    model = program.compile(64, dtype)
    assert model.guarantee.tokens >= 64
    generator = np.random.default_rng(seed)
    tokens = random_strings(program, 8, int(generator.integers(1, 40)), generator)
    offsets = generator.integers(0, 50, 8)
    found = values(program, model, tokens, offsets)
    assert (found == program.legal(tokens, offsets)).all()


@pytest.mark.parametrize(
    "line",
    [
        "exists[j <= i, j = i - 1] Q_<bos>",
        "exists[j <= i, j = i - 3] not Q_a",
        "exists[j <= i, j = i - 2] (position mod 2 = 0)",
        "not exists[j <= i, j = i - 2] true",
        "#[j <= i, i - j in {0, 1, 4}] (Q_a or Q_<bos>) >= 2",
        "exists[j <= i, j = i - 1] exists[j <= i, j = i - 2] exists (Q_<bos> or Q_b)",
        "#true = 5",
        "#(not Q_a) < #Q_a + 2",
        "#[j <= i, j = i - 1] Q_a + #Q_b = 3",
        "(Q_a ? #Q_a : #Q_b) > 2",
        "(Q_a ? #Q_a - #Q_b : (Q_b ? 2 * #Q_b : 7)) >= (exists Q_a ? 3 : #Q_b)",
        "#Q_a - (Q_a ? 1 : 0) >= 1",
        "3 * #Q_a - 2 * #Q_b = 4",
        "any(s in SIGMA: Q_s and exists (Q_b and exists[j <= i, j = i - 1] Q_s))",
        "any(s in SIGMA: Q_s and exists (Q_b and exists[j <= i, j = i - 1] not Q_s))",
        "any(s in SIGMA: Q_s and exists (Q_<bos> and exists[j <= i, j = i - 0] Q_s))",
        "position mod 3 = 1 and not position mod 2 = 1 or REL(4, 2)",
    ],
)
def test_what_needs_care(line):
    program = parse(f"alphabet a b\nNEXT_a := {line}\nNEXT_b := not ({line})")
    generator = np.random.default_rng(0)
    for dtype in (torch.float32, torch.float64):
        model = program.compile(50, dtype)
        tokens = random_strings(program, 24, 30, generator)
        offsets = np.arange(24)
        assert (values(program, model, tokens, offsets) == program.legal(tokens, offsets)).all()


# ---- the standard library ----


@pytest.mark.parametrize("name", standard.names())
@pytest.mark.parametrize(("dtype", "length"), [(torch.float32, 700), (torch.float64, 300)])
def test_standard_programs_in_every_order(name, dtype, length):
    program = library(name)
    model = program.compile(length, dtype)
    assert model.guarantee.layers >= program.depth
    assert model.guarantee.tokens >= length
    found = compiler.verify(program, model, length, strings=8)
    assert (found.wrong, found.first_wrong, found.tokens) == (0, None, 8 * length)


@pytest.mark.parametrize("name", ["dyck_1", "shuffle_dyck_2", "a_n_b_n"])
def test_sixteen_thousand_tokens_rising_then_falling(name):
    program = library(name)
    model = program.compile(16_384)
    blocks = np.arange(16_383) * len(program.alphabet) // 16_383
    tokens = np.concatenate([[program.token("<bos>")], blocks])
    assert not differences(program, model, tokens).any()


@pytest.mark.parametrize("name", ["dyck_1", "tomita_4", "unique_copy"])
def test_the_kernels_of_a_gpu_are_exact_too(name, device):
    """Counting, local and matching heads in the Triton kernels, interpreted where there is no GPU."""
    pytest.importorskip("triton")
    program = library(name)
    model = program.compile(5000).to(device)
    with attention_op.launchers_on_cpu():
        assert compiler.verify(program, model, 40, strings=2).wrong == 0


@pytest.mark.parametrize("name", ["abab_star", "binary_majority_interleave", "aaaa_star"])
def test_every_offset_of_a_period(name):
    program = library(name)
    model = program.compile(200)
    tokens = random_strings(program, 24, 60, np.random.default_rng(0))
    offsets = np.arange(24) * 7
    assert set(offsets % program.period) == set(range(program.period))
    assert (values(program, model, tokens, offsets) == program.legal(tokens, offsets)).all()


@pytest.mark.parametrize("name", SOLVED)
def test_a_model_for_a_task_is_evaluated_like_a_trained_one(name):
    task = lf.task(name)
    task = lf.task(name, symbols=20) if task.alphabet_grows else task
    longest = min(60, task.max_length)
    model = bridge.program_for(task).compile(task.tokens_at(longest), task=task)
    assert model.guarantee.width < 120 or name == "majority"  # no coordinate for every pair of symbols
    for distribution in getattr(task, "distributions", DISTRIBUTIONS):
        lengths = [(task.min_length, longest)]
        table = lf.evaluate(model, task, lengths, count=50, distribution=distribution, offsets="random")
        assert table.lines[0].exact == 1.0


@pytest.mark.parametrize("distribution", ["paper", "hard"])
def test_a_count_of_a_hundred_thousand(distribution):
    task, lengths = lf.task("binary_majority"), [1000, 16_384, 131_072]
    model = bridge.program_for(task).compile(task.tokens_at(lengths[-1]), task=task)
    table = lf.evaluate(model, task, lengths, count=4, distribution=distribution)
    assert [line.exact for line in table] == [1.0] * 3


@pytest.mark.parametrize("labels", ["legal+end", "legal", "membership"])
def test_a_language_gets_the_class_of_its_legal_set(labels):
    task = Words(labels)
    model = parse(PAIRS).compile(10, task=task)
    predicted = model(torch.tensor([7, 0, 1, 0, 1])).argmax(-1)
    wanted = {"legal+end": "{a,$} {b}", "legal": "{a} {b}", "membership": "{in} {out}"}[labels].split()
    assert [task.symbols[i] for i in predicted] == [wanted[i % 2] for i in range(5)]


def test_a_class_wins_only_where_it_is_the_very_set():
    task = replace(Words(), symbols=("a", "b", "{}", "{a}", "{b}", "{a,b}", "{$}", "{a,$}", "{b,$}", "{a,b,$}"), eos=12)
    task = replace(task, vocab_size=13)
    text = "alphabet a b\nNEXT_a := position mod 2 = 1\nNEXT_b := position mod 4 in {2, 3}\n"
    model = parse(text + "NEXT_<end> := position mod 8 >= 4".replace(">= 4", "in {4, 5, 6, 7}")).compile(10, task=task)
    predicted = model(torch.tensor([10, *[0] * 7])).argmax(-1)
    assert [task.symbols[i] for i in predicted] == list(task.symbols[2:])


# ---- the shape of the model ----


def test_a_compiled_model_declares_its_options():
    config = library("tomita_4").compile(100).config
    assert (config.positions, config.normalization, config.tied_embeddings) == ("nope", "none", False)
    assert (config.activation, config.local_reach, config.log_n_scaling) == ("relu", 3, True)
    config = library("abab_star").compile(100).config
    assert (config.positions, config.period, config.local_reach, config.longest) == ("ape", 4, 0, None)
    assert not library("dyck_1").compile(100).config.log_n_scaling


def test_counting_heads_have_constant_logits_and_local_heads_a_bounded_reach():
    model = library("tomita_4").compile(100)
    attention = model.blocks[0].attention
    queries, keys, _ = attention.qkv.weight.unflatten(0, (3, model.config.heads, -1))
    bias = attention.qkv.bias.unflatten(0, (3, model.config.heads, -1))[0]
    assert attention.local_bias.shape[1] == library("tomita_4").reach + 1
    counting = attention.local_bias.abs().sum(1) == 0
    assert counting.any()
    assert not counting.all()
    assert queries[counting].abs().sum() == bias[counting].abs().sum() == keys[counting].abs().sum() == 0


def test_one_layer_is_enough_for_a_guarded_comparison():
    guarantee = library("binary_majority").compile(100).guarantee
    assert (guarantee.layers, guarantee.heads, guarantee.depth, guarantee.counts) == (1, 1, 1, "differences")


@pytest.mark.parametrize(
    ("line", "layers"),
    [
        ("2 <= #Q_a - #Q_b <= 4 and Q_a", 1),  # an interval is the difference of two thresholds
        ("REL(4, 1)", 1),  # what held at <bos> is read there, and cases that exclude one another are added up
        ("Q_a or Q_b or Q_<bos>", 1),
        ("#(Q_a or Q_b) > 2", 1),
        ("exists Q_a or exists Q_b", 2),
        ("exists (Q_b and exists Q_a)", 2),
        ("exists[j <= i, j = i - 1] Q_a", 1),
    ],
)
def test_layers_beyond_the_counting_depth_are_few(line, layers):
    assert parse(f"alphabet a b\nNEXT_a := {line}").compile(10).guarantee.layers == layers


def test_layers_of_the_library():
    found = {name: library(name).compile(100).guarantee for name in standard.names()}
    assert all(g.depth <= g.layers <= g.depth + 1 for g in found.values())


def test_an_alphabet_of_many_symbols_is_matched_by_one_head():
    program = standard.program("unique_copy", [str(i) for i in range(60)])
    assert program.compile(123).guarantee.width < 300


# ---- the guarantee ----


def test_a_length_beyond_the_guarantee_is_refused_with_advice():
    program = parse("alphabet a b\nNEXT_a := 3 * #Q_a + 5 * #Q_b < #(Q_a or Q_b) + 1000 * #(Q_b and exists Q_a)")
    with pytest.raises(ValueError, match=r"guaranteed exact up to [\d,]+ tokens; dtype=torch.float64 reaches [\d,]+"):
        program.compile(1_000_000, torch.float32)
    assert program.compile(1_000_000, torch.float64).guarantee.tokens >= 1_000_000
    with pytest.raises(ValueError, match="the most in any dtype is"):
        program.compile(10**12)


def test_differences_go_farther_than_shared_counts():
    program = parse("alphabet 0..4\nfor v in SIGMA: NEXT_v := all(u in SIGMA where u != v: #Q_u < #Q_v)")
    near, far = program.compile(1000).guarantee, program.compile(1_000_000).guarantee
    assert (near.counts, far.counts) == ("shared", "differences")
    assert near.tokens < 1_000_000 <= far.tokens
    assert near.width < far.width


def compiled_with(program, differences, dtype):
    """The model of one layout, whatever is guaranteed, and its guarantee."""
    from lengen_fast.theory.compiler import readout, weights
    from lengen_fast.theory.compiler.layout import Truth

    circuit, literals = lower(program)
    layout = Layout(circuit, list(literals.values()), differences)
    names = readout.token_names(program, None)
    logits = readout.logits(program, None, literals, Truth(circuit.true))
    model = weights.build(layout, precision.PRECISIONS[dtype], names, logits)
    return model, precision.guaranteed_length(layout, precision.PRECISIONS[dtype])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_shared_counts_fail_beyond_their_guarantee_and_differences_do_not(dtype):
    program = parse(COUNTING)
    tie = np.concatenate([[program.token("<bos>")], np.arange(16_383) % 2])
    model, guaranteed = compiled_with(program, False, dtype)
    wrong = differences(program, model, tie)
    assert wrong.any()
    assert wrong.argmax() + 1 > guaranteed >= 7
    model, guaranteed = compiled_with(program, True, dtype)
    assert guaranteed >= 16_384
    assert not differences(program, model, tie).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shared", [True, False])
def test_all_pairs_of_counts_up_to_the_guarantee(dtype, shared):
    """Every (#a, #b) of a string short enough, in the order that rises and falls."""
    program = parse(COUNTING)
    model, guaranteed = compiled_with(program, not shared, dtype)
    length = min(guaranteed, 48)
    for first in range(length):
        tokens = np.array([program.token("<bos>"), *[0] * first, *[1] * (length - 1 - first)])
        assert not differences(program, model, tokens).any()


def test_near_ties_of_a_hundred_thousand_in_shared_counts():
    """Chosen rows of a long string, so that nothing quadratic is computed."""
    program = parse(COUNTING)
    model, guaranteed = compiled_with(program, False, torch.float32)
    length = 131_072
    assert guaranteed > length
    for body in (np.arange(length - 1) % 2, np.arange(length - 1) >= length // 2):
        tokens = np.concatenate([[program.token("<bos>")], body.astype(np.int64)])
        rows = torch.arange(length - 20, length)
        with torch.no_grad():
            found = model(torch.from_numpy(tokens), rows=rows)
        wanted = program.legal(tokens)[rows.numpy()]
        columns = [program.token(s) for s in program.next_symbols]
        assert (found[:, columns].numpy() == wanted).all()


def test_a_mean_that_is_summed_with_weights_has_an_error_that_grows():
    double = precision.PRECISIONS[torch.float64]
    assert double.mean_error(1).growing == 2.0**-53
    assert precision.PRECISIONS[torch.float32].mean_error(2).growing == 0
    margin = precision.Margin(error=double.mean_error(2), relative=0.0, beside=1.0, one_sign=False)
    assert margin.holds(10**7)
    assert not margin.holds(10**8)


def test_integers_that_do_not_fit_the_dtype_are_not_guaranteed():
    program = parse("alphabet 0..149\nNEXT_0 := any(s in SIGMA: Q_s)")
    with pytest.raises(ValueError, match="in bfloat16 the model is guaranteed exact up to 0 tokens"):
        program.compile(1, torch.bfloat16)
    assert program.compile(100, torch.float16).guarantee.tokens > 100


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: p.compile(0), ValueError, "max_length is 0"),
        (lambda p: p.compile(2.5), TypeError, "max_length"),
        (lambda p: p.compile(5, torch.int8), ValueError, "dtype must be one of torch.bfloat16"),
        (lambda p: p.compile(5, "float23"), ValueError, "dtype must be one of .* or its name, got 'float23'"),
        (lambda p: p.compile(5, task="parities"), ValueError, "there is no task 'parities'"),
        (lambda p: p.compile(5, task=7), TypeError, "task is 7; it must be a task"),
        (lambda p: compiler.verify(p, p.compile(5), 0), ValueError, "length is 0"),
        (lambda p: p.compile(5, task=lf.task("majority")), ValueError, "has not the alphabet of task majority"),
        (lambda p: parse("alphabet a\nX := Q_a").compile(5), ValueError, "predicts nothing"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(parse(COUNTING))


def test_a_dtype_and_a_task_may_be_named():
    assert parse(COUNTING).compile(5, "float64").guarantee.dtype == "float64"
    program, task = standard.program("binary_majority"), lf.task("binary_majority")
    assert program.compile(9, task="binary_majority").config == program.compile(9, task=task).config


def test_too_wide_a_model_is_refused(monkeypatch):
    from lengen_fast.theory.compiler import layout

    monkeypatch.setattr(layout, "MOST_COORDINATES", 5)
    with pytest.raises(ValueError, match="too large to compile"):
        parse(COUNTING).compile(5)


def test_more_symbols_than_a_head_is_wide_are_refused(monkeypatch):
    from lengen_fast.theory.compiler import weights

    monkeypatch.setattr(weights, "WIDEST", 8)
    with pytest.raises(ValueError, match="matches 8 pairs of symbols, and a head of width 8 holds 7"):
        standard.program("unique_copy", list("abcdefg")).compile(10)


def test_too_long_a_period_is_refused():
    many = " or ".join(f"position mod {period} = 0" for period in (64, 81, 25, 49))
    with pytest.raises(ValueError, match="common period of the positions is 6,350,400"):
        parse(f"alphabet a\nNEXT_a := {many}").compile(10)


# ---- circuits ----


def test_times_count_half_layers():
    assert [after_attention(t) for t in range(5)] == [1, 3, 3, 5, 5]
    assert [after_mlp(t) for t in range(5)] == [2, 2, 4, 4, 6]


def test_conjunctions_are_simplified():
    circuit = Circuit()
    a, b = (circuit.add(Source("token", name)) for name in "ab")
    count = Form(counts=((1, a),))
    assert circuit.conjunction([]) == circuit.true
    assert circuit.conjunction([a, circuit.true, a]) == a
    assert circuit.conjunction([a, ~a]) == circuit.false
    assert circuit.disjunction([a, ~a]) == circuit.true
    assert circuit.bound(count, 0, None) == circuit.true
    assert circuit.bound(count, None, -1) == circuit.false
    assert circuit.bound(count, None, 2) == ~circuit.bound(count, 3, None)
    both = circuit.conjunction([circuit.bound(count, 2, None), circuit.bound(count, None, 5), b])
    assert circuit.signals[both] == Gate((b,), count, 2, 5)
    assert circuit.conjunction([circuit.bound(count, 6, None), both]) == circuit.false


def test_disjunctions_of_what_excludes_one_another_are_sums():
    circuit = Circuit()
    a, b = (circuit.add(Source("token", name)) for name in "ab")
    even, odd, third = (circuit.add(Source("position", p)) for p in ((2, (0,)), (2, (1,)), (3, (0,))))
    count = Form(counts=((1, a),))
    few, many = circuit.bound(count, None, 2), circuit.bound(count, 5, None)
    for literals in ((a, b), (even, odd), (a, circuit.conjunction((b, even)))):
        union = circuit.disjunction(literals)
        assert circuit.signals[union] == Union(tuple(sorted(literals)))
        assert circuit.time(union) == max(map(circuit.time, literals))
    for literals in ((even, third), (a, even), (a, ~b)):
        assert not isinstance(circuit.signals[~circuit.disjunction(literals)], Union)
    one, two = circuit.conjunction((a, few)), circuit.conjunction((b, even))
    assert isinstance(circuit.signals[circuit.disjunction((one, two))], Union)
    assert circuit.disjunction((few, many)) == ~circuit.bound(count, 3, 4)


def test_what_can_hold_at_the_first_position_only_is_read_there():
    circuit = Circuit()
    even = circuit.add(Source("position", (2, (0,))))
    assert circuit.at_first_position(circuit.bos) == circuit.true
    assert circuit.at_first_position(circuit.conjunction((circuit.bos, even))) == even
    assert circuit.at_first_position(circuit.conjunction((circuit.bos, ~even))) == ~even
    assert circuit.at_first_position(even) is None


# ---- verification and files ----


def test_verification_finds_a_wrong_model():
    program = parse(COUNTING)
    model = program.compile(100)
    with torch.no_grad():
        model.blocks[0].mlp.expand.bias += 0.03  # takes ties for a lead from 1 / 0.06 tokens on
    found = compiler.verify(program, model, 100, strings=4)
    assert found.wrong > 0
    assert 1 < found.first_wrong < 100


def test_hard_strings_hold_every_symbol_and_separators():
    program = library("binary_majority")
    strings = [x for x, _ in zip(hard_strings(program, 50, np.random.default_rng(0)), range(8), strict=False)]
    assert all(len(x) == 50 and x[0] == program.token("<bos>") for x in strings)
    assert [np.isin(program.token("<sep>"), x).item() for x in strings] == [False] * 4 + [True] * 4
    assert all({0, 1} <= set(x.tolist()) for x in strings)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_file_holds_weights_guarantee_and_program(dtype, tmp_path):
    program = library("abab_star")
    model = program.compile(100, dtype)
    compiler.save(model, program, tmp_path / "abab.safetensors")
    again, text = compiler.load(tmp_path / "abab.safetensors")
    assert again.guarantee == model.guarantee
    assert str(text) == str(program)
    assert all(torch.equal(x, y) for x, y in zip(model.parameters(), again.parameters(), strict=True))
    assert compiler.verify(text, again, 100).wrong == 0


def test_other_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    for content, message in ((b"nothing", "cannot be read"), (None, "is no compiled program")):
        if content is None:
            save_file({"x": torch.zeros(1)}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(lf.RunError, match=message):
            compiler.load(path)
    with pytest.raises(lf.RunError, match="cannot be read"):
        compiler.load(tmp_path / "nowhere")
