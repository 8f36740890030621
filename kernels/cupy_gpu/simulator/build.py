"""The .cu files compiled by g++, one library for each file, dtype and sanitizer."""

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
from ...interface import Unavailable
from .. import table

FOLDER = Path(__file__).parent
SOURCES = ("cuda.h", "fiber.h", "scheduler.cpp")
# longjmp between stacks is what FORTIFY_SOURCE, which some g++ define by themselves, forbids.
FLAGS = ("-std=c++17", "-g1", "-fPIC", "-U_FORTIFY_SOURCE", f"-I{FOLDER}")
# (for everything, for the kernels alone): see scheduler.cpp.
SANITIZERS = {
    "": (("-O2",), ()),
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
def library(file, dtype, sanitizer):
    """The loaded library of a .cu file: launch_NAME for each of its kernels."""
    common, only_kernels = SANITIZERS[sanitizer]
    common = (*FLAGS, *common, *table.options(dtype))
    text = host_text(file)
    parts = [text, str(common + only_kernels), _version()]
    parts += [(FOLDER / name).read_text() for name in SOURCES]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    series = f"{file}-{dtype}-{sanitizer or 'plain'}-"
    path = _cache() / f"{series}{key}.so"
    if not path.exists():
        _build(text, common, only_kernels, path)
        for old in path.parent.glob(f"{series}*.so"):
            if old != path:
                old.unlink(missing_ok=True)
    return ctypes.PyDLL(str(path))  # which keeps the GIL: the scheduler takes one launch at a time


def host_text(file):
    """The text of a .cu file as C++, with an entry point for every kernel.

    Only __shared__ variables are rewritten, to references into the running block's memory. One that
    the pattern misses does not compile: g++ does not know the word.
    """
    text = re.sub(
        r"__shared__ (\w+) (\w+)((?:\[[^\]]+\])*);",
        r"static char \2_key; \1 (&\2)\3 = simulator::shared<\1\3>(&\2_key);",
        table.source(file),
    )
    kernels = [name for name, kernel in table.KERNELS.items() if kernel.file == file]
    return "\n".join(['#include "cuda.h"', text, *(f"KERNEL({name})" for name in kernels), ""])


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
