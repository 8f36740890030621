"""Both sides as they are opened: what is checked, what is a control, and real commits."""

import pytest

from benchmarks.comparing import blocks, comparison, sides, table, verdicts
from benchmarks.suites import workloads

ANSWERS = {  # of base and of head
    "right": (["correct", "", 1e-5], ["correct", "", 1e-5]),
    "other": (["correct", "", 1e-5], ["correct", "", 1e-5]),
    "wrong": (["correct", "", 1e-5], ["WRONG", "at 3", 0]),
    "mended": (["WRONG", "at 3", 0], ["correct", "", 1e-5]),
    "new": (["n/a", "numba has no new", 0], ["correct", "", 1e-5]),
    "slow": (["correct", "", 0.02], ["correct", "", 0.02]),
    "slower": (["correct", "", 1], ["correct", "", 1]),
    "dies": (["correct", "", 1e-5], None),
    "last": (["correct", "", 1e-5], ["correct", "", 1e-5]),
}


class Answering:
    """A process that answers what ANSWERS say, and dies where they are None."""

    started = 0

    def __init__(self, folder):
        self.side = sides.SIDES.index(folder.name)
        Answering.started += 1

    def ask(self, question, argument):
        if question == "cells":
            return [[name, "f numba", f"{self.side * (name == 'other')}"] for name in ANSWERS]
        if (answer := ANSWERS[argument][self.side]) is None:
            raise sides.Failed("its process died")
        return answer

    def close(self):
        Answering.started -= 1


def test_both_sides_are_checked_and_a_process_that_died_is_replaced(monkeypatch, tmp_path):
    monkeypatch.setattr(sides, "Process", Answering)
    cells, missing = comparison._checked(tmp_path, [], lambda _: None)
    assert Answering.started == 0
    assert list(cells) == ["right", "other", "slow", "last"]
    assert [cell["control"] for cell in cells.values()] == [True, False, True, True]
    assert (cells["right"]["number"], cells["right"]["rounds"]) == (100, comparison.ROUNDS)
    assert (cells["slow"]["number"], cells["slow"]["rounds"]) == (1, 1)
    assert missing["wrong"] == ("WRONG", "at 3")
    assert missing["dies"] == ("failed", "its process died")
    for name in ("mended", "new", "slower"):
        assert missing[name][0] == "n/a"
    known = comparison.Comparison(tmp_path, ("a", "b"), cells, missing)
    assert set(known.broken) == {"wrong", "dies"}


def test_a_commit_that_is_none():
    with pytest.raises(ValueError, match="no-such-thing"):
        sides.commit("no-such-thing")
    with pytest.raises(ValueError, match="--all"):
        sides.commit("--all")


@pytest.mark.slow
@pytest.mark.skipif(not (workloads.ROOT / ".git").exists(), reason="this is no git checkout")
def test_real_commits(monkeypatch, tmp_path):
    """Wheels, processes and blocks as they are, against itself and three times as slow."""
    monkeypatch.setattr(sides, "FOLDER", tmp_path)
    monkeypatch.setattr(verdicts, "JUDGING", 10)
    known = comparison.opened("HEAD", "HEAD", ["clip_by_value"], lambda _: None, slowed=3)
    assert known.cells
    assert not any(c["control"] for c in known.cells.values() if "numba" in c["function"])
    assert blocks.measure(known, say=lambda _: None)
    assert table.judged(known)["status"] == verdicts.WORSE
    assert {path.name for path in known.folder.parent.iterdir()} >= {"base", "head"}
    same = comparison.opened("HEAD", "HEAD", ["clip_by_value"], lambda _: None)
    assert all(cell["control"] for cell in same.cells.values())
