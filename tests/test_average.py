"""The fifth slot: what is evaluated is an average of the weights along the way, and training does not know of it."""

import copy
import csv
import json

import numpy as np
import pytest
import torch
from conftest import AVERAGES, equal, make_trainer
from test_checkpoint import content_of, train_interrupted
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, update_bn

import bench
from bench.errors import UsageError
from bench.regularizer.ema import EMA
from bench.regularizer.swa import SWA
from bench.training.budget import total_steps
from bench.training.rates import plan_factors, scale_lrs
from bench.training.run import train_run

NET = ("model=convnet", "model.width=8", "train.epochs=4")  # with BatchNorm; 4 steps an epoch
SWA_FROM_THE_START = ("regularizer.swa.start=0",)
PER_EPOCH, STEPS = 4, 16


def train_with_oracle(run, oracle_of, takes):
    """A trainer at its end, and torch's own average of the same weights: those after the steps that `takes` names."""
    trainer, batches = make_trainer(run)
    oracle, move = oracle_of(trainer.model), trainer.move_average

    def move_both(step, steps, per_epoch):
        assert (steps, per_epoch) == (STEPS, PER_EPOCH)
        if takes(step):
            oracle.update_parameters(trainer.model)
        move(step, steps, per_epoch)

    trainer.move_average = move_both
    list(trainer.epochs(batches))
    update_bn([images for images, _ in batches.epoch(0)], oracle)
    return trainer, batches, oracle.module


def warmed_up(decay):
    """TensorFlow's ExponentialMovingAverage with num_updates."""

    def average(held, current, n):
        now = min(decay, (1 + int(n)) / (10 + int(n)))
        return now * held + (1 - now) * current

    return average


@pytest.mark.parametrize(
    ("decay", "average"),
    [(0.1, get_ema_avg_fn(0.1)), (0.3, warmed_up(0.3)), (0.999, warmed_up(0.999))],
    ids=["no warm-up", "warm-up to the third", "warm-up to the end"],
)
def test_ema_equals_torchs(decay, average, tiny):
    run = tiny(*NET, "regularizer=ema", f"regularizer.ema.decay={decay}")
    trainer, batches, oracle = train_with_oracle(run, lambda m: AveragedModel(m, avg_fn=average), lambda step: True)
    assert_used(trainer, batches, oracle)


@pytest.mark.parametrize(
    ("start", "epochs"), [(0, 4), (0.25, 4), (0.3, 3), (0.5, 3), (0.55, 2), (0.75, 2), (0.76, 2), (0.8, 1), (1, 1)]
)
def test_swa_equals_torchs(start, epochs, tiny):
    """The authors' rule is `epoch + 1 >= swa_start`; here the start may also be within an epoch."""
    run = tiny(*NET, "regularizer=swa", f"regularizer.swa.start={start}")
    ends = [step for step in range(STEPS) if (step + 1) % PER_EPOCH == 0][-epochs:]
    trainer, batches, oracle = train_with_oracle(run, AveragedModel, lambda step: step in ends)
    assert_used(trainer, batches, oracle)


def assert_used(trainer, batches, oracle):
    """That the model, once its average is in use, is the oracle."""
    last = copy.deepcopy(trainer.model.state_dict())
    trainer.averaged.use(trainer.unmixed(batches))
    ours = trainer.model.state_dict()
    for name, value in oracle.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-6)
        assert ours[name].dtype == value.dtype
    assert not equal(ours, last)


def test_the_shares_are_pure_functions_of_the_step():
    assert [EMA(0.5)(step, 100, 10) for step in (0, 7, 8, 99)] == [0.9, 1 - 8 / 17, 0.5, 0.5]
    shares = [SWA(0.5, None)(step, 10, 4) for step in range(10)]  # a budget cuts the third epoch short
    assert shares == [0, 0, 0, 0, 0, 0, 0, 1, 0, 1 / 2]
    assert [SWA(1, None)(step, 10, 4) for step in range(10)] == [0] * 9 + [1]


# --- training --------------------------------------------------------------------------------------------------------


