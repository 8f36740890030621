"""Times what bounds every kernel: a triad (memory) and a square matrix product (arithmetic).

Both are operations of the reference. p -= lr g is a triad: two arrays read, one written. Its
smallest size lies in the first-level cache, its largest in main memory.
"""

from reference import FAMILIES, Layer

from . import grid
from .suite import suite

SIDE = 2048
ELEMENTS = (2**12, 2**16, 2**20, 2**21, 2**22, 2**24)
REPEAT = (7, 20, 1.0)  # longer than the rest: everything is measured against these

_operations = {str(operation): operation for family in FAMILIES.values() for operation in family}
_square = Layer(f"{SIDE}x{SIDE}", SIDE, SIDE)
# An update rule takes (fan_in + 1) fan_out parameters: the weights and the bias.
_arrays = {str(n): Layer(str(n), n - 1, 1) for n in ELEMENTS}

product = suite(
    "product",
    {"": _operations["dense_forward[identity]"]},
    {
        "layer": [_square.name],
        "dtype": grid.dtypes(),
        "batch": [SIDE],
        "backend": grid.backends(),
    },
    {_square.name: _square},
    lambda layer: (SIDE,),
    repeat=REPEAT,
)
triad = suite(
    "triad",
    {"": _operations["sgd"]},
    {"layer": list(_arrays), "dtype": grid.dtypes(), "backend": grid.backends()},
    _arrays,
    repeat=REPEAT,
)
