"""How fast a kernel could be on the machine that ran it: its measured ceilings, the share reached.

A kernel of f operations and b bytes takes at least max(f / arithmetic, b / triad) seconds. On the
CPU `arithmetic` is the rate of multiply-adds from registers, and `triad` the rate at which a += s b
streams as many bytes as the kernel, for what fits into a cache comes faster than what lies in main
memory; no kernel of ours takes part in either. On a device elsewhere `arithmetic` is the rate of a
2048-square matrix product and `triad` that of p -= lr g, both by the backend itself. An operation
that permits TF32 is held against the same product in TF32, and against nothing where that was not
timed.
Source: Williams, Waterman and Patterson, Roofline, Communications of the ACM 52(4), 2009.
"""

import re
from dataclasses import dataclass

import numpy as np

from reference import FAMILIES

from .. import bench_network
from ..suites import ceilings, workloads
from . import results

HOST = "the CPU"  # stands in a backend's place where the CPU itself is measured
CEILINGS = ("multiply_add", "stream", "product", "product_tf32", "triad")
OPERATIONS = {(op.name, op.variant): op for family in FAMILIES.values() for op in family}


def work(cell):
    """(operations, bytes) of one call: the fewest, by the specification."""
    if cell.function in (bench_network.STEP, bench_network.TRANSFER, bench_network.EPOCH):
        return bench_network.work(cell.function, cell.layer, cell.batch, cell.dtype)
    operation = OPERATIONS[cell.function, cell.variant]
    fan_in, fan_out = map(int, re.search(r"(\d+)x(\d+)$", cell.layer).groups())
    sizes = {"batch": cell.batch or 0, "fan_in": fan_in, "fan_out": fan_out}
    sizes |= workloads.MORE.get(results.FAMILY_OF[cell.function], {})
    return operation.flops(**sizes), operation.bytes(cell.dtype, **sizes)


@dataclass(frozen=True)
class Roof:
    """The ceilings of one device in one dtype, each with the backend that reached it.

    arithmetic: (operations a second, how); triads: [(bytes, bytes a second, by whom)], ascending;
    tf32: as arithmetic, of products in TF32, or None.
    """

    arithmetic: tuple
    triads: list
    tf32: tuple | None = None

    @classmethod
    def measured(cls, run, backends, dtype):
        """The best of these backends in a run's roofline; None where it was not timed."""
        rates, in_tf32, triads = [], [], {}
        for (cell, backend), seconds in run.fastest.items():
            if backend not in backends or cell.dtype != dtype:
                continue
            match cell.function:
                case "multiply_add":
                    rates.append((int(cell.layer) / seconds, "multiply-adds from registers"))
                case "product" | "product_tf32":
                    found = rates if cell.function == "product" else in_tf32
                    found.append(
                        (2 * cell.batch**3 / seconds, f"product by {backend}, not the peak")
                    )
                case "stream":
                    size = 3 * int(cell.layer) * np.dtype(dtype).itemsize
                    rate = size * ceilings.passes(int(cell.layer)) / seconds
                    triads.setdefault(size, []).append((rate, backend))
                case "triad":
                    size = OPERATIONS["sgd", ""].bytes(dtype, fan_in=int(cell.layer) - 1, fan_out=1)
                    triads.setdefault(size, []).append((size / seconds, backend))
        if not rates or not triads:
            return None
        streams = [(size, *max(found)) for size, found in sorted(triads.items())]
        return cls(max(rates), streams, max(in_tf32, default=None))

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

        What comes from the host has neither of these ceilings, and what is multiplied in TF32 may
        lack one: its share is None.
        """
        flops, size = work(cell)
        if cell.function == bench_network.TRANSFER:
            return size / seconds, "B/s", None
        arithmetic = self._arithmetic(cell)
        if arithmetic is None:
            return flops / seconds, "FLOP/s", None
        by_flops, by_bytes = flops / arithmetic[0], size / self.bandwidth(size)
        if by_flops > by_bytes:
            return flops / seconds, "FLOP/s", by_flops / seconds
        return size / seconds, "B/s", by_bytes / seconds

    def seconds(self, cell):
        """The least time that the roof allows; None where it is not known."""
        (flops, size), arithmetic = work(cell), self._arithmetic(cell)
        return arithmetic and max(flops / arithmetic[0], size / self.bandwidth(size))

    def _arithmetic(self, cell):
        """The ceiling of products such as the cell's, or None where it was not measured."""
        operation = OPERATIONS.get((cell.function, cell.variant))
        return self.tf32 if operation and operation.precision else self.arithmetic
