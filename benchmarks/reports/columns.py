"""The columns of a report, one for each backend of a run: this machine's, and recorded ones.

A time stands in a column with its rate and share of the roof. Whatever is compared goes through
`Column.seconds`, which has none where another specification was timed.
"""

import dataclasses
import functools
import operator
from dataclasses import dataclass

import kernels

from .. import bench_network
from ..suites import training_step, workloads
from . import formats, results, roofline

FUNCTIONS = (*results.FAMILY_OF, bench_network.STEP, bench_network.EPOCH)
VARIANTS = [variant for _, variant in roofline.OPERATIONS]
DISTURBED = " ~"  # behind a time that was taken while the machine was held up
LAYERS = [*workloads.layers(), *training_step.NETWORKS]


@dataclass(frozen=True)
class Column:
    """One backend of one run: this machine's, or a recorded one's.

    roofs: by run and dtype, because an earlier time is held against the roof of its own run.
    beside: the run that it is compared with; a time of another specification than there is none.
    """

    label: str
    backend: str
    run: results.Run
    roofs: dict
    beside: results.Run

    def agrees(self, cell):
        """Whether the run beside which it stands timed the same thing."""
        return self.run.agrees(self.beside, cell.function)

    def seconds(self, cell):
        return self.run.times.get((cell, self.backend)) if self.agrees(cell) else None

    def entry(self, cell):
        """The median time, or why there is none; with a mark where an earlier run measured it, or
        where the machine was disturbed.
        """
        key = cell, self.backend
        seconds = self.seconds(cell)
        if seconds is not None:
            disturbed = DISTURBED if key in self.run.disturbed else ""
            return formats.duration(seconds) + disturbed + mark(self.run, key)
        if key in self.run.times:
            return f"spec. {self.run.specifications[cell.function]}"
        return self.run.verdicts.get(key, ("-", ""))[0] + mark(self.run, key)

    def transfer(self, cell):
        """Seconds of the way of a step's batch to the GPU; None where it was not timed."""
        return self.seconds(dataclasses.replace(cell, function=bench_network.TRANSFER))

    def with_transfer(self, cell):
        """Seconds of the transfer and the step; None where one of them was not timed."""
        both = self.transfer(cell), self.seconds(cell)
        return None if None in both else sum(both)

    def shown(self, function):
        """[(header, text of a cell)]: the time, of a network samples a second, rate, and roof."""
        parts = [(self.label, self.entry)]
        if function in (bench_network.STEP, bench_network.EPOCH):
            parts.append(("samples/s", lambda cell: formats.samples(cell, self.seconds(cell))))
        parts.append(("rate", lambda cell: self.against_roof(cell)[0]))
        return [*parts, ("roof", lambda cell: self.against_roof(cell)[1])]

    def roof(self, cell):
        """The roof of the run that timed the cell; None where it was not measured."""
        run = self.run.earlier.get((cell, self.backend), self.run)
        return self.roofs.get((run, cell.dtype))

    @functools.cached_property
    def launch(self):
        """Seconds of the shortest call on a device elsewhere: what launching takes; else None."""
        times = [
            seconds
            for (cell, backend), seconds in self.run.times.items()
            if backend == self.backend and cell.function in FUNCTIONS
        ]
        return min(times) if times and self.backend in self.run.elsewhere else None

    def is_launch_bound(self, cell):
        """Whether the roof allows the work in less time than the shortest call takes."""
        least = self.roof(cell) and self.roof(cell).seconds(cell)
        return None not in (least, self.launch) and least < self.launch

    def against_roof(self, cell):
        """The rate by the ceiling that binds, and the share of that ceiling."""
        return formats.against_roof(self.roof(cell), cell, self.seconds(cell))


@dataclass(frozen=True)
class View:
    """A run and what stands beside it.

    others: the CPU columns of other machines; missing: {backend without a column: why}.
    """

    run: results.Run
    cells: list
    cpus: list
    others: list
    gpus: list
    missing: dict

    @property
    def columns(self):
        return [*self.cpus, *self.others, *self.gpus]

    @property
    def devices(self):
        """[(name, its columns)]: a CPU has one for every backend, a GPU one."""
        found = {}
        for column in [*self.cpus, *self.others]:
            found.setdefault(column.run, []).append(column)
        cpus = [(_label("CPU of", run, found), columns) for run, columns in found.items()]
        return [*cpus, *((column.label, [column]) for column in self.gpus)]


