"""Weights to start from, and weights that are kept."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from conftest import equal, make_model, make_trainer, train
from test_model import MODELS
from torch import nn

from bench.config import CONF
from bench.config.settings import Choice
from bench.dataset import load_source, split_indices
from bench.errors import UsageError
from bench.model import build_model
from bench.model.weights import load_weights
from bench.training.run import train_run


def test_every_model_starts_from_kept_weights(tmp_path):
    for name in MODELS:
        if name == "wide_resnet28_10":
            continue
        choice = Choice(name, {**yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text()), "weights": None})
        shape = torch.Size((2, 3, 32, 32))
        with torch.random.fork_rng():
            first, other = build_model(choice, shape, 10), build_model(choice, shape, 10)
            torch.save(first.state_dict(), tmp_path / "w.pt")
            loaded = build_model(
                replace(choice, values={**choice.values, "weights": str(tmp_path / "w.pt")}), shape, 10
            )
            fewer = build_model(replace(choice, values={**choice.values, "weights": str(tmp_path / "w.pt")}), shape, 7)
        assert equal(loaded.state_dict(), first.state_dict())
        assert not equal(other.state_dict(), first.state_dict())
        state = fewer.state_dict()
        drawn = [key for key in state if not torch.equal(state[key], first.state_dict().get(key, torch.empty(0)))]
        assert len(drawn) == 2, (name, drawn)  # the head's weight and bias
        assert {state[key].shape[0] for key in drawn} == {7}


def test_the_head_is_drawn_anew_from_the_init_stream_where_the_classes_differ(tiny, tmp_path):
    trainer, _ = make_trainer(tiny("model=convnet", "model.width=4"))
    torch.save(trainer.model.state_dict(), tmp_path / "w.pt")
    start = ("model=convnet", "model.width=4", f"model.weights={tmp_path / 'w.pt'}", "dataset.classes=5")
    heads = [make_trainer(tiny(*start, f"seed={seed}"))[0].model[-1].weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_weights_that_do_not_fit_are_errors_before_training(plan, tmp_path):
    def refuses(content, *parts, start=("model=convnet", "model.width=4")):
        path = tmp_path / "w.pt"
        path.unlink(missing_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)
        with pytest.raises(UsageError) as caught:
            plan(*start, f"model.weights={path}")
        message = str(caught.value)
        assert len(message.splitlines()) <= 3
        assert all(part in message for part in (str(path), *parts)), message

    state = make_model("convnet", 1, 4, width=4).state_dict()
    refuses(None, "No such file", "keep_weights=true")
    refuses(b"nothing", "not a file of weights")
    refuses({"epoch": 3, "model": state}, "not a state dict", "epoch, model")
    refuses([1], "not a state dict", "list")
    refuses({}, "not a state dict")
    refuses({**state, "more": torch.zeros(1)}, "the model has no more")
    refuses({k: v for k, v in state.items() if k != "0.weight"}, "it lacks 0.weight")
    refuses(
        make_model("convnet", 1, 4, width=5).state_dict(), "4.weight is (10, 5, 3, 3) there, (8, 4, 3, 3) in the model"
    )
    refuses(make_model("convnet", 3, 4, width=4).state_dict(), "0.weight is (4, 3, 3, 3) there")
    refuses({"0.weight": torch.zeros(2)}, "it lacks", "and ", "more")
    torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, tmp_path / "w.pt")
    assert plan("model=convnet", "model.width=4", f"model.weights={tmp_path / 'w.pt'}")


WRAPPED = {
    "torch.compile": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "DataParallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "both": lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
    "a layer that was compiled": lambda state: {key.replace(".", "._orig_mod.", 1): v for key, v in state.items()},
    "an average": lambda state: {"n_averaged": torch.tensor(3), **{f"module.{key}": v for key, v in state.items()}},
    "Lightning": lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}, "epoch": 3},
    "Lightning, compiled": lambda state: {"state_dict": {f"model._orig_mod.{key}": v for key, v in state.items()}},
    "a training script": lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
}


@pytest.mark.parametrize("form", WRAPPED)
def test_weights_load_with_the_prefixes_that_wrappers_add(form, plan, tmp_path):
    state = make_model("convnet", 1, 4, width=4).state_dict()
    torch.save(WRAPPED[form](state), tmp_path / "w.pt")
    (planned,) = plan("model=convnet", "model.width=4", f"model.weights={tmp_path / 'w.pt'}")
    assert equal(make_trainer(planned.run)[0].model.state_dict(), state)


def test_weights_load_into_a_model_that_has_such_names_itself(tmp_path):
    inner = make_model("convnet", 1, 4, width=4)
    for held in ("module", "model"):
        outer = nn.ModuleDict({held: make_model("convnet", 1, 4, width=4)})
        torch.save(nn.ModuleDict({held: inner}).state_dict(), tmp_path / "w.pt")
        load_weights(outer, str(tmp_path / "w.pt"), 4)
        assert equal(outer[held].state_dict(), inner.state_dict())


def test_what_images_were_normalised_by_is_on_record(tiny, tmp_path):
    run = tiny("dataset.channels=3")
    result = train_run(run, tmp_path, keep_weights=True)
    pixels = load_source(run.dataset).train_images[split_indices(run.dataset, load_source(run.dataset).train_labels)[0]]
    recorded = json.loads((tmp_path / "result.json").read_text())["normalisation"]
    assert recorded == result["normalisation"]
    assert recorded["mean"] == pytest.approx(pixels.mean((0, 1, 2)), rel=1e-5)
    assert recorded["std"] == pytest.approx(pixels.std((0, 1, 2)), rel=1e-5)
    model = make_trainer(run)[0].model.eval()
    model.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    images = torch.from_numpy(load_source(run.dataset).test_images)
    mean, std = torch.tensor(recorded["mean"]), torch.tensor(recorded["std"])
    with torch.inference_mode(), np.load(tmp_path / "logits.npz") as arrays:
        logits = model(((images - mean) / std).permute(0, 3, 1, 2))
        torch.testing.assert_close(logits, torch.from_numpy(arrays["test_logits"]))


def test_weights_are_in_the_identity_by_their_content(plan, tmp_path):
    def identify(name, state):
        with (tmp_path / name).open("wb") as file:  # given a path, torch writes its name into the file
            torch.save(state, file)
        return plan("model=convnet", "model.width=4", f"model.weights={tmp_path / name}")[0].run_id

    with torch.random.fork_rng():
        one, other = (make_model("convnet", 1, 4, width=4).state_dict() for _ in range(2))
    assert identify("a.pt", one) == identify("b.pt", one)
    assert identify("a.pt", one) != identify("a.pt", other)
    assert plan("model=convnet", "model.width=4")[0].run_id not in (identify("a.pt", one), identify("a.pt", other))


def test_kept_weights_are_those_of_the_trained_model_and_load_back(plan, tmp_path):
    (planned,) = plan("model=convnet", "model.width=4")
    train_run(planned.run, tmp_path / "run", lambda *_: None, keep_weights=True)
    trained, _ = train(planned.run)
    assert equal(torch.load(tmp_path / "run" / "weights.pt", weights_only=True), trained)
    (tuned,) = plan("model=convnet", "model.width=4", f"model.weights={tmp_path / 'run' / 'weights.pt'}", "seed=3")
    assert equal(make_trainer(tuned.run)[0].model.state_dict(), trained)
    kept = (tmp_path / "run" / "weights.pt").read_bytes()
    (tmp_path / "run" / "weights.pt").write_bytes(kept[::-1])
    changed = train_run(tuned.run, tmp_path / "tuned", lambda *_: None)
    assert "the weights to start from have changed" in changed["message"]
    train_run(planned.run, tmp_path / "run", lambda *_: None)  # trained again, kept again
    assert (tmp_path / "run" / "weights.pt").read_bytes() == kept
