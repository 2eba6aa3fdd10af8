"""What a command asks to be measured of trained models, by probes: after a training, or of kept weights."""

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from bench.config.settings import Run, apply_settings
from bench.dataset import Source, load_source, make_splits
from bench.errors import UsageError
from bench.machine.device import is_lost
from bench.machine.memory import ran_out, release
from bench.machine.switches import set_switches
from bench.measure.probed import Measured
from bench.probe import PROBES
from bench.record.folder import RunFolder, read_result
from bench.record.probes import keep_measured, lacking
from bench.training.interrupt import deferring, stop_if_requested
from bench.training.trained import load_model


def measure_kept(run: Run, own: RunFolder, names: Sequence[str]) -> None:
    """Measures what a recorded run lacks of these probes, of its kept weights.

    Raises:
        OSError: it could not be written.
        Interrupted: a signal asked to stop; what was measured is kept.
    """
    record = read_result(own.path)
    if record is None or not (left := lacking(own.path, record, names)):
        return
    try:
        trained = load_model(own.path.name, own.path.parents[1])
    except UsageError as error:  # of an older regbench's record
        for name in left:
            keep_measured(own.path, record, name, str(error))
        return
    set_switches(deterministic=run.train.deterministic)  # as for those that are measured after their training
    with deferring():
        measure(trained.network, run, own, record, left)


def measure(model: nn.Module, run: Run, own: RunFolder, record: Mapping[str, Any], names: Sequence[str]) -> None:
    """Measures these of a recorded run's trained model, and keeps each as soon as it is there.

    What goes wrong in a probe is noted in place of its numbers: the run stands as it is. Of a device that answers no
    more nothing is.
    """
    run = apply_settings(run)
    source = load_source(run.dataset)
    for name in names:
        try:
            measured: Any = _probe_with_retry(name, model, run, source)
        except Exception as error:
            own.log(traceback.format_exc())
            if is_lost(torch.device(run.train.device)):
                return
            measured = f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}"
        own.check()
        keep_measured(own.path, record, name, measured)
        own.log(f"measured {name}\n")
        stop_if_requested()


def _probe_with_retry(name: str, model: nn.Module, run: Run, source: Source) -> Measured:
    """What a probe measures; one that runs out of memory gets a second try, with a cleaned cache."""

    def probe() -> Measured:
        device = torch.device(run.train.device)
        return PROBES[name](model.to(device), make_splits(run.dataset, source, device), run.seed)

    try:
        return probe()
    except Exception as error:
        if not ran_out(error):
            raise
    release()
    return probe()
