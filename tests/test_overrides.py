"""What is typed and what stands in YAML files: paths and words as they are, and the name of a command."""

import json

import pytest
from conftest import TINY, draw_picture

from bench.cli import main
from bench.cli import run as app
from bench.config.overrides import quote
from bench.config.plugins import use_folder
from bench.config.tuned_file import TunedArm, show_tuned
from bench.errors import UsageError
from bench.sweep.launch import compose

# Folders by how they are typed; each name is one that YAML or Hydra reads as something else, or refuses.
FOLDERS = {
    **{name: name for name in ("2024", "1e5", "007", "1_000", "true", "inf", "2024-11-25", "0x1F", "12:30", "-3")},
    **{
        name: name
        for name in ("[a]", "[a, b]", "{a: 1}", "a=b", "x y", "photos(1)", "it's", 'say "a"', "a~", "50%", "ä")
    },
    **{"./null": "./null", '"null"': "null", '"a, b"': "a, b", r"a\,b": "a,b", "'1e5'": "1e5", "./~": "./~"},
}
FOLDER = ("dataset=image_folder", "model=mlp")
WORDS = ["2024", "007", "1e5", "1_000", "true", "null", "nan", "2024-11-25", "-3", "..5"]


@pytest.mark.parametrize("typed", FOLDERS)
def test_a_path_is_text_as_typed(typed):
    command = compose([*FOLDER, *(f"{key}={typed}" for key in ("dataset.root", "results_dir", "model.weights"))])
    (run,) = command.runs
    assert run.dataset.values["root"] == FOLDERS[typed]
    assert run.model.values["weights"] == FOLDERS[typed]
    assert str(command.results) == FOLDERS[typed].removeprefix("./")


def test_folders_that_look_like_numbers_sweep():
    for typed in ("2024,007,1e5", "2024, 007 ,1e5", "choice(2024,'007','1e5')"):
        runs = compose([*FOLDER, f"dataset.root={typed}"]).runs
        assert [run.dataset.values["root"] for run in runs] == ["2024", "007", "1e5"]
        assert [run.dataset.name for run in runs] == [f"image_folder/{name}" for name in ("2024", "007", "1e5")]
    runs = compose([*FOLDER, "dataset.root=range(2023,2025)", "model.weights=null,7"]).runs
    assert [run.dataset.values["root"] for run in runs] == ["2023", "2023", "2024", "2024"]
    assert [run.model.values["weights"] for run in runs] == [None, "7", None, "7"]


def test_a_word_is_text_as_typed():
    runs = compose([*FOLDER, f"dataset.name={','.join(WORDS)}"]).runs
    assert [run.dataset.name for run in runs] == [f"image_folder/{word}" for word in WORDS]
    (run,) = compose([*FOLDER, "dataset.background=#00ff7f"]).runs
    assert run.dataset.values["background"] == "#00ff7f"
    (run,) = compose(["model=torchvision", "model.arch=18"]).runs
    assert run.model.name == "torchvision/18"


@pytest.mark.parametrize("name", ["2024", "1e5", "007", "true", "null"])
def test_an_environment_variable_is_text(name, monkeypatch):
    monkeypatch.setenv("REGBENCH_RESULTS", name)
    monkeypatch.setenv("REGBENCH_DATA", name)
    command = compose(FOLDER)
    assert str(command.results) == name
    assert [(run.dataset.values["root"], run.dataset.name) for run in command.runs] == [(name, f"image_folder/{name}")]


def own(folder, **files):
    """A user's folder of these files, by group__name."""
    for key, text in files.items():
        file = folder / "mine" / key.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_name(f"{file.name}.yaml").write_text(text)
    use_folder(folder / "mine")


