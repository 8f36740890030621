"""Every CUDA kernel compiled for every architecture within its limits, with no GPU."""

import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("cupy", reason="CuPy and its CUDA compiler are not installed (--no-gpu)")

from cupy.cuda import nvrtc

import kernels
from benchmarks import __main__ as command
from kernels.cupy_gpu.runtime import resources, table
from kernels.cupy_gpu.runtime.resources import Usage, compile_text, usages

FILES = sorted({kernel.file for kernel in table.KERNELS.values()})


ENDS = min(resources.ARCHITECTURES), max(resources.ARCHITECTURES)
OF_MOST = [
    pytest.param(number, marks=() if number in ENDS else pytest.mark.slow)
    for number in resources.ARCHITECTURES
]


@pytest.mark.parametrize("architecture", OF_MOST)
@pytest.mark.parametrize("dtype", table.REALS)
@pytest.mark.parametrize("file", FILES)
def test_resources(file, dtype, architecture):
    used, log = resources.measure(file, dtype, architecture)
    assert "warning" not in log, log
    assert set(used) == {name for name, kernel in table.KERNELS.items() if kernel.file == file}
    for name, usage in used.items():
        needed = resources.resident(name, dtype)
        assert not usage.complaint(needed), f"{name}: {usage.complaint(needed)}"
        if table.KERNELS[name].geometry is table.one_block:
            continue  # it may have all of a multiprocessor's shared memory
        resident = usage.occupancy(architecture) * resources.ARCHITECTURES[architecture].threads
        assert resident >= needed, f"{name}: {usage}"


@pytest.mark.parametrize(
    ("registers", "shared", "architecture", "blocks"),
    [
        (32, 0, 80, 8),  # all 2048 threads
        (33, 0, 80, 6),  # 40 registers are handed out: 12 warps in each quarter
        (64, 0, 80, 4),
        (65, 0, 80, 3),
        (32, 0, 75, 4),  # 1024 threads are the most
        (32, 0, 120, 6),
        (32, 32 << 10, 80, 4),  # 33 KiB in 164
        (32, 16 << 10, 75, 4),  # 16 KiB in 64
    ],
)
def test_occupancy(registers, shared, architecture, blocks):
    """Examples reckoned by hand."""
    limits = resources.ARCHITECTURES[architecture]
    share = Usage(registers, 0, 0, shared).occupancy(architecture)
    assert share * limits.threads == blocks * table.THREADS


def test_shared_memory_is_read_off_the_report():
    used, _ = resources.measure("dense", "float32", 80)
    assert used["dense_forward_32"].shared == 2 * 64 * (32 + 4) * 4  # two padded panels
    assert used["finish_product"].shared == 0


@pytest.mark.slow
def test_table_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(resources, "ARCHITECTURES", {80: resources.ARCHITECTURES[80]})
    assert command.main(["resources"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 + len(table.KERNELS) * len(table.REALS)
    assert all(line.endswith("%") for line in printed[2:])


def test_without_cupy_one_line_says_what_to_do(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "kernels.cupy_gpu.runtime.resources")
    monkeypatch.delattr(kernels.cupy_gpu.runtime, "resources")
    monkeypatch.setitem(sys.modules, "cupy.cuda", None)
    assert command.main(["resources"]) == 2
    message = "error: the package cupy.cuda is not installed: python3 run.py test installs it\n"
    assert capsys.readouterr().err == message


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
    assert caught in usage.complaint(resources.RESIDENT_THREADS["float32"])


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
@pytest.mark.parametrize("file", ["activations", "dense", "element_losses", "optimizers"])
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
        "except kernels.arguments.Unavailable as error: print(error)"
    )
    result = run_without_gpu(code)
    assert "no CUDA device was found" in result.stdout
    assert result.stdout.count("\n") == 1
    assert not result.stderr
