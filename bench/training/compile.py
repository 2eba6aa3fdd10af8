"""torch.compile, so that the code of a run depends on that run alone, and is never eager without a word.

Dynamo keeps what it has compiled for the process, at most 8 graphs for a piece of code, and runs what comes after them
eagerly: from the ninth arm of a sweep on. After another batch size it compiles for sizes in general.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# The second of each until torch 2.6.
_LIMIT = ("recompile_limit", "cache_size_limit")
_FAIL_AT_LIMIT = ("fail_on_recompile_limit_hit", "fail_on_cache_limit_hit")
_LIMIT_HIT = ("FailOnRecompileLimitHit", "FailOnCacheLimitHit")


def forget_compiled(graphs: int = 1) -> None:
    """Has the process compile anew what it compiles from here on, for so many users of one model's code."""
    torch.compiler.reset()
    _configure(_LIMIT, 8 * graphs)


def _configure(names: tuple[str, ...], value: Any) -> None:
    import torch._dynamo

    for name in names:
        if hasattr(torch._dynamo.config, name):
            setattr(torch._dynamo.config, name, value)


def compile_model(model: nn.Module) -> Callable[..., Tensor]:
    """The model, to be compiled for the sizes that it is called with; calls raise where Dynamo's limit is hit."""
    _configure(_FAIL_AT_LIMIT, True)
    compiled: Callable[..., Tensor] = torch.compile(model, dynamic=False)
    return compiled


def hit_limit(error: Exception) -> bool:
    """Whether a call of a compiled model failed for having been compiled too often."""
    return type(error).__name__ in _LIMIT_HIT
