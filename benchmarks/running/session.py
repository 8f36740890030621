"""What a session on a card has found, kept on the disk after every measurement.

Beside asv's result file, which is made from it, stands the session itself, as JSON. Both are
replaced as a whole, so that whatever ends the process leaves what was finished, and a later call
goes on after it.
"""

import contextlib
import itertools
import json
import math
import os
import re
import sys
import time
from functools import partial

from reference import FAMILIES

from .. import bench_network
from ..reports import results
from . import asv_results, journal, machine, runner
from .gpu import BACKEND

KINDS = ("cells", "peers", "crossings", "borders")


def slug(name):
    """A name for files."""
    return re.sub(r"[^\w.+]+", "-", name).strip("-").lower()


def suites(module):
    """(family, function, suite) of all that is timed on a card, the training steps first."""
    for family in ("network", "roofline", *FAMILIES):
        for function, cls in runner.suites(family):
            is_epoch = function == bench_network.EPOCH  # of steps that are timed already
            if cls.runs_on(module) and not is_epoch:
                yield family, function, cls


def axes(cls):
    """The parameters of a suite on the card."""
    return {**cls.axes, "backend": [BACKEND]}


class Session:
    """`found` is all that is kept: of every kind in KINDS a list of entries, each with its key."""

    def __init__(self, name, card, timed):
        """Goes on with the session of this commit on this card, or begins it.

        timed: what `suites` gives. Raises ValueError where the session is finished, or where other
        code has begun it.
        """
        self.opened, self.suites = time.time(), timed
        (commit, edited), python = journal.revision(), "{}.{}".format(*sys.version_info)
        environment = f"session-py{python}-{slug(card['name'])}"
        self.path = results.RECORDED / name / f"{commit[:8]}-{environment}.json"
        self.marker = self.path.with_suffix(".begun")
        nothing = {"finished": False, "started": self.opened, "took": 0.0, "clocks": [], "died": {}}
        nothing |= {"code": journal.code(), "edited": edited, **{kind: [] for kind in KINDS}}
        self.found = self._kept() or nothing
        self.found["card"], self.before = card, self.found["took"]
        self.done = {entry["key"] for kind in KINDS for entry in self.found[kind]}
        hardware = {**machine.hardware(), "machine": name, "gpu": card["name"], "version": 1}
        settings = {"GPU": card["name"], machine.THREADS[0]: machine.cores()}
        head = hardware, machine.versions(), commit, self.found["started"], python
        self.document = partial(asv_results.document, *head, environment, settings)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _replace(self.path.with_name("machine.json"), json.dumps(hardware, indent=1))
        if self.marker.is_file():
            died, key = self.found["died"], self.marker.read_text()
            died[key] = died.get(key, 0) + 1
            self.save()
            self.marker.unlink()

    def _kept(self):
        """What an earlier call has found, or None."""
        path = results.session(self.path)
        if not path.is_file():
            return None
        found = json.loads(path.read_text())
        if found["finished"] or found["code"] != journal.code():
            what = "is finished" if found["finished"] else "was begun by other code"
            raise ValueError(f"the session {path} {what}: commit, move or remove it")
        return found

    @contextlib.contextmanager
    def attempt(self, key):
        """Leaves a mark where the process dies in what follows, by a signal or by a crash."""
        self.marker.write_text(key)
        try:
            yield
        finally:
            self.marker.unlink(missing_ok=True)

    def died(self, key):
        """How often a process has died in it."""
        return self.found["died"].get(key, 0)

    def add(self, kind, entry):
        """Keeps an entry; where the disk does not take it, it stays in memory until it does."""
        self.found[kind].append(entry)
        self.done.add(entry["key"])
        try:
            self.save()
        except Exception as error:  # a full disk, say; what is measured next may still be kept
            print(f"not saved, tried again after the next: {error}", file=sys.stderr)

    def save(self):
        """Writes the session and asv's result file."""
        self.found["took"] = self.before + time.time() - self.opened
        _replace(results.session(self.path), json.dumps(self.found))
        _replace(self.path, self.document(self._rows()))

    def _rows(self):
        """The rows of asv's file, by benchmark."""
        kept = {results.Cell(**entry["cell"]): entry for entry in self.found["cells"]}
        rows = {}
        for family, function, cls in self.suites:
            cells = {
                values: _outcome(kept.get(results.key_of(function, values)[0]))
                for values in itertools.product(*axes(cls).values())
            }
            name = f"bench_{family}.{function}.time_call"
            given = cls.version, list(axes(cls).values()), cells, self.found["started"]
            rows[name] = asv_results.row(*given)
        return rows


def _outcome(entry):
    """(value, samples, calls in each) of an entry; the value is null if it failed, else NaN."""
    if entry is None:
        return math.nan, None, None
    bad = entry["verdict"].startswith(journal.BAD)
    return None if bad else math.nan, entry["samples"], entry["number"]


def _replace(path, text):
    """Writes a file as a whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)
