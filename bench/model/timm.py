"""timm's classifiers, with random weights; timm comes with the extra [timm]."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from bench.errors import UsageError
from bench.model.torchvision import check_args, like


def make_timm(
    channels: int,
    classes: int,
    arch: str,
    dropout: float,
    args: Mapping[str, Any],
    image_size: tuple[int, int] | None = None,
) -> nn.Module:
    """The architecture with K = `classes` logits for images of `channels` channels.

    Args:
        channels: at least 1.
        classes: K.
        arch: as timm names it.
        dropout: before the classifier, in [0, 1); timm's drop_rate.
        args: further arguments of the architecture.
        image_size: (height, width) of the images, for architectures that are built for one size.

    Raises:
        UsageError: timm is not installed.
        ValueError: no classifier of that name, or weights among `args`.
    """
    try:
        import timm
    except ImportError as error:
        raise UsageError("model timm needs the package timm.\nInstall it: pip install 'regbench[timm]'") from error

    if not timm.is_model(arch.partition(".")[0]):
        raise ValueError(f"timm has no classifier {arch}, but {like(arch, timm.list_models())}")
    check_args(args)
    values: dict[str, Any] = {"drop_rate": dropout} if dropout else {}  # a few architectures know no dropout
    published = timm.get_pretrained_cfg(arch)
    if image_size and published and published.fixed_input_size:
        values["img_size"] = image_size
    values |= {"num_classes": classes, "in_chans": channels, **args}
    model: nn.Module = timm.create_model(arch, pretrained=False, **values)
    return model
