"""The finished runs, in SQLite: one row each, written by whoever ran it as soon as it is over.

What is kept is kept whatever happens to the process: a row is one transaction. The key is the
backend, the setting's name and the version of what a run means; the first row of a key stays.
"""

import contextlib
import fcntl
import json
import sqlite3
import time
from datetime import UTC, datetime

from ..running import machine
from ..suites import workloads
from . import training

PATH = workloads.HOME / ".asv" / "study.sqlite"
WAIT = 60  # seconds for another process that writes, or is about to end
_TABLE = """create table if not exists runs (
    backend text, setting text, version integer, machine text, finished text, record text,
    primary key (backend, setting, version)
)"""


class Store:
    """The runs in the file `path`, of the present version alone."""

    def __init__(self, path=PATH):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute(_TABLE)

    def add(self, name, record, surroundings=None):
        """Keeps the record of a finished run, unless there is one.

        surroundings: the machine.hardware() of where it ran; here unless given.
        """
        surroundings, now = surroundings or machine.hardware(), datetime.now(UTC)
        about = json.dumps({name: surroundings[name] for name in ("cpu", "num_cpu", "os")})
        row = record["backend"], name, training.VERSION, about, now.isoformat(), json.dumps(record)
        self._connection.execute("insert or ignore into runs values (?, ?, ?, ?, ?, ?)", row)

    def names(self, backend):
        """Of the finished runs."""
        found = "select setting from runs where backend = ? and version = ?"
        return {name for (name,) in self._connection.execute(found, (backend, training.VERSION))}

    def records(self):
        """The records of all backends, each with what is known of its machine and its time."""
        found = (
            "select record, machine, finished from runs where version = ? order by backend, setting"
        )
        return [
            {**json.loads(record), "machine": json.loads(about), "finished": finished}
            for record, about, finished in self._connection.execute(found, (training.VERSION,))
        ]

    @contextlib.contextmanager
    def alone(self):
        """For one study at a time, once the processes of one that was killed have ended.

        Raises RuntimeError where another one is at work.
        """
        with self._locked("study", fcntl.LOCK_EX, 0):
            with self._locked("workers", fcntl.LOCK_EX, WAIT):
                pass
            yield

    def worker(self):
        """For as long as a process may add runs: no study begins meanwhile."""
        return self._locked("workers", fcntl.LOCK_SH, WAIT)

    @contextlib.contextmanager
    def _locked(self, name, kind, wait):
        """A lock of this name beside the file; it ends with the process, whatever ends that."""
        with open(self.path.with_suffix(f".{name}"), "w") as file:
            until = time.monotonic() + wait
            while True:
                try:
                    fcntl.flock(file, kind | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise RuntimeError(f"another study is at work on {self.path}") from None
                    time.sleep(0.05)
            yield

    def close(self):
        self._connection.close()
