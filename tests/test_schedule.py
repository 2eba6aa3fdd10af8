import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, MultiStepLR, OneCycleLR

from bench.config import ranges
from bench.training.schedule import SCHEDULES, lr_factor, rises_itself

STEPS = 40


def lrs_of(make_scheduler, steps=STEPS):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, lrs = make_scheduler(optimizer), []
    for _ in range(steps):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return lrs


@pytest.mark.parametrize(
    ("schedule", "make_theirs"),
    [
        ("cosine", lambda o: CosineAnnealingLR(o, STEPS)),
        ("step", lambda o: MultiStepLR(o, [STEPS // 2, 3 * STEPS // 4])),
    ],
)
def test_equals_torchs(schedule, make_theirs):
    ours = [lr_factor(schedule, step, STEPS) for step in range(STEPS)]
    assert ours == pytest.approx(lrs_of(make_theirs), abs=1e-12)


def test_one_cycle_equals_torchs():
    """Torch's reaches its end at the last step, ours one step after it, as our other schedules do."""
    steps = 1000
    theirs = lrs_of(lambda o: OneCycleLR(o, 1.0, total_steps=steps, cycle_momentum=False), steps)
    ours = [lr_factor("one_cycle", step, steps) for step in range(steps)]
    assert ours == pytest.approx(theirs, abs=5e-3)
    assert max(ours) == pytest.approx(1, abs=1e-4)
    assert ours[0] == pytest.approx(1 / 25)


@pytest.mark.parametrize("schedule", [schedule for schedule in SCHEDULES if not rises_itself(schedule)])
def test_warm_up_is_linear_and_the_schedule_spans_the_rest(schedule):
    theirs = lrs_of(lambda o: LinearLR(o, start_factor=0.1, total_iters=9), 10)
    assert [lr_factor(schedule, step, 50, 10) for step in range(10)] == pytest.approx(theirs)
    assert [lr_factor(schedule, step, 50, 10) for step in range(10, 50)] == [
        lr_factor(schedule, step, 40) for step in range(40)
    ]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_factors_stay_above_0_and_at_most_1(schedule):
    factors = [lr_factor(schedule, step, 333) for step in range(333)]
    assert min(factors) > 0
    assert max(factors) <= 1


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 40])
def test_the_learning_rate_rises_once_at_most_whatever_the_warm_up_and_the_budget(schedule, steps):
    """Up to its peak and never up again after it; what would do otherwise is refused before training."""
    for warmup in range(1 if rises_itself(schedule) else steps):
        factors = [lr_factor(schedule, step, steps, warmup) for step in range(steps)]
        peak = factors.index(max(factors))
        assert factors == [*sorted(factors[:peak]), *sorted(factors[peak:], reverse=True)]


def test_only_one_cycle_has_a_warm_up_of_its_own():
    assert tuple(schedule for schedule in SCHEDULES if rises_itself(schedule)) == ranges.RISING == ("one_cycle",)
    assert tuple(SCHEDULES) == ranges.SCHEDULES
