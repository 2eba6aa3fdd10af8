"""What becomes of a run, in the words of tables and commands."""

from enum import StrEnum


class Status(StrEnum):
    """Of a run: the first three are on record, the others are what there is of one that is not."""

    DONE = "done"
    DIVERGED = "diverged"
    FAILED = "failed"
    PARTIAL = "partial"  # there is a checkpoint, or a probe of its model is left
    RUNNING = "running"
    MISSING = "missing"


RECORDED = (Status.DONE, Status.DIVERGED, Status.FAILED)
