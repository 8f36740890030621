"""Where Numba keeps what it compiles: a folder for every content of the files that it compiles."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAY = "print(numba.config.CACHE_DIR)"


@pytest.fixture
def checkout(tmp_path):
    """A copy of the kernels, to be edited."""
    shutil.copytree(ROOT / "kernels", tmp_path / "checkout" / "kernels")
    return tmp_path / "checkout"


def folder(checkout, code=f"import kernels, numba; {SAY}", **environment):
    """The folder in which a process in this checkout keeps what it compiles."""
    kept = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    environment = {**kept, "PYTHONPATH": str(checkout), **environment}
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return Path(said.stdout.strip())


def test_it_lies_in_the_checkout_whatever_is_imported_first(checkout):
    """Numba reads where to keep it when it is imported, which may be before the kernels are."""
    first = folder(checkout)
    assert first.parent == checkout / ".cache"
    assert folder(checkout, f"import numba, kernels; {SAY}") == first


def edit(path):
    with path.open("a") as file:
        file.write("# edited\n")


def test_it_changes_with_what_is_compiled_and_with_nothing_else(checkout):
    before = folder(checkout)
    before.mkdir(parents=True)
    edit(checkout / "kernels" / "cupy_gpu" / "dense.py")
    assert folder(checkout) == before
    edit(checkout / "kernels" / "numba_cpu" / "gemm" / "packing.py")
    after = folder(checkout)
    assert after != before
    assert not before.exists()  # stale code takes no room
    edit(checkout / "kernels" / "arguments.py")
    assert folder(checkout) not in (before, after)


def test_a_folder_that_is_given_gets_one_for_every_content(checkout, tmp_path):
    given = tmp_path / "given"
    first = folder(checkout, NUMBA_CACHE_DIR=str(given))
    assert first.parent == given
    first.mkdir(parents=True)
    edit(checkout / "kernels" / "numba_cpu" / "gemm" / "packing.py")
    second = folder(checkout, NUMBA_CACHE_DIR=str(given))
    assert second.parent == given
    assert second != first
    assert first.exists()  # it may be another checkout's


@pytest.mark.parametrize("given", [False, True])
def test_a_child_process_has_its_own(checkout, tmp_path, given):
    """It inherits its parent's folder, and runs code that was edited since."""
    child = f"import kernels, numba; {SAY}"
    code = f"""
import os, subprocess, sys, kernels
with open("kernels/numba_cpu/gemm/packing.py", "a") as file:
    file.write("# edited meanwhile\\n")
mine = os.environ["NUMBA_CACHE_DIR"]
said = subprocess.run([sys.executable, "-c", {child!r}], capture_output=True, text=True)
theirs = said.stdout.strip()
assert os.path.dirname(mine) == os.path.dirname(theirs) and mine != theirs, (mine, theirs)
print(theirs)
"""
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "given")} if given else {}
    assert folder(checkout, code, **environment) == folder(checkout, **environment)


def test_rules_from_processes_of_their_own_are_linked_to_their_own_code(tmp_path):
    """Each rule is compiled by a process that compiles nothing else, then one process reads all.

    Numba tells functions of one name apart by how many a process had compiled before, which is
    then the same for every rule.
    """
    rules = ("momentum", "adagrad")  # of one state each
    code = """
import sys
import numpy as np
import reference
from kernels import numba_cpu
for rule in reference.FAMILIES["optimizers"]:
    if rule.name in sys.argv[1:]:
        case = reference.Case("test", {"fan_in": 9, "fan_out": 10})
        inputs = rule.sample(np.random.default_rng(0), case)
        given = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in inputs.items()}
        getattr(numba_cpu, rule.name)(**given)
        complaint = rule.disagreement(inputs, rule.collect(given, None))
        assert complaint is None, complaint
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    for together in (*((rule,) for rule in rules), rules):
        command = [sys.executable, "-c", code, *together]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_what_closes_over_compiled_functions_is_compiled_once(checkout):
    """Numba alone would take each process's for another, and compile it again."""
    code = """
import numpy, numba, kernels
from kernels.numba_cpu import activation_rows as rows
for number in (1, 2):
    rows.activations.ready(numpy.dtype("float32"), number)
compiled = rows.activations._compiled.values()
print(*(each._cache_hits for each in compiled), *(len({each.address for each in compiled}),))
"""
    said = [str(folder(checkout, code)) for _ in range(2)]
    assert said == ["0 0 2", "1 1 2"]
