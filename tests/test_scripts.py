"""Scripts for machines that these tests do not have, with the CPU in the place of what they are for."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.mark.slow
def test_all_parts_of_the_day_with_a_gpu_run_on_the_cpu(tmp_path):
    out = tmp_path / "cuda.txt"
    done = subprocess.run(
        [sys.executable, SCRIPTS / "test_cuda.py", "--cpu", "--out", out], capture_output=True, text=True
    )
    told = out.read_text()
    ends = dict(re.findall(r"^== (\w+): (.*), \d+ s$", told, re.MULTILINE))
    assert [*ends] == ["seen", "tests", "training", "questions", "speed", "compiled"]
    assert "no answer" not in told
    cut = {name for name, end in ends.items() if end.startswith("cut")}  # on a busy machine
    assert {end for name, end in ends.items() if name not in cut} == {"exit code 0"}, told
    assert done.returncode == bool(cut)


def test_the_day_with_a_gpu_is_over_in_six_minutes():
    parts = runpy.run_path(str(SCRIPTS / "test_cuda.py"))["make_parts"](False, None, "results")
    assert sum(seconds for _, seconds, _ in parts) <= 360


def test_a_part_that_takes_too_long_is_cut_and_what_it_printed_stays():
    run = runpy.run_path(str(SCRIPTS / "test_cuda.py"))["run"]
    good, told = run("slow", 5, "echo found; sleep 600")
    assert not good
    assert re.match(r"== slow: cut after its 5 s, \d+ s\nfound\n", told)
