"""torchvision's sets by name: each in small, in its published format, read to the right labels, names and splits."""

import inspect
import shutil
import tarfile

import numpy as np
import pytest
from conftest import compose
from PIL import Image
from published import SMALL
from published_parts import draw, md5
from test_originals import write_cifar
from torchvision import datasets

from bench.config.identity import identity
from bench.dataset import _load
from bench.dataset.cifar10 import load_cifar
from bench.dataset.torchvision import _SETS, load_torchvision
from bench.errors import UsageError
from bench.sweep.plan import Command, make_plan
from bench.training.run import train_run

# What torchvision has beside them, and why it is none of them.
OTHERS = {
    "CelebA": "forty attributes for each picture",
    "FakeData": "made on the spot, as dataset=synthetic is",
    "LFWPeople": "nobody in test is in train",
    "LFWPairs": "pairs",
    "LSUN": "needs lmdb, and its class writes into the current folder",
    "LSUNClass": "one class",
    "ImageFolder": "dataset=image_folder",
    "DatasetFolder": "dataset=image_folder",
    "VisionDataset": "what all of them are",
    **dict.fromkeys(("HMDB51", "UCF101", "Kinetics", "MovingMNIST"), "videos"),
    **dict.fromkeys(("CocoCaptions", "Flickr8k", "Flickr30k", "SBU"), "captions"),
    **dict.fromkeys(("CocoDetection", "VOCDetection", "WIDERFace", "Kitti"), "boxes"),
    **dict.fromkeys(("Cityscapes", "SBDataset", "VOCSegmentation"), "segments"),
    **dict.fromkeys(("PhotoTour", "KittiFlow", "Sintel", "FlyingChairs", "FlyingThings3D", "HD1K"), "correspondences"),
    **dict.fromkeys(("Kitti2012Stereo", "Kitti2015Stereo", "CarlaStereo", "Middlebury2014Stereo"), "stereo"),
    **dict.fromkeys(("CREStereo", "FallingThingsStereo", "SceneFlowStereo", "SintelStereo", "InStereo2k"), "stereo"),
    "ETH3DStereo": "stereo",
}


def load(name, root, image_size=None, test_fraction=0.25):
    return load_torchvision(name, str(root), image_size, test_fraction)


def test_every_set_of_torchvision_is_there_or_is_no_classification_set():
    classes = {name for name in datasets.__all__ if inspect.isclass(getattr(datasets, name))}
    assert {each.cls or name for name, each in _SETS.items()} == classes - {*OTHERS}


@pytest.mark.parametrize("name", SMALL)
def test_each_image_has_the_label_and_the_name_of_its_class(name, tmp_path, monkeypatch):
    """An image's grey value says of which class it is; JPEG keeps it nearly."""
    names = SMALL[name](tmp_path, monkeypatch)
    source = load(name, tmp_path, image_size=8 if name == "GTSRB" else None)
    used = [names[k] for k in range(len(names)) if k in {*true_labels(source, "train")}]
    assert source.class_names == used
    for split, images, labels in source.splits():
        assert [source.class_names[label] for label in labels] == [names[k] for k in true_labels(source, split)]
        assert np.asarray(images).std(axis=(1, 2)).max() < 2
    counts = {split: np.bincount(labels).tolist() for split, _, labels in source.splits()}
    expected = {"train": 4, "test": 2, "val": 1} if "test" in _SETS[name].splits else {"train": 6, "test": 2}
    assert counts == {split: [expected[split]] * source.classes for split in counts}
    assert ("val" in counts) == ("val" in _SETS[name].splits)


def true_labels(source, split):
    images = np.asarray({split: images for split, images, _ in source.splits()}[split])
    if images.max() in (254, 255):
        return (images.mean(axis=(1, 2, 3)) > 128).astype(int)  # SEMEION is black and white
    return np.round((images.mean(axis=(1, 2, 3)) - 10) / 20).astype(int)


def test_letters_count_from_a_and_digits_of_house_numbers_from_0(tmp_path, monkeypatch):
    """EMNIST's letters are 1 to 26 as published, and SVHN's 0 is 10."""
    SMALL["EMNIST-letters"](tmp_path, monkeypatch)
    SMALL["SVHN"](tmp_path, monkeypatch)
    letters, digits = load("EMNIST-letters", tmp_path), load("SVHN", tmp_path)
    assert (letters.train_labels.min(), letters.class_names[:2]) == (0, ["a", "b"])
    zeros = digits.train_images[digits.train_labels == digits.class_names.index("0")]
    assert {*zeros.ravel().tolist()} == {10}


