"""The benchmarks themselves: their grid, their data, their check of every kernel, the report."""

import configparser
import importlib.util
import itertools
import json
import math
import re
import subprocess
import sys
import types
from textwrap import dedent

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import benchmarks
import kernels
import reference
from benchmarks import grid, report, results, roofline, runner, suite, workloads
from reference import FAMILIES, Layer

OPERATIONS = [operation for family in FAMILIES.values() for operation in family]


# --- workloads -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workload", "rows", "features", "classes"),
    [
        ("moons", 700, 2, 2),
        ("circles", 700, 2, 2),
        ("digits", 1257, 64, 10),
        ("mnist", 3500, 784, 10),
        ("wide", 3500, 2048, 10),
    ],
)
def test_training_data(monkeypatch, workload, rows, features, classes):
    monkeypatch.setattr(workloads, "_mnist_files", tuple)
    x, labels = workloads.training.__wrapped__(workload)
    assert x.shape == (rows, features)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    assert labels.shape == (rows,)
    assert labels.dtype == np.int32
    assert set(labels) == set(range(classes))
    assert np.isfinite(x).all()
    assert workloads.batches(workload) == (1, 16, 32, 128, rows)
    if workload in ("digits", "mnist"):
        assert x.min() == 0
        assert x.max() == 1
    else:
        np.testing.assert_allclose([x.mean(), x.std()], [0, 1], atol=2e-3)


def test_data_is_the_same_when_made_anew(monkeypatch, tmp_path):
    x, labels = workloads.training("digits")
    monkeypatch.setattr(workloads, "CACHE", tmp_path)
    again, labels_again = workloads.training.__wrapped__("digits")
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(labels, labels_again)
    assert len(list(tmp_path.iterdir())) == 1


def test_updates_an_epoch():
    """The course's example: six samples give one, three and six updates at batch 6, 2 and 1."""
    assert [len(workloads.minibatches(6, batch)) for batch in (6, 2, 1)] == [1, 3, 6]
    assert workloads.minibatches(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]


def test_first_layers_take_real_rows():
    layers = workloads.layers()
    assert layers["mnist-784x512"].rows(16).shape == (16, 784)
    np.testing.assert_array_equal(
        layers["moons-2x32"].rows(32), workloads.training("moons")[0][:32]
    )
    assert layers["mnist-512x512"].rows is None
    with pytest.raises(ValueError, match="batch must be at most 700 for moons, got 701"):
        layers["moons-2x32"].rows(701)


@pytest.mark.parametrize("form", ["npz", "idx"])
def test_full_mnist_from_files(monkeypatch, tmp_path, form):
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 10
    if form == "npz":
        np.savez(tmp_path / "mnist.npz", x_train=images, y_train=labels)
    else:
        sizes = np.array([20, 28, 28], ">i4").tobytes()
        (tmp_path / "train-images-idx3-ubyte").write_bytes(
            b"\0\0\x08\x03" + sizes + images.tobytes()
        )
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(
            b"\0\0\x08\x01" + sizes[:4] + labels.tobytes()
        )
    monkeypatch.setenv("FUSEBENCH_MNIST", str(tmp_path))
    monkeypatch.setattr(workloads, "CACHE", tmp_path / "cache")
    x, y = workloads.training.__wrapped__("mnist")
    np.testing.assert_allclose(x, images.reshape(20, 784) / np.float32(255))
    np.testing.assert_array_equal(y, labels)


def test_missing_mnist_files_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("FUSEBENCH_MNIST", str(tmp_path))
    with pytest.raises(ValueError, match=r"FUSEBENCH_MNIST: neither mnist.npz nor train-images"):
        workloads.full("mnist")


# --- the grid ------------------------------------------------------------------------------------


@pytest.fixture(params=["core", "all"])
def suites(request, monkeypatch):
    """{(family, function): suite} of the core grid and of the whole."""
    if request.param == "all":
        monkeypatch.setenv("FUSEBENCH_ALL", "1")
    return {(f, name): cls for f in FAMILIES for name, cls in suite.suites(f).items()}


def test_every_operation_has_a_suite(suites):
    assert {name for _, name in suites} == {operation.name for operation in OPERATIONS}
    for (family, name), cls in suites.items():
        operations = [o for o in FAMILIES[family] if o.name == name]
        assert cls.operations == {o.variant: o for o in operations}
        assert set(cls.axes.get("variant", [""])) <= set(cls.operations)
        assert set(cls.axes["layer"]) <= set(workloads.layers())
        assert ("batch" in cls.axes) == operations[0].batched
        assert all(isinstance(batch, int) for batch in cls.axes.get("batch", ()))
        assert list(cls.axes)[-1] == "backend"
        assert cls.param_names == list(cls.axes)


def test_core_grid_has_every_batch_and_every_function(suites):
    for cls in suites.values():
        for layer in cls.axes["layer"] if "batch" in cls.axes else ():
            assert set(grid.batches(workloads.layers()[layer])) <= set(cls.axes["batch"])


def test_asv_finds_exactly_our_suites():
    from asv_runner.discovery import disc_benchmarks

    found = {b.name: type(b) for b in disc_benchmarks(benchmarks.__path__[0])}
    names = {f"bench_{f}.{o.name}.time_call" for f, ops in FAMILIES.items() for o in ops}
    names |= {"bench_roofline.product.time_call", "bench_roofline.triad.time_call"}
    names |= {f"bench_network.network_{what}.time_call" for what in ("step", "epoch")}
    assert set(found) == names
    assert set(found.values()) == {benchmarks.Timed}


