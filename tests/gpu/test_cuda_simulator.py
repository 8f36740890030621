"""The simulated GPU itself; what it computes is tested with the other backends."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ON_CUPY_ARRAYS, SIMULATED, backend_or_skip, case, verify

import kernels
from reference import OPERATIONS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def simulated():
    return backend_or_skip(SIMULATED[0])


@pytest.fixture
def on_cupy_arrays():
    return backend_or_skip(ON_CUPY_ARRAYS)


def python(code, folder=ROOT, **environment):
    """(stdout, stderr) of a process that has the project's packages from `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(folder), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    return done.stdout, done.stderr


def test_one_backend_for_every_order():
    loaded = [backend_or_skip(name) for name in SIMULATED]
    assert [backend.activations.device.order for backend in loaded] == [0, 1, 2]
    assert loaded[0] is kernels.load("cupy", simulate=True)


def test_arguments():
    with pytest.raises(ValueError, match="order must be one of forward, reversed, rotated"):
        kernels.load("cupy", simulate=True, order="sideways")
    with pytest.raises(ValueError, match="arrays must be one of numpy, cupy, got 'torch'"):
        kernels.load("cupy", simulate=True, arrays="torch")
    with pytest.raises(ValueError, match="simulate must be False for 'numba'"):
        kernels.load("numba", simulate=True)


def test_needs_no_cupy(simulated):
    code = """
import sys
sys.modules["cupy"] = None  # importing it fails
import kernels, numpy
gpu = kernels.load("cupy", simulate=True)
print(gpu.activation_forward(numpy.float32([[-1, 2]]), "relu"))
"""
    assert python(code) == ("[[0. 2.]]\n", "")


def test_arrays_of_cupy_need_cupy_alone(on_cupy_arrays):
    """No GPU, as in every test here that is not marked so; without CuPy one line says it."""
    code = """
import sys
if {missing}: sys.modules["cupy"] = None
import kernels
try: print(kernels.load("cupy", simulate=True, arrays="cupy").device.ndarray)
except kernels.Unavailable as error: print(error)
"""
    assert python(code.format(missing=False)) == ("<class 'cupy.ndarray'>\n", "")
    line = "backend cupy simulated: the package cupy is not installed\n"
    assert python(code.format(missing=True)) == (line, "")


def test_missing_compiler_is_named_in_one_line():
    code = """
import kernels
try: kernels.load("cupy", simulate=True)
except kernels.Unavailable as error: print(error)
"""
    line = "backend cupy simulated: g++ is missing (Debian, Ubuntu: apt install g++)\n"
    assert python(code, PATH="") == (line, "")


def test_cache_is_never_stale(simulated, tmp_path):
    """After a change in a header the new code runs, and the old library is gone."""
    shutil.copytree(ROOT / "kernels", tmp_path / "kernels")
    header = tmp_path / "kernels" / "cupy_gpu" / "include" / "activations.cuh"
    code = """
import kernels, numpy
gpu = kernels.load("cupy", simulate=True)
print(gpu.activation_forward(numpy.float32([[-1, 2]]), "relu"))
"""
    assert python(code, tmp_path) == ("[[0. 2.]]\n", "")
    relu = "return z <= 0 ? real(0) : z;"
    assert relu in header.read_text()
    header.write_text(header.read_text().replace(relu, "return z <= 0 ? real(7) : z;"))
    assert python(code, tmp_path) == ("[[7. 2.]]\n", "")
    (library,) = (tmp_path / ".cache" / "simulator").iterdir()
    assert library.name.startswith("activations-float32-plain-")


def test_read_only_checkout(simulated):
    """The libraries go to a folder that lasts as long as the process."""
    code = """
import kernels, numpy, pathlib
kernels.cache_folder = lambda name: None
gpu = kernels.load("cupy", simulate=True)
param = numpy.ones(2)
gpu.sgd(param, param.copy(), lr=0.5)
folder = gpu.simulator.build._cache()
print(param, len(list(folder.glob("*.so"))), folder)
"""
    said, complaint = python(code)
    assert said.startswith("[0.5 0.5] 1 /"), complaint
    assert not Path(said.split()[-1]).exists()


def test_what_is_never_written_is_nan(simulated):
    assert np.isnan(simulated.device.empty((2, 3), "float32")).all()


