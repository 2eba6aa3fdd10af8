"""What only a GPU can answer, a function each: `python scripts/cuda_questions.py`, or with names of questions.

With `--cpu` the CPU stands in the card's place, on small sizes: that shows that a question can be asked, no answer.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from statistics import median
from time import perf_counter

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bench.config.settings import Run, apply_settings
from bench.dataset import load_source, make_splits
from bench.dataset.batches import Batches
from bench.machine.device import find_gpus, is_lost
from bench.sweep.device import resolve_device
from bench.sweep.launch import compose
from bench.training import evaluate
from bench.training.run import configure_torch, make_trainer

CPU = "--cpu" in sys.argv
DEVICE = torch.device("cpu" if CPU else "cuda")
SIZES = ["dataset.image_size=16", "dataset.train_images=64", "dataset.test_images=64", "train.batch_size=16"]
LARGE = ["dataset.image_size=32", "dataset.train_images=2048", "dataset.test_images=2048", "train.batch_size=128"]


def make_run(*overrides: str) -> Run:
    """A run on the device, of two epochs."""
    sizes = SIZES if CPU else LARGE
    own = ["dataset=synthetic", "dataset.channels=3", *sizes, "train.epochs=2", f"train.device={DEVICE}", *overrides]
    return resolve_device(compose(own).runs[0])


def _time_in_turns(acts: dict[str, Callable[[], object]]) -> str:
    """Seconds of each as a ratio to the first's, the median of rounds in which they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in acts}
    for turn in range(3 if CPU else 9):
        for name, act in acts.items():
            started = perf_counter()
            act()
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(perf_counter() - started)
    first = next(iter(acts))
    ratios = {name: median(x / y for x, y in zip(seconds[name], seconds[first], strict=True)) for name in acts}
    return ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())


def _make_steps(layout: torch.memory_format, benchmark: bool = True, tf32: bool = False) -> Callable[[], None]:
    """Some steps of ResNet-18 in fp32."""
    run = apply_settings(make_run("model=resnet8" if CPU else "model=resnet18", "train.precision=fp32"))
    data = make_splits(run.dataset, load_source(run.dataset), DEVICE)
    model = make_trainer(run, data).model.to(memory_format=layout).train()
    images = torch.rand(run.train.batch_size, 3, *data.shape[-2:], device=DEVICE).to(memory_format=layout)

    def act() -> None:
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = benchmark, tf32
        for _ in range(2 if CPU else 20):
            model.zero_grad()
            cross_entropy(model(images), torch.zeros(len(images), dtype=torch.long, device=DEVICE)).backward()

    return act


def layout() -> str:
    """Is fp32 without TF32 faster in NCHW than in channels-last, which every run has?"""
    layouts = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}
    return _time_in_turns({name: _make_steps(each) for name, each in layouts.items()}) + " times the seconds"


def cudnn_benchmark() -> str:
    """What does cudnn.benchmark, which torch has off by itself, do for the script in `regbench speed`?"""
    steps = {"off": False, "on": True}
    acts = {name: _make_steps(torch.contiguous_format, each, tf32=True) for name, each in steps.items()}
    return _time_in_turns(acts) + " times the seconds"


def resume() -> str:
    """Is a run that was resumed equal to the last bit without train.deterministic?"""
    run = apply_settings(make_run("model=convnet", "dataset.augment=standard"))
    configure_torch(run)
    data = make_splits(run.dataset, load_source(run.dataset), DEVICE)

    def train(stops: bool) -> dict[str, torch.Tensor]:
        trainer, batches = make_trainer(run, data), Batches(data, run.train.batch_size, "standard", run.seed)
        trainer.warm_up(batches)
        epochs = trainer.epochs(batches)
        next(epochs)
        if stops:
            state = trainer.state_dict()
            trainer = make_trainer(run, data)
            trainer.warm_up(batches)
            trainer.load_state_dict(state)
            epochs = trainer.epochs(batches)
        list(epochs)
        return trainer.model.state_dict()

    whole, again, resumed = train(False), train(False), train(True)
    equal = [all(torch.equal(whole[k], other[k]) for k in whole) for other in (again, resumed)]
    return f"trained twice: {equal[0]}; resumed: {equal[1]}"


def planning() -> str:
    """Does the process that plans a sweep, and only asks for the cards, hold memory of one?"""
    gpus = find_gpus()
    make_run("model=mlp", "train.precision=auto")
    told = "nvidia-smi is not there"
    with suppress(OSError):
        asked = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader"]
        told = subprocess.run(asked, capture_output=True, encoding="utf-8").stdout.strip() or "no process holds any"
    return f"{len(gpus)} GPUs; this is {os.getpid()}; {told}"


def halves() -> str:
    """Are logits equal to the last bit where evaluation has halved its batches?"""
    run = apply_settings(make_run("model=resnet8"))
    configure_torch(run)
    data = make_splits(run.dataset, load_source(run.dataset), DEVICE)
    model = make_trainer(run, data).model.eval()
    with torch.inference_mode():
        whole, half = (evaluate._compute(model, data.test, data, size) for size in (evaluate.BATCH_SIZE, 32))
    return f"{torch.equal(whole, half)}; the largest difference is {(whole - half).abs().max().item():.2g}"


def lost() -> str:
    """Is a card known for lost after an assert on it has failed? (The last question: it ends this process's CUDA.)"""
    with suppress(RuntimeError, IndexError):
        nn.functional.embedding(torch.tensor([9], device=DEVICE), torch.zeros(3, 2, device=DEVICE)).sum().item()
    return str(is_lost(DEVICE))


QUESTIONS = (planning, layout, cudnn_benchmark, resume, halves, lost)

if __name__ == "__main__":
    asked = [name for name in sys.argv[1:] if name != "--cpu"]
    for question in QUESTIONS:
        if not asked or question.__name__ in asked:
            print(f"{question.__name__}: {(question.__doc__ or '').strip()}", flush=True)
            try:
                print(f"    {question()}", flush=True)
            except Exception as error:  # the others are asked all the same
                print(f"    no answer: {type(error).__name__}: {error}".splitlines()[0], flush=True)
