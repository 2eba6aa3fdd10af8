import copy
from contextlib import nullcontext

import pytest
import torch
from reference.sam import look_sam_gradient, sharpness_aware_gradient
from torch import nn
from torch.nn.functional import cross_entropy

from bench.regularizer import Backward
from bench.regularizer.asam import ASAM
from bench.regularizer.look_sam import LookSAM
from bench.regularizer.sam import SAM
from bench.training.budget import count_evaluations

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
}


def make_net(dtype=torch.float64):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 5 * 6, 3)
    )
    return net.to(dtype)


def make_batches(n, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 8, 2, 5, 6, generator=generator, dtype=dtype)
    return list(zip(images, torch.randint(0, 3, (n, 8), generator=generator), strict=True))


def plain_scale(name, weights):
    return torch.ones_like(weights)


def adaptive_scale(name, weights):
    """BatchNorm is layer 1 of the net; its parameters and all biases stay unscaled."""
    return plain_scale(name, weights) if name.endswith("bias") or name.startswith("1.") else weights.abs() + 0.01


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("rule", "rho", "scale"),
    [(SAM(rho=0.05), 0.05, plain_scale), (ASAM(rho=0.5, eta=0.01), 0.5, adaptive_scale)],
    ids=["sam", "asam"],
)
def test_five_steps_equal_a_plain_restatement(rule, rho, scale, optimizer):
    ours, theirs = make_net(), make_net()
    our_optimizer, their_optimizer = (OPTIMIZERS[optimizer](net.parameters()) for net in (ours, theirs))
    for images, labels in make_batches(5):
        our_loss = rule(ours, lambda: cross_entropy(ours(images), labels))
        our_optimizer.step()
        their_loss = sharpness_aware_gradient(theirs, lambda: cross_entropy(theirs(images), labels), rho, scale)
        their_optimizer.step()
        torch.testing.assert_close(our_loss, their_loss, rtol=0, atol=1e-9)
    for (name, mine), (_, other) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("rule", [SAM(rho=0.0), ASAM(rho=0.0, eta=0.01), SAM(rho=0.0, interval=3)])
def test_reduces_to_plain_backward_at_rho_0(rule):
    net, other = make_net(), make_net()
    ((images, labels),) = make_batches(1)
    loss = rule(net, lambda: cross_entropy(net(images), labels))
    assert torch.equal(loss, Backward()(other, lambda: cross_entropy(other(images), labels)))
    for mine, plain in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine.grad, plain.grad)


def test_weights_come_back_bit_for_bit_and_statistics_move_once():
    net, once = make_net(torch.float32), make_net(torch.float32)
    ((images, labels),) = make_batches(1, torch.float32)
    before = copy.deepcopy(dict(net.named_parameters()))
    SAM(rho=0.7)(net, lambda: cross_entropy(net(images), labels))
    once(images)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    for (name, mine), (_, other) in zip(net.named_buffers(), once.named_buffers(), strict=True):
        assert torch.equal(mine, other), name
    assert net[1].num_batches_tracked == 1


@pytest.mark.parametrize("failing_call", [1, 2])
def test_weights_and_tracking_come_back_when_the_closure_raises(failing_call):
    net = make_net()
    ((images, labels),) = make_batches(1)
    before, calls = copy.deepcopy(dict(net.named_parameters())), []

    def loss_closure():
        calls.append(1)
        if len(calls) == failing_call:
            raise RuntimeError("no")
        return cross_entropy(net(images), labels)

    with pytest.raises(RuntimeError, match="no"):
        SAM(rho=0.5)(net, loss_closure)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    assert net[1].track_running_stats


def test_gradients_found_are_discarded_and_unused_parameters_are_left_alone():
    net = make_net()
    net.unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
    net[0].bias.requires_grad_(False)
    ((images, labels),) = make_batches(1)
    forward = nn.Sequential(*list(net)[:5])
    SAM(rho=0.1)(net, lambda: cross_entropy(forward(images), labels))
    expected = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    SAM(rho=0.1)(net, lambda: cross_entropy(forward(images), labels))  # now with gradients to be found
    again = [p.grad for p in net.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))
    assert net.unused.grad is None
    assert net[0].bias.grad is None


def test_the_perturbation_has_norm_rho_along_the_gradient():
    net = make_net()
    ((images, labels),) = make_batches(1)
    seen = []

    def loss_closure():
        seen.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
        return cross_entropy(net(images), labels)

    SAM(rho=0.3)(net, loss_closure)
    Backward()(net, lambda: cross_entropy(net(images), labels))
    gradient = torch.cat([p.grad.flatten() for p in net.parameters()])
    torch.testing.assert_close(seen[1] - seen[0], 0.3 * gradient / gradient.norm())


