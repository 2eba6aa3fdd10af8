"""Adam for the first steps, SGD for the others, whose learning rate is given or found as in SWATS.

Source: Keskar & Socher 2017, "Improving Generalization Performance by Switching from Adam to SGD", algorithm 1.
Deviations: the switch is at a set share of the steps, where theirs is at the first step at which the estimate has come
to rest; a learning-rate schedule multiplies both phases' rates, so the estimate is made of Adam's steps at their full
rate; with weight decay the gradient is the one that is descended, decay included; steps that do not descend are left
out, as they do where the gradient is orthogonal; momentum may be Nesterov's.
"""

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from bench.config.ranges import SHARE, Range


class AdamSGD(Adam):
    """Adam, then SGD; all steps are Adam's where nobody has said by `plan` how many there will be.

    Steps that fp16's gradient scaling leaves out are none: they delay the switch.

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
        lr: float,
        switch: Annotated[float, SHARE],
        sgd_lr: Annotated[float | None, Range(low=0, low_open=True, optional=True)],
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
        self.switch, self.sgd_lr, self.share = switch, sgd_lr, 1 - momentum
        self.made, self.last = 0, math.inf  # steps; the last one of Adam, once the training's length is known
        device = self.param_groups[0]["params"][0].device
        self.estimate = torch.zeros(2, dtype=torch.float64, device=device)  # the running sum, and its weight

    def plan(self, steps: int) -> None:
        """Says how many steps the training has; the switch is after its share of them."""
        self.last = max(round(self.switch * steps), 1) if self.switch else 0  # one at least, to find sgd_lr from
        if self.made == self.last:
            self._switch()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One of Adam or of SGD."""
        if self.made >= self.last:
            for group, own in zip(self.sgd.param_groups, self.param_groups, strict=True):
                group["lr"] = own["lr"]
            return self.sgd.step(closure)
        result = super().step(closure)
        self.made += 1
        if self.sgd_lr is None:
            self._estimate()
        if self.made == self.last:
            self._switch()
        return result

    def _estimate(self) -> None:
        """Projects Adam's step p on the gradient g: p·p / -p·g, averaged as its second moment is; nothing is read."""
        squared, descent = self.estimate.new_zeros(()), self.estimate.new_zeros(())
        for group in self.param_groups:
            base = group.get("base_lr", group["lr"])
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                direction = self._direction(weight, group)
                before = weight.double() + group["lr"] * direction
                gradient = weight.grad.double() + group["weight_decay"] * before
                squared += base**2 * (direction * direction).sum()
                descent += base * (direction * gradient).sum()
        beta = self.param_groups[0]["betas"][1]
        rate = torch.stack([squared / descent, torch.ones_like(squared)])
        self.estimate.copy_(torch.where(descent > 0, beta * self.estimate + (1 - beta) * rate, self.estimate))

    def _direction(self, weight: Tensor, group: dict[str, Any]) -> Tensor:
        """Of Adam's last step, at a rate of 1: its first moment over the root of the second, bias taken off."""
        (beta1, beta2), state = group["betas"], self.state[weight]
        first, second = (state[key].double() for key in ("exp_avg", "exp_avg_sq"))
        direction: Tensor = first / (1 - beta1**self.made) / ((second / (1 - beta2**self.made)).sqrt() + group["eps"])
        return direction

    def _switch(self) -> None:
        """From here on the groups' rates are SGD's. One that is to be found is read here, once in a training."""
        if self.sgd_lr is None:
            total, weight = self.estimate.tolist()
            self.sgd_lr = self.share * total / weight if weight else self.param_groups[0]["lr"]
        for group in self.param_groups:
            group["lr"] = group["base_lr"] = self.sgd_lr
        self.state.clear()  # Adam's moments

    def state_dict(self) -> dict[str, Any]:
        """Of both, with the position and the estimate."""
        more = {"sgd": self.sgd.state_dict(), "made": self.made, "sgd_lr": self.sgd_lr, "estimate": self.estimate}
        return {**super().state_dict(), **more}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        super().load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})
        self.sgd.load_state_dict(state_dict["sgd"])
        self.made, self.sgd_lr = state_dict["made"], state_dict["sgd_lr"]
        self.estimate.copy_(state_dict["estimate"])
