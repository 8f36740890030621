"""Every known way to look fast without the work is told by its name, and gets no time."""

import functools
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ON_CUPY_ARRAYS, SIMULATED, backend_or_skip
from journals import begin

import benchmarks
from benchmarks.running import journal
from benchmarks.suites import judging, suite, training_step, workloads
from benchmarks.suites.steps import Steps
from benchmarks.suites.trial import Trial
from reference import FAMILIES, Case

FOLDER = Path(__file__).parent / "cheats"
NAMES = {
    "wrong": "softmax, p: ",
    "returns_its_input": "returns its input logits: ",
    "earlier_output": "returns an earlier output: ",
    "by_id": "remembers its arrays by id: ",
    "by_pointer": "remembers its arrays by pointer: ",
    "by_content": "remembers answers: ",
    "first_call_only": "leaves its output as it was: ",
    "another_thread": "returns before its work is done: ",
    "lying_synchronize": "returns before its work is done, its synchronize lies: ",
    "lazy_at_the_copy": "computes when it is copied: ",
    "lying_to_host": "its to_host lies: ",
    "lying_timer": "its timer lies: ",
    "patched_clock": "replaces time.perf_counter",
    "reads_the_answer": r"replaces reference\.spec\.Operation\.oracle",
    "ignores_an_input": "ignores its input bias: ",
    "in_bfloat16": "computes in bfloat16: ",
    "in_tf32": "computes in TF32: ",
    "writes_outside": "writes outside its output: ",
    "changes_its_inputs": "changes its inputs: ",
    "by_its_nan": "computes only where its output is NaN: ",
    "one_shape_only": "right at the timed shape only: ",
}
LOST = {
    "slow": "it took more than 1 s while it was timed",
    "hanging": "it took more than 1 s while it was checked",
    "crashing": "its process died while it was checked",
}
CELLS = {
    "softmax": ("", "digits-32x10", "float32", 16),
    "dense_forward": ("relu", "digits-64x128", "float32", 16),
}


def cell_of(name):
    """(family, function, values) of the cell by which a file is seen."""
    text = (FOLDER / f"{name}.py").read_text()
    family, function = (
        ("losses", "softmax") if "def softmax" in text else ("dense", "dense_forward")
    )
    axes = suite.suites(family)[function].axes
    values = dict(zip(("variant", "layer", "dtype", "batch"), CELLS[function], strict=True))
    return family, function, tuple({**values, "backend": name}[axis] for axis in axes)


def go(name):
    """Sets the cell up and times it, as asv does in a process of its own."""
    family, function, values = cell_of(name)
    cell = suite.suites(family)[function]()
    cell.warmup_time, cell.sample_time, cell.repeat = 0.003, 0.001, (3, 4, 0.01)
    cell.setup(*values)
    benchmark = benchmarks.Timed(function, cell.time_call, [cell])
    benchmark._load_vars()
    return benchmark.run(*values)


@pytest.fixture
def run(house, monkeypatch):
    """The last line of the journal of a run of one of the files."""

    def run(name):
        monkeypatch.setenv("FUSEBENCH_BACKEND", str(FOLDER / f"{name}.py"))
        path = begin()
        yield path
        journal.close_part()
        (line,) = journal.outcomes(path).values()
        yield line

    return run


def in_a_process(name, *setting):
    code = f"import test_cheats; from benchmarks.running import journal; {'; '.join(setting)}; "
    code += f"test_cheats.go({name!r})"
    path = f"import sys; sys.path[:0] = {[str(workloads.ROOT), str(FOLDER.parent)]!r}; "
    path += f"sys.path.append({str(FOLDER.parents[1])!r}); "
    return subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True)


def test_every_file_has_its_name():
    found = {path.stem for path in FOLDER.glob("*.py")}
    assert found == {"honest", *NAMES, *LOST}
    assert len(set(NAMES.values())) == len(NAMES)


def test_what_is_honest_is_timed(run):
    path, line = next(found := run("honest")), None
    go("honest")
    line = next(found)
    assert line["state"] == journal.TIMED, path


@pytest.mark.parametrize("name", NAMES)
def test_a_cheat_is_told_by_its_name_and_gets_no_time(run, monkeypatch, name):
    found = run(name)
    next(found)
    for module, function in (("time", "perf_counter"), ("reference.spec.Operation", "oracle")):
        monkeypatch.setattr(f"{module}.{function}", _of(module, function))  # put back afterwards
    with pytest.raises(suite.Wrong, match=f"^{NAMES[name]}"):
        go(name)
    line = next(found)
    assert line["state"] == journal.WRONG
    assert re.match(NAMES[name], line["reason"])


