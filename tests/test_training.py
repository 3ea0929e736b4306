"""Training: the protocol, and that an interrupted run ends in the same bits as one that was left alone."""

import os
import signal
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

import lengen_fast as lf
from lengen_fast import training
from lengen_fast.data import Stream
from lengen_fast.optimizer import AdamW
from lengen_fast.runs import RunError
from lengen_fast.training import default_configs, training_loss

TASK = lf.task("binary_majority")


def configs(positions="ape", **train):
    settings = dict(steps=60, batch=8, log_every=10, save_every=10**6, test_every=30, test_count=40) | train
    return default_configs(TASK, positions, train=settings)


def same_weights(model, other):
    return all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def without_times(history):
    return [{key: value for key, value in line.items() if key != "seconds"} for line in history]


# ---- one run ----


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    model, train = configs()
    first, second = lf.train(model, TASK, train), lf.train(model, TASK, train)
    other = lf.train(model, TASK, configs(seed=1)[1])
    assert same_weights(first.model, second.model)
    assert not same_weights(first.model, other.model)


def test_the_loss_is_the_mean_over_scored_positions_of_strings_taken_one_by_one():
    model_config, _ = configs()
    model = lf.Transformer(model_config)
    batch = TASK.sample(9, (1, 30), seed=3, context=model_config.context)
    loss = training_loss(model, batch)
    losses = []
    for index in range(batch.rows):
        tokens = batch.row(index)
        scored, targets = TASK.oracle(tokens.numpy())
        logits = model(tokens[None], offsets=batch.offsets[index : index + 1])[0]
        losses.append(F.cross_entropy(logits[torch.from_numpy(scored)], torch.from_numpy(targets), reduction="none"))
    expected = torch.cat(losses).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    for ours, plain in zip(gradients, torch.autograd.grad(expected, list(model.parameters())), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("largest_flat", [0, AdamW.LARGEST_FLAT])
def test_the_loop_is_adamw_with_linear_decay_clipping_and_no_decay_of_biases_and_norms(largest_flat, monkeypatch):
    monkeypatch.setattr(AdamW, "LARGEST_FLAT", largest_flat)
    model_config, train = configs(warmup=5, regularize=1e-3, clip_norm=0.5)
    run = lf.train(model_config, TASK, train)
    model = lf.Transformer(model_config, seed=train.seed)
    decayed = [p for n, p in model.named_parameters() if not n.endswith("bias") and "norm" not in n]
    others = [p for n, p in model.named_parameters() if n.endswith("bias") or "norm" in n]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}], lr=train.learning_rate
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: step / 5 if step < 5 else (train.steps - step) / (train.steps - 5)
    )
    stream = Stream(TASK, 8, train.length, train.seed, context=model_config.context, stop=train.steps)
    for batch in stream:
        optimizer.zero_grad()
        training_loss(model, batch, train.regularize).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
    for ours, plain in zip(run.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-5)


def test_the_learning_rate_rises_over_the_warmup_and_falls_to_zero():
    train = lf.TrainConfig(steps=100, warmup=10, learning_rate=2.0)
    assert train.rate_at(0) == 0
    assert train.rate_at(5) == 1.0
    assert train.rate_at(10) == 2.0
    assert train.rate_at(55) == 1.0
    assert train.rate_at(99) == pytest.approx(2 / 90)


def test_training_tests_its_own_range_only_on_validation_strings(monkeypatch):
    asked = []

    def spy(model, task, lengths, **options):
        asked.append((lengths, options["purpose"], options["count"]))
        return real(model, task, lengths, **options)

    real = training.evaluate
    monkeypatch.setattr(training, "evaluate", spy)
    lf.train(*configs()[:1], TASK, configs()[1])
    assert asked == [([(1, 50)], "validation", 40)] * 2


def test_training_stops_at_the_first_test_with_every_string_right_and_not_before(monkeypatch):
    shares = iter([39, 40, 40])

    def scripted(model, task, lengths, **options):
        right = next(shares)
        return lf.AccuracyTable(
            "binary_majority", (lf.Accuracy(1, 50, "paper", "zero", 40, right, 80, 80, None, None),)
        )

    monkeypatch.setattr(training, "evaluate", scripted)
    model, train = configs(test_every=10)
    run = lf.train(model, TASK, train)
    assert run.step == 20
    assert run.fitted


def test_it_learns():
    model, train = configs("nope", steps=400, batch=32, test_every=400, test_count=500)
    run = lf.train(model, TASK, train)
    losses = [line["loss"] for line in run.history if "loss" in line]
    assert losses[-1] < 0.2 * losses[0]
    assert run.in_range.exact > 0.8


def test_the_observer_sees_every_step_and_the_losses_of_the_metrics():
    seen = []
    model, train = configs()
    run = lf.train(model, TASK, train, observer=lambda *arguments: seen.append(arguments))
    assert sorted({step for step, _, _ in seen}) == list(range(1, 61))
    assert [loss for _, _, loss in seen if loss is not None] == [line["loss"] for line in run.history if "loss" in line]


