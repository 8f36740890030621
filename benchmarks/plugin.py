"""asv plugin: the environment "checkout", the working tree as it is installed in this Python.

asv's own "existing" environment writes the interpreter's path into its name, so that every checkout
would become another series of results. This one is named by what the results depend on instead.
"""

import os
import subprocess
import sys
from importlib import metadata

from asv.environment import ExistingEnvironment
from asv.machine import Machine
from asv.util import sanitize_filename

from . import journal

MACHINE = "this-machine"
THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PACKAGES = ("numpy", "numba", "cupy-cuda12x", "cupy-cuda13x")


class Checkout(ExistingEnvironment):
    """This interpreter; versions, threads and GPU are recorded with the results."""

    tool_name = "checkout"
    matches_python_fallback = False

    def __init__(self, conf, executable, requirements, tagged_env_vars):
        if journal.VARIABLE not in os.environ and times(sys.argv):
            begin(MACHINE)
        found = {("nobuild", name): value for name, value in settings().items()}
        super().__init__(conf, sys.executable, versions(), found)
        self._python = "{}.{}".format(*sys.version_info)  # not the interpreter's path

    @classmethod
    def matches(cls, python):
        return False

    @property
    def name(self):
        parts = [self.tool_name, f"py{self._python}"]
        parts += [f"{package}{version}" for package, version in self._requirements.items()]
        threads = self.env_vars[THREADS[0]]
        return sanitize_filename(
            "-".join([*parts, f"threads{threads}", self.env_vars.get("GPU", "cpu")])
        )


def times(arguments):
    """Whether asv, called by hand, times: a quick look is of cold calls, which no report shows."""
    return "run" in arguments and not {"-q", "--quick"} & set(arguments)


def begin(machine):
    """Opens the journal of a run in these surroundings."""
    return journal.begin(machine, Machine.get_defaults(), versions(), settings())


def settings():
    """The threads of each library, set where they are not, and the GPU."""
    found = {name: os.environ.setdefault(name, cores()) for name in THREADS}
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
