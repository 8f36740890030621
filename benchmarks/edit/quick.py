"""For the edit loop: one kernel before and after a change, in seconds.

    pytest benchmarks/edit/quick.py -k "adam and numba" --benchmark-autosave
    pytest benchmarks/edit/quick.py -k "adam and numba" --benchmark-compare

A kernel that disagrees with the oracle is refused, not timed. What is reported comes from asv. This
folder is no package, so that asv, which imports every module of benchmarks, leaves it alone.
"""

import pytest

import kernels
from benchmarks.suites import suite, workloads
from reference import FAMILIES

OPERATIONS = [operation for family in FAMILIES.values() for operation in family]
LAYERS = ("digits-64x128", "mnist-512x512")
BATCH = 32


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_time(benchmark, operation, layer, backend):
    try:
        module = kernels.load(backend)
    except kernels.Unavailable as reason:
        pytest.skip(str(reason))
    inputs = suite.sampled(operation, workloads.layers()[layer], "float32", BATCH)
    call = suite.checked(operation, module, inputs)

    def until_done():
        call()
        module.synchronize()

    benchmark(until_done)
