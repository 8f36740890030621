"""Small mistakes, planted one at a time, each of which the tests must find: mutants/*.toml.

`pytest tests/test_mutants.py --all -s` plants all of them, each in a copy of this checkout, runs
the tests that are to fail there and tells which did. A mistake that lives is a hole in the tests.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("reference", "kernels", "benchmarks", "tests", "examples", "setup.cfg", "pyproject.toml")
TABLES = (
    "bounds",
    "work",
    "cuda",
    "dropout",
    "numba",
    "maxout",
    "nll",
    "normalization",
    "recurrent",
    "statistics",
    "schedules",
    "second_order",
    "augmentation",
    "blocks",
    "record",
    "peers",
    "page",
    "plausible",
    "cheats",
    "checking",
    "study",
    "verdicts",
)


@dataclass(frozen=True)
class Mutant:
    """`old`, which stands once in the file, or first after `after`, becomes `new`: `tests` fail."""

    what: str
    file: str
    old: str
    new: str
    tests: str
    after: str = ""

    def planted(self, text):
        """The text with the mistake. Raises ValueError where its place is not found, or two are."""
        once = self.after or self.old
        if text.count(once) != 1 or self.old not in text[text.index(once) :]:
            raise ValueError(f"{self.file} has not exactly one place for: {self.what}")
        start = text.index(once)
        return text[:start] + text[start:].replace(self.old, self.new, 1)


MUTANTS = [
    pytest.param(Mutant(**given), id=f"{table}-{given['what']}")
    for table in TABLES
    for given in tomllib.loads((ROOT / "tests" / "mutants" / f"{table}.toml").read_text())["mutant"]
]
over_mutants = pytest.mark.parametrize("mutant", MUTANTS)


@over_mutants
def test_each_mistake_can_be_planted(mutant):
    """What the table says stands in the file as it is."""
    text = (ROOT / mutant.file).read_text()
    assert mutant.planted(text) != text


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of what the tests need, in which one mistake after another is planted."""
    folder = tmp_path_factory.mktemp("mutants")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def run(tests, folder, cache):
    """The tests in the copy, with Numba's code kept in the folder `cache`."""
    command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider {tests}"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    environment.pop("PYTEST_XDIST_WORKER", None)
    return subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
@over_mutants
def test_each_mistake_is_found(copy, mutant, tmp_path):
    path = copy / mutant.file
    original, times = path.read_text(), path.stat()
    path.write_text(mutant.planted(original))
    try:
        # Numba compiles the functions of the changed file anew, but not those of others that have
        # taken some of it in: what seems to live is looked at again, all code being new.
        done = run(mutant.tests, copy, copy / "numba")
        if done.returncode == 0 and path.suffix == ".py":
            done = run(mutant.tests, copy, tmp_path)
    finally:
        path.write_text(original)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-500:]
    failed = re.search(r"^FAILED .*", done.stdout, re.MULTILINE)
    assert failed, f"no test failed by itself: {done.stdout[-2000:]}"
    print(f"\n{mutant.what}: {failed[0]}", end="")
