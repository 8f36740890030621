"""Several machines side by side: whose times stand where, and which are compared."""

import pytest
from journals import begin, note, record
from page_reader import Reader
from pages import LAYER, house_of_runs

from benchmarks.reports import columns, figures, page, report, results
from benchmarks.running import journal
from benchmarks.suites import suite


def test_a_time_of_another_specification_is_compared_with_nothing(house):
    shown = house_of_runs(house, gpu_specification="2")
    (gpu,) = shown.gpus
    for cell in shown.cells:
        assert gpu.seconds(cell) is None
        found = figures.figures(shown, cell, gpu)
        assert (found["seconds"], found["speedup"], found["rate"]) == (None, None, None)
    text = page.render(shown)
    found = Reader(text)
    maps = found.maps
    assert maps[f"relu {LAYER}"] == ["spec. 2", "spec. 2"]
    assert "specification 2, not 1 as on here" in text
    assert "<dd>version 2" in text
    assert "spec. 2" in report.text(shown)
    assert "From which batch" not in report.text(shown)
    assert figures.figures(shown, shown.cells[0], gpu)["verdict"] == figures.OTHER


def test_an_earlier_run_of_another_specification_is_left_out(house):
    """As if the cells that the newest run did not time had never been timed."""
    for version, layer in (("1", LAYER), ("2", "digits-64x128")):
        begin()
        line = {"state": journal.TIMED, "samples": [1e-6], "number": 1, "version": version}
        journal.note(("sgd", layer, "float32", "numba"), elsewhere=False, **line)
        journal.note(
            ("adam", layer, "float32", "numba"), elsewhere=False, **line | {"version": "1"}
        )
    shown = columns.view()
    assert [c.layer for c in shown.cells if c.function == "sgd"] == ["digits-64x128"]
    assert len([c for c in shown.cells if c.function == "adam"]) == 2


def test_other_machines_stand_beside_this_one(house, monkeypatch):
    """A checkout by its journals, a folder by its recorded runs."""
    here, there = house / "journal", house / "other" / ".asv" / "journal"
    monkeypatch.setattr(journal, "FOLDER", there)
    begin("laptop")
    note("sgd", {(LAYER, "float32", "numba"): 8e-6, ("moons-2x32", "float32", "numba"): 1e-6})
    monkeypatch.setattr(journal, "FOLDER", here)
    begin()
    note("sgd", {(LAYER, "float32", "numba"): 4e-6})
    shown = columns.view(None, [house / "other"])
    assert [c.label for c in shown.columns] == ["numpy", "numba", "numba laptop"]
    heads, rows = Reader(page.render(shown)).cells
    (row,) = (r for r in rows if r[2] == LAYER)
    assert dict(zip(heads, row, strict=True))["here/there"] == "0.50"
    assert [r[2] for r in rows] == ["moons-2x32", LAYER]
    assert columns.fastest_cpu(shown.cells[0], shown.cpus) is None
    assert "Recorded on another machine: laptop" in page.render(shown)
    with pytest.raises(ValueError, match=r"neither a run's journal nor a recorded machine"):
        columns.view(None, [house / "journal"])


def test_runs_of_one_machine_are_told_apart(house):
    for commit, started in (("aaaaaaaa", 1_700_000_000), ("bbbbbbbb", 1_800_000_000)):
        times = {(LAYER, "float32", "cupy"): 1e-6}
        record("h100", commit, started, sgd=times).rename(house / f"{commit}.json")
        folder = house / commit / "h100"
        folder.mkdir(parents=True)
        (house / f"{commit}.json").rename(folder / "run.json")
    begin()
    note("sgd", {(LAYER, "float32", "numba"): 4e-6})
    shown = columns.view(None, [house / "aaaaaaaa", house / "bbbbbbbb"])
    labels = [c.label for c in shown.gpus]
    assert len(set(labels)) == 2
    assert all(label.startswith("cupy h100 ") for label in labels)


def test_a_recorded_machine_takes_the_place_of_a_run(house):
    record("h100", sgd={(LAYER, "float32", "cupy"): 1e-6})
    shown = columns.view()
    assert (shown.run.machine, [c.label for c in shown.gpus]) == ("h100", ["cupy"])
    assert "<h2>cupy</h2>" in page.render(shown)
    with pytest.raises(ValueError, match=r"there are no results yet"):
        columns.view("h200")


def test_a_cell_notes_the_version_of_its_suite(house):
    path = begin()
    noting = suite._Suite()
    noting.cell = ("sgd", LAYER, "float32", "numba")
    noting.timed({"samples": [1e-6], "number": 1})
    (line,) = journal.outcomes(path).values()
    assert line["version"] == suite._Suite.version
    assert results.newest().specifications == {"sgd": suite._Suite.version}