def test_asv_imports_neither_libraries_nor_the_edit_loop():
    """It imports every module of the package before it forks."""
    code = "import sys; from asv_runner.discovery import disc_benchmarks as find; "
    code += f"list(find({benchmarks.__path__[0]!r})); print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=workloads.ROOT, check=True
    )
    modules = set(answer.stdout.split())
    assert "benchmarks.peers.torch_peers" in modules
    assert not {"torch", "jax", "pytest", "benchmarks.edit", "benchmarks.edit.quick"} & modules


def test_regular_expressions_select_the_cells_that_can_run():
    modules = {"numpy": kernels.load("numpy")}
    chosen = [
        g for g in runner.selection("dense", modules) if {"moons", "dense_forward"} <= g.names
    ]
    cls = suite.suites("dense")["dense_forward"]
    cells = [
        f"bench_dense.dense_forward.time_call({', '.join(map(repr, values))})"
        for values in itertools.product(*cls.params)
    ]
    matched = [c for c in cells if any(re.search(group.pattern, c) for group in chosen)]
    assert len(matched) == 2 * 5 == sum(group.cells for group in chosen)
    assert all("'moons-2x32', 'float32'" in c and c.endswith("'numpy')") for c in matched)


def test_unknown_name_is_refused():
    with pytest.raises(
        ValueError, match="--only: no nonsense in the grid, but activation_backward, "
    ):
        runner.run(["nonsense"])


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("def dense_forward(:", r"mine.py cannot be imported: SyntaxError: .*"),
        ("def relu(z): ...", r"mine.py has none of activation_backward, activation_forward, .*"),
    ],
)
def test_unusable_backend_is_refused(monkeypatch, tmp_path, source, complaint):
    monkeypatch.setenv("FUSEBENCH_BACKEND", str(user_module(tmp_path, source)))
    with pytest.raises(ValueError, match=complaint):
        runner.available()


# --- timing --------------------------------------------------------------------------------------


def test_timing_is_warm_and_batched():
    """Setup runs once, not before every call, and a sample holds many calls."""

    class Counting:
        params, param_names, rounds = [[1]], ["n"], 1
        repeat, sample_time, warmup_time = 3, 0.002, 0.0
        setups = calls = 0

        def setup(self, n):
            self.setups += 1
            self.call, self.timer = self.count, kernels.load("numpy").timer

        def count(self):
            self.calls += 1

        def time_call(self, n): ...

    counting = Counting()
    benchmark = benchmarks.Timed("name", counting.time_call, [counting])
    benchmark.set_param_idx(0)
    benchmark.do_setup()
    outcome = benchmark.do_run()
    assert counting.setups == 1
    assert outcome["number"] > 100
    assert counting.calls >= 3 * outcome["number"]


@pytest.mark.parametrize("operation", FAMILIES["optimizers"], ids=str)
def test_update_rules_stay_normal_however_often_repeated(operation):
    """The suites repeat a rule in place and rely on it: no overflow, no subnormal numbers."""
    inputs = operation.sample(np.random.default_rng(0), Layer("test", 7, 16), 0, np.float32)
    for _ in range(20_000):
        operation.function(**inputs)
    for name in operation.in_place:
        magnitude = np.abs(inputs[name])
        assert np.isfinite(magnitude).all(), name
        assert (magnitude[magnitude > 0] >= np.finfo(np.float32).tiny).all(), name


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


def user_module(folder, source):
    path = folder / "mine.py"
    path.write_text("import numpy as np\nimport reference\n" + dedent(source))
    return path


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
        family = {"product": "roofline", "triad": "roofline"}.get(name) or results.FAMILY_OF[name]
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


# --- the edit loop -------------------------------------------------------------------------------

QUICK = workloads.ROOT / "benchmarks" / "edit" / "quick.py"


@pytest.fixture
def quick():
    spec = importlib.util.spec_from_file_location("quick", QUICK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_quick_times_until_the_device_is_done(monkeypatch, quick):
    heard = []
    functions = {name: getattr(kernels.load("numpy"), name) for name in ("asarray", "to_host")}
    module = types.SimpleNamespace(
        **functions,
        sgd=lambda param, grad, lr: heard.append("call") or reference.sgd(param, grad, lr=lr),
        synchronize=lambda: heard.append("wait"),
    )
    monkeypatch.setattr(quick.kernels, "load", lambda name: module)
    (operation,) = (o for o in quick.OPERATIONS if o.name == "sgd")

    def benchmark(timed):
        heard.clear()
        timed()

    quick.test_time(benchmark, operation, "digits-64x128", "numpy")
    assert heard == ["call", "wait"]

    module.sgd = lambda param, grad, lr: reference.sgd(param, grad, lr=2 * lr)
    with pytest.raises(suite.Wrong, match="sgd, result 0"):
        quick.test_time(lambda timed: pytest.fail("timed"), operation, "digits-64x128", "numpy")


def test_quick_runs_when_it_is_named_and_only_then():
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only"]
    named = ["-k", "sgd and numpy and digits", str(QUICK)]
    answer = subprocess.run([*command, *named], capture_output=True, text=True, cwd=workloads.ROOT)
    assert "quick.py::test_time[sgd-digits-64x128-numpy]" in answer.stdout
    settings = configparser.ConfigParser()
    settings.read(workloads.ROOT / "setup.cfg")
    assert settings["tool:pytest"]["testpaths"] == "tests"


def test_blas_keeps_one_thread_to_itself_while_a_cell_is_prepared(monkeypatch, tmp_path):
    """Its other threads would still spin when the kernel is timed."""
    monkeypatch.setattr(suite, "VERDICTS", tmp_path)
    seen = []

    class Cell(suite._Suite):
        axes = ()

        def _prepare(self):
            seen.append(blas_threads())

    def blas_threads():
        return {p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"}

    before = blas_threads()
    Cell().setup()
    assert seen == [{1}]
    assert blas_threads() == before
