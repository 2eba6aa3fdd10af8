"""torch's switches for the whole process, whatever a user's code has set before."""

import subprocess
import sys

import pytest

LOOK = """
import torch
from bench.machine.switches import read_switches, set_switches
conv = getattr(torch.backends.cudnn, "conv", None)
if not hasattr(conv, "fp32_precision"):
    raise SystemExit(77)
{}
before = [*read_switches()]
set_switches(deterministic=False)
assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
assert conv.fp32_precision == torch.backends.cudnn.rnn.fp32_precision == "ieee"
assert torch.backends.cuda.matmul.fp32_precision == "ieee"
for owner, name, value in before:
    setattr(owner, name, value)
assert [*map(str, read_switches())] == [*map(str, before)]
"""


@pytest.mark.parametrize(
    "users",
    [
        "",
        "torch.backends.cudnn.allow_tf32 = False",
        "torch.set_float32_matmul_precision('high')",
        "conv.fp32_precision = 'ieee'",  # reading cudnn.allow_tf32 raises from then on
        "torch.backends.cudnn.fp32_precision = 'tf32'",
        "torch.backends.fp32_precision = 'tf32'",
    ],
)
def test_fp32_is_ieee_whatever_was_set_and_that_comes_back(users):
    done = subprocess.run([sys.executable, "-c", LOOK.format(users)], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("this torch has no newer switches of precision (2.9)")
    assert done.returncode == 0, done.stderr
