"""The text of C-RASP: what is read, what is refused and where, and what the checker says of a program."""

import pytest
from crasp_oracle import program_texts
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import lengen_fast as lf
from lengen_fast.theory.crasp import CraspError, syntax

parse = lf.theory.parse
SYMBOLS = st.one_of(
    st.sampled_from(
        ["'", '"', "it's", "'\"", "<a>", "<1>", "<<", "1a", "a_b", "not", "in", "..", "(", "#", "é", "u", "007"]
    ),
    st.text(st.sampled_from("'\"<>_a1#,-("), min_size=1, max_size=4),
)


def lines(text, **options):
    return {line.name: syntax.show(line.expression) for line in parse(text, **options).lines}


def test_a_program_is_an_alphabet_and_lines():
    program = parse("# a comment\nalphabet a b  # another\n\nC := #Q_a\n   # indented\nNEXT_a := C >= 2\n")
    assert program.alphabet == ("a", "b")
    assert program.vocabulary == ("a", "b", "<bos>", "<sep>", "<eos>")
    assert [line.name for line in program.lines] == ["C", "NEXT_a"]
    assert [line.is_count for line in program.lines] == [True, False]
    assert program.lines[1].place == (6, 1)
    assert program.outputs == ("NEXT_a",)


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("Q_a", "Q_a"),
        ("not Q_a and Q_b or true", "not Q_a and Q_b or true"),
        ("(Q_a or Q_b) and Q_a", "(Q_a or Q_b) and Q_a"),
        ("#Q_a < 2", "#[j <= i] Q_a + 1 <= 2"),
        ("#Q_a = 2", "#[j <= i] Q_a <= 2 and 2 <= #[j <= i] Q_a"),
        ("#Q_a != 2", "not (#[j <= i] Q_a <= 2 and 2 <= #[j <= i] Q_a)"),
        ("1 <= #Q_a <= 2", "1 <= #[j <= i] Q_a and #[j <= i] Q_a <= 2"),
        ("exists Q_a", "1 <= #[j <= i] Q_a"),
        ("exists[j <= i, j = i - 1] Q_a", "1 <= #[j <= i, j = i - 1] Q_a"),
        ("not exists (Q_a and Q_b)", "not 1 <= #[j <= i] (Q_a and Q_b)"),
        ("2 * #Q_a - #Q_b + 3 - #Q_b >= 0", "0 <= 2 * #[j <= i] Q_a - 2 * #[j <= i] Q_b + 3"),
        ("#Q_a - #Q_a >= 0", "0 <= 0"),
        ("-#Q_a * 2 + 1 >= 0", "0 <= -2 * #[j <= i] Q_a + 1"),
        ("(Q_a ? #Q_b : 2) >= 1", "1 <= (Q_a ? #[j <= i] Q_b : 2)"),
        ("position mod 4 in {1, 6}", "position mod 4 in {1, 2}"),
        ("position mod 3 != 1", "position mod 3 in {0, 2}"),
        ("any(s in SIGMA: Q_s)", "Q_a or Q_b"),
        ("all(s in SIGMA: not exists Q_s)", "not 1 <= #[j <= i] Q_a and not 1 <= #[j <= i] Q_b"),
        ("sum(s in SIGMA: #Q_s) >= sum(k in 0..2: k)", "3 <= #[j <= i] Q_a + #[j <= i] Q_b"),
        ("any(s in SIGMA where s != a: Q_s)", "Q_b"),
        ("any(s in SIGMA where s != s: Q_s)", "false"),
        ("REL(1, 0)", "1 <= #[j <= i] (Q_<bos> and position mod 1 = 0) and position mod 1 = 0"),
    ],
)
def test_sugar_means_what_the_paper_has(written, means):
    assert lines(f"alphabet a b\nX := {written}")["X"] == means


