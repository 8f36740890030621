"""The session on a GPU, with NumPy in the GPU's place: what is measured, kept and printed."""

import json
import os
import time
import types
from functools import partial

import numpy as np
import pytest
import rehearse_record
from asv.results import Results
from journals import begin, note
from rehearse_record import CARD, LAYER

import kernels
import reference
from benchmarks import __main__ as command
from benchmarks.peers import contenders, measure, rows
from benchmarks.reports import columns, report, results, session_table
from benchmarks.running import crossings, journal, record, stages
from benchmarks.suites import grid, workloads
from reference import FAMILIES


@pytest.fixture
def place(monkeypatch, tmp_path):
    """A small grid, short measurements, a place of its own for the results, no libraries; no check
    of the operations but that of each cell.
    """
    for module, name, value in (*rehearse_record.quickly(), *rehearse_record.small()):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(results, "RECORDED", tmp_path / "recorded")
    monkeypatch.setattr(journal, "FOLDER", tmp_path / "journal")
    monkeypatch.setenv(journal.VARIABLE, "")
    without = [stage for stage in stages.STAGES if stage is not stages.borders]
    monkeypatch.setattr(record, "STAGES", without)
    beside(monkeypatch, [])
    return tmp_path


@pytest.fixture
def borders(monkeypatch, place):
    """The check of every operation as well, which takes longer than all else here."""
    monkeypatch.setattr(record, "STAGES", stages.STAGES)


def beside(monkeypatch, libraries):
    """The libraries with CUDA of this machine, and a grid of two cells for them."""

    def available(ours, device):
        assert device == "cuda"
        found = [contenders._ours(name, module) for name, module in ours.items()]
        return [*found, *libraries], ["jax.jit: no JAX with CUDA here"]

    cells = [cell for cell in rows.core() if cell[1].name == "mnist-512x10" and cell[2] == 1]
    monkeypatch.setattr(contenders, "available", available)
    monkeypatch.setattr(rows, "core", lambda: cells)


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


def recorded(**changed):
    return record.record(module=backend(**changed), card=lambda: CARD)


def counted(families):
    """How many of the operations of these families are timed at every batch, how many once."""
    of_batches = ["batch" in operation.sizes for name in families for operation in FAMILIES[name]]
    return sum(of_batches), len(of_batches) - sum(of_batches)


def test_session(capsys, borders):
    path = recorded()
    text = capsys.readouterr().out
    assert path.parent.name == "fake-card-1"
    assert "Every operation agrees with the float64 reference, borders included." in text
    assert "not measured: jax.jit: no JAX with CUDA here" in text
    session, run = session_of(path), results.read(path)
    # A batch: relu twice, dense twice and in TF32, and more. The roofline; two steps, and their
    # transfers.
    of_batches, others = counted(set(rehearse_record.FEW) - {"activations", "dense"})
    count = (6 + of_batches) * len(batches()) + others + 4 + 4
    assert len(session["cells"]) == len(run.times) == count
    assert [e["cell"]["function"] for e in session["cells"][:2]] == ["network_step"] * 2
    assert len(session["borders"]) == 2 * sum(len(FAMILIES[name]) for name in rehearse_record.FEW)
    for entry in (*session["cells"], *session["borders"]):
        assert entry["verdict"] == journal.CORRECT
    for entry in session["cells"]:
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
    assert session_table._share(run, adam, 2 * size / 10e9) == ("5.00 GB/s", "50%")
    assert session_table._share(run, adam, None) == ("", "")


def test_a_wrong_training_step_is_found(place):
    def create(sizes, *, lr, **options):
        return reference.network.create(sizes, lr=1.1 * lr, **options)

    cells = session_of(recorded(network=types.SimpleNamespace(create=create)))["cells"]
    wrong = [e["cell"]["function"] for e in cells if e["verdict"].startswith(journal.WRONG)]
    assert wrong == ["network_step"] * 2


def test_of_a_step_the_queued_work_alone_is_timed_cold():
    class Network:
        def step(self, x, labels):
            return "step"

        def _queue(self, x, labels, order, count):
            return x, labels, order, count

    call = partial(Network().step, "rows", "labels")
    assert stages._queueing(call)() == ("rows", "labels", None, 4)
    other = partial(min, 1, 2)
    assert stages._queueing(other) is other


