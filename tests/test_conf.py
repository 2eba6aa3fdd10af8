"""The contract of every file in conf/, found by itself."""

import re
from dataclasses import replace
from functools import cache

import pytest
import yaml
from conftest import REGULARIZERS, compose, fits

from bench.config import AXES, CONF
from bench.config.arms import Arms
from bench.config.own_code import find_ranges, resolve
from bench.config.plugins import read_sources
from bench.config.ranges import RANGES
from bench.config.reference import as_markdown
from bench.config.settings import SLOTS, apply_settings
from bench.errors import UsageError
from bench.record.columns import RUN_COLUMNS
from bench.sweep.launcher import find_launcher
from bench.training.run import train_run

ROOT = CONF.parent
FILES = sorted(path for axis in AXES for path in (CONF / axis).glob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (CONF / "exp").glob("*.yaml"))
# The experiments on all regularizers that their model has a place for.
ON_ALL = {
    exp: [name for name in REGULARIZERS if fits(name, model)]
    for exp, model in {
        **dict.fromkeys(["digits", "fashion"], "convnet"),
        **dict.fromkeys(["cifar_all", "cifar100_all"], "resnet18"),
        "cifar_fast_all": "fastnet",
    }.items()
}
RUNS = {
    **{exp: len(names) * 2 * 5 for exp, names in ON_ALL.items()},
    "cifar_fast_all": (len(ON_ALL["cifar_fast_all"]) + 1) * 5,
    **{"digits_smoke": 4, "cifar_sam": 20, "cifar_fast": 5, "speed": 12},
    "digits_noisy": 40,
    "cheap_sam": 45,  # of which 25 are distinct: intervals are SAM's alone
    "averaging": 45,
}
HUGE = {"wide_resnet28_10"}  # a step of it takes seconds on a CPU
WITH_FILES = {"cifar10", "cifar100", "fashion_mnist", "image_folder", "arrays", "parquet", "dataset/torchvision"}


def ids(path):
    return f"{path.parent.name}/{path.stem}"


def smallest_steps(axis, name):
    """Overrides that choose a file and train it for two steps on tiny data."""
    model = "mlp" if axis != "regularizer" or fits(name, "mlp") else "resnet8"
    axes = {"dataset": "synthetic", "model": model, "regularizer": "none", "optimizer": "sgd"} | {axis: name}
    steps = ("train.gradient_evaluations=4", "train.batch_size=8", "train.device=cpu")
    small = ("dataset.train_images=40", "dataset.test_images=16") if axes["dataset"] == "synthetic" else ()
    return (*(f"{key}={value}" for key, value in axes.items()), *steps, *small)


@cache
def compose_exp(exp):
    return compose(f"+exp={exp}")


@pytest.mark.parametrize("axis", AXES)
def test_an_axis_is_one_word_in_conf_in_the_package_and_in_the_tables(axis):
    assert (CONF / axis).is_dir()
    assert (ROOT / "bench" / axis / "__init__.py").is_file()
    assert axis in RUN_COLUMNS
    assert "seed" in RUN_COLUMNS


@pytest.mark.parametrize("path", [*FILES, *sorted((CONF / "exp").glob("*.yaml"))], ids=ids)
def test_every_file_begins_with_what_it_is_on_a_line_that_fits(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
    assert re.match(r"# \S", lines[0])
    assert len(lines[0]) <= 64  # `regbench list` shows it at 80 columns


@pytest.mark.parametrize("path", sorted((CONF / "hydra" / "launcher").glob("*.yaml")), ids=ids)
def test_every_launcher_has_a_class_of_its_name_and_a_line_that_fits(path):
    assert find_launcher(path.stem).name == path.stem
    assert 10 < len(path.read_text().splitlines()[0]) <= 64


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_every_choice_composes_and_its_word_is_its_files_name(path):
    (run,) = compose(*smallest_steps(path.parent.name, path.stem))
    word = run.words[path.parent.name]
    assert word.partition("/")[0] == path.stem
    assert ("/" in word) == ("word" in yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("path", [p for p in FILES if {p.stem, ids(p)}.isdisjoint(HUGE | WITH_FILES)], ids=ids)
def test_every_choice_trains(path, plan, tmp_path):
    (planned,) = plan(*(o for o in smallest_steps(path.parent.name, path.stem)), *_without_tiny(path))
    result = train_run(planned.run, tmp_path / "run", lambda *_: None)
    assert result["status"] == "done", result["message"]
    assert 0 <= result["test_ece"] <= 1


def _without_tiny(path):
    """TINY's values that do not exist in another dataset or model are taken back."""
    undo = {"dataset": ("~dataset.train_images", "~dataset.test_images"), "model": ("~model.width",)}
    if path.parent.name == "regularizer" and not fits(path.stem, "mlp"):
        return undo["model"]
    has = yaml.safe_load(path.read_text())
    return [key for key in undo.get(path.parent.name, ()) if key.split(".")[1] not in has]


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_every_number_has_a_range(path):
    axis, values = path.parent.name, yaml.safe_load(path.read_text())
    own = find_ranges(resolve(values["_target_"])) if "_target_" in values else {}
    for key, value in values.items():
        if isinstance(value, int | float):
            rule = own.get(key) or RANGES[values.get("sets", f"{axis}.{key}")]
            assert value in rule


def test_every_key_of_train_has_a_row_in_the_table_of_ranges():
    train = yaml.safe_load((CONF / "train" / "default.yaml").read_text())
    assert {f"train.{key}" for key in train} == {key for key in RANGES if key.startswith("train.")}
    assert all(value in RANGES[f"train.{key}"] for key, value in train.items())


def test_the_page_on_settings_is_up_to_date():
    """`python -m bench.config.reference` prints it."""
    assert as_markdown() in (ROOT / "docs" / "settings.md").read_text()


@pytest.mark.parametrize("path", sorted((CONF / "regularizer").glob("*.yaml")), ids=ids)
def test_every_regularizer_has_a_slot(path):
    assert yaml.safe_load(path.read_text())["slot"] in SLOTS
    assert path.read_text().startswith(f"# @package regularizer.{path.stem}\n")


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name in ("regularizer", "optimizer")], ids=ids)
def test_every_method_names_its_paper_once(path):
    """The page's foot has it: who, when, what, and where."""
    sources = read_sources(path)
    assert bool(sources) == (path.stem != "none")
    assert all(re.match(r"[A-Z][\w &.é-]+ \d{4}, \w.*, (https://|[A-Z])", source) for source in sources)
    assert len({*sources}) == len(sources)


