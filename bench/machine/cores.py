"""How many cores there are to use."""

import os


def count_cores() -> int:
    """The cores that this process may use: the machine's, less what affinity or a container's quota takes away."""
    import joblib  # 0.3 s, and few commands ask

    return int(joblib.cpu_count())


def limit_threads() -> None:
    """Has torch use no more threads than there are cores: by itself it does not look at a container's quota.

    Where the user has set how many there are, or there is no quota, nothing changes.
    """
    import torch

    cores = count_cores()
    if cores < torch.get_num_threads() and not {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & os.environ.keys():
        torch.set_num_threads(cores)
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(cores))  # its compilers are processes
