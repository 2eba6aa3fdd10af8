"""Temperature scaling: one number that divides all logits, chosen on validation predictions.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. The NLL falls and then rises with
log T, so a bounded search of it finds the one minimum.
"""

import math
from typing import Any

import numpy as np

from bench.measure.metric import nll

LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(logits: Any, labels: Any) -> tuple[float, bool]:
    """The T in [0.05, 20] that minimises the NLL of logits / T, and whether it is at a bound.

    It is at the lower one where all predictions are right (the surer the better), at the upper one where they are worse
    than chance. Arguments and errors as `bench.measure.metric.accuracy`.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    logits = np.asarray(logits, dtype=np.float64)
    bounds = math.log(LOWEST), math.log(HIGHEST)

    def objective(log_t: float) -> float:
        return nll(logits / math.exp(log_t), labels)

    found = float(minimize_scalar(objective, bounds=bounds, method="bounded", options={"xatol": 1e-7}).x)
    best = min((*bounds, found), key=objective)  # the search only comes near a bound, and stops where all is flat
    return math.exp(best), best in bounds
