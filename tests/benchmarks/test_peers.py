"""The comparison with other libraries: who is timed, who is refused, what the table says."""

import functools
import importlib.util
import json
import math
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest

import kernels
from benchmarks import peers
from benchmarks.peers import contenders, measure, processes, rows, table
from benchmarks.peers.contenders import Contender
from benchmarks.suites import training_step, workloads
from kernels.catalog import RULES
from reference import FAMILIES, spec

OPERATIONS = {str(operation): operation for family in FAMILIES.values() for operation in family}
IN_GRID = sorted({str(operation) for operation, *_ in rows.grid()} - {training_step.NAME})
# What a library draws is never ours, and of a histogram it may count neighbours otherwise.
DRAWN = [n for n in IN_GRID if n.startswith(("initialize", "histogram", "dropout_forward"))]
EXACTLY = [name for name in IN_GRID if name not in DRAWN]
BACKENDS = ("numba", "numpy")
OURS = {name: kernels.load(name) for name in BACKENDS}
LAYER = workloads.layers()["moons-32x16"]


# What a library has not, or otherwise.
OTHERS = ("adagrad", "amsgrad", "asgd", "delta_bar_delta", "nadam", "radam", "rprop")
DIRECTIONS = "conjugate_direction", "lbfgs_direction"  # libraries keep them inside their steps
# torch.compile leaves recurrent layers to eager mode. PyTorch packs sequences of several lengths, a
# scan knows nothing of them.
STEPS = [str(operation) for operation in FAMILIES["recurrent"]]
LENGTHS = [name for name in STEPS if "lengths" in name]
DISTORTIONS = "random_affine", "elastic_transform"  # are torchvision's
LACKS = *DIRECTIONS, *DISTORTIONS, *LENGTHS
MISSING = {
    "torch": ("delta_bar_delta", "lion", *LACKS),
    "torch.compile": {"gaussian_nll", *LACKS, *STEPS, *RULES} - {"sgd", "momentum", "adam"},
    "jax.jit": (*OTHERS, "initialize[sparse_normal]", "unit_activity", *LACKS),
}


def sampled(operation, batch=5):
    return operation.sample(np.random.default_rng(3), LAYER.at(batch=batch))


# --- what is measured ----------------------------------------------------------------------------


def test_grid_is_what_it_promises():
    cells = rows.grid()
    assert len(cells) == len(set(map(str, cells)))
    forward = {(la.name, batch) for op, la, batch in cells if str(op) == "dense_forward[relu]"}
    layers = [name for name in workloads.layers() if not name.startswith("circles")]
    assert len(forward) == 5 * len(layers) == 55
    assert {"sgd", "momentum", "adam"} <= {op.name for op, *_ in cells}
    large = [layer for op, layer, _ in cells if op.name == "adam"][-1]
    assert OPERATIONS["adam"].bytes("float32", **large.sizes) == 7 * 4 * 2**24
    assert all((batch > 0) == ("batch" in op.sizes) for op, _, batch in cells)


def test_every_operation_has_a_row():
    """Of a dense layer some activations stand for all."""
    without = {str(op) for family, of in FAMILIES.items() if family != "dense" for op in of}
    assert without <= set(IN_GRID)
    begun = {str(o) for o, *_ in rows.core()}
    others = [(f, name) for f, of in FAMILIES.items() for name in map(str, of) if name not in begun]
    cells = sum(len(rows.OTHERS.get(name, rows.OTHERS[family])) for family, name in others)
    assert len(rows.grid()) == len(rows.core()) + cells
    batches = [batch for o, _, batch in rows.grid() if str(o) == "lstm_backward[whole]"]
    assert batches == [1, 16, 32, 128]


def test_selection():
    chosen = rows.selected(["moons", "adam"])
    others = [layer.name for op, layer, _ in chosen.values() if op.name != "adam"]
    assert {name.partition("-")[0] for name in others} == {"moons"}
    assert len([op for op, *_ in chosen.values() if op.name == "adam"]) == 5
    with pytest.raises(ValueError, match="--only: no circles in the grid, but 16M, "):
        rows.selected(["circles"])