@pytest.mark.parametrize(
    ("relation", "distances"),
    [
        ("j <= i", None),
        ("i >= j", None),
        ("j <= i, j >= 0 + j - 0 - i + i", None),
        ("j = i - 1", (1,)),
        ("j <= i, j = i - 1", (1,)),
        ("j + 2 = i", (2,)),
        ("i - j = 2", (2,)),
        ("j >= i, j <= i", (0,)),
        ("j <= i, i - 3 < j", (0, 1, 2)),
        ("j < i, i - j <= 2", (1, 2)),
        ("j <= i, i - j in {1, 3}", (1, 3)),
        ("j <= i, i - j in {1, 3}, j != i - 3", (1,)),
        ("j = i, j = i - 1", ()),
    ],
)
def test_a_local_relation_is_a_set_of_distances(relation, distances):
    if "0 + j" in relation:
        with pytest.raises(CraspError, match="depends on more than i - j"):
            parse(f"alphabet a\nX := #[{relation}] Q_a >= 1")
        return
    counting = parse(f"alphabet a\nX := #[{relation}] Q_a >= 1").lines[0].expression.right
    assert counting.distances == distances


def test_families_are_written_out_with_guards_and_arithmetic():
    text = """
    alphabet a b c
for s in SIGMA: C_s := #Q_s
for u, v in SIGMA where u < v: LESS_u_v := C_u < C_v
for v in SIGMA: AFTER_v := any(u in SIGMA where u = v - 1: Q_u)
for k in 0..1, s in {a, <sep>}: TURN_k_s := Q_s and position mod 2 = k + 1
NEXT_a := true
"""
    found = lines(text.replace("    alphabet", "alphabet"))
    assert [name for name in found if name.startswith("LESS")] == ["LESS_a_b", "LESS_a_c", "LESS_b_c"]
    assert [found[f"AFTER_{v}"] for v in "abc"] == ["false", "Q_a", "Q_b"]
    assert found["TURN_1_<sep>"] == "Q_<sep> and position mod 2 = 0"


def test_a_variable_hides_the_symbol_of_its_name_and_quotes_undo_that():
    found = lines("alphabet a u\nfor u in SIGMA: X_u := Q_u and not Q_'u'")
    assert found == {"X_a": "Q_a and not Q_u", "X_u": "Q_u and not Q_u"}


def test_symbols_that_are_no_words_are_quoted():
    program = parse("alphabet '(' ')' 10 <gap>\nNEXT_')' := Q_'(' and Q_10 or Q_<gap>\nfor s in SIGMA: X_s := Q_s")
    assert program.alphabet == ("(", ")", "10", "<gap>")
    assert program.outputs == ("NEXT_')'",)
    assert program.legal(program.encode("( )"))[:, 1].tolist() == [False, False]


@given(st.lists(SYMBOLS, min_size=1, max_size=4, unique=True))
@hypothesis_settings(max_examples=80)
def test_programs_over_any_symbols_are_printed_and_read_back(alphabet):
    text = "alphabet *\nfor s in SIGMA: B_s := exists[j <= i, j = i - 1] Q_s\nfor s in SIGMA: NEXT_s := Q_s or B_s"
    program = parse(text, alphabet)
    again = parse(str(program))
    assert again.alphabet == tuple(alphabet)
    assert again.lines == parse(str(again)).lines
    assert [(x.name, x.expression) for x in again.lines] == [(x.name, x.expression) for x in program.lines]
    assert again.next_names == program.next_names


def test_a_quoted_symbol_may_hold_a_quote():
    text = (
        'alphabet "it\'s" \'"\' "\'""" \'a\'\'b\'\nNEXT_"it\'s" := Q_\'"\' or Q_"\'"""\nfor s in {"it\'s"}: X_s := Q_s'
    )
    program = parse(text)
    assert program.alphabet == ("it's", '"', "'\"", "a", "b")
    assert program.outputs == ('NEXT_"it\'s"',)
    assert program.legal(program.encode(["it's", '"', "'\""]))[:, 0].tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("alphabet", "what"),
    [
        ([], "the alphabet is empty"),
        (["<bos>"], "<bos> is no symbol of an alphabet: every program has it"),
        (["<end>"], "<end> is no symbol of an alphabet"),
        (["a b"], "must be a text without spaces"),
        ([""], "must be a text without spaces"),
        ([7], "7 is no symbol of an alphabet"),
        (["a", "a"], "a symbol stands twice"),
    ],
)
def test_a_template_refuses_symbols_that_no_program_can_name(alphabet, what):
    with pytest.raises(CraspError, match=what):
        parse("alphabet *\nX := true", alphabet)


