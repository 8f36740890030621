"""One run of the study: a network trained in one setting, and what is kept of it.

A run ends after the epochs of its data (and has STEPS steps at least), earlier where the validation
loss has not become less for a part of them, the patience; the weights of the least validation loss
are then restored, and what it reaches is theirs. It has diverged where a loss is no number, or more
than LIMIT times that of guessing: then it reaches nothing.

All but the seconds is the same bit for bit, whatever ran it, on one kind of processor.
"""

import hashlib
import math

import numpy as np

import kernels

from . import data, grid, signals
from .observer import Observer

VERSION = 1  # raised when a run means something else than before
STEPS = 300  # at least, where an epoch has few
LIMIT = 10
PARTS = 8  # of an epoch, after which it is seen whether the target is reached
DIGITS = 6  # of what is kept of a number of a curve
ACROSS, EDGE = 41, 2.75  # points a side of the map of the plane, and where it ends
ORDER = 1  # the stream of the order of the rows; network.create draws from its seed's own


def run(setting, backend="numba"):
    """The record of a run, which JSON can keep.

    reached: accuracy and losses of the restored weights, None where it has diverged
    target_steps: steps until the validation accuracy first was that of the target, None if never
    curves: numbers by epoch, the first before any training; seconds: of the steps of each epoch
    digest: of the restored weights; map: of points, the probability of class 1 in the plane
    """
    with np.errstate(all="ignore"):  # of what diverges
        return _Run(setting, kernels.load(backend)).record() | {"backend": backend}


def step(setting, backend):
    """Whatever a run does, once: for a compiler to have done with it."""
    run = _Run(setting, kernels.load(backend))
    run.look()
    first = run.module.asarray(np.arange(run.batch))
    run.network.epoch(run.x, run.labels, first)
    run.network.load_state(run.network.state())


class _Run:
    def __init__(self, setting, module):
        rows, of = data.rows(setting.data), data.SETS[setting.data]
        self.setting, self.module, self.target = setting, module, of.target
        arrays = rows.x, rows.labels, rows.held_x, rows.held_labels
        self.x, self.labels, *self.held = map(module.asarray, arrays)
        self.count = len(rows.x)
        self.batch = self.count if setting.batch == grid.FULL else setting.batch
        self.steps = -(-self.count // self.batch)
        self.epochs, self.patience = budget(of, self.steps)
        self.limit = LIMIT * math.log(rows.classes)
        self.rng = np.random.default_rng([setting.seed, ORDER])
        sizes = (rows.x.shape[1], *setting.hidden, rows.classes)
        self.network = create(module, setting, sizes, self.batch)
        self.observer = Observer(module, sizes, setting.activation, self.x, self.labels)
        self.curves, self.seconds, self.target_steps = {}, [], None

    def record(self):
        """Trains, and says what became of it."""
        self.look()
        losses, best, state = self.curves["validation_loss"], 0, self.network.state()
        diverged = False
        for epoch in range(1, self.epochs + 1):
            self.train()
            self.look()
            # Not the other way round: no number is above a limit.
            of_epoch = self.curves["training_loss"][-1], losses[-1]
            diverged = not all(loss <= self.limit for loss in of_epoch)
            if diverged or epoch - best > self.patience:
                break
            if losses[-1] < losses[best]:
                best, state = epoch, self.network.state()
        self.network.load_state(state)
        parameters = {n: self.module.to_host(a) for n, a in self.network.parameters.items()}
        digest = hashlib.sha256(b"".join(parameters[name].tobytes() for name in sorted(parameters)))
        curves = self.curves
        return {
            "setting": self.setting.fields,
            "steps_an_epoch": self.steps,
            "diverged": len(losses) - 1 if diverged else None,
            "best": best,
            "reached": None if diverged else {name: curves[name][best] for name in REACHED},
            "target_steps": None if diverged else self.target_steps,
            "signals": signals.found(curves["training_loss"], losses),
            "curves": {name: rounded(values) for name, values in curves.items()},
            "seconds": rounded(self.seconds),
            "digest": digest.hexdigest(),
            "map": self.plane() if self.x.shape[1] == 2 and not diverged else None,
        }

    def train(self):
        """An epoch; where the target is not reached yet, in parts."""
        order, seconds, clock = self.rng.permutation(self.count), 0.0, self.module.timer
        part = -(-self.steps // PARTS) * self.batch
        done = (len(self.curves["training_loss"]) - 1) * self.steps
        for first in range(0, self.count, part):
            chosen = self.module.asarray(order[first : first + part])
            start = clock()
            self.network.epoch(self.x, self.labels, chosen)
            seconds += clock() - start
            done += -(-len(chosen) // self.batch)
            if self.target_steps is None and self.accuracy() >= self.target:
                self.target_steps = done
        self.seconds.append(seconds)

    def accuracy(self):
        return self.network.evaluate(*self.held)[1]

    def look(self):
        """Adds to the curves what there is to see now."""
        sets = {"training": (self.x, self.labels), "validation": self.held}
        seen = {}
        for name, rows in sets.items():
            loss, accuracy = self.network.evaluate(*rows)
            seen |= {f"{name}_loss": loss, f"{name}_accuracy": accuracy}
        for name, value in (seen | self.observer(self.network.parameters)).items():
            self.curves.setdefault(name, []).append(value)

    def plane(self):
        """A digit d for each point, row by row: the probability is in [d / 10, (d + 1) / 10]."""
        across = np.linspace(-EDGE, EDGE, ACROSS, dtype=np.float32)
        points = np.stack(np.meshgrid(across, across), axis=-1).reshape(-1, 2)
        logits = self.module.to_host(self.network.predict(self.module.asarray(points)))
        odds = np.clip(logits[:, 1] - logits[:, 0], -50, 50).astype(np.float64)
        tenths = np.minimum(10 / (1 + np.exp(-odds)), 9).astype(int)
        return "".join(map(str, tenths))


REACHED = tuple(
    f"{rows}_{what}" for rows in ("training", "validation") for what in ("loss", "accuracy")
)


def budget(of, steps):
    """(epochs, patience) of a run of so many steps an epoch on a data.Set."""
    epochs = max(of.epochs, -(-STEPS // steps))
    return epochs, -(-of.patience * epochs // of.epochs)


def create(module, setting, sizes, batch):
    """The network of a setting."""
    beta = {} if setting.beta is None else {"beta": setting.beta}
    return module.network.create(
        sizes,
        activations=setting.activation,
        optimizer=grid.METHODS[setting.method].rule,
        batch=batch,
        lr=setting.rate,
        seed=setting.seed,
        **grid.REGULARISATIONS[setting.regularisation],
        **beta,
    )


def rounded(values):
    """The numbers of a curve, or of its layers, as they are kept; None for what is no number."""
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return float(f"{values:.{DIGITS}g}") if math.isfinite(values) else None


def same(record):
    """What of a record is the same whatever ran it."""
    return {name: value for name, value in record.items() if name != "seconds"}
