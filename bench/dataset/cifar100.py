"""CIFAR-100 (Krizhevsky 2009), by torchvision's loader and checksums."""

from bench.dataset import Source
from bench.dataset.cifar10 import forms_of_cifar, load_cifar
from bench.dataset.originals import describe_originals


def load_cifar100(root: str) -> Source:
    """50,000 training and 10,000 test photographs in a hundred classes, 32x32 colour.

    Args:
        root: a folder that holds cifar-100-python.tar.gz or what is in it; else the archive is downloaded to it.

    Raises:
        UsageError: missing and not to be downloaded, or damaged.
    """
    from torchvision.datasets import CIFAR100

    return load_cifar("cifar100", CIFAR100, root)


def describe_cifar100(root: str) -> str:
    """For `regbench doctor`: where the files are, or where to put them."""
    from torchvision.datasets import CIFAR100

    return describe_originals(forms_of_cifar(CIFAR100), root)
