"""Times that were taken while the machine was held up are marked."""

import json

import pytest
from journals import begin, note

from benchmarks.reports import columns, exports, page, report, results
from benchmarks.running import drift, journal

CELLS = {("moons-2x32", "float32", "numpy"): 1e-6}


def read(mean=1.05, stolen=0, of=1000):
    journal.note(None, journal.READ, least=1.0, mean=mean, stolen=stolen, of=of)


def test_a_reading_is_of_work_on_all_cores(house, monkeypatch):
    path = begin()
    monkeypatch.setattr(drift, "SECONDS", 1e-4)
    drift.note()
    (line,) = journal.lines(path)
    assert 0 < line["least"] <= line["mean"] < 1
    assert 0 <= line["stolen"] <= line["of"]
    assert journal.outcomes(path) == {}


@pytest.mark.parametrize(
    ("after", "found"),
    [
        ({"mean": 1.2, "of": 2000}, None),
        ({"mean": 1.3, "of": 2000}, (1.3, 0)),
        ({"stolen": 20, "of": 2000}, None),
        ({"stolen": 21, "of": 2000}, (1.05, 0.021)),
    ],
)
def test_what_a_disturbed_part_has_timed_is_known(house, after, found):
    """By the readings on either side of it; what comes after stands for itself."""
    path = begin()
    read()
    note("sgd", CELLS)
    read(**after)
    read(of=3000, stolen=after.get("stolen", 0))
    note("adam", CELLS)
    disturbed = results.of_journal(path).disturbed
    assert {cell.function: why for (cell, _), why in disturbed.items()} == (
        {"sgd": pytest.approx(found)} if found else {}
    )


def test_what_held_a_part_up_before_it_counts_after_it_too(house):
    path = begin()
    read(1.5)
    note("sgd", CELLS)
    read(1.0)
    assert list(results.of_journal(path).disturbed.values()) == [(1.5, 0)]


def test_a_part_that_is_not_over_is_held_against_what_was_before_it(house):
    path = begin()
    read(1.0)
    read(1.5)
    note("sgd", CELLS)
    assert list(results.of_journal(path).disturbed.values()) == [(1.5, 0)]


def test_every_form_of_the_report_marks_it(house):
    begin()
    note("sgd", CELLS)
    read(1.0)
    note("adam", CELLS)
    read(1.75, stolen=100, of=2000)
    shown = columns.view()
    text = report.text(shown)
    marked = [line for line in text.splitlines() if line.startswith("moons-2x32")]
    assert ["~" in line.split() for line in marked] == [False, True]
    assert "~ 1 cells were timed while other work held up the machine" in text
    assert "up to 1.75 times as long as at best, and up to 10% of the time" in text
    assert "1.00 us ~" in page.render(shown)
    cells = json.loads(exports.as_json(shown))["cells"]
    assert {c["function"]: c["results"]["numpy"]["disturbed"] for c in cells} == {
        "sgd": False,
        "adam": True,
    }
