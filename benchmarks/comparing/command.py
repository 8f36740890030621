"""`python -m benchmarks compare`."""

import json
import sys
import time

from . import blocks, comparison, table


def progress(text):
    """A line on the screen, over the last one where that is a terminal."""
    terminal = sys.stderr.isatty()
    end = "" if terminal else "\n"
    print(f"\r\033[K{text}" if terminal else text, end=end, file=sys.stderr, flush=True)


def compare(args):
    """`python -m benchmarks compare`: measures, prints and writes; returns the status."""
    until = time.monotonic() + 60 * args.budget
    known = comparison.opened(args.base, args.head, args.only, progress)
    try:
        blocks.measure(known, until, progress)
    finally:  # also what was finished before an interruption
        print(file=sys.stderr)
        found = table.judged(known)
        print(table.render(found))
        print(f"\nEvery block is in {known.folder / 'blocks.jsonl'}")
        for path, text in (
            (args.json, json.dumps(found, indent=1)),
            (args.markdown, table.markdown(found)),
        ):
            if path:
                path.write_text(text)
    return found["status"]
