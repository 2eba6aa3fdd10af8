"""Bad input: a clear error in at most three lines, before anything trains."""

import errno
import json
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import TINY, compose

from bench.cli import main
from bench.dataset import load_source
from bench.disk.files import to_csv
from bench.record.tables import read_csv, request_runs
from bench.sweep import launcher
from bench.sweep.plan import Command, make_plan

GOLDEN = Path(__file__).parent / "golden"

# What is typed, and what the message must name: what was wrong and what is allowed or how to mend it.
BAD = {
    "regularizer=samm": ["no regularizer samm; did you mean sam or asam?", "asam, confidence_penalty, cutmix"],
    "regularizer=none,mixupp": ["mixupp", "did you mean mixup"],
    "optimizer=sdg": ["sdg", "did you mean sgd", "adam, adam_sgd, adamw, sgd"],
    "model=resnet19": ["no model resnet19", "did you mean resnet18"],
    "dataset=cifar": ["no dataset cifar", "did you mean cifar10"],
    "+exp=digit": ["no exp digit", "did you mean digits"],
    "+exp=nope": ["nope", "digits", "exp=NAME, without the plus"],
    "hydra/launcher=jobli": ["jobli", "did you mean joblib"],
    "hydra/launcher=ray_aws": ["ray_aws", "joblib"],
    "hydra/launcher=joblib hydra.launcher.jobs=2": ["hydra.launcher.jobs", "launcher"],
    "hydra/launcher=joblib hydra.launcher.n_jobs=two": ["n_jobs=two", "integer"],
    "hydra/launcher=submitit_local hydra.launcher.array_parallelism=0": ["array_parallelism=0", "at least 1"],
    "hydra/launcher=ray hydra.launcher.ray.remote.num_gpus=-1": ["num_gpus=-1", "at least 0"],
    "retry_failed=1": ["retry_failed=1", "true, false"],
    "fail_fast=yess": ["fail_fast=yess", "true, false"],
    "train.checkpoint_minutes=-1": ["checkpoint_minutes=-1", "at least 0"],
    "train.tracker=wandb": ["train.tracker=wandb", "none, tensorboard, mlflow"],
    "train.precision=fp16 train.device=cpu": ["fp16", "CUDA"],
    "+exp=digits,fashion": ["one experiment"],
    "exp=digits,fashion": ["one experiment"],
    "exp=digit": ["no experiment digit; did you mean digits?", "exp=mine"],
    "exp=fasion seed=0": ["did you mean fashion?"],
    "exp=../x": ["exp=../x", "letters"],
    "exp=.x": ["exp=.x", "letters"],
    "exp=-x": ["exp=-x", "letters"],
    "exp=Runs": ["exp=Runs", "not runs"],
    "exp=": ["exp= is not allowed"],
    "exp=one exp=two": ["exp=one exp=two", "one name"],
    "train.epoch=3": ["train.epoch; did you mean epochs", "batch_size"],
    "+train.foo=1": ["train.foo", "epochs"],
    "regularizer.sam.rhoo=1": ["regularizer.sam.rhoo", "rho"],
    "regularizer.samm.rho=1": ["regularizer.samm", "sam"],
    "optimizer.sgd.beta=1": ["optimizer.sgd.beta", "momentum"],
    "foo=1": ["foo", "seed"],
    "foo": ["foo"],
    "seed=-1": ["seed=-1", "at least 0"],
    "seed=1.5": ["seed=1.5", "integer"],
    "seed=abc": ["seed=abc", "integer"],
    "seed=010": ["seed=010", "integer"],  # which YAML reads as 8
    "seed=1:30": ["seed=1:30", "integer"],  # and this as 90
    "force=maybe": ["force=maybe", "true, false"],
    "force=true,false": ["force cannot be swept"],
    "train.epochs=0": ["train.epochs=0", "at least 1"],
    "train.epochs=abc": ["train.epochs=abc", "integer"],
    "train.schedule=linear": ["linear", "cosine, one_cycle, step, constant"],
    "train.warmup_epochs=2": ["warmup_epochs=2", "epochs=2"],
    "train.schedule=one_cycle train.warmup_epochs=0.5": ["one_cycle", "train.warmup_epochs=0.5", "a second one"],
    "train.schedule=cosine,one_cycle train.warmup_epochs=0,1": ["one_cycle", "train.warmup_epochs=1"],
    "train.gradient_evaluations=1 regularizer=sam": ["gradient_evaluations=1", "no step"],
    "train.device=gpu": ["train.device=gpu", "cuda:N"],
    "train.device=cuda:99": ["cuda:99", "cpu"],
    'train.device="3"': ["train.device=3", "cuda:N"],
    f"seed={'1' * 400}": ["seed=1", "integer"],
    "train.batch_size=1000": ["1000", "at most 64"],
    "dataset.train_size=1000": ["1000", "at most 64"],
    "dataset.val_fraction=1": ["val_fraction=1", "[0, 1)"],
    "dataset.augment=flip": ["flip", "none, standard"],
    "regularizer=[mixup,cutmix]": ["mixup", "cutmix", "mixing"],
    "regularizer=[sam,asam]": ["sam", "asam", "gradient"],
    "regularizer=[cutout,random_erasing]": ["cutout", "random_erasing", "slot erase"],
    "regularizer=[label_smoothing,focal]": ["focal", "label_smoothing", "slot loss"],
    "regularizer=stochastic_depth": ["model.stochastic_depth, which model mlp does not have", "resnet18"],
    "regularizer=[none,sam]": ["none", "stack"],
    "regularizer=[sam,sam]": ["sam,sam", "twice"],
    "regularizer=none,[sam,sam]": ["sam,sam", "twice"],
    "optimizer=[sgd,adam]": ["one optimizer", "sgd,adam"],
    "regularizer=mixup regularizer.mixup.alpha=0": ["alpha=0", "above 0"],
    "regularizer=sam regularizer.sam.rho=-1": ["rho=-1", "at least 0"],  # also where it is not chosen
    "regularizer=cutmix regularizer.cutmix.prob=1.1": ["prob=1.1", "[0, 1]"],
    "regularizer=label_smoothing regularizer.label_smoothing.smoothing=1": ["smoothing=1", "[0, 1)"],
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
    "results_dir=~/results": ["results_dir=~/results", "~ is not expanded"],
    "model.weights=~/weights.pt": ["model.weights=~/weights.pt", "~ is not expanded"],
    "hydra/launcher=submitit_local hydra.launcher.submitit_folder=~/jobs": ["submitit_folder=~/jobs", "~"],
    "results_dir=/dev/null/x": ["/dev/null/x", "cannot be written"],
    "dataset.root=~/data": ["dataset.root=~/data", "~ is not expanded"],
    "dataset.val_fraction=0.999 train.batch_size=1": ["no image", "val_fraction"],
    "model=resnet18 train.batch_size=1": ["resnet18", "batches of 1"],
    "optimizer=adam optimizer.adam.betas=3": ["betas=3", "two of"],
    "seed=0,1 --cfg job": ["seed=0,1", "one value"],
    "--foo": ["--foo", "key=value"],
    "dataset.image_size=4": ["image_size=4", "at least 8"],
}


