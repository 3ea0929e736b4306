"""Products of positions: conditions, what is learned and extends, the split into parts, and the command."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lengen_fast as lf
from lengen_fast.cli import main
from lengen_fast.theory import product_functions
from lengen_fast.theory.product_functions import Protocol, head_products, learn, published_losses, split
from lengen_fast.theory.targets import NAMED, condition, expression

SMALL = dict(positions=36, window=12, width=8, learning_rate=1e-2)
PRIMES = {2, 3, 5, 7, 11, 13, 17, 19}


# ---- conditions ----


@pytest.mark.parametrize(
    ("target", "holds"),
    [
        ("previous", lambda i, j: j == i - 1),
        ("recent", lambda i, j: j > i - 2),
        ("third", lambda i, j: (i - j) % 3 == 0),
        ("before", lambda i, j: j < i),
        ("prime", lambda i, j: i - j in PRIMES),
        ("not j <= i or i - j == 4", lambda i, j: j > i or i - j == 4),
        ("0 <= i - j < 3 and (i + 2 * j) // 3 % 2 != -1", lambda i, j: 0 <= i - j < 3),
        ("1 < 2", lambda i, j: True),
    ],
)
def test_conditions_hold_where_python_says(target, holds):
    expected = torch.tensor([[holds(i, j) for j in range(20)] for i in range(20)])
    assert torch.equal(condition(target, 20), expected)


def test_spacing_and_names_do_not_matter():
    assert expression("(i-j)%3==0") == expression("third") == "(i - j) % 3 == 0"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("j ==", "cannot be read"),
        ("previos", "unknown name 'previos'"),
        ("j == k", "unknown name 'k'"),
        ("i - j", "is a number and no condition"),
        ("i and j < i", "has the number 'i' where a condition must be"),
        ("(i - j) % 0 == 1", "divides by zero"),
        ("j == i ** 2", "'i ** 2', which cannot be used"),
        ("prime(i, j)", "cannot be used"),
        ("j == 1.5", "'1.5', which cannot be used"),
        ("prime(i * 9999999)", "takes numbers up to"),
        ("j == i" + " - 1" * 100, "more than 200"),
        ("__import__('os').system('true')", "unknown name '__import__'"),
    ],
)
def test_a_bad_target_is_one_sentence(target, message):
    with pytest.raises(ValueError, match="target") as error:
        condition(target, 12)
    assert message in str(error.value)


# ---- learning ----


def test_a_periodic_target_extends_beyond_the_window_at_small_width():
    result = learn("third", Protocol(steps=1500, **SMALL), reach=2, longest_period=6)
    assert result.losses[0] < 1e-3
    assert result.losses[2] < 1e-2
    assert result.parts.period == 3
    sizes = result.parts.sizes()
    assert sizes["periodic"] > 20 * max(sizes["local"], sizes["remainder"])


def test_a_local_target_does_not_extend_at_a_width_below_the_window():
    result = learn("previous", Protocol(steps=1500, **SMALL), reach=2, longest_period=6)
    assert result.losses[0] < 1.0
    assert result.losses[2] > 10 * result.losses[0]


def test_learning_is_the_same_for_the_same_seed_and_differs_between_seeds():
    first, again, other = (
        learn("before", Protocol(steps=20, seed=s, **SMALL), reach=2, longest_period=6) for s in (1, 1, 2)
    )
    assert torch.equal(first.products, again.products)
    assert not torch.equal(first.products, other.products)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=6), st.integers(1, 4))
def test_windows_weigh_pairs_as_a_plain_count_does(starts, window):
    weights = product_functions._window_weights(torch.tensor(starts), 12, window)
    expected = torch.zeros(12, 12)
    for start in starts:
        for i in range(start, start + window):
            for j in range(start, i + 1):
                expected[i, j] += 1
    torch.testing.assert_close(weights, expected / expected.sum())


def test_published_losses_belong_to_the_published_protocol():
    assert published_losses("previous", Protocol(width=32)) == pytest.approx((0.0124985, 496.266, 755.236), rel=1e-5)
    assert published_losses("j==i-1", Protocol(width=256, steps=10)) is not None
    assert published_losses("previous", Protocol(width=64)) is None
    assert published_losses("j == i - 2", Protocol(width=32)) is None
    assert published_losses("previous", Protocol(width=32, window=40)) is None
    assert all(published_losses(target, Protocol(width=32)) for target in NAMED)


@pytest.mark.parametrize(("name", "value"), [("width", 0), ("steps", 0), ("window", 67), ("batch", -1)])
def test_bad_settings_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        Protocol(**{name: value})


# ---- the split ----


def toeplitz(profile):
    n = len(profile)
    return torch.tensor([[profile[i - j] if i >= j else 0.0 for j in range(n)] for i in range(n)], dtype=torch.float64)


@settings(max_examples=30)
@given(st.integers(0, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_local_plus_periodic_functions_are_taken_apart(reach, period, seed):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(period, generator=generator)
    near = torch.randn(reach + 1, generator=generator)
    profile = [float(classes[d % period]) + (float(near[d]) if d <= reach else 0.0) for d in range(30)]
    parts = split(toeplitz(profile), reach, 5)
    assert period % parts.period == 0 or parts.period % period == 0
    torch.testing.assert_close(
        parts.local, toeplitz([float(x) for x in near] + [0.0] * (29 - reach)), atol=1e-5, rtol=0
    )
    assert float(parts.remainder.abs().max()) < 1e-5


@given(st.integers(0, 2**32 - 1))
def test_the_parts_add_up(seed):
    products = torch.randn(20, 20, generator=torch.Generator().manual_seed(seed))
    parts = split(products, 3, 4)
    torch.testing.assert_close(parts.local + parts.periodic + parts.remainder, products.double().tril())
    assert not parts.local.tril(-4).any()
    assert all(not part.triu(1).any() for part in (parts.local, parts.periodic, parts.remainder))


def test_what_varies_along_a_diagonal_is_remainder():
    products = torch.diag(torch.tensor([1.0, -1.0] * 10))
    parts = split(products, 3, 4)
    torch.testing.assert_close(parts.remainder, products.double())


def test_too_few_positions_for_a_split_is_one_sentence():
    with pytest.raises(ValueError, match="longest_period must be at most half of the 6 distances above reach 3"):
        split(torch.zeros(10, 10), 3, 4)


def test_heads_show_the_products_of_a_model():
    config = lf.ModelConfig(5, 2, 2, 8, context=20, init_std=0.5)
    model = lf.Transformer(config)
    heads = head_products(model, 2, 3)
    assert [(head.layer, head.head) for head in heads] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    query, key = (part.chunk(2)[1] for part in model.blocks[1].attention.qkv.weight.chunk(3)[:2])
    table = model.embedding.positions
    expected = ((table @ query.T) @ (table @ key.T).T / math.sqrt(4)).double()
    torch.testing.assert_close(heads[3].products, expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="no positions"):
        head_products(lf.Transformer(lf.ModelConfig(5, 1, 1, 8, positions="nope")))


# ---- the command ----


def test_the_command_learns_draws_and_prints_json(tmp_path, capsys):
    out = tmp_path / "phi.png"
    arguments = ["phi", "--targets", "third", "j == i - 4", "--widths", "4", "6", "--steps", "3", "--out", str(out)]
    assert main([*arguments, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [(each["target"], each["width"]) for each in content["results"]] == [
        (target, width) for target in ("(i - j) % 3 == 0", "j == i - 4") for width in (4, 6)
    ]
    assert out.read_bytes().startswith(b"\x89PNG")
    assert main(arguments) == 0
    assert "loss 150" in capsys.readouterr().out


def test_the_command_shows_a_trained_run(tmp_path, capsys):
    task = lf.task("binary_majority")
    model = lf.ModelConfig(task.vocab_size, 1, 2, 8, context=54)
    lf.train(model, task, lf.TrainConfig(steps=2, length=(1, 20), test_count=10), out=tmp_path / "run")
    assert main(["phi", str(tmp_path / "run"), "--out", str(tmp_path / "heads.png"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["heads"]) == 2
    assert (tmp_path / "heads.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--targets", "nonsense"], "unknown name 'nonsense'"),
        (["--widths", "0"], "width must be at least 1"),
        (["nowhere"], "nowhere is not a run directory"),
        (["nowhere", "--targets", "third"], "--targets goes with learning"),
        (["--longest-period", "120"], "longest_period must be at most half"),
        (["--reach", "-1"], "reach is -1"),
    ],
)
def test_a_bad_call_is_one_sentence(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["phi", *arguments]) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("lengen: error: ")
    assert message in error
    assert error.count("\n") == 1
