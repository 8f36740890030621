"""The page and the exports, without a browser: their figures are the report's, and nothing is asked
of any other place.
"""

import configparser
import csv
import io
import itertools
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import asv.util
import pytest
from asv.publishing import OutputPublisher
from journals import begin, note, record
from pages import HOSTILE, LAYER, Reader, house_of_runs, rendered

from benchmarks import __main__ as command
from benchmarks.reports import charts, columns, exports, figures, formats, page, report
from benchmarks.running import journal, plugin
from benchmarks.suites import workloads

MOST = 300_000  # bytes of the page of the core grid
MODES = {"time": "seconds", "roof": "share", "transfer": "transfer_seconds"}
MODES |= {"CPU/GPU": "speedup", "CPU/both": "speedup_with_transfer", "x numpy": "speedup"}


def test_the_page_is_html_and_asks_nothing_of_any_other_place(house):
    text = rendered(house)
    found = Reader(text)
    assert all(a.startswith(("#", "data:")) for a in found.addresses), found.addresses
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)
    assert {"script", "style", "table", "svg", "path"} <= set(found.tags)
    assert "img" not in found.tags


def test_what_others_named_is_escaped(house):
    text = rendered(house)
    assert HOSTILE not in text
    assert "3 of 4 wrong &lt;img" in text


def test_every_figure_of_the_table_is_the_exports(house):
    shown = house_of_runs(house)
    heads, rows = Reader(page.render(shown)).cells
    exported = json.loads(exports.as_json(shown))
    assert len(rows) == len(exported["cells"]) == len(shown.cells)
    labels = [column["label"] for column in exported["columns"]]
    seen = 0
    for row, cell in zip(rows, exported["cells"], strict=True):
        assert row[:4] == [cell[name] for name in ("function", "variant", "layer", "dtype")]
        assert row[4] == cell["batch_name"]
        of = iter(labels)
        for head, text in zip(heads[5:], row[5:], strict=True):
            if head == "time":
                found = cell["results"][next(of)]
            assert text == as_printed(head, found), (row[:5], head)
            seen += 1
    assert seen > 4 * len(rows)


def as_printed(head, found):
    """A figure of the export as the report prints it under a header."""
    value = found["rate"] if head == "rate" else found.get(MODES[head])
    match head:
        case "time" if value is None:
            return "-" if found["verdict"] == figures.NOT_MEASURED else found["verdict"]
        case "time":
            return formats.duration(value)
        case "transfer":
            return formats.duration(value) if MODES[head] in found else ""
        case "roof":
            return formats.percent(value)
    if value is None:
        return ""
    return formats.scaled(value) + found["unit"] if head == "rate" else formats.number(value)


def test_csv_and_json_say_the_same(house):
    shown = house_of_runs(house)
    rows = list(csv.DictReader(io.StringIO(exports.as_csv(shown))))
    cells = json.loads(exports.as_json(shown))["cells"]
    assert len(rows) == len(cells) * len(shown.columns)
    by_name = {(r["function"], r["variant"], r["batch_name"], r["label"]): r for r in rows}
    for cell in cells:
        for label, found in cell["results"].items():
            row = by_name[cell["function"], cell["variant"], cell["batch_name"], label]
            for name, value in found.items():
                assert row[name] == ("" if value is None else str(value))
    assert {row["specification"] for row in rows if row["seconds"]} == {"1"}


def test_markdown_is_the_report_in_tables(house):
    shown = house_of_runs(house)
    text, plain = exports.as_markdown(shown), report.text(shown)
    assert "### dense_forward, float32" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    for line in plain.splitlines():
        if LAYER in line and "wrong" not in line:
            assert line.split() in [row.replace("|", " ").split() for row in tables]


def test_the_map_says_who_wins_and_by_how_much(house):
    """At batch 1 the CPU by 2, at 128 the GPU by 20; a step with its transfer by 1.28, not 3.2."""
    maps = Reader(rendered(house)).maps
    name = "digits-64-128-64-32-10"
    assert maps[f"relu {LAYER}"] == ["C 2.00°", "G 20.0°"]
    assert maps[f"tanh {LAYER}"][:1] == ["WRONG"]
    assert maps[name] == ["C 2.50°", "G 3.20°"]
    assert maps[f"with transfer {name}"] == ["C 6.25°", "G 1.28°"]


def test_a_launch_bound_cell_needs_less_by_the_roof_than_the_shortest_call(house):
    shown = house_of_runs(house)
    (gpu,) = shown.gpus
    assert gpu.launch == 40e-6
    for cell in shown.cells:
        assert gpu.is_launch_bound(cell) == (gpu.roof(cell).seconds(cell) < 40e-6)
    assert shown.cpus[0].launch is None


