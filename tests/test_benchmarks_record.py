"""The session on a GPU, with NumPy or the simulated card in the GPU's place."""

import json
import os
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from asv.results import Results
from journals import begin, note

import kernels
import reference
from benchmarks import __main__ as command
from benchmarks import (
    bench_network,
    bench_roofline,
    gpu,
    grid,
    journal,
    record,
    report,
    results,
    runner,
    suite,
    workloads,
)
from benchmarks.peers import contenders, measure
from reference import FAMILIES, Case

LAYER = "digits-32x10"
CARD = {"name": "Fake Card 1", "l2CacheSize": 1 << 16}


@pytest.fixture
def place(monkeypatch, tmp_path):
    """A small grid, a small roofline, a place of its own for the results, no libraries."""
    small = {family: {"layers": (LAYER,)} for family in FAMILIES}
    small["dense"]["variants"] = small["activations"]["variants"] = ("relu",)
    monkeypatch.setattr(grid, "CORE", small)
    monkeypatch.setattr(gpu, "SAMPLE", 0.0)
    monkeypatch.setattr(gpu, "REPEAT", 2)
    monkeypatch.setattr(runner, "suites", small_suites)
    monkeypatch.setattr(results, "RECORDED", tmp_path / "recorded")
    monkeypatch.setattr(journal, "FOLDER", tmp_path / "journal")
    monkeypatch.setenv(journal.VARIABLE, "")
    beside(monkeypatch, [])
    return tmp_path


def small_suites(family):
    if family == "network":
        axes = {"layer": ["moons-2-32-16-2"], "dtype": ["float32"], "batch": [16, 32, 5]}
        axes |= {"backend": []}
        names = "network_step", "network_transfer"
        made = [(name, type(name, (vars(bench_network)[name],), {"axes": axes})) for name in names]
        return [*made, ("network_epoch", None)]
    if family != "roofline":
        return list(suite.suites(family).items())
    square = Case("32x32", {"fan_in": 32, "fan_out": 32}, vary=False)
    arrays = {str(n): Case(str(n), {"fan_in": n - 1, "fan_out": 1}, vary=False) for n in (64, 4096)}
    axes = {"layer": list(arrays), "dtype": ["float32"], "backend": ["cupy"]}
    of_product = {"layer": ["32x32"], "dtype": ["float32"], "batch": [32], "backend": ["cupy"]}
    operations, product = bench_roofline._operations, {"32x32": square}
    forward = {"": operations["dense_forward[identity]"]}
    return [
        ("product", suite.suite("product", forward, of_product, product, lambda layer: (32,))),
        ("triad", suite.suite("triad", {"": operations["sgd"]}, axes, arrays)),
    ]


def beside(monkeypatch, libraries):
    """The libraries with CUDA of this machine, and a grid of two cells for them."""

    def available(ours, device):
        assert device == "cuda"
        found = [contenders._ours(name, module) for name, module in ours.items()]
        return [*found, *libraries], ["jax.jit: no JAX with CUDA here"]

    cells = [cell for cell in measure.grid() if cell[1].name == "mnist-512x10" and cell[2] == 1]
    monkeypatch.setattr(contenders, "available", available)
    monkeypatch.setattr(measure, "grid", lambda: cells)


def backend(**changed):
    """NumPy as a backend on copies, some functions changed or (None) missing."""
    functions = {name: getattr(reference, name) for name in (*reference.__all__, "network")}
    functions["asarray"] = np.array
    kept = {name: f for name, f in {**functions, **changed}.items() if f is not None}
    return types.SimpleNamespace(**kept)


def session_of(path):
    return json.loads(results.session(path).read_text())


def batches():
    return workloads.batches("digits")


def test_session(capsys, place):
    path = record.record(module=backend(), card=lambda: CARD)
    text = capsys.readouterr().out
    assert path.parent.name == "fake-card-1"
    assert "Every operation agrees with the float64 reference, borders included." in text
    assert "not measured: jax.jit: no JAX with CUDA here" in text
    session, run = session_of(path), results.read(path)
    # A batch: relu twice, dense twice, four losses. Six update rules, the roofline; two steps, and
    # their transfers.
    assert len(session["cells"]) == len(run.times) == 8 * len(batches()) + 6 + 3 + 4
    assert session["wrong"] == {}
    for entry in session["cells"]:
        assert entry["verdict"] == suite.CORRECT
        assert entry["cold"] > 0
        assert run.times[results.Cell(**entry["cell"]), "cupy"] > 0
    assert run.hardware["gpu"] == "Fake Card 1"
    os.utime(path, (0, 0))  # as if checked out at some other time
    assert abs(results.read(path).finished.timestamp() - time.time()) < 60
    row = next(line.split() for line in text.splitlines() if line.startswith("adam"))
    assert row[:4] == ["adam", LAYER, "float32", "correct"]
    assert row[-1].endswith("%")
    row = next(line.split() for line in text.splitlines() if line.startswith("network_transfer"))
    assert row[:5] == ["network_transfer", "moons-2-32-16-2", "float32", "16", "correct"]
    assert row[-1].endswith("B/s")


