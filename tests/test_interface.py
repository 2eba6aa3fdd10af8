"""bench.run, bench.results, bench.load_model and bench.make_model: what the commands do, from Python."""

import logging
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, write
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import bench
from bench.config import CONF
from bench.dataset import load_source
from bench.record.logits import read_logits
from bench.sweep.launch import compose as compose_command

DOCS = CONF.parent / "docs" / "python.md"


def test_a_run_gives_its_experiment_and_the_same_call_trains_nothing_more(tmp_path, capsys):
    settings = {"exp": "mine", "seed": "0,1", "results_dir": tmp_path, "regularizer": "none,label_smoothing"}
    experiment = bench.run(TINY, **settings, keep_weights=False)
    assert experiment.finished
    assert experiment.folder == tmp_path / "mine"
    assert experiment.runs["seed"].tolist() == [0, 1, 0, 1]
    assert experiment.runs["test_accuracy"].between(0, 1).all()
    assert experiment.summary["test_nll_mean"].dtype == float
    assert set(experiment.comparison["regularizer"]) == {"label_smoothing"}
    assert experiment.history["epoch"].max() == 2
    assert bench.results("mine", tmp_path).equals(experiment.runs)
    capsys.readouterr()
    bench.run(*TINY, **settings)
    assert "4 on record, 0 to train" in capsys.readouterr().out


def test_what_is_wrong_is_said_in_the_commands_words_and_trains_nothing(tmp_path, capsys):
    for bad, words in ((["model=mpl"], "mlp"), (["train.epochs=0"], "train.epochs=0"), (["--cfg", "job"], "--cfg")):
        with pytest.raises(bench.UsageError, match=words) as error:
            bench.run(TINY, bad, results_dir=tmp_path)
        assert len(str(error.value).splitlines()) <= 3
    assert not any(tmp_path.iterdir())
    with pytest.raises(bench.UsageError, match="nowhere is not a folder"):
        bench.run(TINY, config_dir=tmp_path / "nowhere")


def test_a_users_own_folder_serves(tmp_path):
    own = write(tmp_path / "own", {"exp/short.yaml": "# @package _global_\ntrain: {epochs: 1}\n"})
    experiment = bench.run("+exp=short", TINY[:5], TINY[6:], results_dir=tmp_path / "results", config_dir=own)
    assert (experiment.name, experiment.runs["epochs"].tolist()) == ("short", [1])
    assert "REGBENCH_CONFIG" not in os.environ


def test_nothing_of_the_callers_is_changed(tmp_path):
    """The generators, threads, switches, signals, loggers, environment, arguments and Hydra of a notebook."""
    mine, handler = logging.getLogger("mine"), logging.NullHandler()
    mine.addHandler(handler)

    def look():
        hydra = GlobalHydra.instance().hydra
        return [
            *(torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()),  # noqa: NPY002
            *(torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
            *(torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32),
            *(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)),
            *(mine.disabled, mine.handlers[:], logging.root.level, logging.root.handlers[:], logging.root.disabled),
            *(dict(os.environ), [*sys.argv], [*sys.path], hydra, Path.cwd()),
        ]

    threads = torch.get_num_threads()
    conf = write(tmp_path / "conf", {"mine.yaml": "a: 1\n"})
    try:
        torch.set_num_threads(1)
        with initialize_config_dir(str(conf), version_base=None):
            before = look()
            bench.run(TINY, "train.deterministic=true", results_dir=tmp_path / "results", seed=0)
            assert look() == before
            assert compose("mine") == {"a": 1}
    finally:
        torch.set_num_threads(threads)


def test_a_trained_model_takes_raw_images_and_gives_what_was_recorded(tmp_path):
    overrides = ["dataset=synthetic", "model=mlp", "model.width=16", "regularizer=dropout", "train.epochs=1"]
    experiment = bench.run(overrides, TINY[1:3], TINY[6:], results_dir=tmp_path, keep_weights=True)
    (run_id,) = experiment.runs["run_id"]
    model = bench.load_model(run_id, tmp_path)
    assert not model.training
    source = load_source(compose_command([*overrides, *TINY[1:3]]).runs[0].dataset)
    recorded = torch.from_numpy(read_logits(tmp_path / "runs" / run_id)["test_logits"])
    with torch.inference_mode():
        probabilities = model(source.test_images)
    torch.testing.assert_close(probabilities, recorded.softmax(1))
    dropout = [module for module in model.network.modules() if isinstance(module, torch.nn.Dropout)]
    assert dropout
    assert all(module.p > 0 for module in dropout)
    for wrong in (source.test_images.astype(np.float32), source.test_images[0], source.test_images[..., :0]):
        with pytest.raises(ValueError, match=r"images must be uint8 \(N, H, W, 1\)"):
            model(wrong)


@pytest.mark.parametrize("model", sorted(file.stem for file in (CONF / "model").glob("*.yaml")))
def test_weights_of_every_model_are_loaded(model, tmp_path):
    if model == "timm":
        pytest.importorskip("timm")
    narrow = ["model.depth=10", "model.width=1"]
    small = {"wide_resnet": narrow, "wide_resnet28_10": narrow, "timm": ["model.arch=resnet10t"]}.get(model, [])
    cheap = ["train.epochs=1", "dataset.train_images=32", "dataset.test_images=8", "dataset.val_fraction=0"]
    experiment = bench.run(TINY[0], *cheap, f"model={model}", small, TINY[6:], results_dir=tmp_path, keep_weights=True)
    (run_id,) = experiment.runs["run_id"]
    recorded = torch.from_numpy(read_logits(tmp_path / "runs" / run_id)["test_logits"])
    source = load_source(compose_command([TINY[0], *cheap]).runs[0].dataset)
    with torch.inference_mode():
        logits = bench.load_model(run_id, tmp_path).logits(source.test_images)
    torch.testing.assert_close(logits, recorded, rtol=1e-5, atol=1e-4)


def test_a_model_that_is_not_there_is_said_with_what_to_do(tmp_path):
    experiment = bench.run(TINY, results_dir=tmp_path)
    with pytest.raises(bench.UsageError, match="no run 123 "):
        bench.load_model("123", tmp_path)
    with pytest.raises(bench.UsageError, match=r"not kept[^$]*keep_weights=true"):
        bench.load_model(experiment.runs["run_id"][0], tmp_path)


def test_models_are_made_by_name_under_both_names():
    from bench.model import make_model

    for make in (bench.make_model, make_model):
        assert make("convnet", 3, 4, width=8)(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
        with pytest.raises(bench.UsageError, match="no model convent"):
            make("convent", 3, 4)
        with pytest.raises(bench.UsageError, match="no value wide"):
            make("convnet", 3, 4, wide=8)


def test_the_example_in_the_docs_works(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S)
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "first" / "comparison.csv").is_file()