def view(machine=None, folders=()):
    """This checkout's newest run beside those under results/, and those in further folders, whose
    cells are shown too. Where it has none (on this machine, where named), a recorded one takes its
    place.
    """
    named = [run for folder in folders for run in results.found(folder)]
    beside = list({_identity(r): r for r in [*results.recorded(), *named]}.values())
    run = results.newest(machine) or next((r for r in beside if machine in (None, r.machine)), None)
    if run is None:
        raise ValueError("there are no results yet: run python3 run.py bench")
    beside = [other for other in beside if _identity(other) != _identity(run)]
    cpus, gpus, missing = columns(run, beside)
    return View(run, cells_of(run, *named), cpus, others(run, beside), gpus, missing)


_identity = operator.attrgetter("machine", "commit", "finished")


def cells_of(*runs):
    """All cells of which anything is known, in the order of the reports; no ceiling among them."""
    known = {cell for run in runs for cell, _ in [*run.times, *run.verdicts]}
    return sorted((cell for cell in known if cell.function in FUNCTIONS), key=_place)


def _place(cell):
    """Where a cell stands among the others."""
    known = {name: place for place, name in enumerate([*VARIANTS, *LAYERS])}
    function, last = FUNCTIONS.index(cell.function), len(known)
    variant, layer = known.get(cell.variant, last), known.get(cell.layer, last)
    return function, cell.dtype, variant, layer, cell.layer, cell.batch or 0


def columns(run, recorded):
    """(CPU columns, GPU columns, {backend without a column: why}).

    A GPU column is one whose arrays lie elsewhere than in the host's memory. The first of our
    backends, the reference, is the first CPU column even where it was not timed.
    """
    timed = _backends(run)
    names = [name for name in kernels.BACKENDS if name in timed]
    names += [name for name in timed if name not in names]
    reference = next(iter(kernels.BACKENDS))
    host = list(dict.fromkeys([reference, *(n for n in names if n not in run.elsewhere)]))
    cpus = [_column(name, name, run, [*host, roofline.HOST], run) for name in host]
    gpus = [_column(name, name, run, [name], run) for name in names if name in run.elsewhere]
    for session in recorded:
        for name in (n for n in _backends(session) if n in session.elsewhere):
            label = _label(name, session, [run, *recorded])
            gpus.append(_column(label, name, session, [name], run))
    shown = {column.backend for column in [*cpus, *gpus]}
    return cpus, gpus, {name: _why_not(name) for name in kernels.BACKENDS if name not in shown}


def others(run, recorded):
    """The CPU columns of other machines, which take no part in a comparison with a GPU."""
    found = []
    for session in recorded:
        host = [name for name in _backends(session) if name not in session.elsewhere]
        for name in host:
            label = _label(name, session, [run, *recorded])
            found.append(_column(label, name, session, [*host, roofline.HOST], run))
    return found


def _label(name, run, runs):
    """A name with the machine, and with the time where several runs are of one of this name."""
    alike = [other for other in runs if other.machine == run.machine]
    when = f" {run.finished:%m-%d %H:%M}" if alike[1:] else ""
    return f"{name} {run.machine}{when}"


def _backends(run):
    """Those of whose kernels anything is known, in this order."""
    results = [*run.times, *run.verdicts]
    return list(dict.fromkeys(b for cell, b in results if cell.function not in roofline.CEILINGS))


def _column(label, backend, run, device, beside):
    runs, dtypes = dict.fromkeys([run, *run.earlier.values()]), ("float32", "float64")
    roofs = {(r, d): roofline.Roof.measured(r, device, d) for r in runs for d in dtypes}
    return Column(label, backend, run, {of: roof for of, roof in roofs.items() if roof}, beside)


def _why_not(backend):
    try:
        kernels.load(backend)
    except kernels.Unavailable as reason:
        return str(reason)
    return f"backend {backend}: it was not timed in this run"


def fastest_cpu(cell, cpus):
    """The least time of any CPU backend, or None."""
    return min((c.seconds(cell) for c in cpus if c.seconds(cell) is not None), default=None)


def mark(run, key):
    """ " [1]" where an earlier run measured this; empty where it is of this run."""
    other = run.earlier.get(key)
    return f" [{earlier_runs(run).index(other) + 1}]" if other else ""


def earlier_runs(run):
    """Those that results were taken from, the newest first."""
    runs = dict.fromkeys(run.earlier.values())
    return sorted(runs, key=lambda other: other.finished, reverse=True)