@pytest.mark.parametrize(("name", "flips"), [("SVHN", False), ("RenderedSST2", False), ("EuroSAT", True)])
def test_what_has_letters_or_digits_is_not_mirrored(name, flips, tmp_path, monkeypatch):
    SMALL[name](tmp_path, monkeypatch)
    assert load(name, tmp_path).flips == flips


def test_it_reads_what_the_set_of_its_own_name_reads(tmp_path, monkeypatch):
    write_cifar(tmp_path, datasets.CIFAR10, monkeypatch)
    one, other = load("CIFAR10", tmp_path), load_cifar("cifar10", datasets.CIFAR10, str(tmp_path))
    for (_, images, labels), (_, others, their_labels) in zip(one.splits(), other.splits(), strict=True):
        assert (images == others).all()
        assert (labels == their_labels).all()
    assert one.class_names == other.class_names


def test_files_are_decoded_as_torchvision_decodes_them(tmp_path, monkeypatch):
    SMALL["DTD"](tmp_path, monkeypatch)
    random = np.random.default_rng(0)
    for path in (tmp_path / "dtd").rglob("*.jpg"):
        Image.fromarray(random.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(path)
    source = load("DTD", tmp_path)
    published = datasets.DTD(tmp_path, split="test")
    theirs = {np.asarray(picture).tobytes(): label for picture, label in published}
    ours = {image.tobytes(): label for image, label in zip(source.test_images, source.test_labels, strict=True)}
    assert ours == theirs


def test_arrays_are_resized_as_pictures_are(tmp_path, monkeypatch):
    SMALL["MNIST"](tmp_path, monkeypatch)
    assert load("MNIST", tmp_path, image_size=20).test_images.shape == (20, 20, 20, 1)
    SMALL["STL10"](tmp_path, monkeypatch)
    assert load("STL10", tmp_path, image_size=20).test_images.shape == (6, 20, 20, 3)


def test_pictures_of_unlike_sizes_need_one(tmp_path, monkeypatch):
    SMALL["GTSRB"](tmp_path, monkeypatch)
    with pytest.raises(UsageError, match=r"(?s)differ in size.*dataset.image_size=64"):
        load("GTSRB", tmp_path)


def plan(root, tmp_path, *more):
    _load.cache_clear()  # as in another process
    choices = ("dataset=torchvision", f"dataset.root={root}", "model=mlp", "train.device=cpu", "train.batch_size=2")
    (planned,) = make_plan(Command("adhoc", compose(*choices, *more), tmp_path / "results"))
    return planned


@pytest.mark.parametrize("name", ["SVHN", "Food101"])
def test_where_the_files_lie_is_no_part_of_a_runs_identity(name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    SMALL[name](tmp_path / "here", monkeypatch)
    before = plan(tmp_path / "here", tmp_path, f"dataset.arch={name}")
    (tmp_path / "here").rename(tmp_path / "there")
    after = plan(
        tmp_path / "there", tmp_path, f"dataset.arch={name}", "dataset.test_fraction=0.5"
    )  # it has a test split
    assert before.run_id == after.run_id
    assert after.run.dataset.name == f"torchvision/{name}"


def test_a_label_in_a_list_of_files_is_part_of_the_identity(tmp_path, monkeypatch):
    SMALL["DTD"](tmp_path, monkeypatch)
    before = load("DTD", tmp_path)
    listed = tmp_path / "dtd" / "dtd" / "labels" / "train1.txt"
    lines = listed.read_text().splitlines()
    for lines_now, same in ((lines[::-1], True), (lines[1:], False)):
        listed.write_text("\n".join(lines_now))
        assert (load("DTD", tmp_path).fingerprint == before.fingerprint) == same


def test_a_run_is_named_after_the_set(tmp_path, monkeypatch):
    SMALL["EuroSAT"](tmp_path, monkeypatch)
    planned = plan(tmp_path, tmp_path, "dataset.arch=EuroSAT", "train.epochs=1")
    assert identity(planned.run)["dataset.test_fraction"] == 0.2  # it counts, as there is no test split
    result = train_run(planned.run, tmp_path / "run", lambda *_: None)
    assert result["status"] == "done", result["message"]
    assert planned.run.words["dataset"] == "torchvision/EuroSAT"


# --- missing files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", unreachable)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)


@pytest.mark.parametrize("name", _SETS)
def test_missing_files_without_a_network_say_what_goes_where(name, tmp_path, no_network):
    with pytest.raises(UsageError) as caught:
        load(name, tmp_path / "data")
    message = str(caught.value)
    assert len(message.splitlines()) == 3
    assert f"dataset torchvision/{name}" in message
    assert str(tmp_path / "data") in message
    assert all(file in message for file in _SETS[name].files)
    assert "dataset.root" in message


def test_the_files_that_are_asked_for_are_those_that_torchvision_downloads(tmp_path, monkeypatch):
    """And none is downloaded right into the root."""
    asked = []

    def note(url, root, filename=None, md5=None, **_):
        asked.append(f"{root}/{filename or url.rpartition('/')[2]}")
        raise RuntimeError("noted")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", note)
    for module in ("svhn", "usps", "semeion", "flowers102"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.download_url", note)
    for name, each in _SETS.items():
        if not each.downloads or name in ("PCAM", "StanfordCars", "Caltech101"):
            continue  # by other means, or, in older releases, by another name
        asked.clear()
        with pytest.raises(UsageError):
            load(name, tmp_path / name)
        assert asked[0].partition("/.regbench-download-")[2].partition("/")[2] in each.files, name


@pytest.mark.parametrize("name", ["svhn", "EMNIST", "Flower102", "cub200"])
def test_a_name_that_is_none_is_met_with_those_that_are_like_it(name, tmp_path):
    with pytest.raises(UsageError) as caught:
        load(name, tmp_path)
    lines = str(caught.value).splitlines()
    hints = {
        "svhn": "did you mean SVHN?",
        "EMNIST": "EMNIST-letters",
        "Flower102": "Flowers102",
        "cub200": "set cub200.",
    }
    assert hints[name] in lines[0]
    assert "SVHN, StanfordCars" in lines[1]


def test_what_is_missing_is_downloaded_and_what_is_there_is_not(tmp_path, monkeypatch):
    (tmp_path / "published").mkdir()
    SMALL["SVHN"](tmp_path / "published", monkeypatch)

    def retrieve(url, file, *_, **__):
        shutil.copy(tmp_path / "published" / url.rpartition("/")[2], file)

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    root = tmp_path / "data"
    root.mkdir()
    shutil.move(tmp_path / "published" / "test_32x32.mat", root)
    assert len(load("SVHN", root).test_labels) == 20
    assert sorted(path.name for path in root.iterdir()) == ["test_32x32.mat", "train_32x32.mat"]
    assert not any(path.is_symlink() for path in root.iterdir())


def test_an_archive_that_lies_in_the_root_is_unpacked(tmp_path, monkeypatch, no_network):
    SMALL["Food101"](tmp_path, monkeypatch)
    before = load("Food101", tmp_path)
    with tarfile.open(tmp_path / "food-101.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "food-101", "food-101")
    shutil.rmtree(tmp_path / "food-101")
    monkeypatch.setattr(datasets.Food101, "_MD5", md5(tmp_path / "food-101.tar.gz"))
    assert np.array_equal(load("Food101", tmp_path).train_images, before.train_images)
    assert (tmp_path / "food-101.tar.gz").is_file()
    shutil.rmtree(tmp_path / "food-101")
    (tmp_path / "food-101.tar.gz").write_bytes(b"damaged")
    with pytest.raises(UsageError, match=r"not whole in .* could not be downloaded \(no network\)"):
        load("Food101", tmp_path)


def test_a_picture_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    SMALL["EuroSAT"](tmp_path, monkeypatch)
    draw(tmp_path / "eurosat" / "2750" / "Forest" / "0.jpg", 1).write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"eurosat/2750/Forest/0\.jpg cannot be read"):
        load("EuroSAT", tmp_path)


def test_labels_that_were_not_published_are_refused(tmp_path, monkeypatch):
    """FER2013 as Kaggle gives it has no labels for test."""
    SMALL["FER2013"](tmp_path, monkeypatch)
    rows = (tmp_path / "fer2013" / "fer2013.csv").read_text().splitlines()[1:]
    pixels = [row.split(",")[:2] for row in rows]
    (tmp_path / "fer2013" / "fer2013.csv").unlink()
    (tmp_path / "fer2013" / "train.csv").write_text("emotion,pixels\n" + "\n".join(",".join(each) for each in pixels))
    (tmp_path / "fer2013" / "test.csv").write_text("pixels\n" + "\n".join(each[1] for each in pixels))
    files = {split: (f"{split}.csv", md5(tmp_path / "fer2013" / f"{split}.csv")) for split in ("train", "test")}
    monkeypatch.setattr(datasets.FER2013, "_RESOURCES", {**datasets.FER2013._RESOURCES, **files})
    with pytest.raises(UsageError, match="the test split has images without a label"):
        load("FER2013", tmp_path)


def test_every_argument_is_one_that_its_class_takes():
    for name, each in _SETS.items():
        cls = getattr(datasets, each.cls or name)
        known = {key for base in cls.__mro__[:-1] for key in inspect.signature(base.__init__).parameters}
        assert {key for values in each.splits.values() for key in {**values, **each.more}} <= known, name
        assert ("download" in known) == each.downloads or name == "StanfordCars", name
