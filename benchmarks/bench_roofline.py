"""Times what bounds every kernel: arithmetic, and memory from the first-level cache to main memory.

Of the CPU by loops that no kernel of ours takes part in. A device elsewhere is measured by the
backend that computes there: by a square matrix product, in full precision and in TF32, and by
p -= lr g, two arrays read, one written.
"""

import os
import time
from types import SimpleNamespace

from reference import FAMILIES, Case

from .reports.roofline import HOST
from .running import machine
from .suites import ceilings, grid
from .suites.suite import _Suite, suite, transfers

SIDE = 2048
THREADS = int(os.environ.get(machine.THREADS[0], machine.cores()))
WORK = THREADS << 27  # operations of the multiply-add loop: about a millisecond
REPEAT = (7, 20, 1.0)  # longer than the rest: everything is measured against these

_operations = {str(operation): operation for family in FAMILIES.values() for operation in family}
_square = Case(f"{SIDE}x{SIDE}", {"fan_in": SIDE, "fan_out": SIDE}, vary=False)
# An update rule takes (fan_in + 1) fan_out parameters: the weights and the bias.
_arrays = {
    str(n): Case(str(n), {"fan_in": n - 1, "fan_out": 1}, vary=False) for n in ceilings.ELEMENTS
}


class _Ceiling(_Suite):
    """What the CPU can do; `loop` makes the call of a size and a dtype."""

    timer = staticmethod(time.perf_counter)
    # Short samples, and many: the fastest counts, and other work may hold a core for milliseconds.
    sample_time = 0.0
    repeat = (7, 1000, 2.0)

    @classmethod
    def runs_on(cls, module):
        return module is ceilings

    @classmethod
    def times(cls, variant, dtype, module):
        return True

    def _prepare(self, *, layer, dtype, backend):
        self.call = self.loop(int(layer), dtype)


class _Elsewhere(_Suite):
    """What a device can do, by the backend that computes there."""

    @classmethod
    def runs_on(cls, module):
        return super().runs_on(module) and transfers(module)


def _ceiling(name, loop, sizes):
    """A suite of the CPU itself, over sizes that stand in the place of the layers."""
    axes = {"layer": list(map(str, sizes)), "dtype": grid.dtypes(), "backend": [HOST]}
    operations = {"": SimpleNamespace(name=name, function=loop)}
    layers = dict.fromkeys(axes["layer"])
    loop = staticmethod(loop)
    return suite(name, operations, axes, layers, base=_Ceiling, loop=loop)


def _product(name, variant, dtypes):
    """A suite of a square product; its activation costs as much as none does."""
    axes = {"layer": [_square.name], "dtype": dtypes, "batch": [SIDE], "backend": grid.backends()}
    operations, layers = {"": _operations[f"dense_forward[{variant}]"]}, {_square.name: _square}
    return suite(
        name, operations, axes, layers, lambda layer: (SIDE,), base=_Elsewhere, repeat=REPEAT
    )


multiply_add = _ceiling("multiply_add", ceilings.multiply_adds, [WORK])
stream = _ceiling("stream", ceilings.triads, ceilings.ELEMENTS)
product = _product("product", "identity", grid.dtypes())
product_tf32 = _product("product_tf32", "relu tf32", ("float32",))
triad = suite(
    "triad",
    {"": _operations["sgd"]},
    {"layer": list(_arrays), "dtype": grid.dtypes(), "backend": grid.backends()},
    _arrays,
    base=_Elsewhere,
    repeat=REPEAT,
)
