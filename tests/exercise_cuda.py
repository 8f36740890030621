"""Runs the kernels at sizes and addresses where they err: exercise_cuda.py WHERE DTYPE [NAME ...]

WHERE is a variant of the simulated kernels: "plain", "contracted" (on CuPy's arrays), "address" or
"thread", these in a process that was started with the sanitizer's library preloaded
(test_cuda_sanitizers.py). Or it is "gpu": then the exercises run on the card, for NVIDIA's tool:

    compute-sanitizer --tool memcheck python tests/exercise_cuda.py gpu float32

and likewise racecheck, initcheck and synccheck. NAME is that of an operation, or "network"; without
any all are run. Results are compared with the oracle as in the tests, but for ThreadSanitizer and
NVIDIA's tool: a wrong access is one whatever comes out. Prints FINISHED at the end.
"""

import itertools
import sys
from functools import partial
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # or tests/reference is taken for it
from conftest import case as sized
from conftest import is_quick, on_device, verify
from network_cases import CASES, DEEP_CASES, create, rows, verify_step

import kernels
import reference
from kernels import catalog

# (batch, fan_in, fan_out) around the 16 bytes of a vector and the 32 lanes of a warp.
BORDERS = [(1, 1, 1), (3, 4, 5), (9, 7, 8), (33, 31, 32), (65, 63, 65), (4, 2, 1025), (1, 2, 130)]
SHAPES = {
    "plain": [(7, 5, 9), (3, 2, 600), (1, 2, 130)],
    "contracted": [(7, 5, 9), (3, 2, 600), (1, 2, 130)],
    "address": BORDERS,
    "gpu": BORDERS,
    # Enough for several blocks, and for loops over the grid that go round twice.
    "thread": [(9, 7, 8), (5, 2, 600), (600, 2, 3), (70, 33, 70), (1, 130, 1), (1, 2, 130)],
}
# What an activation or a rule computes changes no access, what it reads does: these VARIANTS of a
# dense layer are enough, and where only ACCESSES are looked at, of activations, and these RULES.
ACCESSES = {"thread", "gpu"}
VARIANTS = {"identity", "relu", "prelu", "gelu"}
RULES = {"sgd", "momentum", "adam", "amsgrad"}  # of 0, 1, 2 and 3 states
MOST_BLOCKS = 2  # in each direction of a grid
MANY_TILES = 1000, 1  # so that all tiles of a product are small, or all are large


def load(where):
    if where == "gpu":
        import cupy

        cupy.cuda.set_allocator(None)  # without a pool the tool knows where each array ends
        return kernels.load("cupy")
    arrays = "cupy" if where == "contracted" else "numpy"
    backend = kernels.load("cupy", simulate=True, order="rotated", arrays=arrays)
    backend.device.variant = where
    return backend


def shifted(asarray, host):
    """A copy that begins one element off the 16-byte border, and ends where its memory ends."""
    memory = asarray(np.empty(host.size + 1, host.dtype))
    view = memory[1:].reshape(host.shape)
    view[...] = asarray(host)
    return view


def _is_like_others(operation):
    """Whether it reads and writes what one of VARIANTS or RULES does."""
    if "activation" in operation.name or operation.name.startswith("dense"):
        return operation.variant not in VARIANTS
    return operation.name in catalog.RULES and operation.name not in RULES


def call(backend, operation, inputs):
    getattr(backend, operation.name)(**on_device(backend, inputs))


def train(backend, where, dtype):
    """Networks in one block, in one that takes the rows in chunks, and by a chain of launches."""
    fitting = backend.network.training.chunk_of
    for case in CASES | DEEP_CASES:
        print("network", case, flush=True)
        for most in (32, 12, 0):
            backend.network.chunk_of = lambda spec, most=most: min(most, fitting(spec))
            trained = create(backend.network, case, 30, dtype)
            x, labels = rows(case, 45, dtype)
            on_gpu = [backend.asarray(array) for array in (x, labels, np.arange(45)[::-1])]
            trained.epoch(*on_gpu)
            trained.evaluate(*on_gpu[:2])
            try:
                trained.epoch(*on_gpu[:2], backend.asarray(np.arange(20, 60)))
            except ValueError:
                pass  # rows that are not there are found before any is read
            else:
                raise AssertionError("rows out of range were not found")
            for part in (slice(30), slice(30, 45)) if where not in ACCESSES else ():
                verify_step(backend, trained, case, x[part], labels[part], dtype)


def main(where, dtype, *names):
    backend = load(where)
    backend.runtime.table.BLOCKS = MOST_BLOCKS
    operations = reference.OPERATIONS.values()
    check = call if where in ACCESSES else verify
    placements = backend.asarray, partial(shifted, backend.asarray)
    for asarray, many in itertools.product(placements, MANY_TILES):
        backend.asarray, backend.runtime.table.MANY_TILES = asarray, many
        for operation in operations:
            dense = operation.name.startswith("dense")
            few = dense or where in ACCESSES
            if (names and operation.name not in names) or (many == 1 and not dense):
                continue
            if few and _is_like_others(operation):
                continue
            print(operation, flush=True)
            rng = np.random.default_rng(0)
            for shape in (shape for shape in SHAPES[where] if is_quick(operation, *shape)):
                check(backend, operation, operation.sample(rng, sized(*shape, dtype)))
            if where not in ACCESSES:  # values at the borders change no order of accesses
                for _, inputs in operation.edges(np.dtype(dtype)):
                    check(backend, operation, inputs)
        if many > 1 and (not names or "network" in names):
            train(backend, where, dtype)
    print("FINISHED")


if __name__ == "__main__":
    main(*sys.argv[1:])
