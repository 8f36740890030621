"""What is kept of a study: once, at once, by the key of backend, setting and version."""

import multiprocessing
import sqlite3

import pytest

from benchmarks.study import store, training

RECORD = {"backend": "numba", "digest": "d", "curves": {"loss": [1.5, None]}}


@pytest.fixture
def kept(tmp_path):
    found = store.Store(tmp_path / "deep" / "study.sqlite")
    yield found
    found.close()


def test_a_row_is_there_for_others_at_once(kept):
    kept.add("one", RECORD)
    other = store.Store(kept.path)
    assert other.names("numba") == {"one"}
    assert other.names("numpy") == set()
    (found,) = other.records()
    assert RECORD.items() <= found.items()
    assert set(found["machine"]) == {"cpu", "num_cpu", "os"}
    other.close()
    with sqlite3.connect(kept.path) as raw:
        assert raw.execute("pragma journal_mode").fetchone() == ("wal",)


def test_the_first_row_of_a_key_stays(kept):
    kept.add("one", RECORD)
    kept.add("one", RECORD | {"digest": "other"})
    kept.add("one", RECORD | {"backend": "numpy"})
    kept.add("two", RECORD)
    assert [record["digest"] for record in kept.records()] == ["d"] * 3
    assert kept.names("numba") == {"one", "two"}


def test_another_version_is_another_run(kept, monkeypatch):
    kept.add("one", RECORD)
    monkeypatch.setattr(training, "VERSION", training.VERSION + 1)
    assert kept.names("numba") == set()
    assert kept.records() == []
    kept.add("one", RECORD | {"digest": "new"})
    assert [record["digest"] for record in kept.records()] == ["new"]


def test_one_study_at_a_time(kept, monkeypatch):
    monkeypatch.setattr(store, "WAIT", 0)
    other = store.Store(kept.path)
    with kept.alone(), pytest.raises(RuntimeError, match="another study is at work on"):
        other.alone().__enter__()
    with kept.worker(), other.worker(), pytest.raises(RuntimeError, match="another study"):
        kept.alone().__enter__()
    with other.alone():
        pass
    other.close()


@pytest.mark.slow
def test_many_processes_write_at_once(kept):
    """None is lost, none waits in vain."""
    names = [f"{n}" for n in range(200)]
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.starmap(_add, [(kept.path, name) for name in names])
    assert kept.names("numba") == set(names)


def _add(path, name):
    mine = store.Store(path)
    mine.add(name, RECORD)
    mine.close()
