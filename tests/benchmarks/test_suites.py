"""The benchmarks themselves: their grid, how they are timed, the edit loop."""

import configparser
import importlib.util
import itertools
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from conftest import user_module

import benchmarks
import kernels
import reference
from benchmarks import bench_network
from benchmarks.reports import roofline
from benchmarks.running import journal, runner
from benchmarks.suites import ceilings, grid, suite, workloads
from reference import FAMILIES, Case

OPERATIONS = [operation for family in FAMILIES.values() for operation in family]


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
        assert ("batch" in cls.axes) == ("batch" in operations[0].sizes)
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
    names |= {f"bench_roofline.{name}.time_call" for name in roofline.CEILINGS}
    names |= {f"bench_network.network_{what}.time_call" for what in ("step", "transfer", "epoch")}
    assert set(found) == names
    assert set(found.values()) == {benchmarks.Timed}


def test_asv_gives_no_cell_up_before_its_own_limits():
    from asv_runner.discovery import disc_benchmarks

    limits = journal.LIMITS.values()
    assert {b.timeout for b in disc_benchmarks(benchmarks.__path__[0])} == {sum(limits)}
    assert max(limits) < 300  # asv's default


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


def test_the_ceilings_of_the_cpu_are_timed():
    modules = {"numpy": kernels.load("numpy"), roofline.HOST: ceilings}
    groups = list(runner.selection("roofline", modules))
    names = set().union(*(group.names for group in groups))
    assert {"multiply_add", "stream"} <= names
    streams = len(ceilings.FOOTPRINTS) + len(ceilings.ALONE)
    assert sum(group.cells for group in groups) == 2 + len(ceilings.WAYS) * streams


class Elsewhere:
    """A backend whose arrays are copies, as on a GPU; what it is given it may spoil."""

    network = reference.network

    def __init__(self, spoil=np.array):
        self.spoil = spoil

    def asarray(self, host):
        return host.copy()

    def to_host(self, array):
        return self.spoil(array)


def test_transfers_are_timed_where_there_are_any():
    far, near = Elsewhere(), kernels.load("numpy")
    transfers = bench_network.network_transfer
    assert [transfers.runs_on(module) for module in (far, near)] == [True, False]
    assert not transfers.runs_on(types.SimpleNamespace(asarray=np.array))
    groups = runner.selection("network", {"numpy": near})
    assert {"network_step", "network_epoch"} == {n for g in groups for n in g.names if "_" in n}
    with pytest.raises(NotImplementedError, match="it computes where the data lie"):
        bench_network.transfer(near, "moons-2-32-16-2", "float32", 16)


def test_tf32_is_timed_elsewhere_in_float32_by_what_knows_of_it(monkeypatch):
    """And where it is, so is the product that it is held against."""
    monkeypatch.setenv("FUSEBENCH_ALL", "1")
    far, near, ignorant = Elsewhere(), kernels.load("numpy"), Elsewhere()
    far.dense_forward = reference.dense_forward
    ignorant.dense_forward = lambda x, weight, bias, activation="identity", *, out=None: None
    cls = suite.suites("dense")["dense_forward"]
    for dtype, expected in (("float32", True), ("float64", False)):
        assert cls.times("relu tf32", dtype, far) == expected
        assert cls.times("relu", dtype, ignorant)
        for module in (near, ignorant):
            assert not cls.times("relu tf32", dtype, module)
    with pytest.raises(
        NotImplementedError, match=r"numpy has no dense_forward\[relu tf32\] in float32"
    ):
        cls().setup("relu tf32", "moons-2x32", "float32", 16, "numpy")

    def chosen(family, module):
        groups = runner.selection(family, {"cupy": module})
        return [group for group in groups if group.names & {"relu tf32", "product_tf32"}]

    assert chosen("dense", near) == chosen("dense", ignorant) == []
    (group,) = (g for g in chosen("dense", far) if "wide" in g.names)
    assert group.cells == len(workloads.batches("wide"))
    assert "'relu tf32'" in re.sub(r"\\", "", group.pattern)
    assert "float64" not in group.pattern
    far.sgd, ignorant.sgd = reference.sgd, reference.sgd
    assert [g.cells for g in chosen("roofline", far)] == [1]
    assert chosen("roofline", ignorant) == chosen("roofline", near) == []


def test_a_cell_of_a_transfer(monkeypatch):
    far = Elsewhere()
    far.synchronize, far.timer = lambda: None, lambda: 7.0
    monkeypatch.setattr(suite, "_load", lambda backend, needed: far)
    cell, values = bench_network.network_transfer(), ("moons-2-32-16-2", "float32", 16, "far")
    cell.setup(*values)
    assert [array.shape for array in cell.call()] == [(16, 2), (16,)]
    assert cell.timer() == 7.0
    with pytest.raises(NotImplementedError, match="1257 is not a batch size of moons-2-32-16-2"):
        cell.setup("moons-2-32-16-2", "float32", 1257, "far")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_transfer_takes_the_rows_and_labels_of_a_batch(dtype):
    x, labels = bench_network.transfer(Elsewhere(), "digits-64-128-64-32-10", dtype, 16)()
    rows, of_rows = workloads.training("digits")
    np.testing.assert_array_equal(x, rows[:16].astype(dtype))
    np.testing.assert_array_equal(labels, of_rows[:16])
    assert x.dtype == dtype
    size = bench_network.work("network_transfer", "digits-64-128-64-32-10", 16, dtype)
    assert size == (0, 16 * (64 * np.dtype(dtype).itemsize + 4))


