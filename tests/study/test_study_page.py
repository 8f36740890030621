"""The study's page: it asks nothing of any other place, and its figures are the tables'."""

import re

import pytest
from page_reader import Reader
from study_runs import run, study

from benchmarks.study import drawing, figures, page, report, training


@pytest.fixture(scope="module")
def text():
    return page.render(study())


def test_it_is_html_and_asks_nothing_of_any_other_place(text):
    found = Reader(text)
    assert all(a.startswith(("#", "data:")) for a in found.addresses), found.addresses
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)
    assert {"script", "style", "table", "svg", "path", "circle"} <= set(found.tags)


def test_every_table_stands_on_it(text):
    found = [[cell for cell, _ in row] for rows in Reader(text).tables for row in rows]
    rows = [[part.strip() for part in row] for row in found]
    for table in report.tables(study()):
        assert table.title in text
        for row in table.rows:
            assert [str(part) for part in row] in rows


def test_every_method_has_its_class_in_each_chart(text):
    assert re.findall(r'<path class="m\d" d="M2 7H38"/></svg>(\w+)', text)[:3] == [
        *("minibatch_sgd", "rmsprop", "adam")
    ]
    for name in ("m0", "m1", "m2"):
        assert text.count(f'<path class="{name}" d="M2 7H38"/>') == 3  # legends
        assert text.count(f'class="{name}"') >= 3 + 2 + 1 + 4  # losses, trade, profiles
    assert {"l0", "l1", "l2"} <= set(re.findall(r'class="(l\d)" d="M\d+ ', text))  # layers


def test_the_heat_map_says_time_and_how_far_from_the_best():
    (methods,) = figures.compared(study()).values()
    batches, tables = page.heats(methods)
    assert batches == [32]
    assert dict(tables) == {
        "minibatch_sgd": [("0.01", [("none", "never")]), ("0.1", [("c3", "300 us")])],
        "rmsprop": [("0.01", [("c3", "480 us")]), ("0.1", [("bad", "diverges")])],
        "adam": [("0.01", [("c3", "100 us")]), ("0.1", [("c1", "820 us")])],
    }
    best = figures.best(methods["adam"])
    assert page.shade(None, best) == ("none", "")
    slow = figures.cells([run("adam", steps=10**6)])[0]
    assert page.shade(slow, best)[0] == "c0"


def test_curves_leave_out_what_has_no_logarithm():
    chart = drawing.curves({"m0": [(0, 1.0), (10, 1.0), (100, 0.1), (1000, None), (1000, 0.0)]})
    assert chart.count("<path") == 2  # the grid, one line
    points = re.search(r'class="m0" d="M([\d ]+)"', chart)[1].split()
    assert len(points) == 4
    assert drawing.curves({"m0": [(0, 1.0)], "m1": []}) == ""
    assert drawing.trade({"m0": []}) == ""


def test_a_profile_is_drawn_in_steps_from_one():
    chart = drawing.steps_of({"m0": [(1, 0.5), (10, 1.0), (1e9, 1.0)]}, 100)
    d = re.search(r'class="m0" d="([^"]+)"', chart)[1]
    left, top, bottom = 80, 14, 300 - 36
    assert d == f"M{left} {(top + bottom) // 2}H265V{top}H450"
    nothing = drawing.steps_of({"m0": []}, 100)
    assert f'd="M{left} {bottom}H450"' in nothing


def test_the_map_of_the_plane_is_upright():
    """Its first row is the lowest: in the plane up is up."""
    across = training.ACROSS
    chart = drawing.plane("0" * across + "9" * across * (across - 1), "rows")
    low = re.search(r'class="p0" d="M-4 (\d+)h(\d+)', chart)
    assert (int(low[1]), int(low[2])) == (drawing.PLANE - 4, 8 * across)
    assert chart.count('class="p9"') == 1
    assert '<use href="#rows"/>' in chart


def test_gradients_are_of_settings_that_differ_in_their_activation_alone():
    found = page.gradients(study())
    titles = [title.split(" adam ") for title, _ in found]
    assert {parts[0] for parts in titles} == {
        "moons-0.2 32-16 relu none",
        "moons-0.2 32-16 elu none",
    }
    assert len({parts[1] for parts in titles}) == 1
    assert page.gradients([run("adam")]) == []
