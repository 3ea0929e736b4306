"""The published figures that come with the package: every entry is readable and says what the paper says."""

import json
from importlib import resources

import pytest

import lengen_fast as lf
from lengen_fast.published import BINS, Published, Settings, published

TABLES = json.loads((resources.files("lengen_fast") / "reference" / "paper_results.json").read_text(encoding="utf-8"))
TASKS = list(TABLES["tasks"])

# written out by hand: layers, heads, width, learning rate, steps, warm-up
BIG = (12, 12, 768, 1e-4, 60_000, 3_000)
SETTINGS = {
    ("binary_majority", "ape"): (1, 1, 16, 1e-3, 30_000, 0),
    ("binary_majority", "nope"): (1, 1, 16, 1e-3, 30_000, 0),
    ("binary_majority_interleave", "ape"): (2, 4, 256, 1e-4, 30_000, 0),
    ("binary_majority_interleave", "nope"): BIG,
    ("majority", "ape"): (1, 2, 256, 1e-3, 30_000, 0),
    ("sort", "nope"): (1, 1, 256, 1e-3, 30_000, 0),
    ("unique_copy", "ape"): (2, 1, 64, 1e-3, 30_000, 0),
    ("repeat_copy", "nope"): (4, 4, 256, 1e-3, 30_000, 0),
    ("parity", "ape"): (4, 2, 256, 1e-4, 30_000, 0),
    ("parity", "nope"): (12, 12, 768, 3e-5, 60_000, 3_000),
    ("addition", "ape"): BIG,
    ("addition", "nope"): BIG,
}


@pytest.mark.parametrize("positions", lf.positions.NAMES)
@pytest.mark.parametrize("task", TASKS)
def test_every_entry_is_readable(task, positions):
    figures, entry = published(task, positions), TABLES["tasks"][task]
    assert len(figures.accuracy) == len(BINS)
    assert all(0.0 <= share <= 1.0 for share in figures.accuracy)
    assert isinstance(figures.predicted, bool)
    assert (figures.settings is None) == (f"config_{positions}" not in entry)
    if figures.settings is not None:
        lf.ModelConfig(5, figures.settings.layers, figures.settings.heads, figures.settings.width, positions)
        settings = figures.settings
        lf.TrainConfig(steps=settings.steps, warmup=settings.warmup, learning_rate=settings.learning_rate)
    assert figures.chance is None or 0.0 <= figures.chance <= 1.0


@pytest.mark.parametrize(("task", "positions"), SETTINGS, ids="-".join)
def test_settings_are_those_of_the_paper(task, positions):
    assert published(task, positions).settings == Settings(*SETTINGS[task, positions])


@pytest.mark.parametrize(
    ("task", "positions", "predicted", "accuracy"),
    [
        ("unique_copy", "ape", True, (1.0, 0.9986, 0.9874)),
        ("unique_copy", "nope", False, (1.0, 0.18, 0.0)),
        ("parity", "ape", False, (1.0, 0.8295, 0.6206)),
        ("tomita_3", "nope", False, (0.211, 0.0, 0.0)),
        ("a_n_b_n", "nope", True, (1.0, 1.0, 1.0)),
    ],
)
def test_accuracies_and_predictions_are_those_of_the_paper(task, positions, predicted, accuracy):
    figures = published(task, positions)
    assert figures.predicted is predicted
    assert figures.accuracy == accuracy


@pytest.mark.parametrize("task", ["binary_majority", "majority", "parity"])
def test_chance_is_about_what_the_paper_measured(task):
    assert lf.task(task).chance == pytest.approx(published(task, "ape").chance, abs=0.03)


@pytest.mark.parametrize(("task", "positions"), [("no_such_task", "ape"), ("parity", "rope"), ("offset_copy_1", "ape")])
def test_what_was_not_published_is_none(task, positions):
    figures = published(task, positions)
    assert (figures.accuracy, figures.predicted, figures.settings) == (None, None, None)


def test_a_task_of_its_own_has_no_figures_at_all():
    assert published("no_such_task", "ape") == Published(None, None, None, None)
