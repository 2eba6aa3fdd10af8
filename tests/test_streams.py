"""A terminal, a locale or a name that is not UTF-8 ends nothing, and files are UTF-8 wherever they are written."""

import ast
import errno
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, draw_picture

from bench.config import CONF
from bench.console.escape import to_utf8
from bench.console.streams import lasting
from bench.disk.files import write_atomically

ROOT = CONF.parent
REGBENCH = Path(sys.executable).with_name("regbench")
NOT_UTF8 = os.fsdecode(b"gr\xf6\xdfe")
EXPERIMENT = """# @package _global_
# Größe und Übung ▲
defaults:
  - override /dataset: synthetic
  - override /model: netz
dataset: {train_images: 80, test_images: 40}
model: {note: größer}
train: {epochs: 1, batch_size: 16, device: cpu, precision: fp32}
hydra: {sweeper: {params: {regularizer: "none,sam", seed: "0,1"}}}
"""
MODEL = "# ein Netz für Bilder\n_target_: netz.Netz\nnote: größe\n"
CODE = '''"""Ein Netz für Bilder."""
from torch import nn
class Netz(nn.Sequential):
    def __init__(self, channels, classes, note):
        assert note == "größer"
        super().__init__(nn.Flatten(), nn.LazyLinear(classes))
'''


@pytest.fixture(scope="session")
def locales(tmp_path_factory):
    """A folder with a locale of Latin-1."""
    folder = tmp_path_factory.mktemp("locales")
    make = ["localedef", "--force", "--inputfile=de_DE", "--charmap=ISO-8859-1", folder / "de_DE"]
    if not shutil.which("localedef") or subprocess.run(make, capture_output=True).returncode > 1:
        pytest.skip("needs localedef and Debian's package locales, which make a locale of Latin-1")
    return folder


