"""The site that `asv publish` makes, in a browser: asv's own pages, from this machine alone."""

import json
import subprocess
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from threading import Thread

import asv.util
import browsing
import pytest
from asv.commands.publish import Publish
from asv.config import Config
from browsing import opened
from pages import house_of_runs

from benchmarks.reports import libraries
from benchmarks.running import plugin

pytestmark = pytest.mark.browser
NAME = "bench_dense.dense_forward.time_call"
AXES = {"variant": ["'relu'", "'tanh'"], "batch": ["1", "16", "128"]}
COMMITS, BATCHES = 10, len(AXES["batch"])
PLACES = "jQuery('#main-graph').data('plot').getData().map(s => s.datapoints.points[0])"


@pytest.fixture(scope="module")
def browser():
    with browsing.started() as found:
        yield found


@pytest.fixture
def site(house, monkeypatch):
    """Ten commits; from the sixth on one cell takes three times as long."""
    monkeypatch.setattr(asv.util, "get_multiprocessing_pool", lambda _: InProcess())
    house_of_runs(house)
    conf = Config.from_json({"project": "trial", "repo": str(house / "repo"), "branches": ["HEAD"]})
    conf.results_dir, conf.html_dir = str(house / "results"), str(house / "html")
    folder = house / "results" / "here"
    folder.mkdir(parents=True)
    (folder / "machine.json").write_text(json.dumps({"machine": "here", "version": 1}))
    told = {"name": NAME, "type": "time", "unit": "seconds", "version": "1", "code": ""}
    told |= {"param_names": list(AXES), "params": list(AXES.values())}
    told |= {"pretty_name": None, "timeout": 60}
    text = json.dumps({NAME: told, "version": 2})
    (house / "results" / "benchmarks.json").write_text(text)
    for number, commit in enumerate(commits(house / "repo")):
        times = [1e-6, 2e-6, 9e-6, 2e-6, 3e-6, 2e-5 * (3 if number > 4 else 1)]
        data = {
            "commit_hash": commit,
            "env_name": "checkout",
            "date": 1000 * (1_700_000_000 + 86400 * number),
            "params": {"machine": "here", "python": "3.11"},
            "python": "3.11",
            "requirements": {},
            "env_vars": {},
            "result_columns": ["result", "params", "version"],
            "results": {NAME: [times, list(AXES.values()), "1"]},
            "durations": {},
            "version": 2,
        }
        (folder / f"{commit[:8]}-checkout.json").write_text(json.dumps(data))
    try:
        for name in (*libraries.SOURCES, *libraries.REPLACED):
            libraries.source(name)
    except LookupError as reason:
        browsing.lacking(str(reason))
    Publish.run(conf, pull=False)
    assert plugin.Page in asv.util.iter_subclasses(plugin.OutputPublisher)
    with served(house / "html") as address:
        yield address


class InProcess:
    """In the place of processes that look for steps in a series."""

    map = staticmethod(lambda function, items, *_: list(map(function, items)))

    def apply_async(self, function, arguments=(), callback=None):
        found = function(*arguments)
        return type("Ready", (), {"get": lambda self, *_: found})()

    close = join = terminate = lambda self: None


def commits(repo):
    """The names of the commits of a new repository, the oldest first."""
    repo.mkdir()
    git = partial(subprocess.run, cwd=repo, check=True, capture_output=True, text=True)
    git(["git", "init", "-q"])
    who = ["-c", "user.name=x", "-c", "user.email=x@x"]
    for number in range(COMMITS):
        git(["git", *who, "commit", "-q", "--allow-empty", "-m", str(number)])
    return git(["git", "log", "--reverse", "--format=%H"]).stdout.split()


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_asvs_pages_open_from_this_machine_alone(browser, site):
    """The grid, the list, which sorts, the graphs of a benchmark, regressions, and the report."""
    with opened(browser, f"{site}index.html", site=site) as page:
        page.locator("#summarygrid-display .benchmark-container").wait_for()
        page.locator("#nav-li-summarylist a").click()
        rows = page.locator("#summarylist-body tbody tr")
        rows.nth(5).wait_for()
        assert rows.count() == 6
        assert "dense_forward" in rows.first.inner_text()
        head = page.locator("#summarylist-body th", has_text="Value")
        head.click()
        assert "1.000μs" in rows.first.inner_text()
        head.click()
        assert "60.000μs" in rows.first.inner_text()
        page.goto(f"{site}index.html#{NAME}")
        page.locator("#main-graph canvas.flot-overlay").wait_for()
        page.goto(f"{site}index.html#{NAME}?x-axis=variant")
        page.wait_for_function(
            f"jQuery('#main-graph').data('plot')?.getData().length === {BATCHES}"
        )
        first = page.evaluate(PLACES)
        assert [b - a for a, b in pairwise(first)] == pytest.approx([0.6 / BATCHES] * (BATCHES - 1))
        page.goto(f"{site}index.html#regressions")
        page.locator("#regressions-body tbody tr").first.wait_for()
        page.locator("#nav a[href='report.html']").click()
        page.locator("#cells").wait_for()
