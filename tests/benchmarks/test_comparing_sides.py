"""Both sides as they are opened: what is checked, what is a control, and real commits."""

import itertools
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.comparing import blocks, comparison, opening, side, sides, table, verdicts
from benchmarks.suites import workloads

GOOD = ["correct", "", 1e-5]
ANSWERS = {  # of base and of head
    "right": (GOOD, GOOD),
    "other": (GOOD, GOOD),
    "wrong": (GOOD, ["WRONG", "at 3", 0]),
    "mended": (["WRONG", "at 3", 0], GOOD),
    "new": (["n/a", "numba has no new", 0], GOOD),
    "lost": (GOOD, ["n/a", "numba has no lost", 0]),
    "slow": (["correct", "", 0.02], ["correct", "", 0.02]),
    "slower": (["correct", "", 1], ["correct", "", 1]),
    "dies": (GOOD, None),
    **{f"equal {k}": (GOOD, GOOD) for k in range(9)},
    "last": (GOOD, GOOD),
}


@pytest.fixture
def answering(monkeypatch):
    """Processes that answer what ANSWERS say, and die where they are None; how many are alive."""
    alive = itertools.count(), itertools.count()

    class Answering:
        def __init__(self, folder):
            next(alive[0])
            self.side = sides.SIDES.index(folder.name)

        def put(self, question, argument):
            self.asked = question, argument

        def answer(self):
            question, name = self.asked
            if question == "cells":
                equal = ("right", "equal")
                return [[n, "f", f"{self.side * (not n.startswith(equal))}x"] for n in ANSWERS]
            if (answer := ANSWERS[name][self.side]) is None:
                raise sides.Failed("its process died")
            return answer

        def close(self):
            next(alive[1])

    for name, method in vars(Answering).items():
        if callable(method):
            monkeypatch.setattr(sides.Process, name, method)
    return lambda: next(alive[0]) - next(alive[1])


@pytest.mark.parametrize("every", [False, True])
def test_both_sides_are_checked_and_a_process_that_died_is_replaced(answering, tmp_path, every):
    cells, missing = opening._checked(tmp_path, [], lambda _: None, every)
    assert answering() == 0
    equal = [name for name in ANSWERS if name.startswith(("right", "equal"))]
    compared = equal if every else equal[::2]  # eight at most
    assert [name for name, cell in cells.items() if cell["control"]] == compared
    assert set(cells) - set(equal) == {"other", "slow", "last"}
    assert [name for name, why in missing.items() if why[1] == opening.EQUAL_CODE] == (
        [] if every else equal[1::2]
    )
    assert missing["wrong"] == ("WRONG", "at 3")
    assert missing["dies"] == ("failed", "its process died")
    assert {missing[name][0] for name in ("mended", "new", "slower")} == {"n/a"}
    known = comparison.Comparison(tmp_path, tmp_path, ("a", "b"), cells, missing)
    assert set(known.broken) == {"wrong", "dies", "lost"}


@pytest.mark.parametrize(
    ("seconds", "number", "samples", "rounds"),
    [(1e-6, 250, 8, 4), (1e-4, 2, 10, 4), (1.5e-3, 1, 1, 4), (0.012, 1, 1, 2), (0.09, 1, 1, 1)],
)
def test_how_long_cells_are_timed(seconds, number, samples, rounds):
    """In samples of 0.25 ms, turns of 2 ms and four rounds, unless a call takes longer."""
    found = opening.calls(seconds)
    assert found == {"number": number, "samples": samples, "rounds": rounds}


def test_arrays_lie_alike_in_every_process():
    given = {"a": np.arange(7.0), "b": (np.ones((2, 3), np.float32), np.zeros(1, np.int64)), "c": 1}
    for _ in range(3):
        held = side._placed(given)
        arrays = held["a"], *held["b"]
        assert [array.ctypes.data % side.PAGE for array in arrays] == [0, 576, 1152]
        for array, own in zip(arrays, (given["a"], *given["b"]), strict=True):
            np.testing.assert_array_equal(array, own, strict=True)
        assert held["c"] == 1


def test_a_commit_that_is_none():
    with pytest.raises(ValueError, match="no-such-thing"):
        sides.commit("no-such-thing")
    with pytest.raises(ValueError, match="--all"):
        sides.commit("--all")


@pytest.mark.slow
@pytest.mark.skipif(not (workloads.ROOT / ".git").exists(), reason="this is no git checkout")
def test_real_commits(monkeypatch, tmp_path):
    """Wheels, processes and blocks as they are, against itself and twice as slow."""
    monkeypatch.setattr(sides, "FOLDER", tmp_path)
    known = opening.opened("HEAD", "HEAD", ["mean_squared_error"], lambda _: None, every=True)
    assert {path.name for path in known.built.iterdir()} >= {"base", "head"}
    assert known.cells
    assert all(cell["control"] for cell in known.cells.values())
    known.slowed = 2
    known.cells = {name: {**c, "control": False} for name, c in known.cells.items() if c["ours"]}
    assert blocks.measure(known, say=lambda _: None)
    assert table.judged(known)["status"] == verdicts.WORSE
    ratios = known.ratios(2)
    assert (np.median(ratios, axis=1) > np.log(1.5)).all()


@pytest.mark.slow
def test_a_stopped_side_dies_with_its_parent(tmp_path):
    (tmp_path / "side").symlink_to(workloads.ROOT)
    code = (
        "import pathlib, sys; from benchmarks.comparing import sides\n"
        "side = sides.Process(pathlib.Path(sys.argv[1], 'side')); side.ask('cells', ['adam'])\n"
        "print(side._process.pid, flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    parent = subprocess.Popen(
        command, cwd=workloads.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 10
    while (state := _state(child)) in tuple("TRS") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert state in ("", "Z")


def _state(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""
