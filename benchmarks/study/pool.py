"""The study in processes of one thread each, or on a cluster; runs are kept as they end.

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
from concurrent.futures import FIRST_COMPLETED, CancelledError, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection

from ..running import machine
from . import cluster, grid, training
from .store import Store

WIDTH = 30  # of the bar
EVERY = 10  # seconds between lines where there is no terminal


def run(settings, store, backend="numba", workers=None, task=training.run, prepare=None, dask=None):
    """Runs what the store has not; returns [(setting, why it has no record)].

    workers: processes, as many as there are cores unless given; dask: the address of a cluster's
    scheduler, whose workers take their place. task(setting, backend) gives the record;
    prepare(settings, backend) is called once before, in one process a machine.
    Raises RuntimeError where another study is at work, processes die, or the cluster is lost.
    """
    with store.alone():
        kept = store.names(backend)
        left = sorted((s for s in settings if str(s) not in kept), key=_drawn)
        if not left:
            return []
        at_work = cluster.connected(dask, store) if dask else _pool(store, workers)
        with at_work as place, _Shown(len(settings), len(settings) - len(left)) as shown:
            try:
                shown.says("preparing (the compiler may take a minute, once)")
                place.prepare(prepare or warm, left, backend)
                shown.began = time.monotonic()
                return list(_all(place, left, backend, task, shown))
            except (BrokenProcessPool, CancelledError):
                gone = "the cluster is lost" if dask else "a process of the study has died"
                raise RuntimeError(
                    f"{gone}; what is finished is kept, and the same command goes on with the rest"
                ) from None


def _drawn(setting):
    return hashlib.sha256(str(setting).encode()).digest()


def _all(place, settings, backend, task, shown):
    """(setting, error) of the runs that raise one; at most place.most are under way."""
    queue, under_way = iter(settings), {}
    while True:
        for setting in itertools.islice(queue, max(0, place.most - len(under_way))):
            under_way[place.submit(task, setting, backend)] = setting
        if not under_way:
            return
        done, _ = wait(under_way, timeout=1, return_when=FIRST_COMPLETED)
        for future in done:
            setting = under_way.pop(future)
            if error := future.exception():
                if isinstance(error, BrokenProcessPool):
                    raise error
                yield setting, f"{type(error).__name__}: {error}"
            else:
                place.finished(setting, future.result())
        shown.more(len(done))


class Processes:
    """Of this machine; each keeps its runs itself, whatever becomes of this one."""

    def __init__(self, executor, workers):
        self._executor, self.most = executor, 2 * workers

    def prepare(self, task, settings, backend):
        self._executor.submit(task, settings, backend).result()

    def submit(self, task, setting, backend):
        return self._executor.submit(_finish, task, setting, backend)

    def finished(self, setting, result):
        pass


@contextlib.contextmanager
def _pool(store, workers):
    """Processes that numeric libraries give one thread each. Ctrl-C lets runs under way end."""
    workers = workers or int(machine.cores())
    before = {name: os.environ.get(name) for name in machine.THREADS}
    os.environ.update(dict.fromkeys(before, "1"))
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, _begin, (store.path,))
    try:
        yield Processes(pool, workers)
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
