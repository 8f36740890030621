"""A time that no machine of these ceilings reaches is no record, and the run says so."""

import csv
import io

import numpy as np
import pytest
from conftest import moved
from journals import begin, note, note_roofs
from page_reader import Reader

import reference
from benchmarks import __main__ as command
from benchmarks.reports import columns, exports, page, report, results, roofline
from benchmarks.running import drift, journal, runner
from benchmarks.suites import ceilings, suite, workloads
from reference import FAMILIES
from reference.spec import arrays_of

OPERATIONS = [operation for family in FAMILIES.values() for operation in family]
LAYER = "mnist-784x512"
SGD = 12 * 785 * 512 / 80e9  # seconds: 401920 parameters, read with their gradients and written


def sgd(seconds, backend="numba"):
    note("sgd", {(LAYER, "float32", backend): seconds})


@pytest.mark.parametrize("share", [1.04, 1.06])
def test_what_exceeds_its_ceiling_by_a_twentieth_is_no_record(house, share):
    begin()
    note_roofs()
    sgd(SGD / share)
    sgd(1e-3, "numpy")
    shown = columns.view()
    numpy, numba = shown.cpus
    texts = report.text(shown), page.render(shown), exports.as_csv(shown), exports.as_json(shown)
    texts += (exports.as_markdown(shown),)
    assert {"IMPLAUSIBLE" in text for text in texts} == {share > 1.05}
    (cell,) = shown.cells
    assert (numba.seconds(cell) is None) == (share > 1.05)
    assert numpy.seconds(cell) == columns.fastest_cpu(cell, [numpy]) == 1e-3
    if share > 1.05:
        (row,) = (line for line in texts[0].splitlines() if line.startswith(LAYER))
        assert row.split() == f"{LAYER} 1.00 ms IMPLAUSIBLE n/a".split()
        assert "1 cells are wrong or failed" in texts[0]
        assert f"IMPLAUSIBLE numba, sgd, float32, {LAYER}: 56.9 us where" in texts[0]
        _, (shown_row,) = Reader(texts[1]).cells
        assert "IMPLAUSIBLE" in shown_row
        (found,) = (r for r in csv.DictReader(io.StringIO(texts[2])) if r["label"] == "numba")
        assert (found["verdict"], found["seconds"]) == ("IMPLAUSIBLE", "")


def test_nothing_is_said_without_ceilings_nor_of_another_dtype(house):
    begin()
    sgd(1e-9)
    assert results.newest().verdicts == {}
    note_roofs()
    note("sgd", {(LAYER, "float64", "numba"): 1e-9})
    assert [cell.dtype for cell, _ in results.newest().verdicts] == ["float32"]


def test_a_time_of_nothing_is_implausible(house):
    begin()
    note_roofs()
    sgd(0.0)
    assert "sgd" not in {cell.function for cell, _ in results.newest().times}


def test_a_device_elsewhere_may_exceed_its_own_kernels(house):
    """By less than twice: they are no ceiling."""
    begin()
    note("product", {("2048x2048", "float32", 2048, "far"): 2 * 2048**3 / 36e12}, elsewhere=True)
    note("triad", {("16777216", "float32", "far"): 12 * 16777216 / 72e9}, elsewhere=True)
    note("sgd", {(LAYER, "float32", "far"): SGD / 1.9}, elsewhere=True)
    note("sgd", {("mnist-512x512", "float32", "far"): SGD / 5}, elsewhere=True)
    (key,) = results.newest().verdicts
    assert key[0].layer == "mnist-512x512"


def test_the_recorded_session_has_no_implausible_time():
    (run,) = results.recorded()
    assert len(run.times) > 500
    assert journal.IMPLAUSIBLE not in {word for word, _ in run.verdicts.values()}


@pytest.mark.parametrize(
    ("slowness", "seconds", "timed", "status"),
    [((1,), 2 * SGD, 1, 0), ((3, 1), SGD, 2, 0), ((1, 1, 1), SGD / 2, 3, 1)],
)
def test_a_run_fails_by_what_exceeds_the_ceilings_still(
    monkeypatch, house, capsys, slowness, seconds, timed, status
):
    """They are timed again where a cell exceeds them: they may have been disturbed."""
    from asv.machine import MachineCollection

    rounds, left = [], list(slowness)

    def asv(machine, part, path, progress):
        rounds.append(part[0].family)
        if rounds[-1] == "roofline":
            note_roofs(left.pop(0))
        else:
            sgd(seconds)

    monkeypatch.setattr(MachineCollection, "save", lambda *_: None)
    monkeypatch.setattr(runner.surroundings, "begin", begin)
    monkeypatch.setattr(runner, "LOG", house / "run.log")
    monkeypatch.setattr(runner, "_asv", asv)
    monkeypatch.setattr(drift, "note", lambda: None)
    assert command.main(["run", "--only", "sgd"]) == status
    assert rounds == ["roofline", "optimizers"] + ["roofline"] * (timed - 1)
    shown = capsys.readouterr().out.rpartition("timed again")[2]  # the table too, once more
    assert "sgd, float32" in shown
    assert ("IMPLAUSIBLE" in shown) == (status == 1)


