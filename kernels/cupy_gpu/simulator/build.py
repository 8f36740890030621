"""The .cu files compiled by g++, one library for each file, dtype and variant."""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from ... import cache_folder
from ...arguments import Unavailable
from ..runtime import table

FOLDER = Path(__file__).parent
SOURCES = ("cuda.h", "fiber.h", "scheduler.cpp")
# longjmp between stacks is what FORTIFY_SOURCE, which some g++ define by themselves, forbids.
FLAGS = ("-std=c++17", "-g1", "-fPIC", "-U_FORTIFY_SOURCE", f"-I{FOLDER}")
MOST_THREADS = 1024  # of any block

# What is told besides: (for everything, for the kernels alone), see scheduler.cpp. NVRTC contracts
# products and sums into fused multiply-adds wherever it can; "contracted" does, where the processor
# has them, "plain" never.
ALIGNMENT = ("-fsanitize=alignment", "-fno-sanitize-recover=alignment")
VARIANTS = {
    "plain": (("-O2", "-ffp-contract=off"), ALIGNMENT),
    "contracted": (("-O2", "-ffp-contract=fast"), ALIGNMENT),
    "address": (
        ("-O1", "-DSANITIZE_ADDRESS", "-fsanitize=address"),
        ("-fsanitize=undefined", "-fno-sanitize-recover=undefined"),
    ),
    "thread": (("-O1", "-DSANITIZE_THREAD"), ("-fsanitize=thread",)),
}


def require_compiler():
    """Raises Unavailable where there is no g++."""
    if not shutil.which("g++"):
        raise Unavailable(
            "backend cupy simulated: g++ is missing (Debian, Ubuntu: apt install g++)"
        )


@cache
def library(file, dtype, variant):
    """The loaded library of a .cu file: launch_NAME for each of its kernels."""
    common, only_kernels = VARIANTS[variant]
    common = (*FLAGS, *common, *table.options(dtype))
    if variant == "contracted":
        common += fused_multiply_add()
    text = host_text(file)
    parts = [text, str(common + only_kernels), _version()]
    parts += [(FOLDER / name).read_text() for name in SOURCES]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    series = f"{file}-{dtype}-{variant}-"
    path = _cache() / f"{series}{key}.so"
    if not path.exists():
        _build(text, common, only_kernels, path)
        for old in path.parent.glob(f"{series}*.so"):
            if old != path:
                old.unlink(missing_ok=True)
    return ctypes.PyDLL(str(path))  # which keeps the GIL: the scheduler takes one launch at a time


def host_text(file):
    """The text of a .cu file as C++, with an entry point for every kernel.

    - __shared__ variables become references into the running block's memory. One that the pattern
      misses does not compile: g++ does not know the word.
    - Device functions in which threads may wait or stop, or which move pieces, say from where they
      were called. What the pattern misses is named without its callers.
    """
    text = re.sub(
        r"__shared__ (\w+) (\w+)((?:\[[^\]]+\])*);",
        r"static char \2_key; \1 (&\2)\3 = simulator::shared<\1\3>(&\2_key);",
        _with_callers(table.source(file)),
    )
    kernels = [
        f"KERNEL({name}, {_launch_bounds(text, name)})"
        for name, kernel in table.KERNELS.items()
        if kernel.file == file
    ]
    return "\n".join(['#include "cuda.h"', text, *kernels, ""])


def _with_callers(text):
    traced = [r"__shfl_\w+", r"__sync\w+", "__trap", r"reinterpret_cast<(?:const )?Piece\b"]

    def replace(function):
        head, name, body = function.groups()
        if not re.search(rf"\b(?:{'|'.join(traced)})", body):
            return function[0]
        traced.append(rf"{name}\b")
        place = "const char* file_ = __builtin_FILE(), int line_ = __builtin_LINE()"
        return f"{head}, {place}) {{ simulator::Entered entered_(file_, line_);{body}"

    head = r"^((?:template <[^;{}]*> )?__device__ [^;{}(]*?(\w+)\([^;{}]+)\) \{"
    return re.sub(rf"{head}([^\n]*\}}$|.*?^\}}$)", replace, text, flags=re.MULTILINE | re.DOTALL)


def _launch_bounds(text, name):
    """The most threads of a block of the kernel, as it states them."""
    stated = re.search(rf"__launch_bounds__\(([^,)]+)[^)]*\)\s*{name}\(", text)
    return stated[1] if stated else MOST_THREADS


def _build(text, common, only_kernels, path):
    """Compile in a folder of its own, then move: another process sees the whole library or none."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source = Path(folder) / "kernels.cpp"
        source.write_text(text)
        objects = []
        for part, flags in ((source, only_kernels), (FOLDER / "scheduler.cpp", ())):
            objects.append(f"{folder}/{part.stem}.o")
            _compile(*common, *flags, "-c", str(part), "-o", objects[-1])
        _compile(*common, *only_kernels, "-shared", *objects, "-o", f"{folder}/library.so")
        os.replace(f"{folder}/library.so", path)


def _compile(*arguments):
    # A preloaded sanitizer is for the kernels, not for the compiler.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(["g++", *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"g++ cannot compile the kernels:\n{done.stderr}")
    return done.stdout


@cache
def _version():
    """The compiler, and the machine that it compiles for."""
    return _compile("--version") + _compile("-dumpmachine")


@cache
def fused_multiply_add():
    """What g++ must be told to use these instructions of this processor, if it has them."""
    native = _compile("-march=native", "-Q", "--help=target")
    return ("-mfma",) if re.search(r"-mfma\s+\[enabled\]", native) else ()


def _cache():
    """A folder for the libraries: beside Numba's, or this process's own where that is read-only."""
    folder = cache_folder("simulator")
    if folder is None:
        return Path(_temporary().name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@cache
def _temporary():
    return tempfile.TemporaryDirectory()  # removed when the process ends
