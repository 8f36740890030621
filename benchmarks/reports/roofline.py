"""How fast a kernel could be on the machine that ran it: its measured ceilings, the share reached.

A kernel of f operations and b bytes takes at least max(f / arithmetic, b / bandwidth) seconds. On
the CPU `arithmetic` is the rate of multiply-adds from registers, and `bandwidth` the best rate at
which arrays of as many bytes as the kernel's are read, written, copied or added to each other, for
what fits into a cache comes faster than what lies in main memory; no kernel of ours takes part in
either. A device elsewhere is measured by the backend itself: by a 2048-square matrix product and by
p -= lr g. An operation that permits TF32 is held against the same product in TF32, and against
nothing where that was not timed.
Source: Williams, Waterman and Patterson, Roofline, Communications of the ACM 52(4), 2009.

What exceeds these ceilings was not done: such a time is implausible.
"""

import functools
import re
from dataclasses import dataclass

import numpy as np

from reference import FAMILIES, Case
from reference.spec import arrays_of

from .. import bench_network
from ..suites import ceilings, workloads
from . import formats

HOST = "the CPU"  # stands in a backend's place where the CPU itself is measured
CEILINGS = (
    *("multiply_add", "multiply_add_alone", "stream", "stream_alone"),
    *("product", "product_tf32", "triad"),
)
OPERATIONS = {(op.name, op.variant): op for family in FAMILIES.values() for op in family}
FAMILY_OF = {operation.name: family for family, ops in FAMILIES.items() for operation in ops}
# By how much a rate may exceed its ceiling: a device elsewhere has none but its own kernels'.
MARGIN, MARGIN_ELSEWHERE = 1.05, 2.0


NETWORK = (bench_network.STEP, bench_network.TRANSFER, bench_network.EPOCH)


def work(cell):
    """(operations, bytes) of one call: the fewest, by the specification."""
    if cell.function in NETWORK:
        return bench_network.work(cell.function, cell.layer, cell.batch, cell.dtype)
    operation = OPERATIONS[cell.function, cell.variant]
    fan_in, fan_out = map(int, re.search(r"(\d+)x(\d+)$", cell.layer).groups())
    sizes = {"batch": cell.batch or 0, "fan_in": fan_in, "fan_out": fan_out}
    sizes |= workloads.MORE.get(FAMILY_OF[cell.function], {})
    return operation.flops(**sizes), operation.bytes(cell.dtype, **sizes)


def footprint(cell):
    """Bytes that the arrays of a call take at least: one that is updated in place is moved twice.

    An epoch goes over the same parameters in every step.
    """
    if cell.function in NETWORK:
        return bench_network.work(bench_network.STEP, cell.layer, cell.batch, cell.dtype)[1] / 2
    return work(cell)[1] * _held(OPERATIONS[cell.function, cell.variant])


@functools.cache
def _held(operation):
    """Bytes of the arrays over bytes moved, by the arrays of a small call."""
    if not operation.in_place:
        return 1.0
    sizes = {"batch": 8, "fan_in": 16, "fan_out": 16} | workloads.MORE.get(
        FAMILY_OF[operation.name], {}
    )
    inputs = operation.sample(np.random.default_rng(0), Case("held", sizes, vary=False))
    results = operation.collect(inputs, operation.function(**inputs))
    held = {id(array): array.nbytes for array in (*arrays_of(inputs), *results)}
    return min(1.0, sum(held.values()) / operation.bytes("float32", **sizes))