def test_asv_reads_the_results(place):
    path = recorded()
    loaded = Results.load(str(path), machine_name="fake-card-1")
    (name,) = (
        key for key in loaded.get_all_result_keys() if key.startswith("bench_losses.softmax.")
    )
    params = loaded.get_result_params(name)
    times = loaded.get_result_value(name, params)
    variants = [operation for operation in FAMILIES["losses"] if operation.name == "softmax"]
    assert len(times) == len(variants) * len(batches())
    assert all(seconds > 0 for seconds in times)
    assert loaded.get_result_stats(name, params)[0]["repeat"] == 2


def test_report_shows_the_recorded_session(capsys, place):
    recorded()
    table = capsys.readouterr().out
    begin()
    note("sgd", {(LAYER, "float32", "numpy"): 1e-6})
    assert "cupy fake-card-1" in report.render()
    assert command.main(["report", "--machine", "fake-card-1"]) == 0
    assert capsys.readouterr().out.strip() in table


def test_the_newest_session_is_the_one_begun_last(capsys, place):
    """A checkout gives the files any times."""
    path = recorded()
    capsys.readouterr()
    session = path.with_suffix(".session")
    found = json.loads(session.read_text())
    later = found | {"started": found["started"] + 60, "took": 123456.0}
    other = path.with_name(f"0{path.name}")
    other.write_bytes(path.read_bytes())
    other.with_suffix(".session").write_text(json.dumps(later))
    os.utime(other.with_suffix(".session"), (0, 0))
    assert command.main(["report", "--machine", "fake-card-1"]) == 0
    assert "123456 s; two events" in capsys.readouterr().out


def test_simulated_kernels(capsys, monkeypatch, place):
    """The CUDA text itself; the wrappers, tables and kernels of the CuPy backend."""
    only = {"losses": {"layers": (LAYER,)}, "optimizers": {"layers": (LAYER,)}}
    monkeypatch.setattr(grid, "CORE", only)
    monkeypatch.setattr("benchmarks.running.session.FAMILIES", only)
    try:
        simulated = kernels.load("cupy", simulate=True)
    except kernels.Unavailable as reason:
        pytest.skip(str(reason))
    path = record.record(module=simulated, card=lambda: CARD)
    session = session_of(path)
    verdicts = [entry["verdict"] for entry in (*session["cells"], *session["crossings"])]
    of_batches, others = counted(only)
    assert verdicts == [journal.CORRECT] * (of_batches * len(batches()) + others + 4 + 4 + 8)
    limits = json.loads((path.parent / crossings.LIMITS).read_text())
    assert set(limits["Fake Card 1"]) == {*crossings.PRODUCTS, *crossings.STEPS}
    assert "and for large: of another card, an H200." in capsys.readouterr().out
    assert crossings.LIMITS == simulated.runtime.limits.FILE
    monkeypatch.setattr(simulated.runtime.limits, "RECORDED", results.RECORDED)
    monkeypatch.setattr(simulated.runtime.limits.device, "name", lambda: "Fake Card 1")
    kept = simulated.runtime.limits.of_card.__wrapped__()
    assert kept.origin == "measured: fake-card-1/card.limits"
    assert {name: getattr(kept, name) for name in limits["Fake Card 1"]} == limits["Fake Card 1"]


def wrong_adam(param, grad, mean, variance, step, *, lr=0.001):
    reference.adam(param, grad, mean, variance, step + 1, lr=lr)


def broken_softmax(logits, *, out=None):
    raise OSError("no such luck")


