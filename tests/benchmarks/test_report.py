"""The report: times, rates, shares of the roof, ratios, and the columns of a GPU."""

import pytest
from journals import begin, note, note_roofs, record

from benchmarks.reports import columns, formats, plots, report, results, roofline
from benchmarks.suites import workloads

LAYER = "mnist-784x512"


def test_report_shows_times_rates_ratios_and_failures(monkeypatch, house):
    monkeypatch.setattr(workloads, "mnist_files", tuple)
    one, many = ("relu", LAYER, "float32", 1), ("relu", LAYER, "float32", 3500)
    broken = ("tanh", LAYER, "float32", 1)
    begin()
    note_roofs()
    times = {
        (*one, "numpy"): 60e-6,
        (*one, "numba"): 20e-6,
        (*one, "cupy"): None,
        (*many, "numpy"): ("failed", "OSError: no such luck"),
        (*many, "numba"): 56.2e-3,
        (*broken, "numba"): ("WRONG", "3 of 4 wrong"),
    }
    note("dense_forward", times)
    text = report.render()
    lines = [line.split() for line in text.splitlines()]
    assert "roof      CPU, float32: 100 GFLOP/s (multiply-adds from registers), " in text
    assert "GB/s: 80.0 up to 16 KiB, 40.0 up to 256 MiB" in text
    assert "Abacus, 2 cores, 2 GiB" in text
    # 0.81 MFLOP and 1.6 MB in 20 us; at 80 GB/s the bytes take longer than the operations.
    assert f"relu {LAYER} 1 60.0 us 20.0 us 80.6 GB/s 101% 3.00 n/a".split() in lines
    # 2.8 GFLOP in 56.2 ms is half of 100 GFLOP/s.
    assert ["full", "failed", "56.2", "ms", "50.1", "GFLOP/s", "50%", "n/a"] in lines
    assert f"tanh {LAYER} 1 - WRONG n/a".split() in lines
    assert "n/a       backend cupy: " in text
    assert "WRONG numba, dense_forward tanh, float32, mnist-784x512 1: 3 of 4 wrong" in text
    assert "failed numpy, dense_forward relu, float32, mnist-784x512 full: OSError: no such" in text
    assert "2 cells are wrong or failed" in text


def test_a_slower_product_reaches_a_smaller_share(house):
    """The roof is no kernel of ours, so all of the slowness shows."""

    def shares(slowness):
        begin()
        note_roofs()
        cells = {("identity", "wide-2048x2048", "float32", 2048, "numba"): slowness * 0.2}
        note("dense_forward", cells)
        (row,) = (line for line in report.render().splitlines() if "wide-2048" in line)
        return row.split()[row.split().index("GFLOP/s") + 1]

    assert (shares(1), shares(2)) == ("86%", "43%")


def test_columns_are_told_apart_by_where_the_arrays_lie(house):
    """Whatever the name of a backend is; it was seen when it was timed."""
    begin()
    note("sgd", {(LAYER, "float32", "numpy"): 8e-6, (LAYER, "float32", "near"): 4e-6})
    note("sgd", {(LAYER, "float32", "far"): 2e-6}, elsewhere=True)
    product = {("2048x2048", "float32", 2048, "far"): 2 * 2048**3 / 36e12}
    triad = {("16777216", "float32", "far"): 3 * 4 * 16777216 / 1.8e12}
    note("product", product, elsewhere=True)
    note("triad", triad, elsewhere=True)
    text = report.render()
    header = next(line.split() for line in text.splitlines() if line.startswith("layer"))
    assert " ".join(header) == (
        "layer numpy near rate roof x numpy far rate roof CPU/GPU numba cupy"
    )
    assert "roof      far, float32: 40000 GFLOP/s (product by far, not the peak)" in text
    cpus, gpus, missing = columns.columns(results.newest(), [])
    assert [c.label for c in cpus] == ["numpy", "near"]
    assert [c.label for c in gpus] == ["far"]
    assert missing["numba"] == "backend numba: it was not timed in this run"


