"""Fashion-MNIST (Xiao et al. 2017), by torchvision's loader."""

from bench.dataset import Source
from bench.dataset.originals import Originals, describe_originals, load_originals

# MD5 of the unpacked files. Packed with their original name and time (2017-08-31), they have torchvision's sums.
_CONTENT = {
    "train-images-idx3-ubyte.gz": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte.gz": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte.gz": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte.gz": "15d484375f8d13e6eb1aabb0c3f46965",
}
_FORMS = [Originals("FashionMNIST/raw", _CONTENT)]
_DEBIAN = "/usr/share/datasets/fashion-mnist"  # of the package dataset-fashion-mnist


def load_fashion_mnist(root: str) -> Source:
    """60,000 training and 10,000 test images of ten kinds of clothes, 28x28 grey.

    Args:
        root: a folder that holds the four .gz files, or torchvision's FashionMNIST/raw; else Debian's package
            dataset-fashion-mnist serves, or they are downloaded to `root`.

    Raises:
        UsageError: missing and not to be downloaded, or damaged.
    """
    # Imported here because torchvision takes a second to load, which the other datasets need not wait for.
    from torchvision.datasets import FashionMNIST

    return load_originals("fashion_mnist", FashionMNIST, _FORMS, root, also=[_DEBIAN])


def describe_fashion_mnist(root: str) -> str:
    """For `regbench doctor`: where the files are, or where to put them."""
    return describe_originals(_FORMS, root, also=[_DEBIAN])
