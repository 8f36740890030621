"""The study in processes: nothing is run twice, nothing is lost, whatever is killed."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import study_tasks

from benchmarks.study import pool, store, training
from benchmarks.study.grid import settings as all_settings


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_LOG", str(tmp_path / "log"))
    (tmp_path / "log").touch()
    found = store.Store(tmp_path / "study.sqlite")
    yield found
    found.close()


def go(kept, task, count=6, **more):
    settings = study_tasks.settings(count)
    return pool.run(settings, kept, "fake", 1, task=task, prepare=study_tasks.nothing, **more)


def test_what_is_kept_is_not_run_again(kept, capfd):
    assert go(kept, study_tasks.noted, 4) == []
    assert "[##############################] 4 of 4 runs, 100%, " in capfd.readouterr().out
    assert go(kept, study_tasks.noted, 6) == []
    names = [str(setting) for setting in study_tasks.settings(6)]
    assert sorted(study_tasks.notes("begun")) == sorted(names)
    assert kept.names("fake") == set(names)
    assert "6 runs, of which 4 are kept" in capfd.readouterr().out
    assert go(kept, study_tasks.dying) == []  # nothing is left to do


def test_a_run_that_fails_is_said_and_not_kept(kept):
    failed = go(kept, study_tasks.failing)
    assert [(s.seed, why) for s, why in failed] == [(1, "ValueError: planted in batch_gd")] * 2
    assert len(kept.names("fake")) == 4


@pytest.mark.slow
def test_a_process_that_dies_is_said(kept):
    with pytest.raises(RuntimeError, match="what is finished is kept, and the same command"):
        go(kept, study_tasks.dying)
    assert go(kept, study_tasks.noted) == []
    assert len(kept.names("fake")) == 6


@pytest.mark.slow
def test_every_process_has_one_thread(kept, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    go(kept, study_tasks.threads, 1)
    (record,) = kept.records()
    assert record["threads"] == ["1", "1", "1"]
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "NUMBA_NUM_THREADS" not in os.environ


@pytest.mark.slow
def test_ten_kills_lose_no_finished_run(kept):
    """At random moments, the first after as long as it takes to begin."""
    count, rng = 400, random.Random(0)
    command = [sys.executable, study_tasks.__file__, str(kept.path), str(count), "2"]
    before = {}
    for _ in range(10):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begun = len(study_tasks.notes("begun"))
        until = time.monotonic() + 30
        while len(study_tasks.notes("begun")) == begun and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.4))
        assert process.poll() is None, "over before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        with kept.alone():  # its workers have ended
            rows = {str(r["setting"]): r["finished"] for r in kept.records()}
        assert before.items() <= rows.items()
        before = rows
    assert 10 < len(before) < count
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{count} runs, of which {len(before)} are kept" in done.stdout
    rows = {str(r["setting"]): r["finished"] for r in kept.records()}
    assert before.items() <= rows.items()
    assert kept.names("fake") == {str(s) for s in study_tasks.settings(count)}
    over, begun = study_tasks.notes("over"), study_tasks.notes("begun")
    # A run that was over and not kept had its process killed in between: one a worker and kill.
    assert len(over) - count <= len(begun) - count <= 2 * 10


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_processes_gives_the_same(kept, workers):
    names = ["moons-0.2", "adam", "momentum", "batch=32", "lr=0.01", "relu", "none", "seed=0"]
    settings = all_settings(only=names)
    assert pool.run(settings, kept, "numba", workers) == []
    for record in kept.records():
        setting = next(s for s in settings if s.fields == record["setting"])
        here = training.same(training.run(setting))
        assert here.items() <= record.items()


def test_the_line_says_how_far_it_is():
    assert pool.line(8, 2, 0, 0.0) == "[#######.......................] 2 of 8 runs, 25%"
    assert pool.line(8, 2, 2, 30.0).endswith("4 of 8 runs, 50%, about 1 min 0 s left")
    assert pool.line(8, 2, 6, 30.0).endswith("8 of 8 runs, 100%, 30 s in all")
    assert pool.duration(3 * 3600 + 125) == "3 h 2 min"
