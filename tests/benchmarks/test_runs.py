"""Which run a result is of: the newest by what the files tell, and what is older than it."""

import json
import os
import re
import subprocess

import pytest
from journals import begin, note, note_roofs, record

from benchmarks.reports import report, results
from benchmarks.running import journal, plugin


def sgd(backend="numpy", **seconds):
    """Cells of sgd by the workload of their layer, "_" in the place of "-"."""
    layers = {"moons": "moons-2x32", "mnist": "mnist-784x512", "digits": "digits-64x128"}
    return {(layers[name], "float32", backend): each for name, each in seconds.items()}


def test_the_newest_recorded_session_is_the_one_that_began_last(house):
    """Whatever times its checkout gave to the files."""
    older = record("h100", "aaaaaaaa", 1_700_000_000, sgd=sgd("cupy", moons=1e-6))
    newer = record("h100", "bbbbbbbb", 1_800_000_000, sgd=sgd("cupy", moons=2e-6))
    for first, last in ((older, newer), (newer, older)):
        os.utime(first, (1, 1))
        os.utime(last, (2, 2))
        (run,) = results.recorded()
        assert run.commit == "bbbbbbbb"
        assert run.finished.timestamp() == 1_800_000_000


def test_the_newest_run_is_the_one_that_began_last(house):
    for commit in ("older", "newer"):
        path = begin()
        rewrite(path, commit=commit)
        note("sgd", sgd(moons=1e-6))
        os.utime(path, (1, 1) if commit == "newer" else (2, 2))
    assert results.newest().commit == "newer"
    begin()  # interrupted before anything was known
    assert results.newest().commit == "newer"
    begin("there")
    note("sgd", sgd(moons=1e-6))
    assert results.newest().machine == "there"
    assert results.newest("here").commit == "newer"


def rewrite(path, **changed):
    """Another head of a journal."""
    head, rest = path.read_text().split("\n", 1)
    path.write_text(json.dumps({**json.loads(head), **changed}) + "\n" + rest)


def test_report_says_which_cells_are_of_earlier_runs(house):
    first = begin()
    rewrite(first, started="2026-01-02T03:04:05+00:00", code="as it was", edited=False)
    note("sgd", sgd(moons=1e-6, digits=2e-6, mnist=3e-6) | sgd("numba", moons=0.5e-6))
    second = begin()
    rewrite(second, edited=True)
    note("sgd", sgd(digits=4e-6))
    begin()
    note("sgd", sgd(moons=7e-6, mnist=("failed", "no such luck")))
    lines = [line.split() for line in report.render().splitlines()]
    assert ["moons-2x32", "7.00", "us", "500", "ns", "[2]", "14.0", "n/a"] in lines
    assert ["digits-64x128", "4.00", "us", "[1]", "-", "n/a"] in lines
    assert ["mnist-784x512", "failed", "-", "n/a"] in lines
    rows = [line[0] for line in lines if line and re.search(r"-\d+x\d+$", line[0])]
    assert rows == ["moons-2x32", "digits-64x128", "mnist-784x512"]  # not in the order of the runs
    foot = report.render().splitlines()[-2:]
    assert re.fullmatch(
        r"\[1\] 1 cells are of an earlier run, .*, of the same code: "
        r"commit \w{8} with uncommitted changes",
        foot[0],
    )
    assert re.fullmatch(
        r"\[2\] 1 cells are of an earlier run, 2026-01-0\d .*, of other code: commit \w{8}", foot[1]
    )


def test_an_earlier_time_is_held_against_the_roof_of_its_own_run(house):
    """Other work may have slowed the machine down in the meantime."""
    wide = {"wide-2048x2048": 0.2, "wide-1024x1024": 0.1}
    for layer, slowness in zip(wide, (1, 2), strict=True):
        begin()
        note_roofs(slowness)
        note("dense_forward", {("relu", layer, "float32", 2048, "numba"): slowness * wide[layer]})
    text = report.render()
    shares = [re.search(rf"{layer} .* GFLOP/s +(\d+%)", text)[1] for layer in wide]
    assert shares == ["86%", "43%"]