@dataclass(frozen=True)
class Roof:
    """The ceilings of one device in one dtype, each with the backend that reached it.

    arithmetic: (operations a second, how); streams: [(bytes of the arrays, bytes moved a second in
    the best way)], ascending; tf32: as arithmetic, of products in TF32, or None.
    """

    arithmetic: tuple
    streams: list
    tf32: tuple | None = None

    @classmethod
    def measured(cls, run, backends, dtype):
        """The best of these backends in a run's roofline; None where it was not timed."""
        rates, in_tf32, streams = [], [], {}
        for (cell, backend), seconds in run.fastest.items():
            if backend not in backends:
                continue
            if cell.function in ("stream", "stream_alone"):  # of every dtype
                size = int(cell.layer)
                rate = ceilings.moved(cell.variant, size) / seconds
                streams[size] = max(rate, streams.get(size, 0))
            elif cell.dtype == dtype:
                match cell.function:
                    case "multiply_add" | "multiply_add_alone":
                        rate = int(cell.layer) / seconds
                        rates.append((rate, "multiply-adds from registers"))
                    case "product" | "product_tf32":
                        found = rates if cell.function == "product" else in_tf32
                        found.append(
                            (2 * cell.batch**3 / seconds, f"product by {backend}, not the peak")
                        )
                    case "triad":
                        array = int(cell.layer) * np.dtype(dtype).itemsize
                        streams[2 * array] = max(3 * array / seconds, streams.get(2 * array, 0))
        if not rates or not streams:
            return None
        return cls(max(rates), sorted(streams.items()), max(in_tf32, default=None))

    def bandwidth(self, footprint):
        """Bytes a second at which arrays of so many bytes can be streamed, in the best way.

        Between two footprints that were measured holds what the smaller one reached: it lies in the
        same cache or in a nearer one. Whatever is larger and was faster holds for it as well.
        """
        first = max((k for k, (size, _) in enumerate(self.streams) if size <= footprint), default=0)
        return max(rate for _, rate in self.streams[first:])

    def levels(self):
        """[(bytes, bytes a second)]: the bandwidth up to each footprint, those that are within a
        fifth of each other as one.
        """
        found = []
        for size, _ in self.streams:
            rate = self.bandwidth(size)
            if found and rate > 0.8 * found[-1][1]:
                rate = found.pop()[1]
            found.append((size, rate))
        return found

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
        by_flops, by_bytes = flops / arithmetic[0], size / self.bandwidth(footprint(cell))
        if by_flops > by_bytes:
            return flops / seconds, "FLOP/s", by_flops / seconds
        return size / seconds, "B/s", by_bytes / seconds

    def seconds(self, cell):
        """The least time that the roof allows; None where it is not known."""
        (flops, size), arithmetic = work(cell), self._arithmetic(cell)
        return arithmetic and max(flops / arithmetic[0], size / self.bandwidth(footprint(cell)))

    def _arithmetic(self, cell):
        """The ceiling of products such as the cell's, or None where it was not measured."""
        operation = OPERATIONS.get((cell.function, cell.variant))
        return self.tf32 if operation and operation.precision else self.arithmetic


def implausible(run):
    """{(cell, backend): why} of the times of a run that are less than its ceilings allow.

    Nothing is said of a cell whose ceilings were not timed.
    """
    found, roofs = {}, {}
    for (cell, backend), seconds in run.times.items():
        known = cell.function in NETWORK or (cell.function, cell.variant) in OPERATIONS
        if not known or cell.function == bench_network.TRANSFER:
            continue
        elsewhere, device = backend in run.elsewhere, _device(run, backend)
        if (device, cell.dtype) not in roofs:
            roofs[device, cell.dtype] = Roof.measured(run, [device], cell.dtype)
        roof = roofs[device, cell.dtype]
        least, margin = roof and roof.seconds(cell), MARGIN_ELSEWHERE if elsewhere else MARGIN
        if least and least > margin * seconds:
            least, seconds = formats.duration(least), formats.duration(seconds)
            found[cell, backend] = f"{seconds} where the measured ceilings allow {least} at best"
    return found


def disturbed(run, backend):
    """The worst disturbance of the ceilings of a backend's device, () where there was none."""
    device = _device(run, backend)
    found = (why for (cell, of), why in run.disturbed.items()
             if of == device and cell.function in CEILINGS)  # fmt: skip
    return max(found, default=())


def _device(run, backend):
    """In whose name the ceilings of a backend's device were timed."""
    return backend if backend in run.elsewhere else HOST
