"""Verdicts: against the paper's predictions, with evidence that stands, from Python and from the command line."""

import json

import numpy as np
import pytest

import lengen_fast as lf
from lengen_fast import catalogue
from lengen_fast.automata import Automaton
from lengen_fast.cli import main
from lengen_fast.theory import predict_regex
from lengen_fast.theory.checks import all_words
from lengen_fast.theory.crasp import parse, predicted_targets, program_for

PREDICTED = [name for name in lf.tasks() if lf.published(name, "ape").predicted is not None]
UNKNOWN = {"binary_majority_interleave", "unique_copy"}  # without positions


def outcomes(verdict):
    return verdict.ape.outcome, verdict.nope.outcome


@pytest.mark.parametrize("name", PREDICTED)
def test_verdicts_are_the_predictions_of_the_paper(name):
    verdict, task = lf.predict(name), lf.task(name)
    for positions in ("ape", "nope"):
        outlook = getattr(verdict, positions)
        if lf.published(name, positions).predicted:
            assert outlook.outcome == "generalizes"
            assert positions == "ape" or outlook.program.fragment == "[]"
            if not task.alphabet_grows:
                batch = task.sample(20, task.reachable(60, 160)[0], seed=9, context=700)
                assert (predicted_targets(outlook.program, task, batch) == batch.targets.numpy()).all()
        else:
            unknown = positions == "nope" and name in UNKNOWN
            assert outlook.outcome == ("unknown" if unknown else "fails")
            assert (outlook.witness is None) == unknown
            assert outlook.program is outlook.period is outlook.reach is outlook.depth is None


FIELD = {  # beside the paper's tasks; what the literature knows of them
    "mode": ("generalizes", "generalizes"),  # as majority
    "mode_20": ("generalizes", "generalizes"),
    "count_3": ("generalizes", "generalizes"),  # a threshold
    "bucket_sort": ("generalizes", "generalizes"),  # counts of each symbol
    "induction_head": ("generalizes", "unknown"),  # one local relation
    "histogram": ("unknown", "unknown"),
    "mqar": ("unknown", "unknown"),
    "flip_flop": ("fails", "fails"),  # arXiv 2306.00946
    **dict.fromkeys(("reverse", "duplicate", "selective_copy"), ("fails", "fails")),  # as repeat_copy
    **dict.fromkeys(("modular_sum", "modular_sum_31", "cycle_navigation"), ("fails", "fails")),  # as parity
    **dict.fromkeys(("word_problem_z60", "word_problem_s3", "word_problem_a5", "word_problem_s5"), ("fails", "fails")),
    **dict.fromkeys(("decimal_addition", "multi_operand_addition_reversed"), ("fails", "fails")),  # as addition
}


@pytest.mark.parametrize("name", FIELD)
def test_verdicts_for_tasks_of_the_field(name):
    verdict = lf.predict(name)
    assert outcomes(verdict) == FIELD[name]
    for outlook in (verdict.ape, verdict.nope):
        assert (outlook.program is not None) == (outlook.outcome == "generalizes")
        assert (outlook.witness is not None) == (outlook.outcome == "fails")


def test_recorded_verdicts_are_those_of_today():
    """Those that ``lengen tasks`` shows; the verdicts on the paper's tasks are tested above."""
    recorded = {name: catalogue.prediction(name) for name in lf.tasks()}
    for name, (ape, nope) in FIELD.items():
        assert name not in recorded or recorded[name] == {"ape": ape, "nope": nope}
    for name in PREDICTED:
        for positions in ("ape", "nope"):
            predicted = lf.published(name, positions).predicted
            unknown = positions == "nope" and name in UNKNOWN
            expected = "generalizes" if predicted else "unknown" if unknown else "fails"
            assert recorded[name][positions] == expected
    for name in set(recorded) - set(FIELD) - set(PREDICTED):
        assert recorded[name] == dict(zip(("ape", "nope"), outcomes(lf.predict(name)), strict=True))


def test_the_witness_on_a_flip_flop_stands_in_its_own_strings():
    task, witness = lf.task("flip_flop"), lf.predict("flip_flop").ape.witness
    for last, other in ((witness.set, witness.reset), (witness.reset, witness.set)):
        bits = []
        for history in ((), other):
            word = [*witness.access, *history, *witness.neutral * 5, *last, *witness.neutral * 5, *witness.rest]
            for bit in task.encode("01").tolist():
                try:
                    _, targets = task.oracle([task.bos, *word, bit, task.eos])
                except ValueError:
                    continue
                bits.append(int(targets[-1]))
        assert len(bits) == 2
        assert bits[0] == bits[1]


