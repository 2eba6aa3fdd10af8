import random

import numpy as np
import pytest
import torch

from bench.rng import global_stream, stream

CPU = torch.device("cpu")


def test_a_stream_is_a_function_of_seed_name_and_position():
    first = stream(3, "order", 7).random(5)
    stream(3, "mixing", 7).random(1000)  # another stream's consumption changes nothing
    assert (stream(3, "order", 7).random(5) == first).all()
    others = [stream(4, "order", 7), stream(3, "augment", 7), stream(3, "order", 8), stream(3, "order")]
    assert all((other.random(5) != first).any() for other in others)


def test_the_global_generator_is_seeded_and_put_back():
    before = torch.get_rng_state()
    with global_stream(CPU, 0, "dropout", 3):
        first = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(100)
    with global_stream(CPU, 0, "dropout", 3):
        assert torch.equal(torch.rand(4), first)


def test_the_global_generator_is_put_back_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="shapes"), global_stream(CPU, 0, "init"):
        torch.rand(2, 3) @ torch.rand(2, 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_numpys_and_pythons_generators_are_seeded_and_put_back_at_every_depth():
    """With the second normal of a pair, which NumPy keeps beside its state."""

    def draw():
        return [*np.random.standard_normal(3), np.random.rand(), random.random()]  # noqa: NPY002

    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    expected = draw() + draw()
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    drawn = draw()
    with global_stream(CPU, 0, "gradient", 3):
        outer = draw()
        with global_stream(CPU, 0, "loss", 3):
            inner = draw()
        with global_stream(CPU, 0, "loss", 3, torch_only=True):
            outer += [random.random()]
    assert drawn + draw() == expected
    with global_stream(CPU, 0, "loss", 3):
        assert draw() == inner
    with global_stream(CPU, 0, "gradient", 3):
        assert [*draw(), random.random()] == outer


@pytest.mark.cuda
def test_the_devices_generator_is_seeded_and_put_back():
    device = torch.device("cuda")
    before = torch.cuda.get_rng_state(device)
    with global_stream(device, 0, "dropout", 3):
        first = torch.rand(4, device=device)
    assert torch.equal(torch.cuda.get_rng_state(device), before)
    with global_stream(device, 0, "dropout", 3):
        assert torch.equal(torch.rand(4, device=device), first)
