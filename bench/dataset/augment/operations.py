"""The fourteen operations of TrivialAugment, each on a batch of images with a strength of its own for every image.

As torchvision's for tensors, which follow Pillow's: parts become whole grey levels by truncation; what is shifted,
sheared or rotated takes the nearest pixel, and is black where there was no image.

Images are uint8 (N, H, W, C) with C 1 or 3, on any device; strengths are float64 (N,) on the same one. The results are
uint8 of the same shape, and equal to torchvision's within a grey level. Nothing is read from the device.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

BINS = 31  # strengths of an operation, all equally likely


class Operation(NamedTuple):
    """What is done to images; its BINS strengths; whether a coin decides on their sign."""

    apply: Callable[[Tensor, Tensor], Tensor]
    strengths: NDArray[np.float64]
    signed: bool = False


def _from_to(first: float, last: float) -> NDArray[np.float64]:
    return torch.linspace(first, last, BINS).double().numpy()  # torchvision's are in float32


def shear_x(images: Tensor, strength: Tensor) -> Tensor:
    """Rows move by `strength` times their distance from the top edge."""
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    return _warp(images, [one, strength, strength * (images.shape[1] / 2)], [zero, one, zero])


def shear_y(images: Tensor, strength: Tensor) -> Tensor:
    """Columns move by `strength` times their distance from the left edge."""
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    return _warp(images, [one, zero, zero], [strength, one, strength * (images.shape[2] / 2)])


def translate_x(images: Tensor, strength: Tensor) -> Tensor:
    """Images move to the right by `strength` pixels, cut to whole ones."""
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    return _warp(images, [one, zero, -strength.trunc()], [zero, one, zero])


def translate_y(images: Tensor, strength: Tensor) -> Tensor:
    """Images move down by `strength` pixels, cut to whole ones."""
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    return _warp(images, [one, zero, zero], [zero, one, -strength.trunc()])


def rotate(images: Tensor, strength: Tensor) -> Tensor:
    """Images turn around their middle by `strength` degrees, counter-clockwise."""
    angle = strength.deg2rad()
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return _warp(images, [cos, -sin, zero], [sin, cos, zero])


def _warp(images: Tensor, x_row: list[Tensor], y_row: list[Tensor]) -> Tensor:
    """Each pixel of the result is taken from where two rows of three numbers say: what x, y and 1 are multiplied by to
    give the x, and the y, of the source; in pixels from the middle of the image."""
    _, height, width, _ = images.shape
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2
    rows = [torch.stack(row, 1).float() / (size / 2) for row, size in ((x_row, width), (y_row, height))]
    of_x, of_y, shift = torch.stack(rows, 1)[..., None, None].unbind(2)
    grid = (of_x * x + of_y * y + shift).permute(0, 2, 3, 1)
    moved = grid_sample(images.permute(0, 3, 1, 2).float(), grid, mode="nearest", align_corners=False)
    return moved.to(torch.uint8).permute(0, 2, 3, 1)


def brightness(images: Tensor, strength: Tensor) -> Tensor:
    """Away from black."""
    return _blend(images, images.new_zeros(1, dtype=torch.float32), strength)


def color(images: Tensor, strength: Tensor) -> Tensor:
    """Away from each pixel's grey; grey images stay as they are."""
    return images if images.shape[-1] == 1 else _blend(images, _grey(images), strength)


def contrast(images: Tensor, strength: Tensor) -> Tensor:
    """Away from the image's mean grey."""
    return _blend(images, _grey(images).mean((1, 2, 3), keepdim=True), strength)


def sharpness(images: Tensor, strength: Tensor) -> Tensor:
    """Away from each pixel's mean with its neighbours, in which it counts five times; the border stays as it is."""
    if min(images.shape[1:3]) <= 2:
        return images
    pixels = images.short()
    rows = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]
    inner, sums = images[:, 1:-1, 1:-1], rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    sharp = images.clone()
    sharp[:, 1:-1, 1:-1] = _blend(inner, sums.add_(inner, alpha=4).div(13).round_(), strength)
    return sharp


def _grey(images: Tensor) -> Tensor:
    """Whole grey levels, float32 (N, H, W, 1)."""
    if images.shape[-1] == 1:
        return images.float()
    red, green, blue = torch.split(images, 1, dim=-1)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()


def _blend(images: Tensor, others: Tensor, strength: Tensor) -> Tensor:
    """From the others (strength -1) by way of the images (0) to as far beyond them (1)."""
    weight = _of_images(1 + strength).float()
    return torch.lerp(others, images.float(), weight).clamp_(0, 255).to(torch.uint8)


def _of_images(values: Tensor) -> Tensor:
    """(N,) as (N, 1, 1, 1)."""
    return values[:, None, None, None]


def posterize(images: Tensor, strength: Tensor) -> Tensor:
    """Keeps the `strength` highest bits of each pixel."""
    return images & _of_images(256 - 2 ** (8 - strength)).to(torch.uint8)


def solarize(images: Tensor, strength: Tensor) -> Tensor:
    """Inverts pixels from the share `strength` of white on."""
    return torch.where(images >= _of_images(255 * strength).float().ceil().to(torch.uint8), ~images, images)


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Each channel's darkest pixel becomes 0 and its brightest 255; a channel of one value stays as it is."""
    low, high = images.amin(1, keepdim=True).amin(2, keepdim=True), images.amax(1, keepdim=True).amax(2, keepdim=True)
    scale = torch.where(high > low, (high - low) * (1 / 255), 1)
    return ((images - torch.where(high > low, low, 0)) / scale).clamp_(0, 255).to(torch.uint8)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Each channel's values become about equally frequent: by a table of its 256 values, made as Pillow's is."""
    n, height, width, channels = images.shape
    tables = 256 * torch.arange(n * channels, device=images.device).view(n, 1, 1, channels)
    places = (images + tables).flatten()  # of the pixels' values in the tables, laid end to end
    counts = torch.zeros(n * channels * 256, dtype=torch.int64, device=images.device)
    counts = counts.scatter_add_(0, places, torch.ones_like(places)).view(-1, 256)
    below = counts.cumsum(1) - counts
    brightest = images.amax(1).amax(1).view(-1, 1).long()
    step = (height * width - counts.gather(1, brightest)) // 255
    made = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    as_it_is = torch.arange(256, device=images.device)
    return torch.where(step > 0, made, as_it_is).to(torch.uint8).flatten().gather(0, places).view_as(images)


OPERATIONS = {
    "Identity": Operation(lambda images, _: images, np.zeros(BINS)),
    "ShearX": Operation(shear_x, _from_to(0, 0.99), signed=True),
    "ShearY": Operation(shear_y, _from_to(0, 0.99), signed=True),
    "TranslateX": Operation(translate_x, _from_to(0, 32), signed=True),
    "TranslateY": Operation(translate_y, _from_to(0, 32), signed=True),
    "Rotate": Operation(rotate, _from_to(0, 135), signed=True),
    "Brightness": Operation(brightness, _from_to(0, 0.99), signed=True),
    "Color": Operation(color, _from_to(0, 0.99), signed=True),
    "Contrast": Operation(contrast, _from_to(0, 0.99), signed=True),
    "Sharpness": Operation(sharpness, _from_to(0, 0.99), signed=True),
    "Posterize": Operation(posterize, (8 - np.arange(BINS) / ((BINS - 1) / 6)).round()),
    "Solarize": Operation(solarize, _from_to(1, 0)),
    "AutoContrast": Operation(autocontrast, np.zeros(BINS)),
    "Equalize": Operation(equalize, np.zeros(BINS)),
}