def history(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def column(lines, name):
    return [line[name] for line in lines]


def logits_of(folder):
    with np.load(folder / "logits.npz") as arrays:
        return arrays["test_logits"]


@pytest.mark.parametrize("other", ["", ",mixup,sam,dropout"])
@pytest.mark.parametrize("average", AVERAGES)
def test_training_is_as_without_to_the_bit_and_validation_shows_the_average(average, other, tiny, tmp_path):
    more = (*NET, "dataset.augment=standard", "dataset.val_fraction=0.2")
    plain_stack = f"[{other[1:]}]" if other else "none"
    train_run(tiny(f"regularizer={plain_stack}", *more), tmp_path / "plain")
    result = train_run(tiny(f"regularizer=[{average}{other}]", *more), tmp_path / "averaged")
    plain, averaged = history(tmp_path / "plain"), history(tmp_path / "averaged")
    for name in ("train_loss", "lr"):
        assert column(plain, name) == column(averaged, name)
    same = [a == b for a, b in zip(column(plain, "val_nll"), column(averaged, "val_nll"), strict=True)]
    # Three quarters of 16 steps are three epochs: before, the weights are shown.
    assert same == ([False] * 4 if average == "ema" else [True, True, False, False])
    assert float(averaged[-1]["val_nll"]) == result["val_nll"]


def test_in_a_stack_with_sam_the_mean_is_of_the_weights_that_sam_steps_to(tiny):
    def train(stack):
        trainer, batches = make_trainer(tiny(*NET, f"regularizer={stack}", *SWA_FROM_THE_START[: "swa" in stack]))
        ends = []
        for _ in trainer.epochs(batches):
            ends.append([weight.detach().clone() for weight in trainer.model.parameters()])
        return trainer, ends

    _, ends = train("sam")
    trainer, same = train("[swa,sam]")
    for weights, others in zip(ends, same, strict=True):
        assert all(torch.equal(*pair) for pair in zip(weights, others, strict=True))
    for held, *of_epochs in zip(trainer.averaged.weights.values(), *ends, strict=True):
        torch.testing.assert_close(held, torch.stack(of_epochs).double().mean(0).float())


@pytest.mark.parametrize("neutral", ["regularizer.ema.decay=0", "regularizer.swa.start=1"])
def test_at_neutral_settings_the_weights_are_evaluated(neutral, tiny, tmp_path):
    average = neutral.split(".")[1]
    for model in ((), NET):
        for stack, more in (("none", ()), (average, (neutral,))):
            (folder := tmp_path / f"{stack}{len(model)}").mkdir()
            train_run(tiny(*model, f"regularizer={stack}", *more), folder, keep_weights=True)
    assert np.array_equal(logits_of(tmp_path / "none0"), logits_of(tmp_path / f"{average}0"))
    none, averaged = (torch.load(tmp_path / f"{stack}3" / "weights.pt") for stack in ("none", average))
    names = {name for name in none if not torch.equal(none[name], averaged[name])}
    assert names == {name for name in none if "running" in name or "tracked" in name}  # statistics are made anew
    assert json.loads((tmp_path / f"{average}0" / "result.json").read_text())["gradient_evaluations"] == 8


@pytest.mark.parametrize("stack", ["ema", "swa", "[swa,sam,dropout]", "[ema,mixup,look_sam]"])
@pytest.mark.parametrize("after", [(2, 6), (9,), (17,)], ids=str)  # 16 steps: the last is between two splits
def test_a_run_goes_on_with_its_average_to_the_last_bit(stack, after, tiny, tmp_path):
    run = tiny(*NET, f"regularizer={stack}", *SWA_FROM_THE_START[: "swa" in stack], "dataset.val_fraction=0.2")
    whole = train_run(run, tmp_path / "whole", keep_weights=True)
    train_run(run, tmp_path / "interrupted", keep_weights=True)
    kept = torch.load(tmp_path / "interrupted" / "weights.pt")
    (tmp_path / "interrupted" / "result.json").unlink()
    again = train_interrupted(run, tmp_path / "interrupted", *after)
    assert whole["status"] == again["status"] == "done"
    assert content_of(tmp_path / "interrupted") == content_of(tmp_path / "whole")
    assert equal(kept, torch.load(tmp_path / "interrupted" / "weights.pt"))
    steps = sum(map(float, column(history(tmp_path / "interrupted"), "seconds")))
    assert steps < again["train_seconds"] < steps + again["wall_seconds"]  # the pass counts once


@pytest.mark.parametrize("average", AVERAGES)
def test_kept_weights_are_those_that_were_evaluated_and_probed(average, tiny, tmp_path):
    run = tiny(*NET, f"regularizer={average}", *SWA_FROM_THE_START[: average == "swa"])
    folder = tmp_path / "runs" / ("0" * 12)
    folder.parent.mkdir()
    train_run(run, folder, keep_weights=True)
    data = make_trainer(run)[1].data
    loaded = bench.load_model("0" * 12, tmp_path)
    with torch.inference_mode():
        logits = loaded.logits(data.test.images)
    np.testing.assert_allclose(logits.numpy(), logits_of(folder), rtol=1e-4, atol=1e-5)


def test_a_frozen_parameter_is_its_own_average(tiny):
    trainer, batches = make_trainer(tiny("model=fastnet", "model.width=4", "regularizer=ema"))
    whitening = trainer.model[0].weight.detach().clone()
    list(trainer.epochs(batches))
    trainer.averaged.use(trainer.unmixed(batches))
    assert torch.equal(trainer.model[0].weight, whitening)


def test_an_average_that_is_not_finite_diverges(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(EMA, "__call__", lambda *_: float("nan"))
    result = train_run(tiny("regularizer=ema"), tmp_path)
    assert (result["status"], result["message"]) == ("diverged", "the model's logits are not finite")


# --- cost ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "steps", "evaluations"),
    [
        ((*NET, "regularizer=ema"), 16, 20),
        ((*NET, "regularizer=[swa,sam]"), 16, 36),
        (("regularizer=ema", "train.epochs=4"), 16, 16),  # the mlp has no BatchNorm
        ((*NET, "regularizer=none"), 16, 16),
        ((*NET, "regularizer=swa", "train.gradient_evaluations=11"), 7, 11),
        ((*NET, "regularizer=[ema,sam]", "train.gradient_evaluations=11"), 3, 10),
        (("regularizer=ema", "train.gradient_evaluations=11"), 11, 11),
    ],
)
def test_the_pass_for_batch_norm_is_counted_planned_and_paid_for(overrides, steps, evaluations, tiny, plan, tmp_path):
    (planned,) = plan(*overrides)
    result = train_run(tiny(*overrides), tmp_path / "run")
    assert planned.evaluations == result["gradient_evaluations"] == evaluations
    assert result["images_per_second"] * result["train_seconds"] == pytest.approx(steps * 16)


def test_its_time_is_training_and_that_of_a_curve_is_not(tiny, tmp_path):
    result = train_run(tiny(*NET, "regularizer=ema", "dataset.val_fraction=0.2"), tmp_path)
    steps = sum(map(float, column(history(tmp_path), "seconds")))
    assert steps < result["train_seconds"] < result["wall_seconds"]
    assert result["train_seconds"] + result["evaluation_seconds"] < result["wall_seconds"]


def test_a_budget_that_the_pass_uses_up_is_refused(plan, tiny):
    assert total_steps(tiny("train.gradient_evaluations=4").train, 4, 1, at_end=5) == 0
    with pytest.raises(UsageError, match=r"train.gradient_evaluations=4 pays for no step") as caught:
        plan(*NET, "regularizer=ema", "train.gradient_evaluations=4")
    assert len(str(caught.value).splitlines()) <= 3
    plan(*NET, "regularizer=none", "train.gradient_evaluations=4")


# --- settings --------------------------------------------------------------------------------------------------------


def test_swas_rate_takes_over_at_its_start(tiny, tmp_path):
    more = (*NET, "regularizer=swa", "regularizer.swa.start=0.5", "regularizer.swa.lr=0.05")
    trainer, batches = make_trainer(tiny(*more))
    seen, step = [], trainer.step
    trainer.step = lambda *given: seen.append(trainer.optimizer.param_groups[0]["lr"]) or step(*given)
    epochs = list(trainer.epochs(batches))
    cosine = [0.05 * (1 + np.cos(np.pi * i / STEPS)) for i in range(8)]
    assert seen == pytest.approx([*cosine, *[0.05] * 8])
    assert [epoch.lr for epoch in epochs] == pytest.approx([cosine[3], cosine[7], 0.05, 0.05])


def test_groups_keep_the_ratio_of_their_rates():
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [w], "lr": r} for w, r in zip(weights, (0.01, 0.1), strict=True)])
    factor = plan_factors(optimizer, SWA(0.5, 0.02), "constant", 10, 0)
    for step, rates in ((4, [0.01, 0.1]), (5, [0.002, 0.02])):
        scale_lrs(optimizer, factor(step))
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(rates)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("regularizer=ema", "regularizer.ema.decay=1"), r"regularizer\.ema\.decay=1 is not allowed"),
        (("regularizer=swa", "regularizer.swa.start=1.5"), r"regularizer\.swa\.start=1\.5 is not allowed"),
        (("regularizer=swa", "regularizer.swa.lr=0"), r"regularizer\.swa\.lr=0 is not allowed"),
        (("regularizer=[ema,swa]",), "both fill the slot average"),
    ],
)
def test_bad_input_is_refused(overrides, message, plan):
    with pytest.raises(UsageError, match=message) as caught:
        plan(*overrides)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_stack_has_its_name_in_the_slots_order(plan):
    (planned,) = plan("regularizer=[dropout,swa,sam,mixup]")
    assert planned.run.regularizer == "mixup+sam+swa+dropout"
