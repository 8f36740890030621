"""asv plugin: the environment "checkout", the working tree as it is installed in this Python.

asv's own "existing" environment writes the interpreter's path into its name, so that every checkout
would become another series of results. This one is named by what the results depend on instead.
"""

import os
import sys

from asv.environment import ExistingEnvironment
from asv.util import sanitize_filename

from . import journal
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
        threads = self.env_vars[THREADS[0]]
        return sanitize_filename(
            "-".join([*parts, f"threads{threads}", self.env_vars.get("GPU", "cpu")])
        )


def times(arguments):
    """Whether asv, called by hand, times: a quick look is of cold calls, which no report shows."""
    return "run" in arguments and not {"-q", "--quick"} & set(arguments)
