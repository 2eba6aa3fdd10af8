"""Fixtures: runs composed from overrides in-process, and tiny problems."""

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from bench.cli import main
from bench.cli import run as app
from bench.config import CONF
from bench.config.own_code import make
from bench.config.settings import apply_settings
from bench.dataset import load_source, make_splits
from bench.dataset.batches import Batches
from bench.dataset.image_folder import load_image_folder
from bench.record import tables
from bench.record.columns import METRIC_COLUMNS, RUN_COLUMNS
from bench.sweep.device import resolve_device
from bench.sweep.plan import make_plan
from bench.training import run as run_module

os.environ.setdefault("HYDRA_FULL_ERROR", "1")

TINY = (
    *("dataset=synthetic", "dataset.train_images=80", "dataset.test_images=40", "model=mlp", "model.width=16"),
    *("train.epochs=2", "train.batch_size=16", "train.device=cpu", "train.precision=fp32"),
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_LACKS = CHROMIUM is None or find_spec("playwright") is None
needs_browser = pytest.mark.skipif(_LACKS, reason="needs a browser (Debian: chromium) and playwright (extra [dev])")
CPU = torch.device("cpu")
_RANDOM = np.random.default_rng(0)
REGULARIZERS = sorted(path.stem for path in (CONF / "regularizer").glob("*.yaml"))


def fits(regularizer, model):
    """Whether a model of conf/ has what a regularizer sets, if it sets a value of the model."""
    regularizer, model = (
        yaml.safe_load((CONF / axis / f"{name}.yaml").read_text())
        for axis, name in (("regularizer", regularizer), ("model", model))
    )
    axis, _, key = regularizer.get("sets", "").partition(".")
    return axis != "model" or key in model


# Of the small models that most tests train, which have no residual blocks.
STACKS = [
    *(name for name in REGULARIZERS if fits(name, "mlp") and fits(name, "convnet")),
    *("[mixup,sam]", "[random_erasing,cutmix,label_smoothing,asam,ema,dropout,weight_decay]"),
]
AVERAGES = ["ema", "swa"]  # which change what is evaluated, and not how it is trained


# Files of few but long tests: where two processes share the files, these must not come last.
FIRST = ("test_tune.py", "test_cli.py", "test_streams.py", "test_survival.py", "test_wheel.py")


def pytest_collection_modifyitems(items):
    for item in items:
        if "browser" in item.fixturenames:  # it and the page take seconds before anything is looked at
            item.add_marker("slow")
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


def pytest_runtest_setup(item):
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, and torch sees none")


def write(folder, files):
    """The folder, with files by their path in it."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def compose(*overrides):
    """The runs of a command line, checked but for what needs the data."""
    return app.compose(overrides).runs


def make_model(name, channels, classes, **values):
    """The model of conf/model/<name>.yaml with fresh weights; `values` override the file's."""
    return make({**yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text()), **values}, channels, classes)


@pytest.fixture
def tiny():
    """A function: overrides -> one planned run on synthetic data, device and precision resolved."""

    def make(*overrides):
        (run,) = compose(*TINY, *overrides)
        return resolve_device(run)

    return make


@pytest.fixture
def plan(tmp_path):
    """A function: overrides -> the planned runs of a command, records in a temporary folder."""
    return lambda *overrides: make_plan(app.compose([*TINY, f"results_dir={tmp_path}", *overrides]))


@pytest.fixture(autouse=True)
def _no_user_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("REGBENCH_DATA", raising=False)
    monkeypatch.setenv("REGBENCH_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REGBENCH_CONFIG", "")  # so that what a test sets is gone after it
    monkeypatch.delenv("REGBENCH_CONFIG")
    monkeypatch.setattr("sys.path", list(sys.path))  # a user's folder is added to it


@pytest.fixture
def batch():
    """Images (12, 3, 6, 10) whose pixels name their sample, with H != W, and one-hot targets (12, 4)."""
    images = torch.arange(12.0).view(12, 1, 1, 1).expand(12, 3, 6, 10).contiguous()
    return images, torch.eye(4).repeat(3, 1)


