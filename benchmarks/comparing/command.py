"""`python -m benchmarks compare`."""

import json
import sys
import time
from pathlib import Path

from . import audit, blocks, opening, published, table, verdicts

OFTEN = 10  # seconds between the lines of what is no terminal


def progress(text):
    """A line on the screen, over the last one where that is a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif time.monotonic() >= progress.next:
        progress.next = time.monotonic() + OFTEN
        print(text, file=sys.stderr, flush=True)


progress.next = 0


def compare(args):
    """`python -m benchmarks compare`: measures, prints and writes; returns the status."""
    try:
        return _compare(args)
    except TimeoutError as reason:
        print(f"NO VERDICT: {reason}; what is compiled is kept, and the same command goes on")
        return verdicts.NO_VERDICT


def _compare(args):
    until = time.monotonic() + 60 * args.budget
    folder = args.output and Path(args.output).resolve()
    if args.published:
        print(audit.render(audit.summed(published.read(args.published))))
        return verdicts.EQUAL
    if args.self_test:
        return _audit(args, folder, until)
    if not (args.base and args.head):
        raise ValueError("compare needs two commits, BASE and HEAD")
    known = opening.opened(args.base, args.head, args.only, progress, folder, until)
    blocks.measure(known, until, progress)
    print(file=sys.stderr)
    found = table.judged(known)
    print(f"{table.render(found)}\n\nEvery block is in {known.folder / 'blocks.jsonl'}")
    _write(found, args.json)
    _write(table.markdown(found), args.markdown)
    return found["status"]


def _audit(args, folder, until):
    commit = args.base or "HEAD"
    folder, measured = audit.measure(commit, args.self_test, args.only, folder, until, progress)
    total = audit.summed(measured)
    text = audit.render(total)
    print(f"\n{text}\n\nEvery block is in {folder}")
    _write(total, folder / "self-test.json", args.json)
    _write(text, folder / "self-test.txt", args.markdown)
    if not total:
        return verdicts.NO_VERDICT
    published.write(measured, folder)
    return verdicts.WORSE if audit.alarms(total) else verdicts.EQUAL


def _write(content, *paths):
    text = content if isinstance(content, str) else json.dumps(content, indent=1)
    for path in filter(None, paths):
        path.write_text(text + "\n", encoding="utf-8")
