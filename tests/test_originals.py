"""Original files: found in each form, checked, and downloaded whole or not at all."""

import gzip
import hashlib
import pickle
import shutil
import tarfile
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST

from bench.dataset.cifar10 import load_cifar
from bench.dataset.fashion_mnist import load_fashion_mnist
from bench.dataset.originals import Originals, download, load_originals
from bench.disk import lock
from bench.errors import UsageError

CPU = torch.device("cpu")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def write_cifar(folder, cls, monkeypatch):
    """Ten images in the published format, with torchvision's tables of checksums made to fit."""
    inner = folder / cls.base_folder
    inner.mkdir(parents=True)
    key = "fine_labels" if cls is CIFAR100 else "labels"

    def write(name, content):
        (inner / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((inner / name).read_bytes()).hexdigest()

    for table in ("train_list", "test_list"):
        rows = []
        for number, (name, _) in enumerate(getattr(cls, table)):
            images = np.full((10, 3072), number, np.uint8)
            images[:, :1024] += 100  # red
            rows.append([name, write(name, {"data": images, key: list(range(10))})])
        monkeypatch.setattr(cls, table, rows)
    names = [f"class {k}" for k in range(10)]
    md5 = write(cls.meta["filename"], {cls.meta["key"]: names})
    monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": md5})
    with tarfile.open(folder / cls.filename, "w:gz") as archive:
        archive.add(inner, cls.base_folder)
    monkeypatch.setattr(cls, "tgz_md5", hashlib.md5((folder / cls.filename).read_bytes()).hexdigest())


@pytest.mark.parametrize("cls", [CIFAR10, CIFAR100])
@pytest.mark.parametrize("form", ["archive", "unpacked", "inner folder"])
def test_cifar_is_read_from_each_form_and_the_folder_is_left_alone(cls, form, tmp_path, monkeypatch):
    write_cifar(tmp_path, cls, monkeypatch)
    if form == "archive":
        shutil.rmtree(tmp_path / cls.base_folder)
    else:
        (tmp_path / cls.filename).unlink()
    before = sorted(tmp_path.rglob("*"))
    root = tmp_path / cls.base_folder if form == "inner folder" else tmp_path
    source = load_cifar("cifar", cls, str(root))
    assert source.train_images.shape == (10 * len(cls.train_list), 32, 32, 3)
    assert source.test_images[0, 0, 0].tolist() == [100, 0, 0]
    assert source.classes == 10
    assert source.class_names == [f"class {k}" for k in range(10)]
    assert source.fingerprint == cls.tgz_md5
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_file_is_named(tmp_path, monkeypatch):
    write_cifar(tmp_path, CIFAR10, monkeypatch)
    (tmp_path / CIFAR10.filename).unlink()
    (tmp_path / CIFAR10.base_folder / "data_batch_3").write_bytes(b"damaged")
    with pytest.raises(UsageError, match="data_batch_3 is damaged"):
        load_cifar("cifar10", CIFAR10, str(tmp_path))


@pytest.mark.parametrize(
    "content",
    [b"no gzip at all", gzip.compress(b"other content"), gzip.compress(b"x" * 999)[:20]],
    # gzip writes the time into its header, and xdist's processes must agree on every test's name
    ids=["no gzip", "other content", "cut short"],
)
def test_a_damaged_gz_is_named(content, tmp_path):
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.gz is damaged"):
        load_originals("fake", None, [Originals("", {"a.gz": "0" * 32})], str(tmp_path))


def test_missing_files_without_a_network_say_what_goes_where(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", unreachable)
    with pytest.raises(UsageError) as caught:
        load_cifar("cifar10", CIFAR10, str(tmp_path))
    message = str(caught.value)
    assert len(message.splitlines()) == 3
    assert "cifar-10-python.tar.gz" in message
    assert str(tmp_path) in message
    assert "dataset.root" in message


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_real_fashion_mnist_is_found_by_itself_and_read_as_torchvision_reads_it(tmp_path):
    source = load_fashion_mnist(str(tmp_path))
    assert source.train_images.shape == (60_000, 28, 28, 1)
    assert np.bincount(source.train_labels).tolist() == [6_000] * 10
    assert np.bincount(source.test_labels).tolist() == [1_000] * 10
    assert source.class_names == FashionMNIST.classes
    # the mean and deviation that is given for it everywhere
    assert source.train_images.mean() / 255 == pytest.approx(0.2860, abs=1e-4)
    assert source.train_images.std() / 255 == pytest.approx(0.3530, abs=1e-4)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A network that has CIFAR-10 in small; a list of what is done in its stead before each download is whole."""
    published = tmp_path / "published"
    write_cifar(published, CIFAR10, monkeypatch)
    events = []

    def retrieve(url, file, *_, **__):
        content = (published / Path(url).name).read_bytes()
        Path(file).write_bytes(content[: len(content) // 2])
        events.pop(0)()
        Path(file).write_bytes(content)

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    return events


def test_a_download_that_is_cut_leaves_nothing_and_is_begun_anew(server, tmp_path):
    def die():
        raise KeyboardInterrupt

    root = tmp_path / "data"
    server += [die, lambda: None]
    with pytest.raises(KeyboardInterrupt):
        load_cifar("cifar10", CIFAR10, str(root))
    assert not list(root.iterdir())
    (root / ".regbench-download-of-one-that-was-killed").mkdir()
    (root / ".regbench-notes").write_text("the user's own")
    assert load_cifar("cifar10", CIFAR10, str(root)).fingerprint == CIFAR10.tgz_md5
    assert sorted(path.name for path in root.iterdir()) == [".regbench-notes", CIFAR10.base_folder, CIFAR10.filename]


def test_of_two_that_start_at_once_one_downloads(server, tmp_path, monkeypatch):
    waits, root, take, sources = threading.Event(), tmp_path / "data", lock.take, []

    def take_or_tell(*arguments):
        taken = take(*arguments)
        if taken is None:
            waits.set()
        return taken

    def load():
        sources.append(load_cifar("cifar10", CIFAR10, str(root)))

    monkeypatch.setattr(lock, "take", take_or_tell)
    other = threading.Thread(target=load)

    def meet():
        other.start()
        assert waits.wait(60)

    server.append(meet)
    load()
    other.join(60)
    assert [source.fingerprint for source in sources] == [CIFAR10.tgz_md5] * 2
    assert not server


@pytest.mark.parametrize("there", [(), ("set", "set/set.zip")])
def test_a_download_that_is_stopped_while_files_take_their_places_leaves_no_part_of_a_folder(
    there, tmp_path, monkeypatch
):
    """As torchvision, `find` takes a folder that is there for all of its files."""
    if there:
        (tmp_path / "root" / "set").mkdir(parents=True)
        (tmp_path / "root" / "set" / "set.zip").touch()

    def fetch(aside):
        for name in "abc":
            (Path(aside) / "set" / "pictures" / name).mkdir(parents=True)
            for i in range(3):
                (Path(aside) / "set" / "pictures" / name / f"{i}.png").touch()
        (Path(aside) / "labels").touch()

    def find():
        folder = tmp_path / "root" / "set" / "pictures"
        return len([*folder.rglob("*.png")]) if folder.is_dir() else None

    replace, seen, stop = Path.replace, [], [0]

    def replace_until(self, target):
        seen.append(find())  # as another process would at this moment
        if len(seen) > stop[0]:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace_until)
        for stop[0] in range(20):
            seen.clear()
            if find() is not None:
                break
            with suppress(KeyboardInterrupt):
                download("x", ["set.zip"], str(tmp_path / "root"), find, fetch)
            assert {*seen, find()} <= {None, 9}
    assert find() == 9
