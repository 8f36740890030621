"""A whole module held against the float64 reference, function by function: python -m benchmarks
check FILE.

A function in a dtype is a row. In a run by the command every row has a time limit, and what hangs
or crashes costs its own row: rows are judged by another process, of which a new one goes on.
"""

import itertools
import multiprocessing
import os
import signal
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

from reference import OPERATIONS

from ..reports.results import FAMILY_OF, Cell
from ..running import journal, replay
from ..suites import grid
from ..suites.suite import offers
from .cases import DTYPES, cases

PASSES, MISSING, SLOW = "passes", "missing", "slow"
BAD = (journal.WRONG, journal.FAILED, SLOW)
LIMIT = journal.LIMITS[journal.STARTED]  # seconds for a row, with what it has to compile


@dataclass(frozen=True)
class Verdict:
    """On a row: one of the words above; what is said of it; the case that it is about."""

    word: str
    says: str
    case: str = ""


def rows(module, only=()):
    """(the rows of what a module has, what of the catalogue it lacks), as far as `only` names it:
    families, functions, variants. Raises ValueError for an unknown name, and for no row at all.
    """
    known = {name: {FAMILY_OF[o.name], o.name, o.variant} for name, o in OPERATIONS.items()}
    if unknown := set(only) - set().union(*known.values()):
        raise ValueError(f"--only: there is no {', '.join(sorted(unknown))} in the catalogue")
    chosen = [name for name in OPERATIONS if not only or known[name] & set(only)]
    has = [name for name in chosen if offers(module, OPERATIONS[name])]
    if not has:
        functions = dict.fromkeys(OPERATIONS[name].name for name in chosen)
        raise ValueError(f"{module.__name__} has none of {', '.join(functions)}")
    return list(itertools.product(has, DTYPES)), [name for name in chosen if name not in has]


def judged(module, name, dtype, everything=False, began=lambda case: None):
    """The verdict on a row, which ends at the first case that is wrong.

    A case for which the function raises NotImplementedError is one that it does not offer. began:
    called with the name of each case.
    """
    passed, left = 0, []
    for asked in cases(OPERATIONS[name], dtype, everything):
        began(asked.name)
        try:
            complaint = asked.complaint(module)
        except NotImplementedError as reason:
            left.append(str(reason) or "NotImplementedError")
            continue
        except Exception as error:
            return Verdict(journal.FAILED, f"{type(error).__name__}: {error}", asked.name)
        if complaint:
            words = f" ({asked.words})" if asked.words else ""
            return Verdict(journal.WRONG, complaint + words, asked.name)
        passed += 1
    if not passed:
        return Verdict(MISSING, left[0])
    says = f"{passed} cases"
    return Verdict(PASSES, f"{says}; not offered: {len(left)} ({left[0]})" if left else says)


def line(name, dtype, verdict, module, file):
    """A row as it is printed, with the command that replays what is wrong."""
    text = f"{name:32} {dtype}  {verdict.word:7}  {verdict.says}"
    if verdict.word not in BAD:
        return text
    operation = OPERATIONS[name]
    cell = Cell(operation.name, operation.variant, verdict.case, dtype, None)
    return f"{text}\n    {replay.line(cell, module, file)}"


def show(file, only=(), everything=False, limit=LIMIT):
    """Checks a user's file, prints a line for every row as soon as it is known, and returns how
    many rows are bad. Raises ValueError where the file cannot be used.
    """
    module = grid.load(os.fspath(file))
    wanted, missing = rows(module, only)
    words = []
    for (name, dtype), verdict in _verdicts(file, wanted, everything, limit):
        print(line(name, dtype, verdict, Path(file).stem, file), flush=True)
        words.append(verdict.word)
    if missing:
        whole = [name for name in missing if not hasattr(module, OPERATIONS[name].name)]
        functions = dict.fromkeys(OPERATIONS[name].name for name in whole)
        names = ", ".join([*functions, *(name for name in missing if name not in whole)])
        print("\n" + textwrap.fill(f"missing: {names}", 100, subsequent_indent="    "))
    bad = sum(word in BAD for word in words)
    print(f"\n{words.count(PASSES)} pass, {bad} do not, {words.count(MISSING)} are not offered")
    return bad


def _verdicts(file, wanted, everything, limit):
    """(row, verdict) of all rows, in order."""
    spawning, done = multiprocessing.get_context("spawn"), 0
    while done < len(wanted):
        ours, theirs = spawning.Pipe(duplex=False)
        task = theirs, os.fspath(file), wanted[done:], everything, limit
        process = spawning.Process(target=_judge, args=task)
        process.start()
        theirs.close()
        case, began = "", time.monotonic()
        try:
            while done < len(wanted):
                said = ours.recv()
                if isinstance(said, Verdict):
                    yield wanted[done], said
                    done, case, began = done + 1, "", time.monotonic()
                else:
                    case = said
        except EOFError:
            process.join()
            late = time.monotonic() - began >= limit
            says = f"it took more than {limit:g} s" if late else f"died: {process.exitcode}"
            yield wanted[done], Verdict(SLOW if late else journal.FAILED, says, case)
            done += 1
        finally:
            process.kill()
            process.join()


def _judge(told, file, wanted, everything, limit):
    """What the other process does: tells the name of each case, and the verdict on each row."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends this one
    module = grid.load(file)
    for name, dtype in wanted:
        with journal.limited(journal.STARTED, limit):
            verdict = judged(module, name, dtype, everything, told.send)
        told.send(verdict)
