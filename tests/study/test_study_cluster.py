"""The study on a Dask cluster: the same runs, bit for bit, whatever dies."""

import contextlib
import os
import signal
import sys
import threading
import time

import pytest
import study_tasks

from benchmarks import __main__ as command
from benchmarks.study import cluster, grid, pool, store, training


def distributed():
    """Skips a test where there is no Dask; fails it where FUSEBENCH_DASK says that there is."""
    if os.environ.get("FUSEBENCH_DASK"):
        import distributed
    else:
        distributed = pytest.importorskip("distributed", reason=f"no Dask: {cluster.HOW}")
    return distributed


@contextlib.contextmanager
def started(workers=2, processes=True):
    """A cluster on this machine."""
    options = {"dashboard_address": None, "threads_per_worker": 1, "silence_logs": 50}
    address = "127.0.0.1" if processes else None
    options |= {"n_workers": workers, "processes": processes, "host": address}
    with distributed().LocalCluster(**options) as found:
        yield found


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_LOG", str(tmp_path / "log"))
    (tmp_path / "log").touch()
    found = store.Store(tmp_path / "study.sqlite")
    yield found
    found.close()


def go(kept, found, task, count=6):
    settings, address = study_tasks.settings(count), found.scheduler_address
    return pool.run(settings, kept, "fake", task=task, prepare=study_tasks.nothing, dask=address)


def test_the_client_keeps_what_workers_send(kept, capfd):
    """Threads of this process are the workers."""
    with started(processes=False) as found:
        assert go(kept, found, study_tasks.noted, 4) == []
        assert go(kept, found, study_tasks.noted, 6) == []
    names = [str(setting) for setting in study_tasks.settings(6)]
    assert sorted(study_tasks.notes("begun")) == sorted(names)
    assert kept.names("fake") == set(names)
    assert "6 runs, of which 4 are kept" in capfd.readouterr().out
    assert all(record["machine"]["cpu"] for record in kept.records())


@pytest.mark.slow
def test_a_run_that_fails_is_said_and_not_kept(kept):
    with started(processes=False) as found:
        failed = go(kept, found, study_tasks.failing)
    assert [(s.seed, why) for s, why in failed] == [(1, "ValueError: planted in batch_gd")] * 2
    assert len(kept.names("fake")) == 4


def test_without_dask_it_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    given = [
        "study",
        "--dask",
        "tcp://127.0.0.1:1",
        "--only",
        "adam",
        "--store",
        str(tmp_path / "s"),
    ]
    assert command.main(given) == 2
    assert capsys.readouterr().err == f"error: --dask: Dask is not installed: {cluster.HOW}\n"


def test_other_code_is_said(monkeypatch):
    ran = []
    assert cluster._away(cluster._code(), lambda *a: ran.append(a), 1, "fake")[1]["cpu"]
    with pytest.raises(RuntimeError, match=r"the code of .* is another one"):
        cluster._away("another", lambda *a: ran.append(a), 1, "fake")
    assert ran == [(1, "fake")]


@pytest.mark.slow
def test_no_scheduler_and_no_workers_are_said(kept, monkeypatch):
    distributed()
    monkeypatch.setattr(cluster, "WAIT", 1)
    with pytest.raises(RuntimeError, match=r"no scheduler at tcp://127.0.0.1:1: "):
        pool.run(study_tasks.settings(1), kept, "fake", dask="tcp://127.0.0.1:1")
    with (
        started(0) as found,
        pytest.raises(RuntimeError, match=f"{found.scheduler_address} has no workers"),
    ):
        go(kept, found, study_tasks.noted)


@pytest.mark.slow
def test_runs_of_workers_that_die_are_given_again(kept):
    with started() as found:
        assert go(kept, found, study_tasks.dying_once, 12) == []
    assert kept.names("fake") == {str(s) for s in study_tasks.settings(12)}


@pytest.mark.slow
def test_a_run_that_kills_every_worker_is_said_and_the_others_are_kept(kept):
    """One at a time, so that no other run is under suspicion."""
    with started(1) as found:
        failed = go(kept, found, study_tasks.dying)
    assert [s.seed for s, _ in failed] == [1, 1]
    assert all("KilledWorker: " in why and "4 different workers" in why for _, why in failed)
    assert len(kept.names("fake")) == 4
    died = study_tasks.notes("died")
    assert {died.count(name) for name in died} == {4}


@pytest.mark.slow
def test_killed_workers_lose_and_repeat_nothing_that_is_finished(kept):
    """A worker is killed every half second, ten times; each is begun anew."""
    count = 200
    with started() as found:

        def kill():
            for _ in range(10):
                time.sleep(0.5)
                pids = [n.pid for n in found.workers.values() if n.pid]
                if pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pids[0], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        assert go(kept, found, study_tasks.noted, count) == []
        killer.join()
    assert kept.names("fake") == {str(s) for s in study_tasks.settings(count)}
    assert len(study_tasks.notes("begun")) <= count + 2 * 10


@pytest.mark.slow
def test_a_cluster_that_is_lost_is_said(kept):
    with started() as found:
        closing = threading.Timer(2, found.close)
        closing.start()
        with pytest.raises(RuntimeError, match=r"cluster is lost.*what is finished is kept"):
            go(kept, found, study_tasks.noted, 1500)
        closing.join()
    done = kept.names("fake")
    assert 0 < len(done) < 1500


@pytest.mark.slow
def test_it_gives_the_same_table_as_processes(kept, tmp_path):
    names = ["moons-0.2", "adam", "momentum", "batch=32", "lr=0.01", "relu", "none"]
    settings, here = grid.settings(only=names), store.Store(tmp_path / "here.sqlite")
    with started() as found:
        assert pool.run(settings, kept, dask=found.scheduler_address) == []
    assert pool.run(settings, here) == []
    sides = [{str(r["setting"]): r for r in side.records()} for side in (kept, here)]
    here.close()
    assert sides[0].keys() == sides[1].keys()
    for name, record in sides[0].items():
        for told in ("finished", "machine"):
            record.pop(told), sides[1][name].pop(told)
        assert training.same(record) == training.same(sides[1][name])
