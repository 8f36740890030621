"""Blocks are measured as they should be, kept, and gone on with; by processes that only pretend."""

import itertools
import json
import time
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.comparing import (
    blocks,
    comparison,
    machine_code,
    opening,
    sides,
    table,
    verdicts,
)

HOW = {"samples": 8, "rounds": 2}
CELLS = {
    f"adam {k}": {"function": "adam", "ours": True, "control": k == 1, **HOW, "number": 10 + k}
    for k in range(2)
}


class Pretending:
    """A process whose times are those of TIMES, by its side and the cell."""

    def __init__(self, log, times):
        self.log, self.times, self.dies = log, times, None

    def __call__(self, folder, seed):
        self.log.append(("start", folder.name, seed))
        return _Process(self, folder.name)


class _Process:
    def __init__(self, of, side):
        self.of, self.side = of, side

    def ask(self, question, *arguments):
        self.of.log.append((question, self.side, *arguments))
        if (self.side, *arguments[:1]) == self.of.dies and len(self.of.log) > 300:
            raise sides.Failed("its process died")
        if question == "prepare":
            self.name = arguments[0]
            return None
        return self.of.times[self.side][self.name]  # a turn

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.of.log.append(("close", self.side))


@pytest.fixture
def pretend(monkeypatch, tmp_path):
    """(a comparison with two cells, what its processes are asked), the second 1.2 times as slow."""
    log = []
    times = {"base": dict.fromkeys(CELLS, 1.0), "head": {"adam 0": 1.0, "adam 1": 1.2}}
    monkeypatch.setattr(sides, "Process", Pretending(log, times))
    seeds = itertools.count(1)
    monkeypatch.setattr(blocks.secrets, "randbits", lambda _: next(seeds))
    return comparison.Comparison(tmp_path, tmp_path, ("a" * 40, "b" * 40), dict(CELLS)), log


def quietly(_):
    pass


def test_the_quickest_turn_of_a_side_counts():
    assert comparison.times((0, 1, 1, 0), (1, 2, 8, 4)) == [1, 2]
    assert comparison.times((1, 0, 0, 1), (1, 3, 2, 4)) == [2, 1]


def test_a_comparison_runs_through_both_stages(pretend):
    known, log = pretend
    assert blocks.measure(known, say=quietly)
    assert (known.count(1), known.count(2)) == (8, 20)
    assert known.chosen() == ["adam 1"]
    assert known.ratios(1).shape == (2, 8)
    assert known.ratios(2, ["adam 1"]) == pytest.approx(np.full((1, 20), np.log(1.2)))
    starts = [each for each in log if each[0] == "start"]
    assert len(starts) == 2 * 28  # a fresh process a side and block
    assert len({seed for _, _, seed in starts}) == 28
    assert all(a[2] == b[2] for a, b in zip(starts[::2], starts[1::2], strict=True))
    assert sum(each[0] == "close" for each in log) == len(starts)


def test_sides_are_asked_alike(pretend):
    known, log = pretend
    blocks.measure(known, say=quietly)
    turns = [each for each in log if each[0] == "turn"]
    orders = {tuple(each[1] for each in turns[k : k + 4]) for k in range(0, len(turns), 4)}
    base, head = "base", "head"
    assert orders == {(base, head, head, base), (head, base, base, head)}
    for k in range(0, len(turns), 4):
        assert len({each[2:] for each in turns[k : k + 4]}) == 1  # as many calls
    prepared = [each for each in log if each[0] == "prepare"]
    for one, other in zip(prepared[::2], prepared[1::2], strict=True):
        assert {one[1], other[1]} == {base, head}
        assert one[2:] == other[2:]  # the cell, the seed, and that nothing is slowed down
    assert {each[2] for each in prepared[:32:4]} == set(CELLS)  # the cells are shuffled


