"""Everything held to AVX2: what is set, and that a library which is not held is found out."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import llvmlite.binding as llvm
import pytest

from benchmarks.running import isa, machine
from benchmarks.suites import workloads

LOADED = {
    "numpy": "import numpy as np; a = np.ones((300, 300), 'f'); np.exp(a @ a)",
    "torch": "import torch; torch.tanh(torch.ones(300, 300))",
    "jax": "import jax",
}
# A library, what is not set, and what shows it. MKL takes AVX2 of an AMD processor whatever is set.
MISSING = [
    ("numpy", "NUMBA_CPU_FEATURES", "numba uses .* zmm"),
    ("numpy", "OPENBLAS_CORETYPE", "OpenBLAS .* uses"),
    ("numpy", "NPY_DISABLE_CPU_FEATURES", "numpy uses .*X86_V4"),
    ("numpy", "GLIBC_TUNABLES", "a thread used AVX-512"),
    ("torch", "ATEN_CPU_CAPABILITY", "torch uses AVX512"),
    ("torch", "ONEDNN_MAX_CPU_ISA", "oneDNN uses Intel AVX-512"),
    ("jax", "XLA_FLAGS", "XLA uses .*avx512.* ynn"),
]
has_more = bool(dict(llvm.get_host_cpu_features()).get("avx512f"))
wide = pytest.mark.skipif(not has_more, reason="this processor has no AVX-512 to hold back")


@pytest.fixture
def features(monkeypatch):
    monkeypatch.delenv(isa.VARIABLE, raising=False)
    monkeypatch.setenv("XLA_FLAGS", "--mine")
    found = {"avx2": True, "fma": True, "avx512f": True, "avx10.2": False}
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: found)
    monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: "znver5")
    return found


def test_every_library_is_told(features):
    settings = isa.environment()
    assert settings["NUMBA_CPU_FEATURES"] == "+avx2,+fma,-avx512f,-avx10.2"
    assert settings["NUMBA_CPU_NAME"] == settings["TORCHINDUCTOR_CPP_MARCH"] == "znver3"
    assert settings["XLA_FLAGS"].startswith("--mine --xla_cpu_max_isa=AVX2 ")
    assert {name for _, name, _ in MISSING} <= set(settings)
    features["fma"] = False
    with pytest.raises(ValueError, match="--isa avx2 needs a processor with AVX2 and FMA"):
        isa.environment()


def test_a_command_starts_itself_again_once(features, monkeypatch):
    started = []

    class Process:
        def __init__(self, command, env):
            started.append((command[1:], env[isa.VARIABLE]))

        def wait(self):
            if len(started) == 1:  # Ctrl-C reaches both: the other one ends, and says how
                started.append("interrupted")
                raise KeyboardInterrupt
            return 130

    monkeypatch.setattr(isa, "subprocess", SimpleNamespace(Popen=Process))
    assert isa.start(None, []) is isa.start(isa.NATIVE, []) is None
    assert isa.start(isa.AVX2, ["run", "--isa", "avx2"]) == 130
    assert started[0] == (["-m", "benchmarks", "run", "--isa", "avx2"], isa.AVX2)
    monkeypatch.setenv(isa.VARIABLE, isa.AVX2)
    assert isa.start(isa.AVX2, []) is None
    assert machine.settings()[isa.VARIABLE] == isa.AVX2
    with pytest.raises(ValueError, match=f"{isa.VARIABLE} holds this process to avx2"):
        isa.start(isa.NATIVE, [])


def test_who_is_not_held_is_named(monkeypatch):
    monkeypatch.setattr(isa, "used_wider", lambda since: since == 7)
    monkeypatch.delenv(isa.VARIABLE, raising=False)
    assert isa.complaint({"numba": "znver5 zmm"}, 7) is None
    monkeypatch.setenv(isa.VARIABLE, isa.AVX2)
    told = {"numba": "znver3 ymm", "OpenBLAS": "Zen", "oneDNN": "Intel AVX2", "XLA": "avx avx2"}
    assert isa.complaint(told, 0) is None
    assert "AVX-512" in isa.complaint(told, 7)
    for says in ("Intel AVX-512 with Intel DL Boost", "AVX512", "SkylakeX", "X86_V3 X86_V4", "ynn"):
        assert isa.complaint(told | {"one": says}, 0) == f"one uses {says}"


def complaint(library, without=()):
    """What a process says that has loaded a library, all but some variables set."""
    settings = {**os.environ, **isa.environment()}
    settings = {k: v for k, v in settings.items() if k not in without}
    code = "import time; began = time.monotonic(); " + LOADED[library]
    code += "; from benchmarks.running import isa; print(isa.complaint(isa.told(), began))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=settings, cwd=workloads.ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


@wide
@pytest.mark.parametrize(
    "library",
    ["numpy", *(pytest.param(name, marks=pytest.mark.slow) for name in ("torch", "jax"))],
)
def test_all_are_held(library):
    pytest.importorskip(library)
    assert complaint(library) == "None"


@wide
@pytest.mark.slow
@pytest.mark.parametrize(("library", "variable", "shown"), MISSING)
def test_a_variable_that_is_missing_shows(library, variable, shown):
    pytest.importorskip(library)
    assert re.match(shown, complaint(library, [variable]))
