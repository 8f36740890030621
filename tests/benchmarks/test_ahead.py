"""What a part of a run calls is compiled before it is timed, once; and nothing else runs then."""

import hashlib
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import kernels
from benchmarks.running import ahead, journal, runner
from benchmarks.suites import owned, suite


class Pool:
    """Processes that compile nothing; of the function `broken` nothing comes back."""

    def __init__(self):
        self.asked, self.ended = [], False

    def imap_unordered(self, function, tasks):
        self.asked.append(list(tasks))
        return SimpleNamespace(next=self.result)

    def result(self, seconds):
        task = self.asked[-1].pop(0)
        if task[0] == "hanging":
            raise multiprocessing.TimeoutError
        return None if task[0] == "broken" else task

    def terminate(self):
        self.ended = True


@pytest.fixture
def pool(monkeypatch, tmp_path):
    found = Pool()

    def processes():
        return found

    processes.cache_clear = lambda: None
    monkeypatch.setattr(ahead, "_processes", processes)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    return found


def groups(*functions):
    tasks = [(name, "", "", ("float32",)) for name in functions]
    return [SimpleNamespace(compiled=task) for task in (*tasks, *tasks, ())]


def test_what_is_compiled_is_not_compiled_again(pool):
    assert ahead.compile_for(groups("adam", "broken"))
    assert ahead.compile_for(groups("adam", "broken", "sgd"))
    assert not ahead.compile_for(groups("adam", "sgd"))
    assert ahead.compile_for(groups("broken"))
    assert len(pool.asked) == 3


def test_one_that_hangs_ends_all(pool):
    assert ahead.compile_for(groups("adam", "hanging", "sgd"))
    assert pool.ended
    ahead.compile_for(groups("sgd"))
    assert len(pool.asked) == 2


def test_without_a_cache_nothing_is_compiled(pool, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    assert not ahead.compile_for(groups("adam"))


@pytest.mark.parametrize("name", ["sgd", "dense_forward", "network_step"])
def test_groups_say_what_their_cells_call(name):
    family = {"sgd": "optimizers", "dense_forward": "dense"}.get(name, "network")
    modules = {"numba": kernels.load("numba"), "numpy": kernels.load("numpy")}
    found = {g.compiled for g in runner.selection(family, modules) if name in g.names}
    assert found
    assert all(task[0] == name for task in found)
    assert {bool(task[2]) for task in found} == {name == "network_step"}
    assert {task[3:] for task in found} == {(("float32",), ("numpy", "numba"))}
    only = runner.selection(family, {"numpy": modules["numpy"]})
    assert {g.compiled[-1] for g in only} == {("numpy",)}


def test_small_families_are_one_part_and_large_ones_several():
    def group(family, cells):
        return runner.Group(family, frozenset(), "", cells)

    given = [group("a", 60), group("b", 40), group("c", 1), group("d", 400), group("d", 1)]
    parts = [[g.family for g in part] for part in runner._parts(given)]
    assert parts == [["a", "b"], ["c"], ["d"], ["d"]]


@pytest.mark.slow
def test_another_process_finds_all_of_it(tmp_path):
    """What is compiled ahead of a cell of each family; nothing is left to compile."""
    tasks = [
        ("unit_activity", ""),
        ("layer_norm_backward", ""),
        ("network_step", "moons-2-32-16-2"),
    ]
    tasks = [(name, "", network, ("float32",), ("numba",)) for name, network in tasks]
    code = f"""
from pathlib import Path
import os, kernels
from benchmarks.running import ahead
for task in {tasks}:
    assert ahead._compiled(task), task
folder = Path(os.environ["NUMBA_CACHE_DIR"])
print(sorted((p.name, p.stat().st_mtime_ns) for p in folder.rglob("*.nb*")))
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run([sys.executable, "-c", code], env=environment, cwd=Path(__file__).parents[2],
                       capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert said[0] == said[1] != "[]\n"


def test_a_cell_is_timed_when_its_process_has_settled(house, monkeypatch):
    said = []
    cell = suite.suites("optimizers")["sgd"]()
    monkeypatch.setattr(owned, "settle", lambda: said.append("settled"))
    monkeypatch.setattr(cell, "note", lambda state, **_: said.append(state))
    cell.setup("moons-2x32", "float32", "numpy")
    assert said == [journal.STARTED, "settled", journal.CORRECT]


def test_the_clock_waits_for_threads_that_spin():
    """C code that computes without Python's lock, as BLAS's threads do."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("no /proc tells which threads run")
    stop = threading.Event()

    def spin():
        data = bytes(1 << 22)
        while not stop.is_set():
            hashlib.sha256(data)

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        while not owned._others_run():
            time.sleep(0.001)
        start = time.perf_counter()
        owned.settle(0.05)
        assert time.perf_counter() - start > 0.02
    finally:
        stop.set()
        thread.join()
    start = time.perf_counter()
    owned.settle(10.0)
    assert time.perf_counter() - start < 9
