"""The study on this machine: runs in processes of one thread each, kept as they end.

Whatever ends a process, the next call goes on with the runs that are not kept. They are taken in an
order drawn by their names, so that those which are done tell how long the others will take.
"""

import contextlib
import hashlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection

from ..running import machine
from . import grid, training
from .store import Store

WIDTH = 30  # of the bar
EVERY = 10  # seconds between lines where there is no terminal


def run(settings, store, backend="numba", workers=None, task=training.run, prepare=None):
    """Runs what the store has not; returns [(setting, why it has no record)].

    workers: processes, as many as there are cores unless given. task(setting, backend) gives the
    record; prepare(settings, backend) is called once before, in one process.
    Raises RuntimeError where another study is at work, or processes die.
    """
    with store.alone():
        kept = store.names(backend)
        left = sorted((s for s in settings if str(s) not in kept), key=_drawn)
        if not left:
            return []
        workers = workers or int(machine.cores())
        with (
            _pool(store, workers) as pool,
            _Shown(len(settings), len(settings) - len(left)) as shown,
        ):
            try:
                shown.says("preparing (the compiler may take a minute, once)")
                pool.submit(prepare or warm, left, backend).result()
                shown.began = time.monotonic()
                return list(_all(pool, left, backend, task, 2 * workers, shown))
            except BrokenProcessPool:
                raise RuntimeError(
                    "a process of the study has died; what is finished is kept, and the same "
                    "command goes on with the rest"
                ) from None


def _drawn(setting):
    return hashlib.sha256(str(setting).encode()).digest()


def _all(pool, settings, backend, task, most, shown):
    """(setting, error) of the runs that raise one; at most so many are under way."""
    queue, under_way = iter(settings), {}
    while True:
        for setting in itertools.islice(queue, most - len(under_way)):
            under_way[pool.submit(_finish, task, setting, backend)] = setting
        if not under_way:
            return
        done, _ = wait(under_way, timeout=1, return_when=FIRST_COMPLETED)
        for future in done:
            setting = under_way.pop(future)
            if error := future.exception():
                if isinstance(error, BrokenProcessPool):
                    raise error
                yield setting, f"{type(error).__name__}: {error}"
        shown.more(len(done))


@contextlib.contextmanager
def _pool(store, workers):
    """Processes that numeric libraries give one thread each. Ctrl-C lets runs under way end."""
    before = {name: os.environ.get(name) for name in machine.THREADS}
    os.environ.update(dict.fromkeys(before, "1"))
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, _begin, (store.path,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


_store, _kept = None, contextlib.ExitStack()  # of a worker, for its lifetime


def _begin(path):
    """Makes this process a worker, which ends when the study does, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(
        target=_end_with, args=(multiprocessing.parent_process(),), daemon=True
    ).start()
    global _store
    _store = Store(path)
    _kept.enter_context(_store.worker())


def _end_with(parent):
    connection.wait([parent.sentinel])
    os._exit(1)


def _finish(task, setting, backend):
    _store.add(str(setting), task(setting, backend))


def warm(settings, backend):
    """Has the compiler done with all that these runs need: one step of each kind."""
    seen = set()
    for setting in settings:
        rule = grid.METHODS[setting.method].rule
        kind = (*setting.without("seed", "rate", "beta", "method").fields.values(), rule)
        if str(kind) not in seen:
            seen.add(str(kind))
            training.step(setting, backend)


@dataclass
class _Shown:
    """How far a study is, on one line of the terminal."""

    total: int
    kept: int
    done: int = 0
    printed: float = 0.0

    def __enter__(self):
        self.began = time.monotonic()
        self.says(f"{self.total} runs, of which {self.kept} are kept")
        return self

    def __exit__(self, *error):
        print(flush=True)

    def more(self, count):
        """So many runs more are done."""
        self.done += count
        now, terminal = time.monotonic(), sys.stdout.isatty()
        last = self.kept + self.done == self.total
        if now - self.printed >= (0.2 if terminal else EVERY) or last:
            self.printed = now
            text = line(self.total, self.kept, self.done, now - self.began)
            print(f"\r{text:78}" if terminal else text, end="" if terminal else "\n", flush=True)

    def says(self, text):
        print(text, flush=True)


def line(total, kept, done, seconds):
    """A bar, and the time that remains where the runs to come are as those that are done."""
    at = kept + done
    bar = ("#" * (WIDTH * at // total)).ljust(WIDTH, ".")
    text = f"[{bar}] {at} of {total} runs, {100 * at // total}%"
    if at == total:
        return f"{text}, {duration(seconds)} in all"
    return f"{text}, about {duration(seconds * (total - at) / done)} left" if done else text


def duration(seconds):
    """Minutes and seconds, or hours and minutes."""
    minutes = round(seconds) // 60
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {round(seconds) % 60} s" if minutes else f"{round(seconds)} s"
