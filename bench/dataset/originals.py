"""Finding, checking and downloading a dataset's original files; torchvision's own classes read them.

A folder that already holds the files serves instead of a download, whatever its layout, and is never written to: the
files are linked or unpacked into a scratch folder in the layout that torchvision expects. Only a download adds files.
"""

import gzip
import shutil
import socket
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.error import URLError

import numpy as np

from bench.dataset import Source
from bench.disk.gone import names_in, remove_folder
from bench.disk.lock import wait_for
from bench.errors import UsageError

_SECONDS_TO_CONNECT = 20
_ASIDE = ".regbench-download-"

T = TypeVar("T")


@dataclass(frozen=True)
class Originals:
    """A set of files that suffices: where torchvision wants them below its root, and their MD5 by name.

    A .gz is unpacked, and its MD5 is that of its content: distributions pack it anew, without name and time.
    """

    folder: str
    checksums: Mapping[str, str]


def load_originals(name: str, cls: Any, forms: Sequence[Originals], root: str, also: Sequence[str] = ()) -> Source:
    """The dataset that torchvision's `cls` reads, from a complete form of it, else downloaded.

    Args:
        name: the dataset's word, for messages.
        cls: a torchvision dataset class whose constructor takes (root, train, download).
        forms: the forms that the files are published in; the first is the one to ask the user for.
        root: the folder to look into, and to download to.
        also: further folders to look into.

    Raises:
        UsageError: missing and not to be downloaded, or damaged.
    """
    form, place = _find(forms, root, also) or download(
        name, [*forms[0].checksums], root, lambda: _find(forms, root, ()), lambda aside: cls(aside, download=True)
    )
    with TemporaryDirectory(prefix="regbench-") as scratch:
        for file, md5 in form.checksums.items():
            _put(name, place / file, Path(scratch, form.folder), md5)
        source = _read(cls, scratch, forms[0])
    return replace(source, unused={"root": f"the files of {place} serve"}) if str(place) in also else source


def describe_originals(forms: Sequence[Originals], root: str, also: Sequence[str] = ()) -> str:
    """Where the files are, or where to put them; arguments as `load_originals` has them."""
    found = _find(forms, root, also)
    files = ", ".join(forms[0].checksums)
    return f"found in {found[1]}" if found else f"missing: put {files} into {root}, or let regbench download it"


def _find(forms: Sequence[Originals], root: str, also: Sequence[str]) -> tuple[Originals, Path] | None:
    """A form of which every file is there, and where."""
    # The last form first: what is unpacked already need not be unpacked again.
    for form in reversed(forms):
        for place in (Path(root), Path(root, form.folder), *map(Path, also)):
            if all((place / file).is_file() for file in form.checksums):
                return form, place
    return None


def _put(name: str, file: Path, folder: Path, md5: str) -> None:
    # Imported here because torchvision takes a second to load.
    from torchvision.datasets.utils import check_integrity

    folder.mkdir(parents=True, exist_ok=True)
    try:
        if file.suffix == ".gz" and not file.name.endswith(".tar.gz"):
            target = folder / file.stem
            with gzip.open(file) as packed, target.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, length=2**20)
        else:
            target = folder / file.name
            target.symlink_to(file.resolve())
        whole = check_integrity(target, md5)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        whole = False
    if not whole:
        raise UsageError(
            f"dataset {name}: {file} is damaged: its content does not have the published MD5 sum.\n"
            "Replace it, or delete it to have it downloaded anew."
        )


def _read(cls: Any, root: str, form: Originals) -> Source:
    with warnings.catch_warnings():
        # The CIFARs are pickles of 2009, whose dtypes NumPy reads with a deprecation warning.
        warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
        train, test = cls(root, train=True, download=True), cls(root, train=False, download=True)
    images = [np.asarray(split.data, dtype=np.uint8) for split in (train, test)]
    labels = [np.asarray(split.targets, dtype=np.int64) for split in (train, test)]
    train_images, test_images = (x[..., None] if x.ndim == 3 else x for x in images)
    return Source(
        train_images,
        labels[0],
        test_images,
        labels[1],
        classes=len(train.classes),
        flips=True,
        fingerprint="+".join(form.checksums.values()),
        class_names=train.classes,
    )


def download(
    name: str, files: Sequence[str], root: str, find: Callable[[], T | None], fetch: Callable[[str], object]
) -> T:
    """What `find` gives once the files are in the root.

    Args:
        name: the dataset's, for messages.
        files: those to ask the user for.
        root: the folder to download to; made if it is not there.
        find: looks into the root: gives None while files are missing.
        fetch: downloads all of them into an empty folder, in the layout of the root.

    Raises:
        UsageError: they cannot be downloaded.
    """
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS_TO_CONNECT)  # else a network that swallows packets would hang us
    try:
        Path(root).mkdir(parents=True, exist_ok=True)
        with wait_for(Path(root)):
            if (found := find()) is None:  # else another process was faster
                _download_aside(fetch, Path(root))
                found = find()
        if found is None:
            raise RuntimeError("torchvision downloaded other files")
        return found
    except (OSError, RuntimeError, ValueError, URLError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise UsageError(
            f"dataset {name}: its files are not whole in {root}, and could not be downloaded ({reason[:120]}).\n"
            f"Put {', '.join(files)} there,\n"
            "or name the folder that holds them: dataset.root=FOLDER, or the environment variable REGBENCH_DATA."
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def _download_aside(fetch: Callable[[str], object], root: Path) -> None:
    """Has torchvision download the files and check their MD5 sums before they take their places, whole."""
    for left in names_in(root):  # by a process that died
        if left.startswith(_ASIDE) and (root / left).is_dir():
            remove_folder(root / left)
    with TemporaryDirectory(prefix=_ASIDE, dir=root) as aside:
        fetch(aside)
        _place(Path(aside), root)


def _place(aside: Path, root: Path) -> None:
    """Moves what is in one folder into the other, each folder that is new there whole, in one step.

    torchvision takes a folder that is there for all of its files, so it must never be there with some of them, neither
    for another process nor after this one was stopped.
    """
    for path in sorted(path for path in aside.iterdir() if not path.is_symlink()):
        place = root / path.name
        if path.is_dir() and place.is_dir():
            _place(path, place)
        else:
            path.replace(place)
