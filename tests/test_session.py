"""Hydra beside the caller's own, and the arms of a sweep, which share a composition."""

import logging
import sys

import hydra
import pytest
from conftest import TINY, compose, write
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.version import getbase
from omegaconf import OmegaConf

from bench.cli import run as app
from bench.config.plugins import use_folder
from bench.errors import UsageError

MIXUP = "slot: mixing\n_target_: bench.regularizer.mixup.Mixup\nalpha: "


def composed_by_caller():
    config = hydra.compose("theirs", ["hydra/launcher=joblib"], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return OmegaConf.to_yaml(config)


def test_a_callers_own_hydra_is_left_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # put back at the end
    write(tmp_path / "theirs", {"theirs.yaml": "model: 5\n", "regularizer/sam.yaml": "rho: 5\n"})
    use_folder(write(tmp_path / "mine", {"exp/mine.yaml": "# @package _global_\nseed: 7\n"}))
    with hydra.initialize_config_dir(str(tmp_path / "theirs"), "their_job", version_base="1.2"):
        theirs, config, base = composed_by_caller(), HydraConfig.instance().cfg, getbase()
        found, node = GlobalHydra.instance(), ConfigStore.instance().load("hydra/launcher/joblib.yaml")
        loader = found.config_loader()
        assert app.run([*TINY, "train.epochs=1", "exp=mine", f"results_dir={tmp_path / 'results'}"]) == 0
        with pytest.raises(UsageError, match="no model nope"):
            compose("model=nope")
        assert GlobalHydra.instance() is found
        assert found.config_loader() is loader
        assert HydraConfig.instance().cfg is config
        assert getbase() == base
        assert ConfigStore.instance().load("hydra/launcher/joblib.yaml") == node
        assert composed_by_caller() == theirs
    assert not GlobalHydra.instance().is_initialized()


def test_commands_in_one_process_know_nothing_of_each_other(tmp_path):
    first = compose("+exp=digits_smoke")
    use_folder(write(tmp_path / "mine", {"regularizer/mine.yaml": f"# @package regularizer.mine\n{MIXUP}0.3\n"}))
    (mine,) = compose("regularizer=mine")
    assert mine.regularizers[0].values["alpha"] == 0.3
    write(tmp_path / "mine", {"regularizer/mine.yaml": f"# @package regularizer.mine\n{MIXUP}0.4\n"})
    (mine,) = compose("regularizer=mine")
    assert mine.regularizers[0].values["alpha"] == 0.4
    assert compose("+exp=digits_smoke") == first


def test_showing_a_config_leaves_the_process_as_it_was(capsys):
    typed, handlers = sys.argv, logging.getLogger().handlers[:]
    assert app.run(["model=mlp", "--cfg", "job"]) == 0
    assert "width" in capsys.readouterr().out
    assert sys.argv is typed
    assert logging.getLogger().handlers == handlers
    assert not GlobalHydra.instance().is_initialized()


def test_a_pattern_finds_a_users_choices_too(tmp_path):
    use_folder(write(tmp_path / "mine", {"regularizer/mix_mine.yaml": f"# @package regularizer.mix_mine\n{MIXUP}1\n"}))
    assert {run.regularizer for run in compose("regularizer=glob(mix*)")} == {"mixup", "mixup_cutmix", "mix_mine"}


def test_arms_that_share_a_composition_are_those_composed_alone(tmp_path):
    files = {
        "regularizer/both.yaml": f"# @package regularizer.both\ndefaults: [sam, _self_]\n{MIXUP}1\n",
        "regularizer/tied.yaml": f"# @package regularizer.tied\n{MIXUP}${{optimizer.sgd.lr}}\n",
        "exp/mine.yaml": "# @package _global_\nregularizer: {asam: {rho: 0.7}}\noptimizer: {adam: {lr: 0.5}}\n",
    }
    use_folder(write(tmp_path / "mine", files))
    regularizers = ["none", "[]", "both", "tied", "sam", "asam", "[mixup,sam]", "[sam,label_smoothing]"]
    together = compose("+exp=mine", f"regularizer={','.join(regularizers)}", "optimizer=sgd", "seed=0,1")
    alone = [
        compose("+exp=mine", f"regularizer={regularizer}", "optimizer=sgd", f"seed={seed}")[0]
        for regularizer in regularizers
        for seed in (0, 1)
    ]
    assert together == alone
    assert [run.regularizer for run in alone[4:8:2]] == ["both+sam", "tied"]
    with pytest.raises(UsageError, match=r"optimizer\.sgd\.lr"):  # adam's config has no such key, whoever shares it
        compose("regularizer=tied", "optimizer=sgd,adam")


@pytest.mark.parametrize("typed", ["+exp=[digits,fashion]", "+exp=digits,fashion", "+exp=glob(*)"])
def test_a_command_has_one_experiment(typed):
    with pytest.raises(UsageError, match="one experiment"):
        compose(typed)


@pytest.mark.parametrize("typed", ["hydra/launcher=basic,joblib", "hydra.verbose=true,false", "results_dir=a,b"])
def test_what_all_runs_share_is_not_swept(typed):
    with pytest.raises(UsageError, match="cannot be swept"):
        compose(typed)
