"""Devices, without one: which are there, what is said where none can be used, and of a process that loses one."""

import os
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import torch
from conftest import TINY, compose

from bench.cli import doctor
from bench.cli import run as app
from bench.disk.lock import this_process
from bench.errors import UsageError
from bench.machine import device
from bench.machine.device import Gpus, find_gpus
from bench.machine.memory import ran_out, release
from bench.record import tables
from bench.record.folder import RESULT
from bench.sweep import worker
from bench.sweep.device import resolve_device
from bench.sweep.launcher.joblib import Joblib
from bench.sweep.launcher.ray import Ray
from bench.sweep.launcher.submitit_local import SubmititLocal
from bench.sweep.launcher.submitit_slurm import SubmititSlurm
from bench.sweep.plan import make_plan
from bench.sweep.worker import Worker
from bench.training import run as run_module

CPU = torch.device("cpu")
BROKEN = "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040).\nUpdate it."


@pytest.fixture
def cuda(monkeypatch):
    """A function: what torch.cuda says by name -> it says so, and is asked anew."""

    def say(**answers):
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        find_gpus.cache_clear()

    yield say
    monkeypatch.undo()
    find_gpus.cache_clear()


def refuse(*_):
    raise RuntimeError(BROKEN)


def warn_and_deny():
    warnings.warn(BROKEN, stacklevel=2)
    return False


@pytest.fixture(params=["it warns", "it raises"])
def broken_driver(request, cuda):
    """NVML counts two cards, and no process can take one."""
    if request.param == "it warns":
        cuda(device_count=lambda: 2, is_available=warn_and_deny)
    else:
        cuda(device_count=lambda: 2, is_available=lambda: True, get_device_capability=refuse)


def test_a_driver_that_does_not_start_is_said_and_auto_is_the_cpu(broken_driver, tmp_path, capsys):
    assert find_gpus() == Gpus((), BROKEN.splitlines()[0])
    auto = [*TINY, "train.device=auto", f"results_dir={tmp_path}"]
    for act in (app.plan, app.run):
        assert act(auto) == 0
        told = capsys.readouterr().out
        assert "train.device=auto is the CPU: there are GPUs, and torch cannot use them" in " ".join(told.split())
        assert "driver on your system is too old" in " ".join(told.split())
    assert [row["device"] for row in tables.read_csv(tmp_path / "adhoc" / "runs.csv")] == ["cpu"]


def test_a_driver_that_does_not_start_makes_a_device_by_name_bad_input(broken_driver):
    with pytest.raises(
        UsageError, match=r"cuda:1 is not on this machine.\nIt has cpu: there are GPUs.*too old"
    ) as caught:
        app.plan([*TINY, "train.device=cuda:1"])
    assert len(str(caught.value).splitlines()) <= 3


def test_doctor_says_what_is_wrong_with_a_driver_and_how_to_mend_it(broken_driver):
    told = dict(doctor._devices())
    assert "too old" in told["cuda"]
    assert "nvidia-smi" in told["cuda"]


def test_where_there_is_no_gpu_nothing_is_wrong(cuda):
    cuda(device_count=lambda: 0, is_available=lambda: False)
    assert (len(find_gpus()), device.describe_problem()) == (0, "")


