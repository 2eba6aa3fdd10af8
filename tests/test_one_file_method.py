"""A built-in regularizer is one Python file, one YAML and its test: all else takes it up by itself."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import REGULARIZERS, TINY, write

from bench.config import CONF

FOCAL = '''"""The focal loss, Lin et al. 2017, eq. 4, with soft targets."""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from bench.config.ranges import NOT_NEGATIVE


@dataclass(frozen=True)
class Focal:
    """Reduces to cross-entropy at gamma 0."""

    gamma: Annotated[float, NOT_NEGATIVE]

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Scalar loss of logits (N, K) against targets (N, K)."""
        logs = logits.log_softmax(1)
        return -(targets * (1 - logs.exp()) ** self.gamma * logs).sum(1).mean()
'''
YAML = """# @package regularizer.focal
# cross-entropy that gives less weight to easy samples
# Lin et al. 2017
slot: loss
_target_: bench.regularizer.focal.Focal
gamma: 2.0  # at least 0; 0 is cross-entropy
"""
ROOT = CONF.parent
CONTRACTS = ("test_conf.py", "test_record.py", "test_completion.py", "test_pairing.py", "test_meta.py", "test_train.py")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the tree with one more regularizer."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("bench", "conf", "tests", "docs", "results", "scripts", "hydra_plugins"):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "runs", ".*")
            shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    for file in (file for file in ROOT.iterdir() if file.is_file()):
        shutil.copy(file, tree)
    return write(tree, {"bench/regularizer/focal.py": FOCAL, "conf/regularizer/focal.yaml": YAML})


def run(tree, *arguments, code=0):
    """What a command in the copy prints."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("REGBENCH_")}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(
        command, cwd=tree, env={**env, "PYTHONPATH": str(tree)}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_it_is_listed_checked_completed_and_in_the_reference(tree):
    assert re.search(r"^  focal +cross-entropy that gives less weight", run(tree, "bench", "list", "regularizer"), re.M)
    refused = run(tree, "bench", "run", *TINY, "regularizer=focal", "regularizer.focal.gamma=-1", code=2)
    assert "regularizer.focal.gamma=-1 is not allowed.\nIt must be a number of at least 0." in refused
    assert "| `regularizer.focal.gamma` | a number of at least 0 |" in run(tree, "bench.config.reference")


def test_experiments_on_all_hold_it(tree):
    printed = run(tree, "bench", "plan", "+exp=digits")
    assert f"{len(REGULARIZERS) + 1} regularizers" in printed
    assert "digits convnet focal adam seed 4" in printed


@pytest.mark.slow
def test_the_contract_tests_hold_with_it(tree):
    """But for what lists all settings for readers: the page is made anew by the command that it names."""
    page = next(file for file in (tree / "docs" / "settings.md", tree / "README.md") if file.is_file())
    text = page.read_text()
    table = run(tree, "bench.config.reference")
    page.write_text(text[: text.index("| key | allowed |")] + table + text[text.index("\n\n", text.index("| key |")) :])
    chosen = [f"tests/{name}" for name in CONTRACTS if (tree / "tests" / name).is_file()]
    printed = run(tree, "pytest", "-q", "-m", "not slow and not cluster", "-p", "no:cacheprovider", *chosen)
    assert re.search(r"\d{3} passed", printed)
