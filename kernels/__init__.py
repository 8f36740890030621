"""The fast kernels. `load` returns a backend: a module with the functions of `reference`, by name.

A backend may expose only some of them. Four more functions belong to every backend: asarray(host)
and to_host(array) move data, synchronize() waits until all work is done, timer() reads a clock
whose differences are seconds. A module without these computes on NumPy arrays, with no waiting.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import os
import shutil
import sys
import time
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from .arguments import Unavailable

HERE = Path(__file__).resolve().parent
INSTALLED = any(HERE.parent.glob("fusebench-*.dist-info"))  # by pip, not a checkout
VERSIONS = 3  # others whose caches are kept, where they share a folder
COMPILED = ("*.py", "network/*.py", "numba_cpu/**/*.py")  # what Numba's code depends on
BACKENDS = {"numpy": "reference", "numba": "kernels.numba_cpu", "cupy": "kernels.cupy_gpu"}
SIMULATED = {"cupy": "cupy_gpu"}  # the folders of the backends that have a simulator
DEVICE_FUNCTIONS = {
    "asarray": lambda host: np.asarray(host, order="C"),
    "to_host": lambda array: array,
    "synchronize": lambda: None,
    "timer": time.perf_counter,
}


def cache_folder(name):
    """The folder for what is made at run time: in this checkout or, where pip installed this, in
    the user's cache. None where it cannot be written.
    """
    place = HERE.parent
    if INSTALLED:
        place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fusebench"
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
    if not os.access(place, os.W_OK):
        return None
    return place / name if INSTALLED else place / ".cache" / name


def _use_own_cache():
    """Give Numba a cache folder named by the content of what it compiles, and drop older ones.

    Numba's own check sees only the file of the function that it compiles, not those of the
    functions it calls, and would return stale code. The folder lies in the one that
    NUMBA_CACHE_DIR names, where it is set, else in this checkout or in the user's cache. A child
    process finds its parent's folder there, and takes its own beside it: the files may have changed
    meanwhile.
    """
    digest = hashlib.sha256()
    for source in sorted(path for pattern in COMPILED for path in HERE.glob(pattern)):
        digest.update(source.read_bytes())
    name = f"fusebench-numba-{digest.hexdigest()[:16]}"
    mine = folder = cache_folder(name)
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        given = Path(given)
        is_ours = given.name.startswith("fusebench-numba-")
        folder = (given.parent if is_ours else given) / name
    if not folder:
        return
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if "numba" in sys.modules:  # it has read the environment already
        sys.modules["numba"].config.reload_config()
    if folder == mine:  # elsewhere other checkouts may have theirs
        others = [path for path in folder.parent.glob("*numba-*") if path != folder]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for old in others[INSTALLED * VERSIONS :]:
            shutil.rmtree(old, ignore_errors=True)


_use_own_cache()


def load(name, *, simulate=False, order="forward", arrays="numpy"):
    """The backend "numpy", "numba" or "cupy", or the module in the Python file `name`.

    With `simulate` the kernels of "cupy" run on the CPU: for tests, far too slow for more. Their
    threads then run in the `order` "forward", "reversed" or "rotated", on `arrays` of "numpy", or
    of "cupy" over the memory of the CPU.
    Raises Unavailable where it cannot run here and ValueError where there is no such backend.
    """
    if simulate:
        if name not in SIMULATED:
            only = ", ".join(SIMULATED)
            raise ValueError(f"simulate must be False for {name!r}: only {only} is simulated")
        return _simulated(HERE / SIMULATED[name], order, arrays)
    if str(name).endswith(".py"):
        module = _from_file(Path(name))
    elif name in BACKENDS:
        try:
            module = importlib.import_module(BACKENDS[name])
        except ModuleNotFoundError as error:
            raise Unavailable(
                f"backend {name}: the package {error.name} is not installed"
            ) from None
    else:
        known = ", ".join(BACKENDS)
        raise ValueError(f"backend must be one of {known} or a path to a .py file, got {name!r}")
    module.synchronize()  # a backend whose device is missing says so here
    return module


@cache
def _simulated(folder, order, arrays):
    """The package of a backend imported once more, with its simulator in the device's place."""
    twin = f"kernels.cupy_simulated_{order}_{arrays}"
    spec = importlib.util.spec_from_file_location(twin, folder / "__init__.py")
    module = sys.modules[twin] = importlib.util.module_from_spec(spec)
    simulator = importlib.import_module(f"{twin}.simulator")
    sys.modules[f"{twin}.runtime"].device = simulator.device(order, arrays)
    spec.loader.exec_module(module)
    return module


def _from_file(path):
    """The user's own module in a file, completed."""
    if not path.is_file():
        raise ValueError(f"backend {path}: there is no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return completed(module)


def completed(module):
    """A copy of a user's module with the device functions that it does not define."""
    whole = ModuleType(module.__name__, module.__doc__)
    vars(whole).update({**DEVICE_FUNCTIONS, **vars(module)})
    return whole