def test_end_is_another_name_of_eos():
    assert parse("alphabet a\nNEXT_<end> := Q_<end>").outputs == ("NEXT_<eos>",)


def test_a_template_takes_its_alphabet():
    text = "alphabet *\nfor s in SIGMA: NEXT_s := Q_s"
    assert parse(text, alphabet=["x", "10"]).outputs == ("NEXT_x", "NEXT_10")
    with pytest.raises(CraspError, match=r"alphabet=\[\.\.\.\]"):
        parse(text)
    with pytest.raises(CraspError, match="it cannot take x"):
        parse("alphabet a\nX := true", alphabet=["x"])


def test_a_range_of_numbers_as_alphabet():
    assert parse("alphabet 0..3 z\nX := Q_3").alphabet == ("0", "1", "2", "3", "z")


@given(program_texts())
@hypothesis_settings(max_examples=60)
def test_what_is_printed_is_read_back_as_the_same_lines(text):
    program = parse(text)
    again = parse(str(program))
    assert [(x.name, x.expression, x.is_count) for x in again.lines] == [
        (x.name, x.expression, x.is_count) for x in parse(str(again)).lines
    ]
    tokens = program.encode("<bos> a b b a <sep> a")
    assert (program.legal(tokens, 5) == again.legal(tokens, 5)).all()


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", (1, 1), "begins with its alphabet"),
        ("alphabet a", (1, 1), "at least one line"),
        ("X := true", (1, 1), "begins with its alphabet"),
        ("alphabet a a\nX := true", (1, 1), "stands twice"),
        ("alphabet <sep>\nX := true", (1, 1), "every program has it"),
        ("alphabet a b\nX := Q_a Q_b", (2, 10), "an operator or the end of the line expected, but there is 'Q_b'"),
        ("alphabet a\nX := (Q_a and", (2, 14), "an expression expected, but the line ends"),
        ("alphabet a\nX := # Q_a", (2, 11), "'# ' begins a comment"),
        ("alphabet a\nX := Q_a $", (2, 10), "has no meaning here"),
        ("alphabet a\nX = Q_a", (2, 3), ":= expected"),
        ("alphabet a\nX := true\n  Y := true", (3, 3), "an indented line goes on"),
        ("alphabet a\nX := Q_c", (2, 6), "c is no symbol of the alphabet: a <bos> <sep> <eos>"),
        ("alphabet a\nfor s in {a, c}: X_s := true", (2, 10), "c is no symbol"),
        ("alphabet a\nfor s in GAMMA: X_s := true", (2, 10), "there is no family GAMMA"),
        ("alphabet a\nfor i in SIGMA: X_i := true", (2, 5), "cannot be an index"),
        ("alphabet a\nfor s in SIGMA where Q_s: X_s := true", (2, 22), "a guard compares indices"),
        ("alphabet a\nX := Y", (2, 6), "Y is not defined"),
        ("alphabet a\nX := Y\nY := true", (2, 6), "not defined on an earlier line"),
        ("alphabet a\nX := X", (2, 6), "not defined on an earlier line"),
        ("alphabet a\nX := true\nX := true", (3, 1), "defined twice, first on line 2"),
        ("alphabet a\nQ_a := true", (2, 1), "meaning of its own"),
        ("alphabet a\nX := #Q_a and Q_a", (2, 6), "a count stands where a Boolean is needed"),
        ("alphabet a\nX := Q_a + 1 >= 1", (2, 6), "a Boolean stands where a count is needed"),
        ("alphabet a\nX := ##Q_a >= 1", (2, 16), "begins a comment"),
        ("alphabet a\nC := #Q_a\nX := exists C < 0", (3, 13), "only Booleans are counted"),
        ("alphabet a\nX := #Q_a * #Q_a >= 1", (2, 6), "product of two counts"),
        ("alphabet a\nX := #[j < i] Q_a >= 1", (2, 8), "unboundedly many i - j"),
        ("alphabet a\nX := #[j <= i, j <= i - 2] Q_a >= 1", (2, 16), "unboundedly many i - j"),
        ("alphabet a\nX := #[j <= i, j = 2] Q_a >= 1", (2, 16), "more than i - j"),
        ("alphabet a\nX := #[j <= i, i + j = 2] Q_a >= 1", (2, 16), "more than i - j"),
        ("alphabet a\nX := #[j <= i, (i - j) mod 2 = 0] Q_a >= 1", (2, 16), "a residue of i - j"),
        ("alphabet a\nX := #[j <= i, j >= i - 9999] Q_a >= 1", (2, 16), "more than 4096"),
        ("alphabet a\nX := #[i <= j] Q_a >= 1", (2, 8), "a count looks back only"),
        ("alphabet a\nX := position = 2", (2, 6), "must be periodic"),
        ("alphabet a\nX := position mod 0 = 0", (2, 6), "at least 1"),
        ("alphabet a\nX := position mod 3 < 2", (2, 6), "must be periodic"),
        ("alphabet a\nX := position + 1 >= #Q_a", (2, 6), "must be periodic"),
        ("alphabet a\nX := REL(0, 1)", (2, 6), "period of at least 1"),
        ("alphabet a\nX := i", (2, 6), "only inside #"),
        ("alphabet a\nfor s in SIGMA: X_s := s", (2, 24), "write Q_s"),
        ("alphabet a\nNEXT_b := true", (2, 1), "predicts no symbol"),
        ("alphabet a\nNEXT_a := #Q_a", (2, 1), "must be a Boolean"),
        ("alphabet <end>\nX := true", (1, 1), "<end> is no symbol of an alphabet: every program has it"),
        ("alphabet 5..2\nX := true", (1, 1), "the alphabet is empty"),
        ("alphabet 0..99999999999\nX := true", (1, 10), "has 100,000,000,000 numbers, more than 65,536"),
        ("alphabet a\nX := position mod 1000000007 = 1", (2, 6), "the period is 1000000007, more than 65536"),
        ("alphabet a\nX := REL(1000000007, 1)", (2, 6), "the period is 1000000007, more than 65536"),
        ("alphabet a\nfor k in 0..9999999999: X_k := true", (2, 10), "10,000,000,000 numbers, more than 1,000,000"),
        ("alphabet a\nfor k in 0..9999, l in 0..9999: X_k_l := true", (2, 5), "100,000,000 members, more than 1,000"),
        ("alphabet a\nX := any(k in 0..9999, l in 0..9999: Q_a)", (2, 10), "100,000,000 members, more than 1,000,0"),
        ("alphabet a\nX := #Q_a >= " + 5000 * "9", (2, 14), "this number has 5,000 digits, more than 100"),
        ("alphabet a\nX := " + 3000 * "not " + "Q_a", (2, 254), "nested more than 64 deep"),
        ("alphabet a\nX := " + 500 * "Q_a ? 1 : (" + "1" + 500 * ")" + " >= 1", (2, 666), "nested more than 64"),
    ],
)
def test_errors_say_what_and_where(text, place, what):
    with pytest.raises(CraspError) as caught:
        parse(text)
    error = caught.value
    assert (error.line, error.column) == place
    assert what in error.sentence
    assert "\n" not in error.sentence
    source, caret = error.excerpt.splitlines()
    assert source.strip() in text or not text
    assert caret.index("^") == 4 + place[1] - 1


