"""The study's tables and its command."""

import math

import pytest
from study_runs import record, run, seeds, study

import benchmarks.study
from benchmarks import __main__ as command
from benchmarks.study import figures, report, store


def table(title, runs=None):
    (found,) = [t for t in report.tables(runs or study()) if t.title.startswith(title)]
    return found


def test_steps_and_time_a_step_stand_apart_with_their_product():
    found = table("Steps to the target")
    assert found.title.endswith("moons-0.2 32-16 relu none, numba")
    rows = {row[0]: dict(zip(found.header, row, strict=True)) for row in found.rows}
    assert list(rows) == ["adam", "minibatch_sgd", "rmsprop"]  # the soonest first
    adam = rows["adam"]
    assert (adam["rate"], adam["batch"], adam["steps"]) == (0.01, 32, "50 [40 - 60]")
    assert adam["time a step"] == "2.00 us"
    assert adam["to the target"] == "100 us [80.0 us - 120 us]"
    assert (adam["accuracy"], adam["reached"], adam["diverged"]) == ("95.0%", "6 of 6", 0)
    assert rows["minibatch_sgd"]["reached"] == "4 of 6"
    assert (rows["rmsprop"]["reached"], rows["rmsprop"]["diverged"]) == ("3 of 6", 3)


def test_how_far_a_wrong_rate_hurts():
    rows = {row[1]: row[2:] for row in table("How far a wrong rate hurts").rows}
    assert rows["adam"] == [32, "1.00", "8.20"]
    assert rows["minibatch_sgd"] == [32, "never", "1.00"]
    assert rows["rmsprop"] == [32, "1.00", "diverges"]
    never = figures.cells(seeds("adam", [None]))[0]
    assert report.times(never, never) == "never"
    assert report.times(None, never) == ""


def test_profiles_say_who_is_first_and_who_gets_there():
    found = table("Performance profiles")
    rows = {tuple(row[:3]): row[3:] for row in found.rows}
    assert rows["best setting", "steps", "adam"] == ["100.0%"] * 5
    assert rows["best setting", "steps", "rmsprop"] == ["0.0%", "33.3%", "66.7%", *["100.0%"] * 2]
    assert rows["any rate", "time", "rmsprop"][-1] == "50.0%"


def test_activations_are_those_of_settings_that_were_run_with_several():
    rows = table("Activations").rows
    assert [row[:4] for row in rows] == [
        ["moons-0.2", "relu", 3, "95.0%"],
        ["moons-0.2", "elu", 3, "97.0%"],
    ]
    assert rows[0][5:] == ["37.5%", "1, 2, 4"]
    assert not [t for t in report.tables(seeds("adam", [3])) if t.title.startswith("Activations")]


def test_a_table_in_which_nothing_stands_is_left_out():
    titles = [t.title.partition(",")[0] for t in report.tables([run("asgd")])]
    assert "Performance profiles" in titles
    assert "What the course expects" not in titles
    assert report.render([]) == "no run is kept yet: python -m benchmarks study"


def test_backends_stand_beside_one_another():
    both = [run("adam"), run("adam", backend="cupy", step_seconds=1e-4)]
    text = report.render(both)
    assert "study     cupy: 1 runs, 1 reached the target, 0 diverged" in text
    assert "moons-0.2 32-16 relu none, cupy" in text
    assert (report.steps(math.inf), report.seconds(math.inf), report.percent(None)) == (
        "never",
        "never",
        "",
    )


@pytest.fixture
def kept(tmp_path):
    found = store.Store(tmp_path / "study.sqlite")
    for number, one in enumerate([record("adam"), record("minibatch_sgd", seed=1)]):
        found.add(str(number), one)
    found.close()
    return str(found.path)


def test_the_command_shows_what_is_kept(kept, capsys, tmp_path):
    page = tmp_path / "study.html"
    assert command.main(["study", "--show", "--store", kept, "--html", str(page)]) == 0
    assert "2 runs, 2 reached the target" in capsys.readouterr().out
    assert "<html" in page.read_text(encoding="utf-8")
    assert command.main(["study", "--show", "--store", kept, "--only", "adam"]) == 0
    assert "study     numba: 1 runs" in capsys.readouterr().out


def test_the_command_runs_what_is_chosen(kept, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "benchmarks.study.pool.run",
        lambda settings, store, *more, dask: (
            asked.append((len(settings), *more, dask)) or [(settings[0], "why")]
        ),
    )
    given = ["study", "--store", kept, "--only", "adam", "digits", "lr=0.01", "batch=32", "relu"]
    assert command.main([*given, "none", "--backend", "numpy", "--workers", "3"]) == 1
    assert asked == [(3, "numpy", 3, None)]
    assert (
        "failed: digits 64-32 relu none adam lr=0.01 batch=32 seed=0: why"
        in capsys.readouterr().out
    )


def test_what_cannot_be_is_said_in_a_line(kept, capsys, monkeypatch):
    assert command.main(["study", "--store", kept, "--only", "adma"]) == 2
    assert capsys.readouterr().err.startswith("error: --only: no adma in the study, but ")

    def stop(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmarks.study, "study", stop)
    assert command.main(["study"]) == 130
    assert capsys.readouterr().err.endswith("kept: python -m benchmarks study\n")
