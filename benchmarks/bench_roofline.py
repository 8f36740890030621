"""Times what bounds every kernel: arithmetic, and memory from the first-level cache to main memory.

Of the CPU by loops that no kernel of ours takes part in. A device elsewhere is measured by the
backend that computes there: by a square matrix product, in full precision and in TF32, and by
p -= lr g, two arrays read, one written.
"""

import os
import time
from functools import partial
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
    str(n): Case(str(n), {"fan_in": n - 1, "fan_out": 1}, vary=False)
    for n in (1 << 12, 1 << 16, 1 << 20, 1 << 21, 1 << 22, 1 << 24)
}


class _Ceiling(_Suite):
    """What the CPU can do; the functions make the call of a size and a dtype."""

    timer = staticmethod(time.perf_counter)
    # Short samples, and many: the fastest counts, and other work may hold a core for milliseconds.
    sample_time = 0.0
    repeat = (7, 1000, 0.12)

    @classmethod
    def runs_on(cls, module):
        return module is ceilings

    @classmethod
    def times(cls, variant, dtype, module):
        return True

    def _prepare(self, *, layer, dtype, backend, variant=""):
        self.call = self.operations[variant].function(int(layer), dtype)


class _Elsewhere(_Suite):
    """What a device can do, by the backend that computes there."""

    @classmethod
    def runs_on(cls, module):
        return super().runs_on(module) and transfers(module)


def _ceiling(name, loops, sizes, dtypes, **attributes):
    """A suite of the CPU itself, `loops` by variant, over sizes in the place of the layers."""
    axes = {"variant": list(loops)} if loops.keys() != {""} else {}
    axes |= {"layer": list(map(str, sizes)), "dtype": dtypes, "backend": [HOST]}
    operations = {v: SimpleNamespace(name=name, function=loop) for v, loop in loops.items()}
    layers = dict.fromkeys(axes["layer"])
    return suite(name, operations, axes, layers, base=_Ceiling, **attributes)


def _multiply_adds(name, alone):
    loops = {"": partial(ceilings.multiply_adds, alone=alone)}
    return _ceiling(name, loops, [WORK], grid.dtypes(), repeat=(7, 1000, 0.5))


def _streams(name, footprints, alone):
    """Bytes are the same whatever they hold: of one dtype."""
    loops = {way: partial(ceilings.streams, way, alone=alone) for way in ceilings.WAYS}
    return _ceiling(name, loops, footprints, ("float32",))


def _product(name, variant, dtypes):
    """A suite of a square product; its activation costs as much as none does."""
    axes = {"layer": [_square.name], "dtype": dtypes, "batch": [SIDE], "backend": grid.backends()}
    operations, layers = {"": _operations[f"dense_forward[{variant}]"]}, {_square.name: _square}
    return suite(
        name, operations, axes, layers, lambda layer: (SIDE,), base=_Elsewhere, repeat=REPEAT
    )


multiply_add = _multiply_adds("multiply_add", alone=False)
multiply_add_alone = _multiply_adds("multiply_add_alone", alone=True)
stream = _streams("stream", ceilings.FOOTPRINTS, alone=False)
stream_alone = _streams("stream_alone", ceilings.ALONE, alone=True)
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
