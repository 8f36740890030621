"""The page in a browser: it asks for nothing, fits a telephone, sorts and filters, and tells its
figures by mouse, touch and keyboard."""

import itertools

import browsing
import pytest
from browsing import is_dark, opened
from pages import HOSTILE, LAYER, rendered

pytestmark = pytest.mark.browser
WIDTHS, THEMES = (390, 1400), ("light", "dark")


@pytest.fixture(scope="module")
def browser():
    with browsing.started() as found:
        yield found


@pytest.fixture
def address(house):
    path = house / "report.html"
    path.write_text(rendered(house), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize(("width", "theme"), [*itertools.product(WIDTHS, THEMES)])
def test_it_fits_and_follows_the_theme(browser, address, width, theme):
    with opened(browser, address, width, color_scheme=theme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert is_dark(page) == (theme == "dark")
        assert page.locator("output").inner_text() == "5 of 5 cells"
        page.locator("#theme").click()
        page.locator("#theme").click()
        assert is_dark(page)
        assert page.url.endswith("#theme=dark")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_heading_that_is_jumped_to_stands_below_the_filter(browser, address, width):
    with opened(browser, address, width) as page:
        for heading in page.locator("main > section > h2").all():
            heading.evaluate("heading => heading.scrollIntoView()")
            bottom = page.locator("#filter").evaluate("e => e.getBoundingClientRect().bottom")
            assert heading.evaluate("e => e.getBoundingClientRect().top") >= bottom


def test_labels_of_the_roofline_lie_within_it_and_over_no_point(browser, address):
    script = """plot => {
        const { width, height } = plot.viewBox.baseVal;
        return [...plot.querySelectorAll(".label")].map(label => {
            const box = label.getBBox(), right = box.x + box.width, bottom = box.y + box.height;
            const over = points(plot).filter(({ x, y }) =>
                x > box.x && x < right && y > box.y && y < bottom);
            return [box.x >= 80 && box.y >= 0 && right <= width && bottom <= height, over.length];
        });
    }"""
    with opened(browser, address) as page:
        plots = page.locator(".charts.large svg")
        assert plots.count() == 2
        for plot in plots.all():
            assert plot.evaluate(script) == [[True, 0], [True, 0]]


def test_every_text_of_the_map_can_be_read(browser, address):
    """At least 4.5 to 1 between a cell and its text (WCAG 2.1, 1.4.3), in both themes."""
    for theme in THEMES:
        with opened(browser, address, color_scheme=theme) as page:
            for shade in page.locator(".legend span[class]").all():
                found = shade.evaluate(
                    "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
                )
                light, dark = sorted(map(luminance, found), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (theme, shade.inner_text(), found)


def luminance(colour):
    parts = [int(c) / 255 for c in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def column(page, head):
    """The texts of a column of the table, in the order of the rows that are shown."""
    script = """head => {
        const heads = [...document.querySelectorAll("#cells thead tr:last-child th")];
        const k = heads.findIndex(each => each === heads[head]);
        const rows = [...document.querySelectorAll("#cells tbody tr")].filter(r => !r.hidden);
        return rows.map(row => row.cells[k].textContent.trim());
    }"""
    return page.evaluate(script, head)


def test_it_sorts_by_a_time_and_says_so_in_its_address(browser, address):
    numba = 6  # the column, behind five names and numpy's time
    with opened(browser, address) as page:
        given = column(page, numba)
        assert sorted(given) == sorted(["20.0 us", "1.00 ms", "WRONG", "20.0 us", "128 us"])
        head = page.locator("#cells thead tr:last-child th").nth(numba)
        ascending = ["20.0 us", "20.0 us", "128 us", "1.00 ms", "WRONG"]
        orders = [
            ("ascending", ascending),
            ("descending", [*ascending[-2::-1], "WRONG"]),
            ("none", given),
        ]
        for said, order in orders:
            head.locator("button").click()
            assert column(page, numba) == order
            assert head.get_attribute("aria-sort") == said
        page.goto(f"{address}#sort=-{numba}")
        assert column(page, numba)[0] == "1.00 ms"


def test_it_filters_the_table_the_map_and_the_charts(browser, address):
    with opened(browser, address) as page:
        page.locator("input[type=search]").fill("RELU 128")
        assert column(page, 4) == ["128"]
        assert page.locator("output").inner_text() == "1 of 5 cells"
        shown = page.locator(".map tbody tr:visible")
        assert [row.split("\t")[0] for row in shown.all_inner_texts()] == [f"relu {LAYER}"]
        assert page.locator("summary:visible").all_inner_texts() == ["dense_forward"]
        again = page.url
        assert again.endswith("#q=RELU+128")
        page.locator("input[type=search]").fill("")
        page.locator("select[name=function]").select_option("network_step")
        assert column(page, 4) == ["16", "128"]
        page.goto(again)
        assert column(page, 4) == ["128"]
        assert page.locator("select[name=function]").input_value() == ""


def test_the_map_tells_its_figures_by_keyboard(browser, address):
    with opened(browser, address) as page:
        tip, first = page.locator("#tip"), page.locator(".map td[class]").first
        assert not tip.is_visible()
        first.focus()
        assert "network_step · digits-64-128-64-32-10 · float32 · 16" in tip.inner_text()
        assert "cupy h100: 40.0 us" in tip.inner_text()
        page.keyboard.press("ArrowRight")
        assert "float32 · 128" in tip.inner_text()
        page.keyboard.press("Escape")
        assert not tip.is_visible()


def test_the_map_tells_its_figures_by_touch(browser, address):
    with opened(browser, address, 390, has_touch=True) as page:
        page.locator(".map td[class]").first.tap()
        assert "numba: 20.0 us" in page.locator("#tip").inner_text()
        box = page.locator("#tip").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        page.locator("h1").tap()
        assert not page.locator("#tip").is_visible()


def test_the_charts_tell_their_points(browser, address):
    with opened(browser, address) as page:
        plot, tip = page.locator("svg.plot:visible").first, page.locator("#tip")
        page.locator("summary").first.focus()
        page.keyboard.press("Tab")
        seen = set()
        for _ in range(4):
            seen.add(tip.inner_text())
            page.keyboard.press("ArrowRight")
        assert len(seen) == 4
        assert all("▸" in text for text in seen)
        page.mouse.move(1, 1)
        place = plot.evaluate("""plot => {
            const { x, y } = points(plot)[0], at = new DOMPoint(x, y);
            const found = at.matrixTransform(plot.getScreenCTM());
            return [found.x, found.y];
        }""")
        page.mouse.move(place[0] + 2, place[1] + 2)
        assert tip.is_visible()
        assert tip.inner_text() in seen
        assert plot.locator(".ring").count() == 1


def test_a_wrong_cell_tells_why(browser, address):
    with opened(browser, address) as page:
        page.locator("#cells td.bad").focus()
        assert f"WRONG: 3 of 4 wrong {HOSTILE}" in page.locator("#tip").inner_text()
