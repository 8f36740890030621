"""Every CUDA kernel compiled for every architecture, with no GPU: NVRTC needs none.

A kernel must leave room for RESIDENT blocks of THREADS threads (common.cuh) in the 65,536 registers
of a multiprocessor (CUDA C++ Programming Guide, compute capabilities): 1024 threads in float32, 512
in float64. It may neither spill registers nor keep arrays in local memory.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass

import pytest

pytest.importorskip("cupy", reason="CuPy and its CUDA compiler are not installed (--no-gpu)")

from cupy.cuda import nvrtc

from kernels.cupy_gpu import table

ARCHITECTURES = (75, 80, 90, 100, 120)
REGISTERS = 65536
RESIDENT_THREADS = {"float32": 1024, "float64": 512}
FILES = sorted({kernel.file for kernel in table.KERNELS.values()})
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")  # RawModule adds them


@dataclass(frozen=True)
class Usage:
    """What a thread of a kernel needs: registers, and bytes of stack and of spilled registers."""

    registers: int
    stack: int
    spilled: int

    def complaint(self, dtype):
        """What exceeds the limits, or an empty string."""
        most = REGISTERS // RESIDENT_THREADS[dtype]
        exceeded = [
            f"{got} {what} where {limit} are allowed"
            for got, what, limit in (
                (self.registers, "registers", most),
                (self.stack, "bytes of stack", 0),
                (self.spilled, "bytes of spills", 0),
            )
            if got > limit
        ]
        return ", ".join(exceeded)


def compile_text(text, target, options):
    """(program, log) of NVRTC with the options that CuPy passes."""
    program = nvrtc.createProgram(text, "kernels.cu", (), ())
    try:
        nvrtc.compileProgram(
            program, (*options, *CUPY_OPTIONS, f"-arch={target}", "--ptxas-options=-v")
        )
    except nvrtc.NVRTCError:
        raise AssertionError(nvrtc.getProgramLog(program)) from None
    return program, nvrtc.getProgramLog(program)


def usages(log):
    """{kernel: Usage} from what ptxas reports."""
    found = re.findall(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers",
        log,
        re.DOTALL,
    )
    return {
        name: Usage(int(registers), int(stack), int(stores) + int(loads))
        for name, stack, stores, loads, registers in found
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", table.REALS)
@pytest.mark.parametrize("file", FILES)
def test_resources(file, dtype, architecture):
    _, log = compile_text(table.source(file), f"sm_{architecture}", table.options(dtype))
    assert "warning" not in log, log
    used = usages(log)
    assert set(used) == {name for name, kernel in table.KERNELS.items() if kernel.file == file}
    for name, usage in used.items():
        print(f"sm_{architecture:<4} {dtype} {name:25} {usage}")
        assert not usage.complaint(dtype), f"{name}: {usage.complaint(dtype)}"


SPILLS = """
extern "C" __global__ void __launch_bounds__(1024) spills(float* x) {
  float a[96];
#pragma unroll
  for (int k = 0; k < 96; ++k) a[k] = x[threadIdx.x + k * 1024];
  __syncthreads();
#pragma unroll
  for (int k = 0; k < 96; ++k) x[threadIdx.x + k * 7 % 96 * 1024] = a[k] * a[(k * 5 + 1) % 96];
}
"""
LOCAL_ARRAY = """
extern "C" __global__ void local_array(float* x, const int* order, int n) {
  float a[64];
  for (int k = 0; k < 64; ++k) a[k] = x[threadIdx.x * 64 + k];
  for (int k = 0; k < n; ++k) a[order[k] & 63] += a[order[k + 1] & 63];
  for (int k = 0; k < 64; ++k) x[threadIdx.x * 64 + k] = a[k];
}
"""
REGISTER_HUNGRY = SPILLS.replace("__launch_bounds__(1024)", "__launch_bounds__(256)")


@pytest.mark.parametrize(
    ("text", "caught"),
    [
        (SPILLS, "bytes of spills"),
        (LOCAL_ARRAY, "bytes of stack"),
        (REGISTER_HUNGRY, "registers where 64"),
    ],
    ids=["spills", "local array", "many registers"],
)
def test_limits_are_seen_to_fail(text, caught):
    _, log = compile_text(text, "sm_80", ())
    (usage,) = usages(log).values()
    assert caught in usage.complaint("float32")


def ptx(text, dtype):
    program, _ = compile_text(text, "compute_80", table.options(dtype))
    return nvrtc.getPTX(program).decode()


@pytest.mark.parametrize("file", FILES)
def test_float32_kernels_hold_no_float64_arithmetic(file):
    """A literal like 0.5 in the wrong place makes a kernel many times slower on most GPUs."""
    assert ".f64" not in ptx(table.source(file), "float32")


def test_float64_arithmetic_is_seen():
    text = 'extern "C" __global__ void half(REAL* x) { x[threadIdx.x] *= 0.3; }'
    assert ".f64" in ptx(text, "float32")


@pytest.mark.parametrize(("dtype", "load"), [("float32", "v4.f32"), ("float64", "v2.f64")])
@pytest.mark.parametrize("file", ["activations", "dense", "optimizers"])
def test_pieces_are_moved_by_one_instruction(file, dtype, load):
    text = ptx(table.source(file), dtype)
    assert re.search(rf"ld\.global\.(nc\.)?{load}", text)
    assert f"st.global.{load}" in text


def run_without_gpu(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_import_needs_no_gpu():
    assert run_without_gpu("import kernels.cupy_gpu").returncode == 0


def test_missing_gpu_is_named_in_one_line():
    code = (
        "import kernels\n"
        "try: kernels.load('cupy')\n"
        "except kernels.interface.Unavailable as error: print(error)"
    )
    result = run_without_gpu(code)
    assert "no CUDA device was found" in result.stdout
    assert result.stdout.count("\n") == 1
    assert not result.stderr
