"""torchvision's classification sets in small, in the formats in which they are published.

Each function writes a set below a folder, and returns the names of its classes, by label. An image of label k is flat
and of grey value 20 k + 10; there are 4 of each class for training, 2 for test and 1 for validation, where there are
such splits, and else 8.
"""

import bz2
import csv

import numpy as np
import pytest
from published_files import (
    aircraft,
    caltech,
    caltech256,
    cars,
    clevr,
    country211,
    dtd,
    eurosat,
    flowers,
    food101,
    gtsrb,
    imagenet,
    imagenette,
    inaturalist,
    omniglot,
    pets,
    places,
    rendered_sst2,
    sun397,
)
from published_parts import grey, labels_of, md5
from scipy.io import savemat
from torchvision import datasets


def idx(path, array, kind=8):
    """MNIST's format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, kind, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    path.write_bytes(header + array.astype(">u1" if kind == 8 else ">i4").tobytes())


def mnist(root, _, name="MNIST", prefix="", first=0, classes=10):
    for split, word in (("train", "train"), ("test", "test" if prefix else "t10k")):
        labels = labels_of(split, classes, first)
        idx(root / name / "raw" / f"{prefix}{word}-images-idx3-ubyte", grey(labels, 28, 28))
        idx(root / name / "raw" / f"{prefix}{word}-labels-idx1-ubyte", labels)
    return getattr(datasets, name).classes


def emnist_letters(root, _):
    mnist(root, _, "EMNIST", "emnist-letters-", first=1, classes=10)
    return ["N/A", *"abcdefghij"]


def qmnist(root, _):
    for split in ("train", "test"):
        labels = labels_of(split, 10)
        idx(root / "QMNIST" / "raw" / f"qmnist-{split}-images-idx3-ubyte", grey(labels, 28, 28))
        others = np.column_stack([labels, *np.full((7, len(labels)), 9)])  # who wrote it, where and when
        idx(root / "QMNIST" / "raw" / f"qmnist-{split}-labels-idx2-int", others, kind=12)
    return datasets.QMNIST.classes


def svhn(root, monkeypatch):
    files = {}
    for split in ("train", "test"):
        labels = labels_of(split, 10)
        images = grey(labels, 32, 32, 3).transpose(1, 2, 3, 0)
        savemat(root / f"{split}_32x32.mat", {"X": images, "y": np.where(labels == 0, 10, labels)[:, None]})
        url, name, _ = datasets.SVHN.split_list[split]
        files[split] = [url, name, md5(root / name)]
    monkeypatch.setattr(datasets.SVHN, "split_list", files)
    return [str(k) for k in range(10)]


def usps(root, _):
    for split, name in (("train", "usps.bz2"), ("test", "usps.t.bz2")):
        lines = []
        for label in labels_of(split, 10):
            value = (20 * label + 10.5) / 255 * 2 - 1
            lines.append(" ".join([str(label + 1), *(f"{i}:{value:.6f}" for i in range(1, 257))]))
        (root / name).write_bytes(bz2.compress("\n".join(lines).encode()))
    return [str(k) for k in range(10)]


def semeion(root, monkeypatch):
    rows = []
    for label in labels_of("", 2):  # its pixels are black or white
        rows.append([*np.full(256, label), *np.eye(10)[label]])
    np.savetxt(root / "semeion.data", rows)
    monkeypatch.setattr(datasets.SEMEION, "md5_checksum", md5(root / "semeion.data"))
    return ["0", "1"]


def stl10(root, monkeypatch):
    folder = root / "stl10_binary"
    folder.mkdir()
    for split in ("train", "test"):
        labels = labels_of(split)
        (folder / f"{split}_X.bin").write_bytes(grey(labels, 3, 96, 96).tobytes())
        (folder / f"{split}_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())
    (folder / "class_names.txt").write_text("airplane\nbird\ncar\n")
    lists = {
        f"{split}_list": [[f"{split}_{p}.bin", md5(folder / f"{split}_{p}.bin")] for p in "Xy"]
        for split in ("train", "test")
    }
    for name, files in lists.items():
        monkeypatch.setattr(datasets.STL10, name, files)
    return ["airplane", "bird", "car"]


def fer2013(root, monkeypatch):
    (root / "fer2013").mkdir()
    path = root / "fer2013" / "fer2013.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["emotion", "pixels", "Usage"])
        for split, word in (("train", "Training"), ("test", "PrivateTest")):
            rows.writerows([label, " ".join([str(20 * label + 10)] * 48 * 48), word] for label in labels_of(split))
    resources = {**datasets.FER2013._RESOURCES, "fer": ("fer2013.csv", md5(path))}
    monkeypatch.setattr(datasets.FER2013, "_RESOURCES", resources)
    return ["0", "1", "2"]


def pcam(root, _):
    h5py = pytest.importorskip("h5py")
    (root / "pcam").mkdir()
    for split, word in (("train", "train"), ("test", "test"), ("val", "valid")):
        labels = labels_of(split, 2)
        for part, values in (("x", grey(labels, 96, 96, 3)), ("y", labels.reshape(-1, 1, 1, 1))):
            with h5py.File(root / "pcam" / f"camelyonpatch_level_2_split_{word}_{part}.h5", "w") as file:
                file[part] = values
    return ["0", "1"]


SMALL = {
    "CLEVRClassification": clevr,
    "Caltech101": caltech("caltech101", "101_ObjectCategories", "image_{1:04d}.jpg"),
    "Caltech256": caltech256,
    "Country211": country211,
    "DTD": dtd,
    "EMNIST-letters": emnist_letters,
    "EuroSAT": eurosat,
    "FER2013": fer2013,
    "FGVCAircraft-family": aircraft,
    "FashionMNIST": lambda root, _: mnist(root, _, "FashionMNIST"),
    "Flowers102": flowers,
    "Food101": food101,
    "GTSRB": gtsrb,
    "INaturalist-mini": inaturalist,
    "ImageNet": imagenet,
    "Imagenette-160px": imagenette,
    "KMNIST": lambda root, _: mnist(root, _, "KMNIST"),
    "MNIST": mnist,
    "Omniglot": omniglot,
    "OxfordIIITPet": pets,
    "PCAM": pcam,
    "Places365": places,
    "QMNIST": qmnist,
    "RenderedSST2": rendered_sst2,
    "SEMEION": semeion,
    "STL10": stl10,
    "SUN397": sun397,
    "SVHN": svhn,
    "StanfordCars": cars,
    "USPS": usps,
}
