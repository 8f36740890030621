"""Up to which size the way for small work is taken: measured on the card, or else reckoned.

A session on a card (`python -m benchmarks record`) times both ways at a ladder of sizes and keeps
where they cross in results/<machine>/card.limits. For any other card the limits are those reckoned
here, for an H100, from estimates: a launch from Python costs some 10 us, a call of cuBLAS as much,
and a step of 20 of them some 200 us more than to launch its graph. cuBLAS reaches some 20 TFLOP/s
in float32 where products are small, the tiles half of it: over F operations they lose F / 20e12 s.

- cuBLAS leaves bias and activation to a second launch. The tiles lose as much over most_flops; and,
  where a block walks down the depth, 64 elements in half a microsecond from memory, most_depth.
- The products of a graph, all by tiles, lose 200 us over most_captured.
- One block takes some 16 multiply-adds a cycle out of shared memory, 27e9 a second, and a graph of
  16 launches some 30 us: about as long as 3 most_products multiply-adds.
"""

import contextlib
import json
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

from . import device

RECORDED = Path(__file__).resolve().parents[3] / "results"
FILE = "card.limits"  # {card: {limit: value}}, as JSON


@dataclass(frozen=True)
class Limits:
    """The limits, and whether they are reckoned or where they were kept."""

    most_flops: float = 2e8  # of a product by tiles
    most_depth: float = 1024
    most_products: float = 1 << 19  # weights times rows of a step in one block
    most_captured: float = 4e9  # operations of a step that is captured as a graph
    block_threads: int = 256  # of the block that trains a network, or 512
    origin: str = "reckoned"


def current():
    """The limits that hold now."""
    return _forced or of_card()


@cache
def of_card():
    """The limits of this card. What was not measured is as reckoned."""
    card, known = device.name(), {field.name for field in fields(Limits)}
    for path in sorted(RECORDED.glob(f"*/{FILE}")):
        if found := json.loads(path.read_text()).get(card):
            kept = {name: value for name, value in found.items() if name in known}
            return Limits(**kept, origin=f"measured: {path.parent.name}/{FILE}")
    return Limits()


@contextlib.contextmanager
def forced(**values):
    """These limits inside a with statement: 0 or infinity takes one way, whatever the size."""
    global _forced
    before, _forced = _forced, replace(current(), **values, origin="forced")
    try:
        yield
    finally:
        _forced = before


_forced = None
