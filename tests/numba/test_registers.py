"""The sums of a product stay in registers: none is stored and loaded again within a loop, where
every step would wait for it.
"""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

AVX2 = "+avx,+avx2,+fma,+sse4.2,+bmi,+bmi2,+f16c,+lzcnt,+movbe,+popcnt"
AVX512 = f"{AVX2},+avx512f,+avx512vl,+avx512dq,+avx512bw"
FEATURES = {"haswell": AVX2, "znver3": AVX2, "skylake-avx512": AVX512}
CASES = [
    ("dot", "float32", "haswell"),
    *(
        pytest.param(name, dtype, processor, marks=pytest.mark.slow)
        for name in ("dot", "tile")
        for dtype in ("float32", "float64")
        for processor in ("znver3", "skylake-avx512")
    ),
]
# A vector that the stack holds.
SPILLED = re.compile(r"[xyz]mm\d+, .*\(%[re]sp\)|\(%[re]sp\), .*[xyz]mm\d+")


def innermost_loops(assembler):
    """The lines of each loop without a label inside that multiplies and adds."""
    lines = assembler.splitlines()
    labels = {line[:-1]: n for n, line in enumerate(lines) if re.fullmatch(r"\.L\w+:", line)}
    for n, line in enumerate(lines):
        jump = re.match(r"\s+j\w+\s+(\.L\w+)", line)
        body = lines[labels[jump[1]] + 1 : n] if jump and labels.get(jump[1], n) < n else []
        if any("fmadd" in line for line in body) and not labels.keys() & {x[:-1] for x in body}:
            yield body


def print_assembler(name, dtype):
    import numba
    from numba import types

    from kernels.numba_cpu.codegen.vectors import Matrix
    from kernels.numba_cpu.gemm import microkernel

    function = getattr(microkernel, name)
    pointer, n = types.CPointer(getattr(types, dtype)), types.intp

    def dot(a, b, c, step, depth, rows, cols, bias):
        function(Matrix(a, step), Matrix(b, step), Matrix(c, step), depth, rows, cols, bias)

    def tile(a, b, c, step, depth, rows, cols, bias):
        a, b, c = Matrix(a, step), Matrix(b, step), Matrix(c, step)
        function(a, b, c, depth, rows, cols, True, bias, 64)

    compiled = numba.njit({"dot": dot, "tile": tile}[name])
    compiled.compile((pointer, pointer, pointer, n, n, n, n, pointer))
    print(next(iter(compiled.inspect_asm().values())))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86's instructions")
@pytest.mark.parametrize(("name", "dtype", "processor"), CASES)
def test_sums_stay_in_registers(name, dtype, processor):
    held = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": FEATURES[processor]}
    call = (
        f"from tests.numba.test_registers import print_assembler as run; run({name!r}, {dtype!r})"
    )
    child = subprocess.run(
        [sys.executable, "-c", call],
        cwd=Path(__file__).parents[2],
        env=os.environ | held,
        capture_output=True,
        text=True,
        check=True,
    )
    loops = list(innermost_loops(child.stdout))
    assert loops
    for loop in loops:
        assert not [line for line in loop if SPILLED.search(line)]
