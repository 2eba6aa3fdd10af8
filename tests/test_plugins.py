"""A user's own folder: the docs' examples, as they stand there, and what can be wrong with one's own."""

import csv
import multiprocessing
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, compose, write

from bench.config import CONF, plugins
from bench.disk.lock import this_process
from bench.errors import UsageError
from bench.sweep.launcher.joblib import Joblib
from bench.sweep.plan import Command, make_plan
from bench.sweep.worker import Worker
from bench.training.run import train_run

DOCS = (CONF.parent / "docs" / "bring-your-own.md").read_text()
REGBENCH = Path(sys.executable).with_name("regbench")
LOSS = """
class Sharpened:
    def __init__(self, gamma):
        self.gamma = gamma
    def __call__(self, logits, targets):
        return -(targets * (self.gamma * logits).log_softmax(1)).sum(1).mean()
"""
GRADIENT = """
class Twice:
    evaluations_per_step = 2
    def __call__(self, model, loss_closure, *, step=0):
        model.zero_grad()
        (loss_closure() / 2).backward()
        loss = loss_closure()
        (loss / 2).backward()
        return loss.detach()
"""


@pytest.fixture
def mine(tmp_path):
    """The folder of the docs' examples."""
    files = re.findall(r"^`(mine/\S+)`\n\n```\w+\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
    assert len(files) == 8
    return write(tmp_path, dict(files)) / "mine"


def regbench(*arguments, cwd, **env):
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("REGBENCH_")}, **env}
    return subprocess.run([REGBENCH, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_docs_examples_work_as_they_say(mine):
    commands = re.findall(r"^    regbench (.*--config-dir mine.*)$", DOCS, re.MULTILINE)
    assert len(commands) == 2
    listed, ran = (regbench(*shlex.split(command), cwd=mine.parent) for command in commands)
    assert listed.returncode == 0
    for choice in ("rings", "patch_net", "lion", "hide_and_seek", "sam"):
        assert re.search(rf"^  {choice} +\S", listed.stdout, re.MULTILINE)
    assert ran.returncode == 0, ran.stderr
    with (mine.parent / "results/adhoc/runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    arms = {(row["regularizer"], row["optimizer"]) for row in rows}
    assert arms == {(r, o) for r in ("none", "hide_and_seek+sam") for o in ("sgd", "lion")}
    assert {(row["dataset"], row["model"], row["status"]) for row in rows} == {("rings", "patch_net", "done")}
    narrow = ("dataset=rings", "model=patch_net", "optimizer=lion", "train.epochs=2")
    again = regbench("run", *narrow, cwd=mine.parent, REGBENCH_CONFIG="mine")
    assert "1 run, 1 on record" in again.stdout, again.stderr


@pytest.mark.slow
def test_a_users_own_learn(mine, tmp_path):
    plugins.use_folder(mine)
    size = ("dataset=rings", "model=patch_net", "optimizer=lion", "regularizer=hide_and_seek")
    runs = compose(*size, "train.epochs=60", "train.batch_size=32", "optimizer.lion.lr=3e-3", "train.device=cpu")
    (planned,) = make_plan(Command("adhoc", runs, tmp_path))
    result = train_run(planned.run, tmp_path / "run", lambda *_: None)
    assert result["status"] == "done", result["message"]
    assert result["test_accuracy"] > 0.8  # chance is 0.5


def test_a_user_may_fill_every_slot_and_stack_it(tmp_path, plan):
    write(
        tmp_path / "own",
        {
            "sharpened.py": LOSS,
            "twice.py": GRADIENT,
            "regularizer/sharpened.yaml": "# @package regularizer.sharpened\nslot: loss\n"
            "_target_: sharpened.Sharpened\ngamma: 2.0\n",
            "regularizer/twice.yaml": "# @package regularizer.twice\nslot: gradient\n_target_: twice.Twice\n",
            "regularizer/more.yaml": "# @package regularizer.more\nslot: setting\nsets: optimizer.momentum\nvalue: 1\n",
        },
    )
    plugins.use_folder(tmp_path / "own")
    (stack,) = plan("regularizer=[twice,mixup,sharpened]")
    assert stack.run.regularizer == "mixup+sharpened+twice"
    result = train_run(stack.run, tmp_path / "run", lambda *_: None)
    assert result["status"] == "done", result["message"]
    assert result["gradient_evaluations"] == 2 * 2 * (64 // 16)
    with pytest.raises(UsageError, match="more sets momentum, but optimizer sgd has momentum"):
        plan("regularizer=more")
    assert plan("regularizer=more", "optimizer.sgd.momentum=0", "optimizer.sgd.nesterov=false")


def in_another_process(worker):
    os.environ.pop("REGBENCH_CONFIG", None)
    worker(0)


def test_a_users_own_work_in_other_processes(mine, tmp_path):
    plugins.use_folder(mine)
    command = Command("adhoc", compose(*TINY, "regularizer=hide_and_seek", "model=patch_net"), tmp_path)
    (tmp_path / "runs").mkdir()
    worker = Worker(make_plan(command), tmp_path, Joblib(jobs=1), this_process())
    process = multiprocessing.get_context("spawn").Process(target=in_another_process, args=(worker,))
    process.start()
    process.join(120)
    assert make_plan(command)[0].status == "done"


def test_names_with_a_hyphen_stack(mine, plan):
    for name, folder in (("hide_and_seek", mine), ("sam", CONF)):
        text = (folder / "regularizer" / f"{name}.yaml").read_text()
        text = text.replace(f"@package regularizer.{name}", f"@package regularizer.my-{name}")
        (mine / "regularizer" / f"my-{name}.yaml").write_text(text)
    plugins.use_folder(mine)
    assert plan("regularizer=[my-hide_and_seek,my-sam]")[0].run.regularizer == "my-hide_and_seek+my-sam"


def test_values_of_a_users_own_are_theirs_and_those_that_regbench_reads_are_checked(tmp_path, plan):
    own = write(
        tmp_path / "own",
        {
            "net.py": "from bench.model.mlp import MLP\ndef make_net(channels, classes, width, dropout):\n"
            "    return MLP(channels, classes, width=int(16 * width), dropout=dropout)\n",
            "model/net.yaml": "_target_: net.make_net\nwidth: 0.5\ndropout: 0.0\n",
        },
    )
    plugins.use_folder(own)
    assert plan("model=net", "model.width=0.25")
    for override in ("model.dropout=2", "model.weights=5"):
        with pytest.raises(UsageError, match=override):
            plan("model=net", "model.width=0.25", override)


WRONG = {
    "regularizer/x.yaml: slot: loss\n_target_: x.X\n": ["regularizer/x.yaml", "# @package regularizer.x"],
    "optimizer/x.yaml: slot: optimizer\n_target_: x.X\n": ["optimizer/x.yaml", "# @package optimizer.x"],
    "exp/x.yaml: seed: 3\n": ["exp/x.yaml", "# @package _global_"],
    "regularizer/x.yaml: # @package regularizer.x\n_target_: x.X\n": [
        "slot=None",
        "erase, mixing, loss, gradient, average, setting",
    ],
    "regularizer/x.yaml: # @package regularizer.x\nslot: loss\n": ["lacks the key _target_"],
    "regularizer/x.yaml: # @package regularizer.x\nslot: setting\nvalue: 1\n": ["lacks the key sets"],
    "model/x.yaml: width: 3\n": ["model/x.yaml", "_target_"],
    "model/x.yaml: {": ["model/x.yaml", "cannot be read as YAML"],
    "model/x.yml: _target_: x.X\n": ["model/x.yml", "x.yaml"],
    "model/x.yaml: _target_: x.X\nword: arch\n": ["word=arch", "names a key"],
    "optimizer/x.yaml: # @package optimizer.x\nslot: optimizer\n_target_: x.X\nword: lr\nlr: 1\n": ["word=lr"],
    "regularizer/x.yaml: # @package regularizer.x\nslot: setting\nsets: train.epochs\nvalue: 1\n": [
        "sets=train.epochs",
        "optimizer.weight_decay",
    ],
    "model/x.yaml: 5": ["model/x.yaml", "key: value"],
    "model/convnet.yaml: _target_: x.X\n": ["model/convnet.yaml", "already", "another name"],
    "regularizer/cutout.yaml: # @package regularizer.cutout\nslot: mixing\n_target_: x.X\n": ["cutout already"],
}


@pytest.mark.parametrize("file", WRONG)
def test_a_file_that_cannot_work_is_told_before_anything_else(file, tmp_path):
    name, text = file.split(": ", 1)
    with pytest.raises(UsageError) as caught:
        plugins.use_folder(write(tmp_path / "own", {name: text}))
    assert len(str(caught.value).splitlines()) <= 3
    assert all(part in str(caught.value) for part in WRONG[file]), caught.value


def test_a_config_dir_that_is_not_there_exits_with_2(tmp_path):
    for command in (["list"], ["run", "+exp=digits_smoke"], ["report", "digits"], ["doctor"]):
        done = regbench(*command, "--config-dir", "nowhere", cwd=tmp_path)
        assert done.returncode == 2
        assert "nowhere is not a folder" in done.stderr
    assert "names no folder" in regbench("list", "--config-dir", cwd=tmp_path).stderr


CALL = "class X:\n    evaluations_per_step = 1\n    def __call__(self, {}):\n        {}\n"
RATE = "    def learning_rate(self, step, steps):\n        return "
SLOTS = [
    ("erase", "images, targets, random", "return images", "TypeError"),
    ("erase", "images, random", "return images, None", "erase gives a tuple of torch.float32"),
    ("erase", "images, random", "return images[:, :0]", "erase gives torch.float32 (2, 0, 8, 8)"),
    ("mixing", "images, targets", "return images, targets", "TypeError"),
    ("mixing", "images, targets, random", "return images[:1], targets", "torch.float32 (1, 1, 8, 8)"),
    ("mixing", "images, targets, random", "return images.double(), targets", "mixing gives ['torch.float64"),
    ("mixing", "images, targets, random", "return images.numpy(), targets", "mixing gives ['a ndarray'"),
    ("mixing", "images, targets, random", "return None", "mixing gives a NoneType"),
    ("loss", "logits, targets", "return logits.mean(1)", "loss gives torch.float32 (2,)"),
    ("loss", "logits, targets", "return None", "loss gives a NoneType"),
    ("loss", "logits, targets", "return 1.0", "loss gives a float"),
    ("gradient", "model, loss_closure, *, step=0", "pass", "AttributeError"),
    ("gradient", "model, loss_closure, *, step=0", "return loss_closure()", "detached"),
    ("gradient", "model, loss_closure, *, step=0", "return loss_closure().detach()", "no .grad"),
    ("average", "step, steps, per_epoch", "return 2", "average gives 2 at step 0; it must be a number in [0, 1]"),
    ("average", "step, steps, per_epoch", "return 2 * (step > 3)", "; it must be a number in [0, 1]"),
    ("average", "step, steps, per_epoch", "pass", "average gives None"),
    ("average", "step", "return 1", "TypeError"),
    ("average", "*_", "return 1\n    learning_rate = 0.01", "learning_rate=0.01; it must be a method"),
    (
        "average",
        "*_",
        f"return 1\n{RATE}-0.1",
        "learning_rate gives -0.1 at step 0; it must be None or a number above 0",
    ),
    ("average", "*_", f"return 1\n{RATE}0 if step == steps - 1 else None", "learning_rate gives 0 at step"),
]


@pytest.mark.parametrize(("slot", "arguments", "body", "message"), SLOTS)
def test_a_regularizer_that_does_not_fit_its_slot_is_told_before_training(
    slot, arguments, body, message, tmp_path, plan, monkeypatch
):
    yaml = f"# @package regularizer.x\n_target_: x.X\nslot: {slot}\n"
    own = write(tmp_path / "own", {"x.py": CALL.format(arguments, body), "regularizer/x.yaml": yaml})
    monkeypatch.delitem(sys.modules, "x", raising=False)
    plugins.use_folder(own)
    with pytest.raises(UsageError, match="regularizer x: ") as caught:
        plan("regularizer=x")
    assert message in str(caught.value)


def test_a_users_optimizer_is_swept_with_its_own_kind_of_values(mine, plan):
    plugins.use_folder(mine)
    runs = plan("optimizer=sgd,lion", "optimizer.lion.betas=[0.9,0.99],[0.8,0.9]")
    assert [p.run.optimizer.name for p in runs] == ["sgd", "lion", "lion"]
    with pytest.raises(UsageError, match=r"optimizer\.lion\.lr=0 is not allowed"):
        plan("optimizer=lion", "optimizer.lion.lr=0")
