"""The stages that run on a card, with other processes in their place."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import kernels
from benchmarks import __main__ as command
from benchmarks.running import card, record
from benchmarks.running.card import Stage
from benchmarks.suites import workloads


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """run(*stages) as on a card; `kept` is a folder of its own."""
    monkeypatch.setattr(card.kernels, "load", lambda name: None)
    monkeypatch.setattr(card, "LOGS", tmp_path)
    monkeypatch.setattr(card, "GRACE", 2)
    monkeypatch.setattr(card, "LEAST", 0)

    def run(*stages, minutes=1.0):
        monkeypatch.setattr(card, "stages", lambda: iter(stages))
        return card.run(minutes)

    return run


def python(name, code, share=1.0, **more):
    return Stage(name, (sys.executable, "-c", code), share, **more)


def test_each_stage_says_how_it_ended(bench, capsys, tmp_path):
    bad = bench(
        python("good", "print('one'); print('FINISHED')", finished="FINISHED"),
        python("bad", "print('two'); raise SystemExit(9)"),
        python("short", "print('three')", finished="FINISHED"),
        python("crashed", "import os; os.abort()"),
        Stage("absent", ("nothing",), 1.0, missing="nothing is not installed"),
        python("last", "print('four')"),
    )
    assert bad == 4
    assert capsys.readouterr().out.splitlines() == [
        *("good: passed", "    one", "    FINISHED"),
        *("bad: failed with exit status 9", "    two"),
        *("short: ended before its end", "    three"),
        "crashed: failed with exit status -6",
        "absent: left out: nothing is not installed",
        *("last: passed", "    four"),
        f"what was printed lies in {tmp_path}",
    ]
    assert (tmp_path / "bad.log").read_text() == "two\n"


def test_what_hangs_is_ended_with_all_that_it_began(bench, capsys, tmp_path):
    """It keeps what it has when it is told to; the stages after it have their time."""
    code = f"""
import pathlib, signal, subprocess, sys, time
def stop(*_): pathlib.Path({str(tmp_path / "kept")!r}).write_text("kept"); sys.exit()
signal.signal(signal.SIGTERM, stop)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
print(child.pid, flush=True)
time.sleep(99)
"""
    assert bench(python("hung", code, 0.5), python("last", ""), minutes=0.1) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "hung: stopped after 3 s, its share of the time"
    assert said[2] == "last: passed"
    assert (tmp_path / "kept").read_text() == "kept"
    assert not_running(int(said[1]))


def not_running(pid):
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_a_session_goes_on_in_another_process(bench, capsys, tmp_path):
    """After a lost card, a hang and a crash; not after an error that would come again."""
    count = tmp_path / "count"
    code = f"""
import os, pathlib, sys
count = pathlib.Path({str(count)!r})
k = int(count.read_text()) if count.exists() else 0
count.write_text(str(k + 1))
print("time", k)
if k == 2: os.abort()
sys.exit((3, 1, None, {{last}})[k])
"""
    again = (record.LOST, 1, -signal.SIGABRT)
    assert bench(python("record", code.format(last=0), again=again)) == 0
    assert capsys.readouterr().out.startswith("record: passed\n    time 0\n    time 1\n")
    count.unlink()
    assert bench(python("record", code.format(last=2), again=again)) == 1
    assert int(count.read_text()) == 4
    assert bench(python("record", "print('x'); raise SystemExit(1)", again=(1,))) == 1
    assert (tmp_path / "record.log").read_text() == "x\n" * card.MOST_TIMES


def test_without_time_the_rest_is_left_out(bench, capsys, monkeypatch):
    monkeypatch.setattr(card, "LEAST", 10)
    assert bench(python("one", ""), minutes=0.1) == 1
    assert capsys.readouterr().out.startswith("one: left out: no time was left\n")


def test_an_interruption_ends_the_stage_too(bench, tmp_path):
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(99)"
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        bench(python("one", code))
    assert not_running(int((tmp_path / "one.log").read_text()))


def test_stages(monkeypatch, tmp_path):
    """The tests, each tool of the sanitizer over the exercises, then the session."""
    monkeypatch.setenv("PATH", str(tmp_path))
    tool = tmp_path / card.SANITIZER
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    found = {stage.name: stage for stage in card.stages()}
    tools = "memcheck", "racecheck", "initcheck", "synccheck"
    assert list(found) == ["tests", "card-tests", *tools, "record"]
    assert not any(stage.missing for stage in found.values())
    assert found["racecheck"].command == (
        *(str(tool), "--tool", "racecheck", "--error-exitcode", "9", sys.executable),
        *("tests/exercise_cuda.py", "gpu", "float32"),
    )
    assert sum(stage.share for stage in found.values() if stage.name != "record") < 0.7
    for stage in found.values():
        for argument in stage.command:
            assert not argument.endswith(".py") or (workloads.ROOT / argument).is_file()


def test_what_is_missing_is_told_beforehand(monkeypatch):
    monkeypatch.setattr(card.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(card.importlib.util, "find_spec", lambda name: None)
    missing = {stage.name: stage.missing for stage in card.stages()}
    assert missing["tests"] == "pytest is not installed"
    assert missing["memcheck"].startswith("compute-sanitizer is not installed")
    assert missing["record"] == ""


def test_a_lost_card_has_an_exit_status_of_its_own(capsys, monkeypatch):
    def lost(name):
        raise record.Lost("the card no longer answers")

    monkeypatch.setattr(record, "record", lost)
    assert command.main(["record"]) == record.LOST
    assert capsys.readouterr().err == "error: the card no longer answers\n"


def test_without_a_card_one_line_says_so(capsys, monkeypatch):
    def load(name):
        raise kernels.Unavailable("backend cupy: no CUDA device was found")

    monkeypatch.setattr(card.kernels, "load", load)
    assert command.main(["card"]) == 2
    assert capsys.readouterr().err == "error: backend cupy: no CUDA device was found\n"
