"""Runs that train nothing, for tests of what runs them: each writes down that it was begun, and
that it was over, in the file that STUDY_LOG names.

    python study_tasks.py STORE COUNT WORKERS
"""

import os
import random
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from benchmarks.study import grid, pool, store


def settings(count):
    return grid.settings()[:count]


def nothing(settings, backend):
    pass


def noted(setting, backend):
    """Takes a moment."""
    note("begun", setting)
    time.sleep(random.uniform(0, 0.02))
    note("over", setting)
    return {"setting": setting.fields, "backend": backend, "digest": str(hash(setting.seed))}


def failing(setting, backend):
    if setting.seed == 1:
        raise ValueError(f"planted in {setting.method}")
    return noted(setting, backend)


def dying(setting, backend):
    if setting.seed == 1:
        note("died", setting)
        os._exit(3)
    return noted(setting, backend)


def dying_once(setting, backend):
    """Of every seed 1 the first worker dies, a moment after it was begun."""
    first = str(setting) not in notes("begun")
    note("begun", setting)
    if setting.seed == 1 and first:
        os._exit(3)
    return {"setting": setting.fields, "backend": backend}


def threads(setting, backend):
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {"backend": backend, "threads": [os.environ.get(name) for name in names]}


def note(what, setting):
    with open(os.environ["STUDY_LOG"], "ab", buffering=0) as file:
        file.write(f"{what}\t{setting}\n".encode())


def notes(what):
    lines = Path(os.environ["STUDY_LOG"]).read_text().splitlines()
    return [line.split("\t")[1] for line in lines if line.startswith(what)]


if __name__ == "__main__":
    path, count, workers = sys.argv[1:]
    given = settings(int(count)), store.Store(Path(path)), "fake", int(workers)
    pool.run(*given, task=noted, prepare=nothing)