def test_there_are_fifty_predictions_and_more():
    assert len([name for name in PREDICTED if lf.task(name).family != "counting language"]) == 25


@pytest.mark.parametrize("name", ["tomita_3", "tomita_4", "tomita_6", "last_zero", "abab_star"])
def test_a_name_makes_no_difference(name):
    known = lf.task(name)
    other = lf.language(dfa=known.acceptor, name="something_else")
    assert outcomes(lf.predict(other)) == outcomes(lf.predict(known)) == outcomes(lf.predict(known.acceptor))


@pytest.mark.parametrize(
    ("regex", "alphabet", "ape", "nope"),
    [
        ("(ab|bbaa)*", "ab", "generalizes", "generalizes"),
        ("(ab|aabb)*", "ab", "generalizes", "fails"),
        ("(ab|bba)*", "ab", "generalizes", "fails"),
        ("(a|b)*b", "ab", "generalizes", "fails"),
        ("(a|b|e)*be*", "abe", "fails", "fails"),
        ("", "a", "generalizes", "generalizes"),
    ],
)
def test_regular_expressions(regex, alphabet, ape, nope):
    assert outcomes(lf.predict(regex, alphabet=alphabet)) == (ape, nope)


def test_claims_are_worded_by_what_is_known():
    verdict = predict_regex("(a|b)*b")
    assert verdict.question == "the state of the minimal automaton after every prefix"
    assert "2608.13433" in verdict.nope.claim
    assert "At the last symbol itself" in verdict.nope.claim
    assert "At the last symbol itself" not in lf.predict("last_zero").nope.claim
    assert verdict.ape.checked.startswith("proved for all strings")
    assert "not proved" in lf.predict("majority").ape.checked
    assert "if the family goes on" in lf.predict("repeat_copy").ape.claim
    assert "does not exclude one" in lf.predict("binary_majority_interleave").nope.claim
    assert "modulo 3" in lf.predict("tomita_6").ape.claim


def test_what_is_decided_is_the_language_and_not_its_presentation():
    """Every string is accepted, whatever the states of a needlessly large automaton count."""
    automaton = Automaton(("a",), [[1], [0]], [True, True])
    verdict = lf.predict(automaton)
    assert outcomes(verdict) == ("generalizes", "generalizes")
    assert verdict.subject == "automaton with 2 states, 1 when minimal"
    accepted = lf.predict(automaton, question="acceptance")
    assert outcomes(accepted) == ("generalizes", "generalizes")
    assert "end symbol" in accepted.question


def test_a_program_is_its_own_evidence():
    for text in ("NEXT_a := Q_a", "NEXT_a := #Q_a < 3"):
        program = parse(f"alphabet a b\n{text}\n")
        verdict = lf.predict(program)
        assert outcomes(verdict) == ("generalizes", "generalizes")
        assert verdict.ape.program is verdict.nope.program is program
    verdict = lf.predict(parse("alphabet a b\nNEXT_a := exists[j <= i, j = i - 1] Q_a\n"))
    assert outcomes(verdict) == ("generalizes", "fails")
    assert verdict.ape.reach == 1


def test_a_task_with_the_name_of_another_is_judged_by_itself():
    parity = lf.task_from_function(
        lambda rng, n: (x := rng.integers(0, 2, n), [x.sum() % 2]), symbols="01", name="binary_majority"
    )
    assert "generalizes" not in outcomes(lf.predict(parity))
    other = lf.task_from_function(lambda rng, n: (rng.integers(0, 2, n), [0]), symbols="xy", name="sort")
    assert "library" not in lf.predict(other).ape.claim


def test_labels_may_be_easier_than_states():
    """After any prefix any symbol may come; only the end needs the last symbol that is no 2."""
    language = lf.task("last_zero")
    assert outcomes(lf.predict(language.with_labels("legal"))) == ("generalizes", "generalizes")
    assert outcomes(lf.predict(language.with_labels("membership"))) == ("fails", "fails")


@pytest.mark.parametrize("name", ["tomita_4", "tomita_2", "dyck_1", "unique_copy"])
def test_programs_are_predicted_by_what_they_say(name):
    verdict = lf.predict(program_for(lf.task(name, symbols=5) if name == "unique_copy" else lf.task(name)))
    nope = {"tomita_4": "fails", "unique_copy": "unknown"}.get(name, "generalizes")
    assert outcomes(verdict) == ("generalizes", nope)


