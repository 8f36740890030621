"""How fast a kernel could be on the machine that ran it: its measured ceilings, the share reached.

A kernel of f operations and b bytes takes at least max(f / product, b / triad) seconds: `product`
is the rate of a 2048-square matrix product and `triad` the rate at which p -= lr g streams as many
bytes as the kernel, for what fits into a cache comes faster than what lies in main memory.
Source: Williams, Waterman and Patterson, Roofline, Communications of the ACM 52(4), 2009.
"""

import re
from dataclasses import dataclass

from reference import FAMILIES

from . import bench_network

OPERATIONS = {(op.name, op.variant): op for family in FAMILIES.values() for op in family}


def work(cell):
    """(operations, bytes) of one call: the fewest, by the specification."""
    if cell.function in (bench_network.STEP, bench_network.TRANSFER, bench_network.EPOCH):
        return bench_network.work(cell.function, cell.layer, cell.batch, cell.dtype)
    operation = OPERATIONS[cell.function, cell.variant]
    sizes = (cell.batch or 0, *map(int, re.search(r"(\d+)x(\d+)$", cell.layer).groups()))
    return operation.flops(*sizes), operation.bytes(*sizes, cell.dtype)


@dataclass(frozen=True)
class Roof:
    """The ceilings of one device in one dtype, each with the backend that reached it.

    product: (operations a second, backend); triads: [(bytes, bytes a second, backend)], ascending.
    """

    product: tuple
    triads: list

    @classmethod
    def measured(cls, run, backends, dtype):
        """The best of these backends in a run's roofline; None where it was not timed."""
        products, triads = [], {}
        for (cell, backend), seconds in run.fastest.items():
            if backend not in backends or cell.dtype != dtype:
                continue
            if cell.function == "product":
                side = cell.batch
                products.append((2 * side**3 / seconds, backend))
            elif cell.function == "triad":
                size = OPERATIONS["sgd", ""].bytes(0, int(cell.layer) - 1, 1, dtype)
                triads.setdefault(size, []).append((size / seconds, backend))
        if not products or not triads:
            return None
        return cls(max(products), [(size, *max(rates)) for size, rates in sorted(triads.items())])

    def bandwidth(self, size):
        """Bytes a second at which `size` bytes can be streamed.

        A smaller array lies in the same cache or a nearer one, so the best rate of any triad that
        is as large holds; for what exceeds them all, that of the largest.
        """
        return max(
            rate for bytes_, rate, _ in self.triads if bytes_ >= min(size, self.triads[-1][0])
        )

    def rate(self, cell, seconds):
        """(rate, its unit, share of the roof) by the ceiling that binds.

        What comes from the host has neither of these ceilings: its share is None.
        """
        flops, size = work(cell)
        if cell.function == bench_network.TRANSFER:
            return size / seconds, "B/s", None
        by_flops, by_bytes = flops / self.product[0], size / self.bandwidth(size)
        if by_flops > by_bytes:
            return flops / seconds, "FLOP/s", by_flops / seconds
        return size / seconds, "B/s", by_bytes / seconds

    def seconds(self, cell):
        """The least time that the roof allows."""
        flops, size = work(cell)
        return max(flops / self.product[0], size / self.bandwidth(size))
