"""What is printed of tasks, of strings and of automata, and the data behind it."""

import json
import os
import shutil
import stat
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest

import lengen_fast as lf
from lengen_fast import automaton_report, catalogue
from lengen_fast.automata import Automaton
from lengen_fast.automaton_report import dot
from lengen_fast.cli import main
from lengen_fast.strings import aligned

REGULAR = [name for name in lf.tasks() if lf.task(name).family == "regular"]


# ---- tasks ----


def test_every_task_has_a_row(capsys):
    assert main(["tasks"]) == 0
    table, legend = capsys.readouterr().out.split("\n\n")
    rows = table.splitlines()
    assert rows[0].split()[:4] == ["task", "family", "alphabet", "lengths"]
    assert [row.split()[0] for row in rows[1:]] == list(lf.tasks())
    tomita_4 = next(row for row in rows if row.startswith("tomita_4 "))
    cells = "tomita_4 regular 0 1 from 0 legal+end, 2 classes regular, star-free [B] yes no"
    assert " ".join(tomita_4.split()) == cells
    assert all(f"[{key}] " in legend for key in "BDHLM")


def test_details_of_a_task(capsys):
    assert main(["tasks", "ordered_blocks"]) == 0
    lines = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["alphabet"].strip() == "a b c d e"
    assert lines["lengths"].strip() == "from 5"
    assert "2009.11264" in lines["known class"]
    assert "generalizes" in lines["prediction"]


def test_tasks_as_json(capsys):
    assert main(["tasks", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)["tasks"]
    assert [each["name"] for each in described] == list(lf.tasks())
    assert all(each["citation"] and each["label"] and each["alphabet"] for each in described)
    assert {each["prediction"]["ape"] for each in described} == {"generalizes", "fails", "unknown"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("parity", "from 0"),
        ("binary_majority_interleave", "3, 6, 9, ..."),
        ("tomita_6", "0, 2, 3, ..."),
        ("a_n_b_n_c_n", "3, 6, 9, ..."),
    ],
)
def test_lengths_in_words(name, text):
    assert catalogue.lengths(lf.task(name)) == text


def test_lengths_of_a_finite_language():
    assert catalogue.lengths(lf.language(regex="a|ab|aba", alphabet="ab")) == "1 to 3"


@pytest.mark.parametrize("name", REGULAR)
def test_star_free_is_what_the_automaton_says(name):
    """A regular language is star-free exactly if its minimal automaton counts nothing (Schützenberger)."""
    known, _ = catalogue.known_class(name)
    assert known == ("regular, star-free" if is_aperiodic(lf.task(name).acceptor) else "regular, not star-free")


def is_aperiodic(automaton):
    """Whether some power of every word does the same as the next one."""
    letters = [tuple(column) for column in automaton.transitions.T.tolist()]
    actions, queue = set(letters), list(letters)
    for action in queue:
        for letter in letters:
            longer = tuple(letter[state] for state in action)
            if longer not in actions:
                actions.add(longer)
                queue.append(longer)
    return all(_power(action, automaton.states) == _power(action, automaton.states + 1) for action in actions)


def _power(action, exponent):
    result = np.arange(len(action))
    for _ in range(exponent):
        result = np.array(action)[result]
    return result.tolist()


def test_known_classes_are_of_tasks_that_exist():
    classes = json.loads((catalogue.resources.files("lengen_fast") / "reference/known_classes.json").read_text())
    assert set(classes["classes"]) <= set(lf.tasks())
    assert {source for _, source in classes["classes"].values()} == set(classes["sources"])


# ---- strings ----


def test_targets_stand_below_the_tokens_that_are_scored(capsys):
    assert main(["generate", "decimal_addition", "--length", "9", "--count", "3", "--seed", "5"]) == 0
    text = capsys.readouterr().out
    assert (
        main(["generate", "decimal_addition", "--length", "9", "--count", "3", "--seed", "5", "--format", "json"]) == 0
    )
    values = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    blocks = text.strip().split("\n\n")
    assert len(blocks) == len(values) == 3
    for number, (block, value) in enumerate(zip(blocks, values, strict=True)):
        title, tokens, targets = block.splitlines()
        assert title == f"string {number}, {len(value['scored'])} of {len(value['tokens'])} tokens scored"
        assert tokens.split()[1:] == value["tokens"]
        assert targets.split()[1:] == value["targets"]
        places = [tokens.index("=")]
        assert targets[places[0]] == value["targets"][0]