@pytest.mark.parametrize("rule", [SAM(rho=2.0), ASAM(rho=2.0, eta=0.01)], ids=["sam", "asam"])
def test_an_autocast_around_both_passes_does_not_hide_the_moved_weights(rule):
    """Autocast caches the bf16 weights until its context ends; the second pass must not get those of the first."""
    ((images, labels),) = make_batches(1, torch.float32)

    def gradient(around, within):
        net = make_net(torch.float32)

        def loss_closure():
            with torch.autocast("cpu", torch.bfloat16) if within else nullcontext():
                return cross_entropy(net(images).float(), labels)

        with torch.autocast("cpu", torch.bfloat16) if around else nullcontext():
            rule(net, loss_closure)
        return torch.cat([p.grad.flatten() for p in net.parameters()])

    anew_in_each_pass = gradient(around=False, within=True)
    assert torch.equal(gradient(around=True, within=False), anew_in_each_pass)
    assert torch.equal(gradient(around=True, within=True), anew_in_each_pass)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: SAM(rho=-1), "rho must be at least 0, got -1"),
        (lambda: SAM(rho=1, interval=0), "interval must be at least 1, got 0"),
        (lambda: LookSAM(rho=-1, interval=1, alpha=0), "rho must be at least 0, got -1"),
        (lambda: LookSAM(rho=1, interval=5, alpha=-0.1), r"alpha must be at least 0, got -0\.1"),
    ],
)
def test_values_out_of_range_are_errors(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def run_steps(rule, steps=7, optimizer="sgd", batches=None):
    """The weights after so many steps, and how often the model was called."""
    net, calls = make_net(), []
    net.register_forward_hook(lambda *_: calls.append(1))
    step_by = OPTIMIZERS[optimizer](net.parameters())
    for step, (images, labels) in enumerate(batches or make_batches(steps)):
        rule(net, lambda: cross_entropy(net(images), labels), step=step)
        step_by.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()]), len(calls)


@pytest.mark.parametrize("interval", [1, 2, 3, 7, 10])
def test_an_interval_costs_what_it_says(interval):
    for rule in (SAM(rho=0.1, interval=interval), LookSAM(rho=0.1, interval=interval, alpha=0.7)):
        assert run_steps(rule)[1] == count_evaluations(7, rule.evaluations_per_step)
        # the largest number of steps that a budget pays for
        budget = count_evaluations(7, rule.evaluations_per_step)
        assert budget // rule.evaluations_per_step == 7
        assert (budget - 1) // rule.evaluations_per_step < 7


def test_between_two_ascents_sam_is_plain():
    batches = make_batches(4)
    net, other = make_net(), make_net()
    for step, (images, labels) in enumerate(batches):
        SAM(rho=0.5, interval=3)(net, lambda: cross_entropy(net(images), labels), step=step)
        rule = SAM(rho=0.5) if step in (0, 3) else Backward()
        rule(other, lambda: cross_entropy(other(images), labels))
        for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
            assert torch.equal(mine.grad, theirs.grad), step


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_look_sam_equals_a_plain_restatement(optimizer):
    batches, kept, theirs = make_batches(7), None, make_net()
    step_by = OPTIMIZERS[optimizer](theirs.parameters())
    for step, (images, labels) in enumerate(batches):
        arguments = (theirs, lambda: cross_entropy(theirs(images), labels), 0.1, 0.7, 3, step, kept)
        _, kept = look_sam_gradient(*arguments)
        step_by.step()
    ours, _ = run_steps(LookSAM(rho=0.1, interval=3, alpha=0.7), optimizer=optimizer, batches=batches)
    expected = torch.cat([p.detach().flatten() for p in theirs.parameters()])
    # Adam divides by its eps of 1e-8 where a gradient is all but 0, and with it the rounding, which CPUs differ in.
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-7)


def test_look_sam_reduces_to_sam():
    for one, other in (
        (LookSAM(rho=0.3, interval=1, alpha=0.7), SAM(rho=0.3)),
        (LookSAM(rho=0.3, interval=3, alpha=0.0), SAM(rho=0.3, interval=3)),
    ):
        assert torch.equal(run_steps(one)[0], run_steps(other)[0])


def test_look_sam_is_plain_at_rho_0_also_between():
    """What is then left of g_v is rounding, and must not be blown up to the gradient's size."""
    batches = make_batches(4, torch.float32)
    net, other = make_net(torch.float32), make_net(torch.float32)
    rule = LookSAM(rho=0.0, interval=2, alpha=0.7)
    for step, (images, labels) in enumerate(batches):
        rule(net, lambda: cross_entropy(net(images), labels), step=step)
        Backward()(other, lambda: cross_entropy(other(images), labels))
        for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
            assert torch.equal(mine.grad, theirs.grad), step


def test_look_sam_goes_on_from_its_state():
    batches = make_batches(5)

    def gradients(change_over):
        net, rule = make_net(), LookSAM(rho=0.2, interval=4, alpha=0.7)
        for step, (images, labels) in enumerate(batches):
            if step == change_over:
                state = rule.state_dict()
                rule = LookSAM(rho=0.2, interval=4, alpha=0.7)
                rule.load_state_dict(state)
            rule(net, lambda: cross_entropy(net(images), labels), step=step)
            yield torch.cat([p.grad.flatten() for p in net.parameters()])

    for mine, theirs in zip(gradients(2), gradients(None), strict=True):
        assert torch.equal(mine, theirs)


def test_look_sam_keeps_nothing_that_is_not_finite():
    """As where fp16's scale was too large: the scaler skips that step, and the next must not suffer."""
    net, rule = make_net(), LookSAM(rho=0.2, interval=2, alpha=0.7)
    (images, labels), (more, other) = make_batches(2)
    rule(net, lambda: cross_entropy(net(images), labels) * torch.inf, step=0)
    rule(net, lambda: cross_entropy(net(more), other), step=1)
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_a_zero_gradient_gives_no_nan():
    net = nn.Linear(2, 2)
    SAM(rho=0.1)(net, lambda: (net(torch.zeros(1, 2)) * 0).sum())
    assert net.weight.isfinite().all()
    assert net.weight.grad.isfinite().all()
