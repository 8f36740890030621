"""`python -m benchmarks compare`."""

import json
import sys
import time

from . import audit, blocks, comparison, table, verdicts


def progress(text):
    """A line on the screen, over the last one where that is a terminal."""
    terminal = sys.stderr.isatty()
    end = "" if terminal else "\n"
    print(f"\r\033[K{text}" if terminal else text, end=end, file=sys.stderr, flush=True)


def compare(args):
    """`python -m benchmarks compare`: measures, prints and writes; returns the status."""
    until = time.monotonic() + 60 * args.budget
    if args.self_test:
        return _audit(args, until)
    if not (args.base and args.head):
        raise ValueError("compare needs two commits, BASE and HEAD")
    known = comparison.opened(args.base, args.head, args.only, progress)
    try:
        blocks.measure(known, until, progress)
    finally:  # also what was finished before an interruption
        print(file=sys.stderr)
        found = table.judged(known)
        print(table.render(found))
        print(f"\nEvery block is in {known.folder / 'blocks.jsonl'}")
        _write(args, found, table.markdown(found))
    return found["status"]


def _audit(args, until):
    measured = audit.measure(args.base or "HEAD", args.self_test, args.only, until, progress)
    total = audit.summed(measured)
    text = audit.render(total)
    print(f"\n{text}\n\nEvery block is in:")
    print(
        *(known.folder / "blocks.jsonl" for found in measured.values() for known in found), sep="\n"
    )
    _write(args, total, text)
    return verdicts.WORSE if audit.alarms(total) else verdicts.EQUAL


def _write(args, numbers, text):
    for path, content in ((args.json, json.dumps(numbers, indent=1)), (args.markdown, text)):
        if path:
            path.write_text(content + "\n", encoding="utf-8")
