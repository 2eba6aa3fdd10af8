"""Overrides that were typed and change nothing are said; all others, and what experiments hold, stay silent."""

import shutil

import pytest
from conftest import TINY, draw_picture

from bench.cli import run as app
from bench.sweep.unused import find_unused

# What is typed, and what is said of it: the override, and a part of the reason.
UNUSED = {
    "regularizer=sam regularizer.mixup.alpha=0.1,0.4": {"regularizer.mixup.alpha=0.1,0.4": "no run chooses"},
    "optimizer=adam optimizer.sgd.lr=0.5": {"optimizer.sgd.lr=0.5": "no run chooses optimizer sgd"},
    "regularizer.sam={rho:0.1}": {"regularizer.sam={rho:0.1}": "no run chooses regularizer sam"},
    "+regularizer.sam.rho=0.1 ++optimizer.adam.lr=1": {
        "+regularizer.sam.rho=0.1": "sam",
        "++optimizer.adam.lr=1": "adam",
    },
    "train.gradient_evaluations=8 train.epochs=3": {"train.epochs=3": "train.gradient_evaluations=8 replaces it"},
    "train.warmup_epochs=0.01": {"train.warmup_epochs=0.01": "no step of the 4 of an epoch"},
    "regularizer=cutmix regularizer.cutmix.prob=0 regularizer.cutmix.alpha=2": {
        "regularizer.cutmix.alpha=2": "prob is 0"
    },
    "regularizer=mixup_cutmix regularizer.mixup_cutmix.cutmix_prob=1 regularizer.mixup_cutmix.mixup_alpha=1": {
        "regularizer.mixup_cutmix.mixup_alpha=1": "cutmix_prob is 1"
    },
    "regularizer=mixup_cutmix regularizer.mixup_cutmix.cutmix_prob=0.0 regularizer.mixup_cutmix.cutmix_alpha=2": {
        "regularizer.mixup_cutmix.cutmix_alpha=2": "cutmix_prob is 0"
    },
    "regularizer=look_sam regularizer.look_sam.interval=1 regularizer.look_sam.alpha=0.7": {
        "regularizer.look_sam.alpha=0.7": "interval is 1"
    },
    "regularizer=random_erasing regularizer.random_erasing.probability=0 regularizer.random_erasing.ratio=[1,1]": {
        "regularizer.random_erasing.ratio=[1,1]": "probability is 0"
    },
    "regularizer=swa regularizer.swa.start=1 regularizer.swa.lr=0.1": {"regularizer.swa.lr=0.1": "start is 1"},
    "regularizer=asam regularizer.asam.rho=0 regularizer.asam.eta=1": {"regularizer.asam.eta=1": "rho is 0"},
    "regularizer=dropout model.dropout=0": {"model.dropout=0": "regularizer dropout sets it"},
    "regularizer=[weight_decay,sam] optimizer.sgd.weight_decay=0": {
        "optimizer.sgd.weight_decay=0": "weight_decay sets"
    },
    "seed=0 seed=1": {"seed=0": "seed=1 comes after it"},
    "regularizer=sam +seed=3 regularizer=mixup seed=4": {"regularizer=sam": "mixup", "+seed=3": "seed=4"},
    "hydra.sweep.dir=x": {"hydra.sweep.dir=x": "results_dir"},
}
USED = [
    "regularizer=none,sam regularizer.sam.rho=0.1,0.2",
    "optimizer=sgd,adam optimizer.sgd.lr=0.5 optimizer.adam.lr=0.01",
    "regularizer=[mixup,sam],none regularizer.mixup.alpha=1 regularizer.sam={rho:0.1}",
    "train.gradient_evaluations=null,8 train.epochs=1",
    "train.warmup_epochs=0.5,0.01",
    "train.warmup_epochs=0",
    "regularizer=cutmix regularizer.cutmix.prob=0,1 regularizer.cutmix.alpha=2",
    "regularizer=none,dropout model.dropout=0",
    "regularizer=weight_decay optimizer=sgd,adam optimizer.sgd.lr=0.1",
    "regularizer=look_sam regularizer.look_sam.alpha=0",
    "train.checkpoint_minutes=1 train.tracker=none train.clip_norm=5 train.schedule=step,constant",
    "dataset.val_fraction=0 dataset.train_size=40 model.width=8 seed=3 force=true exp=mine",
]


def said(*typed):
    lines = (line.partition(" has no effect: ") for line in find_unused(app.compose(typed)))
    return {override: reason for override, _, reason in lines}


def without(typed):
    """TINY's overrides but for those that are typed, which would come after them."""
    keys = {override.partition("=")[0] for override in typed.split()}
    return [override for override in TINY if override.partition("=")[0] not in keys]


@pytest.mark.parametrize("typed", UNUSED)
def test_what_no_run_uses_is_said_with_the_reason(typed):
    found = said(*without(typed), *typed.split())
    assert found.keys() == UNUSED[typed].keys()
    assert all(part in found[override] for override, part in UNUSED[typed].items()), found


@pytest.mark.parametrize("typed", USED)
def test_what_one_run_of_a_sweep_uses_is_not_said(typed):
    assert said(*without(typed), *typed.split()) == {}


def test_what_an_experiment_holds_for_others_is_not_said():
    assert said("+exp=digits", "regularizer=none", "optimizer=adam", "train.epochs=1") == {}
    assert said("+exp=digits", "regularizer=none", "optimizer=adam", "optimizer.sgd.lr=0.03").keys() == {
        "optimizer.sgd.lr=0.03"
    }


def test_what_an_experiment_on_all_leaves_out_is_said():
    (line,) = find_unused(app.compose(["+exp=digits"]))
    assert (
        line == "left out: regularizer stochastic_depth sets model.stochastic_depth, which model convnet does not have."
    )
    assert not [*find_unused(app.compose(["+exp=digits", "model=resnet8"]))]


def test_what_the_data_make_idle_is_said(split, tmp_path):
    for name in "ab":
        for i in range(8):
            draw_picture(tmp_path / "flat" / name / f"{i}.png")
    typed = ("dataset=image_folder", "model=mlp", "train.batch_size=2", "dataset.val_fraction=0")
    fraction = ("dataset.test_fraction=0.3", "dataset.flips=false")
    assert said(*typed, f"dataset.root={split}", *fraction) == {fraction[0]: f"{split} has a test split."}
    assert said(*typed, f"dataset.root={split},{tmp_path / 'flat'}", *fraction) == {}
    assert said(*typed, f"dataset.root={tmp_path / 'flat'}", *fraction, "dataset.augment=none") == {
        fraction[1]: "dataset.augment is none."
    }
    shutil.copytree(split / "test", split / "val")
    white = ("dataset.white=100", "dataset.val_fraction=0.3")
    above = "dataset.max_pixels=100000"  # as it is typed where a picture was refused
    assert said(*typed[:-1], f"dataset.root={split}", *white, above) == {
        white[0]: "the data do not depend on it.",
        white[1]: "the data have a validation split.",
    }


def test_it_is_said_once_before_training_and_where_nothing_trains(tmp_path, capsys):
    typed = [*TINY, f"results_dir={tmp_path}", "regularizer=sam", "regularizer.mixup.alpha=0.1,0.4"]
    line = "regularizer.mixup.alpha=0.1,0.4 has no effect: no run chooses regularizer mixup."
    for act, arguments in ((app.plan, typed), (app.run, [*typed, "--dry-run"]), (app.run, typed), (app.run, typed)):
        assert act(arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines.count(line) == 1
        assert lines.index(line) < next(i for i, text in enumerate(lines) if text.startswith("adhoc: 1 run"))
