"""The blocks of a self-test in one file, small enough to be published, to be judged by anyone."""

import json
import lzma

from . import comparison

FILE = "self-test.json.xz"


def write(measured, folder):
    """Writes the comparisons of an audit, {factor: [Comparison]}; returns the file.

    Of each side of a block it keeps the time that counts; the turns are in blocks.jsonl.
    """
    first, *_ = every = [known for found in measured.values() for known in found]
    content = {
        "of": first.of(),
        "cells": first.cells,
        "comparisons": [
            {"slowed": known.slowed, "blocks": [_short(block) for block in known.blocks]}
            for known in every
        ],
    }
    text = json.dumps(content, separators=(",", ":"))
    path = folder / FILE
    path.write_bytes(lzma.compress(text.encode(), preset=9))
    return path


def read(path):
    """{factor: [Comparison]}, as `write` took them."""
    content, measured = json.loads(lzma.decompress(path.read_bytes())), {}
    for each in content["comparisons"]:
        known = comparison.Comparison(
            path.parent, path.parent, tuple(content["of"]["commits"]), **each
        )
        known.cells = comparison.slowed_down(content["cells"], known.slowed)
        measured.setdefault(known.slowed or 1, []).append(known)
    return measured


def _short(block):
    times = {
        name: ((0, 1), comparison.times(order, seconds))
        for name, (order, seconds) in block["times"].items()
    }
    return {**block, "times": times}
