"""torchvision's classification sets by their names, read by its own classes, with their downloads and checksums.

Sets that lie in one array are taken as they are. Of those that lie in files torchvision says which file is of which
split and class, and the files are decoded as a folder's are: once, on all cores, by the same rules.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bench.config.messages import did_you_mean
from bench.dataset import Source
from bench.dataset.assemble import assemble, assemble_pictures
from bench.dataset.class_folders import Pictures
from bench.dataset.decode import Decoder, resize
from bench.dataset.labels import number_classes
from bench.dataset.originals import download
from bench.dataset.pictures import hash_text, in_files
from bench.errors import UsageError

_Splits = Mapping[str, Mapping[str, Any]]  # by split, the arguments that ask torchvision for it

_TRAIN: _Splits = {"train": {"train": True}, "test": {"train": False}}
_TWO: _Splits = {split: {"split": split} for split in ("train", "test")}
_THREE: _Splits = {split: {"split": split} for split in ("train", "test", "val")}
_TO_VAL: _Splits = {"train": {"split": "train"}, "test": {"split": "val"}}  # the labels of test were not published
_WHOLE: _Splits = {"train": {}}


class _Set(NamedTuple):
    """How a set is read.

    Attributes:
        files: as they were published, below the root, where a download or the user puts them.
        splits: the ones that it has; without a test split, one is split off here.
        flips: whether a mirrored image is of the same class.
        cls: torchvision's class where it is not called as the set.
        more: arguments of the class for all splits.
        downloads: whether the class can.
        by_folder: whether a file's folders are its class, as the class numbers them in the order of the disk.
    """

    files: Sequence[str]
    splits: _Splits = _TRAIN
    flips: bool = True
    cls: str = ""
    more: Mapping[str, Any] = {}
    downloads: bool = True
    by_folder: bool = False


def _below(folder: str, files: str) -> list[str]:
    return [f"{folder}/{file}" for file in files.split()]


_IDX = "train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz"
_QMNIST = [
    f"qmnist-{split}-{part}.gz" for split in ("train", "test") for part in ("images-idx3-ubyte", "labels-idx2-int")
]
_GTSRB = "GTSRB-Training_fixed.zip GTSRB_Final_Test_Images.zip GTSRB_Final_Test_GT.zip"
_PCAM = [f"camelyonpatch_level_2_split_{split}_{part}.h5.gz" for split in ("train", "valid", "test") for part in "xy"]
_IMAGENET = ["ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"]
_PLACES = ["filelist_places365-standard.tar", "train_256_places365standard.tar", "val_256.tar"]
_CARS = ["devkit/", "cars_train/", "cars_test/", "cars_test_annos_withlabels.mat"]
_SETS = {
    "CIFAR10": _Set(["cifar-10-python.tar.gz"]),
    "CIFAR100": _Set(["cifar-100-python.tar.gz"]),
    "CLEVRClassification": _Set(["clevr/CLEVR_v1.0.zip"], _TO_VAL),
    "Caltech101": _Set(["caltech101/caltech-101.zip"], _WHOLE),
    "Caltech256": _Set(["caltech256/256_ObjectCategories.tar"], _WHOLE),
    "Country211": _Set(["country211.tgz"], {**_THREE, "val": {"split": "valid"}}),
    "DTD": _Set(["dtd/dtd-r1.0.1.tar.gz"], _THREE),
    **{
        f"EMNIST-{part}": _Set(["EMNIST/raw/gzip.zip"], flips=False, cls="EMNIST", more={"split": part})
        for part in ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")
    },
    "EuroSAT": _Set(["eurosat/EuroSAT.zip"], _WHOLE),
    "FER2013": _Set(["fer2013/fer2013.csv"], _TWO, downloads=False),
    **{
        f"FGVCAircraft{ending}": _Set(
            ["fgvc-aircraft-2013b.tar.gz"], _THREE, cls="FGVCAircraft", more={"annotation_level": level}
        )
        for ending, level in (("", "variant"), ("-family", "family"), ("-manufacturer", "manufacturer"))
    },
    "FashionMNIST": _Set(_below("FashionMNIST/raw", _IDX)),
    "Flowers102": _Set(_below("flowers-102", "102flowers.tgz imagelabels.mat setid.mat"), _THREE),
    "Food101": _Set(["food-101.tar.gz"], _TWO),
    "GTSRB": _Set(_below("gtsrb", _GTSRB), _TWO, flips=False),
    "INaturalist": _Set(
        ["2021_train.tgz", "2021_valid.tgz"], {"train": {"version": "2021_train"}, "test": {"version": "2021_valid"}}
    ),
    "INaturalist-mini": _Set(
        ["2021_train_mini.tgz", "2021_valid.tgz"],
        {"train": {"version": "2021_train_mini"}, "test": {"version": "2021_valid"}},
        cls="INaturalist",
    ),
    "ImageNet": _Set(_IMAGENET, _TO_VAL, downloads=False),
    "Imagenette": _Set(["imagenette2.tgz"], _TO_VAL),
    "Imagenette-160px": _Set(["imagenette2-160.tgz"], _TO_VAL, cls="Imagenette", more={"size": "160px"}),
    "Imagenette-320px": _Set(["imagenette2-320.tgz"], _TO_VAL, cls="Imagenette", more={"size": "320px"}),
    "KMNIST": _Set(_below("KMNIST/raw", _IDX), flips=False),
    "MNIST": _Set(_below("MNIST/raw", _IDX), flips=False),
    # The other part of Omniglot has other characters.
    "Omniglot": _Set(["omniglot-py/images_background.zip"], _WHOLE, flips=False, by_folder=True),
    "OxfordIIITPet": _Set(
        _below("oxford-iiit-pet", "images.tar.gz annotations.tar.gz"), {**_TWO, "train": {"split": "trainval"}}
    ),
    "PCAM": _Set(_below("pcam", " ".join(_PCAM)), _THREE),
    "Places365": _Set(_PLACES, {"train": {"split": "train-standard"}, "test": {"split": "val"}}, more={"small": True}),
    "QMNIST": _Set(_below("QMNIST/raw", " ".join(_QMNIST)), flips=False),
    "RenderedSST2": _Set(["rendered-sst2.tgz"], _THREE, flips=False),
    "SEMEION": _Set(["semeion.data"], _WHOLE, flips=False),
    "STL10": _Set(["stl10_binary.tar.gz"], _TWO),
    "SUN397": _Set(["SUN397.tar.gz"], _WHOLE),
    "SVHN": _Set(["train_32x32.mat", "test_32x32.mat"], _TWO, flips=False),
    "StanfordCars": _Set(_below("stanford_cars", " ".join(_CARS)), _TWO),
    "USPS": _Set(["usps.bz2", "usps.t.bz2"], flips=False),
}


def load_torchvision(arch: str, root: str, image_size: int | None, test_fraction: float) -> Source:
    """A set as torchvision reads it, grey or in colour as it is there.

    Args:
        arch: the set, as torchvision names its class; a part of some sets, as EMNIST-letters.
        root: the folder that holds its files, packed or not; else they are downloaded to it.
        image_size: pixels; the shorter side is resized to it and the middle square is cut out. None: as they are.
        test_fraction: in (0, 1), stratified; only of sets without a test split.

    Raises:
        UsageError: no such set; files that are missing and not to be downloaded, or damaged; sizes that differ.
    """
    if arch not in _SETS:
        parts_of_it = [each for each in _SETS if each.startswith(f"{arch}-")]
        hint = f" as a whole, but {', '.join(parts_of_it)}." if parts_of_it else did_you_mean(arch, [*_SETS]) or "."
        raise UsageError(f"torchvision has no classification set {arch}{hint}\nThere are: {', '.join(_SETS)}")
    chosen = _SETS[arch]
    name = f"torchvision/{arch}"
    sets = _find(arch, root) or download(
        name, chosen.files, root, lambda: _find(arch, root), lambda aside: _fetch(arch, root, aside)
    )
    parts = {split: _read(each, chosen.by_folder) for split, each in sets.items()}
    labels = {split: part.labels for split, part in parts.items()}
    numbers, classes = number_classes(name, labels, _name_classes(sets))
    settings = {"test_fraction": None} if "test" in sets else {}
    if not parts["train"].files:
        images = {split: _fit(part.images, image_size) for split, part in parts.items()}
        return assemble(images, numbers, classes, chosen.flips, test_fraction, name, settings=settings)
    named = {
        # sorted, as some come in the order in which the disk lists them
        split: sorted(zip((_name(file, root) for file in part.files), numbers[split].tolist(), strict=True))
        for split, part in parts.items()
    }
    decoder = Decoder(image_size, 1 if parts["train"].grey else 3)
    found, encode = Pictures(classes, **named), partial(in_files, Path(root))
    source = assemble_pictures(name, found, encode, decoder, chosen.flips, test_fraction, name, settings)
    return replace(source, fingerprint=hash_text(json.dumps([source.fingerprint, named])))  # files do not hold labels


def describe_torchvision(root: str) -> str:
    """For `regbench doctor`: where files are looked for."""
    return f"{len(_SETS)} sets, in {root} or downloaded to it: dataset.arch=NAME"


def _find(arch: str, root: str) -> dict[str, Any] | None:
    """torchvision's dataset of each split; None where files are missing."""
    try:
        return _make(arch, root, download=False)
    except (OSError, RuntimeError):
        return None