def test_roof_of_a_cold_call_is_that_of_main_memory():
    def cell(function, layer, batch=None):
        return results.Cell(function, "", layer, "float32", batch), "cupy"

    fastest = {
        cell("product", "32x32", 32): 2 * 32**3 / 1e15,
        cell("triad", "64"): 3 * 4 * 64 / 100e9,
        cell("triad", "4096"): 3 * 4 * 4096 / 10e9,
    }
    run = types.SimpleNamespace(fastest=fastest)
    adam, size = cell("adam", LAYER)[0], 7 * 4 * 330
    assert record._share(run, adam, 2 * size / 10e9) == ("5.00 GB/s", "50%")
    assert record._share(run, adam, None) == ("", "")


def test_a_wrong_training_step_is_found(place):
    def create(sizes, *, lr, **options):
        return reference.network.create(sizes, lr=1.1 * lr, **options)

    module = backend(network=types.SimpleNamespace(create=create))
    cells = session_of(record.record(module=module, card=lambda: CARD))["cells"]
    wrong = [e["cell"]["function"] for e in cells if e["verdict"].startswith(suite.WRONG)]
    assert wrong == ["network_step"] * 2


def test_asv_reads_the_results(place):
    path = record.record(module=backend(), card=lambda: CARD)
    loaded = Results.load(str(path), machine_name="fake-card-1")
    (name,) = (
        key for key in loaded.get_all_result_keys() if key.startswith("bench_losses.softmax.")
    )
    params = loaded.get_result_params(name)
    times = loaded.get_result_value(name, params)
    assert len(times) == len(batches())
    assert all(seconds > 0 for seconds in times)
    assert loaded.get_result_stats(name, params)[0]["repeat"] == 2


def test_report_shows_the_recorded_session(place):
    record.record(module=backend(), card=lambda: CARD)
    begin()
    note("sgd", {(LAYER, "float32", "numpy"): 1e-6})
    text = report.render()
    assert "cupy fake-card-1" in text


def test_simulated_kernels(capsys, monkeypatch, place):
    """The CUDA text itself; the wrappers, tables and kernels of the CuPy backend."""
    monkeypatch.setattr(record, "everywhere", lambda module: {})  # the correctness tests do it
    only = {"losses": {"layers": (LAYER,)}, "optimizers": {"layers": (LAYER,)}}
    monkeypatch.setattr(grid, "CORE", only)
    monkeypatch.setattr(record, "FAMILIES", only)
    try:
        simulated = kernels.load("cupy", simulate=True)
    except kernels.Unavailable as reason:
        pytest.skip(str(reason))
    path = record.record(module=simulated, card=lambda: CARD)
    verdicts = [entry["verdict"] for entry in session_of(path)["cells"]]
    assert verdicts == [suite.CORRECT] * (4 * len(batches()) + 6 + 3 + 4)


def wrong_adam(param, grad, mean, variance, step, *, lr=0.001):
    reference.adam(param, grad, mean, variance, step + 1, lr=lr)


def broken_softmax(logits, *, out=None):
    raise OSError("no such luck")


def test_wrong_broken_and_missing_kernels_are_recorded_as_such(capsys, place):
    module = backend(adam=wrong_adam, softmax=broken_softmax, momentum=None)
    path = record.record(module=module, card=lambda: CARD)
    text, session, run = capsys.readouterr().out, session_of(path), results.read(path)
    assert set(session["wrong"]) == {
        f"{name}, {dtype}" for name in ("adam", "softmax") for dtype in ("float32", "float64")
    }
    of = {"adam": suite.WRONG, "softmax": suite.FAILED, "momentum": suite.SKIPPED}
    for entry in session["cells"]:
        cell = results.Cell(**entry["cell"])
        expected = of.get(cell.function, suite.CORRECT)
        assert entry["verdict"].partition(":")[0] == expected
        assert ((cell, "cupy") in run.times) == (expected == suite.CORRECT)
        if expected in (suite.WRONG, suite.FAILED):
            assert run.verdicts[cell, "cupy"][0] == expected
    assert "WRONG: adam, param" in text
    assert "failed: OSError: no such luck" in text
    assert "Every operation agrees" not in text


def test_a_recorded_run_without_its_session_shows_what_it_does_not_know(place):
    path = record.record(module=backend(adam=wrong_adam), card=lambda: CARD)
    cell = results.Cell("adam", "", LAYER, "float32", None)
    column = report.Column("cupy", "cupy", results.read(path), {})
    assert column.entry(cell) == suite.WRONG
    results.session(path).unlink()
    column = report.Column("cupy", "cupy", results.read(path), {})
    assert column.entry(cell) == "-"


