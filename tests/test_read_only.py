"""`regbench report` where nothing can be written."""

import errno
import os

import pytest


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("place", ["lock", "open_atomically"])
def test_results_that_may_only_be_read_are_reported(number, place, report, tmp_path, monkeypatch):
    """Whichever of the writes fails, the system's way for a folder of another user's or a disk that is read-only."""
    before = {file: file.read_bytes() for file in (tmp_path / "digits").iterdir() if file.is_file()}

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), str(tmp_path))

    expected = report()
    for file, content in before.items():
        file.write_bytes(content)
    target = "bench.record.tables.wait_for" if place == "lock" else "bench.disk.files.open_atomically"
    monkeypatch.setattr(target, refuse)
    printed = report()
    assert printed.splitlines()[:-1] == expected.splitlines()[:-1]
    assert printed.splitlines()[-1].startswith(
        f"Not written to {tmp_path / 'digits'} ({os.strerror(number)}): tables, "
    )
    assert report("--format", "csv").startswith("exp,")
    assert {file: file.read_bytes() for file in before} == before


def test_figures_that_cannot_be_written_are_named_and_a_full_disk_is_an_error(report, monkeypatch):
    def fail(number):
        def write(*_):
            raise OSError(number, os.strerror(number), "x.svg")

        return write

    monkeypatch.setattr("bench.report.evidence.write_evidence", fail(errno.EACCES))
    assert "(Permission denied): figures and report.html" in report().splitlines()[-1]
    monkeypatch.setattr("bench.report.evidence.write_evidence", fail(errno.ENOSPC))
    assert "No space left" in report(code=2)