def _fetch(arch: str, root: str, aside: str) -> None:
    """Has torchvision download and unpack the files; to those that lie in the root already it gets links."""
    there = [file for file in _SETS[arch].files if Path(root, file).is_file()]
    for file in there:
        Path(aside, file).parent.mkdir(parents=True, exist_ok=True)
        Path(aside, file).symlink_to(Path(root, file).resolve())
    if not there and not _SETS[arch].downloads:
        raise RuntimeError("torchvision does not download this set")
    _make(arch, aside, download=True)


def _make(arch: str, root: str, download: bool) -> dict[str, Any]:
    from torchvision import datasets  # here because it takes a second to load

    chosen = _SETS[arch]
    cls = getattr(datasets, chosen.cls or arch)
    more = {**chosen.more, **({"download": download} if chosen.downloads else {})}
    with warnings.catch_warnings():
        # The CIFARs are pickles of 2009, whose dtypes NumPy reads with a deprecation warning.
        warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
        return {split: cls(root, **values, **more) for split, values in chosen.splits.items()}


class _Unopened:
    """Stands for a picture while torchvision opens and converts it: what is asked for is only which file it is."""

    def __init__(self, file: Any, *_: Any, **__: Any) -> None:
        self.file, self.grey = file if isinstance(file, str | Path) else file.name, False

    def convert(self, mode: str) -> Self:
        """Itself, unread."""
        self.grey = mode == "L"
        return self