@pytest.mark.parametrize("path", sorted((CONF / "optimizer").glob("*.yaml")), ids=ids)
def test_every_optimizer_decays_nothing_of_itself(path):
    values = yaml.safe_load(path.read_text())
    assert values["slot"] == "optimizer"
    assert values["weight_decay"] == 0
    assert path.read_text().startswith(f"# @package optimizer.{path.stem}\n")


@pytest.mark.parametrize("exp", EXPERIMENTS)
def test_every_experiment_composes_into_its_runs(exp):
    runs = compose_exp(exp)
    assert len(runs) == RUNS[exp]
    for run in runs:  # what a regularizer sets is set
        applied = apply_settings(run)
        for choice in (each for each in run.regularizers if each.slot == "setting"):
            axis, key = choice.values["sets"].split(".")
            assert getattr(applied, axis).values[key] == choice.values["value"]
    text = (CONF / "exp" / f"{exp}.yaml").read_text()
    assert f"# regbench run +exp={exp}" in text
    assert "gradient evaluations" in text
    assert "mode: MULTIRUN" in text


@pytest.mark.parametrize("exp", ON_ALL)
def test_experiments_on_all_hold_every_regularizer_that_their_model_has_a_place_for(exp):
    held = {run.regularizer for run in compose_exp(exp)}
    assert {*ON_ALL[exp]} <= held
    assert ("stochastic_depth" in held) == (exp in ("cifar_all", "cifar100_all"))


def test_experiments_on_all_leave_out_what_each_of_several_models_has_no_place_for():
    runs = compose("+exp=digits", "seed=0", "optimizer=sgd", "model=convnet,resnet8,torchvision")
    held = {name: {run.regularizer for run in runs if run.model.name.startswith(name)} for name in ("con", "res", "to")}
    assert held["con"] == {*REGULARIZERS} - {"stochastic_depth"}
    assert held["res"] == {*REGULARIZERS}
    assert held["to"] == {*REGULARIZERS} - {"dropout"}
    with pytest.raises(UsageError, match=r"stochastic_depth.*\n.*resnet18"):
        compose("+exp=digits", "regularizer=none,stochastic_depth")  # typed, and not one of all


def test_what_is_an_arm_on_the_fast_recipe_is_no_part_of_what_its_arms_share():
    arms = {run.regularizer: apply_settings(run) for run in compose("+exp=cifar_fast_all", "seed=0")}
    both = arms["label_smoothing+weight_decay"]
    assert arms["none"].optimizer.values["weight_decay"] == 0
    assert both.train == arms["none"].train
    (whole,) = compose("+exp=cifar_fast", "seed=0")
    assert both.optimizer == whole.optimizer
    assert both.regularizers[0] == whole.regularizers[0]
    assert replace(both, regularizers=()) == replace(whole, regularizers=())


def test_cifar_sam_is_what_it_says():
    runs = compose("+exp=cifar_sam")
    assert {run.regularizer for run in runs} == {"none", "sam"}
    assert {run.optimizer.values["weight_decay"] for run in runs} == {5e-4}
    assert {(run.optimizer.name, run.optimizer.values["lr"]) for run in runs} == {("sgd", 0.1), ("adam", 1e-3)}
    (train,) = {run.train for run in runs}
    assert (train.epochs, train.batch_size, train.schedule) == (200, 128, "cosine")
    assert {run.seed for run in runs} == {0, 1, 2, 3, 4}


def test_any_number_of_epochs_works_with_digits():
    assert {run.train.epochs for run in compose("+exp=digits", "train.epochs=1")} == {1}


@pytest.mark.parametrize("exp", ["", *sorted({*EXPERIMENTS} - {"averaging"})])  # which lists arms: no others fit in
def test_stacks_put_in_place_are_what_hydra_composes(exp, monkeypatch):
    """Hydra is asked once for all of them, as it takes a tenth of a second; here for each."""
    values = ("regularizer.sam.rho=0.07", "optimizer.adam.lr=0.5", "optimizer.adam.weight_decay=0")
    stacks = ("regularizer=none,sam,[cutmix,weight_decay]", "optimizer=sgd,adam", "optimizer.sgd.weight_decay=0")
    asked = [*([f"+exp={exp}"] if exp else []), *stacks, *values, "seed=0"]
    put = compose(*asked)
    monkeypatch.setattr(Arms, "_read_names", lambda *_: None)  # as of a choice that brings others along
    assert compose(*asked) == put
    assert len(put) >= 6
