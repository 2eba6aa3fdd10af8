"""CIFAR-10 (Krizhevsky 2009), by torchvision's loader and checksums."""

from typing import Any

from bench.dataset import Source
from bench.dataset.originals import Originals, describe_originals, load_originals


def load_cifar10(root: str) -> Source:
    """50,000 training and 10,000 test photographs in ten classes, 32x32 colour.

    Args:
        root: a folder that holds cifar-10-python.tar.gz or what is in it; else the archive is downloaded to it.

    Raises:
        UsageError: missing and not to be downloaded, or damaged.
    """
    # Imported here because torchvision takes a second to load, which the other datasets need not wait for.
    from torchvision.datasets import CIFAR10

    return load_cifar("cifar10", CIFAR10, root)


def load_cifar(name: str, cls: Any, root: str) -> Source:
    """Either CIFAR, as the archive or unpacked; `cls` is torchvision's class. Errors as `load_cifar10`."""
    return load_originals(name, cls, forms_of_cifar(cls), root)


def describe_cifar10(root: str) -> str:
    """For `regbench doctor`: where the files are, or where to put them."""
    from torchvision.datasets import CIFAR10

    return describe_originals(forms_of_cifar(CIFAR10), root)


def forms_of_cifar(cls: Any) -> list[Originals]:
    """The archive, and what is in it."""
    unpacked = {**dict(cls.train_list), **dict(cls.test_list), cls.meta["filename"]: cls.meta["md5"]}
    return [Originals("", {cls.filename: cls.tgz_md5}), Originals(cls.base_folder, unpacked)]
