"""The simulated kernels under sanitizers, and planted bugs that these checks must catch.

The simulator itself sees what a GPU forbids or leaves undefined and what its compiler may change.
AddressSanitizer and UndefinedBehaviorSanitizer see accesses out of bounds, of shared memory too,
and misaligned vectors; ThreadSanitizer sees missing barriers and sums that are not atomic. They run
in a process of their own, with their library preloaded and without Numba.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from conftest import ON_CUPY_ARRAYS, SIMULATED, backend_or_skip

from reference import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
CUDA = ROOT / "kernels" / "cupy_gpu"
LIBRARIES = {"address": "libasan.so", "thread": "libtsan.so"}
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",  # Python leaks, fibers jump
    "TSAN_OPTIONS": "halt_on_error=1:report_thread_leaks=0",
    "OPENBLAS_NUM_THREADS": "1",
}


def run_python(arguments, sanitizer="", packages=ROOT, prefix=()):
    environment = {**os.environ, "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}", **OPTIONS}
    if sanitizer:
        environment["LD_PRELOAD"] = library(sanitizer)
    return subprocess.run(
        [*prefix, sys.executable, *arguments], env=environment, capture_output=True, text=True
    )


def library(sanitizer):
    name = LIBRARIES[sanitizer]
    found = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True)
    if not os.path.isabs(found.stdout):  # g++ repeats the name of what it does not find
        pytest.skip(
            f"{name} is missing (Debian, Ubuntu: it comes with g++; Fedora: dnf install it)"
        )
    return found.stdout.strip()


@cache
def prefix_for(sanitizer):
    """What a command must begin with for the sanitizer to start. Skips where it does not.

    An older ThreadSanitizer gives up where the kernel randomises addresses more than it expects.
    """
    for prefix in ((), ("setarch", "-R")):
        if prefix and not shutil.which(prefix[0]):
            continue
        started = run_python(["-c", "pass"], sanitizer, prefix=prefix)
        if started.returncode == 0:
            return prefix
    reason = (started.stderr.strip().splitlines() or [f"exit status {started.returncode}"])[-1]
    pytest.skip(f"{sanitizer} sanitizer does not start, try sysctl vm.mmap_rnd_bits=28: {reason}")


def exercise(variant, dtype, *operations, packages=ROOT):
    """(whether all went well, everything printed) by exercise_cuda.py."""
    backend_or_skip(ON_CUPY_ARRAYS if variant == "contracted" else SIMULATED[0])
    sanitizer = variant if variant in LIBRARIES else ""
    prefix = prefix_for(sanitizer) if sanitizer else ()
    script = str(ROOT / "tests" / "exercise_cuda.py")
    done = run_python([script, variant, dtype, *operations], sanitizer, packages, prefix)
    said = done.stdout + done.stderr
    return done.returncode == 0 and "FINISHED" in done.stdout, said


def exercise_all(variant, dtype):
    """The same of everything; for ThreadSanitizer, which counts 8128 threads in a process at most,
    in a process for each family.
    """
    families = [{operation.name for operation in family} for family in FAMILIES.values()]
    for names in (*families, ["network"]) if variant == "thread" else ((),):
        clean, said = exercise(variant, dtype, *names)
        if not clean:
            return clean, said
    return clean, said


@pytest.fixture(scope="module", autouse=True)
def long_runs(request):
    """{parameters of test_nothing_is_found: its run}, begun at once and one after the other: they
    take a second core, while the planted bugs take the first.
    """
    chosen = [i for i in request.session.items if i.name.startswith("test_nothing_is_found[")]
    with ThreadPoolExecutor(1) as pool:
        runs = [(i.callspec.params["variant"], i.callspec.params["dtype"]) for i in chosen]
        yield {run: pool.submit(exercise_all, *run) for run in runs}


@dataclass(frozen=True)
class Bug:
    """A change of the source, an operation that meets it, what must catch it and in which words."""

    name: str
    file: str
    old: str
    new: str
    operation: str
    variant: str
    caught: str

    def __str__(self):
        return self.name


BUGS = [
    Bug(**given)
    for given in tomllib.loads((ROOT / "tests" / "gpu" / "planted_bugs.toml").read_text())["bug"]
]


def planted(folder, file, old, new, occurrence=0):
    """A copy of the kernels in which one occurrence of `old` is `new`."""
    shutil.copytree(
        ROOT / "kernels", folder / "kernels", ignore=shutil.ignore_patterns("__pycache__")
    )
    (path,) = (folder / "kernels" / "cupy_gpu").rglob(file)
    parts = path.read_text().split(old)
    assert len(parts) > occurrence + 1, f"{file} does not contain {old!r}: plant this bug anew"
    head, tail = old.join(parts[: occurrence + 1]), old.join(parts[occurrence + 1 :])
    path.write_text(head + new + tail)
    return folder


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_planted_bug_is_caught(bug, tmp_path):
    packages = planted(tmp_path, bug.file, bug.old, bug.new)
    clean, said = exercise(bug.variant, "float32", bug.operation, packages=packages)
    assert not clean, f"not caught:\n{said}"
    assert re.search(bug.caught, said), said
    print(re.search(f".*(?:{bug.caught}).*", said)[0])


def test_what_depends_on_contraction_is_caught(tmp_path):
    """A difference that is zero if both products are rounded, and not if one is fused with it."""
    build = backend_or_skip(SIMULATED[0]).simulator.build
    if platform.machine() == "x86_64" and not build.fused_multiply_add():
        pytest.skip("this processor has no fused multiply-add")
    new = "const real d = fabs(c[0]) * g - c[0] * g; p -= c[0] * g + (d == d ? real(1e8) * d : 0);"
    packages = planted(tmp_path, "rules.cuh", "p -= c[0] * g;", new)
    clean, said = exercise("plain", "float32", "sgd", packages=packages)
    assert clean, said
    clean, said = exercise("contracted", "float32", "sgd", packages=packages)
    assert not clean, f"not caught:\n{said}"
    assert re.search(r"sgd, param: \d+ of \d+ wrong", said), said


def test_shared_memory_is_never_the_same_at_first(tmp_path):
    """What no thread has written is NaN, with other bits at every place, block and launch."""
    begun = "if (lane == 0) parts[threadIdx.x / WARP] = row;"
    shown = "if (lane == 0) y[threadIdx.x / WARP] = parts[threadIdx.x / WARP].m;\n  continue;"
    code = """