def test_paths_and_words_of_yaml_files_are_text_as_written(tmp_path):
    exp = """# @package _global_
defaults:
  - override /dataset: image_folder
results_dir: 007
dataset: {root: 1_000, name: 1e5}
model: {weights: 12:30}
"""
    dataset = "_target_: bench.dataset.image_folder.load_image_folder\nroot: 010\n"
    own(tmp_path, exp__2024=exp, dataset__1e3=dataset)
    command = compose(["+exp=2024"])
    (run,) = command.runs
    assert (command.exp, str(command.results)) == ("2024", "007")
    assert (run.dataset.values["root"], run.dataset.values["name"]) == ("1_000", "1e5")
    assert run.model.values["weights"] == "12:30"
    (run,) = compose(["exp=2024", "dataset.root=2e3"]).runs
    assert run.dataset.values["root"] == "2e3"
    (run,) = compose(["dataset=1e3"]).runs
    assert (run.dataset.name, run.dataset.values["root"]) == ("1e3", "010")


def test_values_of_a_users_own_choice_keep_their_types(tmp_path):
    """What they are is for the user's class to say: an int stays one, and the runs' ids stay what they were."""
    own(tmp_path, model__net="_target_: net.Net\narch: 18\n", regularizer__007="# @package regularizer.007\n" + MIXUP)
    assert [run.model.values["arch"] for run in compose(["model=net"]).runs] == [18]
    runs = compose(["model=net", "model.arch=18,1_0,small,0.5,[[1,2],[3]],{a:1,b:2}", "regularizer=[007,sam]"]).runs
    assert [run.model.values["arch"] for run in runs] == [18, 10, "small", 0.5, [[1, 2], [3]], {"a": 1, "b": 2}]
    assert {run.regularizer for run in runs} == {"007+sam"}


MIXUP = "slot: mixing\n_target_: bench.regularizer.mixup.Mixup\nalpha: 1.0\n"


def test_a_folder_that_looks_like_a_number_trains_and_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        for i in range(8):
            draw_picture(tmp_path / "2024" / name / f"{i}.png")
    settings = ("train.epochs=1", "train.batch_size=4", "train.device=cpu", "dataset.val_fraction=0.25")
    typed = [*FOLDER, "dataset.root=2024", "results_dir=20241125", "exp=2025", *settings]
    assert app.run(typed) == 0
    with pytest.raises(SystemExit) as stop:
        main(["report", "2025", "--results-dir", "20241125"])
    assert stop.value.code == 0
    assert "2025: mlp on image_folder/2024" in capsys.readouterr().out


def test_a_command_is_named_and_can_be_repeated(tmp_path, capsys):
    typed = [*TINY, f"results_dir={tmp_path}", "exp=my_first", "regularizer=none,label_smoothing"]
    assert app.run(typed) == 0
    assert "my_first: 2 runs, 0 on record, 2 to train" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "datasets", "my_first"}
    noted = (tmp_path / "my_first" / "commands.txt").read_text().split()
    assert "exp=my_first" in noted
    assert app.plan([*noted[2:], f"results_dir={tmp_path}"]) == 0
    assert "my_first: 2 runs, 2 on record, 0 to train" in capsys.readouterr().out
    assert app.run([*typed, "--dry-run"]) == 0
    assert "my_first: 2 runs, 2 on record, 0 to train" in capsys.readouterr().out


def test_a_name_changes_no_run():
    assert compose([*TINY, "exp=mine"]).runs == compose(TINY).runs


def test_an_experiments_file_comes_before_a_name_and_a_name_may_hold_its(tmp_path):
    own(tmp_path, exp__mine="# @package _global_\nseed: 7\n")
    assert [run.seed for run in compose(["exp=mine"]).runs] == [7]
    assert compose(["exp=digits_smoke"]).exp == "digits_smoke"
    assert len(compose(["exp=digits_smoke"]).runs) == 4
    for name in ("digits_smoke_2", "my_digits", "2024", "1e5", "null", "adhoc"):
        command = compose([f"exp={name}", "regularizer=sam"])
        assert (command.exp, len(command.runs)) == (name, 1)
    assert compose(["+exp=digits_smoke", "exp=other"]).exp == "other"


def test_a_name_alone_asks_for_nothing():
    for typed in (["exp=nope"], ["exp=nope", "seed=0,1", "results_dir=x", "--cfg", "job"]):
        with pytest.raises(UsageError, match="there is no experiment nope"):
            compose(typed)