@pytest.mark.parametrize("spoil", [lambda a: a + 1, lambda a: a.astype("f8"), lambda a: a[:-1]])
def test_a_transfer_that_changes_the_data_is_not_timed(spoil):
    with pytest.raises(suite.Wrong, match=r"float32 \(16, 2\) did not come back as it went"):
        bench_network.transfer(Elsewhere(spoil), "moons-2-32-16-2", "float32", 16)


@pytest.mark.parametrize(
    ("cells", "seconds", "end"),
    [
        (0, 5, "0 of 200 cells,   0%, 5 s in all"),
        (20, 30, "20 of 200 cells,  10%, about 4 min left"),
        (199, 1990, "199 of 200 cells,  99%, about 10 s left"),
        (200, 360, "200 of 200 cells, 100%, 6 min in all"),
    ],
)
def test_the_progress_of_a_run(cells, seconds, end):
    line = runner.Progress(200, 1000.0).line("losses", cells, 1000.0 + seconds)
    assert line.startswith("losses")
    assert line.endswith(end)


def test_a_family_is_shown_when_all_its_parts_are_timed(monkeypatch, house):
    """Also where it is timed in several parts; the ceilings are no family."""
    said = []
    monkeypatch.setattr(runner, "LOG", house / "run.log")
    monkeypatch.setattr(runner, "PART", 1)
    monkeypatch.setattr(runner.drift, "note", lambda: None)
    monkeypatch.setattr(runner, "_asv", lambda _, part, *more: said.append(part[0].family))
    monkeypatch.setattr("asv.machine.MachineCollection.save", lambda *_: None)
    runner.run(["sgd", "add_l2", "clip_by_value"], done=lambda name: said.append(f"{name} done"))
    timed = list(dict.fromkeys(said))
    assert timed[0] == "roofline"
    assert "roofline done" not in said
    for family in ("optimizers", "gradients"):
        last = len(said) - 1 - said[::-1].index(family)
        assert said[last + 1] == f"{family} done"
        assert said.count(f"{family} done") == 1
    assert said.count("gradients") > 1


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


def test_a_function_offers_the_variants_of_which_it_has_the_parameters(monkeypatch, tmp_path):
    """One that knows no axis is timed and checked on rows, and the rest is n/a, not failed."""
    source = """
    def softmax(logits, *, out=None):
        return reference.softmax(logits, out=out)

    def log_softmax(logits, **settings):
        return reference.log_softmax(logits, **settings)
    """
    monkeypatch.setenv("FUSEBENCH_ALL", "1")
    monkeypatch.setenv("FUSEBENCH_BACKEND", str(user_module(tmp_path, source)))
    mine, cells = runner.available()["mine"], suite.suites("losses")
    for name, offered in (("softmax", False), ("log_softmax", True)):
        assert cells[name].times("", "float32", mine)
        assert cells[name].times("across rows", "float32", mine) == offered
    softmax = cells["softmax"]()
    softmax.setup("", "moons-16x2", "float32", 16, "mine")
    with pytest.raises(NotImplementedError, match=r"mine has no softmax\[across rows\] in float32"):
        softmax.setup("across rows", "moons-16x2", "float32", 16, "mine")


# --- timing --------------------------------------------------------------------------------------


def test_timing_is_warm_and_batched():
    """Setup runs once, not before every call, and a sample holds many calls."""

    class Counting(suite._Suite):
        params, param_names, rounds = [[1]], ["n"], 1
        repeat, sample_time, warmup_time = 3, 0.002, 0.0
        setups = calls = 0

        def setup(self, n):
            self.setups += 1
            self.cell = ("Counting", n)
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
    inputs = operation.sample(
        np.random.default_rng(0), Case("test", {"fan_in": 7, "fan_out": 16}, vary=False)
    )
    for _ in range(20_000):
        operation.function(**inputs)
    for name in operation.in_place:
        magnitude = np.abs(inputs[name])
        assert np.isfinite(magnitude).all(), name
        assert (magnitude[magnitude > 0] >= np.finfo(np.float32).tiny).all(), name


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
    operation = quick.OPERATIONS["sgd"]

    def benchmark(timed):
        heard.clear()
        timed()

    quick.test_time(benchmark, operation, "digits-64x128", "numpy")
    assert heard == ["call", "wait"]

    module.sgd = lambda param, grad, lr: reference.sgd(param, grad, lr=2 * lr)
    with pytest.raises(suite.Wrong, match="sgd, param"):
        quick.test_time(lambda timed: pytest.fail("timed"), operation, "digits-64x128", "numpy")


def test_quick_runs_when_it_is_named_and_only_then():
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only"]
    named = ["-k", "sgd and numpy and digits", str(QUICK)]
    answer = subprocess.run([*command, *named], capture_output=True, text=True, cwd=workloads.ROOT)
    assert "quick.py::test_time[sgd-digits-64x128-numpy]" in answer.stdout
    settings = configparser.ConfigParser()
    settings.read(workloads.ROOT / "setup.cfg")
    assert settings["tool:pytest"]["testpaths"] == "tests"
