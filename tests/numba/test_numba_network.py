"""The network on the CPU: its memory and its threads."""

import tracemalloc

import numba
import numpy as np
import pytest
from network_cases import BUSY, LARGE, NETWORKS, SMALL, make, sample

from kernels import numba_cpu
from kernels.network import description


def test_buffers_are_aligned():
    for dtype in ("float32", "float64"):
        network = make(numba_cpu, SMALL, dtype=dtype)
        for name, array in network.parameters.items():
            assert array.ctypes.data % description.ALIGNMENT == 0, name


@NETWORKS
def test_a_step_allocates_nothing(network):
    """Neither Python objects that stay nor memory of Numba's own."""
    from numba.core.runtime import _nrt_python, rtsys

    x, labels = sample(network, 16, dtype="float32")
    network = make(numba_cpu, network, dtype="float32")
    order = np.arange(16)
    network.step(x, labels)
    network.epoch(x, labels, order)
    tracemalloc.start()
    network.step(x, labels)
    start, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    for _ in range(100):
        network.step(x, labels)
    end, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert end - start < 200
    assert peak - start < 2000  # a few floats and tuples, never an array

    # Numba allocates a handle for every array that it is passed: as many for ten steps as for one.
    _nrt_python.memsys_enable_stats()
    counts = [rtsys.get_allocation_stats().alloc]
    for steps in (1, 10):
        network.epoch(x, labels, np.resize(order, 16 * steps))
        counts.append(rtsys.get_allocation_stats().alloc)
    assert counts[1] - counts[0] == counts[2] - counts[1]


@pytest.mark.parametrize("network", [BUSY, LARGE], ids=["busy", "large"])
def test_threads_change_no_bit(network):
    x, labels = sample(network, 300, dtype="float32")
    results = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        net = make(numba_cpu, network, dtype="float32", batch=300)
        losses = [net.step(x, labels) for _ in range(5)]
        results.append((losses, net.state()))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert results[0][0] == results[1][0]
    for name, array in results[0][1].items():
        np.testing.assert_array_equal(array, results[1][1][name])
