"""What an audit counts, on blocks whose truth is known."""

import json
import time

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.comparing import audit, blocks, comparison, opening, published, side, verdicts
from benchmarks.reports import results
from benchmarks.suites import workloads

CELLS = {f"c{k}": {"function": f"{'numpy' if k == 0 else 'numba'}", "control": True,
                   "ours": k > 0} for k in range(8)}  # fmt: skip


def whole(rng, known, factor):
    """The comparison with all blocks, in which head takes this much longer; c1 is short."""
    for stage in [1] * 8 + [2] * 20:
        times = {}
        for name, cell in known.cells.items():
            took = (1e-6 if name == "c1" else 1e-4) * np.exp(rng.normal(0, 0.004, 4))
            took[1:3] *= factor if cell["ours"] else 1
            times[name] = (0, 1, 1, 0), took.tolist()
        known.blocks.append({"stage": stage, "seed": 0, "seconds": (1, 2), "times": times})
    return known


@pytest.fixture
def first(tmp_path):
    return comparison.Comparison(tmp_path, tmp_path, ("a" * 40,) * 2, CELLS)


def test_an_audit_counts_alarms_and_finds(first):
    rng = np.random.default_rng(1)
    measured = {
        factor: [whole(rng, audit.planted(first, factor, str(factor)), factor)]
        for factor in (1, *audit.PLANTED)
    }
    total = audit.summed(measured)
    assert total[1][audit.OURS][verdicts.SAME] == 8
    assert total[1.1][audit.OURS][verdicts.SLOWER] == 6  # neither the control nor the short one
    assert total[1.03][audit.OURS][verdicts.SLOWER] == 0
    assert total[1.03][f"{audit.OURS}, functions"][verdicts.SLOWER] == 1
    assert total[1.3]["asv compare"][verdicts.SLOWER] == 6
    assert audit.alarms(total) == 0
    text = audit.render(total)
    assert "0 of 8" in text
    assert "6 of 6" in text
    again = published.read(published.write(measured, first.folder))
    assert audit.summed(again) == total
    assert [known.count(2) for known in again[1.1]] == [verdicts.JUDGING]
    alarming = audit.summed({1: [whole(rng, audit.planted(first, 1, "more"), 1.2)]})
    assert audit.alarms(alarming) == 7


def test_a_call_that_is_slowed_down():
    call = side._slowed(lambda: time.sleep(0.01), time.perf_counter, 3)
    began = time.perf_counter()
    call()
    assert time.perf_counter() - began >= 0.03


def test_the_self_test_stops_at_its_budget_and_counts_what_is_whole(monkeypatch, first, capsys):
    rng, asked = np.random.default_rng(2), []

    def measured(known, *_, every):
        asked.append((known.slowed, known.folder.name))
        whole(rng, known, known.slowed or 1)
        return every and len(asked) < 4

    monkeypatch.setattr(opening, "opened", lambda *_, **__: first)
    monkeypatch.setattr(blocks, "measure", measured)
    arguments = ["compare", "--self-test", "2", "--output", str(first.folder)]
    assert main(arguments) == verdicts.EQUAL
    assert asked == [
        *[(None, "equal-1"), (None, "equal-2")],
        *[(1.1, "slowed-1.1"), (1.03, "slowed-1.03")],
    ]
    assert "0 of 16" in capsys.readouterr().out
    assert set(json.loads((first.folder / "self-test.json").read_text())) == {"1", "1.1"}
    assert "asv compare" in (first.folder / "self-test.txt").read_text()
    blocks_of = first.folder / published.FILE
    assert main(["compare", "--published", str(blocks_of)]) == verdicts.EQUAL
    assert "0 of 16" in capsys.readouterr().out
    kept = json.loads((first.folder / "slowed-1.1" / "cells.json").read_text())
    assert [cell["control"] for cell in kept["cells"].values()] == [True] + [False] * 7


@pytest.mark.slow
def test_the_published_blocks_say_what_readme_says():
    (path,) = results.RECORDED.glob(f"*/{published.FILE}")
    total = audit.summed(published.read(path))
    assert audit.alarms(total) == 0
    text = (workloads.ROOT / "benchmarks" / "README.md").read_text()
    assert all(f"    {line}" in text for line in audit.render(total).splitlines())