# ---- interruption ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("positions", "largest_flat"), [("ape", AdamW.LARGEST_FLAT), ("nope", 0)])
def test_a_signal_saves_and_resuming_ends_in_the_same_bits(tmp_path, number, positions, largest_flat, monkeypatch):
    monkeypatch.setattr(AdamW, "LARGEST_FLAT", largest_flat)
    model, train = configs(positions, regularize=1e-4)
    whole = lf.train(model, TASK, train, out=tmp_path / "whole")

    def interrupt(step, tokens, loss):
        if step == 23 and loss is None:
            os.kill(os.getpid(), number)

    with pytest.raises(lf.Interrupted) as caught:
        lf.train(model, TASK, train, out=tmp_path / "cut", observer=interrupt)
    assert caught.value.step == 23
    assert caught.value.signal_number == number
    resumed = lf.train(model, TASK, train, out=tmp_path / "cut", resume=True)
    assert same_weights(whole.model, resumed.model)
    assert without_times(resumed.history) == without_times(whole.history)
    assert without_times(lf.RunDirectory.open(tmp_path / "cut").read_metrics()) == without_times(whole.history)
    assert not (tmp_path / "cut" / "checkpoint.safetensors").exists()


def test_signal_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    lf.train(*configs()[:1], TASK, configs()[1], out=tmp_path / "run")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


KILLED = """
import sys
import lengen_fast as lf
from test_training import TASK, configs
model, train = configs(save_every=7, steps=60)

def slow(step, tokens, loss):
    print(step, flush=True)
    if step >= int(sys.argv[2]):
        import time
        time.sleep(60)

lf.train(model, TASK, train, out=sys.argv[1], resume=sys.argv[3] == "resume", observer=slow)
"""


def test_kill_9_at_any_point_and_resuming_ends_in_the_same_bits(tmp_path):
    """Killed after step 5 (no checkpoint yet), again after 31 and after 44, each time from where it had come."""
    model, train = configs(save_every=7)
    whole = lf.train(model, TASK, train)
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}
    for position, step in enumerate((5, 31, 44)):
        mode = "resume" if position else "new"
        arguments = [sys.executable, "-c", KILLED, str(tmp_path / "run"), str(step), mode]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) as process:
            for line in process.stdout:
                if int(line) >= step:
                    break
            process.kill()
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"step": 50, "lo')  # a line cut short by the crash
    resumed = lf.train(model, TASK, train, out=tmp_path / "run", resume=True)
    assert same_weights(whole.model, resumed.model)
    assert without_times(resumed.history) == without_times(whole.history)


