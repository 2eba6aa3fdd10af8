"""Corrupted copies of images, made on the fly: five kinds, each in three strengths.

Source: Hendrycks & Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations";
the strengths are severities 1, 3 and 5 of CIFAR-10-C. Deviations: contrast is lowered towards the picture's mean grey
instead of each channel's mean, and brightness is multiplied instead of added to the value of HSV, by as much at a mid
grey, as torchvision does; blur grows with images of more than 32 pixels; copies are not rounded to whole grey values,
but for JPEG's.
"""

from collections.abc import Callable, Iterator
from io import BytesIO
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

# Of images in [0, 1], a strength, and noise of their shape to that.
Corruption = Callable[[Tensor, float, Tensor], Tensor]


def add_noise(images: Tensor, deviation: float, noise: Tensor) -> Tensor:
    """Adds normal noise."""
    return (images + deviation * noise).clamp(0, 1)


def blur(images: Tensor, deviation: float, noise: Tensor) -> Tensor:
    """Gaussian blur; `deviation` in pixels of an image of 32, cut off after three of it, or at the picture's size."""
    shortest = min(images.shape[-2:])
    sigma = deviation * max(shortest / 32, 1)
    reach = min(ceil(3 * sigma), shortest - 1)
    blurred: Tensor = functional.gaussian_blur(images, [2 * reach + 1] * 2, [sigma] * 2)
    return blurred


def lower_contrast(images: Tensor, factor: float, noise: Tensor) -> Tensor:
    """Moves each picture towards its mean grey."""
    moved: Tensor = functional.adjust_contrast(images, factor)
    return moved


def brighten(images: Tensor, factor: float, noise: Tensor) -> Tensor:
    """Multiplies, up to white."""
    brighter: Tensor = functional.adjust_brightness(images, factor)
    return brighter


def compress(images: Tensor, quality: float, noise: Tensor) -> Tensor:
    """To JPEG and back, on the CPU, picture by picture, whatever the device: so that all give the same."""
    pixels = (images * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
    decoded = np.stack([_through_jpeg(each, int(quality)) for each in pixels])
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).to(images) / 255


def _through_jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """By Pillow, as torchvision is about to give its own up."""
    file = BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(pixels.shape)


CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, float, float]]] = {
    "noise": (add_noise, (0.04, 0.08, 0.1)),
    "blur": (blur, (0.4, 0.7, 1)),
    "contrast": (lower_contrast, (0.75, 0.5, 0.15)),
    "brightness": (brighten, (1.1, 1.3, 1.6)),
    "jpeg": (compress, (80, 58, 40)),
}


def corrupted_copies(images: Tensor, noise: Tensor) -> Iterator[tuple[str, float, Tensor]]:
    """Each corruption's name, each of its strengths, and a copy of the images (N, C, H, W) in [0, 1], so corrupted.

    Channels that are neither grey nor RGB are corrupted as grey pictures.

    Args:
        images: float32.
        noise: standard normal, of their shape; the strengths share it.
    """
    pictures = images.contiguous()
    pictures = pictures if pictures.shape[1] == 3 else pictures.reshape(-1, 1, *images.shape[2:])
    for name, (corrupt, strengths) in CORRUPTIONS.items():
        for strength in strengths:
            yield name, strength, corrupt(pictures, strength, noise.reshape(pictures.shape)).reshape(images.shape)