class _Part(NamedTuple):
    """A split: its labels, and either all images in one array or the files of them."""

    labels: Any
    images: NDArray[np.uint8] = np.empty(0, np.uint8)
    files: Sequence[str | Path] = ()
    grey: bool = False


def _read(dataset: Any, by_folder: bool) -> _Part:
    data = getattr(dataset, "data", None)
    if isinstance(data, np.ndarray | Tensor):
        labels = np.asarray(dataset.targets if hasattr(dataset, "targets") else dataset.labels)
        images = np.asarray(data)
        if images.ndim == 4 and images.shape[1] < images.shape[3]:
            images = images.transpose(0, 2, 3, 1)  # SVHN and STL10 have channels first
        return _Part(labels if labels.ndim == 1 else labels[:, 0], images)  # QMNIST has more, of who wrote the digit
    with patch.object(Image, "open", _Unopened):  # of all classes and releases the one way to a picture's file
        items = [dataset[index] for index in range(len(dataset))]
    files = [picture for picture, _ in items if isinstance(picture, _Unopened)]
    labels = np.array([label for _, label in items])
    if by_folder:
        labels = np.array(["/".join(Path(each.file).parts[-3:-1]) for each in files])
    if files:
        return _Part(labels, files=[each.file for each in files], grey=files[0].grey)
    return _Part(labels, np.stack([np.asarray(picture) for picture, _ in items]))  # FER2013 and PCAM


def _name(file: str | Path, root: str) -> str:
    """Below the root, with slashes."""
    return Path(file).relative_to(root).as_posix()


def _name_classes(sets: Mapping[str, Any]) -> list[str]:
    for key in ("classes", "categories", "all_categories"):
        if names := getattr(sets["train"], key, None):
            return [name if isinstance(name, str) else name[0] for name in names]  # ImageNet's have several
    return []


def _fit(images: NDArray[np.uint8], size: int | None) -> NDArray[np.uint8]:
    """Images as (N, H, W, C), of that size as `resize` makes them."""
    if size is not None:
        images = np.stack([np.asarray(resize(Image.fromarray(image), size)) for image in images])
    return images[..., None] if images.ndim == 3 else images
