"""Fixtures: runs composed from overrides in-process, and tiny problems."""

import os
from dataclasses import replace

import pytest
import torch

from bench import app
from bench.plan import make_plan, resolve_device

os.environ.setdefault("HYDRA_FULL_ERROR", "1")

TINY = (
    *("dataset=synthetic", "dataset.train_images=80", "dataset.test_images=40", "model=mlp", "model.width=16"),
    *("train.epochs=2", "train.batch_size=16", "train.device=cpu"),
)


def pytest_runtest_setup(item):
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, and torch sees none")


def compose(*overrides):
    """The runs of a command line, checked but for what needs the data."""
    commands = []

    def command(config, context, sweep):
        commands.append(app._compose(config, context.config_loader, sweep))

    app._start_hydra(command, overrides)
    return commands[0].runs


@pytest.fixture
def tiny():
    """A function: overrides -> one planned run on synthetic data, device and precision resolved."""

    def make(*overrides):
        (run,) = compose(*TINY, *overrides)
        return replace(resolve_device(run))

    return make


@pytest.fixture
def plan(tmp_path):
    """A function: overrides -> the planned runs of a command, records in a temporary folder."""
    return lambda *overrides: make_plan(compose(*TINY, *overrides), tmp_path)


@pytest.fixture(autouse=True)
def _no_user_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("REGBENCH_DATA", raising=False)
    monkeypatch.setenv("REGBENCH_RESULTS", str(tmp_path / "results"))


@pytest.fixture
def batch():
    """Images (12, 3, 6, 10) whose pixels name their sample, with H != W, and one-hot targets (12, 4)."""
    images = torch.arange(12.0).view(12, 1, 1, 1).expand(12, 3, 6, 10).contiguous()
    return images, torch.eye(4).repeat(3, 1)