def overflowing_softmax(logits, *, out=None):
    e = np.exp(logits)
    return np.divide(e, e.sum(axis=1, keepdims=True), out=out)


def test_what_is_wrong_at_the_borders_alone_is_found(capsys, place):
    path = record.record(module=backend(softmax=overflowing_softmax), card=lambda: CARD)
    wrong = session_of(path)["wrong"]
    assert set(wrong) == {"softmax, float32", "softmax, float64"}
    assert "(large, " in wrong["softmax, float32"]
    assert "softmax, float32: Wrong: softmax, p" in capsys.readouterr().out


def test_when_time_is_over_the_rest_is_left_out(capsys, monkeypatch, place):
    monkeypatch.setattr(record, "BUDGET", -1)
    beside(monkeypatch, [contenders.Contender("torch", None)])
    path = record.record(module=backend(), card=lambda: CARD)
    assert not results.read(path).times
    verdicts = {entry["verdict"] for entry in session_of(path)["cells"]}
    assert verdicts == {"n/a: no time was left in the session"}
    assert "the rest of the cells: no time was left in the session" in capsys.readouterr().out


def test_libraries_stand_beside_ours(capsys, monkeypatch, place):
    """Two cells are compared; the library takes twice as long."""
    libraries = [contenders.Contender("torch", None), contenders.Contender("other", None)]
    beside(monkeypatch, libraries)
    monkeypatch.setattr(record, "COMPARED", ("mnist-512x10",))
    monkeypatch.setitem(grid.CORE, "dense", {"layers": ("mnist-512x10",), "variants": ("relu",)})
    timed = {"cupy": [1e-6, 1e-6], "torch": [2e-6, 2e-6]}

    def cell(found, operation, layer, batch, rounds):
        assert [contender.name for contender in found] == ["cupy", "torch"]
        names = {"operation": operation.name, "variant": operation.variant, "layer": layer.name}
        return {**names, "batch": batch, "seconds": timed, "refused": {}}

    monkeypatch.setattr(measure, "cell", cell)
    record.record(module=backend(), card=lambda: CARD)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    row = next(
        line
        for line in lines
        if line[:5] == ["dense_forward", "relu", "mnist-512x10", "float32", "1"]
    )
    assert row[-2:] == ["2.00", "2.00"]


# --- the clock -----------------------------------------------------------------------------------


class Clock:
    """A device whose time passes only by what is done: a write takes 3, a call 1."""

    def __init__(self):
        self.now, self.log = 0.0, []

    def asarray(self, host):
        self.bytes = host.nbytes
        return self

    def fill(self, value):
        self.log.append("write")
        self.now += 3

    def call(self):
        self.log.append("call")
        self.now += 1

    def timer(self):
        return self.now

    def synchronize(self): ...


def test_cold_times_are_of_the_call_alone_after_a_write():
    clock = Clock()
    flush = gpu.Flush(clock, 1000)
    assert clock.bytes == 2000
    assert flush.once == 3
    clock.log.clear()
    assert flush.cold(clock.call) == [1] * gpu.REPEAT
    assert clock.log == ["call", *["write", "write", "call"] * gpu.REPEAT]


def test_writing_outlasts_the_queueing_of_a_call():
    clock = Clock()
    flush = gpu.Flush(clock, 1000)
    flush.once = 0.004
    assert 1 + 2 * 5 <= flush.times(lambda: time.sleep(0.02)) <= 100


@pytest.mark.parametrize(("sample", "number"), [(0.5, 1), (10.0, 10)])
def test_warm_times_are_of_calls_in_a_row(monkeypatch, sample, number):
    monkeypatch.setattr(gpu, "SAMPLE", sample)
    clock = Clock()
    assert gpu.warm(clock, clock.call) == ([1] * gpu.REPEAT, number)
    assert len(clock.log) == 1 + number * gpu.REPEAT


# --- what the card is, and the commit ------------------------------------------------------------


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


def test_commit_without_git(monkeypatch, tmp_path):
    monkeypatch.setattr(workloads, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert record.commit() == "unknown"
    (tmp_path / "COMMIT").write_text("abcdef\n")
    assert record.commit() == "abcdef"
    monkeypatch.setenv("PATH", "")
    assert record.commit() == "abcdef"


def test_commit_of_a_checkout(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    monkeypatch.setattr(workloads, "ROOT", tmp_path)
    assert len(record.commit()) == 40


def test_without_a_card_one_line_says_so(capsys, monkeypatch):
    def load(name):
        raise kernels.Unavailable("backend cupy: no CUDA device was found")

    monkeypatch.setattr(record.kernels, "load", load)
    assert command.main(["record"]) == 2
    assert capsys.readouterr().err == "error: backend cupy: no CUDA device was found\n"
