"""The two sides: commits built as wheels, and the processes that they run in.

Both have this interpreter and thereby the same dependencies, without a network: a wheel is
unpacked into a folder, which goes before all others. The folder of base gets base's `kernels`, and
the rest of head's wheel.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from ..suites import workloads

FOLDER = workloads.ROOT / ".asv" / "compare"
SIDES = BASE, HEAD = "base", "head"

# What an audit adds to a backend: whatever it has of the reference's operations takes longer.
SLOWING = """

def _slowed(call):
    import functools

    @functools.wraps(call)
    def slower(*args, **kwargs):
        began = time.perf_counter()
        returned = call(*args, **kwargs)
        until = began + {factor} * (time.perf_counter() - began)
        while time.perf_counter() < until:
            pass
        return returned

    return slower


for _name in __import__("reference").__all__:
    if callable(globals().get(_name)):
        globals()[_name] = _slowed(globals()[_name])
"""


def commit(name):
    """The full hash of a commit. Raises ValueError where there is none of that name."""
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"]
    answer = subprocess.run(command, cwd=workloads.ROOT, capture_output=True, text=True)
    if answer.returncode:
        raise ValueError(f"{name} is no commit of {workloads.ROOT}")
    return answer.stdout.strip()


def built(folder, commits, slowed=1):
    """Makes folder/base and folder/head, where they are not there yet; head slowed down by that."""
    for side, own in zip(SIDES, commits, strict=True):
        target = folder / side
        if target.is_dir():
            continue
        partial = folder / f"{side}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        _unpack(wheel(commits[1]), partial)
        if own != commits[1]:
            shutil.rmtree(partial / "kernels")
            with tempfile.TemporaryDirectory() as other:
                _unpack(wheel(own), Path(other))
                shutil.move(Path(other, "kernels"), partial / "kernels")
        if side == HEAD and slowed != 1:
            with (partial / "kernels" / "numba_cpu" / "__init__.py").open("a") as file:
                file.write(SLOWING.format(factor=slowed))
        partial.rename(target)


def wheel(revision):
    """The wheel of a commit, built at its first use with the setuptools that virtualenv carries."""
    target = FOLDER / "wheels" / revision
    if found := list(target.glob("*.whl")):
        return found[0]
    with tempfile.TemporaryDirectory() as folder:
        tools, source = Path(folder, "tools"), Path(folder, "source")
        source.mkdir()
        archive = subprocess.run(
            ["git", "archive", revision], cwd=workloads.ROOT, capture_output=True, check=True
        )
        subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True)
        _run(sys.executable, "-m", "virtualenv", "--setuptools", "bundle", "--no-download", tools)
        python = tools / ("Scripts" if os.name == "nt" else "bin") / "python"
        command = [python, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
        _run(*command, "-w", target, source)
    return next(target.glob("*.whl"))


def _unpack(path, target):
    shutil.unpack_archive(path, target, "zip")


def _run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise RuntimeError(f"{' '.join(map(str, command[:4]))} failed: {' '.join(last)}")


class Failed(RuntimeError):
    """A side did not answer a question: it says why, or its process died."""


class Process:
    """A process of a side, stopped unless it answers."""

    def __init__(self, folder, seed=0):
        self._log = folder.parent / f"{folder.name}.log"
        environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "PYTHONHASHSEED": str(seed),
            "NUMBA_CACHE_DIR": str(folder.parent / f"{folder.name}.cache"),
        }
        environment.pop("FUSEBENCH_JOURNAL", None)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.comparing.side"],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def ask(self, *question):
        """The answer. Raises Failed where there is none."""
        self._signal("SIGCONT")
        try:
            print(json.dumps(question), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            last = self._log.read_text().strip().splitlines()[-1:]
            asked = " ".join(map(str, question))
            raise Failed(f"its process died at {asked}: {' '.join(last)}".rstrip(": "))
        answer = json.loads(line)
        self._signal("SIGSTOP")
        if "error" in answer:
            raise Failed(answer["error"])
        return answer["answer"]

    def close(self):
        self._process.kill()
        self._process.communicate()

    def _signal(self, name):
        if hasattr(signal, name) and self._process.poll() is None:  # Windows has neither
            os.kill(self._process.pid, getattr(signal, name))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
