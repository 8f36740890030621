"""A kernel that is wrong is not timed; what the report says of it, and of all others."""

import itertools
import json
import math
import re

import pytest
from conftest import user_module

from benchmarks import formats, report, results, roofline, suite, workloads
from reference import FAMILIES

OPERATIONS = [operation for family in FAMILIES.values() for operation in family]

# --- the check of every kernel -------------------------------------------------------------------

MISTAKES = {
    "bias correction dropped": (
        "adam",
        """
        def adam(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
            reference.adam(param, grad, mean, variance, 10**9, lr=lr)
        """,
    ),
    "wrong sign of alpha": (
        "activation_forward",
        """
        def activation_forward(z, activation, alpha=None, *, out=None):
            if activation == "leaky_relu":
                alpha = -0.01
            return reference.activation_forward(z, activation, alpha, out=out)
        """,
    ),
    "row maximum not subtracted": (
        "softmax",
        """
        def softmax(logits, *, out=None):
            e = np.exp(logits)
            return np.divide(e, e.sum(axis=1, keepdims=True), out=out)
        """,
    ),
    "last element unwritten": (
        "activation_backward",
        """
        def activation_backward(dy, saved, activation, alpha=None, *, out=None):
            result = reference.activation_backward(dy, saved, activation, alpha)
            if out is None or activation == "prelu":
                return result
            out.reshape(-1)[:-1] = result.reshape(-1)[:-1]
            return out
        """,
    ),
    "label off by one": (
        "softmax_cross_entropy",
        """
        def softmax_cross_entropy(logits, labels, *, label_smoothing=0.0, out=None):
            labels = (labels + 1) % logits.shape[1]
            return reference.softmax_cross_entropy(
                logits, labels, label_smoothing=label_smoothing, out=out
            )
        """,
    ),
}


@pytest.fixture
def house(monkeypatch, tmp_path):
    """A place of its own for results and verdicts."""
    monkeypatch.setattr(suite, "VERDICTS", tmp_path / "verdicts")
    monkeypatch.setattr(results, "LOCAL", tmp_path / "results")
    monkeypatch.setattr(results, "RECORDED", tmp_path / "recorded")
    return tmp_path


def set_up(function, backend):
    """Setup of the smallest cell of every variant: {values: what it raised}."""
    family = results.FAMILY_OF[function]
    cls = suite.suites(family)[function]
    outcome = {}
    for variant in cls.axes.get("variant", [""]):
        axes = {"variant": variant, "layer": cls.axes["layer"][0], "dtype": "float32", "batch": 16}
        values = tuple({**axes, "backend": backend}[name] for name in cls.axes)
        try:
            cls().setup(*values)
            outcome[values] = None
        except Exception as error:
            outcome[values] = error
    return outcome


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_kernel_is_not_timed_but_reported(monkeypatch, house, mistake):
    function, source = MISTAKES[mistake]
    monkeypatch.setenv("FUSEBENCH_BACKEND", str(user_module(house, source)))
    raised = set_up(function, "mine")
    wrong = {values for values, error in raised.items() if isinstance(error, suite.Wrong)}
    assert wrong, raised
    assert all(error is None or values in wrong for values, error in raised.items())

    record(house, "this-machine", function, dict.fromkeys(wrong))
    text = report.render()
    assert "WRONG" in text
    assert re.search(rf"WRONG mine, {function}\b.*instead of", text)
    assert f"{len(wrong)} cells are wrong or failed" in text


@pytest.mark.parametrize("function", sorted({operation.name for operation in OPERATIONS}))
def test_a_right_kernel_passes_the_check(house, function):
    raised = set_up(function, "numpy")
    assert set(raised.values()) == {None}
    assert all(suite.read_verdict(function, v) == (suite.CORRECT, "") for v in raised)


def test_what_cannot_run_is_skipped_and_what_raises_has_failed(monkeypatch, house):
    source = """
    def softmax(logits, *, out=None):
        raise OSError("no such luck")
    """
    monkeypatch.setenv("FUSEBENCH_BACKEND", str(user_module(house, source)))
    ((values, error),) = set_up("softmax", "mine").items()
    assert isinstance(error, OSError)
    assert suite.read_verdict("softmax", values) == (suite.FAILED, "OSError: no such luck")
    ((values, error),) = set_up("sgd", "mine").items()
    assert isinstance(error, NotImplementedError)  # asv's n/a
    assert suite.read_verdict("sgd", values) == (suite.SKIPPED, "mine has no sgd")