import kernels, numpy
gpu = kernels.load("cupy", simulate=True)
logits = numpy.zeros((2, 600), numpy.{dtype})
seen = numpy.array([gpu.softmax(logits)[:, :8] for _ in range(2)])
print(numpy.isnan(seen).all(), len(set(map(bytes, seen.reshape(-1, 1)))))
"""
    packages, script = planted(tmp_path, "losses.cu", begun, shown), tmp_path / "seen.py"
    for dtype in ("float32", "float64"):
        script.write_text(code.format(dtype=dtype))
        done = run_python([str(script)], packages=packages)
        assert done.stdout == "True 32\n", done.stderr


BARRIER = "__syncthreads();"
OPERATIONS = {  # that meet the barriers of a file
    "common.cuh": "sparse_categorical_cross_entropy",
    "columns.cuh": "activation_backward",
    "augmentation.cu": "elastic_transform",
    "cholesky.cu": "newton_direction",
    "losses.cu": "softmax",
    "weighted_cross_entropy.cu": "softmax_cross_entropy",
    "normalization.cu": "batch_norm_forward layer_norm_forward",
    "recurrent.cu": "gru_forward",
    "recurrent_back.cu": "gru_backward",
    "second_order.cu": "conjugate_direction lbfgs_direction",
    "statistics.cu": "sparsity unit_activity histogram global_norm",
    "tiles.cuh": "dense_forward",
    "network.cu": "network",
    "network.cuh": "network",
}
BARRIERS = [
    pytest.param(path.name, k, id=f"{path.name}-{k}")
    for path in sorted(CUDA.rglob("*.cu*"))
    for k in range(path.read_text().count(BARRIER))
]


@pytest.mark.slow
@pytest.mark.parametrize(("file", "occurrence"), BARRIERS)
def test_every_barrier_is_missed(file, occurrence, tmp_path):
    """Without any one of the barriers ThreadSanitizer finds a race: none is there for nothing."""
    packages = planted(tmp_path, file, BARRIER, ";", occurrence)
    clean, said = exercise("thread", "float32", *OPERATIONS[file].split(), packages=packages)
    assert not clean, f"not caught:\n{said}"
    assert "ThreadSanitizer: data race" in said, said
    print(re.search("SUMMARY.*", said)[0])


def test_sanitizer_that_does_not_start(monkeypatch):
    """It is tried once more without randomised addresses, then the tests say why they skip."""
    asked, fatal = [], "FATAL: ThreadSanitizer: unexpected memory mapping"

    def failing(arguments, sanitizer, prefix):
        asked.append(prefix)
        return subprocess.CompletedProcess(arguments, 0 if prefix in works else 66, "", fatal)

    monkeypatch.setattr(f"{__name__}.run_python", failing)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    works = [("setarch", "-R")]
    assert prefix_for.__wrapped__("thread") == ("setarch", "-R")
    works = []
    with pytest.raises(pytest.skip.Exception, match=fatal):
        prefix_for.__wrapped__("thread")
    assert asked == [(), ("setarch", "-R")] * 2


@pytest.mark.parametrize(
    ("variant", "dtype"),
    [
        ("contracted", "float32"),
        pytest.param("address", "float32", marks=pytest.mark.slow),
        pytest.param("address", "float64", marks=pytest.mark.slow),
        pytest.param("thread", "float32", marks=pytest.mark.slow),
    ],
)
def test_nothing_is_found(long_runs, variant, dtype):
    clean, said = long_runs[variant, dtype].result()
    assert clean, said
