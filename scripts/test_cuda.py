"""One command for a machine with a GPU: what is there, the tests, a short training, the open questions, the speed.

    python scripts/test_cuda.py [--cpu] [--images FOLDER] [--out FILE]

Each part has a time limit, and what it printed is added to FILE (cuda.txt) as it ends, so that a cut leaves what was
found. FOLDER holds CIFAR-10 as pictures, train/<class>/ and test/<class>/; without it its original files are looked
for. With --cpu the CPU stands in the card's place, on small sizes: that tries this script, and measures nothing. It
needs torch, torchvision, pandas, rich, hydra-core and pytest, and no network.
"""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

ROOT = Path(__file__).resolve().parents[1]
PYTHON = shlex.quote(sys.executable)
SEEN = """
nvidia-smi --query-gpu=name,driver_version,memory.total,compute_mode --format=csv,noheader || true
{python} -c "import sys, torch; print(sys.version); print(torch.__config__.show())"
{python} -m bench doctor
"""


def make_parts(cpu: bool, images: str | None, results: str) -> list[tuple[str, int, str]]:
    """Of each part its name, its seconds and its commands for the shell."""
    data = f"dataset=image_folder dataset.root={shlex.quote(images)}" if images else "dataset=cifar10"
    if cpu and not images:
        data = "dataset=synthetic dataset.train_images=300 dataset.image_size=32 dataset.channels=3 train.batch_size=64"
    fast = f"{PYTHON} -m bench run +exp=cifar_fast {data} seed=0 results_dir={results}"
    epochs, width = (1, "model.width=4 dataset.train_size=128") if cpu else (4, "")
    compiled = "regularizer=none,sam train.compile=false,true train.epochs=2 exp=cuda_compiled"
    flag = "--cpu" if cpu else ""
    sizes = "model=mlp regularizer=none dataset.train_images=600 train.device=cpu" if cpu else ""
    speed = f"scripts/measure_speed.sh --quick {sizes}" + f" results_dir={results}" * cpu
    return [
        ("seen", 30, SEEN.format(python=PYTHON)),
        (
            "tests",
            90,
            f"{PYTHON} -m pytest -q -p no:cacheprovider -m {'not slow' if cpu else 'cuda'!r} "
            f"{'tests/test_meta.py' if cpu else ''} 2>&1",
        ),
        ("training", 40, f"{fast} train.epochs={epochs} {width}"),
        ("questions", 50, f"{PYTHON} scripts/cuda_questions.py {flag}"),
        ("speed", 240 if cpu else 90, f"REGBENCH='{PYTHON} -m bench' {speed}"),
        ("compiled", 55, f"{fast} {compiled} {width}"),
    ]


def run(name: str, seconds: int, commands: str) -> tuple[bool, str]:
    """Whether a part ended well, and what it printed, how long it took, and how it ended."""
    started = perf_counter()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "cwd": ROOT, "env": environment}
    with subprocess.Popen(["bash", "-c", commands], start_new_session=True, encoding="utf-8", **how) as process:
        try:
            out, end = process.communicate(timeout=seconds)[0], f"exit code {process.wait()}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # with all that it has started
            out, end = process.communicate()[0], f"cut after its {seconds} s"
    return end == "exit code 0", f"== {name}: {end}, {perf_counter() - started:.0f} s\n{out}\n"


def main() -> int:
    """Does each part; 0 if all ended well, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--images")
    parser.add_argument("--out", type=Path, default=Path("cuda.txt"))
    options = parser.parse_args()
    good = True
    options.out.write_text("", "utf-8")
    with TemporaryDirectory() as results:
        for name, seconds, commands in make_parts(options.cpu, options.images, results):
            ended_well, told = run(name, seconds, commands)
            good &= ended_well
            print(told, flush=True)
            with options.out.open("a", encoding="utf-8") as file:
                file.write(told)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
