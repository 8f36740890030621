"""Our kernels beside PyTorch (eager, torch.compile), oneDNN, jax.jit and NumPy.

Every number of threads gets a process of its own, because libraries read it when they are imported,
and as many cores.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ..running import isa, machine
from ..suites import workloads
from . import rows

OUTPUT = workloads.HOME / ".asv" / "peers.json"


def compare(only=(), threads=None, rounds=9, output=OUTPUT):
    """Measures, prints a table for each number of threads, and writes all of it to `output`.

    only: names of families, functions, variants, workloads or layers; threads: numbers of threads,
    1 and 2 unless given, where there are two cores. Raises ValueError for an
    unknown name or more threads than cores, RuntimeError where a measurement died.
    """
    rows.selected(only)
    cores = usable_cores()
    threads = threads or [1, 2][: len(cores)]
    if rounds < 1:
        raise ValueError(f"--rounds must be at least 1, got {rounds}")
    for count in threads:
        if not 1 <= count <= len(cores):
            raise ValueError(
                f"--threads must be from 1 to {len(cores)}, the cores for this process, got {count}"
            )
    runs = []
    for count in threads:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.json"
            try:
                _measure(path, only, count, rounds, cores[:count])
            finally:  # also what was finished before an interruption
                if path.is_file():
                    runs.append(json.loads(path.read_text()))
                    _keep(runs, output)
    print(f"\nEvery round of every cell is in {output}")


def _keep(runs, output):
    """Prints the last run and writes all."""
    from . import table

    print(table.render(runs[-1]), flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"hardware": machine.hardware(), "runs": runs}, indent=1))


def usable_cores():
    """The numbers of the cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else list(range(os.cpu_count()))


def environment(threads):
    """The environment of a process whose libraries use so many threads."""
    names = ("NUMBA", "OMP", "MKL", "OPENBLAS")
    eigen = f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()}"
    return {
        **os.environ,
        "FUSEBENCH_HOME": str(workloads.HOME),
        **{f"{name}_NUM_THREADS": str(threads) for name in names},
        "NPROC": str(threads),  # XLA's pool of threads
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {eigen}".strip(),
        "JAX_PLATFORMS": "cpu",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no pool of processes beside what is measured
        "TORCHINDUCTOR_CACHE_DIR": str(workloads.CACHE.parent / f"inductor-{isa.held()}"),
    }


def _measure(path, only, threads, rounds, cores):
    command = [sys.executable, "-m", __name__, path, threads, rounds, *only]
    with _on(cores):
        done = subprocess.run(list(map(str, command)), cwd=workloads.ROOT, env=environment(threads))
    if done.returncode:
        raise RuntimeError(
            f"the measurement with {threads} threads ended with code {done.returncode}"
        )


@contextlib.contextmanager
def _on(cores):
    """What is started meanwhile runs on these cores alone, where the system allows it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