def test_a_program_with_needless_positions_is_recognised():
    program = parse("alphabet a b\nX := exists[j <= i, j = i - 0] Q_a\nY := exists (Q_a and REL(2, 0)) or exists Q_a\n")
    verdict = lf.predict(program)
    assert outcomes(verdict) == ("generalizes", "generalizes")
    words = all_words(2, 6)
    tokens = np.column_stack([np.full(len(words), program.token("<bos>")), words])
    assert (verdict.nope.program.run(tokens)["Y"] == program.run(tokens)["Y"]).all()


# ---- errors ----


def test_what_cannot_be_predicted_is_refused():
    with pytest.raises(TypeError, match="what is a int; it must be a task"):
        lf.predict(3)
    with pytest.raises(ValueError, match="it must be 'states' or 'acceptance'"):
        lf.predict("a*", question="words")
    with pytest.raises(ValueError, match="only a regular expression takes one"):
        lf.predict(lf.task("parity"), alphabet="01")


@pytest.mark.parametrize(("regex", "alphabet"), [("(a|b|c)*", None), ("a&b", None), ("a*", "a")])
def test_what_is_always_the_same_is_proved(regex, alphabet):
    verdict = predict_regex(regex, alphabet=alphabet)
    assert outcomes(verdict) == ("generalizes", "generalizes")
    assert verdict.nope.checked.startswith("proved for all strings by an invariant of 1 case;")


@pytest.mark.parametrize("states", [700, 5000])
def test_an_automaton_that_is_too_large_says_the_bound(states):
    up, down = [*range(1, states), 0], [0, *range(states - 1)]
    automaton = Automaton(("a", "b"), np.stack([up, down], axis=1), np.arange(states) == 0)
    with pytest.raises(ValueError, match=f"{states} states that must be told apart; predict takes at most 500"):
        lf.predict(automaton)


# ---- command line ----


def run(capsys, *arguments):
    code = main(["predict", *arguments])
    streams = capsys.readouterr()
    return code, streams.out, streams.err


def test_command_line_prints_program_and_witness(capsys):
    code, out, _ = run(capsys, "--regex", "(ab|bba)*")
    assert code == 0
    assert "learned absolute positions: generalizes" in out
    assert "no positions: fails" in out
    program = parse(out.split("program for learned absolute positions:")[1])
    assert program.reach == 2
    assert "words: (abbba)^N abab and (abbba)^N bbaa, for every N" in out


def test_command_line_as_json(capsys, tmp_path):
    path = tmp_path / "evens.json"
    path.write_text(json.dumps(Automaton.from_regex("(b*ab*a)*b*", "ab").as_dict()))
    code, out, _ = run(capsys, "--dfa", str(path), "--json")
    found = json.loads(out)
    assert code == 0
    assert found["nope"]["outcome"] == found["ape"]["outcome"] == "fails"
    assert found["ape"]["witness"]["kind"] == "group"
    assert found["ape"]["witness"]["order"] == 2
    assert set(found["ape"]) == {"outcome", "claim", "checked", "period", "reach", "depth", "program", "witness"}
    _, out, _ = run(capsys, "tomita_4", "--json")
    assert parse(json.loads(out)["ape"]["program"]).reach == 2


def test_command_line_takes_programs_and_labels(capsys, tmp_path):
    path = tmp_path / "mine.crasp"
    path.write_text("alphabet a b\nNEXT_a := #Q_b <= #Q_a\n")
    assert "no positions: generalizes" in run(capsys, "--program", str(path))[1]
    assert "no positions: generalizes" in run(capsys, "--program", "dyck_1")[1]
    assert "no positions: generalizes" in run(capsys, "last_zero", "--labels", "legal")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of TASK, --regex, --dfa and --program"),
        (["parity", "--regex", "a*"], "give one of TASK, --regex, --dfa and --program"),
        (["paritty"], "did you mean 'parity'?"),
        (["parity", "--alphabet", "01"], "--alphabet goes with --regex or --program"),
        (["parity", "--question", "states"], "--question goes with --regex or --dfa"),
        (["--regex", "(a", "--alphabet", "a"], "(a"),
        (["--program", "no_such_program"], "no program for 'no_such_program'"),
    ],
)
def test_command_line_errors(capsys, arguments, message):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("lengen: error: ")
    assert message in err
