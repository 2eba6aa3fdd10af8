"""What is added in one place: a regularizer, a model, a dataset or a launcher is a Python file and a YAML, and its
test; a metric is one function.

All else takes it up by itself.
"""

import os
import re
import shutil
import subprocess
import sys

import pandas
import pytest
from conftest import REGULARIZERS, TINY, fits, write

from bench.config import CONF
from bench.report.columns import as_markdown

POLY = '''"""The Poly-1 loss, Leng et al. 2022, eq. 6, with soft targets."""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.config.ranges import NOT_NEGATIVE


@dataclass(frozen=True)
class Poly:
    """Reduces to cross-entropy at epsilon 0."""

    epsilon: Annotated[float, NOT_NEGATIVE]

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Scalar loss of logits (N, K) against targets (N, K)."""
        sure = (targets * logits.softmax(1)).sum(1).mean()
        return cross_entropy(logits, targets) + self.epsilon * (1 - sure)
'''
METRIC = '''"""How sure the median prediction is."""

import numpy as np

from bench.measure.quantities import of_test, percent


@of_test("test_median_confidence", "median confidence %", "", **percent())
def median_confidence(logits, labels):
    """Median of the largest probabilities, in [0, 1]."""
    shifted = np.exp(np.float64(logits) - np.max(logits, axis=1, keepdims=True))
    return float(np.median(shifted.max(axis=1) / shifted.sum(axis=1)))
'''
YAML = """# @package regularizer.poly
# cross-entropy with more of its first polynomial term
# source: Leng et al. 2022, PolyLoss, https://arxiv.org/abs/2204.12511
slot: loss
_target_: bench.regularizer.poly.Poly
epsilon: 1.0  # at least 0; 0 is cross-entropy
"""
MODEL = '''"""One linear layer on the average of each block of pixels."""

from typing import Annotated

from torch import nn

from bench.config.ranges import COUNT


class Blocks(nn.Sequential):
    """Logits of the means of `blocks` x `blocks` parts of an image."""

    def __init__(self, channels: int, classes: int, blocks: Annotated[int, COUNT]) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(blocks), nn.Flatten(), nn.Linear(channels * blocks**2, classes))
'''
MODEL_YAML = """# linear in the means of blocks of pixels
_target_: bench.model.blocks.Blocks
blocks: 4  # on a side, at least 1
"""
DATASET = '''"""Stripes: which way they run is the class."""

from typing import Annotated

import numpy as np

from bench.config.ranges import COUNT
from bench.dataset import Source
from bench.rng import stream


def load_stripes(images: Annotated[int, COUNT]) -> Source:
    """So many images for training, and as many for test, of 8x8 pixels."""
    labels = np.arange(images) % 2
    bars = np.tile(np.array([0, 200], dtype=np.uint8), (8, 4))
    clean = np.stack([bars if label else bars.T for label in labels])[..., None]
    train, test = (
        clean + stream(0, "synthetic", k).integers(56, size=clean.shape, dtype=np.uint8) for k in (1, 2)
    )
    return Source(train, labels, test, labels, classes=2, flips=True, class_names=["flat", "upright"])
'''
DATASET_YAML = """# 8x8 stripes, flat or upright
_target_: bench.dataset.stripes.load_stripes
images: 80
"""
LAUNCHER = '''"""Two processes of joblib, whatever the machine has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from bench.sweep.launcher.joblib import Joblib


@dataclass(frozen=True)
class TwoAtOnce(Joblib):
    """As joblib with n_jobs=2."""

    name = "two_at_once"

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """Two."""
        return cls(2)
'''
LAUNCHER_YAML = """# two processes on this machine
_target_: hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher
n_jobs: 2
"""
ADDED = {
    **{"bench/regularizer/poly.py": POLY, "conf/regularizer/poly.yaml": YAML},
    **{"bench/model/blocks.py": MODEL, "conf/model/blocks.yaml": MODEL_YAML},
    **{"bench/dataset/stripes.py": DATASET, "conf/dataset/stripes.yaml": DATASET_YAML},
    **{"bench/sweep/launcher/two_at_once.py": LAUNCHER, "conf/hydra/launcher/two_at_once.yaml": LAUNCHER_YAML},
    "bench/measure/median_confidence.py": METRIC,
}
ROOT = CONF.parent
CONTRACTS = ("test_conf.py", "test_record.py", "test_completion.py", "test_pairing.py", "test_meta.py", "test_train.py")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the tree with one more of each."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("bench", "conf", "tests", "docs", "results", "scripts"):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "runs", ".*")
            shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    for file in (file for file in ROOT.iterdir() if file.is_file()):
        shutil.copy(file, tree)
    return write(tree, ADDED)