def test_without_a_gpu_the_page_says_so(house):
    begin()
    note("sgd", {(LAYER, "float32", "numpy"): 8e-6, (LAYER, "float32", "numba"): 4e-6})
    text = page.render(columns.view())
    assert "n/a: no times of a GPU, neither of this machine nor of a recorded one." in text
    assert "n/a: backend cupy: " in text
    heads, (row,) = Reader(text).cells
    assert (heads[-1], row[-1]) == ("cupy", "n/a")
    assert "n/a: no roof was measured." in text


def test_a_time_of_another_specification_is_compared_with_nothing(house):
    shown = house_of_runs(house, gpu_specification="2")
    (gpu,) = shown.gpus
    for cell in shown.cells:
        assert gpu.seconds(cell) is None
        found = figures.figures(shown, cell, gpu)
        assert (found["seconds"], found["speedup"], found["rate"]) == (None, None, None)
    text = page.render(shown)
    found = Reader(text)
    maps = found.maps
    assert maps[f"relu {LAYER}"] == ["spec. 2", "spec. 2"]
    assert "specification 2, not 1 as on here" in text
    assert "<dd>version 2" in text
    assert "spec. 2" in report.text(shown)
    assert "From which batch" not in report.text(shown)
    assert figures.figures(shown, shown.cells[0], gpu)["verdict"] == figures.OTHER


def test_an_earlier_run_of_another_specification_is_left_out(house):
    """As if the cells that the newest run did not time had never been timed."""
    for version, layer in (("1", LAYER), ("2", "digits-64x128")):
        begin()
        line = {"state": journal.TIMED, "samples": [1e-6], "number": 1, "version": version}
        journal.note(("sgd", layer, "float32", "numba"), elsewhere=False, **line)
        journal.note(
            ("adam", layer, "float32", "numba"), elsewhere=False, **line | {"version": "1"}
        )
    shown = columns.view()
    assert [c.layer for c in shown.cells if c.function == "sgd"] == ["digits-64x128"]
    assert len([c for c in shown.cells if c.function == "adam"]) == 2


def test_other_machines_stand_beside_this_one(house, monkeypatch):
    """A checkout by its journals, a folder by its recorded runs."""
    here, there = house / "journal", house / "other" / ".asv" / "journal"
    monkeypatch.setattr(journal, "FOLDER", there)
    begin("laptop")
    note("sgd", {(LAYER, "float32", "numba"): 8e-6, ("moons-2x32", "float32", "numba"): 1e-6})
    monkeypatch.setattr(journal, "FOLDER", here)
    begin()
    note("sgd", {(LAYER, "float32", "numba"): 4e-6})
    shown = columns.view(None, [house / "other"])
    assert [c.label for c in shown.columns] == ["numpy", "numba", "numba laptop"]
    heads, rows = Reader(page.render(shown)).cells
    (row,) = (r for r in rows if r[2] == LAYER)
    assert dict(zip(heads, row, strict=True))["here/there"] == "0.50"
    assert [r[2] for r in rows] == ["moons-2x32", LAYER]
    assert columns.fastest_cpu(shown.cells[0], shown.cpus) is None
    assert "Recorded on another machine: laptop" in page.render(shown)
    with pytest.raises(ValueError, match=r"neither a run's journal nor a recorded machine"):
        columns.view(None, [house / "journal"])


def test_runs_of_one_machine_are_told_apart(house):
    for commit, started in (("aaaaaaaa", 1_700_000_000), ("bbbbbbbb", 1_800_000_000)):
        times = {(LAYER, "float32", "cupy"): 1e-6}
        record("h100", commit, started, sgd=times).rename(house / f"{commit}.json")
        folder = house / commit / "h100"
        folder.mkdir(parents=True)
        (house / f"{commit}.json").rename(folder / "run.json")
    begin()
    note("sgd", {(LAYER, "float32", "numba"): 4e-6})
    shown = columns.view(None, [house / "aaaaaaaa", house / "bbbbbbbb"])
    labels = [c.label for c in shown.gpus]
    assert len(set(labels)) == 2
    assert all(label.startswith("cupy h100 ") for label in labels)


def test_a_recorded_machine_takes_the_place_of_a_run(house):
    record("h100", sgd={(LAYER, "float32", "cupy"): 1e-6})
    shown = columns.view()
    assert (shown.run.machine, [c.label for c in shown.gpus]) == ("h100", ["cupy"])
    assert "<h2>cupy</h2>" in page.render(shown)
    with pytest.raises(ValueError, match=r"there are no results yet"):
        columns.view("h200")