def test_what_walks_over_an_expression_has_no_depth_in_long_sums_and_chains():
    head = "alphabet a b\n"
    assert lines(head + "X := " + " + ".join(600 * ["#Q_a"]) + " >= 1") == {"X": "1 <= 600 * #[j <= i] Q_a"}
    assert lines(head + "X := #Q_b " + 600 * "- #Q_a " + ">= 1") == {"X": "1 <= #[j <= i] Q_b - 600 * #[j <= i] Q_a"}
    assert lines(head + "X := " + 900 * "(" + "Q_a" + 900 * ")") == {"X": "Q_a"}
    assert lines(head + "for k in 0..1 where k = 1 " + 600 * "+ 1 - 1 " + ": X_k := Q_a") == {"X_1": "Q_a"}
    assert lines(head + "X := exists[j = i" + 600 * " - 1" + "] Q_a") == lines(head + "X := exists[j = i - 600] Q_a")
    for word in ("and", "or"):
        program = parse(head + "NEXT_a := " + f" {word} ".join(1000 * ["Q_a", "Q_b"]))
        assert program.legal(program.encode("a"))[0, 0] == (word == "or")


@pytest.mark.parametrize(
    ("open_", "close"), [("not ", ""), ("exists (", ")"), ("((Q_a ? 1 : 0) + (", " ? 1 : 0)) < 1")]
)
def test_what_is_nested_as_deeply_as_may_be_is_read_printed_and_run(open_, close):
    def text(depth):
        return "alphabet a\nX := " + depth * open_ + "Q_a" + depth * close

    deepest = next(depth for depth in range(64, 0, -1) if reads(text(depth)))
    program = parse(text(deepest))
    assert str(program).count("Q_a") >= 1
    assert program.run(program.encode("a"))["X"].shape == (1,)
    assert program.properties.fragment == "[]"


