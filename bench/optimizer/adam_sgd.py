"""Adam for the first steps, SGD for the others, whose learning rate is given or found as in SWATS.

Source: Keskar & Socher 2017, "Improving Generalization Performance by Switching from Adam to SGD", algorithm 1.
Deviations: the switch is at a set share of the steps, where theirs is at the first step at which the estimate has come
to rest; a learning-rate schedule multiplies both phases' rates, so the estimate is made of Adam's steps at their full
rate; steps that do not descend are left out, as they do where the gradient is orthogonal; momentum may be Nesterov's.
"""

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from bench.config.ranges import POSITIVE, SHARE, Range

_OPTIONAL_RATE = Range(low=0, low_open=True, optional=True)


class AdamSGD(Adam):
    """Adam, then SGD; all steps are Adam's where nobody has said by `plan` how many there will be.

    Args:
        params: what is trained.
        lr: Adam's.
        switch: the share of the steps that are Adam's, in [0, 1]; 1 is Adam, 0 SGD.
        sgd_lr: SGD's learning rate; None: found at the switch, which with a share of 0 is not possible.
        betas: Adam's.
        eps: Adam's.
        momentum: SGD's; of the rate that is found it takes the share 1 - momentum, as in the paper.
        nesterov: whether momentum is Nesterov's.
        weight_decay: added to the gradient as L2, in both phases.

    Raises:
        ValueError: nothing says SGD's learning rate.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: Annotated[float, POSITIVE],
        switch: Annotated[float, SHARE],
        sgd_lr: Annotated[float | None, _OPTIONAL_RATE],
        betas: tuple[float, float],
        eps: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
    ) -> None:
        if switch == 0 and sgd_lr is None:
            raise ValueError("switch=0 leaves no step to find sgd_lr from: give sgd_lr, or raise switch")
        super().__init__(params, lr, betas, eps, weight_decay, foreach=True)
        groups = [{"params": group["params"]} for group in self.param_groups]
        self.sgd = SGD(groups, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, foreach=True)
        self.switch, self.share, self.base, self.beta = switch, 1 - momentum, lr, betas[1]
        self.made, self.last = 0, math.inf  # steps; the last one of Adam, once the training's length is known
        self.given = sgd_lr
        device = self.param_groups[0]["params"][0].device
        self.estimate = torch.zeros(2, dtype=torch.float64, device=device)  # the running sum, and its weight

    def plan(self, steps: int) -> None:
        """Says how many steps the training has, before the first; the switch is after so many of them."""
        self.last = round(self.switch * steps)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One of Adam or of SGD."""
        self.made += 1
        if self.made > self.last:
            self._set_rates()
            return self.sgd.step(closure)
        if self.given is not None:
            return super().step(closure)
        weights = [weight for group in self.param_groups for weight in group["params"] if weight.grad is not None]
        before = [weight.clone() for weight in weights]
        result = super().step(closure)
        self._estimate(weights, before)
        return result

    def _estimate(self, weights: list[nn.Parameter], before: list[Tensor]) -> None:
        """Projects Adam's step on the gradient: p·p / -p·g, averaged as Adam's second moment is; nothing is read."""
        full = self.base / self.param_groups[0]["lr"]  # of a schedule's factor
        squared = self.estimate.new_zeros(())
        descent = self.estimate.new_zeros(())
        for weight, old in zip(weights, before, strict=True):
            step, gradient = (weight - old).double() * full, weight.grad.double()  # type: ignore[union-attr]
            squared += (step * step).sum()
            descent -= (step * gradient).sum()
        rate = torch.stack([squared / descent, torch.ones_like(squared)])
        moved = self.beta * self.estimate + (1 - self.beta) * rate
        self.estimate.copy_(torch.where(descent > 0, moved, self.estimate))

    def _set_rates(self) -> None:
        """SGD's rates at this step; one that was found is read at the switch, and kept from then on."""
        if self.given is None:
            total, weight = self.estimate.tolist()
            self.given = self.share * total / weight if weight else self.base
        for group, own in zip(self.sgd.param_groups, self.param_groups, strict=True):
            group["lr"] = own["lr"] * (self.given / self.base)

    def state_dict(self) -> dict[str, Any]:
        """Of both, with the position and the estimate."""
        more = {"sgd": self.sgd.state_dict(), "made": self.made, "given": self.given, "estimate": self.estimate}
        return {**super().state_dict(), **more}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        super().load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})
        self.sgd.load_state_dict(state_dict["sgd"])
        self.made, self.given = state_dict["made"], state_dict["given"]
        self.estimate.copy_(state_dict["estimate"])