@pytest.mark.parametrize("timed", [True, False])
def test_tf32_is_held_against_a_product_in_tf32(monkeypatch, house, timed):
    """Never against float32's: without such a product there is no share."""
    monkeypatch.setattr(workloads, "mnist_files", tuple)
    begin()
    square = ("2048x2048", "float32", 2048, "far")
    cells = {(v, LAYER, "float32", 3500, "far"): 1e-4 for v in ("relu", "relu tf32")}
    note("dense_forward", cells, elsewhere=True)
    note("product", {square: 2 * 2048**3 / 45e12}, elsewhere=True)
    note("triad", {("16777216", "float32", "far"): 3 * 4 * 16777216 / 1.8e12}, elsewhere=True)
    if timed:
        note("product_tf32", {square: 2 * 2048**3 / 180e12}, elsewhere=True)
    text = report.render()
    line = "roof      far, tf32: 200000 GFLOP/s (product by far, not the peak)"
    assert (line in text.splitlines()) == timed
    rows = {" ".join(row.split()[:2]): row for row in text.splitlines() if LAYER in row}
    assert "28134 GFLOP/s 56%" in " ".join(rows[f"relu {LAYER}"].split())
    in_tf32 = " ".join(rows["relu tf32"].split())
    assert ("28134 GFLOP/s 14%" in in_tf32) == timed
    assert ("%" in in_tf32) == timed
    (path,) = (p for p in plots.draw(house / "plots") if "tf32" in p.name)
    assert path.name == "dense_forward-relu tf32-float32.png"


def test_report_takes_recorded_gpu_results(monkeypatch, house):
    monkeypatch.setattr(workloads, "mnist_files", tuple)
    cpu = {1: 20e-6, 16: 80e-6, 3500: 60e-3}
    gpu = {1: 40e-6, 16: 40e-6, 3500: 1e-3}
    cells = {batch: ("relu", LAYER, "float32", batch) for batch in cpu}
    begin()
    note("dense_forward", {(*c, "numba"): cpu[b] for b, c in cells.items()})
    record(
        "h100",
        dense_forward={(*c, "cupy"): gpu[b] for b, c in cells.items()},
        product={("2048x2048", "float32", 2048, "cupy"): 2 * 2048**3 / 40e12},
        triad={("16777216", "float32", "cupy"): 3 * 4 * 16777216 / 2e12},
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

    begin()
    note("network_step", times("numba", cpu))
    steps, transfers = times("cupy", gpu), times("cupy", transfer)
    record("h100", network_step=steps, network_transfer=transfers)
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
    roof = roofline.Roof((100e9, "numba"), [(1000, 80e9), (10**6, 40e9)])
    assert roof.bandwidth(1) == roof.bandwidth(1000) == roof.bandwidth(10**6 - 1) == 80e9
    assert roof.bandwidth(10**6) == roof.bandwidth(10**9) == 40e9
    cell = results.Cell("dense_forward", "identity", "wide-2048x2048", "float32", 3500)
    flops, size = roofline.work(cell)
    assert (flops, size) == (2 * 3500 * 2048**2 + 3500 * 2048, 4 * (2 * 3500 + 2048 + 1) * 2048)
    assert roof.rate(cell, 1.0) == (flops, "FLOP/s", flops / 100e9)
    assert roof.seconds(cell) == flops / 100e9


def test_plots_are_drawn(monkeypatch, house):
    """Every backend, and the least time that the roof allows."""
    from matplotlib import pyplot

    figures = []
    monkeypatch.setattr(pyplot, "close", figures.append)
    cells = [("relu", LAYER, "float32", batch) for batch in (1, 16)]
    begin()
    note_roofs()
    note("dense_forward", {(*cell, b): 1e-3 for cell in cells for b in ("numpy", "numba")})
    (path,) = plots.draw(house / "plots")
    assert path.name == "dense_forward-relu-float32.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    drawn = {line.get_label(): line.get_xydata().tolist() for line in figures[0].axes[0].lines}
    assert drawn["numpy"] == drawn["numba"] == [[1, 1e-3], [16, 1e-3]]
    bytes_ = 4 * (785 * 512 + 784 + 512)  # of one row; 16 take longer to multiply than to move
    floor = [[1, bytes_ / 80e9], [16, 16 * (2 * 784 * 512 + 512) / 100e9]]
    assert drawn["roof, CPU"] == [pytest.approx(point, rel=1e-3) for point in floor]


def test_a_familys_tables_and_the_rest_are_the_report(house):
    """A run shows each table when it is timed, and what is said beside them at its end."""
    begin()
    note_roofs()
    note("sgd", {(LAYER, "float32", "numpy"): 80e-6})
    note("dense_forward", {("relu", LAYER, "float32", 1, "numpy"): 60e-6})
    note("network_step", {("digits-64-128-64-32-10", "float32", 16, "numpy"): 1e-3})
    families = {name: report.of_family(name) for name in ("dense", "optimizers", "network")}
    assert [text.split(",")[0] for text in families.values()] == [
        *("dense_forward", "sgd", "network_step")
    ]
    assert report.of_family("losses") == ""
    rest = report.without_tables()
    assert rest.endswith("All 3 timed cells agree with the float64 reference.")
    assert not any(name in rest for name in ("dense_forward,", "sgd,", "network_step,"))
    head, _, end = rest.rpartition("\n\n")
    assert report.render() == "\n\n".join((head, *families.values(), end))
