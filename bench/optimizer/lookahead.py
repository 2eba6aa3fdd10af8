"""Lookahead around SGD: slow weights follow the fast ones, and every few steps the fast ones go on from them."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD


class Lookahead(SGD):
    """Zhang et al. 2019, algorithm 1, around Nesterov SGD, with a pull that begins at 1 and falls.

    Every `interval`-th step, slow += f (fast - slow) and fast = slow, where f = 1 - (1 - pull) progress^3. That f falls
    with the run's progress is Jordan's (2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU"); the paper's is `pull`
    throughout. Unlike Jordan's, BatchNorm's statistics stay those of the fast weights.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
        interval: int,
        pull: float,
        foreach: bool | None = None,
    ) -> None:
        """Takes SGD's arguments, `interval` in steps from 1 on, and `pull` in (0, 1], where 1 is SGD to the last bit.

        The training loop writes `progress`, the share of the run's steps that are done, into the parameter groups; it
        is 1 without one.
        """
        super().__init__(params, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, foreach=foreach)
        for group in self.param_groups:
            group |= {"interval": interval, "pull": pull, "progress": 1.0, "steps": 0}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """A step of SGD, and at every `interval`-th one of the slow weights."""
        for group in self.param_groups:
            for weight in group["params"]:
                if "slow" not in self.state[weight]:
                    self.state[weight]["slow"] = weight.clone()
        loss: float | None = super().step(closure)
        for group in self.param_groups:
            group["steps"] += 1
            if group["steps"] % group["interval"] == 0:
                self._look_ahead(group)
        return loss

    def _look_ahead(self, group: dict[str, Any]) -> None:
        fast = group["params"]
        slow = [self.state[weight]["slow"] for weight in fast]
        torch._foreach_lerp_(slow, fast, 1 - (1 - group["pull"]) * group["progress"] ** 3)
        torch._foreach_copy_(fast, slow)