# --- the report ----------------------------------------------------------------------------------


def record(house, machine, function, times, *, folder="results", **more):
    """A result file as asv writes it. times: {values of the axes: seconds, NaN or None}."""
    entries = {function: times, **more.pop("others", {})}
    rows = {}
    for name, chosen in entries.items():
        family = {"product": "roofline", "triad": "roofline"}.get(name)
        family = family or results.FAMILY_OF.get(name, "network")
        params = [list(dict.fromkeys(map(repr, axis))) for axis in zip(*chosen, strict=True)]
        by_repr = {tuple(map(repr, values)): seconds for values, seconds in chosen.items()}
        values = [by_repr.get(c, math.nan) for c in itertools.product(*params)]
        rows[f"bench_{family}.{name}.time_call"] = [values, params, "1"]
    target = house / folder / machine
    target.mkdir(parents=True, exist_ok=True)
    (target / "machine.json").write_text(
        json.dumps({"cpu": "Abacus", "num_cpu": "2", "ram": "2147483648"})
    )
    data = {
        "commit_hash": "0123456789abcdef",
        "requirements": {"numpy": "2.4"},
        "env_vars": {"NUMBA_NUM_THREADS": "2"},
        "python": "3.11",
        "result_columns": ["result", "params", "version"],
        "results": rows,
    }
    (target / "01234567-checkout.json").write_text(json.dumps(data))


ROOFS = {
    "product": {("2048x2048", "float32", 2048, "numpy"): 2 * 2048**3 / 100e9},
    "triad": {
        ("4096", "float32", "numpy"): 3 * 4 * 4096 / 80e9,
        ("16777216", "float32", "numpy"): 3 * 4 * 16777216 / 40e9,
    },
}
LAYER = "mnist-784x512"


def test_report_shows_times_rates_ratios_and_failures(monkeypatch, house):
    monkeypatch.setattr(workloads, "_mnist_files", tuple)
    one, many = ("relu", LAYER, "float32", 1), ("relu", LAYER, "float32", 3500)
    broken = ("tanh", LAYER, "float32", 1)
    times = {
        (*one, "numpy"): 60e-6,
        (*one, "numba"): 20e-6,
        (*one, "cupy"): math.nan,
        (*many, "numpy"): None,
        (*many, "numba"): 56.2e-3,
        (*broken, "numpy"): None,
        (*broken, "numba"): None,
    }
    suite.VERDICTS.mkdir()
    for values, verdict in (
        ((*many, "numpy"), "started"),
        ((*broken, "numba"), "WRONG: 3 of 4 wrong"),
    ):
        (suite.VERDICTS / suite.verdict_name("dense_forward", values)).write_text(verdict)
    record(house, "this-machine", "dense_forward", times, others=ROOFS)
    text = report.render()
    lines = [line.split() for line in text.splitlines()]
    assert "100 GFLOP/s (matrix product by numpy), GB/s (triad): 80.0 up to 48 KiB, 40.0" in text
    assert "Abacus, 2 cores, 2 GiB" in text
    # 0.81 MFLOP and 1.6 MB in 20 us; at 40 GB/s the bytes take twice as long as the operations.
    assert f"relu {LAYER} 1 60.0 us 20.0 us 80.6 GB/s 202% 3.00 n/a".split() in lines
    # 2.8 GFLOP in 56.2 ms is half of 100 GFLOP/s.
    assert ["full", "failed", "56.2", "ms", "50.1", "GFLOP/s", "50%", "n/a"] in lines
    assert f"tanh {LAYER} 1 - WRONG n/a".split() in lines
    assert "GPU       columns are empty: " in text
    assert "WRONG numba, dense_forward tanh, float32, mnist-784x512 1: 3 of 4 wrong" in text
    assert "failed numpy, dense_forward relu, float32, mnist-784x512 full: it crashed" in text
    assert "2 cells are wrong or failed" in text


