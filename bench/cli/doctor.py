"""What this machine offers: versions, devices, data, extras, and whether training works on each device; and what a
dataset holds."""

from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from tempfile import TemporaryDirectory

import torch

from bench.config.own_code import resolve
from bench.config.plugins import config_files
from bench.console.escape import escape
from bench.machine.cores import limit_threads
from bench.machine.device import computes_bf16, describe_hardware, describe_problem, find_gpus
from bench.record.data import describe_doubles, name_members
from bench.status import Status
from bench.sweep.data import describe_data
from bench.sweep.launch import compose
from bench.sweep.plan import load_data, make_plan
from bench.training.run import train_run
from bench.version import __version__

_PACKAGES = ("torch", "torchvision", "hydra-core", "omegaconf", "numpy", "pandas", "scikit-learn", "scipy", "rich")
_PLACES = {"root": "FOLDER", "file": "FILE"}  # settings of data that lie in files
_EXTRAS = {
    "timm": "regbench[timm]",
    "tensorboard": "regbench[tensorboard]",
    "mlflow": "regbench[mlflow]",
    "pyarrow": "regbench[parquet]",
    "hydra-joblib-launcher": "regbench[launchers]",
    "hydra-submitit-launcher": "regbench[launchers]",
    "hydra-ray-launcher": "regbench[launchers]",
}


def examine() -> int:
    """Prints it all; 0 if training works on every device in every precision, else 1."""
    limit_threads()
    packages = ((package, _version(package) or "missing, and regbench needs it") for package in _PACKAGES)
    _show("versions", [("regbench", __version__), ("python", python_version()), *packages])
    _show("devices", _devices())
    _show("data sets", (_dataset(file.stem) for file in config_files("dataset")))
    _show("extras and launchers", ((p, _version(p) or f"missing: pip install '{i}'") for p, i in _EXTRAS.items()))
    steps = list(_train_on_each_device())
    _show("a training step of Mixup and SAM", steps)
    return 0 if all(outcome == "works" for _, outcome in steps) else 1


def examine_data(overrides: Sequence[str]) -> int:
    """Prints what each dataset of a command line holds, and all its equal images; 0.

    Raises:
        UsageError: bad input, or data that cannot be read.
    """
    choices = {str(run.dataset): run.dataset for run in compose(overrides).runs}
    for choice in choices.values():
        source = load_data(choice)
        record, classes = describe_data(source), source.class_names or [str(k) for k in range(source.classes)]
        counts = [(split, f"{n:,} images") for split, n in record["images"].items()]
        found = "; ".join(describe_doubles(record)) or "none"
        named = ", ".join(classes).replace("\n", "\\n")
        _show(choice.name, [*counts, ("classes", named), ("equal images", found)])
        for group in record["equal_images"]:
            labels = f", as {', '.join(classes[k] for k in group['labels'])}" * (len(group["labels"]) > 1)
            print(escape(f"    {' = '.join(name_members(group))}{labels}"))
    return 0


def _show(title: str, lines: Iterable[tuple[str, str]]) -> None:
    print(escape(title))
    for name, outcome in lines:
        print(escape(f"  {name:24} {outcome}"))  # a longer name has its space, too


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> Iterator[tuple[str, str]]:
    bf16 = "native" if computes_bf16("cpu") else "emulated, and slow"
    yield "cpu", f"{describe_hardware('cpu')}, {torch.get_num_threads()} threads, bf16 {bf16}"
    for gpu in _gpus():
        memory = torch.cuda.get_device_properties(gpu).total_memory / 2**30
        bf16 = "native" if computes_bf16(gpu) else "none"
        yield gpu, f"{describe_hardware(gpu)}, {memory:.0f} GiB, bf16 {bf16}"
    if not _gpus():
        built = torch.version.cuda or torch.version.hip or "the CPU alone"
        yield "cuda", describe_problem() or f"torch sees no CUDA device (it was built for {built})"


def _gpus() -> list[str]:
    return [f"cuda:{index}" for index in range(len(find_gpus()))]


def _dataset(name: str) -> tuple[str, str]:
    """Whether a dataset's files are there: beside its load_<name>, describe_<name> says it where it needs any."""
    try:
        values = compose([f"dataset={name}"]).runs[0].dataset.values
        place = next((key for key in _PLACES if key in values), None)
        if place is None:
            return name, "needs no files"
        module, _, loader = values["_target_"].rpartition(".")
        describe = getattr(resolve(module), loader.replace("load_", "describe_", 1), None)
        return name, describe(values[place]) if describe else f"your own: dataset.{place}={_PLACES[place]}"
    except Exception as error:  # the user's own module may raise anything
        return name, f"{type(error).__name__}: {error}".splitlines()[0]


def _train_on_each_device() -> Iterator[tuple[str, str]]:
    """The device and precision, and `works` or what went wrong."""
    sizes = ("dataset=synthetic", "dataset.train_images=20", "train.batch_size=8", "train.gradient_evaluations=2")
    for device, precisions in [("cpu", "fp32,bf16"), *((gpu, "fp32,bf16,fp16") for gpu in _gpus())]:
        choices = (
            "model=convnet",
            "regularizer=[mixup,sam]",
            f"train.device={device}",
            f"train.precision={precisions}",
        )
        with TemporaryDirectory(prefix="regbench-") as folder:
            for planned in make_plan(compose([*sizes, *choices, f"results_dir={folder}"])):
                result = train_run(planned.run, Path(folder, planned.run_id))
                outcome = f"{result['status']}: {result['message']}".splitlines()[0]
                yield f"{device} {planned.run.train.precision}", "works" if result["status"] == Status.DONE else outcome
