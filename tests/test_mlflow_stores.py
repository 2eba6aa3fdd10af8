"""MLflow's stores for real: one that two commands share, and a server."""

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress

import pytest
from conftest import TINY
from mlflow import MlflowClient
from test_checkpoint import interrupt_after
from test_mlflow import ASKED, VAL, of_epochs, read_history, read_runs

from bench.training.run import train_run


@pytest.mark.slow
def test_two_commands_at_once_share_a_store_that_neither_has_made(tmp_path):
    results = tmp_path / "my results #1"
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-m", "bench", "run", *TINY, ASKED, "train.epochs=20", "exp=both"]
    pair = [
        subprocess.Popen([*command, f"seed={seeds}", f"results_dir={results}"], env=environment, stdout=-3, stderr=-1)
        for seeds in ("0,1,2", "3,4,5")
    ]
    for process in pair:
        assert process.communicate(timeout=200)[1] == b""
        assert process.returncode == 0
    runs = read_runs(results)
    assert sorted(run["tags"]["seed"] for run in runs) == list("012345")
    for run in runs:
        folder = results / "runs" / run["tags"]["run_id"]
        assert (run["exp"], run["status"]) == ("both", "FINISHED")
        assert of_epochs(run) == read_history(folder)
        assert "no further curves" not in (folder / "log.txt").read_text()


@pytest.fixture
def server(tmp_path):
    """The address of a real `mlflow server`, and a function that ends it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    where = ["--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}", "--artifacts-destination", str(tmp_path)]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with subprocess.Popen(
        [*command, *where], cwd=tmp_path, env=environment, stdout=-1, stderr=-2, text=True, start_new_session=True
    ) as process:
        for line in process.stdout:
            if "Application startup complete" in line:
                break
        yield f"http://127.0.0.1:{port}", lambda: (os.killpg(process.pid, 15), process.wait(60))
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.stdout.close()


@pytest.mark.slow
def test_a_server_by_its_address(server, tiny, tmp_path, monkeypatch, capfd):
    address, end = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    (tmp_path / "results" / "runs").mkdir(parents=True)
    folder = tmp_path / "results" / "runs" / "a"
    run = tiny(ASKED, VAL, "train.epochs=3")
    interrupt_after(8, run, folder)
    capfd.readouterr()
    train_run(run, folder, exp="mine")  # which goes on where it began
    assert capfd.readouterr() == ("", "")
    client = MlflowClient(tracking_uri=address)
    (experiment,) = client.search_experiments(filter_string="name = 'adhoc'")
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FINISHED"
    for key, points in read_history(folder).items():
        assert [(m.step, m.value) for m in client.get_metric_history(logged.info.run_id, key)] == points
    record = json.loads((folder / "result.json").read_text())
    assert logged.data.metrics["test_nll"] == record["test_nll"]
    assert not (tmp_path / "results" / "mlflow.db").exists()

    train_run(run, folder)
    (again,) = client.search_runs([experiment.experiment_id])
    assert again.info.run_id != logged.info.run_id

    ended = []
    folder = tmp_path / "results" / "runs" / "b"
    result = train_run(run, folder, lambda *_: ended or ended.append(end()))
    assert result["status"] == "done"
    assert (folder / "log.txt").read_text().count("no further curves could be written") == 1
