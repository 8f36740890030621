"""Statistics on the GPU: subnormal numbers, as the compiler treats them, and bins by starts."""

import re

import numpy as np
import pytest
from conftest import SIMULATED, backend_or_skip, over_dtypes

pytest.importorskip("cupy", reason="CuPy and its CUDA compiler are not installed (--no-gpu)")

from cupy.cuda import nvrtc

from kernels.cupy_gpu import statistics
from kernels.cupy_gpu.runtime import table
from kernels.cupy_gpu.runtime.resources import compile_text


def entries(file):
    """{kernel: its PTX} in float32, as CuPy has it compiled."""
    program, _ = compile_text(table.source(file), "compute_80", table.options("float32"))
    text = nvrtc.getPTX(program).decode()
    return dict(re.findall(r"\.entry (\w+)\((.*?)^\}", text, re.DOTALL | re.MULTILINE))


def test_no_count_compares_floats():
    """A float32 comparison takes subnormal numbers for 0 (CuPy passes -ftz=true)."""
    found = entries("statistics")
    for kernel in ("sparsity", "count_inside", "count_outside", "histogram"):
        assert not re.findall(r"setp\.\w+\.ftz\.\w+", found[kernel]), kernel
    assert re.search(r"setp\.\w+\.ftz\.f32", found["squares"])


@over_dtypes
@pytest.mark.parametrize(
    ("low", "high", "bins"),
    [(0.0, 1.0, 10), (-1.0, 1.0, 1000), (0.1, 0.7, 7), (-0.0, 1e-40, 3), (1e8, 1e8 + 1, 5)],
)
def test_bins_begin_at_their_starts(dtype, low, high, bins):
    """A start is in its bin or one behind it, the number below it in one before."""
    dtype = np.dtype(dtype)
    starts = statistics.starts(low, high, bins, dtype)
    number = np.arange(bins)

    def place(x):
        x = x.astype(np.float64)
        return np.where(
            x < low, -1, np.minimum(np.floor((x - low) * (bins / (high - low))), bins - 1)
        )

    reached = starts <= dtype.type(high)
    assert np.isinf(starts[~reached]).all() or (starts[~reached] > high).all()
    assert (place(starts)[reached] >= number[reached]).all()
    before = np.nextafter(starts, dtype.type(-np.inf))
    assert (place(before) < number)[reached].all()


@pytest.mark.parametrize("name", SIMULATED)
def test_one_array_and_many_blocks(name, monkeypatch):
    """Norms and counts of more elements than a grid has threads."""
    gpu = backend_or_skip(name)
    monkeypatch.setattr(gpu.runtime.table, "BLOCKS", 2)
    x = np.random.default_rng(0).standard_normal((90, 101)).astype(np.float32)
    there = gpu.asarray(x)
    assert gpu.to_host(gpu.sparsity(there, threshold=1.0)).tolist() == [0, (np.abs(x) <= 1).sum()]
    norm = float(gpu.to_host(gpu.global_norm((there, there))))
    assert norm == pytest.approx(np.sqrt(2 * np.square(x, dtype=np.float64).sum()), rel=1e-6)
    found = gpu.to_host(gpu.histogram(there, low=-2.0, high=2.0, bins=16))
    assert found[:16].tolist() == np.histogram(x, 16, (-2, 2))[0].tolist()
