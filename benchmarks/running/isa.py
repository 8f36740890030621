"""All that is timed held to AVX2, though the processor has more: `--isa avx2`.

Libraries read what they may use from variables of their own when they are loaded, so a command
starts itself again with these set. Whether that took effect every library is asked, in its own
way; and the system, which notes for every thread when it last had AVX-512 registers in use.
"""

import ctypes
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NATIVE, AVX2 = CHOICES = "native", "avx2"
VARIABLE = "FUSEBENCH_ISA"
WIDER = re.compile("avx-?512|avx10|amx|zmm|x86_v4|skylakex|cooperlake|sapphire|ynn|native", re.I)
NOTE = "arch_status"  # of Linux, where the processor has AVX-512
TICK = 0.05  # seconds by which that may be late


def held():
    """What this process is held to."""
    return os.environ.get(VARIABLE, NATIVE)


def start(wanted, arguments):
    """Runs `python -m benchmarks` with these arguments in a process that is held to what is wanted
    and returns its exit code; None where this process is. Raises ValueError where it cannot be.
    """
    if wanted in (None, held()):
        return None
    if wanted == NATIVE:
        raise ValueError(f"--isa {NATIVE}: {VARIABLE} holds this process to {held()}")
    command = [sys.executable, "-m", "benchmarks", *arguments]
    process = subprocess.Popen(command, env={**os.environ, **environment()})
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # which has reached it too
            continue


def environment():
    """The variables that hold everything to AVX2."""
    import llvmlite.binding as llvm

    has = dict(llvm.get_host_cpu_features())
    if not (has.get("avx2") and has.get("fma")):
        raise ValueError(f"--isa {AVX2} needs a processor with AVX2 and FMA: {platform.machine()}")
    is_amd = llvm.get_host_cpu_name().startswith("znver")
    processor = "znver3" if is_amd else "haswell"
    kept = {name: on and not WIDER.search(name) for name, on in has.items()}
    dropped = " ".join(name for name in _numpy_features() if WIDER.search(name))
    return {
        VARIABLE: AVX2,
        "NUMBA_CPU_NAME": processor,
        "NUMBA_CPU_FEATURES": ",".join(f"{'-+'[on]}{name}" for name, on in kept.items()),
        "NPY_DISABLE_CPU_FEATURES": dropped,
        "OPENBLAS_CORETYPE": "Zen" if is_amd else "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "TORCHINDUCTOR_CPP_MARCH": processor,
        # YNNPACK, which multiplies matrices, chooses by the processor whatever XLA is told.
        "XLA_FLAGS": " ".join(filter(None, (os.environ.get("XLA_FLAGS"), *_XLA))),
        # memcpy and its like
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=" + ",".join(f"-AVX512{x}" for x in _GLIBC),
    }


_GLIBC = "F", "VL", "BW", "CD", "DQ"
_XLA = "--xla_cpu_max_isa=AVX2", "--xla_cpu_experimental_ynn_fusion_type="


def _numpy_features():
    """Those that NumPy was built to choose among and has here."""
    from numpy._core import _multiarray_umath as core

    return [name for name in core.__cpu_dispatch__ if core.__cpu_features__[name]]


def told():
    """{library: what it says that it uses} of those that this process has loaded."""
    from threadpoolctl import threadpool_info

    found = {"numba": _numba(), "numpy": " ".join(_numpy_features())}
    for pool in threadpool_info():
        if pool["internal_api"] == "openblas":
            found[f"OpenBLAS {Path(pool['filepath']).name}"] = pool["architecture"]
    if "torch" in sys.modules:
        found |= _torch()
    if "jax" in sys.modules:
        found["XLA"] = _xla()
    return found


def check():
    """Raises RuntimeError where this process, of NumPy and Numba, is not held to what it should."""
    if held() != NATIVE and (found := complaint(told(), time.monotonic())):
        raise RuntimeError(f"--isa {held()} has no effect: {found}")


def complaint(found, since):
    """What shows that this process is not held to AVX2: what a library has told, or that a thread
    used AVX-512 since this time.monotonic(); None where it is held, or is to use all there is.
    """
    if held() == NATIVE:
        return None
    for library, says in found.items():
        if WIDER.search(says):
            return f"{library} uses {says}"
    return "a thread used AVX-512 registers" if used_wider(since) else None


def used_wider(since):
    """Whether a thread of this process used AVX-512 after this time.monotonic(), as Linux notes
    when it puts another thread in its place; None where it does not.
    """
    time.sleep(TICK)  # puts this one aside
    notes = [file.read_text() for file in Path("/proc/self/task").glob(f"*/{NOTE}")]
    ages = [int(age) for note in notes for age in re.findall(r"AVX512_elapsed_ms:\s*(-?\d+)", note)]
    began = time.monotonic() - since
    return any(0 <= age / 1000 < began for age in ages) if ages else None


def _numba():
    """The processor that Numba compiles for, and the widest registers in the code of a loop."""
    import numba
    from numba.core.registry import cpu_target

    @numba.njit("void(float32[::1])")
    def double(values):
        for i in range(values.size):
            values[i] *= 2

    (code,) = double.inspect_asm().values()
    widest = next((name for name in ("zmm", "ymm", "xmm") if name in code), "")
    return f"{cpu_target.target_context.codegen().magic_tuple()[1]} {widest}".strip()


def _torch():
    """What PyTorch, MKL and oneDNN say, and its compiler, once it has compiled."""
    torch = sys.modules["torch"]
    a, backends = torch.ones(64, 64), torch.backends
    found = {"torch": backends.cpu.get_cpu_capability()}
    if compiler := sys.modules.get("torch._inductor.cpu_vec_isa"):
        march = os.environ.get("TORCHINDUCTOR_CPP_MARCH", "native")
        found["torch.compile"] = f"{compiler.pick_vec_isa()} {march}"
    asked = {
        "MKL": (backends.mkl, lambda: a @ a, r"architecture (.*?),? *Lnx"),
        "oneDNN": (backends.mkldnn, lambda: a.to_mkldnn().relu(), "cpu,isa:(.*)"),
    }
    for library, (backend, call, pattern) in asked.items():
        if backend.is_available():
            with backend.verbose(backend.VERBOSE_ON):
                said = re.search(pattern, _said(call))
            found |= {library: said[1]} if said else {}
    return found


def _said(call):
    """What C code writes to the standard output meanwhile."""
    with tempfile.TemporaryFile() as file:
        sys.stdout.flush()
        terminal = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            call()
            ctypes.CDLL(None).fflush(None)
        finally:
            os.dup2(terminal, 1)
            os.close(terminal)
        file.seek(0)
        return file.read().decode(errors="replace")


def _xla():
    """The vector instructions that a product was compiled for, and whose code it calls, as they
    stand in its executable.
    """
    import numpy as np

    jitted = sys.modules["jax"].jit(lambda a: a @ a)
    jitted(a := np.ones((300, 300), np.float32)).block_until_ready()
    executable = jitted.lower(a).compile().runtime_executable()
    kept = set(re.findall(rb"\+(avx\w+)|(ynn)_fusion", executable.serialize()))
    return " ".join(sorted((isa or other).decode() for isa, other in kept))
