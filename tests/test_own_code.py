"""What a user's own loader and classes may give, which modules count as theirs, and what is told of their errors."""

import sys

import pytest
from conftest import TINY, write
from test_plugins import LOSS

from bench.cli import run as app
from bench.config import own_code, plugins
from bench.errors import UsageError
from bench.training.run import train_run

SOURCE = """
import numpy as np
from bench.dataset import Source
random = np.random.default_rng(0)
labels = np.arange(100) % 4
images = random.integers(0, 200, (100, 8, 10, 3)).astype(np.uint8)
images[..., 0] += 10 * labels.astype(np.uint8)[:, None, None]
def load():
    return {}
def make(images, labels):
    return Source(images[:80], labels[:80], images[80:], labels[80:], classes=4, flips=True)
"""
SAME = {  # as the plain arrays
    "a list of labels": "make(images, labels.tolist())",
    "lists": "make(images.tolist() and list(images), list(labels))",
    "views": "make(np.ascontiguousarray(images[..., ::-1])[..., ::-1], labels[::-1].copy()[::-1])",
    "strided": "make(np.repeat(images, 2, 1)[:, ::2], np.repeat(labels, 2)[::2])",
    "Fortran's order": "make(np.asfortranarray(images), labels)",
    "swapped bytes": "make(images, labels.astype('>i4'))",
    "read-only": "make(np.frombuffer(images.tobytes(), np.uint8).reshape(images.shape), labels)",
    "a tensor": "make(__import__('torch').from_numpy(images), labels)",
}
REFUSED = {
    "None": ["gives NoneType instead of a bench.dataset.Source"],
    "(images, labels)": ["gives tuple instead of a bench.dataset.Source"],
    "make(images.transpose(0, 3, 1, 2), labels)": ["(80, 3, 8, 10) looks like (N, C, H, W)"],
    "make(images.transpose(0, 3, 1, 2)[:, :1], labels)": ["(80, 1, 8, 10) looks like (N, C, H, W)"],
    "make(np.ones((100, 12, 64, 64), np.uint8), labels)": ["(80, 12, 64, 64) looks like (N, C, H, W)"],
    "make(images, ['a'] * 100)": ["labels must be integers"],
    "make(images, None)": ["TypeError"],
    "make([images[0], images[1][:4]] * 50, labels)": ["dataset own", "inhomogeneous"],
}


def load_own(tmp_path, plan, code, name):
    own = {f"{name}.py": SOURCE.replace("{}", code), f"dataset/{name}.yaml": f"_target_: {name}.load\naugment: none\n"}
    plugins.use_folder(write(tmp_path / name, own))
    return plan(f"dataset={name}", "~dataset.train_images", "~dataset.test_images")[0].run


@pytest.mark.parametrize("form", SAME)
def test_arrays_of_whatever_form_give_the_same_run(form, tmp_path, plan):
    number = list(SAME).index(form)
    plain = load_own(tmp_path, plan, "make(images, labels)", f"plain{number}")
    run = load_own(tmp_path, plan, SAME[form], f"form{number}")
    assert run.fingerprint == plain.fingerprint
    result = train_run(run, tmp_path / "run")
    assert result["status"] == "done", result["message"]
    assert result["test_nll"] == train_run(plain, tmp_path / "plain")["test_nll"]


@pytest.mark.parametrize("form", REFUSED)
def test_what_a_loader_gives_that_is_no_dataset_is_told_before_training(form, tmp_path, plan):
    with pytest.raises(UsageError, match="dataset own") as caught:
        load_own(tmp_path, plan, form, f"own{list(REFUSED).index(form)}")
    assert len(str(caught.value).splitlines()) <= 3
    assert all(part in str(caught.value) for part in REFUSED[form]), caught.value


@pytest.mark.parametrize("name", ["code", "types", "yaml"])
def test_a_module_with_the_name_of_a_librarys_is_told_before_training(name, tmp_path, plan):
    yaml = f"# @package regularizer.x\n_target_: {name}.Sharpened\nslot: loss\ngamma: 1\n"
    plugins.use_folder(write(tmp_path / "own", {f"{name}.py": LOSS, "regularizer/x.yaml": yaml}))
    with pytest.raises(
        UsageError, match=rf"{name}\.py is not seen: Python has a module {name}.*\nGive the file another"
    ):
        plan("regularizer=x")


def test_a_library_that_a_users_file_has_the_name_of_stays_as_it_is(tmp_path, plan):
    plugins.use_folder(write(tmp_path / "own", {"torch.py": "", "bench.py": "", "code.py": "", "focal.py": LOSS}))
    own_code.source_fingerprint.cache_clear()
    (planned,) = plan("optimizer=adam", "regularizer=mixup")
    assert not planned.run.contents  # nor is their source part of a run's identity