def make_trainer(run):
    """A trainer as a run has it, and its batches."""
    run = apply_settings(run)
    data = make_splits(run.dataset, load_source(run.dataset), torch.device(run.train.device))
    batches = Batches(data, run.train.batch_size, run.dataset.values["augment"], run.seed)
    return run_module.make_trainer(run, data), batches


def train(run):
    """The state dict after training, and the epochs."""
    trainer, batches = make_trainer(run)
    epochs = list(trainer.epochs(batches))
    return trainer.model.state_dict(), epochs


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def draw_picture(path, size=(12, 10), mode="RGB"):
    """A random picture, size (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size[::-1], 3) if mode == "RGB" else size[::-1]
    Image.fromarray(_RANDOM.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


def load_folder(root, image_size=None, channels=3, flips=True, test_fraction=0.25, **values):
    return load_image_folder("image_folder/x", str(root), image_size, channels, flips, test_fraction, **values)


@pytest.fixture
def split(tmp_path):
    """train/ with 4 pictures of cat and 3 of dog, test/ with 2 and 1."""
    for part, counts in (("train", {"cat": 4, "dog": 3}), ("test", {"dog": 1, "cat": 2})):
        for name, n in counts.items():
            for i in range(n):
                draw_picture(tmp_path / "data" / part / name / f"{i}.png")
    return tmp_path / "data"


@pytest.fixture
def flat(tmp_path):
    """Three classes of 8 pictures, of all kinds."""
    endings = ["png", "jpg", "JPEG", "bmp", "gif", "tif", "webp", "ppm"]
    for name in ("a", "b", "c"):
        for i, ending in enumerate(endings):
            draw_picture(tmp_path / "flat" / name / f"{i}.{ending}", mode="L" if i % 3 == 0 else "RGB")
    return tmp_path / "flat"


@pytest.fixture
def folder(tmp_path):
    """54 pictures of three classes, higher than wide, without a test split; five of them are there twice."""
    for i in range(54):
        path = draw_picture(tmp_path / "pictures" / "abc"[i % 3] / f"{i}.png", size=(9, 11))
        if i % 12 == 0:
            Image.open(path).save(path.with_name(f"{i}_again.png"))
    return tmp_path / "pictures"


@pytest.fixture
def report(tmp_path, capsys, monkeypatch):
    """A function: flags -> what `regbench report digits` prints of the committed results; without figures."""
    shutil.copytree(Path(__file__).parent / "tables" / "digits", tmp_path / "digits")
    monkeypatch.setattr("bench.report.evidence.write_evidence", lambda *_: None)

    def run(*flags, code=0):
        with pytest.raises(SystemExit) as exit_:
            main(["report", "digits", "--results-dir", str(tmp_path), *flags])
        printed = capsys.readouterr()
        assert exit_.value.code == code
        return printed.err if code else printed.out

    return run


@pytest.fixture(scope="session")
def page(tmp_path_factory):
    """The page of the committed digits experiment, of which one arm failed and one name tries to be HTML."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(Path(__file__).parent / "tables" / "digits", folder / "digits")
    rows = tables.read_csv(folder / "digits" / "runs.csv")
    for row in rows:
        if (row["regularizer"], row["optimizer"], row["seed"]) == ("sam", "adam", "0"):
            row |= dict.fromkeys(METRIC_COLUMNS, "") | {
                "status": "failed",
                "message": "<script>alert(1)</script>",
            }
    (folder / "digits" / "runs.csv").write_text(tables.to_csv(RUN_COLUMNS, rows))
    with pytest.raises(SystemExit) as exit_:
        main(["report", "digits", "--results-dir", str(folder)])
    assert exit_.value.code == 0
    return folder / "digits" / "report.html"


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, page):
    """A function: width and colour scheme -> the page, which must log nothing and ask for nothing."""
    told = []
    opened = []

    def open_(width, scheme="light"):
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.append(tab)
        tab.on("console", lambda message: told.append(message.text))
        tab.on("pageerror", lambda error: told.append(str(error)))
        tab.on("request", lambda request: told.append(request.url) if request.url != page.as_uri() else None)
        tab.goto(page.as_uri())
        return tab

    yield open_
    for tab in opened:
        tab.close()
    assert told == []