@pytest.mark.parametrize("name", ["runs", "datasets"])
def test_an_experiment_that_would_take_a_folder_of_the_results_is_refused(name, tmp_path):
    with pytest.raises(UsageError, match=f"exp={name} is not allowed"):
        compose([f"exp={name}", "regularizer=sam"])
    with pytest.raises(UsageError, match="holds no experiment"):
        own(tmp_path, **{f"exp__{name}": "# @package _global_\nseed: 7\n"})


@pytest.mark.parametrize("value", ["[a]", "{a: 1}", "null"])
def test_what_is_no_text_in_yaml_is_no_path(value, tmp_path):
    own(tmp_path, exp__mine=f"# @package _global_\nresults_dir: {value}\n")
    with pytest.raises(UsageError, match="the path of a folder"):
        compose(["+exp=mine"])


def tune(name, command):
    """A command of the experiment that tuning another one writes, its arms at a rate."""
    (combination,) = command.combinations
    arm = TunedArm(combination, {"optimizer.sgd.lr": 0.03}, "best")
    return {f"exp__{name}": show_tuned("any", "regbench tune", "how", [arm], [0])}


MISREAD = ("007", "1e5", "on", "1_000", "0x1F", "-3", ".5")  # as they stand, numbers and truth values in YAML
TEXTS = ("null", "./~", "a:b", "a,b", "[x]", "{a: 1}", "12:30", "2024-11-25", "it's", 'say "a"', "#x", "a b", "ä")


@pytest.mark.parametrize("text", [*MISREAD, *TEXTS])
@pytest.mark.parametrize("where", ["typed", "file", "params", "arms"])
def test_a_text_stays_text_through_the_file_of_a_tuned_experiment(where, text, tmp_path):
    """Wherever it stands: typed, or in the file of the experiment that is tuned, or in its sweep."""
    in_file = text if text in MISREAD else json.dumps(text, ensure_ascii=False)
    in_sweep = text if text in MISREAD else json.dumps(quote(text), ensure_ascii=False)
    lines = {
        "typed": "",
        "file": f"model: {{weights: {in_file}}}",
        "params": f"hydra: {{sweeper: {{params: {{model.weights: {in_sweep}}}}}}}",
        "arms": f"hydra: {{sweeper: {{arms: [{{regularizer: none, model.weights: {in_sweep}}}]}}}}",
    }
    head = "# @package _global_\ndefaults: [override /model: mlp]\n"
    own(tmp_path, exp__mine=f"{head}{lines[where]}\n")
    typed = [f"model.weights={quote(text)}"] if where == "typed" else []
    command = compose(["+exp=mine", *typed])
    own(tmp_path, **tune("once", command))
    once = compose(["+exp=once"])
    own(tmp_path, **tune("twice", once))
    for each in (command, once, compose(["+exp=twice"])):
        (run,) = each.runs
        assert run.model.values["weights"] == text
    assert [once.runs[0].optimizer.values["lr"], once.tuned] == [0.03, ("optimizer.lr",)]


def test_words_that_name_choices_and_experiments_stay_text_through_that_file(tmp_path):
    regularizers = {f"regularizer__{word}": f"# @package regularizer.{word}\n{MIXUP}" for word in ("007", "on")}
    own(tmp_path, **{"exp__1e5": "# @package _global_\ndataset: {augment: none}\n"}, **regularizers)
    command = compose(["+exp=1e5", "regularizer=[007,sam]"])
    own(tmp_path, **tune("once", command))
    assert compose(["+exp=once"]).runs[0].regularizer == command.runs[0].regularizer == "007+sam"
    command = compose(["+exp=1e5", "regularizer=on"])
    own(tmp_path, **tune("on", command))
    assert [run.regularizer for run in compose(["+exp=on"]).runs] == ["on"]


def test_null_in_a_sweep_is_none_and_where_a_word_belongs_a_word(tmp_path):
    sweep = "hydra: {sweeper: {params: {dataset.name: null, dataset.root: x, model.weights: null}}}"
    head = "# @package _global_\ndefaults: [override /dataset: image_folder, override /model: mlp]\n"
    own(tmp_path, exp__mine=f"{head}{sweep}\n")
    (run,) = compose(["+exp=mine"]).runs
    assert (run.dataset.name, run.model.values["weights"]) == ("image_folder/null", None)
