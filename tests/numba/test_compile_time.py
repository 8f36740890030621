"""How long the first calls of each family take from an empty cache, told at the end of the report.

Meant are under 40 s for the float32 of one family and under 180 s for all of it, on two cores.
"""

import pytest
from test_threads import CALLS, said

from reference import FAMILIES

# What the first calls take longer than the second ones, of a core: others may use it meanwhile.
FIRST_AND_SECOND = """
family = "FAMILY"
chosen = set(map(str, reference.FAMILIES.get(family, ())))
if family == "network":
    chosen = set(CASES) - set(OPERATIONS)
chosen = [case for name, case in CASES.items() if family == "everything" or name in chosen]


def taken(dtype):
    started = time.process_time()
    for case in chosen:
        case(dtype=dtype)
    return time.process_time() - started


for dtype in ("float32", "float64")[: 1 + (family == "everything")]:
    print(taken(dtype) - taken(dtype))
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, "network", "everything"])
def test_time_to_compile(tmp_path, figures, family):
    """A family is compiled when it is first used: a process that calls one waits for no other."""
    code = CALLS + FIRST_AND_SECOND.replace("FAMILY", family)
    single, *double = map(float, said(code, 1500, NUMBA_CACHE_DIR=str(tmp_path)).split())
    more = "".join(f", {seconds:.0f} s more in float64" for seconds in double)
    figures.append(f"Compiling {family}: {single:.0f} s in float32{more}")
    assert single > 0