def run(tree, *arguments, code=0, more=()):
    """What a command in the copy prints."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("REGBENCH_")} | dict(more)
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(
        command, cwd=tree, env={**env, "PYTHONPATH": str(tree)}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_all_are_listed_and_in_the_reference(tree):
    listed = run(tree, "bench", "list")
    assert re.search(r"^  poly +cross-entropy with more of its first", listed, re.M)
    for line in ("blocks +linear in the means", "stripes +8x8 stripes", "two_at_once +two processes"):
        assert re.search(rf"^  {line}", listed, re.M), line
    reference = run(tree, "bench.config.reference")
    assert "| `regularizer.poly.epsilon` | a number of at least 0 |" in reference
    assert "| `model.blocks` | an integer of at least 1 |" in reference
    assert "| `dataset.images` | an integer of at least 1 |" in reference


def test_all_are_checked_and_completed(tree):
    refused = run(tree, "bench", "run", *TINY, "regularizer=poly", "regularizer.poly.epsilon=-1", code=2)
    assert "regularizer.poly.epsilon=-1 is not allowed.\nIt must be a number of at least 0." in refused
    refused = run(
        tree, "bench", "run", "dataset=stripes", "train.batch_size=8", "model=blocks", "model.blocks=0", code=2
    )
    assert "model.blocks=0 is not allowed.\nIt must be an integer of at least 1." in refused
    refused = run(tree, "bench", "run", "dataset=stripes", "dataset.images=0", code=2)
    assert "dataset.images=0 is not allowed.\nIt must be an integer of at least 1." in refused
    line = "regbench run model=bloc"
    asked = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "_ARGCOMPLETE": "1"}
    assert "model=blocks" in run(tree, "bench", more={**asked, "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/stdout"})


@pytest.mark.slow
def test_model_dataset_and_launcher_train(tree, tmp_path):
    typed = ("dataset=stripes", "model=blocks", "model.blocks=8", "hydra/launcher=two_at_once", "seed=0,1")
    small = ("train.batch_size=8", "train.epochs=20", "dataset.augment=none", "train.device=cpu")
    printed = run(tree, "bench", "run", *typed, *small, "regularizer=none,poly", f"results_dir={tmp_path}")
    assert "adhoc: blocks on stripes" in printed
    runs = pandas.read_csv(tmp_path / "adhoc" / "runs.csv")
    assert runs["status"].tolist() == ["done"] * 4
    assert runs["test_accuracy"].min() > 0.9


@pytest.mark.slow
def test_experiments_on_all_hold_it(tree):
    printed = run(tree, "bench", "plan", "+exp=digits")
    held = sum(fits(name, "convnet") for name in REGULARIZERS)
    assert f"{held + 1} regularizers" in printed
    assert "digits convnet poly adam seed 4" in printed


@pytest.mark.slow
def test_a_metric_is_in_every_table_the_page_and_the_reference(tree, tmp_path):
    folder = tmp_path / "adhoc"
    run(tree, "bench", "run", *TINY, "seed=0,1,2", "regularizer=none,mixup", f"results_dir={tmp_path}")
    report = ("bench", "report", "adhoc", "--results-dir", str(tmp_path))
    printed = run(tree, *report, "--metric", "median_confidence")
    assert "median" in printed
    assert "confidence" in printed
    runs, summary, comparison = (pandas.read_csv(folder / f"{name}.csv") for name in ("runs", "summary", "comparison"))
    assert runs["test_median_confidence"].between(0.1, 1).all()
    assert summary["test_median_confidence_mean"].notna().all()
    assert runs.columns.get_loc("test_median_confidence") > runs.columns.get_loc("test_ece_scaled")
    (row,) = comparison[comparison["metric"] == "test_median_confidence"].itertuples()
    assert (row.regularizer, row.seeds) == ("mixup", 3)
    assert "median confidence" in (folder / "report.html").read_text()
    assert "| `test_median_confidence` | Median of the largest probabilities, in [0, 1] |" in run(
        tree, "bench.report.columns"
    )


def test_the_page_on_columns_is_up_to_date():
    """`python -m bench.report.columns` prints it."""
    assert (ROOT / "docs" / "columns.md").read_text() == as_markdown()


@pytest.mark.slow
def test_the_contract_tests_hold_with_it(tree):
    """But for what lists all settings for readers: the page is made anew by the command that it names."""
    page = tree / "docs" / "settings.md"
    text = page.read_text()
    table = run(tree, "bench.config.reference")
    page.write_text(text[: text.index("| key | allowed |")] + table)
    chosen = [f"tests/{name}" for name in CONTRACTS]
    printed = run(tree, "pytest", "-q", "-m", "not slow and not cluster", "-p", "no:cacheprovider", *chosen)
    assert re.search(r"\d{3} passed", printed)