def test_the_page_of_the_core_grid_is_small(house):
    """With a card beside three columns; the names are the grid's, the times any."""
    from benchmarks.suites import grid
    from reference import FAMILIES

    begin()
    for family, operations in FAMILIES.items():
        for name in {operation.name for operation in operations}:
            own = {o.variant: o for o in operations if o.name == name}
            axes = grid.axes(family, own)
            cells = list(_cells(axes))
            note(name, {(*c, b): 1.23e-5 for c in cells for b in ("numpy", "numba")})
            if cells:
                record_into(name, {(*c, "cupy"): 4.56e-5 for c in cells})
    shown = columns.view()
    assert len(shown.cells) > 700
    assert len(page.render(shown).encode()) < MOST


KEPT = {}


def record_into(name, cells):
    KEPT[name] = cells
    record("h100", **KEPT)


def _cells(axes):
    names = [name for name in axes if name != "backend"]
    for values in itertools.product(*(axes[name] for name in names)):
        cell = dict(zip(names, values, strict=True))
        batches = workloads.batches(cell["layer"].partition("-")[0])
        if cell.get("batch", batches[0]) in batches:
            yield values


@pytest.mark.parametrize("form", exports.FORMS)
def test_the_command_writes_and_prints(house, capsys, form):
    house_of_runs(house)
    assert command.main(["report", f"--{form}", str(house / "found")]) == 0
    assert capsys.readouterr().out.strip() == str(house / "found")
    assert command.main(["report", f"--{form}", "-"]) == 0
    assert capsys.readouterr().out == (house / "found").read_text()


def test_every_form_has_its_option():
    assert list(command.EXPORTS) == list(exports.FORMS)


COMMANDS = ("run", "report", "record", "card", "pack", "peers", "compile", "resources")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_an_example(capsys, name):
    with pytest.raises(SystemExit):
        command.main([name, "--help"])
    assert f"example: python -m benchmarks {name}" in capsys.readouterr().out


def test_templates_are_installed():
    """An installed package finds them: they are among its data."""
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).resolve().parents[2] / "setup.cfg")
    assert setup["options.package_data"]["benchmarks.reports"] == "templates/*"
    assert {p.name for p in page.TEMPLATES.iterdir()} == {"page.html", "page.css", "page.js"}
    assert "jinja2" in setup["options"]["install_requires"]


def test_asv_publishes_the_page(house):
    """Linked from asv's index, and from what asv shows where its scripts cannot be reached."""
    site = house / "html"
    shutil.copytree(Path(asv.__file__).parent / "www", site)
    site_of = SimpleNamespace(html_dir=str(site))
    plugin.Page.publish(site_of, None, None, None, None)
    assert not (site / "report.html").exists()  # there is no run yet
    house_of_runs(house)
    plugin.Page.publish(site_of, None, None, None, None)
    assert Reader((site / "report.html").read_text()).cells[1]
    for name in ("index.html", "error.html"):
        assert (site / name).read_text().count('<a href="report.html">') == 1
    assert plugin.Page in asv.util.iter_subclasses(OutputPublisher)


def test_spans_of_numbers():
    assert charts.spans([3, 4, 5, 7, 9, 10]) == "3-5 7 9-10"
    assert charts.spans([]) == ""


def test_an_axis_is_logarithmic_over_whole_decades():
    axis = charts.Axis.over([2, 3000], 0, 400)
    assert axis.decades == [1, 10, 100, 1000, 10000]
    assert [axis.place(v) for v in (1, 10, 10000)] == [0, 100, 400]
    assert charts.Axis.over([1], 0, 10).decades == [1, 10]
    assert [charts.tick(v) for v in (0.01, 100, 1e4, 1e9)] == ["0.01", "100", "10 k", "1 G"]


def test_points_of_the_charts_are_where_their_figures_say(house):
    shown = house_of_runs(house)
    rows = {cell: number for number, cell in enumerate(shown.cells)}
    _, found = charts.throughput(shown, {c: n for c, n in rows.items() if c.batch}, 0)
    (chart,) = (svg for title, svg in found if title == f"relu {LAYER}")
    # 16.7 k and 43 k rows a second of numpy, 25 k and 2.6 M of the GPU
    (points,) = re.findall(r'<path class="cpu1" d="M([\d ]+)"/>', chart)
    x1, y1, x2, y2 = map(int, points.split())
    assert (x1, x2 > x1, y2 < y1) == (charts.LEFT, True, True)
    assert 'class="roof cpu0"' in chart
    lines = charts.rooflines(shown, rows)
    assert [title for title, *_ in lines] == ["CPU of here, float32", "cupy h100, float32"]
    timed = sum(c.seconds(cell) is not None for c in shown.gpus for cell in shown.cells)
    (numbers,) = re.findall(r'class="gpu0 dots" d="M([\d ]+)"', lines[1][1])
    assert len(numbers.split()) == 2 * timed