def test_what_is_slowed_down_is_head(pretend):
    known, log = pretend
    known.slowed = 1.3
    known.cells = {**CELLS, "adam 0": {**CELLS["adam 0"], "ours": False}}
    blocks.measure(known, say=quietly)
    asked = {(name, side, slowed) for what, side, name, _, slowed in log_of(log, "prepare")}
    assert asked == {
        *[("adam 0", "base", None), ("adam 0", "head", None)],
        *[("adam 1", "base", 1), ("adam 1", "head", 1.3)],
    }


def log_of(log, question):
    return [each for each in log if each[0] == question]


def test_what_is_finished_is_kept_and_not_measured_again(pretend, monkeypatch):
    known, log = pretend
    real, done = blocks._block, []

    def stopped(*arguments):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(0)
        return real(*arguments)

    known.keep()
    monkeypatch.setattr(blocks, "_block", stopped)
    assert not blocks.measure(known, say=quietly)
    kept = known.folder / "blocks.jsonl"
    whole = kept.read_text()
    kept.write_text(whole + whole[:20])  # killed while it wrote the next one
    again = replace(known, cells={}, blocks=[])
    assert again.resume()
    assert kept.read_text() == whole
    assert json.dumps(again.blocks) == json.dumps(known.blocks)
    assert (again.cells, again.count(1)) == (known.cells, 3)
    with pytest.raises(ValueError, match="another"):
        replace(known, slowed=1.1).resume()
    monkeypatch.setattr(blocks, "_block", real)
    assert blocks.measure(again, say=quietly)
    assert (again.count(1), again.count(2)) == (8, 20)
    log.clear()
    assert blocks.measure(again, say=quietly)
    assert log == []


def test_a_budget_ends_it(pretend):
    known, _ = pretend
    assert not blocks.measure(known, until=-1, say=quietly)
    assert known.blocks == []
    found = table.judged(known)
    assert found["status"] == verdicts.NO_VERDICT
    assert "NO VERDICT: its blocks are not complete" in table.render(found)


def test_one_long_block_does_not_end_a_budget(pretend):
    known, _ = pretend
    blocks.measure(known, say=quietly)
    known.blocks = known.blocks[:10]
    for block in known.blocks:
        block["seconds"] = (0.5, 0.6)
    known.blocks[-1]["seconds"] = (2, 1000)
    assert blocks.measure(known, time.monotonic() + 60, quietly)


def test_a_budget_judges_what_differs_most(pretend, monkeypatch):
    known, _ = pretend
    known.cells = {n: {**cell, "control": False} for n, cell in CELLS.items()}
    sides.Process.times["head"]["adam 0"] = 1.1
    blocks.measure(known, say=quietly)
    assert known.chosen() == ["adam 1", "adam 0"]
    known.blocks = known.blocks[:8]
    monkeypatch.setattr(blocks, "_costs", lambda _: (1, 1000))
    assert blocks.measure(known, time.monotonic() + 20 * 1900, quietly)
    assert known.chosen() == ["adam 1"]
    found = table.judged(known)
    assert {n: c["verdict"] for n, c in found["cells"].items()} == {
        "adam 0": verdicts.UNSURE,
        "adam 1": verdicts.SLOWER,
    }
    assert found["status"] == verdicts.WORSE
    assert "may be 10% slower" in table.render(found)
    known.blocks = known.blocks[:8]
    assert not blocks.measure(known, time.monotonic() + 20 * 900, quietly)
    assert table.judged(known)["status"] == verdicts.NO_VERDICT


@pytest.mark.parametrize(("side", "status"), [("head", 2), ("base", 0)])
def test_a_cell_that_fails_later_is_given_up_and_the_others_go_on(pretend, side, status):
    known, log = pretend
    sides.Process.dies = side, "adam 1"
    assert blocks.measure(known, say=quietly)
    assert list(known.cells) == ["adam 0"]
    assert known.missing["adam 1"][1] == f"{side}: its process died"
    assert json.loads((known.folder / "cells.json").read_text())["cells"] == known.cells
    assert table.judged(known)["status"] == status
    assert sum(each[0] == "close" for each in log) == sum(each[0] == "start" for each in log)