def test_arrays_of_cupy_are_assigned_and_viewed_as_on_a_gpu(on_cupy_arrays):
    host = np.arange(12, dtype=np.float32).reshape(3, 4)
    array = on_cupy_arrays.asarray(host)
    assert isinstance(array, on_cupy_arrays.device.ndarray)
    assert array.data.ptr % 512 == 0
    array[1:, ::2] = 7
    array.T[0] = on_cupy_arrays.asarray(np.float32([1, 2, 3]))
    flat = array.reshape(-1)
    flat[4:6].reshape(2, 1)[...] = on_cupy_arrays.asarray(np.float32([[8], [9]]))
    expected = [[1, 1, 2, 3], [8, 9, 7, 7], [3, 9, 7, 11]]
    np.testing.assert_array_equal(on_cupy_arrays.to_host(array), expected)
    kept = array.copy()
    array.fill(0)
    assert float(array[2, 3]) == 0
    assert kept.tolist() == expected
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array"):
        np.asarray(array)
    with pytest.raises(TypeError, match="Unsupported type"):
        array[0] = host[0]
    assert on_cupy_arrays.asarray(np.ones((0, 5))).shape == (0, 5)


@pytest.fixture(params=[SIMULATED[0], ON_CUPY_ARRAYS])
def any_arrays(request):
    return backend_or_skip(request.param)


@pytest.mark.parametrize(
    ("stale", "reused", "expected"), [(False, True, 1), (True, True, 2), (True, False, np.nan)]
)
def test_a_temporary_array_of_a_graph_is_reused_and_poisoned(any_arrays, stale, reused, expected):
    """A kernel that goes on reading the first finds the second in its place, or NaN."""
    device, copy = any_arrays.device, any_arrays.activation_forward
    one, two, total = (any_arrays.asarray(np.full((1, 3), v)) for v in (1.0, 2.0, 0.0))
    kept = []

    def work():
        first = copy(one, "identity")
        place = SimpleNamespace(address=device.address(first), bytes=np.empty(first.nbytes))
        read = device.array_over(place, first.shape, first.dtype) if stale else first
        kept.append(read)
        del first
        if reused:
            kept.append(copy(two, "identity"))
        any_arrays.sgd(total, read, lr=1.0)

    graph = device.capture(work)
    np.testing.assert_array_equal(any_arrays.to_host(total), -expected)
    for launches in (1, 2):
        graph.launch()
        np.testing.assert_array_equal(any_arrays.to_host(total), -(1 + launches) * expected)


def test_a_graph_keeps_no_array_but_its_own(any_arrays):
    """A view of one that is there is enough."""
    param, whole = any_arrays.asarray(np.zeros(3)), any_arrays.asarray(np.ones(4))
    views = [whole[1:]]
    graph = any_arrays.device.capture(lambda: any_arrays.sgd(param, views[0], lr=1.0))
    del whole
    graph.launch()
    np.testing.assert_array_equal(any_arrays.to_host(param), -2)
    views.clear()
    with pytest.raises(RuntimeError, match="a graph was launched that uses an array which is gone"):
        graph.launch()


def test_an_activation_without_a_number_is_an_error(any_arrays):
    z = any_arrays.asarray(np.ones((1, 3)))
    place = (
        r"activation_forward: __trap\(\) at activations\.cuh:\d+, called at activations\.cu:\d+$"
    )
    with pytest.raises(RuntimeError, match=place):
        any_arrays.activations.forward(z, 99, 0.0, None, z)


def test_a_kernel_takes_nothing_of_another_kind(on_cupy_arrays, monkeypatch):
    """What CuPy would take for something else: another array, and numbers of another size."""
    values, total = on_cupy_arrays.asarray(np.ones(4)), on_cupy_arrays.device.empty((), "float64")
    device = on_cupy_arrays.device
    with pytest.raises(TypeError, match=r"a kernel cannot take a numpy\.ndarray"):
        device.launch("total", (), values, np.empty(()), 4)
    planned = "losses", "float64", (1,), (256,)
    monkeypatch.setattr(on_cupy_arrays.runtime.table, "plan", lambda *given: (*planned, given[-1]))
    with pytest.raises(TypeError, match=r"a kernel cannot take a builtins\.int"):
        device.launch("total", (), values, total, 4)
    with pytest.raises(RuntimeError, match="argument 2 has 8 bytes where its parameter has 4"):
        device.launch("total", (), values, total, np.int64(4))
    assert np.isnan(float(total))
    device.launch("total", (), values, total, np.int32(4))
    assert float(total) == 4


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=str)
def test_size_of_the_grid_is_a_matter_of_speed_alone(simulated, operation, monkeypatch):
    """With few blocks every loop that strides over the grid goes round more than once."""
    monkeypatch.setattr(simulated.runtime.table, "BLOCKS", 2)
    rng = np.random.default_rng(0)
    for batch, fan_out in ((5, 600), (700, 3), (70, 70)):
        verify(simulated, operation, operation.sample(rng, case(batch, 9, fan_out)))