@pytest.fixture(params=["latin-1 terminal", "latin-1 locale", "ascii locale", "ascii terminal"])
def environment(request):
    """The environment of a user whose terminal lacks characters, and its encoding."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON", "REGBENCH_"))}
    clean |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "LC_ALL": "C.UTF-8"}
    encoding, _, where = request.param.partition(" ")
    if where == "terminal":
        return encoding, clean | {"PYTHONIOENCODING": encoding}
    if encoding == "ascii":
        return encoding, clean | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    return encoding, clean | {"LC_ALL": "de_DE", "LOCPATH": str(request.getfixturevalue("locales"))}


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_a_terminal_or_locale_that_is_not_utf8_ends_nothing(environment, tmp_path):
    encoding, env = environment
    write(tmp_path / "mine", {"exp/exp.yaml": EXPERIMENT, "model/netz.yaml": MODEL, "netz.py": CODE})

    def regbench(*arguments):
        command = [REGBENCH, *arguments, "--config-dir", "mine"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, timeout=300)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode(encoding)

    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=2,3")
    printed = [regbench(*each) for each in (["run", "+exp=exp"], ["run", "+exp=exp", *launcher], ["report", "exp"])]
    assert "^ better, v worse than `none`" in printed[-1]  # of four seeds
    assert "/, \\ of seeds alone" in " ".join(printed[-1].split())
    assert encoding == "ascii" or "±" in printed[-1]
    assert "±" in regbench("report", "exp", "--format", "html").replace("~", "±")
    assert "r Bilder" in regbench("list")
    for arguments in (["plan", "+exp=exp"], ["results"]):
        assert regbench(*arguments)
    page = (tmp_path / "results" / "exp" / "report.html").read_text("utf-8")
    assert "±" in page
    assert "Größe und Übung ▲" in page
    assert "Â" not in page
    for path in (tmp_path / "results").rglob("*.*"):
        if path.suffix not in (".png", ".npz"):
            path.read_text("utf-8")


@pytest.mark.slow
def test_names_of_files_that_are_no_utf8_end_nothing(tmp_path):
    for part in ("train", "test"):
        for i in range(8):
            draw_picture(tmp_path / "data" / part / NOT_UTF8 / f"{i}{NOT_UTF8}.png")
            draw_picture(tmp_path / "data" / part / "b" / f"{i}.png")
    (tmp_path / NOT_UTF8).mkdir()
    shutil.move(tmp_path / "data", tmp_path / NOT_UTF8 / NOT_UTF8)
    model = MODEL.replace("größe", "größer")
    write(tmp_path / "mine", {f"model/{NOT_UTF8}.yaml": model, "netz.py": CODE})
    own = ("--config-dir", "mine")
    pictures = ("dataset=image_folder", f'dataset.root="{NOT_UTF8}/{NOT_UTF8}"', f'results_dir="{NOT_UTF8}"')
    training = ("train.epochs=1", "train.batch_size=4", f'model="{NOT_UTF8}"', "regularizer=none,sam")
    where = ("--results-dir", NOT_UTF8)
    for arguments in (
        ("run", *pictures, *training, *own),
        *(("report", "adhoc", "--format", form, *where) for form in ("table", "csv", "markdown", "latex", "html")),
        ("plan", *pictures, *training, *own),
        ("results", *where),
        ("list", *own),
    ):
        done = subprocess.run([REGBENCH, *arguments], cwd=tmp_path, capture_output=True, timeout=300)
        assert done.returncode == 0, (arguments, done.stderr.decode())
        assert b"Traceback" not in done.stderr
        done.stdout.decode()  # raises where it is no UTF-8


@pytest.mark.parametrize(
    ("text", "written"),
    [("größe", "größe"), ("gr\udcc3\udcb6\udcc3\udc9fe", "größe"), ("gr\udcf6e", "gr\\xf6e"), ("\ud800", "\\ud800")],
)
def test_what_is_written_is_utf8_whatever_it_is(text, written, tmp_path):
    assert to_utf8(text).decode() == written
    write_atomically(tmp_path / "file", text)
    assert (tmp_path / "file").read_text("utf-8") == written


def test_what_goes_wrong_with_a_name_is_told_and_logged(tmp_path):
    picture = draw_picture(tmp_path / "data" / "train" / "a" / f"{NOT_UTF8}.png")
    for part in ("train", "test"):
        draw_picture(tmp_path / "data" / part / "b" / "0.png")
        draw_picture(tmp_path / "data" / part / "a" / "0.png")
    picture.write_bytes(b"no picture")
    command = [REGBENCH, "run", "dataset=image_folder", "dataset.root=data", "train.batch_size=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=300)
    assert done.returncode == 2
    assert b"gr\\udcf6\\udcdfe.png" in done.stderr
    assert b"Traceback" not in done.stderr


class Dead(io.RawIOBase):
    """A file to which nothing can be written."""

    def __init__(self, folder, error):
        self.file, self.error = (folder / "terminal").open("wb"), error

    def writable(self):
        return True

    def write(self, data):
        if os.readlink(f"/proc/self/fd/{self.fileno()}") != os.devnull:  # noqa: PTH115  a link of the system's
            raise self.error
        return len(data)

    def fileno(self):
        return self.file.fileno()

    def close(self):
        self.file.close()
        super().close()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), BrokenPipeError(errno.EPIPE, "no reader")])
def test_writing_to_a_terminal_that_has_gone_is_no_error(error, tmp_path, monkeypatch):
    terminal = io.TextIOWrapper(Dead(tmp_path, error), "utf-8", write_through=True)
    monkeypatch.setattr("sys.stdout", terminal)
    with lasting():
        print("a")
        print("b", flush=True)
    assert sys.stdout is terminal


def test_a_full_disk_behind_standard_output_is_said_in_a_line(tmp_path):
    command = [sys.executable, "-m", "bench", "list"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, timeout=300)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"No space left" in done.stderr


def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    terminal = io.TextIOWrapper(Dead(tmp_path, full), "utf-8", write_through=True)
    monkeypatch.setattr("sys.stdout", terminal)
    with pytest.raises(OSError, match="No space"), lasting():
        print("a")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize("typed", ["list", f"run {' '.join(TINY)}"])
def test_output_that_is_closed_is_no_error(typed, closed, tmp_path):
    done = subprocess.run(
        ["bash", "-c", f"{REGBENCH} {typed} {closed}"], cwd=tmp_path, capture_output=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, b"")


# What opens text unless it is said to be bytes, and how many arguments there are when the encoding is one of them.
_TEXT = {"open": 4, ".open": 3, ".read_text": 1, ".write_text": 2, ".fdopen": 4}
_OPENS_OTHERS = {"Image", "archive", "gzip", "zipfile", "tarfile", "os"}
_MODES = {"rb", "wb", "ab", "xb", "r+b", "w+b"}


def _find_text_without_encoding(path):
    for call in (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)):
        method = isinstance(call.func, ast.Attribute)
        name = f".{call.func.attr}" if method else getattr(call.func, "id", "")
        named = {keyword.arg for keyword in call.keywords}
        text = bool(named & {"text", "universal_newlines"})
        if name in _TEXT and not (name == ".open" and getattr(call.func.value, "id", "") in _OPENS_OTHERS):
            modes = [*call.args[:2], *(each.value for each in call.keywords if each.arg == "mode")]
            binary = any(getattr(each, "value", None) in _MODES for each in modes)
            text = not binary and len(call.args) < _TEXT[name]
        if text and "encoding" not in named:
            yield call.lineno


def test_every_file_is_opened_with_an_encoding():
    files = [path for folder in ("bench", "scripts") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 80
    assert [f"{path}:{line}" for path in files for line in _find_text_without_encoding(path)] == []


def test_a_file_that_is_opened_without_an_encoding_is_found(tmp_path):
    bad = ['open("a")', "p.read_text()", 'p.write_text("b")', 'p.open("w")', 'p.open("a", 1)', "run(c, text=True)"]
    good = ['open("a", "rb")', 'p.read_text("utf-8")', 'p.open(mode="wb")', "Image.open(p)", 'p.open("a", 1, "utf-8")']
    (tmp_path / "code.py").write_text("\n".join([*bad, *good]), encoding="utf-8")
    assert sorted(_find_text_without_encoding(tmp_path / "code.py")) == [1, 2, 3, 4, 5, 6]
