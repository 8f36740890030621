"""The study's page in a browser: it asks for nothing, fits a telephone, follows the theme, and its
charts have one size of type."""

import itertools

import browsing
import pytest
from browsing import opened
from study_runs import study

from benchmarks.study import page

pytestmark = pytest.mark.browser
SIZES = """() => [...document.querySelectorAll("svg.plot text")].map(
    text => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)"""
OUTSIDE = """() => [...document.querySelectorAll("svg.plot text")].filter(text => {
    const { width, height } = text.ownerSVGElement.viewBox.baseVal, box = text.getBBox();
    return box.x < 0 || box.y < 0 || box.x + box.width > width || box.y + box.height > height;
}).map(text => text.textContent)"""


@pytest.fixture(scope="module")
def browser():
    with browsing.started() as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "study.html"
    path.write_text(page.render(study()), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize(("width", "theme"), itertools.product((390, 1400), ("light", "dark")))
def test_it_fits_and_follows_the_theme(browser, address, width, theme):
    with opened(browser, address, width, color_scheme=theme) as shown:
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert browsing.is_dark(shown) == (theme == "dark")
        shown.locator("#theme").click()
        shown.locator("#theme").click()
        assert browsing.is_dark(shown)
        assert shown.url.endswith("#theme=dark")


@pytest.mark.parametrize("width", [390, 1400])
def test_all_charts_have_one_size_of_type(browser, address, width):
    with opened(browser, address, width) as shown:
        sizes = shown.evaluate(SIZES)
        assert len(sizes) > 50
        assert max(sizes) - min(sizes) < 0.5
        assert min(sizes) >= 11
        assert max(sizes) <= 16
        assert shown.evaluate(OUTSIDE) == []