def assert_refused(arguments, parts, capsys):
    """Exit code 2, at most three lines that hold the parts, no traceback, and nothing on stdout."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.err.startswith("regbench: ")
    assert len(printed.err.splitlines()) <= 3
    assert "Traceback" not in printed.err
    assert all(part in printed.err for part in parts), printed.err
    assert printed.out == ""


@pytest.mark.parametrize("typed", BAD)
def test_bad_input_says_what_was_wrong_and_how_to_mend_it(typed, tmp_path, capsys):
    overrides = [o for o in TINY if not (typed.startswith("model=") and o.startswith("model"))]
    results = f"results_dir={tmp_path / 'results'}"
    assert_refused(["run", *overrides, results, *typed.replace("~model.width ", "").split()], BAD[typed], capsys)
    assert not (tmp_path / "results").exists()


def newer(folder):
    """Records and tables of a regbench to come."""
    shutil.copytree(GOLDEN, folder)
    for path in folder.glob("runs/*/result.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"protocol_version": 99}))
    for path in folder.glob("*/runs.csv"):
        rows = read_csv(path)
        path.write_text(to_csv(rows[0], [row | {"protocol_version": "99"} for row in rows]))


FILES = {
    "plan": (["plan", "regularizer=samm"], ["did you mean sam"]),
    "dry run": (["run", "--dry-run", "train.epochs=0"], ["epochs=0"]),
    "results of a newer protocol": (["run", "+exp=digits_smoke", "train.device=cpu", "results_dir=newer"], ["newer"]),
    "report of a newer protocol": (["report", "digits_smoke", "--results-dir", "newer"], ["newer", "99"]),
    "list of a newer protocol": (["results", "--results-dir", "newer"], ["newer", "99"]),
    "merge of a newer protocol": (["merge", "newer"], ["newer", "99"]),
    "report of a table in conflict": (["report", "conflict", "--results-dir", "."], ["conflict/runs.csv is damaged"]),
    "merge of another tool's table": (["merge", "others"], ["others/digits/runs.csv is damaged"]),
    "report of settings in conflict": (
        ["report", "digits_smoke", "--results-dir", "settings"],
        ["settings/digits_smoke/arms.json is damaged", "Restore it"],
    ),
    "merge of nothing": (["merge", "nothing"], ["no folder nothing", "--results-dir"]),
    "merge of no results": (["merge", "empty"], ["empty holds no results"]),
    "report of nothing": (["report", "digits"], ["no results of digits", "regbench run"]),
    "results nowhere": (["results", "--results-dir", "nothing"], ["no folder nothing"]),
    "results in a file": (["run", *TINY, "results_dir=file"], ["file", "cannot be"]),
    "results in a read-only folder": (
        ["run", *TINY, "results_dir=/proc/results"],
        ["/proc/results", "cannot be written"],
    ),
    "weights that are not there": (["run", *TINY, "model.weights=nothing.pt"], ["nothing.pt", "cannot be read"]),
    "weights that are none": (["run", *TINY, "model.weights=file"], ["file", "not a file of weights"]),
    "data that are not there": (["run", "dataset=image_folder", "dataset.root=nothing"], ["nothing"]),
    "data of no class": (["run", "dataset=image_folder", "dataset.root=empty"], ["empty"]),
    "a folder of one's own that is none": (["run", "--config-dir", "nothing"], ["nothing is not a folder"]),
    "YAML that does not parse": (["run", "--config-dir", "mine"], ["broken.yaml", "line 2"]),
    "YAML without a class": (["run", "--config-dir", "lacking"], ["lacking.yaml", "_target_"]),
    "an experiment that does not parse": (["run", "--config-dir", "exps", "+exp=broken"], ["broken.yaml"]),
    "run on damaged settings": (
        ["run", "+exp=digits_smoke", "train.device=cpu", "results_dir=settings"],
        ["settings/digits_smoke/arms.json is damaged"],
    ),
    "report of a path": (["report", "digits_smoke/", "--results-dir", "settings"], ["no results of digits_smoke/"]),
    "report of no experiment": (["report"], ["exp", "regbench report --help"]),
    "an unknown flag": (["results", "--statu", "done", "--foo"], ["--foo", "--help"]),
    "an unknown status": (["results", "--status", "foo"], ["foo", "diverged"]),
    "an unknown command": (["reprot"], ["reprot", "report"]),
    "a flag without a value": (["run", "--config-dir"], ["--config-dir names no folder"]),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_files_and_folders_say_what_was_wrong(case, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    newer(tmp_path / "newer")
    (tmp_path / "conflict").mkdir()
    table = (GOLDEN / "digits_smoke" / "runs.csv").read_text().splitlines()
    (tmp_path / "conflict" / "runs.csv").write_text("\n".join([table[0], "<<<<<<< HEAD", *table[1:], ">>>>>>> theirs"]))
    (tmp_path / "others" / "digits").mkdir(parents=True)
    (tmp_path / "others" / "digits" / "runs.csv").write_text("name,accuracy\nsam,0.9\n")
    shutil.copytree(GOLDEN, tmp_path / "settings")
    (tmp_path / "settings" / "digits_smoke" / "arms.json").write_text("<<<<<<< HEAD\n{}\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    for folder, name, text in (
        ("mine/model", "broken", "a: 1\n  b: : 2\n"),
        ("lacking/model", "lacking", "width: 1\n"),
        ("exps/exp", "broken", "# @package _global_\nseed: [1\n"),
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"{name}.yaml").write_text(text)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    assert_refused(*FILES[case], capsys)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_a_full_disk_is_told_with_the_file(tmp_path, capsys, monkeypatch):
    shutil.copytree(GOLDEN, tmp_path / "results")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    arguments = ["report", "digits_smoke", "--results-dir", str(tmp_path / "results")]
    assert_refused(arguments, ["digits_smoke/arms.json", "No space left"], capsys)


def test_a_launcher_that_is_not_installed_says_how_to_install_it(capsys, monkeypatch):
    monkeypatch.setattr(launcher, "find_spec", lambda name: None)
    for name in ("joblib", "submitit_local", "submitit_slurm", "ray"):
        assert_refused(["run", *TINY, f"hydra/launcher={name}"], [name, "pip install 'regbench[launchers]'"], capsys)


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
    stack = "[weight_decay,sam,label_smoothing,dropout,mixup,cutout]"
    assert tiny(f"regularizer={stack}").regularizer == "cutout+mixup+label_smoothing+sam+dropout+weight_decay"


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_plus_before_a_plain_key_changes_nothing(plus):
    assert {run.seed for run in compose("+exp=digits_smoke", f"{plus}seed=7")} == {7}


def test_where_and_how_a_command_trains_is_not_told_to_others(plan, tmp_path):
    told = ["seed=3", "~model", "hydra.sweeper.params=x"]
    request_runs(
        tmp_path,
        "x",
        [],
        [*told, "++results_dir=/home", "+force=true", "+hydra/launcher=joblib", "-m", "dataset.root=/"],
    )
    assert (tmp_path / "x" / "commands.txt").read_text() == f"regbench run {shlex.join(told)}\n"


def test_one_dataset_is_loaded_once_whatever_is_taken_of_it(plan):
    few, many = plan("dataset.train_size=20,40", "dataset.augment=none")
    assert load_source(few.run.dataset) is load_source(many.run.dataset)


def test_a_user_may_narrow_and_widen_an_experiment():
    assert len(compose("+exp=digits_smoke")) == 4
    assert {run.seed for run in compose("+exp=digits_smoke", "seed=7")} == {7}
    assert {run.regularizer for run in compose("+exp=digits_smoke", "regularizer=cutmix,asam")} == {"cutmix", "asam"}
    assert {run.model.name for run in compose("exp=digits_smoke", "model=convnet")} == {"convnet"}  # without the plus
