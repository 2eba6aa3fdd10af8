"""How the process ends: fast."""

import atexit
import functools
import gc


@functools.cache  # once per process
def end_quickly() -> None:
    """Lets the interpreter's end pass over all that torch imported: 0.2 s instead of a second.

    Not where a library made by nanobind is loaded (triton is one since 3.9, and every optimizer of torch imports it):
    it counts what the end leaves behind, and lists it as leaks.
    """
    atexit.register(_pass_over_all)


def _pass_over_all() -> None:
    nanobind = any(type(kind).__module__ == "nanobind" for kind in object.__subclasses__())
    (gc.unfreeze if nanobind else gc.freeze)()  # some is frozen between runs
