"""The machine as results describe it; read without asv, which a card is recorded without."""

import multiprocessing
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from . import isa, journal

MACHINE = "this-machine"
THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PACKAGES = ("numpy", "numba", "cupy-cuda12x", "cupy-cuda13x")


def hardware():
    """What asv's machine.json holds, under asv's names; empty text for what cannot be read."""
    cpu, ram = _proc("cpuinfo", "model name"), _proc("meminfo", "MemTotal")
    return {
        "machine": platform.node(),
        "os": f"{platform.system()} {platform.release()}",
        "num_cpu": str(multiprocessing.cpu_count()),
        "arch": platform.machine(),
        "cpu": cpu,
        "ram": str(1024 * int(ram.split()[0])) if ram else "",  # Linux counts in KiB
    }


def _proc(file, name):
    """The value of the first `name : value` in a file of /proc; empty where there is none."""
    path = Path("/proc", file)
    for line in path.read_text().splitlines() if path.is_file() else ():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def begin(name):
    """Opens the journal of a run in these surroundings."""
    return journal.begin(name, hardware(), versions(), settings())


def settings():
    """The threads of each library, set where they are not, what all is held to, and the GPU."""
    found = {name: os.environ.setdefault(name, cores()) for name in THREADS}
    if isa.held() != isa.NATIVE:
        found[isa.VARIABLE] = isa.held()
    gpu = gpu_name()
    return {**found, "GPU": gpu} if gpu else found


def cores():
    """The number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return str(len(affinity(0)) if affinity else os.cpu_count())


def versions():
    """The installed versions of what the results depend on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def gpu_name():
    """The name of the first NVIDIA GPU, or None where there is none."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
