"""What needs the trained model itself: one interface, (model, data, seed) -> numbers by column, for all probes.

A probe is a function in a module of this package, named in PROBES, its columns declared in bench/measure/probed.py. The
model gives logits (N, K) of normalised float32 images (N, C, H, W), and is not compiled; data and model are on one
device. A probe leaves the model as it was, touches no global generator, and gives the same for the same seed.
"""

from collections.abc import Callable

from torch import nn

from bench.dataset import Data
from bench.measure.probed import Measured
from bench.probe.robustness import measure_robustness
from bench.probe.sharpness import measure_sharpness

Probe = Callable[[nn.Module, Data, int], Measured]
PROBES: dict[str, Probe] = {"sharpness": measure_sharpness, "robustness": measure_robustness}
