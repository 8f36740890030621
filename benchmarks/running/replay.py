"""One cell's check once more, in a process of its own, or one case's of `check`: the line that
stands under every WRONG.

The inputs follow from the names of the cell, and those of a judged call from its seed, so that a
replay computes what the run did.
"""

import shlex
import traceback
from functools import partial

import kernels
from reference import FAMILIES, OPERATIONS

from .journal import FAILED, SKIPPED, STARTED, WRONG, limited


def line(cell, backend, file="", seed=None):
    """The command of a cell; `file` is where a user's own backend lies, `seed` that of the inputs
    of a judged call.
    """
    names = cell.function, cell.variant, cell.layer, cell.batch, cell.dtype, backend
    words = ["python", "-m", "benchmarks", "replay", *(str(name) for name in names if name)]
    if file and backend not in kernels.BACKENDS:
        words += ["--backend", str(file)]
    if seed is not None:
        words += ["--seed", str(seed)]
    return shlex.join(words)


def replay(function, *names, seed=None):
    """Checks a cell, says what came of it, and returns the exit status: 1 where it is wrong or
    raises, 2 where the backend does not have it.

    names: those of `line`, in any order; the layer may be a case of `check`, whose name has a
    colon. Of a judged call without a seed new inputs are drawn. Raises ValueError for what is none.
    """
    from ..suites.suite import Wrong  # here: this is what takes a second to import

    if any(":" in name for name in names):
        attempt = _case(function, names)
    else:
        suite, values = _found(function, names)
        attempt = partial(_judged, suite(), values, seed)
    try:
        attempt()
    except Wrong as complaint:
        print(f"{WRONG}: {complaint}")
        return 1
    except NotImplementedError as reason:
        print(f"{SKIPPED}: {reason}")
        return 2
    except Exception as error:
        traceback.print_exc()
        print(f"{FAILED}: {type(error).__name__}: {error}")
        return 1
    print("agrees with the float64 reference")
    return 0


def _judged(cell, values, seed):
    cell.seed = seed
    cell.setup(*values)
    cell.judged()


def _case(function, names):
    """What checks a case anew, and raises Wrong, of the operation that these names are of."""
    from ..checking.cases import DTYPES, cases
    from ..suites import grid
    from ..suites.suite import Wrong

    name = next(name for name in names if ":" in name)
    operations = [o for o in OPERATIONS.values() if o.name == function]
    variants = [o for o in operations if o.variant in (*names, "")][-1:]
    dtypes = [name for name in names if name in DTYPES]
    backends = [name for name in names if name in grid.backends()]
    if not (variants and dtypes and backends):
        raise ValueError(f"{name} needs a function of the catalogue, a dtype and a backend too")
    asked = [a for a in cases(variants[0], dtypes[0], everything=True) if a.name == name]
    if not asked:
        raise ValueError(f"{variants[0]} has no {name}")

    def attempt():
        with limited(STARTED):
            complaint = asked[0].complaint(grid.load(backends[0]))
        if complaint:
            raise Wrong(complaint)

    return attempt


def _found(function, names):
    """(the suite of a function, the values of its axes that these names are)."""
    from .runner import suites

    known = {name: cls for family in (*FAMILIES, "network") for name, cls in suites(family)}
    if function not in known:
        raise ValueError(f"there is no function {function}, but {', '.join(known)}")
    cls = known[function]
    chosen = {"variant": ""} if "variant" in cls.axes else {}
    for name in names:
        name = int(name) if name.isdecimal() else name
        fitting = [axis for axis, values in cls.axes.items() if name in values]
        if name in cls.layers:  # of which not every one is in the grid
            fitting = ["layer"]
        if not fitting:
            raise ValueError(f"{function} has no {name}")
        chosen[fitting[0]] = name
    if missing := [axis for axis in cls.axes if axis not in chosen]:
        raise ValueError(f"{function} needs a {' and a '.join(missing)} too")
    return cls, tuple(chosen[axis] for axis in cls.axes)
