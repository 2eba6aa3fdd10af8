"""torchvision's classification sets in small, in the formats in which they are published.

Each function writes a set below a folder, and returns the names of its classes, by label. An image of label k is flat
and of grey value 20 k + 10; there are 4 of each class for training, 2 for test and 1 for validation, where there are
such splits, and else 8.
"""

import bz2
import csv
import hashlib
import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

N = {"train": 4, "test": 2, "val": 1, "": 8}
K = 3


def labels_of(split, classes=K, first=0):
    """In no order of classes."""
    return np.tile(np.arange(first, first + classes), N[split])


def grey(labels, *shape):
    """uint8 (N, *shape)."""
    return np.broadcast_to((20 * labels + 10).astype(np.uint8).reshape(-1, *[1] * len(shape)), (len(labels), *shape))


def draw(path, label, size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (20 * label + 10,) * 3).save(path)
    return path


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


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


# --- sets in files ---------------------------------------------------------------------------------------------------


def folders(root, splits, names, ending="png"):
    """A folder per class, in one per split."""
    for split, folder in splits.items():
        for i, label in enumerate(labels_of(split)):
            draw(root / folder / names[label] / f"{split}{i}.{ending}", label)
    return names


def caltech(name, inner, file):
    def write(root, _):
        names = ["accordion", "ant", "bass"]
        for label in range(K):
            for i in range(N[""]):
                draw(root / name / inner / names[label] / file.format(label + 1, i + 1), label)
        (root / name / inner / "BACKGROUND_Google").mkdir()
        return names

    return write


def caltech256(root, _):
    names = caltech("caltech256", "256_ObjectCategories", "{:03d}_{:04d}.jpg")(root, _)
    (root / "caltech256" / "256_ObjectCategories" / "BACKGROUND_Google").rmdir()
    return names


def eurosat(root, _):
    return folders(root / "eurosat", {"": "2750"}, ["AnnualCrop", "Forest", "River"], "jpg")


def country211(root, _):
    return folders(root / "country211", {"train": "train", "test": "test", "val": "valid"}, ["AD", "AE", "AF"], "jpg")


def rendered_sst2(root, _):
    parts = {"train": "train", "test": "test", "val": "valid"}
    names = ["negative", "positive"]
    for split, folder in parts.items():
        for i, label in enumerate(labels_of(split, 2)):
            draw(root / "rendered-sst2" / folder / names[label] / f"{i}.png", label)
    return names


def imagenette(root, _):
    folders(
        root / "imagenette2-160", {"train": "train", "test": "val"}, ["n01440764", "n02102040", "n02979186"], "jpeg"
    )
    return ["tench", "English springer", "cassette player"]


def imagenet(root, _):
    wnids = folders(root, {"train": "train", "test": "val"}, ["n01440764", "n01443537", "n01484850"], "jpeg")
    names = [("tench", "Tinca tinca"), ("goldfish",), ("great white shark", "white shark")]
    torch.save((dict(zip(wnids, names, strict=True)), []), root / "meta.bin")
    return [each[0] for each in names]


def inaturalist(root, _):
    ranks = "kingdom_phylum_class_order_family_genus"
    names = [f"{k:05d}_{ranks}_{word}" for k, word in enumerate(["ant", "bee", "cat"])]
    return folders(root, {"train": "2021_train_mini", "test": "2021_valid"}, names, "jpg")


def sun397(root, _):
    (root / "SUN397").mkdir()
    names = ["a/abbey", "a/airport_terminal", "b/bar"]
    for i, label in enumerate(labels_of("")):
        draw(root / "SUN397" / names[label] / f"sun_{i}.jpg", label)
    (root / "SUN397" / "ClassName.txt").write_text("".join(f"/{name}\n" for name in names))
    return [name[2:] for name in names]


def omniglot(root, monkeypatch):
    folder = root / "omniglot-py"
    for i, label in enumerate(labels_of("")):
        draw(folder / "images_background" / "Greek" / f"character{label:02d}" / f"{i}.png", label)
    with zipfile.ZipFile(folder / "images_background.zip", "w") as archive:
        archive.writestr("nothing", "")
    monkeypatch.setattr(datasets.Omniglot, "zips_md5", {"images_background": md5(folder / "images_background.zip")})
    return [f"Greek/character{k:02d}" for k in range(K)]


def dtd(root, _):
    names = ["banded", "blotchy", "braided"]
    for split in ("train", "test", "val"):
        lines = []
        for i, label in enumerate(labels_of(split)):
            draw(root / "dtd" / "dtd" / "images" / names[label] / f"{split}{i}.jpg", label)
            lines.append(f"{names[label]}/{split}{i}.jpg\n")
        (root / "dtd" / "dtd" / "labels").mkdir(exist_ok=True)
        (root / "dtd" / "dtd" / "labels" / f"{split}1.txt").write_text("".join(lines))
    return names


