"""Images and labels in one .npz file of NumPy, by the keys of MedMNIST or of Keras.

MedMNIST has train_images and train_labels, Keras x_train and y_train, and so on for test and val. Nothing is unpickled,
as a pickle can run any code. Large arrays are unpacked once, into the cache, and mapped from there.
"""

import json
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from bench.dataset import Source
from bench.dataset.assemble import assemble
from bench.dataset.cache import cache_path, check_disk, has_crc, keep
from bench.dataset.class_folders import say
from bench.dataset.labels import number_classes
from bench.dataset.pictures import hash_text
from bench.errors import UsageError
from bench.machine.free_memory import find_free_memory

_KEYS = (("{}_images", "{}_labels"), ("x_{}", "y_{}"))
_COPIES = 3  # of the images in memory: the file's, those in splits, and those padded for crops
_SMALL = 2**28  # bytes of an array that is unpacked into memory at each start


def load_arrays(name: str, file: str | None, flips: bool, test_fraction: float) -> Source:
    """The arrays of a file.

    Args:
        name: the dataset's, in tables.
        file: an .npz with images, uint8 (N, H, W) or (N, H, W, C), and labels, (N,) or (N, 1), of train and perhaps
            of val and test; and perhaps with class_names, (K,), the texts of the labels 0 to K - 1.
        flips: whether augmentation mirrors the images; not where that changes the class, as of digits and letters.
        test_fraction: in (0, 1), of the training images, stratified; only where the file has no test images.

    Raises:
        UsageError: no such file or arrays; images that are not uint8; labels that are not one class for each image.
    """
    if file is None:
        raise UsageError("dataset=arrays reads an .npz file of NumPy.\nName it: dataset.file=FILE.npz")
    images, labels, names = _read(Path(file))
    numbers, class_names = number_classes(file, labels, names)
    for split, each in images.items():
        _check(file, split, each, len(numbers[split]))
    images = {split: each[..., None] if each.ndim == 3 else each for split, each in images.items()}
    for split, each in images.items():
        if each.shape[1:] != images["train"].shape[1:]:
            raise UsageError(
                f"{file}: the train images have the shape {images['train'].shape}, the {split} images {each.shape}; "
                "all must be of one size.\nResize those of one split, or cut their middle out."
            )
    settings: dict[str, Any] = {"file": None}  # it counts by its content
    if "test" in images:
        settings["test_fraction"] = None
    else:
        say(file, "no test images: dataset.test_fraction of those in train are the test split")
    source = assemble(images, numbers, class_names, flips, test_fraction, file, settings=settings)
    return replace(source, fingerprint=_identify(source))


def _identify(source: Source) -> str:
    """A hash of its content, and of what that leaves out: the images' shapes and the classes' names."""
    shapes = [[*images.shape] for _, images, _ in source.splits()]
    return hash_text(json.dumps([source.hash_content(), shapes, [*source.class_names]]))


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], list[str]]:
    """Images and labels by split, and the names of the classes."""
    if not path.is_file():
        raise UsageError(f"dataset.file={path} is no file that is there.\nName an .npz file of NumPy.")
    if not zipfile.is_zipfile(path):
        raise UsageError(
            f"dataset.file={path} is no .npz file, or a damaged one.\n"
            "Save one by numpy.savez(FILE, train_images=..., train_labels=..., ...), or download it anew."
        )
    with _open(path) as file:
        images, labels = _find_keys(path, file.files)
        parts = [{split: _load(path, file, key) for split, key in keys.items()} for keys in (images, labels)]
        names = _load(path, file, "class_names") if "class_names" in file.files else np.array([])
    return parts[0], parts[1], [str(name) for name in names.tolist()]


@contextmanager
def _open(path: Path) -> Iterator[NpzFile]:
    with path.open("rb") as content:  # NumPy leaves a damaged file open
        try:
            opened: NpzFile = np.load(content, allow_pickle=False)
        except (zipfile.BadZipFile, ValueError, OSError) as error:  # ValueError: it begins as no .npz does
            raise UsageError(f"{path} is damaged, or no .npz file ({error}).\nSave or download it anew.") from error
        with opened:
            yield opened


