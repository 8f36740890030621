"""Which backends a test runs over, and how one operation is run and compared with the oracle."""

import os
import shutil
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

# Of two processes that compile at once each has a cache of its own: Numba's takes one writer. Their
# children, which may have loaded the kernels before this file, find it.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and "kernels" not in sys.modules:
    os.environ["NUMBA_CACHE_DIR"] = str(Path(__file__).resolve().parents[1] / ".cache" / worker)

import kernels
from reference import FAMILIES, Case
from reference.spec import arrays_of, with_arrays

# Each of these has a name for `-k`. The simulated GPU stays out of tests on whole workloads, for
# which it is too slow: they take NATIVE or FAST_NATIVE.
NATIVE = ("numpy", "numba", pytest.param("cupy", marks=pytest.mark.gpu))
FAST_NATIVE = NATIVE[1:]
SIMULATED = ("simulated-forward", "simulated-reversed", "simulated-rotated")
# CuPy's arrays, and multiply-adds fused as on a GPU.
ON_CUPY_ARRAYS = "simulated-forward-cupy"
IN_EVERY_ORDER = (ON_CUPY_ARRAYS, *SIMULATED[1:])


over_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

# (batch, fan_in, fan_out): one element, one row, one column, and around the widths of a vector
# (4, 8, 16), a warp (32) and their multiples.
SHAPES = [
    *[(1, 1, 1), (1, 1, 2), (2, 1, 1), (1, 1, 33), (33, 1, 1), (1, 65, 1), (3, 2, 2)],
    *[(3, 4, 5), (5, 3, 4), (7, 8, 9), (8, 9, 7), (9, 7, 8), (15, 16, 17), (16, 17, 15)],
    *[(17, 15, 16), (31, 32, 33), (32, 33, 31), (33, 31, 32), (63, 64, 65), (64, 65, 63)],
    *[(65, 63, 64), (127, 10, 129), (128, 129, 10), (129, 128, 127), (257, 2, 33), (4, 2, 1025)],
    (1, 2, 130),
]
MOST_STATES = 300


def is_quick(operation, batch, fan_in, fan_out):
    """Not so a recurrent layer of many units: it takes fan_out^2 terms a row, a step and a gate."""
    return operation not in FAMILIES["recurrent"] or batch * fan_out <= MOST_STATES


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


def on_device(backend, inputs):
    """The inputs as the backend wants them; arrays are copies."""
    return with_arrays(lambda array: backend.asarray(array.copy()), inputs)


def case(batch, fan_in, fan_out, dtype="float32", vary=True):
    """A case of these sizes; hyperparameters vary unless the defaults are wanted."""
    sizes = {"batch": batch, "fan_in": fan_in, "fan_out": fan_out}
    return Case("test", sizes, dtype, vary=vary)


def poisoned(backend, results):
    """Output arrays full of NaN, or of another value, so that an element never written shows."""
    wrong = (np.full_like(r, np.nan) if r.dtype.kind == "f" else ~r for r in results)
    return tuple(map(backend.asarray, wrong))


def as_tuple(results):
    return results if isinstance(results, tuple) else (results,)


def assert_same(before, after, name):
    np.testing.assert_array_equal(before, after, err_msg=name, strict=True)


def call(backend, operation, inputs, out=None):
    """(what was returned, the results as host arrays, the arguments) of a call on copies."""
    arguments = on_device(backend, inputs)
    given = {} if out is None else {"out": out if len(out) > 1 else out[0]}
    with np.errstate(all="ignore"):
        returned = getattr(backend, operation.name)(**arguments, **given)
    backend.synchronize()
    results = tuple(backend.to_host(r) for r in operation.collect(arguments, returned))
    return returned, results, arguments


def verify(backend, operation, inputs):
    """Run the operation on these inputs and hold everything it promises against the oracle."""
    returned, results, arguments = call(backend, operation, inputs)
    assert (complaint := operation.disagreement(inputs, results)) is None, complaint
    for name, value in inputs.items():
        for before, after in zip(as_tuple(value), as_tuple(arguments[name]), strict=True):
            if isinstance(before, np.ndarray) and name not in operation.in_place:
                assert_same(before, backend.to_host(after), f"{name} was changed")
    if not operation.returns:
        return
    out = poisoned(backend, map(backend.to_host, as_tuple(returned)))
    returned, again, _ = call(backend, operation, inputs, out)
    for given, got in zip(out, as_tuple(returned), strict=True):
        assert got is given, f"{operation} must return the arrays given as out"
    for expected, got in zip(results, again, strict=True):
        assert_same(expected, got, f"{operation} with out=")


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
