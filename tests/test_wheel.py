"""The built wheel, installed into an empty folder, works from yet another one with its own conf."""

import csv
import os
import subprocess
import sys

import pytest

from bench.config import CONF


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that the wheel was installed into; torch and the like are those of the environment."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("target")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, CONF.parent], check=True)
    (wheel,) = wheels.glob("regbench-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", target, wheel], check=True)
    return target


def regbench(installed, *arguments, cwd):
    env = {key: value for key, value in os.environ.items() if not key.startswith("REGBENCH_")}
    return subprocess.run(
        [sys.executable, installed / "bin" / "regbench", *arguments],
        cwd=cwd,
        env={**env, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_its_own_conf_lies_in_the_package_and_nothing_else_at_top_level(installed):
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == {
        "bench",
        "bin",
    }
    ours = {path.relative_to(CONF) for path in CONF.rglob("*.yaml")}
    assert {path.relative_to(installed / "bench" / "conf") for path in installed.rglob("*.yaml")} == ours


@pytest.mark.slow
def test_list_and_a_smoke_experiment_work_from_another_folder(installed, tmp_path):
    where = subprocess.run(
        [sys.executable, "-c", "import bench; print(bench.CONF)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert where.stdout.strip() == str(installed / "bench" / "conf")
    listed = regbench(installed, "list", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "label_smoothing" in listed.stdout
    ran = regbench(installed, "run", "+exp=digits_smoke", "train.device=cpu", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    with (tmp_path / "results" / "digits_smoke" / "runs.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["done"] * 4
    reported = regbench(installed, "report", "digits_smoke", cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    assert (tmp_path / "results" / "digits_smoke" / "report.html").is_file()