def test_a_kernel_that_is_wrong_at_a_timed_call_gets_no_time(house, monkeypatch):
    """And is right in every call before."""
    monkeypatch.setenv("FUSEBENCH_BACKEND", str(FOLDER / "honest.py"))
    _, function, values = cell_of("honest")
    cell = suite.suites("losses")[function]()
    cell.setup(*values)
    honest, judged = cell.judge.judged.call, cell.judge.judged

    def mistaken():
        result = honest()
        result += 1e-3
        return result

    judged.call = mistaken
    assert 0 < cell.judge._with_judged(7) < 1
    with pytest.raises(suite.Wrong, match=r"^softmax, p: "):
        cell.judge.verdict(1e-5)


def _of(module, function):
    package, _, rest = module.partition(".")
    thing = __import__(module.rpartition(".")[0] or module, fromlist=["_"])
    owner = getattr(thing, module.rpartition(".")[2]) if rest else sys.modules[package]
    return getattr(owner, function)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOST)
def test_what_never_comes_back_gets_no_time(run, monkeypatch, name):
    for state in tuple(journal.LIMITS):
        monkeypatch.setitem(journal.LIMITS, state, 1)
    found = run(name)
    next(found)
    limits = "journal.LIMITS.update({journal.STARTED: 1, journal.CORRECT: 1})"
    assert in_a_process(name, limits).returncode != 0
    line = next(found)
    assert line["state"] == journal.FAILED
    assert line["reason"] == LOST[name]


# --- of arrays elsewhere --------------------------------------------------------------------------


def trials(module, operation):
    """(timed, judged, draw) of a function of the module, or of the steps of its network."""
    if operation is None:
        operation = training_step.of_network("moons-2-32-16-2")
        draw = functools.partial(suite.drawn, operation, Case("small", {"batch": 16}))
        first, second = draw(1), draw(2)
        return Steps(operation, module, first, 0.0), Steps(operation, module, second, 1e-3), draw
    sizes = {"batch": 16, "fan_in": 9, "fan_out": 10}
    draw = functools.partial(suite.drawn, operation, Case("small", sizes))
    timed = Trial(operation, module, draw(1))
    return timed, Trial(operation, module, draw(2), timed), draw


ELSEWHERE = ("softmax", "adam", "dropout_forward", "clip_by_global_norm", "network_step")


@pytest.mark.slow
@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("module", [ON_CUPY_ARRAYS, SIMULATED[1]])
def test_what_is_computed_elsewhere_is_judged_as_well(module, name):
    operations = (o for family in FAMILIES.values() for o in family if o.name == name)
    timed, other, draw = trials(backend_or_skip(module), next(operations, None))
    judge = judging.Judge(timed, other, draw, 0, 3)
    assert all(judge.timeit(2) > 0 for _ in range(3))
    judge.verdict()
    judge.found = tuple(1.5 * found for found in judge.found)
    with pytest.raises(suite.Wrong, match=name):
        judge.verdict()


# --- whether answers are remembered ---------------------------------------------------------------


class Noisy:
    """Calls on a clock of its own, which at times are held up for a thousand times as long."""

    def __init__(self, held_up, at_best):
        self.now, self.calls, self.rng = 0.0, 0, random.Random(f"{held_up} {at_best}")
        self.held_up, self.at_best = held_up, at_best

    def pause(self, seconds):
        self.now += seconds

    def call(self, seconds):
        took = seconds * (self.rng.uniform(1, 1.5) if self.rng.random() < 0.9 else 4)
        took += 1e-3 * self.rng.expovariate(1) * (self.rng.random() < self.held_up)
        self.now, self.calls = self.now + took, self.calls + 1
        return took

    def asked(self):
        new, again = (functools.partial(self.call, seconds) for seconds in self.at_best)
        return judging.remembers(new, again, self.pause)


@pytest.mark.parametrize("held_up", [0, 0.02, 0.5, 0.98, 1])
def test_whose_threads_sleep_is_not_accused(held_up):
    """However often they do, and is asked but a few times."""
    kernel = Noisy(held_up, (1e-6, 1e-6))
    assert not any(kernel.asked() for _ in range(1000))
    assert kernel.calls <= 12 * 1000


@pytest.mark.parametrize("held_up", [0, 0.02])
def test_who_remembers_answers_is_accused_though_it_is_held_up(held_up):
    kernel = Noisy(held_up, (2e-5, 1e-6))
    for count in range(1, 21):
        assert kernel.asked()
        assert kernel.now >= 0.9 * judging.LEAST * count