BROKEN = {
    "": ["ModuleNotFoundError", "broken"],
    "X = 1\n": ["AttributeError", "make"],
    "def make(channels, classes):\n    return [][1]\n": ["IndexError", "broken.py, line 2"],
    "def make(channels):\n    pass\n": ["TypeError", "positional"],
    "from torch import nn\ndef make(channels, classes):\n    return nn.Flatten()\n": [
        "instead of logits of shape (16, 4)"
    ],
    "from torch import nn\ndef make(channels, classes):\n"
    "    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())\n": ["nothing to train"],
    "from torch import nn\ndef make(channels, classes):\n"
    "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).requires_grad_(False)\n": ["nothing to train"],
    "from torch import nn\nclass make(nn.Linear):\n    def __init__(self, channels, classes):\n"
    "        super().__init__(64, classes)\n    def forward(self, x):\n"
    "        return super().forward(x.flatten(1)), x\n": ["gives a tuple instead of logits"],
    "import foo\n": ["No module named 'foo'", "broken.py, line 1"],
}


@pytest.mark.parametrize("code", BROKEN)
def test_an_error_in_a_users_own_class_is_told_with_its_place(code, tmp_path, plan, monkeypatch):
    own = write(tmp_path / "own", {"model/broken.yaml": "_target_: broken.make\n"})
    if code:
        write(own, {"broken.py": code})
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    plugins.use_folder(own)
    with pytest.raises(UsageError) as caught:
        plan("model=broken", "~model.width")
    assert len(str(caught.value).splitlines()) <= 3
    assert all(part in str(caught.value) for part in ["broken", *BROKEN[code]]), caught.value


@pytest.mark.parametrize("milestones", ["{2: 0.1, 10: 0.01}", "{0: 0.1, last: 0.01}"])
def test_settings_whose_keys_are_numbers_are_recorded_once(milestones, tmp_path, capsys):
    """JSON makes text of them, which sorts otherwise: the record was taken for damaged, and trained again for ever."""
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "numbered.py").write_text(
        "from bench.model.mlp import MLP\n"
        "def make(channels, classes, width, dropout, milestones):\n"
        "    return MLP(channels, classes, width=width, dropout=dropout)\n"
    )
    text = f"_target_: numbered.make\nwidth: 8\ndropout: 0.0\nmilestones: {milestones}\n"
    (tmp_path / "mine" / "model" / "numbered.yaml").write_text(text)
    plugins.use_folder(tmp_path / "mine")
    own = [each for each in TINY if not each.startswith("model")]
    for _ in range(2):
        assert app.run([*own, "model=numbered", f"results_dir={tmp_path / 'results'}"]) == 0
    assert "1 on record, 0 to train" in capsys.readouterr().out


def test_the_source_of_a_users_own_class_is_part_of_the_identity(tmp_path, plan):
    own = write(
        tmp_path / "own",
        {
            "scale.py": "FACTOR = 1.0\n",
            "other.py": "UNUSED = 1\n",
            "scaled.py": "from scale import FACTOR\n" + LOSS,
            "regularizer/scaled.yaml": "# @package regularizer.scaled\nslot: loss\n_target_: scaled.Sharpened\n"
            "gamma: 1\n",
        },
    )
    plugins.use_folder(own)

    def identify(*overrides):
        own_code.source_fingerprint.cache_clear()
        return [planned.run_id for planned in plan("regularizer=none,scaled", *overrides)]

    none, scaled = identify()
    assert identify() == [none, scaled]
    write(own, {"other.py": "UNUSED = 2\n"})
    assert identify() == [none, scaled]
    write(own, {"scale.py": "FACTOR = 2.0\n"})  # what the class's module imports
    assert identify()[0] == none
    assert identify()[1] != scaled
    write(own, {"scale.py": "FACTOR = 1.0\n"})
    assert identify() == [none, scaled]
    assert own_code.source_fingerprint("torch.optim.SGD") is None
    assert own_code.source_fingerprint("textwrap.dedent")  # installed, and neither ours nor torch's
    assert own_code.source_fingerprint("bench.regularizer.sam.SAM") is None


@pytest.mark.parametrize(
    ("form", "read", "unread"),
    [
        ("from . import blocks\nNet = blocks.X", "pack/blocks.py", "other.py"),
        ("from .blocks import X as Net", "pack/blocks.py", "other.py"),
        ("import plain.part\nNet = plain.part.X", "plain/part.py", "pack/blocks.py"),
        ("from functools import partial\nfrom other import X\nNet = partial(X, 1)", "other.py", "pack/blocks.py"),
        ("from torch.nn import Linear as Net", "pack/net.py", "other.py"),
        ("def load():\n    import other\nNet = load", "other.py", "plain/part.py"),
        ("import yaml\nNet = 1", "pack/__init__.py", "plain/part.py"),
    ],
)
def test_whatever_way_a_users_modules_are_imported_they_count(form, read, unread, tmp_path):
    """`yaml` is a plain folder there, too: Python takes the library, and so does the hash."""
    files = dict.fromkeys(("pack/blocks.py", "other.py", "plain/part.py"), "X = int\n")
    files |= {"pack/__init__.py": "", "pack/net.py": form + "\n", "yaml/data.txt": ""}
    own = write(tmp_path / "own", files)
    plugins.use_folder(own)

    def hashed():
        own_code.source_fingerprint.cache_clear()
        return own_code.source_fingerprint("pack.net.Net")

    before = hashed()
    write(own, {unread: "X = str\n"})
    assert hashed() == before
    write(own, {read: files[read] + "Y = 0\n"})
    assert hashed() != before
