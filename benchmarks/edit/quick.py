"""For the edit loop: one kernel before and after a change, in seconds.

    pytest benchmarks/edit/quick.py -k "adam and numba" --benchmark-autosave
    pytest benchmarks/edit/quick.py -k "adam and numba" --benchmark-compare
    FUSEBENCH_BACKEND=mine.py pytest benchmarks/edit/quick.py -k "adam and mine"

A kernel that disagrees with the oracle is refused, not timed. What is reported comes from asv. This
folder is no package, so that asv, which imports every module of benchmarks, leaves it alone.
"""

import pytest

import kernels
from benchmarks.suites import grid, suite, workloads
from reference import OPERATIONS

LAYERS = ("digits-64x128", "mnist-512x512")
BATCH = 32


@pytest.mark.parametrize("backend", grid.backends())
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=str)
def test_time(benchmark, operation, layer, backend):
    try:
        module = grid.load(backend)
    except kernels.Unavailable as reason:
        pytest.skip(str(reason))
    if not suite.offers(module, operation):
        pytest.skip(f"{backend} has no {operation}")
    inputs = suite.sampled(operation, workloads.layers()[layer], "float32", BATCH)
    call = suite.checked(operation, module, inputs)

    def until_done():
        call()
        module.synchronize()

    benchmark(until_done)