def test_wrong_broken_and_missing_kernels_are_recorded_as_such(capsys, borders):
    path = recorded(adam=wrong_adam, softmax=broken_softmax, momentum=None)
    text, session, run = capsys.readouterr().out, session_of(path), results.read(path)
    of = {"adam": journal.WRONG, "softmax": journal.FAILED}
    for entry in session["borders"]:
        assert entry["verdict"].partition(":")[0] == of.get(entry["operation"], journal.CORRECT)
    for entry in session["cells"]:
        cell = results.Cell(**entry["cell"])
        expected = of.get(cell.function, journal.CORRECT)
        assert entry["verdict"].partition(":")[0] == expected
        assert ((cell, "cupy") in run.times) == (expected == journal.CORRECT)
        if expected in (journal.WRONG, journal.FAILED):
            assert run.verdicts[cell, "cupy"][0] == expected
    assert "WRONG: adam, param: " in text
    assert "failed: OSError: no such luck" in text
    assert "not measured: momentum: the backend does not have it" in text
    functions = {entry["cell"]["function"] for entry in session["cells"]}
    assert {"nesterov", "adam"} <= functions - {"momentum"} == functions
    assert "Every operation agrees" not in text


def column_of(run):
    return columns.Column("cupy", "cupy", run, {}, run)


def test_a_recorded_run_without_its_session_shows_what_it_does_not_know(place):
    path = recorded(adam=wrong_adam)
    cell = results.Cell("adam", "", LAYER, "float32", None)
    column = column_of(results.read(path))
    assert column.entry(cell) == journal.WRONG
    results.session(path).unlink()
    column = column_of(results.read(path))
    assert column.entry(cell) == "-"


def overflowing_softmax(logits, *, out=None):
    e = np.exp(logits)
    return np.divide(e, e.sum(axis=1, keepdims=True), out=out)


def test_what_is_wrong_at_the_borders_alone_is_found(capsys, borders):
    session = session_of(recorded(softmax=overflowing_softmax))
    wrong = [e for e in session["borders"] if e["verdict"] != journal.CORRECT]
    assert [(e["operation"], e["dtype"]) for e in wrong] == [
        ("softmax", "float32"),
        ("softmax", "float64"),
    ]
    assert "(large" in wrong[0]["verdict"]
    assert "borders of softmax, float32: WRONG: softmax, " in capsys.readouterr().out


def test_libraries_stand_beside_ours(capsys, monkeypatch, place):
    """Two cells are compared; the library takes twice as long."""
    libraries = [contenders.Contender("torch", None), contenders.Contender("other", None)]
    beside(monkeypatch, libraries)
    monkeypatch.setattr(stages, "LAYERS", ("mnist-512x10",))
    monkeypatch.setitem(grid.CORE, "dense", {"layers": ("mnist-512x10",), "variants": ("relu",)})
    timed = {"cupy": [1e-6, 1e-6], "torch": [2e-6, 2e-6]}

    def cell(found, operation, layer, batch, rounds):
        assert [contender.name for contender in found] == ["cupy", "torch"]
        names = {"operation": operation.name, "variant": operation.variant, "layer": layer.name}
        return {**names, "batch": batch, "seconds": timed, "refused": {}}

    monkeypatch.setattr(measure, "cell", cell)
    recorded()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    row = next(
        line
        for line in lines
        if line[:5] == ["dense_forward", "relu", "mnist-512x10", "float32", "1"]
    )
    assert row[-2:] == ["2.00", "2.00"]


def test_data_that_are_not_there_are_left_out(capsys, monkeypatch, place):
    def missing():
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")

    workloads._loaded.cache_clear()
    monkeypatch.setattr(workloads, "CACHE", place / "empty")
    monkeypatch.setitem(workloads._GENERATORS, "moons", missing)
    cells = session_of(recorded())["cells"]
    left_out = {e["cell"]["function"] for e in cells if e["verdict"].startswith(journal.SKIPPED)}
    assert left_out == {"network_step", "network_transfer"}
    text = capsys.readouterr().out
    assert "not measured: 4 cells: the data of moons need the package sklearn" in text
    workloads._loaded.cache_clear()


def test_without_a_card_one_line_says_so(capsys, monkeypatch):
    def load(name):
        raise kernels.Unavailable("backend cupy: no CUDA device was found")

    monkeypatch.setattr(record.kernels, "load", load)
    assert command.main(["record"]) == 2
    assert capsys.readouterr().err == "error: backend cupy: no CUDA device was found\n"
