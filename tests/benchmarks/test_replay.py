"""The line under a WRONG checks that cell again, in a process of its own, with the same result."""

import os
import shlex
import subprocess
import sys

import pytest
from conftest import user_module
from journals import begin

import benchmarks
from benchmarks import __main__ as command
from benchmarks.reports import report, results
from benchmarks.running import journal, replay
from benchmarks.suites import suite, workloads
from reference import FAMILIES

MINE = """
def softmax(logits, **settings):
    y = reference.softmax(logits, **settings)
    if logits.shape == (16, 10) and logits[3, 2] == WRONG_AT:
        y[3, 2] += 0.25 * logits[3, 2]
    return y

def adam(param, grad, mean, variance, step, **settings):
    raise OSError("no such luck")
"""


@pytest.fixture(autouse=True)
def suites_as_others_find_them():
    """They are made for the grid that their modules find at import."""
    yield
    for name in [name for name in sys.modules if name.startswith("benchmarks.bench_")]:
        del sys.modules[name]


def again(line, folder=None):
    """Calls the line in a fresh process; returns its exit status and the last line that it says."""
    python, *rest = shlex.split(line)
    assert python == "python"
    env = {name: v for name, v in os.environ.items() if name != journal.VARIABLE}
    env["PYTHONPATH"] = str(workloads.ROOT)
    answer = subprocess.run(
        [sys.executable, *rest], cwd=folder or workloads.ROOT, env=env, capture_output=True
    )
    return answer.returncode, answer.stdout.decode().strip().splitlines()[-1]


def test_a_wrong_backend_fails_alike_by_the_line_that_is_printed(monkeypatch, house):
    """A user's own, at the inputs of a judged call alone: so the seed is the same."""
    softmax, adam = suite.suites("losses")["softmax"](), suite.suites("optimizers")["adam"]()
    case = workloads.layers()["digits-32x10"].at(batch=16)
    at = suite.drawn(softmax.operations[""], case, 7)["logits"][3, 2]
    file = user_module(house, f"WRONG_AT = {float(at)!r}\n{MINE}")
    monkeypatch.setenv("FUSEBENCH_BACKEND", str(file))
    begin()
    softmax.seed = 7
    softmax.setup("digits-32x10", "float32", 16, "mine")
    with pytest.raises(suite.Wrong) as wrong:
        timed(softmax)
    with pytest.raises(OSError, match="no such luck"):
        adam.setup("moons-2x32", "float32", "mine")
    journal.close_part()
    lines = [line.strip() for line in report.render().splitlines() if " replay " in line]
    assert lines == [
        f"{words} mine --backend {file}{seed}"
        for words, seed in (
            ("python -m benchmarks replay softmax digits-32x10 16 float32", " --seed 7"),
            ("python -m benchmarks replay adam moons-2x32 float32", ""),
        )
    ]
    assert again(lines[0]) == (1, f"WRONG: {wrong.value}")
    assert again(lines[1])[0] == 1
    assert again(lines[0].replace("--seed 7", "--seed 8"))[0] == 0


def timed(cell):
    """As asv does."""
    benchmark = benchmarks.Timed("time", cell.time_call, [cell])
    benchmark._load_vars()
    return benchmark.run(*cell.cell[1:])


def test_the_line_of_every_cell_leads_back_to_it(monkeypatch):
    """Of every function and variant; a layer need not be in the grid."""
    monkeypatch.setenv("FUSEBENCH_ALL", "1")
    functions = {o.name: suite.suites(family) for family, ops in FAMILIES.items() for o in ops}
    found = []
    monkeypatch.setattr("benchmarks.running.runner.suites", lambda f: suite.suites(f).items()
                        if f in FAMILIES else ())  # fmt: skip
    for operation in (o for family in FAMILIES.values() for o in family):
        cls = functions[operation.name][operation.name]
        batch = 16 if "batch" in cls.axes else None
        layer = list(cls.layers)[-1]
        cell = results.Cell(operation.name, operation.variant, layer, "float64", batch)
        words = shlex.split(replay.line(cell, "numba"))[4:]
        same, values = replay._found(words[0], words[1:])
        assert same.__name__ == operation.name
        assert results.key_of(operation.name, values) == (cell, "numba")
        found.append(tuple(words))
    assert len(set(found)) == len(found)


def test_a_right_cell_agrees_and_names_that_are_none_are_told(monkeypatch, capsys):
    monkeypatch.setenv("FUSEBENCH_ALL", "1")
    assert command.main(["replay", "sgd", "moons-2x32", "float32", "numpy"]) == 0
    assert "agrees" in capsys.readouterr().out
    for words, said in (
        (["sgdd", "numpy"], "no function sgdd"),
        (["sgd", "sun", "numpy"], "sgd has no sun"),
        (["sgd", "float32", "numpy"], "sgd needs a layer too"),
    ):
        assert command.main(["replay", *words]) == 2
        assert said in capsys.readouterr().err


def test_a_step_of_a_network_is_replayed(monkeypatch):
    monkeypatch.setenv("FUSEBENCH_ALL", "1")
    cell = results.Cell("network_step", "", "moons-2-32-16-2", "float32", 16)
    assert command.main(shlex.split(replay.line(cell, "numpy"))[3:]) == 0
