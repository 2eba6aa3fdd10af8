"""What the shell offers on TAB: asked through bash as the docs switch it on, and through zsh where there is one."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.config import CONF

BIN = Path(sys.executable).parent
SWITCH = re.search(
    r"^    (eval .*register-python-argcomplete.*)$", (CONF.parent / "docs" / "run.md").read_text(), re.MULTILINE
)[1]


def environment(**env):
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "dumb", **env}


def in_bash(line, cwd, **env):
    """What bash would offer for the last word of `line`."""
    words = line.split(" ")
    script = f"""
{SWITCH}
COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)} COMP_TYPE=9
COMP_WORDS=({" ".join(map(shlex.quote, words))}) COMP_CWORD={len(words) - 1}
$(complete -p regbench | sed -E 's/.*-F ([^ ]+).*/\\1/') regbench
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script], cwd=cwd, env=environment(**env), capture_output=True, text=True)
    assert done.stderr == ""
    return {word.strip() for word in done.stdout.split()}


def values(offered):
    """Bash replaces what follows the last = only, and quotes a bracket."""
    return {word.rpartition("=")[2].replace("\\", "") or word for word in offered}


def test_commands_choices_and_experiments_are_offered(tmp_path):
    assert {"run", "report", "list", "doctor"} <= in_bash("regbench ", tmp_path)
    assert in_bash("regbench rep", tmp_path) == {"report"}
    assert in_bash("regbench list reg", tmp_path) == {"regularizer"}
    assert {"dataset=", "model=", "optimizer=", "+exp=", "seed=", "train.epochs="} <= in_bash("regbench run ", tmp_path)
    assert values(in_bash("regbench run dataset=fash", tmp_path)) == {"fashion_mnist"}
    assert values(in_bash("regbench run +exp=dig", tmp_path)) == {"digits", "digits_noisy", "digits_smoke"}
    assert values(in_bash("regbench run seed=0 train.schedule=c", tmp_path)) == {"cosine", "constant"}
    assert values(in_bash("regbench run regularizer=none,label", tmp_path)) == {"none,label_smoothing"}
    assert values(in_bash("regbench run regularizer=none,[mixup,as", tmp_path)) == {"none,[mixup,asam"}
    assert {"trials=", "tune_seeds=", "+exp=", "seed="} <= in_bash("regbench tune ", tmp_path)
    assert in_bash("regbench tune --config-dir mine tune_", tmp_path) == {"tune_seeds="}
    assert not {"trials=", "tune_seeds="} & in_bash("regbench run ", tmp_path)


def test_a_users_own_and_recorded_experiments_are_offered(tmp_path):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "my_net.yaml").write_text("_target_: my_net.MyNet\n")
    (tmp_path / "results" / "digits_x").mkdir(parents=True)
    (tmp_path / "results" / "digits_x" / "runs.csv").touch()
    assert values(in_bash("regbench run --config-dir mine model=my", tmp_path)) == {"my_net"}
    assert values(in_bash("regbench run model=my", tmp_path, REGBENCH_CONFIG="mine")) == {"my_net"}
    assert in_bash("regbench report dig", tmp_path, REGBENCH_RESULTS="results") == {"digits_x"}
    named = in_bash("regbench run exp=digits_", tmp_path, REGBENCH_RESULTS="results")
    assert values(named) == {"digits_noisy", "digits_smoke", "digits_x"}
    offered = in_bash("regbench run +exp=digits_", tmp_path, REGBENCH_RESULTS="results")
    assert values(offered) == {"digits_noisy", "digits_smoke"}


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_offers_the_same(tmp_path):
    """In a terminal of its own: zsh completes nowhere else."""
    script = f"""
zmodload zsh/zpty
zpty z "cd {tmp_path}; PROMPT=ready\\> zsh -f -i"
zpty -w z 'autoload -Uz compinit && compinit -u; {SWITCH}'
zpty -w z $'regbench run dataset=fash\\t train.schedule=cos\\t; exit'
zpty -r z all '*cosine*'
print -r -- "$all"
"""
    done = subprocess.run(["zsh", "-f", "-c", script], env=environment(), capture_output=True, text=True, timeout=600)
    assert "dataset=fashion_mnist" in done.stdout, done.stdout


def test_nothing_that_is_slow_is_imported(tmp_path):
    code = """
import io, os, sys, tempfile
from bench import cli
import argcomplete
os.environ["_ARGCOMPLETE"] = "1"
def stop(code): raise SystemExit(code)
out = io.BytesIO()
try:
    stream = io.TextIOWrapper(out, write_through=True)
    argcomplete.autocomplete(cli._make_parser(), exit_method=stop, output_stream=stream)
except SystemExit:
    pass
assert b"cutmix" in out.getvalue(), out.getvalue()
heavy = {"torch", "torchvision", "hydra", "pandas", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""
    line = "regbench run regularizer=cutm"
    env = environment(COMP_LINE=line, COMP_POINT=str(len(line)), COMP_TYPE="9", _ARGCOMPLETE_IFS="\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