@pytest.mark.parametrize(("judging", "status"), [(0, 3), (19, 3), (20, 1)])
def test_too_few_blocks_are_no_verdict(pretend, judging, status):
    known, _ = pretend
    known.cells = {n: {**cell, "control": False} for n, cell in CELLS.items()}
    blocks.measure(known, say=quietly)
    known.blocks = known.blocks[: 8 + judging]
    assert table.judged(known)["status"] == status


def test_a_control_that_is_slower_is_no_verdict(pretend):
    known, _ = pretend
    blocks.measure(known, say=quietly)
    found = table.judged(known)
    assert found["cells"]["adam 1"]["verdict"] == verdicts.SLOWER
    assert found["cells"]["adam 1"]["ratio"] == pytest.approx(1.2)
    assert found["cells"]["adam 0"]["verdict"] == verdicts.SAME
    assert found["status"] == verdicts.NO_VERDICT
    known.missing = {"sgd": ("WRONG", "at 3")}
    found = table.judged(known)
    assert found["status"] == verdicts.BROKEN
    assert "at 3" in table.render(found)
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(table.judged(known)))
    assert "| adam 1" in table.markdown(found)
    known.missing = {"sgd": ("n/a", "base is WRONG: at 3")}  # what head mends is no fault
    assert table.judged(known)["status"] == verdicts.NO_VERDICT


def test_what_has_two_modes_is_shown_though_it_is_the_same(pretend):
    known, _ = pretend
    known.cells.pop("adam 1")
    for k in range(8):
        head = 1.04 if k < 4 else 1.0 + k / 1e5
        known.blocks.append({"stage": 1, "times": {"adam 0": ((0, 1, 1, 0), (1, head, head, 1))}})
    found = table.judged(known)
    assert found["cells"]["adam 0"]["verdict"] == verdicts.SAME
    modes = np.array(found["cells"]["adam 0"]["modes"])
    assert modes == pytest.approx(np.array([[1, 4], [1.04, 4]]), abs=1e-3)
    assert "two modes: 1.000 (4) and 1.040 (4)" in table.render(found)


def test_source_without_its_comments_tells_functions_apart(tmp_path, monkeypatch):
    paths = iter(tmp_path / f"{k}.py" for k in range(4))
    monkeypatch.setattr(machine_code, "_path", lambda name: tmp_path / f"{name}.py")
    texts = ("def f():\n    return 1", 'def f():\n    """It."""\n    return 1  # one')
    for text in (*texts, "def f():\n    return 2"):
        next(paths).write_text(text)
    sources = [machine_code._source.__wrapped__(str(k)) for k in range(3)]
    assert sources[0] == sources[1] != sources[2]


def test_a_function_depends_on_what_its_module_imports():
    assert {"kernels.catalog", "kernels.arguments"} & machine_code._imports(
        "kernels.numba_cpu.optimizers"
    )


def test_the_command_prints_and_writes_what_it_found(pretend, monkeypatch, tmp_path, capsys):
    known, _ = pretend
    known.cells["adam 1"] = {**known.cells["adam 1"], "control": False}
    monkeypatch.setattr(opening, "opened", lambda *_, **__: known)
    files = tmp_path / "it.json", tmp_path / "it.md"
    wanted = ["--json", str(files[0]), "--markdown", str(files[1])]
    assert main(["compare", "a", "b", *wanted]) == verdicts.WORSE
    assert "adam 1" in capsys.readouterr().out
    assert json.loads(files[0].read_text())["cells"]["adam 1"]["verdict"] == verdicts.SLOWER
    assert files[1].read_text().startswith("### Times: SLOWER")
    assert main(["compare", "a"]) == 2
    assert "BASE and HEAD" in capsys.readouterr().err
