"""The card's clock, warm and cold calls, what the card is, and the commit."""

import subprocess
import sys
import types

import numpy as np
import pytest

from benchmarks.running import gpu, journal, machine
from benchmarks.suites import workloads


class Card:
    """A device whose time passes only by what it does: reading takes it 3, a call 1. It does what
    the host has queued when it is waited for; `queueing` is the host's time for a call.
    """

    def __init__(self, queueing=0.0):
        self.queueing, self.host, self.now, self.log = queueing, 0.0, 0.0, []

    def asarray(self, host):
        self.bytes = host.nbytes
        return self

    def sum(self):
        self._do("read", 3)

    def fill(self, value):
        raise AssertionError("what is written goes back to memory in the time of the call")

    def call(self):
        self.host += self.queueing
        self._do("call", 1)

    def _do(self, what, time):
        self.log.append(what)
        self.now = max(self.now, self.host) + time

    def timer(self):
        return Instant(self)

    def synchronize(self):
        self.host = max(self.host, self.now)


class Instant:
    def __init__(self, card):
        self.card, self.at = card, max(card.now, card.host)

    @property
    def passed(self):
        return self.card.host >= self.at

    def __sub__(self, earlier):
        return self.at - earlier.at


@pytest.fixture(autouse=True)
def small_reads(monkeypatch):
    monkeypatch.setattr(gpu, "LEAST_READ", 0)


def test_cold_times_are_of_the_call_alone_after_a_read():
    card = Card()
    flush = gpu.Flush(card, 1000)
    assert card.bytes == 2000
    assert flush.cold(card.call) == ([1] * gpu.REPEAT, True)
    assert card.log == ["call", *["read", "call"] * gpu.REPEAT]


def test_a_read_is_long_enough_for_the_host(monkeypatch):
    monkeypatch.setattr(gpu, "LEAST_READ", 5000)
    card = Card()
    gpu.Flush(card, 1000)
    assert card.bytes == 5000


def test_reading_outlasts_the_queueing_of_a_call():
    """Ten times as long to queue as to read: without enough reads its time would be the host's."""
    card = Card(queueing=30)
    seconds, queued = gpu.Flush(card, 1000).cold(card.call)
    assert (seconds, queued) == ([1] * gpu.REPEAT, True)
    last = card.log[-17:]
    assert last == [*["read"] * 16, "call"]


def test_a_call_that_waits_by_itself_is_told_apart():
    card = Card()

    def waiting():
        card.call()
        card.synchronize()

    seconds, queued = gpu.Flush(card, 1000).cold(waiting)
    assert len(seconds) == gpu.REPEAT
    assert not queued


@pytest.mark.parametrize(("sample", "number"), [(0.5, 1), (10.0, 10)])
def test_warm_times_are_of_calls_in_a_row(monkeypatch, sample, number):
    monkeypatch.setattr(gpu, "SAMPLE", sample)
    card = Card()
    assert gpu.warm(card, card.call) == ([1] * gpu.REPEAT, number)
    assert len(card.log) == 3 + number * gpu.REPEAT


def test_the_first_call_of_all_does_not_choose_their_number(monkeypatch):
    """It loads its kernel, which takes longer than all that follow."""
    monkeypatch.setattr(gpu, "SAMPLE", 10.0)
    card = Card()
    loading = iter([1000])

    def call():
        card.now += next(loading, 0)
        card.call()

    assert gpu.warm(card, call)[1] == 10


def test_the_driver_gives_back_what_was_set_aside_of_the_cache(monkeypatch):
    answers = types.SimpleNamespace(cuCtxResetPersistingL2Cache=lambda: 0)
    monkeypatch.setattr(gpu.ctypes, "CDLL", lambda name: answers)
    assert gpu.release_cache()
    answers.cuCtxResetPersistingL2Cache = lambda: 201
    assert not gpu.release_cache()
    del answers.cuCtxResetPersistingL2Cache
    assert not gpu.release_cache()


def test_without_a_driver_nothing_is_given_back(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(gpu.ctypes, "CDLL", missing)
    assert not gpu.release_cache()


def test_card(monkeypatch):
    runtime = types.SimpleNamespace(
        getDeviceProperties=lambda device: {"name": b"Card", "l2CacheSize": 5, "uuid": b"0"},
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 12090,
    )
    cupy = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    found = gpu.card()
    assert {k: found[k] for k in ("name", "l2CacheSize", "driver", "runtime")} == {
        "name": "Card",
        "l2CacheSize": 5,
        "driver": 13000,
        "runtime": 12090,
    }
    assert found["versions"]["numpy"] == np.__version__
    assert "uuid" not in found


def test_clocks(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.clocks() == {}
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho '{', '.join(map(str, range(len(gpu.QUERY))))}'\n")
    smi.chmod(0o755)
    assert gpu.clocks()["clocks.sm"] == "3"


def test_the_machine_is_described_as_asv_does():
    from asv.machine import Machine

    assert machine.hardware() == Machine.get_defaults()


def test_commit_without_git(monkeypatch, tmp_path):
    monkeypatch.setattr(workloads, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert journal.revision()[0] == "unknown"
    monkeypatch.setenv("PATH", "")
    assert journal.revision() == ("unknown", False)
    (tmp_path / "COMMIT").write_text("abcdef\n")
    assert journal.revision() == ("abcdef", False)


def test_commit_of_a_checkout(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    monkeypatch.setattr(workloads, "ROOT", tmp_path)
    assert len(journal.revision()[0]) == 40
    (tmp_path / "COMMIT").write_text("abcdef\n")  # of what was packed, not of a checkout around it
    assert journal.revision() == ("abcdef", False)
