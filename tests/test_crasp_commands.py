"""``lengen crasp`` as a user meets it: checking, running, compiling; every bad program a sentence with a caret."""

import json

import pytest

from lengen_fast.cli import main
from lengen_fast.theory import compiler, standard

PROGRAM = "alphabet a b\nfor s in SIGMA: C_s := #Q_s\nUNUSED := Q_a\nNEXT_a := C_a <= C_b\nNEXT_<end> := C_a = C_b\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "balance.crasp"
    path.write_text(PROGRAM)
    return str(path)


def lengen(capsys, *arguments, code=0):
    """What the command prints."""
    try:
        found = main(["crasp", *map(str, arguments)])
    except SystemExit as stop:
        found = stop.code
    printed = capsys.readouterr()
    assert found == code, printed.err
    return printed


def test_check_describes_a_program(file, capsys):
    printed = lengen(capsys, "check", file).out
    assert "fragment:  []" in printed
    assert "unused:    UNUSED" in printed
    facts = json.loads(lengen(capsys, "check", file, "--json").out)
    assert facts["alphabet"] == ["a", "b"]
    assert (facts["depth"], facts["period"], facts["reach"], facts["positive"]) == (1, 1, 0, False)
    assert facts["outputs"] == ["NEXT_a", "NEXT_<eos>"]


def test_check_counts_right_answers_to_a_task(capsys, tmp_path):
    printed = lengen(capsys, "check", "binary_majority", "--task", "binary_majority", "--count", 20).out
    assert "right on 20 of 20 strings of binary_majority, paper" in printed
    path = tmp_path / "always.crasp"
    path.write_text("alphabet 0 1\nNEXT_0 := Q_<sep>\nNEXT_<end> := not Q_<sep>")
    facts = json.loads(lengen(capsys, "check", path, "--task", "binary_majority", "--json", "--length", "1:9").out)
    for line in facts["right"]:
        assert 0 < line["right"] < line["strings"] == 200
        assert line["length"] == [1, 9]


def test_check_takes_the_alphabet_of_a_task_for_a_template(capsys):
    facts = json.loads(lengen(capsys, "check", "sort", "--json").out)
    assert len(facts["alphabet"]) == 150
    facts = json.loads(lengen(capsys, "check", "sort", "--alphabet", "x y", "--json").out)
    assert facts["alphabet"] == ["x", "y"]


def test_run_prints_what_may_come_next(file, capsys):
    printed = lengen(capsys, "run", file, "<bos> a", "ab").out
    assert printed.splitlines() == [
        "position  token  next",
        "0         <bos>  a <eos>",
        "1         a      -",
        "2         a      -",
        "3         b      -",
    ]


def test_run_prints_other_lines_as_values(tmp_path, capsys):
    path = tmp_path / "count.crasp"
    path.write_text("alphabet a\nC := 2 * #Q_a")
    assert lengen(capsys, "run", path, "a <bos> a", "--offset", 3).out.splitlines()[1:] == [
        "3         a      2",
        "4         <bos>  2",
        "5         a      4",
    ]
    facts = json.loads(lengen(capsys, "run", path, "aa", "--json").out)
    assert facts == {"tokens": ["a", "a"], "outputs": {"C": [2, 4]}}


def test_offsets_matter_to_absolute_positions_alone(capsys, tmp_path):
    path = tmp_path / "even.crasp"
    path.write_text("alphabet a\nNEXT_a := position mod 2 = 0\nNEXT_<end> := REL(2, 0)")
    for offset, expected in ((0, ["a <eos>", "-"]), (1, ["<eos>", "a"])):
        printed = lengen(capsys, "run", path, "<bos> a", "--offset", offset).out
        assert [line.split(maxsplit=2)[2] for line in printed.splitlines()[1:]] == expected


def test_compile_reports_its_guarantee_and_tests_it(file, capsys, tmp_path):
    out = tmp_path / "balance.safetensors"
    printed = lengen(capsys, "compile", file, "--max-length", 500, "--out", out).out
    assert "exact up to 8,388,608 tokens in float32" in printed
    assert "4,000 of 4,000 positions right, 8 strings of 500 tokens" in printed
    model, program = compiler.load(out)
    assert model.guarantee.layers == 1
    assert compiler.verify(program, model, 100).wrong == 0


def test_compile_for_a_task_evaluates_there(capsys):
    command = ["compile", "binary_majority", "--max-length", 104, "--task", "binary_majority", "--json"]
    facts = json.loads(lengen(capsys, *command, "--lengths", "1:50", "100").out)
    assert [line["exact"] for line in facts["task"]["lines"]] == [1.0, 1.0]
    assert facts["tested"]["wrong"] == 0
    facts = json.loads(lengen(capsys, *command).out)
    assert [(line["low"], line["high"]) for line in facts["task"]["lines"]] == [(1, 50)]


def test_a_name_of_the_library_is_a_file(capsys):
    assert "fragment:  [periodic]" in lengen(capsys, "check", "abab_star").out


