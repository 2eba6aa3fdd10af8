"""timm's classifiers, with random weights; timm comes with the extra [timm]."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from bench.errors import UsageError
from bench.model.torchvision import LEAVE_OUT_DEPTH, check_args, check_depth, like


def make_timm(
    channels: int,
    classes: int,
    arch: str,
    dropout: float,
    args: Mapping[str, Any],
    image_size: tuple[int, int] | None = None,
    stochastic_depth: float = 0.0,
) -> nn.Module:
    """The architecture with K = `classes` logits for images of `channels` channels.

    Args:
        channels: at least 1.
        classes: K.
        arch: as timm names it.
        dropout: before the classifier, in [0, 1); timm's drop_rate.
        args: further arguments of the architecture.
        image_size: (height, width) of the images, for architectures that are built for one size.
        stochastic_depth: of the last block, in [0, 1); timm's drop_path_rate. At 0 it is what the architecture has by
            itself, which is 0 in most.

    Raises:
        UsageError: timm is not installed, or its classifier is without the stochastic depth that is set.
        ValueError: no classifier of that name, or weights among `args`.
    """
    try:
        import timm
    except ImportError as error:
        raise UsageError("model timm needs the package timm.\nInstall it: pip install 'regbench[timm]'") from error

    if not timm.is_model(arch.partition(".")[0]):
        raise ValueError(f"timm has no classifier {arch}, but {like(arch, timm.list_models())}")
    check_args(args)
    check_depth(args, "drop_path_rate", stochastic_depth)
    values: dict[str, Any] = {"drop_rate": dropout} if dropout else {}  # a few architectures know no dropout
    values |= {"drop_path_rate": stochastic_depth} if stochastic_depth else {}
    published = timm.get_pretrained_cfg(arch)
    if image_size and published and published.fixed_input_size:
        values["img_size"] = image_size
    values |= {"num_classes": classes, "in_chans": channels, **args}
    try:
        model: nn.Module = timm.create_model(arch, pretrained=False, **values)
    except TypeError as error:
        if stochastic_depth and "drop_path_rate" in str(error):
            raise UsageError(
                f"timm's {arch} has no stochastic depth: it takes no drop_path_rate.\n{LEAVE_OUT_DEPTH}"
            ) from error
        raise
    return model
