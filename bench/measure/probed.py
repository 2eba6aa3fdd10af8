"""What probes measure of a trained model: their names, and the columns of each.

The functions are those of bench/probe/, of the same names. They need torch, and tables are made without it: so the
columns are declared here, as those of `score_run` are beside it, and a test holds the two together.
"""

from collections.abc import Sequence
from math import inf
from typing import Any, NamedTuple

from bench.measure.quantities import DECLARED, Better, Declared, Quantity, percent


class Measured(NamedTuple):
    """What a probe gives.

    Attributes:
        numbers: by column of runs.csv; not finite where the model's logits are not.
        rows: of a table of their own, for a probe that has one.
    """

    numbers: dict[str, float]
    rows: Sequence[dict[str, str | float]] = ()


CORRUPTED_COLUMNS = ("corruption", "strength", "accuracy", "nll", "ece")  # of the rows of `robustness`
PROBED: dict[str, dict[str, Declared]] = {"sharpness": {}, "robustness": {}}  # by probe and column, in their order


def _of_probe(probe: str, column: str, meaning: str, title: str, better: Better, **more: Any) -> None:
    quantity = Quantity(column, title, better, **more)
    where = f"evaluation=[{probe}]"
    PROBED[probe][column] = DECLARED[column] = Declared({"test": column}, {"test": quantity}, None, meaning, where)


for _column, _rho in (("sharpness_0_05", 0.05), ("sharpness_0_1", 0.1), ("sharpness_0_2", 0.2)):
    _meaning = f"rise of the training NLL by SAM's ascent of rho {_rho}, of 1,000 images together"
    _of_probe("sharpness", _column, _meaning, f"sharpness ρ={_rho}", "lower", digits=4)
for _column, _rho in (("adaptive_sharpness_0_5", 0.5), ("adaptive_sharpness_1", 1), ("adaptive_sharpness_2", 2)):
    _meaning = f"rise of the training NLL by ASAM's ascent of rho {_rho}, of 1,000 images together"
    _of_probe("sharpness", _column, _meaning, f"adaptive sharpness ρ={_rho}", "lower", digits=4)
for _column, _rho in (("m_sharpness_0_05", 0.05), ("m_sharpness_0_1", 0.1), ("m_sharpness_0_2", 0.2)):
    _meaning = f"mean rise of the NLL of 16 training images by their own ascent, SAM's of rho {_rho}"
    _of_probe("sharpness", _column, _meaning, f"m-sharpness ρ={_rho}", "lower", digits=4)

_meaning = "largest eigenvalue of the Hessian of the training NLL, of 1,000 images"
_of_probe("sharpness", "hessian_max", _meaning, "Hessian λ max", "lower", digits=2)
_meaning = "estimate of the trace of that Hessian"
_of_probe("sharpness", "hessian_trace", _meaning, "Hessian trace", "lower", digits=1)
_meaning = "standard error of that estimate"
_of_probe("sharpness", "hessian_trace_error", _meaning, "Hessian trace error", "", digits=1, range=(0, inf))

_meaning = "mean test accuracy over five corruptions of three strengths"
_of_probe("robustness", "corrupted_accuracy", _meaning, "corrupted accuracy %", "higher", **percent())
_meaning = "mean test NLL over five corruptions of three strengths"
_of_probe("robustness", "corrupted_nll", _meaning, "corrupted NLL", "lower", range=(0, inf))
_meaning = "mean test ECE over five corruptions of three strengths"
_of_probe("robustness", "corrupted_ece", _meaning, "corrupted ECE %", "lower", **percent())
for _name, _accuracy, _rise in (
    ("noise", "noise_accuracy", "noise_nll_rise"),
    ("blur", "blur_accuracy", "blur_nll_rise"),
    ("contrast", "contrast_accuracy", "contrast_nll_rise"),
    ("brightness", "brightness_accuracy", "brightness_nll_rise"),
    ("jpeg", "jpeg_accuracy", "jpeg_nll_rise"),
):
    _meaning = f"mean test accuracy over three strengths of {_name}"
    _of_probe("robustness", _accuracy, _meaning, f"{_name} accuracy %", "higher", **percent())
    _meaning = f"mean test NLL over three strengths of {_name}, less that of the clean images"
    _of_probe("robustness", _rise, _meaning, f"{_name} NLL rise", "lower")

_meaning = "how far predictions between two test images are from linear: mean total variation"
_of_probe("robustness", "linearity_deviation", _meaning, "deviation from linear %", "lower", **percent())
_meaning = "mean 2-norm of the gradient of a test image's NLL in its normalised pixels"
_of_probe("robustness", "input_gradient_norm", _meaning, "input gradient", "lower", range=(0, inf))
