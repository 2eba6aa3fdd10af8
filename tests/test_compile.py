"""torch.compile: training is the same, each run has code of its own, and what is eager after all is on record."""

import copy
import functools
import sys

import pytest
import torch
from conftest import TINY, compose, equal, make_trainer, train
from torch import nn

from bench.sweep.describe import describe_result
from bench.training.compile import compile_model
from bench.training.run import configure_torch, train_run


@pytest.fixture
def graphs(monkeypatch):
    """The sizes of the inputs of each graph that is compiled; by a compiler that changes nothing."""
    sizes = []

    def keep(graph, inputs):
        sizes.append([size for each in inputs if isinstance(each, torch.Tensor) for size in each.shape])
        return graph

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=keep))
    torch.compiler.reset()
    yield sizes
    torch.compiler.reset()


@pytest.mark.slow
def test_the_tenth_run_of_a_process_is_compiled_as_the_first(graphs, tiny, tmp_path):
    """Dynamo keeps 8 graphs of a piece of code; later runs were eager, and recorded as compiled."""
    compiled = []
    for width in range(1, 11):
        run = tiny("model=convnet", f"model.width={width}", "train.epochs=1", "train.compile=true")
        assert train_run(run, tmp_path / str(width))["message"] == ""
        compiled.append(len(graphs))
        graphs.clear()
    assert compiled == [compiled[0]] * 10
    assert compiled[0] > 0


def test_the_code_of_a_run_does_not_depend_on_the_batches_of_others(graphs, tiny):
    for size in (16, 8, 4):
        trainer, batches = make_trainer(tiny("train.compile=true", f"train.batch_size={size}"))
        trainer.warm_up(batches)
    assert len(graphs) == 3
    assert all(isinstance(size, int) for sizes in graphs for size in sizes)  # else for any size


class Restless(nn.Module):
    """Counts its calls, as some models do; to a compiler it is another one at each."""

    def __init__(self, model):
        super().__init__()
        self.model, self.calls = model, 0

    def forward(self, images):
        self.calls += 1
        return self.model(images) * (1 + 0 * self.calls)


def test_a_model_that_would_be_compiled_again_and_again_goes_on_as_it_is_and_that_is_told(graphs, tiny):
    eager, _ = train(tiny("train.epochs=4"))
    trainer, batches = make_trainer(tiny("train.epochs=4", "train.compile=true"))
    trainer.forward = compile_model(Restless(trainer.model))
    list(trainer.epochs(batches))
    assert trainer.note == "not compiled after step 8: another graph at each call"
    assert not trainer.compiled
    assert equal(trainer.model.state_dict(), eager)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="torch.compile needs a C++ compiler")
def test_compiled_training_follows_eager_training(tiny):
    eager, _ = train(tiny("regularizer=sam", "model=convnet", "model.width=8"))
    run = tiny("regularizer=sam", "model=convnet", "model.width=8", "train.compile=true")
    trainer, batches = make_trainer(run)
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.warm_up(batches)
    assert equal(before, trainer.model.state_dict())
    list(trainer.epochs(batches))
    for name, value in trainer.model.state_dict().items():
        torch.testing.assert_close(value, eager[name], rtol=1e-3, atol=1e-3)


def test_a_model_that_cannot_be_compiled_is_trained_as_it_is_and_the_record_says_why(tiny, tmp_path, monkeypatch):
    def fail(model, **_):
        def forward(images):
            raise RuntimeError("no C++ compiler\nfound here")

        return forward

    monkeypatch.setattr(torch, "compile", fail)
    eager = train_run(tiny(), tmp_path / "eager")
    fallen_back = train_run(tiny("train.compile=true"), tmp_path / "compiled")
    assert fallen_back["status"] == "done"
    assert fallen_back["message"] == "not compiled: RuntimeError: no C++ compiler"
    assert fallen_back["test_nll"] == eager["test_nll"]
    assert "not compiled" in describe_result(fallen_back)
    assert "not compiled" in (tmp_path / "compiled" / "log.txt").read_text()


@pytest.mark.cuda
@pytest.mark.slow
def test_compiled_training_follows_eager_training_on_cuda():
    def losses(*more):
        (run,) = compose(*TINY, "model=convnet", "train.device=cuda", "train.precision=fp32", *more)
        configure_torch(run)  # without TF32
        trainer, batches = make_trainer(run)
        trainer.warm_up(batches)
        assert trainer.note == ""
        return [epoch.train_loss for epoch in trainer.epochs(batches)]

    assert losses("train.compile=true") == pytest.approx(losses(), rel=1e-3)