def test_long_strings_are_broken_between_tokens():
    tokens, targets = [f"t{place}" for place in range(100)], [f"target{place}" for place in range(100)]
    title, *lines = "".join(aligned("title", tokens, range(100), targets, 60)).splitlines()
    assert title == "title"
    assert max(map(len, lines)) <= 60
    assert [token for line in lines[::2] for token in line.split()[1:]] == tokens
    assert [target for line in lines[1::2] for target in line.split()[1:]] == targets
    for above, below in zip(lines[::2], lines[1::2], strict=True):
        assert [above.index(token) for token in above.split()] == [below.index(token) for token in below.split()]


def test_a_token_wider_than_the_line_has_one_of_its_own():
    lines = "".join(aligned("title", ["a", "b" * 80, "c"], [0], ["x"], 40)).splitlines()
    assert [line.split()[1:] for line in lines[1::2]] == [["a"], ["b" * 80], ["c"]]


# ---- automata ----


@pytest.fixture
def without_graphviz(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_an_automaton_as_a_table(capsys, without_graphviz):
    assert main(["report", "--automaton", "tomita_4"]) == 0
    title, rows, ending = capsys.readouterr().out.strip().split("\n\n")
    assert title == "tomita_4, no 000: 4 states"
    assert [row.split() for row in rows.splitlines()] == [
        ["state", "0", "1"],
        ["0", "1", "0", "start,", "accepts"],
        ["1", "2", "0", "accepts"],
        ["2", "3", "0", "accepts"],
        ["3", "3", "3", "reaches", "no", "member"],
    ]
    assert "graphviz is not installed" in ending


def test_an_automaton_as_json(capsys, without_graphviz):
    assert main(["report", "--automaton", "(ab)*", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    automaton = Automaton.from_dict(content["automaton"])
    assert [automaton.accepts(word) for word in ([], [0], [0, 1], [1, 0])] == [True, False, True, False]


def test_an_automaton_of_a_file(capsys, without_graphviz, tmp_path):
    for name in ("even.json", "even.dfa"):
        (tmp_path / name).write_text(json.dumps(Automaton.from_regex("(aa)*").as_dict()))
        assert main(["report", "--automaton", name]) == 0
        assert "2 states" in capsys.readouterr().out


def test_an_automaton_of_a_file_keeps_its_states_and_their_names(capsys, without_graphviz, tmp_path):
    rows = {"even": {"a": "odd"}, "odd": {"a": "again"}, "again": {"a": "odd"}}
    path = tmp_path / "even.json"
    path.write_text(json.dumps({"alphabet": "a", "start": "even", "accepting": ["even", "again"], "transitions": rows}))
    assert main(["report", "--automaton", str(path)]) == 0
    _, table, _ = capsys.readouterr().out.strip().split("\n\n")
    assert [row.split()[:2] for row in table.splitlines()[1:]] == [["even", "odd"], ["odd", "again"], ["again", "odd"]]


def stand_in(folder, script):
    """A program dot that is a shell script."""
    program = folder / "dot"
    program.write_text(f"#!{os.path.realpath('/bin/sh')}\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_a_drawing_is_made_by_graphviz(capsys, without_graphviz, tmp_path):
    stand_in(tmp_path, 'read first\necho "$1 $first"')
    assert main(["report", "--automaton", "aa_star"]) == 0
    assert "figure: aa_star.svg" in capsys.readouterr().out
    assert (tmp_path / "aa_star.svg").read_text() == "-Tsvg digraph {\n"


def test_a_drawing_that_graphviz_cannot_make_leaves_the_table(capsys, without_graphviz, tmp_path, monkeypatch):
    for script, message in (
        ("echo no such format >&2\nexit 1", "graphviz cannot make {}: no such format"),
        ("while :; do :; done", "graphviz took longer than 0.3 seconds for {}"),
    ):
        monkeypatch.setattr(automaton_report, "DRAWING_SECONDS", 0.3)
        stand_in(tmp_path, script)
        assert main(["report", "--automaton", "aa_star"]) == 0
        shown = capsys.readouterr().out
        assert "start, accepts" in shown
        assert f"not drawn: {message.format('aa_star.svg')}" in shown
        assert main(["report", "--automaton", "aa_star", "--out", "x.abc"]) == 1
        assert f"lengen: error: {message.format('x.abc')}" in capsys.readouterr().err


ODD_SYMBOLS, ODD_STATES = ['"', "<", "&", "\\", "\\n", "é", "{x}", "-->"], ['q "0"', "a<b&c", "\\N é", "dead"]
ODD = {
    "alphabet": ODD_SYMBOLS,
    "start": ODD_STATES[0],
    "accepting": [ODD_STATES[1]],
    "transitions": {
        state: {
            symbol: "dead" if state == "dead" or i == 7 else ODD_STATES[(i + i * place) % 3]
            for i, symbol in enumerate(ODD_SYMBOLS)
        }
        for place, state in enumerate(ODD_STATES)
    },
}


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
@pytest.mark.parametrize("name", ["tomita_3", "dyck_depth_12", "(a|b)*a(a|b)(a|b)", "abc|abd", "odd.json"])
def test_graphviz_draws_every_state_and_step(capsys, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.json").write_text(json.dumps(ODD), encoding="utf-8")
    assert main(["report", "--automaton", name, "--out", "drawing.svg", "--json"]) == 0
    automaton = Automaton.from_dict(json.loads(capsys.readouterr().out)["automaton"])
    names = ODD_STATES if name == "odd.json" else list(map(str, range(automaton.states)))
    drawing = ElementTree.parse(tmp_path / "drawing.svg").getroot()
    tag = "{http://www.w3.org/2000/svg}"
    parts = {}
    for part in drawing.iter(f"{tag}g"):
        texts = [text.text.replace("\u00a0", " ") for text in part.findall(f"{tag}text")]
        parts.setdefault(part.get("class"), {})[part.find(f"{tag}title").text] = texts, part
    nodes, edges = parts["node"], parts["edge"]
    living = np.flatnonzero(automaton.live).tolist()
    assert {title: texts for title, (texts, _) in nodes.items()} == {"begin": []} | {
        str(state): [names[state]] for state in living
    }
    rings = {title: len(part.findall(f"{tag}ellipse")) for title, (_, part) in nodes.items()}
    assert rings == {"begin": 1} | {str(state): 1 + int(automaton.accepting[state]) for state in living}
    steps = {"begin->0": ""}
    for state in living:
        for target in set(automaton.transitions[state].tolist()) & set(living):
            symbols = np.flatnonzero(automaton.transitions[state] == target)
            steps[f"{state}->{target}"] = " ".join(automaton.alphabet[i] for i in symbols)
    assert {title: " ".join(texts) for title, (texts, _) in edges.items()} == steps
    circles = [part.find(f"{tag}ellipse") for title, (_, part) in nodes.items() if title != "begin"]
    centres = [(complex(float(each.get("cx")), float(each.get("cy"))), float(each.get("rx"))) for each in circles]
    assert all(abs(one - other) > r + s for (one, r), (other, s) in combinations(centres, 2))


def test_the_drawing_shows_what_reaches_a_member():
    lines = dot(lf.task("tomita_4").acceptor, 'a "title"').splitlines()
    assert '  label="a \\"title\\"\\n(a step that is not drawn reaches no member)"' in lines
    assert [line for line in lines if "doublecircle" in line] == [
        f'  {state} [shape=doublecircle, label="{state}"]' for state in range(3)
    ]
    steps = [line.strip() for line in lines if "->" in line and "begin" not in line]
    assert steps == [
        '0 -> 1 [label="0"]',
        '0 -> 0 [label="1"]',
        '1 -> 2 [label="0"]',
        '1 -> 0 [label="1"]',
        '2 -> 0 [label="1"]',
    ]
    assert '  label="(aa)*"' in dot(Automaton.from_regex("(aa)*"), "(aa)*").splitlines()


def test_many_symbols_of_a_step_are_written_in_lines():
    letters = "abcdefghijklmnopqrstuvwxy"
    text = dot(Automaton.from_regex(f"({'|'.join(letters)})*z"), "title")
    assert '0 -> 0 [label="a b c d e f g h i j k l\\nm n o p q r s t u v w x\\ny"]' in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--automaton", "parity"], 2, "parity has no automaton"),
        (["--automaton", "dyck_1"], 2, "dyck_1 has no automaton"),
        (["--automaton", "(ab"], 2, "is not closed"),
        (["--automaton", "tomita_9"], 2, "did you mean 'tomita_"),
        (["--automaton", "a&b"], 2, "the language of a&b is empty"),
        (["--automaton", "missing.json"], 2, "missing.json"),
        (["--automaton", "aa_star", "--out", "a.svg"], 1, "install graphviz"),
        ([], 2, "give run directories, or --automaton NAME"),
        (["runs/x", "--automaton", "aa_star"], 2, "give run directories, or --automaton NAME"),
    ],
)
def test_a_report_that_cannot_be_is_one_sentence(capsys, without_graphviz, arguments, code, message):
    assert main(["report", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("lengen: error: ")