def test_nested_equations_do_not_double_the_operations():
    program = parse("alphabet a b\nX := " + 25 * "(" + "#Q_a = 1" + 25 * " ? #Q_b : 2) = 1")
    assert len(program.graph.nodes) < 200


def reads(text):
    try:
        return bool(parse(text))
    except CraspError as error:
        assert "nested more than 64 deep" in error.sentence  # noqa: PT017
        return False


@pytest.mark.parametrize(
    "text",
    [
        "for k in 0..999999: X_k := position mod 60000 != 1",
        "for k in 0..9999: X_k := REL(1000, 1)",
        "for k in 0..9999: X_k := exists[j <= i, j >= i - 4000] Q_a",
        "for k in 0..999: X_k := any(l in 0..9999 where l < 0: Q_a)",
    ],
)
def test_what_families_write_out_is_bounded_as_a_whole(text, monkeypatch):
    from lengen_fast.theory.crasp import expansion

    monkeypatch.setattr(expansion, "MOST_EXPRESSIONS", 20_000)
    with pytest.raises(CraspError, match="more than 20000 expressions"):
        parse(f"alphabet a\n{text}")


def test_a_text_is_needed():
    with pytest.raises(TypeError, match="text must be the text of a program, got int"):
        parse(3)


def test_families_have_a_limit(monkeypatch):
    from lengen_fast.theory.crasp import expansion

    text = "alphabet 0..40\nfor a, b, c in SIGMA: X_a_b_c := Q_a"
    monkeypatch.setattr(expansion, "MOST_EXPRESSIONS", 1000)
    with pytest.raises(CraspError, match="more than 1000 expressions"):
        parse(text)


# ---- the checker ----


@pytest.mark.parametrize(
    ("body", "depth", "period", "reach", "fragment", "positive"),
    [
        ("X := Q_a", 0, 1, 0, "[]", True),
        ("X := exists Q_a", 1, 1, 0, "[]", True),
        ("X := exists (Q_a and exists Q_b)", 2, 1, 0, "[]", True),
        ("X := #Q_a <= #Q_b", 1, 1, 0, "[]", False),
        ("X := #Q_a + 2 * #Q_b = 3", 1, 1, 0, "[]", True),
        ("X := #Q_a - (Q_b ? #Q_a : 0) >= 1", 1, 1, 0, "[]", False),
        ("X := exists[j = i - 2] Q_a and exists[j = i - 5] Q_a", 1, 1, 5, "[local]", True),
        ("X := position mod 4 = 1 and position mod 6 = 1", 0, 12, 0, "[periodic]", True),
        ("X := REL(3, 1) and exists[j = i - 1] Q_a", 1, 3, 1, "[periodic, local]", True),
        ("Y := exists (position mod 2 = 0)\nX := Q_a", 0, 1, 0, "[]", True),
        ("X := position mod 2 in {0, 1}", 0, 1, 0, "[]", True),
    ],
)
def test_properties(body, depth, period, reach, fragment, positive):
    program = parse(f"alphabet a b\n{body}")
    assert (program.depth, program.period, program.reach, program.fragment) == (depth, period, reach, fragment)
    assert program.properties.positive is positive


def test_unused_definitions_are_named_by_their_first_member():
    text = "alphabet a b\nfor s in SIGMA: C_s := #Q_s\nfor s in SIGMA: D_s := #Q_s\nE := Q_a\nNEXT_a := D_b >= 1"
    assert parse(text).properties.unused == ("C_a", "E")