@pytest.mark.parametrize("other", ["commit", "settings", "versions", "python", "machine"])
def test_cells_of_other_surroundings_are_never_mixed_in(house, other):
    path = begin()
    rewrite(path, **{other: {} if other in ("settings", "versions") else "other"})
    note("sgd", sgd(mnist=1e-6))
    begin()
    note("sgd", sgd(moons=1e-6))
    run = results.newest()
    assert [cell.layer for cell, _ in run.times] == ["moons-2x32"]
    assert run.earlier == {}


def test_a_run_says_of_which_code_it_is(monkeypatch, tmp_path):
    monkeypatch.setattr(journal.workloads, "ROOT", tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    kernel = tmp_path / "kernels" / "adam.py"
    kernel.parent.mkdir()
    kernel.write_text("as it is")

    def described(*command):
        if command:
            subprocess.run([*git, *command], check=True, capture_output=True)
        return journal.revision(), journal.code()

    described("init", "-q")
    described("add", ".")
    described("commit", "-m", "first")
    clean = described()
    (commit, edited), code = clean
    assert (len(commit), edited) == (40, False)
    kernel.write_text("edited")
    assert described()[0] == (commit, True)
    assert described()[1] != code
    kernel.write_text("as it is")
    (tmp_path / "notes.txt").write_text("no code")
    assert described() == clean
    monkeypatch.setenv("FUSEBENCH_BACKEND", str(tmp_path / "notes.txt"))
    assert described()[1] != code
    monkeypatch.delenv("FUSEBENCH_BACKEND")
    (kernel.parent / "new.cu").write_text("code")
    assert described()[0] == (commit, True)
    assert described()[1] != code


# --- what became of a cell -----------------------------------------------------------------------

DIED = "its process died while it was "
LATE = {
    journal.STARTED: f"it took more than {journal.LIMITS[journal.STARTED]} s while it was checked",
    journal.CORRECT: f"it took more than {journal.LIMITS[journal.CORRECT]} s while it was timed",
}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["0 a started"], {}),  # under way, or interrupted
        (["0 a started", "1 a correct"], {}),
        (["0 a started", "1 a correct", "2 a timed"], {"a": "timed"}),
        (["0 a started", "1 a WRONG"], {"a": "WRONG"}),
        (["0 a started", "1 b started"], {"a": DIED + "checked"}),
        (["0 a started", "1 a correct", "2 b started"], {"a": DIED + "timed"}),
        (["0 a started", "1 a correct", "2 end"], {"a": DIED + "timed"}),
        (["0 a started", "99 a correct", "220 end"], {"a": LATE[journal.CORRECT]}),
        (["0 a started", "99 a correct", "218 end"], {"a": DIED + "timed"}),
        (["0 a started", "181 b started"], {"a": LATE[journal.STARTED]}),
        (["0 a started", "1 b started", "2 b timed", "3 a started"], {"b": "timed"}),  # once more
        (["0 a started", "1 a timed", "2 b sta"], {"a": "timed"}),  # the disk was full
    ],
)
def test_what_became_of_a_cell(house, lines, expected):
    path = begin()
    with path.open("a") as file:
        for line in lines:
            at, cell, state = [*line.split(), None][:3]
            text = {"cell": None if cell == "end" else [cell], "state": state, "at": float(at)}
            text |= {"samples": [1e-6]} if state == journal.TIMED else {}
            file.write(json.dumps(text) + "\n" if state != "sta" else json.dumps(text)[:20])
    found = journal.outcomes(path)
    assert {c[0]: line.get("reason", line["state"]) for c, line in found.items()} == expected
    assert all(line["state"] == journal.FAILED for line in found.values() if "reason" in line)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("run -E checkout", True),
        ("run -E checkout --quick", False),
        ("run -q", False),
        ("show", False),
    ],
)
def test_asv_called_by_hand_has_a_journal_when_it_times(arguments, expected):
    assert plugin.times(["asv", *arguments.split()]) == expected


def test_nothing_is_noted_where_there_is_no_run(house):
    journal.note(["softmax"], journal.STARTED)
    assert not journal.FOLDER.exists()
