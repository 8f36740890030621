"""The page without a browser: its figures are the report's, and it asks nothing of other places."""

import configparser
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
from page_reader import Reader
from pages import HOSTILE, LAYER, house_of_runs, rendered

from benchmarks.reports import charts, columns, exports, figures, formats, libraries, page
from benchmarks.running import plugin
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


def test_the_map_says_who_wins_and_by_how_much(house):
    """At batch 1 the CPU by 2, at 128 the GPU by 20; a step with its transfer by 1.28, not 3.2."""
    maps = Reader(rendered(house)).maps
    name = "digits-64-128-64-32-10"
    assert maps[f"relu {LAYER}"] == ["C 2.00°", "G 20.0°"]
    assert maps[f"tanh {LAYER}"][:1] == ["WRONG"]
    assert maps[name] == ["C 2.00°", "G 3.20°"]
    assert maps["with transfer"] == ["C 5.00°", "G 1.28°"]


def test_functions_that_only_one_of_both_has_are_named_below_the_map(house):
    house_of_runs(house)
    note("sgd", {(LAYER, "float32", "numpy"): 80e-6})
    text = page.render(columns.view())
    assert "<p>Not measured on both: sgd.</p>" in text
    assert LAYER not in Reader(text).maps


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


def test_the_page_of_the_core_grid_is_small(house):
    """With a card beside three columns; the names are the grid's, the times any."""
    from benchmarks.suites import grid
    from reference import FAMILIES

    begin()
    on_card = {}
    for family, operations in FAMILIES.items():
        for name in {operation.name for operation in operations}:
            own = {o.variant: o for o in operations if o.name == name}
            axes = grid.axes(family, own)
            cells = list(_cells(axes))
            note(name, {(*c, b): 1.23e-5 for c in cells for b in ("numpy", "numba")})
            if cells:
                on_card[name] = {(*c, "cupy"): 4.56e-5 for c in cells}
    record("h100", **on_card)
    shown = columns.view()
    assert len(shown.cells) > 500
    assert len(page.render(shown).encode()) < MOST


def _cells(axes):
    names = [name for name in axes if name != "backend"]
    for values in itertools.product(*(axes[name] for name in names)):
        cell = dict(zip(names, values, strict=True))
        batches = workloads.batches(cell["layer"].partition("-")[0])
        if cell.get("batch", batches[0]) in batches:
            yield values


def test_templates_are_installed():
    """An installed package finds them: they are among its data."""
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).resolve().parents[2] / "setup.cfg")
    assert setup["options.package_data"]["benchmarks.reports"] == "templates/*"
    assert {p.name for p in page.TEMPLATES.iterdir()} == {
        *("base.html", "page.html", "page.css", "page.js", "site.js", "study.html", "study.css")
    }
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


def test_without_its_libraries_asvs_site_stays_as_it_is(monkeypatch, tmp_path):
    text = (Path(asv.__file__).parent / "www" / "index.html").read_text()
    (tmp_path / "index.html").write_text(text)
    names = {name for _, name in libraries.ELSEWHERE.findall(text)}
    assert names == {*libraries.SOURCES, *libraries.REPLACED}
    assert len(names) == 10
    monkeypatch.setitem(libraries.SOURCES, "jquery.flot.min.js", ("no.such", "x"))
    with pytest.raises(LookupError, match="is not installed"):
        libraries.bring_home(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == text


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
    assert lines[1][3] == "40000 GFLOP/s, 2000 GB/s"
    timed = sum(c.seconds(cell) is not None for c in shown.gpus for cell in shown.cells)
    (numbers,) = re.findall(r'class="gpu0 dots" d="M([\d ]+)"', lines[1][1])
    assert len(numbers.split()) == 2 * timed