def _find_keys(path: Path, there: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The keys of images and of labels, by split."""
    for style in _KEYS:
        images, labels = ({split: key.format(split) for split in ("train", "test", "val")} for key in style)
        found = [split for split in images if images[split] in there]
        if "train" not in found:
            continue
        for split in found:
            if labels[split] not in there:
                raise UsageError(f"{path} has {images[split]}, but no {labels[split]}.\nIt has: {', '.join(there)}.")
        return {split: images[split] for split in found}, {split: labels[split] for split in found}
    raise UsageError(
        f"{path} has no training images. It has: {', '.join(there) or 'nothing'}.\n"
        "It takes train_images and train_labels, or x_train and y_train, and the like for val and test."
    )


def _load(path: Path, file: NpzFile, key: str) -> NDArray[Any]:
    try:
        mapped = _map(path, file, key)
        loaded: Any = file[key] if mapped is None else mapped
        if not isinstance(loaded, np.ndarray):  # its bytes
            raise KeyError(key)
        return loaded
    except KeyError as error:
        raise UsageError(
            f"{path}: {key} is no array of NumPy's, or is not called {key}.npy in the file.\n"
            "Save the file by numpy.savez(FILE, train_images=..., train_labels=..., ...)."
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UsageError(f"{path} is damaged: {key} cannot be read ({error}).\nSave or download it anew.") from error
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise UsageError(
            f"{path}: {key} is a pickle of Python objects, which is not loaded, as it could run any code.\n"
            "Save a plain array: images of one size as uint8, labels as integers."
        ) from error


def _map(path: Path, file: NpzFile, key: str) -> NDArray[Any] | None:
    """An array of the file, mapped from the cache; None where it is small, or cannot be had so."""
    archive = file.zip
    assert archive is not None
    member = archive.getinfo(f"{key}.npy")
    if member.file_size <= _SMALL:
        return None
    status = path.stat()
    known = str((str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, key, member.CRC))
    cache = cache_path("arrays", f"{hash_text(known)}.npy")
    for _ in range(2):  # the second time it was unpacked
        with suppress(OSError, ValueError, EOFError):  # not there yet, damaged, or a pickle
            mapped: NDArray[Any] = np.load(cache, mmap_mode="r")
            if has_crc(cache, member.CRC):
                return mapped
        with archive.open(member) as packed:
            if not keep(cache, partial(_unpack, packed, cache, member.file_size)):
                _check_memory(path, key, cache, member.file_size)
                return None
    return None


def _unpack(packed: IO[bytes], cache: Path, size: int, file: IO[bytes]) -> None:
    check_disk(cache, size)
    shutil.copyfileobj(packed, file)


def _check_memory(path: Path, key: str, cache: Path, size: int) -> None:
    """Raises UsageError where an array that cannot be cached does not fit in memory with its copies, either."""
    free = find_free_memory()
    if _COPIES * size > free:
        raise UsageError(
            f"{path}: {key} ({size / 2**30:.1f} GiB) is too large for memory, and {cache.parent} cannot take it.\n"
            f"In memory a run needs {_COPIES} times as much, and {free / 2**30:.1f} GiB are free.\n"
            "Name another folder by REGBENCH_CACHE=FOLDER, or make room there."
        )


def _check(file: str, split: str, images: NDArray[Any], labels: int) -> None:
    """Raises UsageError where the images cannot be pixels, or are not as many as the labels."""
    if images.dtype != np.uint8:
        least, most = (images.min(), images.max()) if images.dtype.kind == "f" and images.size else (0, 255)
        if not np.isfinite([least, most]).all():
            raise UsageError(
                f"{file}: the {split} images are {images.dtype} and hold NaN or infinity, and must be uint8.\n"
                "Decide what stands there, bring them to 0 to 255, and save images.astype('uint8')."
            )
        bright = least >= 0 and most <= 1
        convert = "(255 * images).round()" if bright else "images"
        raise UsageError(
            f"{file}: the {split} images are {images.dtype}, and must be uint8, from 0 to 255.\n"
            f"Save {convert}.astype('uint8'){'' if bright else ', once they are from 0 to 255'}."
        )
    if images.ndim == 2:
        raise UsageError(
            f"{file}: the {split} images have the shape {images.shape}, each a row of numbers.\n"
            "Save images.reshape(-1, H, W), or (-1, H, W, C), with their height, width and channels."
        )
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[1] == images.shape[2] == images.shape[3]):
        raise UsageError(
            f"{file}: the {split} images have the shape {images.shape}, which is no (N, H, W) or (N, H, W, C).\n"
            "Volumes, as MedMNIST's in 3D, are no images: save one slice of each."
        )
    if images.ndim == 4 and images.shape[3] > 4 and (images.shape[1] <= 4 or images.shape[2] == images.shape[3]):
        raise UsageError(
            f"{file}: the {split} images have the shape {images.shape}, which looks like (N, C, H, W).\n"
            "They must be (N, H, W, C): save images.transpose(0, 2, 3, 1)."
        )
    if len(images) != labels:
        raise UsageError(f"{file}: the {split} split has {len(images)} images and {labels} labels.\nSave one for each.")
