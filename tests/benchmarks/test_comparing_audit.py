"""What an audit counts, on blocks whose truth is known."""

import json
import time

import numpy as np

from benchmarks.__main__ import main
from benchmarks.comparing import audit, blocks, comparison, sides, verdicts


def audited(rng, folder, factor, slowed=1):
    """A whole comparison of eight cells in which head takes this much longer, some short."""
    cells = {f"c{k}": {"function": "adam numba", "control": k == 0, "number": 9} for k in range(8)}
    known = comparison.Comparison(folder, ("a" * 40,) * 2, cells, slowed=slowed)
    for stage in [1] * 8 + [2] * 20:
        seconds = {name: 1e-6 if name == "c1" else 1e-4 for name in cells}
        noise = np.exp(rng.normal(0, 0.004, (8, 4)))
        times = {
            name: (
                (0, 1, 1, 0),
                [t * x * f for x, f in zip(row, (1, factor, factor, 1), strict=True)],
            )
            for (name, t), row in zip(seconds.items(), noise, strict=True)
        }
        known.blocks.append({"stage": stage, "seed": 0, "times": times})
    return known


def test_an_audit_counts_alarms_and_finds(tmp_path):
    rng = np.random.default_rng(1)
    measured = {factor: [audited(rng, tmp_path, factor, factor)] for factor in (1, *audit.PLANTED)}
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
    alarming = audit.summed({1: [audited(rng, tmp_path, 1.2)]})
    assert audit.alarms(alarming) == 8


def test_what_an_audit_adds_to_a_backend_slows_its_functions():
    module = {"time": time, "adam": lambda: time.sleep(0.01)}
    exec(sides.SLOWING.format(factor=3), module)
    began = time.perf_counter()
    module["adam"]()
    assert time.perf_counter() - began >= 0.03


def test_the_self_test_stops_at_its_budget_and_counts_what_is_whole(monkeypatch, tmp_path, capsys):
    rng, asked = np.random.default_rng(2), []

    def opened(base, head, only, say, audit, slowed):
        asked.append((slowed, audit))
        return audited(rng, tmp_path, slowed, slowed)

    monkeypatch.setattr(comparison, "opened", opened)
    monkeypatch.setattr(blocks, "measure", lambda *_, **how: how["every"] and len(asked) < 4)
    path = tmp_path / "audit.json"
    assert main(["compare", "--self-test", "2", "--json", str(path)]) == verdicts.EQUAL
    assert asked == [(1, 0), (1, 1), (1.03, 0), (1.1, 0)]
    assert "0 of 16" in capsys.readouterr().out
    assert set(json.loads(path.read_text())) == {"1", "1.03"}
