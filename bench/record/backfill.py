"""Columns that a record of an older regbench lacks, made from its logits and kept beside them, in metrics.json."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.disk.files import write_atomically
from bench.measure import SCORES
from bench.measure.scores import score_run
from bench.record.folder import seal, unseal
from bench.record.logits import read_logits
from bench.status import Status

BACKFILLED = "metrics.json"


def backfill(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the columns of SCORES: its own, or made from its logits and kept.

    A run that is not finished has none of them, and neither has one whose logits are gone.
    """
    if record["status"] != Status.DONE or all(column in record for column in SCORES):
        return dict(record)
    kept = _read_made(folder, record)
    if kept is None:
        try:
            kept = {"made_of": stamp(record), **score_run(record, read_logits(folder) or {})}
        except (KeyError, ValueError):  # there are no logits, or none that fit
            return dict(record)
        with suppress(OSError):  # results that may only be read: they are made again next time
            write_atomically(folder / BACKFILLED, seal(kept))
    return {**kept, **record}


def _read_made(folder: Path, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was made of this very record by a regbench that knew all the columns."""
    try:
        made = unseal((folder / BACKFILLED).read_bytes())
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return made if made.get("made_of") == stamp(record) and made.keys() >= set(SCORES) else None


def stamp(record: Mapping[str, Any]) -> list[Any]:
    """What tells a record from the one of a later training that replaced it."""
    return [record.get("test_nll"), record.get("train_seconds")]
