"""What every kernel needs of a GPU, with no GPU: `python -m benchmarks resources` prints it.

NVRTC compiles for any architecture and reports registers, shared memory and spills. From them
follows the occupancy: the share of a multiprocessor's warps that can be resident, which is what
hides the latency of memory.

A kernel must leave room for RESIDENT blocks of THREADS threads (common.cuh) in the registers of a
multiprocessor: 1024 threads in float32, 512 in float64. For a product by tiles half of them are
enough: what it waits for is on its way while it multiplies, and its operands are in registers. No
kernel may spill registers or keep arrays in local memory.

Sources. Limits of an architecture: CUDA C++ Programming Guide, "Technical Specifications per
Compute Capability", and cuda/__device/arch_traits.h in NVIDIA's libcu++. How registers and shared
memory are handed out: cuda_occupancy.h in the CUDA toolkit.
"""

import re
from dataclasses import dataclass
from functools import cache

from cupy.cuda import nvrtc

from . import table

CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")  # RawModule adds them
REGISTERS = 65536  # of a multiprocessor, in PARTITIONS equal parts; a warp lives in one of them
PARTITIONS = 4
RESIDENT_THREADS = {"float32": 1024, "float64": 512}
PRODUCTS = tuple(name for name in table.KERNELS if re.search(r"_(32|64)$", name))
# Of sequences there are fewer blocks than multiprocessors, most often: registers serve better.
FEW_BLOCKS = *PRODUCTS, *(n for n, k in table.KERNELS.items() if k.geometry is table.sequences)
WARP = 32


def resident(kernel, dtype):
    """The threads that a multiprocessor must have room for."""
    return RESIDENT_THREADS[dtype] // (2 if kernel in FEW_BLOCKS else 1)


@dataclass(frozen=True)
class Architecture:
    """Limits of one multiprocessor; shared memory in bytes, given to blocks in units."""

    threads: int
    blocks: int
    shared: int
    shared_unit: int = 128
    shared_reserved: int = 1024  # for each block


ARCHITECTURES = {
    75: Architecture(1024, 16, 64 << 10, shared_unit=256, shared_reserved=0),  # T4
    80: Architecture(2048, 32, 164 << 10),  # A100
    90: Architecture(2048, 32, 228 << 10),  # H100
    100: Architecture(2048, 32, 228 << 10),  # B200
    120: Architecture(1536, 24, 100 << 10),  # RTX 50
}


@dataclass(frozen=True)
class Usage:
    """Registers of a thread, its bytes of stack and of spills, and the shared bytes of a block."""

    registers: int
    stack: int
    spilled: int
    shared: int

    def complaint(self, threads):
        """What exceeds the limits where so many threads are to be resident, or an empty string."""
        exceeded = [
            f"{got} {what} where {limit} are allowed"
            for got, what, limit in (
                (self.registers, "registers", REGISTERS // threads),
                (self.stack, "bytes of stack", 0),
                (self.spilled, "bytes of spills", 0),
            )
            if got > limit
        ]
        return ", ".join(exceeded)

    def occupancy(self, architecture):
        """The share of the resident warps that blocks of table.THREADS threads can fill."""
        limits = ARCHITECTURES[architecture]
        warps = table.THREADS // WARP
        registers_a_warp = _round_up(self.registers, 8) * WARP
        by_registers = REGISTERS // PARTITIONS // registers_a_warp * PARTITIONS // warps
        shared = _round_up(self.shared + limits.shared_reserved, limits.shared_unit)
        by_shared = limits.shared // shared if shared else limits.blocks
        blocks = min(limits.blocks, limits.threads // table.THREADS, by_registers, by_shared)
        return blocks * table.THREADS / limits.threads


def compile_text(text, target, options):
    """(program, log) of NVRTC with the options that CuPy passes. A RuntimeError has the log."""
    program = nvrtc.createProgram(text, "kernels.cu", (), ())
    options = (*options, *CUPY_OPTIONS, f"-arch={target}", "--ptxas-options=-v")
    try:
        nvrtc.compileProgram(program, options)
    except nvrtc.NVRTCError:
        raise RuntimeError(nvrtc.getProgramLog(program)) from None
    return program, nvrtc.getProgramLog(program)


def usages(log):
    """{kernel: Usage} from what ptxas reports."""
    found = re.findall(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers(?:[^\n]*? (\d+) bytes smem)?",
        log,
        re.DOTALL,
    )
    return {
        name: Usage(int(registers), int(stack), int(stores) + int(loads), int(shared or 0))
        for name, stack, stores, loads, registers, shared in found
    }


@cache
def compiled(file, dtype, architecture):
    """(program, log) of a .cu file."""
    return compile_text(table.source(file), f"sm_{architecture}", table.options(dtype))


def measure(file, dtype, architecture):
    """({kernel: Usage}, log) of a .cu file."""
    _, log = compiled(file, dtype, architecture)
    return usages(log), log


def show():
    """Prints the table."""
    print("Registers of a thread and the occupancy in blocks of 256; shared memory of a block [B].")
    heads = "".join(f"{f'sm_{architecture}':>10}" for architecture in ARCHITECTURES)
    print(f"{'kernel':25}{'dtype':9}{'shared':>6}{'spills':>7}{heads}")
    for file in dict.fromkeys(kernel.file for kernel in table.KERNELS.values()):
        for dtype in table.REALS:
            columns = [measure(file, dtype, architecture)[0] for architecture in ARCHITECTURES]
            for name in sorted(columns[0]):
                used = [column[name] for column in columns]
                shared = max(usage.shared for usage in used)
                spilled = max(usage.spilled for usage in used)
                cells = "".join(
                    f"{usage.registers:>5}{usage.occupancy(architecture):>5.0%}"
                    for usage, architecture in zip(used, ARCHITECTURES, strict=True)
                )
                print(f"{name:25}{dtype:9}{shared:>6}{spilled:>7}{cells}")


def _round_up(value, unit):
    return -(-value // unit) * unit