def aircraft(root, _):
    folder, names = root / "fgvc-aircraft-2013b" / "data", ["A300", "Boeing 737", "Cessna 172"]
    for split in ("train", "test", "val"):
        lines = []
        for i, label in enumerate(labels_of(split)):
            draw(folder / "images" / f"{split}{i}.jpg", label)
            lines.append(f"{split}{i} {names[label]}\n")
        (folder / f"images_family_{split}.txt").write_text("".join(lines))
    (folder / "families.txt").write_text("\n".join(names))
    return names


def flowers(root, monkeypatch):
    folder, number = root / "flowers-102", 0
    ids, labels = {"trnid": [], "valid": [], "tstid": []}, []
    for split, key in (("test", "tstid"), ("train", "trnid"), ("val", "valid")):
        for label in labels_of(split):
            number += 1
            draw(folder / "jpg" / f"image_{number:05d}.jpg", label)
            ids[key].append(number)
            labels.append(label + 1)
    savemat(folder / "setid.mat", ids)
    savemat(folder / "imagelabels.mat", {"labels": labels})
    files = {**datasets.Flowers102._file_dict}
    files |= {key: (files[key][0], md5(folder / files[key][0])) for key in ("label", "setid")}
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", files)
    return [*getattr(datasets.Flowers102, "classes", ["0", "1", "2"])][:K]  # older releases do not have their names


def food101(root, _):
    names = ["apple_pie", "baby_back_ribs", "baklava"]
    for split in ("train", "test"):
        files = {name: [] for name in reversed(names)}
        for i, label in enumerate(labels_of(split)):
            draw(root / "food-101" / "images" / names[label] / f"{split}{i}.jpg", label)
            files[names[label]].append(f"{names[label]}/{split}{i}")
        (root / "food-101" / "meta").mkdir(exist_ok=True)
        (root / "food-101" / "meta" / f"{split}.json").write_text(json.dumps(files))
    return names


def gtsrb(root, _):
    folder, lines = root / "gtsrb" / "GTSRB", ["Filename;Width;ClassId"]
    for i, label in enumerate(labels_of("train")):
        draw(folder / "Training" / f"{label:05d}" / f"{i}.ppm", label, size=(12 + i, 10))  # of unlike sizes
    for i, label in enumerate(labels_of("test")):
        draw(folder / "Final_Test" / "Images" / f"{i:05d}.ppm", label)
        lines.append(f"{i:05d}.ppm;12;{label}")
    (root / "gtsrb" / "GT-final_test.csv").write_text("\n".join(lines))
    return ["0", "1", "2"]


def pets(root, _):
    folder, names = root / "oxford-iiit-pet", ["Abyssinian", "american_bulldog", "Bengal"]
    for split, word in (("train", "trainval"), ("test", "test")):
        lines = []
        for i, label in enumerate(labels_of(split)):
            draw(folder / "images" / f"{names[label]}_{split[:2]}{i}.jpg", label)
            lines.append(f"{names[label]}_{split[:2]}{i} {label + 1} 1 1\n")
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"{word}.txt").write_text("".join(lines))
    return ["Abyssinian", "American Bulldog", "Bengal"]


def cars(root, _):
    folder, names = root / "stanford_cars", ["AM General Hummer", "Acura RL", "Acura TL"]
    (folder / "devkit").mkdir(parents=True)
    kind = np.dtype([("fname", object), ("class", object)])
    for split, path in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        labels = labels_of(split)
        rows = np.array([(f"{i:05d}.jpg", label + 1) for i, label in enumerate(labels)], dtype=kind)
        for i, label in enumerate(labels):
            draw(folder / f"cars_{split}" / f"{i:05d}.jpg", label)
        savemat(folder / path, {"annotations": rows})
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array(names, dtype=object)})
    return names


def clevr(root, _):
    folder = root / "clevr" / "CLEVR_v1.0"
    (folder / "scenes").mkdir(parents=True)
    for split, word in (("train", "train"), ("test", "val")):
        scenes = []
        for i, label in enumerate(labels_of(split, first=3)):  # as many objects
            draw(folder / "images" / word / f"{i}.png", label)
            scenes.append({"image_filename": f"{i}.png", "objects": [{}] * int(label)})
        (folder / "scenes" / f"CLEVR_{word}_scenes.json").write_text(json.dumps({"scenes": scenes}))
    return [str(k) for k in range(6)]


def places(root, monkeypatch):
    names = ["/a/airfield", "/b/bar", "/c/cafe"]
    (root / "categories_places365.txt").write_text("".join(f"{name} {k}\n" for k, name in enumerate(names)))
    lists = {**datasets.Places365._FILE_LIST_META}
    parts = (("train", "train-standard", "data_256_standard"), ("test", "val", "val_256"))
    for split, word, folder in parts:
        lines = []
        for i, label in enumerate(labels_of(split)):
            draw(root / folder / f"{i}.jpg", label)
            lines.append(f"/{i}.jpg {label}\n")
        (root / lists[word][0]).write_text("".join(lines))
        lists[word] = (lists[word][0], md5(root / lists[word][0]))
    monkeypatch.setattr(datasets.Places365, "_FILE_LIST_META", lists)
    name = datasets.Places365._CATEGORIES_META[0]
    monkeypatch.setattr(datasets.Places365, "_CATEGORIES_META", (name, md5(root / name)))
    return names


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