def test_rounds_are_interleaved_and_their_order_rotates(monkeypatch):
    monkeypatch.setattr(measure, "SAMPLE", 0.0)  # one call a round
    heard = []

    def sampler(name, count):
        heard.append(name)
        return 1e-6 * count

    samplers = {name: functools.partial(sampler, name) for name in "abc"}
    seconds = measure.interleaved(samplers, 3)
    assert "".join(heard) == "abc" + "abcbcacab"
    assert {name: len(rounds) for name, rounds in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_waiting_is_timed():
    """On a GPU a call returns before it is done."""
    assert measure.sample(lambda: None, lambda: time.sleep(0.01), 1) >= 0.01


@pytest.fixture
def numpy_apart():
    library = processes.Library(("numpy",), ())
    yield library
    library.close()


def test_a_process_of_its_own_answers_and_stops(numpy_apart):
    assert (numpy_apart.contenders, numpy_apart.missing) == ({"numpy": True}, [])
    number = next(n for n, (op, *_) in enumerate(rows.grid()) if op.name == "sgd")
    assert numpy_apart.prepare(number) == (["numpy"], {})
    assert 0 < numpy_apart.sample("numpy", 3) < 1
    assert set(numpy_apart.pools())
    stat = Path(f"/proc/{numpy_apart._process.pid}/stat")
    if stat.is_file():
        stopped, end = "T", time.monotonic() + 5  # a signal is heard a moment later
        while stat.read_text().rpartition(")")[2].split()[0] != stopped:
            assert time.monotonic() < end


def test_a_process_that_dies_is_told(numpy_apart):
    numpy_apart._process.kill()
    with pytest.raises(RuntimeError, match="the process of numpy died at"):
        numpy_apart.pools()


# --- whom to believe -----------------------------------------------------------------------------


def reference_bind(spoil):
    """A library that computes the reference's answer, which `spoil` may then change."""

    def bind(operation, inputs, device):
        arguments = spec.with_arrays(np.copy, inputs)
        last = []

        def call():
            answer = OPERATIONS[str(operation)].function(**arguments)
            last[:] = operation.collect(arguments, answer)
            spoil(last)

        return call, lambda: tuple(last)

    return bind


def shifted(results):
    last = results[-1]
    results[-1] = last + 1 if last.dtype.kind == "i" else last * np.float32(1 + 1e-4)


@pytest.mark.parametrize("name", [name for name in EXACTLY if name != "lbfgs_direction"])
def test_another_answer_is_reported_and_not_timed(name):
    """One part in ten thousand is too much for every operation of the grid but for that whose loops
    add to an error at every step.
    """
    operation = OPERATIONS[name]

    def unavailable(operation, inputs, device):
        raise NotImplementedError("no such operation")

    def broken(operation, inputs, device):
        raise OSError("no such luck")

    found = [
        Contender("numba", lambda operation, inputs: reference_bind(list)(operation, inputs, 0)[0]),
        contenders._library("right", reference_bind(list), "cpu"),
        contenders._library("wrong", reference_bind(shifted), "cpu"),
        contenders._library("none", unavailable, "cpu"),
        contenders._library("broken", broken, "cpu"),
    ]
    record = measure.cell(found, operation, LAYER, 5 if "batch" in operation.sizes else 0, rounds=1)
    assert list(record["seconds"]) == ["numba", "right"]
    assert re.match(r"WRONG: .* (instead of|wrong|deviations)", record["refused"].pop("wrong"))
    assert record["refused"] == {"broken": "failed: OSError: no such luck"}


@pytest.mark.parametrize("name", EXACTLY)
def test_remembered_oracle_is_the_oracle(name):
    operation = OPERATIONS[name]
    inputs = sampled(operation)
    known = contenders.remembered(operation, inputs)
    assert known.function.__name__ == operation.function.__name__
    for got, expected in zip(known.oracle(inputs), operation.oracle(inputs), strict=True):
        np.testing.assert_array_equal(got, expected)
    wide = tuple(
        value.astype(result.dtype or np.float32)
        for value, result in zip(operation.oracle(inputs), operation.results, strict=True)
    )
    assert known.disagreement(inputs, wide) is None
    moved = tuple(w + w.dtype.type(1 if w.dtype.kind == "i" else 0.01) for w in wide)
    assert known.disagreement(inputs, moved) is not None


@pytest.mark.parametrize("name", IN_GRID)
@pytest.mark.parametrize("library", ["torch", "torch.compile", "oneDNN", "jax.jit"])
def test_formulas_of_the_libraries(library, name):
    """Each gives the oracle's answer at once, and its repeated calls go on."""
    package = "optax" if library == "jax.jit" else "torch"  # JAX comes with it
    pytest.importorskip(package, reason=f"{package} is not installed: {contenders.INSTALL}")
    found, _ = contenders.available(OURS)
    (contender,) = (c for c in found if c.name == library)
    operation = OPERATIONS[name]
    if library == "oneDNN" and operation.name != "dense_forward":
        with pytest.raises(NotImplementedError, match="inference"):
            contender.prepare(operation, sampled(operation))
        return
    inputs = sampled(operation)
    before = {k: v.copy() for k, v in inputs.items() if isinstance(v, np.ndarray)}
    if name in MISSING.get(library, ()):
        with pytest.raises(NotImplementedError):
            contender.prepare(operation, inputs)
        return
    call = contender.prepare(operation, inputs)
    for _ in range(3):
        call()
    contender.wait()
    for key, value in before.items():
        np.testing.assert_array_equal(value, inputs[key])


def test_missing_packages_are_one_line_each(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found, missing = contenders.available(OURS)
    assert [contender.name for contender in found] == ["numba", "numpy"]
    assert missing == [
        "torch, torch.compile, oneDNN: PyTorch is not installed: "
        ".venv/bin/python -m pip install -e .[peers]",
        "jax.jit: JAX is not installed: .venv/bin/python -m pip install -e .[peers]",
    ]


# --- the table -----------------------------------------------------------------------------------


def run(*records, **more):
    return {
        "threads": 1,
        "rounds": 3,
        "took": 5.0,
        "versions": {"numpy": "2.4"},
        "contenders": {"numba": True, "numpy": True, "jax.jit": True, "oneDNN": False},
        "subject": "numba",
        "missing": [],
        "ceilings": {"flops": 100e9, "triads": [[10**9, 40e9]]},
        "cells": list(records),
        **more,
    }


def record(batch, refused=None, **seconds):
    seconds = {name.replace("_", "."): [1e-6 * each for each in v] for name, v in seconds.items()}
    return {
        "operation": "dense_forward",
        "variant": "relu",
        "layer": "mnist-784x512",
        "batch": batch,
        "flops": 2 * batch * 784 * 512 + 2 * batch * 512,
        "bytes": 4 * (784 * 512 + 512 + batch * (784 + 512)),
        "seconds": seconds,
        "refused": refused or {},
    }


def test_table():
    one = record(
        1,
        numba=[20, 20, 40],
        numpy=[60, 60, 60],
        jax_jit=[30, 40, 80],
        oneDNN=[10, 10, 10],
        floor=[5, 8, 9],
    )
    full = record(3500, {"numpy": "WRONG: 1 of 2 wrong"}, numba=[50, 50, 50], jax_jit=[25, 25, 25])
    text = table.render(run(one, full, missing=["torch: not installed"]))
    lines = [line.split() for line in text.splitlines()]
    # Ratios of the rounds 1.5, 2, 2, and to the floor 0.25, 0.4, 0.225.
    where = "dense_forward relu mnist-784x512"
    row = f"{where} 1 8.00 20.0 60.0 40.0 10.0 jax.jit 2.00 (1.75-2.00) 25%"
    assert row.split() in lines
    assert f"{where} full - 50.0 WRONG".split() == lines[lines.index(row.split()) + 1][:7]
    assert f"numpy, {where} 3500: WRONG: 1 of 2 wrong" in text
    assert "100 GFLOP/s (multiply-adds from registers), GB/s: 40.0" in text
    assert "oneDNN: inference only" in text
    assert "not measured: torch: not installed" in text
    # The geometric mean of 2 and 0.5 is 1.
    assert f"all best that can train 2 1.00 0.50 {where} full".split() in lines
    assert f"all oneDNN 1 0.50 0.50 {where} 1".split() in lines
    assert f"all numpy 1 3.00 3.00 {where} 1".split() in lines


def test_samples_a_second_of_the_steps():
    step = record(16, numba=[8, 8, 9], numpy=[1e3, 1e3, 1e3])
    step |= {"operation": "network_step", "variant": "", "layer": "moons-2-32-16-2"}
    lines = [line.split() for line in table.render(run(record(1, numba=[1]), step)).splitlines()]
    assert ["moons-2-32-16-2", "16", "2.00", "M", "16.0", "k"] in lines


def test_what_no_library_has_is_named():
    other = record(1, numba=[1], numpy=[1], floor=[1]) | {"operation": "delta_bar_delta"}
    refused = record(1, {"jax.jit": "WRONG: it is"}, numba=[1]) | {"operation": "lion"}
    text = table.render(run(record(1, numba=[1], jax_jit=[1]), other, refused))
    assert "No library here has: delta_bar_delta relu\n" in text + "\n"


def test_table_of_a_cell_that_no_peer_has():
    assert "n/a" not in table.render(run(record(16, numba=[1, 1, 1])))


# --- the command ---------------------------------------------------------------------------------


def test_threads_beyond_the_cores_are_refused():
    cores = len(peers.usable_cores())
    with pytest.raises(
        ValueError, match=rf"--threads must be from 1 to {cores}, .* got {cores + 1}"
    ):
        peers.compare(["adam"], [cores + 1])
    with pytest.raises(ValueError, match="--rounds must be at least 1, got 0"):
        peers.compare(["adam"], [1], 0)


def test_threads_reach_every_library(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    settings = peers.environment(1)
    names = ("NUMBA", "OMP", "MKL", "OPENBLAS")
    assert {settings[f"{name}_NUM_THREADS"] for name in names} == {"1"}
    assert settings["XLA_FLAGS"] == "--xla_cpu_multi_thread_eigen=false"
    assert "true" in peers.environment(2)["XLA_FLAGS"]


def test_the_command_from_end_to_end(capfd, tmp_path):
    """In a process of its own, on one core, with whatever libraries are installed here."""
    output = tmp_path / "peers.json"
    peers.compare(["hard"], [1], 2, output)  # labels
    printed = capfd.readouterr().out
    assert "softmax_cross_entropy hard  mnist-512x10" in printed
    (measured,) = json.loads(output.read_text())["runs"]
    assert len(measured["cells"]) == 15
    if hasattr(os, "sched_getaffinity"):
        assert measured["cores"] == 1
    assert set(measured["pools"].values()) == {1}
    for cell in measured["cells"]:
        assert cell["refused"] == {}
        assert {"numba", "numpy", "floor"} <= set(cell["seconds"])
        assert table.share(measured, cell) > 0
        assert all(len(rounds) == 2 for rounds in cell["seconds"].values())
    assert math.isfinite(measured["ceilings"]["flops"])


def test_a_measurement_that_dies_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(peers.sys, "executable", "false")
    with pytest.raises(RuntimeError, match="the measurement with 1 threads ended with code 1"):
        peers.compare(["adam"], [1], 1, tmp_path / "none.json")
