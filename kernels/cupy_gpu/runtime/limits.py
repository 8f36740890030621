"""Up to which size the way for small work is taken, as a session on a card has measured it.

A session (`python -m benchmarks record`) times both ways at a ladder of sizes and keeps where they
cross in results/<machine>/card.limits. The limits written here are those of an H200, the first card
measured; they hold for any other until it has its own. What was seen there:

- A captured step won at every size, 2.7 to 6.6 times faster than one queued kernel by kernel.
- One block trained faster than a chain of kernels up to 90 thousand multiply-adds (68 against 100
  us), and slower from 360 thousand on (146 against 120 us); with 512 threads up to 1.3 times faster
  than with 256.
- Products by tiles won while the host's time for a second launch (cuBLAS leaves bias and activation
  to one) was more than cuBLAS saved: up to 1024 x 256 x 1024. At 1024 x 2048 x 1024 cuBLAS was 1.9
  times faster.
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
    """The limits, and on which card or where they were measured."""

    most_flops: float = 536_870_912  # of a product by tiles
    most_depth: float = 256
    most_products: float = 90_112  # weights times rows of a step in one block
    most_captured: float = 4_108_320_768  # operations of a step that is captured as a graph
    block_threads: int = 512  # of the block that trains a network, or 256
    origin: str = "of another card, an H200"


def current():
    """The limits that hold now."""
    return _forced or of_card()


@cache
def of_card():
    """The limits of this card, as far as they were measured."""
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
