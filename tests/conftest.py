"""Which backends a test runs over, and how one operation is run and compared with the oracle."""

import os
import shutil
import sys
from pathlib import Path
from textwrap import dedent

import pytest

# Of two processes that compile at once each has a cache of its own: Numba's takes one writer. Their
# children, which may have loaded the kernels before this file, find it.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and "kernels" not in sys.modules:
    os.environ["NUMBA_CACHE_DIR"] = str(Path(__file__).resolve().parents[1] / ".cache" / worker)

import kernels
from benchmarks.checking.cases import SHAPES, is_quick  # noqa: F401  for the tests, as the next
from benchmarks.checking.comparison import as_tuple, call, complaint, on_device  # noqa: F401
from reference import Case
from reference.spec import arrays_of

# Each of these has a name for `-k`. The simulated GPU stays out of tests on whole workloads, for
# which it is too slow: they take NATIVE or FAST_NATIVE.
NATIVE = ("numpy", "numba", pytest.param("cupy", marks=pytest.mark.gpu))
FAST_NATIVE = NATIVE[1:]
SIMULATED = ("simulated-forward", "simulated-reversed", "simulated-rotated")
# CuPy's arrays, and multiply-adds fused as on a GPU.
ON_CUPY_ARRAYS = "simulated-forward-cupy"
IN_EVERY_ORDER = (ON_CUPY_ARRAYS, *SIMULATED[1:])


over_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run the tests marked slow as well")


FIGURES = pytest.StashKey()


@pytest.fixture
def figures(request):
    """Lines for the end of the tests' report: what was measured, and is neither right nor wrong."""
    return request.config.stash.setdefault(FIGURES, [])


def pytest_sessionfinish(session):
    """What a process of several has to say reaches the one that reports."""
    if worker:
        session.config.workeroutput["figures"] = session.config.stash.get(FIGURES, [])
        mine = Path(os.environ["NUMBA_CACHE_DIR"])
        for folder in mine.parent.glob("*"):  # of code that has changed since
            if folder != mine:
                shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.stash.setdefault(FIGURES, []).extend(
        getattr(node, "workeroutput", {}).get("figures", [])
    )


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash.get(FIGURES, []):
        terminalreporter.write_line(line)


COMPILING = {"kernels", "network", "numba", "reference"}  # rooms whose tests compile for Numba


def half_of(nodeid):
    """Which of two processes takes a test: one takes what Numba compiles, in order, so that little
    is compiled twice.
    """
    path, _, name = nodeid.partition("::")
    parameters = name.partition("[")[2]
    compiles = "simulated" not in parameters and Path(path).parent.name in COMPILING
    compiles |= "numba" in parameters
    return "compiling" if compiles else "others"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """By the names of tests alone: xdist's own groups are marks, which some versions overlook."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Halves(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return half_of(nodeid)

    return Halves(config, log)


def pytest_collection_modifyitems(config, items):
    """What is slow stands behind --all; how many tests were left out shows as deselected."""
    if config.getoption("--all"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


def backend_or_skip(name):
    kind, *options = name.split("-")
    try:
        if kind == "simulated":
            names = dict(zip(("order", "arrays"), options, strict=False))
            return kernels.load("cupy", simulate=True, **names)
        return kernels.load(name)
    except kernels.Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session", params=(*NATIVE, *IN_EVERY_ORDER))
def backend(request):
    """Every backend that can run here, the reference among them."""
    return backend_or_skip(request.param)


@pytest.fixture(scope="session", params=(*FAST_NATIVE, *IN_EVERY_ORDER))
def fast_backend(request):
    """The backends that check their arguments: all but the reference."""
    return backend_or_skip(request.param)


def case(batch, fan_in, fan_out, dtype="float32", vary=True):
    """A case of these sizes; hyperparameters vary unless the defaults are wanted."""
    sizes = {"batch": batch, "fan_in": fan_in, "fan_out": fan_out}
    return Case("test", sizes, dtype, vary=vary)


def verify(backend, operation, inputs):
    """Run the operation on these inputs and hold everything it promises against the oracle."""
    found = complaint(backend, operation, inputs)
    assert found is None, found


def user_module(folder, source):
    path = folder / "mine.py"
    path.write_text("import numpy as np\nimport reference\n" + dedent(source))
    return path


def moved(operation, inputs, results):
    """Bytes of the arrays that a call reads, once, and of those that it writes, once.

    Of the same function's arguments some are not read, or not all of them.
    """
    unread = "saved" if str(operation).endswith("backward[identity]") else None
    unread = {"initialize": "weight", "random_affine": "matrices"}.get(operation.name, unread)
    read = {name: value for name, value in inputs.items() if name != unread}
    chosen = {"sparse_categorical_cross_entropy": "probabilities", "nll": "log_probabilities"}
    if name := chosen.get(operation.name):
        read[name] = read[name][:, 0]  # one of each row
    if operation.name == "clip_by_global_norm":
        results = results[-1:]  # where the limit is not reached
    return sum(array.nbytes for array in (*arrays_of(read), *results))


@pytest.fixture
def house(monkeypatch, tmp_path):
    """A place of its own for journals and recorded results."""
    from benchmarks.reports import results
    from benchmarks.running import journal

    monkeypatch.setattr(journal, "FOLDER", tmp_path / "journal")
    monkeypatch.setattr(results, "RECORDED", tmp_path / "recorded")
    monkeypatch.setenv(journal.VARIABLE, "")
    return tmp_path