@pytest.mark.parametrize(("capability", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpus_precision_is_known_without_a_context_of_it(capability, native, cuda):
    """The process that plans a sweep took hundreds of MiB of the card, or the card itself."""
    cuda(device_count=lambda: 1, is_available=lambda: True, get_device_capability=lambda _: capability, device=refuse)
    (run,) = compose(*TINY, "train.device=auto", "train.precision=auto")
    resolved = resolve_device(run).train
    assert (resolved.device, resolved.precision) == ("cuda", "bf16" if native else "fp32")


def test_a_launcher_that_deals_out_devices_says_what_auto_means():
    (run,) = compose(*TINY, "train.device=auto", "train.precision=auto")
    gpu, cpu = SubmititSlurm(gpus=1), Ray()
    assert (resolve_device(run, gpu).train.device, resolve_device(run, gpu).train.precision) == ("cuda", "bf16")
    assert (resolve_device(run, cpu).train.device, resolve_device(run, cpu).train.precision) == ("cpu", "fp32")
    (named,) = compose(*TINY, "train.device=cuda:99")
    assert resolve_device(named, cpu).train.device == "cuda:99"  # a worker that lacks it records a failure


@pytest.mark.parametrize(
    ("flags", "precision"),
    [("sse avx2 avx512f", "fp32"), ("avx512f avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("asimd bf16 sve", "bf16")],
)
def test_a_cpu_trains_in_bf16_where_it_computes_in_it(flags, precision, monkeypatch):
    monkeypatch.setattr(device, "_cpu_flags", lambda: frozenset(flags.split()))
    (run,) = compose(*TINY, "train.precision=auto")
    assert resolve_device(run).train.precision == precision


def test_a_gpu_that_is_not_there_has_no_name_to_ask_for(cuda):
    one = {"device_count": lambda: 1, "is_available": lambda: True, "get_device_capability": lambda _: (8, 0)}
    cuda(**one, get_device_name=refuse)
    assert "cores" in device.describe_hardware("cuda:1")


def make_worker(tmp_path, launcher, *overrides):
    (tmp_path / "runs").mkdir(exist_ok=True)
    todo = [
        replace(each, run=replace(each.run, train=replace(each.run.train, device="cuda")))
        for each in make_plan(app.compose([*TINY, *overrides, f"results_dir={tmp_path}"]))
    ]
    return Worker(todo, tmp_path, launcher, this_process())


@pytest.mark.parametrize("launcher", [Ray(), SubmititLocal()], ids=["ray", "submitit_local"])
def test_a_run_whose_process_finds_no_gpu_is_no_failed_run(launcher, cuda, tmp_path, monkeypatch):
    """It was recorded as failed, with the CPU as its hardware."""
    cuda(device_count=lambda: 0, is_available=lambda: False)
    monkeypatch.chdir(tmp_path)
    made = make_worker(tmp_path, launcher, "seed=0,1")
    problems = made(0)
    assert list(problems.values()) == ["was not trained: its process found no cuda"] * 2
    assert not list(tmp_path.rglob(RESULT))


@pytest.mark.parametrize("cards", ["2,3", "GPU-8a1f,GPU-77", None])
def test_a_job_of_this_machine_sees_the_cards_that_its_user_chose(cards, tmp_path, monkeypatch):
    """submitit lets it see none, or the first ones."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cards or "")
    if cards is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    made = Worker([], tmp_path, SubmititLocal(), this_process(), folder=tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    made(0)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == cards


def test_jobs_of_this_machine_take_mig_instances_in_turn(tmp_path, monkeypatch):
    """CUDA lets a process use one of them, whatever it is given."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a,MIG-b")
    made = Worker([], tmp_path, Joblib(jobs=3), this_process(), folder=tmp_path)
    taken = []
    for number in range(3):
        made(number)
        taken.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert taken == ["MIG-a", "MIG-b", "MIG-a"]


def test_a_named_gpu_that_a_machine_with_others_lacks_is_a_failure(cuda, tmp_path):
    cuda(device_count=lambda: 1, is_available=lambda: True, get_device_capability=lambda _: (8, 0))
    made = make_worker(tmp_path, Ray())
    todo = [replace(each, run=replace(each.run, train=replace(each.run.train, device="cuda:99"))) for each in made.todo]
    assert replace(made, todo=todo)(0) == {}
    assert '"status": "failed"' in next(tmp_path.rglob(RESULT)).read_text()


@pytest.fixture
def losing(monkeypatch, cuda):
    """A GPU that answers no more after the first run."""
    one = {"device_count": lambda: 1, "is_available": lambda: True, "get_device_capability": lambda _: (8, 0)}
    cuda(**one, is_initialized=lambda: True, synchronize=refuse, empty_cache=refuse, reset_peak_memory_stats=refuse)
    monkeypatch.setattr(run_module, "describe_hardware", lambda _: "a card")
    monkeypatch.setattr(run_module, "_train", lambda *_: refuse())
    monkeypatch.setattr(worker, "_lost", type(worker._lost)())


def test_a_process_that_loses_its_gpu_records_one_run_and_ends(losing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make_worker(tmp_path, Joblib(), "seed=0,1,2")
    assert made(0) == {}
    assert [path.parent.name for path in tmp_path.rglob(RESULT)] == [made.todo[0].run_id]
    ended = []
    monkeypatch.setattr(worker.os, "_exit", lambda code: ended.append(code) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made(0)
    assert ended == [1]


def test_a_sweep_that_loses_its_own_gpu_leaves_the_rest_to_the_same_command(losing, tmp_path, monkeypatch, capsys):
    def resolve(run, _=None):
        return replace(run, train=replace(run.train, device="cuda", precision="fp32"))

    monkeypatch.setattr("bench.sweep.plan.resolve_device", resolve)
    monkeypatch.setattr("bench.sweep.plan.check_fit", lambda *_: 1)
    assert app.run([*TINY, "seed=0,1,2", f"results_dir={tmp_path}"]) == 1
    told = capsys.readouterr().out
    assert "cuda answers no more in this process" in told
    assert "2 of 3 runs are not recorded" in told


def test_release_never_raises(losing):
    release()


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "HIP error: out of memory",
        "GET was unable to find an engine to execute this computation",
        "Triton Error [CUDA]: out of memory",
        "[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 B",
    ],
)
def test_out_of_memory_has_many_words(words):
    assert ran_out(RuntimeError(words))
    assert not ran_out(RuntimeError("CUDA error: an illegal memory access was encountered"))


IMPORT = """
import sys, types, warnings
warnings.simplefilter("error")
late = sys.argv[1] == "late"
import torch
torch.cuda.is_initialized = lambda: late
import bench, os
print(os.environ["CUBLAS_WORKSPACE_CONFIG"])
"""


@pytest.mark.parametrize("when", ["in time", "late"])
def test_cublas_is_told_to_be_deterministic_where_the_package_is_imported(when):
    """It was in a function that a user of the package may call after cuBLAS has read it."""
    environment = {key: value for key, value in os.environ.items() if key != "CUBLAS_WORKSPACE_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, when.split()[0]], env=environment, capture_output=True, text=True
    )
    if when == "late":
        assert "bench was imported after CUDA was used" in done.stderr
    else:
        assert (done.returncode, done.stdout.strip()) == (0, ":4096:8"), done.stderr
