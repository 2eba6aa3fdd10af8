"""Learning-rate schedules as pure functions of the step: no state to save, nothing to fast-forward.

Each gives the factor on the optimizer's lr at a progress in [0, 1) through the steps that follow the warm-up. They
match torch.optim.lr_scheduler (tested); one_cycle moves the learning rate only, where torch's also cycles momentum by
default.
"""

import math
from collections.abc import Callable


def _cosine(progress: float) -> float:
    """From 1 to 0 along half a cosine. Source: Loshchilov & Hutter 2017, eq. 5, without restarts."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def _one_cycle(progress: float) -> float:
    """From 1/25 up to 1 over the first 30 %, then down to 4e-6. Source: Smith & Topin 2019; values as in torch."""
    start, peak_at, end = 1 / 25, 0.3, 1 / 25 / 1e4
    if progress < peak_at:
        return start + (1 - start) * (1 - _cosine(progress / peak_at))
    return end + (1 - end) * _cosine((progress - peak_at) / (1 - peak_at))


def _step(progress: float) -> float:
    """A tenth after half the steps and a hundredth after three quarters, as He et al. 2016 on CIFAR-10."""
    return 0.1 ** ((progress >= 0.5) + (progress >= 0.75))


def _constant(progress: float) -> float:
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    "step": _step,
    "constant": _constant,
}


def rises_itself(schedule: str) -> bool:
    """Whether a schedule begins below 1, so that after a warm-up the learning rate would fall, and rise once more."""
    return SCHEDULES[schedule](0.0) < 1


def lr_factor(schedule: str, step: int, steps: int, warmup_steps: int = 0) -> float:
    """Factor on the lr at `step`: linear from 1/warmup_steps up to 1 over the warm-up, then the schedule over the rest.

    Args:
        schedule: a key of SCHEDULES.
        step: from 0 to steps - 1.
        steps: of the whole run, the warm-up included.
        warmup_steps: fewer than `steps`; 0 where the schedule rises by itself.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return SCHEDULES[schedule]((step - warmup_steps) / (steps - warmup_steps))