def test_a_finished_run_is_returned_as_it_is(tmp_path):
    model, train = configs()
    run = lf.train(model, TASK, train, out=tmp_path / "run")
    written = (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns
    again = lf.train(model, TASK, train, out=tmp_path / "run", resume=True)
    assert same_weights(run.model, again.model)
    assert (again.step, again.fitted, again.history) == (run.step, run.fitted, run.history)
    assert (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns == written


def test_a_diverging_run_names_the_step_and_keeps_its_last_good_checkpoint(tmp_path, monkeypatch):
    model, train = configs(save_every=10, log_every=10)
    real = training.training_loss

    def poisoned(model, batch, regularize):
        loss = real(model, batch, regularize)
        poisoned.calls += 1
        return loss * float("nan") if poisoned.calls == 34 else loss

    poisoned.calls = 0
    monkeypatch.setattr(training, "training_loss", poisoned)
    with pytest.raises(lf.TrainingDiverged, match="at step 34"):
        lf.train(model, TASK, train, out=tmp_path / "run")
    directory = lf.RunDirectory.open(tmp_path / "run")
    tensors, state = directory.load_checkpoint()
    assert state["step"] == 30
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    assert not directory.finished


# ---- what cannot be trained ----


def test_settings_that_do_not_fit_are_refused_before_anything_is_written(tmp_path):
    model, train = configs()
    cases = [
        (lf.ModelConfig(vocab_size=9, layers=1, heads=1, width=16), train, "vocab_size"),
        (lf.ModelConfig(vocab_size=5, layers=1, heads=1, width=16, context=20), train, "--context"),
        (model, configs(length=(0, 50))[1], "shortest"),
        (model, configs(length=(50, 10))[1], "reversed"),
    ]
    for model_config, train_config, words in cases:
        with pytest.raises(ValueError, match=words):
            lf.train(model_config, TASK, train_config, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("batch", -1), ("learning_rate", 0.0), ("warmup", 30_000), ("seed", -1), ("clip_norm", 0.0),
     ("test_every", 0), ("regularize", -1.0), ("weight_decay", -0.1), ("learning_rate", float("nan"))],
)  # fmt: skip
def test_each_bad_setting_is_named(field, value):
    with pytest.raises(ValueError, match=field):
        lf.TrainConfig(**{field: value})


def test_a_directory_begun_with_other_settings_is_not_resumed(tmp_path):
    model, train = configs()
    lf.train(model, TASK, train, out=tmp_path / "run")
    with pytest.raises(ValueError, match=r"another train\.seed"):
        lf.train(model, TASK, configs(seed=5)[1], out=tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match="not empty"):
        lf.train(model, TASK, train, out=tmp_path / "run")


def test_a_run_of_other_strings_is_not_resumed(tmp_path, monkeypatch):
    model, train = configs()
    lf.train(model, TASK, train, out=tmp_path / "run")
    monkeypatch.setattr(training, "STRINGS", training.STRINGS + 1)
    with pytest.raises(RunError, match="begun by a version that drew other strings"):
        lf.train(model, TASK, train, out=tmp_path / "run", resume=True)


def test_default_settings_are_the_papers():
    model, train = default_configs(lf.task("parity"), "nope")
    assert (model.layers, model.heads, model.width) == (12, 12, 768)
    assert (train.learning_rate, train.steps, train.warmup) == (3e-5, 60_000, 3000)
    model, train = default_configs(lf.task("unique_copy"), "ape")
    assert (model.layers, model.heads, model.width, model.context) == (2, 1, 64, 303)
    assert (train.batch, train.weight_decay, train.test_every, train.length) == (64, 0.01, 3000, (1, 50))
    contexts = {
        name: default_configs(lf.task(name), "ape")[0].context
        for name in (
            "binary_majority",
            "majority",
            "binary_majority_interleave",
            "sort",
            "repeat_copy",
            "parity",
            "addition",
        )
    }
    assert contexts == {"binary_majority": 154, "majority": 154, "binary_majority_interleave": 156, "sort": 303,
                        "repeat_copy": 303, "parity": 154, "addition": 300}  # fmt: skip


def test_an_interrupt_in_the_step_that_ends_a_fitted_run_is_not_lost_and_neither_is_the_step(tmp_path, monkeypatch):
    monkeypatch.setattr(training._Trainer, "_fitted", True)
    model, train = configs(steps=9, test_every=3)

    def interrupt(step, tokens, loss):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(lf.Interrupted):
        lf.train(model, TASK, train, out=tmp_path / "run", observer=interrupt)
    assert lf.train(model, TASK, train, out=tmp_path / "run", resume=True).step == 3


def test_what_fails_before_its_first_step_leaves_nothing_and_later_what_can_be_gone_on_with(tmp_path, monkeypatch):
    model, train = configs(steps=9, save_every=3, test_every=9)

    def fail(step, tokens, loss):
        if step == 5:
            raise OSError("the observer's own")

    with monkeypatch.context() as patch:
        patch.setattr(lf.training, "training_loss", lambda *_: torch.empty(2**60))
        with pytest.raises(RuntimeError, match="memory"):
            lf.train(model, TASK, train, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(OSError, match="the observer's own"):
        lf.train(model, TASK, train, out=tmp_path / "run", observer=fail)
    assert lf.train(model, TASK, train, out=tmp_path / "run", resume=True).step == 9


def test_weights_that_the_last_update_ruined_are_never_saved(tmp_path):
    model, train = configs(steps=1, learning_rate=1e38, clip_norm=None, weight_decay=1e30, test_every=1)
    with pytest.raises(lf.TrainingDiverged, match="a weight became NaN or infinite at step 1"):
        lf.train(model, TASK, train, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()  # its name is free for another learning rate


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [("steps", 10.5, TypeError), ("seed", 1.5, TypeError), ("seed", 2**64, ValueError), ("batch", "4", TypeError),
     ("threads", 0, ValueError), ("distribution", "foo", ValueError), ("length", 5, TypeError)],
)  # fmt: skip
def test_wrong_types_and_names_are_refused(field, value, error):
    with pytest.raises(error, match=field):
        lf.TrainConfig(**{field: value})


@pytest.mark.parametrize("regex", ["(ab)*", "(aa)*"])
def test_strings_outside_a_language_can_be_trained_on_and_tested(regex):
    task = lf.language(regex, labels="membership")
    model, train = default_configs(task, "nope", train={"steps": 2, "distribution": "corrupted", "length": (1, 9)})
    run = lf.train(model, task, train)
    lines = lf.evaluate(run.model, task, [(1, 9), 12 if regex == "(ab)*" else 13], distribution="corrupted", count=5)
    assert [line.distribution for line in lines] == ["corrupted"] * 2
    other = task.with_labels("legal")
    with pytest.raises(ValueError, match="distribution is 'corrupted'; it must be 'uniform' or 'hard'"):
        lf.train(default_configs(other, "nope")[0], other, train)


def test_a_device_that_is_not_there_leaves_nothing_behind(tmp_path):
    model, train = configs()
    with pytest.raises(ValueError, match="there is no device 'cuda:93' here"):
        lf.train(model, TASK, train, out=tmp_path / "run", device="cuda:93")
    assert not (tmp_path / "run").exists()
