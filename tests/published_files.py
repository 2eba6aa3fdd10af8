"""torchvision's sets that lie in files, in small, in the formats that they are published in."""

import json
import zipfile

import numpy as np
import torch
from published_parts import K, N, draw, labels_of, md5
from scipy.io import savemat
from torchvision import datasets


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
