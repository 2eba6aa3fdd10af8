"""What `regbench speed` times: the ceiling, our training loop, a script as people write it, batches, and evaluation.

Each is set up once and takes a turn whenever it is asked to, so that they can be interleaved. The learning rate is as
good as 0: times do not depend on it, and no contestant can diverge.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from math import ceil, prod
from shutil import disk_usage
from time import sleep

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from bench.config.settings import Run
from bench.dataset import Data
from bench.dataset.batches import PADDING, Batches, normalise
from bench.dataset.mapped import MappedImages
from bench.machine.cores import count_cores
from bench.machine.switches import set_switches
from bench.training.evaluate import BATCH_SIZE, compute_logits
from bench.training.rates import scale_lrs
from bench.training.run import make_trainer
from bench.training.trainer import DTYPES, Trainer

_PREFETCHED = 2  # batches by each of a DataLoader's workers
# For which a script's workers make the next batches ready, on the cores of whoever has the next turn.
SECONDS_TO_SETTLE = 0.5


@dataclass(frozen=True)
class Contestant:
    """One of those that are compared.

    Attributes:
        what: ceiling, training, script, batches or evaluation.
        name: what it is called in tables.
        precision: of its forward and backward passes.
        turn: works for a while, waits for the device, and returns on how many images it worked.
        evaluations: gradient evaluations of each batch: what the ceiling's rate is to be divided by.
        prepare: called before a turn, and not timed.
        compiled: whether torch.compile has made it, and nothing has kept it from being so.
    """

    what: str
    name: str
    precision: str
    turn: Callable[[], int]
    evaluations: float = 1
    prepare: Callable[[], None] = lambda: None
    compiled: Callable[[], bool] = lambda: False


def make_ceiling(run: Run, data: Data, steps: int) -> Contestant:
    """Forward, backward and optimizer step on one batch that lies on the device; nothing else."""
    trainer = _make_still(run, data)
    batches = Batches(data, run.train.batch_size, run.dataset.values["augment"], run.seed)
    trainer.warm_up(batches)
    images, targets = next(batches.epoch(0))
    trainer.model.train()

    def turn() -> int:
        for _ in range(steps):
            trainer.optimizer.zero_grad()
            with trainer.autocast():
                logits = trainer.predict(images)
            cross_entropy(logits.float(), targets).backward()  # type: ignore[no-untyped-call]
            trainer.optimizer.step()
        trainer.synchronise()
        return steps * len(images)

    return Contestant("ceiling", "ceiling", run.train.precision, turn, compiled=lambda: trainer.compiled)


def make_training(run: Run, data: Data, steps: int, name: str) -> Contestant:
    """Our own loop: whole epochs, with all that an epoch needs."""
    trainer = _make_still(run, data)
    batches = Batches(data, run.train.batch_size, run.dataset.values["augment"], run.seed)
    trainer.warm_up(batches)
    epochs = trainer.epochs(batches)

    def turn() -> int:
        done = sum(epoch.steps for epoch in islice(epochs, ceil(steps / batches.per_epoch)))
        return done * run.train.batch_size

    cost = trainer.slots.gradient.evaluations_per_step
    return Contestant("training", name, run.train.precision, turn, float(cost), compiled=lambda: trainer.compiled)


def make_script(run: Run, data: Data, steps: int, *, default: bool) -> Contestant:
    """A training script as people write it: a transform per image, a DataLoader with workers, the loss read each step.

    Args:
        run: whose model, batch size and optimizer it has; no regularizer.
        data: its images; with a GPU the loader pins its batches.
        steps: of a turn.
        default: in torch's default precision and layout, fp32 and contiguous; else in the run's.
    """
    trainer = _make_still(run, data)
    device = trainer.device
    model = trainer.model.train()
    model.to(memory_format=torch.contiguous_format if default else torch.channels_last)
    dtype = torch.float32 if default else DTYPES[run.train.precision]
    batches = _load_forever(run, data, pin=device.type == "cuda")

    def step() -> None:
        images, labels = next(batches)
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        if not default:
            images = images.contiguous(memory_format=torch.channels_last)
        trainer.optimizer.zero_grad()
        with torch.autocast(device.type, dtype) if dtype is not torch.float32 else nullcontext():
            loss = cross_entropy(model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        trainer.optimizer.step()
        loss.item()

    def turn() -> int:
        # As torch has it by itself; it has cudnn.benchmark off, which stays on here, in the script's favour.
        if default:
            torch.backends.cudnn.allow_tf32 = True
        for _ in range(steps):
            step()
        set_switches(deterministic=run.train.deterministic)
        return steps * run.train.batch_size

    def prepare() -> None:  # the workers have batches ready that they made while others took their turns
        for _ in range(_count_prefetched()):
            step()

    light = steps >= 10 * _count_prefetched()  # else the net is slow enough for them to be ready anyway
    name = "script, fp32 as is" if default else "script"
    precision = "fp32" if default else run.train.precision
    return Contestant("script", name, precision, turn, prepare=prepare if light else lambda: None)


def make_loaders(run: Run, data: Data, steps: int) -> tuple[Contestant, Contestant]:
    """The script's batches and ours, moved to the device, and nothing else: what augmentation takes by itself."""
    device, size = torch.device(run.train.device), run.train.batch_size
    steps = max(steps, 10 * _count_prefetched())
    theirs = _load_forever(run, data, pin=device.type == "cuda")
    batches = Batches(data, size, run.dataset.values["augment"], run.seed)
    ours = chain.from_iterable(map(batches.epoch, count()))

    def turn(loader: Iterator[tuple[Tensor, Tensor]], steps: int) -> int:
        for images, targets in islice(loader, steps):
            images.to(device, non_blocking=True), targets.to(device, non_blocking=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return steps * size

    def prepare() -> None:
        turn(theirs, _count_prefetched())

    return Contestant("ceiling", "script's batches", "fp32", lambda: turn(theirs, steps), prepare=prepare), Contestant(
        "batches", "batches", "fp32", lambda: turn(ours, steps), prepare=lambda: sleep(SECONDS_TO_SETTLE)
    )


def find_shared_memory_lack(run: Run, data: Data) -> str:
    """Why the scripts cannot be timed, whose workers hand over batches in /dev/shm and die of a bus error where it is
    full; else nothing. A plain container has 64 MiB of it."""
    needed = 3 * count_cores() * (_PREFETCHED + 1) * run.train.batch_size * 4 * prod(data.shape[1:])
    with suppress(OSError):  # another system's is elsewhere
        free = disk_usage("/dev/shm").free
        if free < needed:
            have = f"/dev/shm has {free >> 20} MiB free, and the scripts' DataLoaders need {needed >> 20}"
            return f"{have}: no script is timed. Give the container more: docker run --shm-size=1g."
    return ""


def make_evaluations(run: Run, data: Data, steps: int) -> tuple[Contestant, Contestant]:
    """Forward passes on one batch that lies on the device, and our evaluations; of as many images as so many training
    steps have."""
    trainer = _make_still(run, data)
    split, model = data.train, trainer.model
    images = normalise(split.images[:BATCH_SIZE], data)
    evaluations = ceil(steps * run.train.batch_size / len(split))
    passes = evaluations * ceil(len(split) / BATCH_SIZE)

    @torch.inference_mode()
    def ceiling() -> int:
        model.eval()
        for _ in range(passes):
            model(images)
        trainer.synchronise()
        return passes * len(images)

    def ours() -> int:
        for _ in range(evaluations):
            compute_logits(model, split, data)
        return evaluations * len(split)

    return Contestant("ceiling", "forward passes", "fp32", ceiling), Contestant(
        "evaluation", "evaluation", "fp32", ours
    )


def _make_still(run: Run, data: Data) -> Trainer:
    """A trainer whose weights as good as stay where they are, for as long as it is asked to train."""
    train = replace(run.train, epochs=10**9, gradient_evaluations=None, warmup_epochs=0)
    trainer = make_trainer(replace(run, train=train), data)
    for group in trainer.optimizer.param_groups:
        group["base_lr"] = 1e-9
    scale_lrs(trainer.optimizer, 1)
    return trainer


class _Pictures(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's datasets give them: opened as a picture, and transformed one by one."""

    def __init__(self, data: Data, augment: str) -> None:
        from torchvision.transforms import v2

        images = data.train.images
        self.images = images.rows if isinstance(images, MappedImages) else images.cpu().numpy()
        self.labels = data.train.labels.tolist()
        size, mean, std = self.images.shape[1:3], data.mean.cpu() / 255, data.std.cpu() / 255
        resized, flip = augment == "random_resized", v2.RandomHorizontalFlip()
        crop = v2.RandomResizedCrop(size) if resized else v2.RandomCrop(size, padding=PADDING[augment])
        steps = [] if augment == "none" else [crop, *[flip] * data.flips]
        steps += [v2.TrivialAugmentWide()] * (augment == "trivial_augment")
        to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean.tolist(), std.tolist())]
        self.transform = v2.Compose([*steps, *to_tensor])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = self.images[index]
        return self.transform(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)), self.labels[index]


def _count_prefetched() -> int:
    return _PREFETCHED * count_cores()


def _load_forever(run: Run, data: Data, *, pin: bool) -> Iterator[tuple[Tensor, Tensor]]:
    loader = DataLoader(
        _Pictures(data, run.dataset.values["augment"]),
        run.train.batch_size,
        shuffle=True,
        num_workers=count_cores(),
        prefetch_factor=_PREFETCHED,
        persistent_workers=True,
        pin_memory=pin,
        drop_last=True,
    )
    while True:
        yield from loader
