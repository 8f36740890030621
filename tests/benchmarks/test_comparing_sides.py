"""Both sides as they are opened: what is checked, what is a control, and real commits."""

import itertools
import math
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.comparing import (
    blocks,
    comparison,
    machine_code,
    opening,
    side,
    sides,
    table,
    verdicts,
)
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


def quietly(_):
    pass


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
    cells, missing = opening._checked(tmp_path, [], quietly, math.inf, every)
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


def test_cells_are_checked_within_the_budget(answering, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sides, "FOLDER", tmp_path)
    monkeypatch.setattr(sides, "built", lambda _: tmp_path)
    monkeypatch.setattr(sides, "commit", "{:0>40}".format)
    assert main(["compare", "1", "2", "--budget", "0"]) == verdicts.NO_VERDICT
    assert f"NO VERDICT: 0 of {len(ANSWERS) - 5} cells are checked" in capsys.readouterr().out
    assert answering() == 0


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


def test_training_steps_are_compared_with_their_code():
    answering = side.Side()
    listed = {name: rest for name, *rest in answering.cells(["network_step"])}
    steps = [name for name, (_, digest) in listed.items() if digest]
    assert len(steps) > 10
    (numpy,) = set(listed) - set(steps)  # a control
    (digest,) = {listed[name][1] for name in steps}
    assert digest not in {rest[1] for _, *rest in answering.cells(["adam"])}
    assert "kernels.numba_cpu.network" in machine_code._imports("kernels.numba_cpu")
    answering.prepare(numpy, 3)
    before = answering._call.func.__self__.state()
    assert answering.turn(1, 1) > 0
    after = answering._call.func.__self__.state()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert not any(name.startswith("layer") and name.endswith("weight") for name in changed)


def test_a_commit_that_is_none():
    with pytest.raises(ValueError, match="no-such-thing"):
        sides.commit("no-such-thing")
    with pytest.raises(ValueError, match="--all"):
        sides.commit("--all")


@pytest.mark.slow
@pytest.mark.skipif(not (workloads.ROOT / ".git").exists(), reason="this is no git checkout")
def test_real_commits(monkeypatch, tmp_path):
    """Wheels, processes and blocks as they are, against itself and twice as slow; fewer blocks: of
    two cells eight can say so, and a process takes long to start beside others.
    """
    monkeypatch.setattr(sides, "FOLDER", tmp_path)
    monkeypatch.setattr(verdicts, "CHOOSING", 2)
    monkeypatch.setattr(verdicts, "JUDGING", 8)
    known = opening.opened("HEAD", "HEAD", ["mean_squared_error"], quietly, every=True)
    assert {path.name for path in known.built.iterdir()} >= {"base", "head"}
    assert all(cell["control"] for cell in known.cells.values())
    assert len(known.cells) > 2
    known.slowed = 2
    ours = [(name, cell) for name, cell in known.cells.items() if cell["ours"]]
    known.cells = {name: {**cell, "control": False} for name, cell in ours[-2:]}
    assert blocks.measure(known, say=quietly)
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
