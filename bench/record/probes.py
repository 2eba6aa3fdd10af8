"""What probes have measured of a run's trained model, kept beside its record, in probes.json.

It is no part of the record: a run's identity does not hold what was measured of it, and it counts for the very training
that it is of. What could not be measured is noted, too, so that it is not tried again each time.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.disk.files import write_atomically
from bench.disk.gone import read_if_there
from bench.measure.probed import PROBED, Measured
from bench.record.backfill import stamp
from bench.record.folder import seal, unseal
from bench.status import Status

PROBES = "probes.json"  # in a run's folder


def lacking(folder: Path, record: Mapping[str, Any] | None, asked: Sequence[str]) -> list[str]:
    """Of the probes that are asked for those that a finished run lacks."""
    if not asked or record is None or record["status"] != Status.DONE:
        return []
    return [name for name in asked if name not in _read(folder, record)]


def keep_measured(folder: Path, record: Mapping[str, Any], name: str, measured: Measured | str) -> None:
    """Keeps what a probe has measured of the record's model, or why it could not.

    Raises:
        OSError: it could not be written.
    """
    entry: dict[str, Any] = {"message": measured} if isinstance(measured, str) else _plain(measured)
    made = {"made_of": stamp(record), "probes": {**_read(folder, record), name: entry}}
    write_atomically(folder / PROBES, seal(made))


def adopt_measured(folder: Path, theirs: Path, record: Mapping[str, Any]) -> None:
    """Keeps what another folder of the same training has measured, too, where there is none of it here.

    Raises:
        OSError: it could not be written.
    """
    own, others = _read(folder, record), _read(theirs, record)
    if others.keys() - own.keys():
        write_atomically(folder / PROBES, seal({"made_of": stamp(record), "probes": {**others, **own}}))


def _plain(measured: Measured) -> dict[str, Any]:
    numbers = {column: value if math.isfinite(value) else None for column, value in measured.numbers.items()}
    return {"numbers": numbers, "rows": [*measured.rows]}


def read_numbers(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What probes have measured of a record's model, by column of runs.csv; its `message` says what they could not."""
    found = _read(folder, record)
    values = {column: value for name in PROBED for column, value in found.get(name, {}).get("numbers", {}).items()}
    lost = [f"{name} was not measured: {entry['message']}" for name, entry in found.items() if "message" in entry]
    message = {"message": "; ".join(filter(None, [record.get("message"), *lost]))} if lost else {}
    return {column: value for column, value in values.items() if value is not None} | message


def measured_of(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """The probes whose numbers of a record's model are there."""
    return [name for name, entry in _read(folder, record).items() if "numbers" in entry]


def read_rows(folder: Path, record: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A probe's rows for a table of their own; none where it was not asked for."""
    return list(_read(folder, record).get(name, {}).get("rows", []))


def _read(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """By probe, what was measured of this very record."""
    with suppress(ValueError, TypeError, AttributeError):
        made = unseal(read_if_there(folder / PROBES) or b"null")
        if made.get("made_of") == stamp(record):
            return dict(made["probes"])
    return {}
