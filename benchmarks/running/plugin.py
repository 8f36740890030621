"""asv plugin: the environment "checkout", the working tree as it is installed in this Python; and
the report's page as one of the site that `asv publish` makes.

asv's own "existing" environment writes the interpreter's path into its name, so that every checkout
would become another series of results. This one is named by what the results depend on instead.
"""

import os
import sys
from pathlib import Path

from asv.console import log
from asv.environment import ExistingEnvironment
from asv.publishing import OutputPublisher
from asv.util import sanitize_filename

from . import isa, journal
from .machine import MACHINE, THREADS, begin, settings, versions


class Checkout(ExistingEnvironment):
    """This interpreter; versions, threads and GPU are recorded with the results."""

    tool_name = "checkout"
    matches_python_fallback = False

    def __init__(self, conf, executable, requirements, tagged_env_vars):
        if journal.VARIABLE not in os.environ and times(sys.argv):
            begin(MACHINE)
        found = {("nobuild", name): value for name, value in settings().items()}
        super().__init__(conf, sys.executable, versions(), found)
        self._python = "{}.{}".format(*sys.version_info)  # not the interpreter's path

    @classmethod
    def matches(cls, python):
        return False

    @property
    def name(self):
        parts = [self.tool_name, f"py{self._python}"]
        parts += [f"{package}{version}" for package, version in self._requirements.items()]
        parts += [f"threads{self.env_vars[THREADS[0]]}", self.env_vars.get("GPU", "cpu")]
        parts += [self.env_vars[name] for name in (isa.VARIABLE,) if name in self.env_vars]
        return sanitize_filename("-".join(parts))


class Page(OutputPublisher):
    """The report's page in asv's site, and the libraries of asv's own pages beside them.

    Where these are not installed, asv takes them from other places; where those cannot be reached
    it shows its error.html, from which a link leads to the report too.
    """

    name = "report"
    button_label = "Report"
    description = "Who wins, throughput, roofline and all figures of the last run"
    order = 4
    FILE = "report.html"
    PLACES = (("index.html", '<li id="nav-li-graphdisplay">'), ("error.html", "</body>"))

    @classmethod
    def publish(cls, conf, repo, benchmarks, graphs, revisions):
        from ..reports import columns, libraries, page  # which import the suites

        site = Path(conf.html_dir)
        try:
            libraries.bring_home(site)
        except LookupError as reason:
            log.warning(f"asv's own pages need the network: {reason}")
        try:
            text = page.render(columns.view())
        except ValueError as reason:
            log.warning(f"no page of the report: {reason}")
            return
        (site / cls.FILE).write_text(text, encoding="utf-8")
        for file, before in cls.PLACES:
            html = (site / file).read_text(encoding="utf-8")
            link = f'<li><a href="{cls.FILE}">{cls.button_label}</a></li>'
            (site / file).write_text(html.replace(before, link + before, 1), encoding="utf-8")


def times(arguments):
    """Whether asv, called by hand, times: a quick look is of cold calls, which no report shows."""
    return "run" in arguments and not {"-q", "--quick"} & set(arguments)
