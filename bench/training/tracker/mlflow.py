"""A run in MLflow: settings as parameters, history.csv as metrics by epoch, and at the end its numbers in runs.csv.

It is in the store that MLFLOW_TRACKING_URI names, as whatever uses MLflow has it, else in mlflow.db in the results; in
MLflow's experiment of the experiment's name. The run's folder notes its id there: so a run that goes on from a
checkpoint goes on there, too, with each epoch once; and where a run is trained anew, the earlier one is moved to
MLflow's trash, where `mlflow gc` ends it.

Nothing is sent anywhere else, and a call that gets no answer is given up after seconds: by itself MLflow tries for
minutes.
"""

import logging
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.config import AXES
from bench.config.identity import arm_id, identity, run_id
from bench.config.settings import Run
from bench.disk.files import write_atomically
from bench.disk.gone import read_if_there, remove
from bench.disk.lock import wait_for
from bench.record.folder import HISTORY_COLUMNS, RunFolder, RunResult
from bench.status import Status

STORE = "mlflow.db"  # in the results
_ID = "mlflow.txt"  # in a run's folder
_HISTORY = [column for column in HISTORY_COLUMNS if column not in ("run_id", "epoch")]
_AT_ONCE = 100  # parameters that MLflow takes in a call
_DEFAULTS = {  # a user's own values stand
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def forget(folder: RunFolder) -> None:
    """Removes the note of where the run is in MLflow: it is trained anew.

    Raises:
        LockLost: another process has taken the run over.
    """
    if read_if_there(folder.path / _ID) is not None:
        folder.check()
        remove(folder.path / _ID)


class MlflowCurves:
    """A run in MLflow; as `Curves`. What could not be written when it was due is written at the end."""

    def __init__(self, run: Run, exp: str, folder: RunFolder, resumed: bool) -> None:
        self.run, self.exp, self.folder, self.resumed = run, exp, folder, resumed
        noted = read_if_there(folder.path / _ID) or b""
        self.noted = noted.decode() if re.fullmatch(rb"[\w-]+", noted) else ""  # an earlier process's; none if damaged
        self.client: Any = None
        self.id = ""  # MLflow's
        self.epochs: set[int] = set()  # that are there

    def start(self) -> None:
        """Goes on with the run of an earlier process, or makes one."""
        with _quiet():
            self._open()

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes a row, unless its epoch is there: a process that died had more epochs than its last checkpoint."""
        with _quiet():
            self._add(row)

    def end(self, result: RunResult | None) -> None:
        """Writes what is missing of the history, the numbers of a run that is over, and the status."""
        with _quiet():
            if result is None:
                if self.id:
                    self.client.set_terminated(self.id, "KILLED")
                return
            self._open()
            for row in result.history:
                self._add(row)
            status = result.row["status"]
            if status != Status.FAILED:  # it may go on
                numbers = {key: value for key, value in result.row.items() if isinstance(value, float)}
                self._log(numbers | result.progress, result.progress.get("epochs", 0), known=_HISTORY)
            self.client.set_tag(self.id, "status", str(status))
            self.client.set_terminated(self.id, "FINISHED" if status == Status.DONE else "FAILED")

    def close(self) -> None:
        """Has nothing to close: MLflow keeps its connection for the next run."""

    def _open(self) -> None:
        if not self.id:
            self.client = _connect(self.folder.path.parent.parent)
            self.id = self._find() or self._create()
        self._log_settings()
        self.epochs = {metric.step for metric in self.client.get_metric_history(self.id, _HISTORY[0])}

    def _find(self) -> str:
        """The id of the run that goes on; one that is not to go on is moved to the trash."""
        from mlflow import MlflowException

        try:
            run = self.client.get_run(self.noted) if self.noted else None
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # in this store
                raise
            run = None
        if run is None or run.info.lifecycle_stage == "deleted":
            return ""
        if not self.resumed:
            self.client.delete_run(self.noted)
            return ""
        self.client.update_run(self.noted, status="RUNNING")
        return self.noted

    def _create(self) -> str:
        words = " ".join(self.run.words[axis] for axis in AXES)
        tags = {"run_id": run_id(self.run), "arm_id": arm_id(self.run), "arm": words, "seed": str(self.run.seed)}
        experiment = _experiment(self.client, self.exp)
        self.id = self.client.create_run(experiment, run_name=f"{words} seed {self.run.seed}", tags=tags).info.run_id
        write_atomically(self.folder.path / _ID, self.id)
        return self.id

    def _log_settings(self) -> None:
        from mlflow.entities import Param

        settings = identity(self.run).items()
        params = [Param(key, "null" if value is None else str(value)) for key, value in settings]
        for start in range(0, len(params), _AT_ONCE):
            self.client.log_batch(self.id, params=params[start : start + _AT_ONCE], synchronous=True)

    def _add(self, row: Mapping[str, Any]) -> None:
        if row["epoch"] not in self.epochs:
            self._log({key: row[key] for key in _HISTORY if key in row}, row["epoch"])
            self.epochs.add(row["epoch"])

    def _log(self, numbers: Mapping[str, Any], step: int, known: Sequence[str] = ()) -> None:
        from mlflow.entities import Metric

        now, new = int(1000 * time.time()), {k: v for k, v in numbers.items() if v is not None and k not in known}
        metrics = [Metric(key, float(value), now, step) for key, value in new.items()]
        self.client.log_batch(self.id, metrics=metrics, synchronous=True)


def _connect(results: Path) -> Any:
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address:
        return _connect_to(address)
    with wait_for(results):  # who comes first makes the tables
        return _connect_to(f"sqlite:///{results.resolve() / STORE}")


def _connect_to(address: str) -> Any:
    from mlflow import MlflowClient

    if re.match(r"sqlite|postgresql|mysql|mssql", address):
        from sqlalchemy import NullPool, create_engine, inspect

        inspect(create_engine(address, poolclass=NullPool))  # raises: MLflow would try it ten times in 100 s
    return MlflowClient(tracking_uri=address)


def _experiment(client: Any, name: str) -> str:
    """The id of MLflow's experiment of that name, made if need be."""
    from mlflow import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:  # another process was faster
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    return str(experiment.experiment_id)


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it MLflow is brief, and logs, warns and prints nothing; what goes wrong it raises as well."""
    mine = {key: value for key, value in _DEFAULTS.items() if key not in os.environ}
    before = logging.root.manager.disable
    os.environ.update(mine)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
        for key in mine:
            os.environ.pop(key, None)