def test_report_takes_recorded_gpu_results(monkeypatch, house):
    monkeypatch.setattr(workloads, "_mnist_files", tuple)
    cpu = {1: 20e-6, 16: 80e-6, 3500: 60e-3}
    gpu = {1: 40e-6, 16: 40e-6, 3500: 1e-3}
    cells = {batch: ("relu", LAYER, "float32", batch) for batch in cpu}
    record(house, "here", "dense_forward", {(*c, "numba"): cpu[b] for b, c in cells.items()})
    record(
        house,
        "h100",
        "dense_forward",
        {(*c, "cupy"): gpu[b] for b, c in cells.items()},
        folder="recorded",
        others={"product": {("2048x2048", "float32", 2048, "cupy"): 2 * 2048**3 / 40e12}}
        | {"triad": {("16777216", "float32", "cupy"): 3 * 4 * 16777216 / 2e12}},
    )
    text = report.render()
    lines = [line.split() for line in text.splitlines()]
    assert "cupy h100, float32: 40000 GFLOP/s" in text
    assert f"relu {LAYER} 1 - 20.0 us 40.0 us 40.3 GB/s 2.0% 0.50".split() in lines
    assert ["full", "-", "60.0", "ms", "1.00", "ms", "2813", "GFLOP/s", "7.0%", "60.0"] in lines
    assert f"cupy h100 dense_forward relu {LAYER} float32 16".split() in lines


def test_report_shows_the_steps_of_a_gpu_with_and_without_their_transfer(house):
    """In microseconds: the GPU's step wins from 16 rows on, with its transfer from 128."""
    cpu, gpu = {1: 10, 16: 40, 128: 200}, {1: 20, 16: 20, 128: 50}
    transfer, name = {1: 30, 16: 30, 128: 75}, "digits-64-128-64-32-10"

    def times(backend, of):
        return {(name, "float32", batch, backend): 1e-6 * us for batch, us in of.items()}

    record(house, "here", "network_step", times("numba", cpu))
    others = {"network_transfer": times("cupy", transfer)}
    record(house, "h100", "network_step", times("cupy", gpu), folder="recorded", others=others)
    text = report.render()
    lines = [line.split() for line in text.splitlines()]
    assert f"{name} 1 - 10.0 us 100 k 20.0 us 50.0 k 0.50 30.0 us 0.20".split() in lines
    assert "128 - 200 us 640 k 50.0 us 2.56 M 4.00 75.0 us 1.60" in map(" ".join, lines)
    assert f"cupy h100 network_step {name} float32 16".split() in lines
    assert f"cupy h100 network_step with transfer {name} float32 128".split() in lines
    assert "network_transfer" not in text
    epoch = results.Cell("network_epoch", "", name, "float32", 16)
    assert formats.samples(epoch, 1e-3) == "1.26 M"  # 1257 rows
    assert formats.samples(epoch, None) == ""


def test_report_without_results_says_what_to_do(house):
    with pytest.raises(ValueError, match=r"there are no results yet: run python3 run.py bench"):
        report.render()


def test_roof_is_the_ceiling_that_binds():
    roof = roofline.Roof((100e9, "numba"), [(1000, 80e9, "numba"), (10**6, 40e9, "numba")])
    assert roof.bandwidth(1) == roof.bandwidth(1000) == 80e9
    assert roof.bandwidth(1001) == roof.bandwidth(10**9) == 40e9
    cell = results.Cell("dense_forward", "identity", "wide-2048x2048", "float32", 3500)
    flops, size = roofline.work(cell)
    assert (flops, size) == (2 * 3500 * 2048**2 + 3500 * 2048, 4 * (2 * 3500 + 2048 + 1) * 2048)
    assert roof.rate(cell, 1.0) == (flops, "FLOP/s", flops / 100e9)
    assert roof.seconds(cell) == flops / 100e9


def test_plots_are_drawn(house):
    from benchmarks import plots

    cells = [("relu", LAYER, "float32", batch) for batch in (1, 16)]
    times = {(*cell, backend): 1e-5 for cell in cells for backend in ("numpy", "numba")}
    record(house, "here", "dense_forward", times, others=ROOFS)
    (path,) = plots.draw(house / "plots")
    assert path.name == "dense_forward-relu-float32.png"
    assert path.read_bytes().startswith(b"\x89PNG")
