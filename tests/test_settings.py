"""Bad input: a clear error in at most three lines, before anything trains."""

import pytest
from conftest import TINY, compose

from bench import UsageError
from bench.app import run
from bench.dataset import load_source
from bench.plan import Command, make_plan

# What is typed, and what the message must name: what was wrong and what is allowed or how to mend it.
BAD = {
    "regularizer=samm": ["samm", "asam, cutmix, dropout"],
    "optimizer=sdg": ["sdg", "adam, adamw, sgd"],
    "+exp=nope": ["nope", "digits"],
    "+exp=digits,fashion": ["one experiment"],
    "train.epoch=3": ["train.epoch", "epochs"],
    "+train.foo=1": ["train.foo", "epochs"],
    "regularizer.sam.rhoo=1": ["regularizer.sam.rhoo", "rho"],
    "regularizer.samm.rho=1": ["regularizer.samm", "sam"],
    "optimizer.sgd.beta=1": ["optimizer.sgd.beta", "momentum"],
    "foo=1": ["foo", "seed"],
    "foo": ["foo"],
    "seed=-1": ["seed=-1", "at least 0"],
    "seed=1.5": ["seed=1.5", "integer"],
    "seed=abc": ["seed=abc", "integer"],
    "force=maybe": ["force=maybe", "true, false"],
    "force=true,false": ["force cannot be swept"],
    "train.epochs=0": ["train.epochs=0", "at least 1"],
    "train.epochs=abc": ["train.epochs=abc", "integer"],
    "train.schedule=linear": ["linear", "cosine, one_cycle, step, constant"],
    "train.warmup_epochs=2": ["warmup_epochs=2", "epochs=2"],
    "train.gradient_evaluations=1 regularizer=sam": ["gradient_evaluations=1", "no step"],
    "train.device=gpu": ["train.device=gpu", "cuda:N"],
    "train.device=cuda:99": ["cuda:99", "cpu"],
    "train.batch_size=1000": ["1000", "at most 64"],
    "dataset.train_size=1000": ["1000", "at most 64"],
    "dataset.val_fraction=1": ["val_fraction=1", "[0, 1)"],
    "dataset.augment=flip": ["flip", "none, standard"],
    "regularizer=[mixup,cutmix]": ["mixup", "cutmix", "mixing"],
    "regularizer=[sam,asam]": ["sam", "asam", "gradient"],
    "regularizer=[none,sam]": ["none", "stack"],
    "regularizer=[sam,sam]": ["sam,sam", "twice"],
    "regularizer=none,[sam,sam]": ["sam,sam", "twice"],
    "optimizer=[sgd,adam]": ["one optimizer", "sgd,adam"],
    "regularizer=mixup regularizer.mixup.alpha=0": ["alpha=0", "above 0"],
    "regularizer=none regularizer.sam.rho=-1": ["rho=-1", "at least 0"],  # also where it is not chosen
    "regularizer.cutmix.prob=1.1": ["prob=1.1", "[0, 1]"],
    "regularizer.label_smoothing.smoothing=1": ["smoothing=1", "[0, 1)"],
    "regularizer=dropout model.dropout=0.1": ["dropout", "0.1"],
    "regularizer=weight_decay optimizer.sgd.weight_decay=0.1": ["weight_decay", "sgd", "0.1"],
    "optimizer=adam optimizer.adam.betas=[2,3]": ["betas=[2, 3]", "two of: a number in [0, 1)"],
    "optimizer.sgd.momentum=0": ["sgd", "momentum"],
    "model=wide_resnet ~model.width model.depth=11": ["wide_resnet", "6n + 4"],
    "model=null": ["model=null", "list"],
    "model=mlp,": ["model=mlp,", "list"],
    "regularizer.sam=5": ["regularizer.sam=5", "rho"],
    "optimizer.sgd=null": ["optimizer.sgd", "lr"],
    "~train.epochs": ["train.epochs", "taken out"],
    "~seed": ["seed", "taken out"],
    "regularizer=sam regularizer.sam.slot=loss": ["slot", "cannot be changed"],
    "regularizer=dropout regularizer.dropout.sets=model.width": ["sets", "cannot be changed"],
    "model._target_=foo.bar": ["_target_", "cannot be changed"],
    "hydra/sweeper=basic": ["hydra/sweeper"],
    "results_dir=null": ["results_dir", "path of a folder"],
    "results_dir=/dev/null/x": ["/dev/null/x", "cannot be written"],
    "dataset=fashion_mnist ~dataset.train_images ~dataset.test_images dataset.root=5": ["dataset.root=5", "folder"],
    "dataset.root=~/data": ["dataset.root=~/data", "~ is not expanded"],
    "dataset.val_fraction=0.999 train.batch_size=1": ["no image", "val_fraction"],
    "model=resnet18 train.batch_size=1": ["resnet18", "batches of 1"],
    "optimizer=adam optimizer.adam.betas=3": ["betas=3", "two of"],
    "seed=0,1 --cfg job": ["seed=0,1", "one value"],
    "--foo": ["--foo", "key=value"],
    "dataset.image_size=4": ["image_size=4", "at least 8"],
}


@pytest.mark.parametrize("typed", BAD)
def test_bad_input_says_what_was_wrong_and_how_to_mend_it(typed, tmp_path):
    overrides = [o for o in TINY if not (typed.startswith("model=") and o.startswith("model"))]
    with pytest.raises(UsageError) as caught:
        run([*overrides, f"results_dir={tmp_path / 'results'}", *typed.replace("~model.width ", "").split()])
    message = str(caught.value)
    assert len(message.splitlines()) <= 3
    assert all(part in message for part in BAD[typed]), message
    assert not (tmp_path / "results").exists()


def test_values_for_what_is_not_chosen_are_accepted_and_stay_out_of_the_identity(tmp_path):
    plain, swept = (
        make_plan(Command("adhoc", compose(*TINY, *more), tmp_path))
        for more in (["regularizer=none,sam"], ["regularizer=none,sam", "regularizer.sam.rho=0.05,0.1"])
    )
    assert len(plain) == 2
    assert len(swept) == 3  # none counts once
    assert {p.run_id for p in plain} < {p.run_id for p in swept}


def test_an_empty_stack_means_none(plan):
    (empty,) = plan("regularizer=[]")
    (none,) = plan("regularizer=none")
    assert empty.run_id == none.run_id
    assert empty.run.regularizer == "none"


def test_a_stack_is_named_in_its_fixed_order(tiny):
    stack = "[weight_decay,sam,label_smoothing,dropout,mixup]"
    assert tiny(f"regularizer={stack}").regularizer == "mixup+label_smoothing+sam+dropout+weight_decay"


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_plus_before_a_plain_key_changes_nothing(plus):
    assert {run.seed for run in compose("+exp=digits_smoke", f"{plus}seed=7")} == {7}


def test_one_dataset_is_loaded_once_whatever_is_taken_of_it(plan):
    few, many = plan("dataset.train_size=20,40", "dataset.augment=none")
    assert load_source(few.run.dataset) is load_source(many.run.dataset)


def test_a_user_may_narrow_and_widen_an_experiment():
    assert len(compose("+exp=digits_smoke")) == 4
    assert {run.seed for run in compose("+exp=digits_smoke", "seed=7")} == {7}
    assert {run.regularizer for run in compose("+exp=digits_smoke", "regularizer=cutmix,asam")} == {"cutmix", "asam"}
    assert {run.model.name for run in compose("exp=digits_smoke", "model=convnet")} == {"convnet"}  # without the plus
