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


def commit(name):
    """The full hash of a commit. Raises ValueError where there is none of that name."""
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"]
    answer = subprocess.run(command, cwd=workloads.ROOT, capture_output=True, text=True)
    if answer.returncode:
        raise ValueError(f"{name} is no commit of {workloads.ROOT}")
    return answer.stdout.strip()


def built(commits):
    """The folder with base/ and head/ of two commits, which are built where they are not yet."""
    folder = FOLDER / "built" / "-".join(c[:12] for c in commits)
    for side, own in zip(SIDES, commits, strict=True):
        target, partial = folder / side, folder / f"{side}.partial"
        if target.is_dir():
            continue
        shutil.rmtree(partial, ignore_errors=True)
        shutil.unpack_archive(_wheel(commits[1]), partial, "zip")
        if own != commits[1]:
            shutil.rmtree(partial / "kernels")
            with tempfile.TemporaryDirectory() as other:
                shutil.unpack_archive(_wheel(own), other, "zip")
                shutil.move(Path(other, "kernels"), partial / "kernels")
        partial.rename(target)
    return folder


def _wheel(revision):
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


def _run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise RuntimeError(f"{' '.join(map(str, command[:4]))} failed: {' '.join(last)}")


class Failed(RuntimeError):
    """A side did not answer a question: it says why, or its process died."""


class Process:
    """A process of a side, stopped unless it has a question to answer."""

    def __init__(self, folder, seed=0):
        self._log = folder.parent / f"{folder.name}.log"
        environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "PYTHONHASHSEED": str(seed),
            "NUMBA_CACHE_DIR": str(folder.parent / f"{folder.name}.cache"),
            "OPENBLAS_NUM_THREADS": "1",  # of NumPy, whose threads hold a core after a product
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
        self.put(*question)
        return self.answer()

    def put(self, *question):
        """Lets it work on a question, whose `answer` is to be fetched."""
        self._signal("SIGCONT")
        self._asked = " ".join(map(str, question))
        try:
            print(json.dumps(question), file=self._process.stdin, flush=True)
        except OSError:  # it is dead, as its answer will tell
            return

    def answer(self):
        line = self._process.stdout.readline()
        if not line:
            last = self._log.read_text().strip().splitlines()[-1:]
            raise Failed(f"its process died at {self._asked}: {' '.join(last)}".rstrip(": "))
        self._signal("SIGSTOP")
        answer = json.loads(line)
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
