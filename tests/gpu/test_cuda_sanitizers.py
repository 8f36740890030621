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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from conftest import ON_CUPY_ARRAYS, SIMULATED, backend_or_skip

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


@pytest.fixture(scope="module", autouse=True)
def long_runs(request):
    """{parameters of test_nothing_is_found: its run}, begun at once and one after the other: they
    take a second core, while the planted bugs take the first.
    """
    chosen = [i for i in request.session.items if i.name.startswith("test_nothing_is_found[")]
    with ThreadPoolExecutor(1) as pool:
        runs = [(i.callspec.params["variant"], i.callspec.params["dtype"]) for i in chosen]
        yield {run: pool.submit(exercise, *run) for run in runs}


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
    Bug(
        *("loop that goes one too far", "common.cuh"),
        *("first; i < n; i += stride", "first; i <= n; i += stride"),
        *("sgd", "address", r"heap-buffer-overflow on address"),
    ),
    Bug(
        *("shared array out of bounds", "common.cuh"),
        *("sums[warp] = value", "sums[warp + 25] = value"),
        *("sparse_categorical_cross_entropy", "address", r"index 32 out of bounds for type 'float"),
    ),
    Bug(
        *("shared memory out of bounds", "common.cuh"),
        *("sums[warp] = value", "*(sums + warp + 25) = value"),
        *("sparse_categorical_cross_entropy", "address", r"use-after-poison on address"),
    ),
    Bug(
        *("misaligned vector", "common.cuh"),
        *("return ((reinterpret_cast<size_t>(pointers) | ...) & 15) == 0;", "return true;"),
        *("activation_forward", "address", r"runtime error: .* misaligned address .* 16 byte"),
    ),
    Bug(
        *("sum that is not atomic", "losses.cu"),
        *("losses[blockIdx.x] = loss;", "losses[0] += loss;"),
        *("softmax_cross_entropy", "thread", r"data race .*losses\.cu"),
    ),
    Bug(
        *("write out of bounds", "tiles.cuh"),
        *("if (row >= rows) return;", ""),
        *("dense_forward", "address", r"heap-buffer-overflow [^$]*WRITE of size \d+ at"),
    ),
    Bug(
        *("divergent barrier", "common.cuh"),
        *(
            "  __syncthreads();\n  if (warp > 0) return 0;",
            "  if (warp > 0) return 0;\n  __syncthreads();",
        ),
        *(
            "sparse_categorical_cross_entropy",
            "plain",
            r"divergent __syncthreads\(\) at common\.cuh:\d+, called at losses",
        ),
    ),
    Bug(
        *("barriers in two branches", "common.cuh"),
        *(
            "  __syncthreads();\n  if",
            "  if (warp)\n    __syncthreads();\n  else __syncthreads();\n  if",
        ),
        *(
            "sparse_categorical_cross_entropy",
            "plain",
            r"threads wait at common\.cuh:\d+.* and at common\.cuh:\d+",
        ),
    ),
    Bug(
        *("barrier that one lane skips", "common.cuh"),
        *("  __syncthreads();\n", "  if (lane > 0) __syncthreads();\n"),
        *(
            "sparse_categorical_cross_entropy",
            "plain",
            r"threads wait for each other: one at common",
        ),
    ),
    Bug(
        *("mask that excludes a lane", "common.cuh"),
        *("ALL = 0xffffffffu", "ALL = 0x7fffffffu"),
        *("softmax", "plain", r"lane 31 takes part in a shuffle that its mask excludes"),
    ),
    Bug(
        *("wrong argument order of a launch", "losses.py"),
        *("logits, p, rows, classes, *across", "logits, p, classes, rows, *across"),
        *("softmax", "plain", r"softmax, p: \d+ of \d+ wrong"),
    ),
    Bug(
        *("wrong argument order of a wrapper", "optimizers.py"),
        *("states, step = (mean, variance)", "states, step = (variance, mean)"),
        *("adam", "plain", r"adam, param: \d+ of \d+ wrong"),
    ),
    Bug(
        *("arrays of a launch exchanged", "losses.py"),
        *("given = logits, labels, labels.itemsize, sums", "given = labels, logits, 4, sums"),
        *("softmax_cross_entropy", "plain", r"TypeError: .*logits points to real, got int32"),
    ),
    Bug(
        *("activations of the minibatch before", "network.cu"),
        *(
            "memory[layer.y + place + g * step] = activate",
            "if (rows > 20) memory[layer.y + place + g * step] = activate",
        ),
        *("network", "plain", r"(loss|layer\S+): \d+ of \d+ wrong"),
    ),
    Bug(
        *("slope of another layer", "network.cu"),
        *(
            "backward(memory, layers[n], layers[n - 1], slopes[n - 1], rows)",
            "backward(memory, layers[n], layers[n - 1], slopes[n], rows)",
        ),
        *("network", "plain", r"layer\S+: \d+ of \d+ wrong"),
    ),
    Bug(
        *("smaller batch as if it were whole", "network.cu"),
        *(
            "const int step_rows = count - begin < plan.batch ? count - begin : plan.batch;",
            "const int step_rows = plan.batch;",
        ),
        *("network", "address", r"heap-buffer-overflow on address"),
    ),
    Bug(
        *("mean over whole batches", "network.cu"),
        *("real(1) / (step_rows * terms)", "real(1) / (plan.batch * terms)"),
        *("network", "plain", r"(loss|layer\S+): \d+ of \d+ wrong"),
    ),
    Bug(
        *("update after the first chunk", "network.cu"),
        *("if (done + rows == step_rows)", "if (done == 0)"),
        *("network", "plain", r"(loss|layer\S+): \d+ of \d+ wrong"),
    ),
    Bug(
        *("grid too small", "table.py"),
        *("return min(BLOCKS, -(-n // each))", "return min(BLOCKS, n // each)"),
        *("activation_backward", "plain", r"activation_backward.* wrong"),
    ),
    Bug(
        *("shuffles in two lines", "common.cuh"),
        *(
            "    value += __shfl_xor_sync(ALL, value, distance);",
            "    if (threadIdx.x % 2) value += __shfl_xor_sync(ALL, value, distance);\n"
            "    else value += __shfl_xor_sync(ALL, value, distance);",
        ),
        *("softmax", "plain"),
        r"different shuffles: lane 0 at common\.cuh:(\d+), .* lane 1 at common\.cuh:(?!\1)\d+, ca",
    ),
    Bug(
        *("shuffles of two calls", "losses.cu"),
        *(
            "row.m = lanes_max(row.m, lanes);",
            "row.m = lane > 0 ? lanes_max(row.m, lanes)\n: lanes_max(row.m, lanes);",
        ),
        *("softmax", "plain"),
        r"different shuffles: .*h:\d+, called at losses\.cu:(\d+), .*d at losses\.cu:(?!\1)\d+, ca",
    ),
    Bug(
        *("masks that differ", "common.cuh"),
        *("__shfl_xor_sync(ALL", "__shfl_xor_sync(threadIdx.x ? ALL : 0xffffu"),
        *(
            "softmax",
            "plain",
            r"masks differ in the shuffle at common\.cuh:\d+, .* lane 0 has ffff,",
        ),
    ),
    Bug(
        *("barriers of two calls", "losses.cu"),
        *(
            "const real loss = block_sum(objective.loss);",
            "const real loss = threadIdx.x < 64 ? block_sum(objective.loss)\n"
            ": block_sum(objective.loss);",
        ),
        *("softmax_cross_entropy", "plain"),
        r"threads wait at (common\.cuh:\d+, called at losses\.cu):\d+ and at \1:\d+",
    ),
    Bug(
        *("misaligned piece", "common.cuh"),
        *("return ((reinterpret_cast<size_t>(pointers) | ...) & 15) == 0;", "return true;"),
        *("activation_forward", "plain"),
        r"misaligned address 0x\w+4 at common\.cuh:\d+, called at activations\.cu:\d+.*ple of 16",
    ),
    Bug(
        *("too much shared memory", "losses.cu"),
        *("__shared__ Row parts[THREADS / WARP];", "__shared__ Row parts[4097];"),
        *(
            "softmax",
            "plain",
            "softmax_wide: 49168 bytes of shared memory in 1 variables, where 49152",
        ),
    ),
    Bug(
        *("more threads than the kernel is compiled for", "table.py"),
        *("THREADS = 256", "THREADS = 512"),
        *("sgd", "plain", "a block of 512 threads, where 1 to 256 fit the kernel's launch bounds"),
    ),
    Bug(
        *("number of another width", "table.py"),
        *('"int": _INTEGERS', '"int": _LONG_INTEGERS'),
        *("softmax", "contracted", "argument 2 has 8 bytes where its parameter has 4"),
    ),
    Bug(
        *("shared memory that is not written", "losses.cu"),
        *("if (lane == 0) parts[", "if (lane == 0 && threadIdx.x > 0) parts["),
        *("softmax", "plain", r"softmax, p: \d+ of \d+ wrong.* nan instead"),
    ),
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
OPERATION = {  # that meets the barriers of a file
    "common.cuh": "sparse_categorical_cross_entropy",
    "activations.cu": "activation_backward",
    "losses.cu": "softmax",
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
    clean, said = exercise("thread", "float32", OPERATION[file], packages=packages)
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
        ("address", "float32"),
        ("address", "float64"),
        ("thread", "float32"),
    ],
)
def test_nothing_is_found(long_runs, variant, dtype):
    clean, said = long_runs[variant, dtype].result()
    assert clean, said
