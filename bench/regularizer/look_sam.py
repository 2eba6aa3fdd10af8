"""LookSAM: SAM at every k-th step; between, what it added to the plain gradient is used again.

Source: Liu et al. 2022, "Towards Efficient and Scalable Sharpness-Aware Minimization", algorithm 1. At a SAM step the
part of the SAM gradient g_s that is orthogonal to the plain gradient g is kept, g_v = g_s - (g_s·g / g·g)·g, over all
weights together; the steps between take g + alpha·||g||/||g_v||·g_v. Deviation: nothing is kept of a g_v that is not
finite, as fp16's scaling of gradients may make it, or that is within the rounding of g_s, as it is at rho 0.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from bench.config.ranges import COUNT, NOT_NEGATIVE
from bench.regularizer import Backward
from bench.regularizer.sam import SAM, LossClosure, global_norm

_backward = Backward()
_ROUNDING = 1e-6  # of g_s in float32, relative


class LookSAM:
    """A gradient rule with a state, g_v: a step between must follow a SAM step of it, or of one whose state it loaded.

    Reduces to SAM at interval 1, to SAM of the same interval at alpha 0, and to plain backward passes at rho 0.
    """

    def __init__(
        self,
        rho: Annotated[float, NOT_NEGATIVE],
        interval: Annotated[int, COUNT],
        alpha: Annotated[float, NOT_NEGATIVE],
    ) -> None:
        """SAM's rho and interval, and the weight of the kept part, alpha >= 0; other values are a ValueError."""
        self.sam = SAM(rho, interval=interval)
        if not alpha >= 0:
            raise ValueError(f"alpha must be at least 0, got {alpha}")
        self.alpha = alpha
        self.kept: dict[str, Tensor] = {}  # g_v, by the parameter's name

    @property
    def evaluations_per_step(self) -> Fraction:
        """As SAM's of the same interval."""
        return self.sam.evaluations_per_step

    def __call__(self, model: nn.Module, loss_closure: LossClosure, *, step: int = 0) -> Tensor:
        """Detached loss of the first pass; arguments as SAM's."""
        loss = _backward(model, loss_closure)
        plain = _gradients(model)
        if step % self.sam.interval == 0:
            self.sam.ascend(model, loss_closure)
            self.kept = _orthogonal_part(_gradients(model), plain)
        else:
            self._add_kept(plain)
        return loss

    @torch.no_grad()
    def _add_kept(self, grads: dict[str, Tensor]) -> None:
        for name, grad in grads.items():
            known = self.kept.get(name)  # on the CPU, where it was loaded from a checkpoint
            self.kept[name] = torch.zeros_like(grad) if known is None else known.to(grad.device)
        kept = [self.kept[name] for name in grads]
        weight = self.alpha * global_norm(list(grads.values())) / global_norm(kept)
        torch._foreach_add_(list(grads.values()), torch._foreach_mul(kept, weight))

    def state_dict(self) -> dict[str, Any]:
        """What the steps until the next SAM step need."""
        return {"kept": self.kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self.kept = dict(state["kept"])


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@torch.no_grad()
def _orthogonal_part(grads: dict[str, Tensor], plain: dict[str, Tensor]) -> dict[str, Tensor]:
    """`grads` less their projection on `plain`, over all parameters together."""
    names = [name for name in grads if name in plain]
    ours, others = [grads[name] for name in names], [plain[name] for name in names]
    dot = torch.stack([torch.sum(a * b) for a, b in zip(ours, others, strict=True)]).sum()
    parts = torch._foreach_sub(ours, torch._foreach_mul(others, dot / global_norm(others) ** 2))
    norm = global_norm(list(parts))
    counts = norm.isfinite() & (norm > _ROUNDING * global_norm(ours))
    return {name: torch.where(counts, part, 0.0) for name, part in zip(names, parts, strict=True)}