def test_ceilings_that_were_disturbed_condemn_nothing(house):
    """The cell is marked as they are, and judged when they are timed again undisturbed."""

    def read(mean=1.0):
        journal.note(None, journal.READ, least=1.0, mean=mean, stolen=0, of=0)

    path = begin()
    read()
    note_roofs(3)
    read(2.0)
    read()
    sgd(SGD / 2)
    read()
    run = results.of_journal(path)
    (key,) = run.doubtful
    assert key[0].function == "sgd"
    assert key in run.times
    assert key in run.disturbed
    assert runner._beyond(path) == ["optimizers"]
    assert not run.verdicts
    note_roofs(1)
    read()
    run = results.of_journal(path)
    assert run.verdicts[key][0] == journal.IMPLAUSIBLE
    assert not run.doubtful


# --- what a share is counted by ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bytes_are_those_of_the_arrays_of_the_timed_call(dtype):
    """Of every operation: what it takes and returns, and what all of it holds in memory."""
    for family, operations in FAMILIES.items():
        layer = min(workloads.layers_of(family).values(), key=lambda case: np.prod(layer_of(case)))
        for operation in operations:
            batch = 16 if "batch" in operation.sizes else 0
            inputs = suite.sampled(operation, layer, dtype, batch)
            call = suite.checked(operation, reference, inputs)
            given = {name: value for name, value in call.keywords.items() if name != "out"}
            results_ = [np.asarray(r) for r in operation.collect(given, call())]
            cell = results.Cell(operation.name, operation.variant, layer.name, dtype, batch or None)
            _, size = roofline.work(cell)
            assert size == moved(operation, given, results_), operation
            arrays = {id(array): array.nbytes for array in (*arrays_of(given), *results_)}
            assert 0.5 * size <= roofline.footprint(cell) <= min(size, sum(arrays.values()))


def layer_of(case):
    return [case.sizes["fan_in"], case.sizes["fan_out"]]


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam"])
def test_footprint_of_an_update_rule_is_its_arrays(rule):
    cell = results.Cell(rule, "", "wide-2048x2048", "float32", None)
    count = {"sgd": 2, "momentum": 3, "adam": 4}[rule]
    assert roofline.footprint(cell) == pytest.approx(4 * 2049 * 2048 * count, rel=1e-12)


def test_bandwidth_is_that_of_the_smaller_footprint_or_of_a_faster_one_above():
    roof = roofline.Roof((1.0, ""), [(100, 5.0), (200, 9.0), (300, 8.0), (400, 2.0)])
    found = [roof.bandwidth(size) for size in (1, 100, 200, 299, 300, 399, 400, 10**9)]
    assert found == [9.0, 9.0, 9.0, 9.0, 8.0, 8.0, 2.0, 2.0]
    assert roof.levels() == [(300, 9.0), (400, 2.0)]


def test_the_best_way_counts_at_each_footprint(house):
    path = begin()
    note("multiply_add", {("1000", "float32", roofline.HOST): 1.0})
    for name, way, size, rate in (
        *(("stream", "read", 1 << 20, 9e9), ("stream", "triad", 1 << 20, 8e9)),
        *(("stream_alone", "write", 1 << 20, 7e9), ("stream_alone", "copy", 1 << 24, 5e9)),
        ("stream", "copy", 1 << 24, 4e9),
    ):
        seconds = ceilings.moved(way, size) / rate / 0.9  # the fastest sample is a tenth less
        note(name, {(way, str(size), "float32", roofline.HOST): seconds})
    for dtype in ("float32", "float64"):
        note("multiply_add", {("1000", dtype, roofline.HOST): 1.0})
        found = roofline.Roof.measured(results.of_journal(path), [roofline.HOST], dtype)
        sizes, rates = zip(*found.streams, strict=True)
        assert (sizes, rates) == ((1 << 20, 1 << 24), pytest.approx((9e9, 5e9)))


def test_ceilings_timed_again_count_with_all_their_samples(house):
    path = begin()
    for slowness in (1, 0.5, 2):
        note_roofs(slowness)
    found = roofline.Roof.measured(results.of_journal(path), [roofline.HOST], "float32")
    assert found.arithmetic[0] == pytest.approx(200e9)
    assert [rate for _, rate in found.streams] == pytest.approx([160e9, 80e9])