@pytest.mark.parametrize(
    ("text", "sentence", "caret"),
    [
        ("alphabet a b\nX := Q_a Q_b", "line 2, column 10: an operator or the end of the line expected", 13),
        ("alphabet a\nX := #Q_a and Q_a", "line 2, column 6: a count stands where a Boolean is needed", 9),
        ("alphabet a\nX := Y", "line 2, column 6: Y is not defined", 9),
        ("alphabet a\nX := #[j < i] Q_a > 0", "line 2, column 8: this relation holds for unboundedly many", 11),
        ("alphabet a\nX := position > 3", "line 2, column 6: a relation to the position must be periodic", 9),
    ],
)
@pytest.mark.parametrize("command", [["check"], ["run", "a"], ["compile", "--max-length", "9"]])
def test_a_bad_program_is_a_sentence_and_a_caret(command, text, sentence, caret, tmp_path, capsys):
    path = tmp_path / "bad.crasp"
    path.write_text(text)
    error = lengen(capsys, command[0], path, *command[1:], code=2).err.splitlines()
    assert len(error) == 3
    assert error[0].startswith(f"lengen: error: {sentence}")
    assert error[1] == "    " + text.splitlines()[1]
    assert error[2] == " " * caret + "^"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["check", "nothing"], 2, "there is no file 'nothing', and the standard library has no program for 'nothing'"),
        (["check", "no/such.crasp"], 2, "the program no/such.crasp cannot be read: No such file"),
        (["check", "."], 2, "the program . cannot be read: Is a directory"),
        (["check", "dyck_1", "--length", "5:2"], 2, "--length is of the strings of a task: add --task"),
        (["check", "unique_copy", "--alphabet", ""], 2, "--alphabet is empty"),
        (["check", "unique_copy", "--alphabet", "a <sep>"], 2, "<sep> is no symbol of an alphabet"),
        (["check", "majority", "--task", "binary_majority"], 2, "has not the alphabet of task binary_majority"),
        (["check", "sort", "--task", "nonsense"], 2, "there is no task 'nonsense'"),
        (["check", "dyck_1", "--alphabet", "a b"], 2, "it cannot take a b"),
        (["run", "dyck_1", "a"], 2, "'a' is no token of the program"),
        (["run", "dyck_1", "(", "--offset", "-1"], 2, "offset must not be negative"),
        (["run", "dyck_1", "(", "--offset", "9" * 20], 2, "offset must be at most 4611686018427387904"),
        (["run", "dyck_1", "(", "--offset", str(2**63)], 2, "offset must be at most 4611686018427387904"),
        (["compile", "dyck_1", "--max-length", "9", "--lengths", "5"], 2, "--lengths are of the strings of a task"),
        (["compile", "dyck_1", "--max-length", "9", "--test-length", "0"], 2, "--test-length is 0; it must be 1 or"),
        (["compile", "dyck_1", "--max-length", "0"], 2, "max_length is 0"),
        (["compile", "dyck_1", "--max-length", "999999999"], 2, "guaranteed exact up to 8,388,608 tokens"),
        (["compile", "dyck_1", "--max-length", "20000", "--dtype", "float16"], 2, "dtype=torch.float32 reaches"),
        (["compile", "dyck_1"], 2, "--max-length"),
        (["compile", "sort", "--max-length", "3", "--task", "sort"], 2, "--max-length is 3"),
        (["compile", "dyck_1", "--max-length", "9", "--out", "no/such/place"], 1, "could not write"),
        (["nonsense"], 2, "nonsense"),
        ([], 2, "ACTION"),
    ],
)
def test_wrong_use_is_one_sentence(arguments, code, words, capsys):
    error = lengen(capsys, *arguments, code=code).err
    assert words in error.splitlines()[0]
    assert error.startswith("lengen: error: ")


def test_lengths_beyond_the_guarantee_are_refused(capsys):
    command = ["compile", "binary_majority", "--task", "binary_majority", "--max-length", "104", "--dtype", "float16"]
    error = lengen(capsys, *command, "--lengths", "50", "50:20000", code=2).err
    assert "--lengths has 50:20000, whose strings have up to 20,00" in error
    assert "the model is guaranteed for 16,384" in error


def test_a_template_in_a_file_needs_an_alphabet(capsys, tmp_path):
    path = tmp_path / "template.crasp"
    path.write_text("alphabet *\nfor s in SIGMA: NEXT_s := Q_s\n")
    assert "on the command line --alphabet 'a b'" in lengen(capsys, "check", path, code=2).err
    printed = lengen(capsys, "check", path, "--alphabet", "' it's")
    assert """outputs:   NEXT_"'" NEXT_"it's\"""" in printed.out


def test_a_byte_order_mark_is_no_part_of_a_program(capsys, tmp_path):
    path = tmp_path / "marked.crasp"
    path.write_text(PROGRAM, encoding="utf-8-sig")
    assert "outputs:   NEXT_a NEXT_<eos>" in lengen(capsys, "check", path).out


@pytest.mark.parametrize("action", ["check", "run", "compile"])
def test_help_shows_an_example(action, capsys):
    assert "example:\n  lengen crasp" in lengen(capsys, action, "--help").out


def test_every_program_of_the_library_is_checked_by_name(capsys):
    for name in standard.names():
        if not standard.is_template(standard.source(name)):
            assert "unused:    nothing" in lengen(capsys, "check", name).out
