"""regbench doctor, as a user reads it."""

import pytest

from bench.cli import doctor
from bench.config.plugins import use_folder
from bench.dataset.cifar10 import describe_cifar10


def lines(capsys):
    return [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]


def test_it_tells_versions_devices_data_and_extras_and_that_training_works(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("REGBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(doctor, "_EXTRAS", {"timm": "regbench[timm]", "no-such-package": "no-such-package"})
    assert doctor.examine() == 0
    told = dict(reversed([line for line in lines(capsys) if len(line) == 2]))  # the device cpu, not its steps
    assert {"python", "torch", "hydra-core", "cpu", "digits", "cifar10", "image_folder", "timm"} <= set(told)
    assert "cores" in told["cpu"]
    assert "threads" in told["cpu"]
    assert "bf16" in told["cpu"]
    assert f"put cifar-10-python.tar.gz into {tmp_path / 'data'}" in told["cifar10"]
    assert told["digits"] == "needs no files"
    assert told["arrays"] == "your own: dataset.file=FILE"
    assert told["parquet"] == "your own: dataset.root=FOLDER"
    assert told["no-such-package"] == "missing: pip install 'no-such-package'"
    assert not (tmp_path / "data").exists()  # it downloads nothing


def test_a_step_for_each_precision_and_what_does_not_work_is_told(capsys, monkeypatch):
    results = iter(
        [{"status": "done", "message": ""}, {"status": "failed", "message": "RuntimeError: no bf16\nat all"}]
    )
    monkeypatch.setattr(doctor, "train_run", lambda *_: next(results))
    monkeypatch.setattr(doctor, "_gpus", lambda: [])
    assert doctor.examine() == 1
    told = [" ".join(line) for line in lines(capsys)]
    assert [" ".join(line.split()) for line in told[-2:]] == [
        "cpu fp32 works",
        "cpu bf16 failed: RuntimeError: no bf16",
    ]


@pytest.mark.cuda
def test_every_gpu_has_its_steps(capsys):
    assert doctor.examine() == 0
    assert "cuda:0 bf16" in capsys.readouterr().out


def test_a_users_own_dataset_that_is_broken_is_told_not_raised(capsys, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "broken.yaml").write_text("_target_: load_broken.load\nroot: data\n")
    (tmp_path / "load_broken.py").write_text("1 / 0\n")
    use_folder(tmp_path)
    assert doctor._dataset("broken") == ("broken", "ZeroDivisionError: division by zero")


def test_files_that_are_there_are_found(tmp_path):
    assert describe_cifar10(str(tmp_path)).startswith("missing: put cifar-10-python.tar.gz")
    (tmp_path / "cifar-10-python.tar.gz").touch()
    assert describe_cifar10(str(tmp_path)) == f"found in {tmp_path}"


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist"])
def test_each_dataset_of_files_is_told_of(name, tmp_path, monkeypatch):
    monkeypatch.setenv("REGBENCH_DATA", str(tmp_path))
    assert doctor._dataset(name)[1].startswith(("missing: put ", "found in "))
