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
    monkeypatch.setattr(drift, "PAUSE", 0.0)
    free = drift._cores()
    drift.note()
    assert drift._cores() == free
    (line,) = journal.lines(path)
    assert 0 < line["least"] <= line["mean"] < 1
    assert 0 <= line["stolen"] <= line["of"]
    assert journal.outcomes(path) == {}


@pytest.mark.parametrize(
    ("after", "found"),
    [
        ({"mean": 1.24, "of": 2000}, None),
        ({"mean": 1.26, "of": 2000}, (1.26, 0)),
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


def test_the_limit_follows_from_how_much_the_piece_varies():
    assert drift._limit([1.01, 1.01, 2.0]) == pytest.approx(1.1)
    assert drift._limit([1.04, 1.04, 2.0]) == pytest.approx(1.2)
    assert drift._limit([2.0, 2.0, 2.0]) == 1.5


def test_one_round_of_three_is_no_disturbance_and_one_core_of_two_is(house, monkeypatch):
    """What passes, such as a process that ends, and what stays on one core."""
    path, rounds = begin(), iter([(5, 1), (1, 1), (1, 1), (1, 2), (1, 2), (1, 1)])
    monkeypatch.setattr(drift, "PAUSE", 0.0)
    monkeypatch.setattr(drift, "_cores", lambda: [0, 1])
    now = {}

    def hashed(core, seconds):
        if core == 0:
            now[0] = next(rounds)
        return [1.0, 2.0 * now[0][core] - 1]

    monkeypatch.setattr(drift, "_hashed", hashed)
    monkeypatch.setattr(drift, "ThreadPoolExecutor", InTurn)
    drift.note()
    drift.note()
    assert [line["mean"] for line in journal.lines(path)] == [1.0, 2.0]


class InTurn:
    """Threads that compute one after the other."""

    def __init__(self, count):
        self.map = map

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_what_is_timed_again_without_a_disturbance_has_none(house):
    path = begin()
    read()
    note("sgd", CELLS)
    read(1.6)
    read()
    note("sgd", CELLS)
    read()
    assert results.of_journal(path).disturbed == {}


def test_what_held_a_part_up_before_it_counts_after_it_too(house):
    path = begin()
    read(1.6)
    note("sgd", CELLS)
    read(1.0)
    assert list(results.of_journal(path).disturbed.values()) == [(1.6, 0)]


def test_a_part_that_is_not_over_is_held_against_what_was_before_it(house):
    path = begin()
    read(1.0)
    read(1.6)
    note("sgd", CELLS)
    assert list(results.of_journal(path).disturbed.values()) == [(1.6, 0)]


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
