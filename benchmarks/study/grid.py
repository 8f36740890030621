"""The grid of the study: its axes, each declared once, and the settings that are chosen of it.

A setting is one way to train one network once. Its name is made of a label for each axis,

    moons-0.2 32-16 relu none momentum beta=0.9 lr=0.01 batch=32 seed=0

and is what a finished run is kept under. Sources of the methods: Goodfellow, Bengio and Courville,
Deep Learning, MIT Press 2016, chapter 8.
"""

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from kernels.catalog import RULES

from . import data

FULL = "full"  # the batch of all training rows
BATCHES = (1, 16, 32, 128, FULL)
REGULARISATIONS = {  # of the network and what is learned: arguments of network.create
    "none": {},
    "dropout": {"dropout": 0.1},
    "l2": {"l2": 1e-3},
}


@dataclass(frozen=True)
class Method:
    """An update rule, and the batches with which it has this name."""

    rule: str
    batches: tuple = BATCHES

    @property
    def betas(self):
        """Whether the rule has a momentum of its own."""
        return "beta" in RULES[self.rule].settings


METHODS = {
    "batch_gd": Method("sgd", (FULL,)),
    "minibatch_sgd": Method("sgd", (16, 32, 128)),
    "stochastic_gd": Method("sgd", (1,)),
    **{rule: Method(rule) for rule in RULES if rule != "sgd"},
}
COURSE = (
    *("batch_gd", "minibatch_sgd", "stochastic_gd", "momentum", "nesterov"),
    *("adagrad", "rmsprop", "adam", "adamw"),
)


@dataclass(frozen=True)
class Setting:
    """One way to train one network once; `beta` is None where the method has none."""

    data: str
    hidden: tuple
    activation: str
    regularisation: str
    method: str
    beta: float | None
    rate: float
    batch: int | str
    seed: int

    def __str__(self):
        named = ((axis, getattr(self, axis)) for axis in AXES)
        return " ".join(AXES[axis].label(value) for axis, value in named if value is not None)

    def without(self, *axes):
        """What it has in common with those that differ from it along these axes alone."""
        return dataclasses.replace(self, **dict.fromkeys(axes))

    @property
    def fields(self):
        """What JSON keeps of it."""
        return {**dataclasses.asdict(self), "hidden": list(self.hidden)}

    @classmethod
    def of(cls, fields):
        """The setting that has been kept so."""
        return cls(**{**fields, "hidden": tuple(fields["hidden"])})


@dataclass(frozen=True)
class Axis:
    """every: the values that `--all` runs; more: those that run where they are named alone."""

    every: tuple
    label: Callable = str
    more: tuple = ()

    def named(self, name):
        """The values that a name stands for: a label, the kind of data, the rule of a method."""
        values = (*self.every, *self.more)
        return tuple(v for v in values if name in (self.label(v), *_wider(v)))

    @property
    def names(self):
        return {n for v in (*self.every, *self.more) for n in (self.label(v), *_wider(v))}


def _wider(value):
    """What else a value is called: "moons" for "moons-0.2", "sgd" for "batch_gd"."""
    if value in METHODS:
        return (METHODS[value].rule,)
    return (value.partition("-")[0],) if value in data.SETS else ()


AXES = {
    "data": Axis(tuple(n for n in data.SETS if n != data.LARGE), more=(data.LARGE,)),
    "hidden": Axis(((32, 16), (64, 32), (128, 64, 32)), lambda sizes: "-".join(map(str, sizes))),
    "activation": Axis(("relu", "leaky_relu", "prelu", "elu")),
    "regularisation": Axis(tuple(REGULARISATIONS)),
    "method": Axis(COURSE, more=tuple(name for name in METHODS if name not in COURSE)),
    "beta": Axis((0.5, 0.9, 0.99), "beta={}".format),
    "rate": Axis((0.001, 0.01, 0.05, 0.1), "lr={}".format),
    "batch": Axis(BATCHES, "batch={}".format),
    "seed": Axis((0, 1, 2), "seed={}".format),
}
EVERYTHING = {name: axis.every for name, axis in AXES.items()}
# What is run unless told otherwise: the methods, and beside them activations and regularisation.
# Where no hidden layers are named, they are those of the data.
_PLAIN = {
    **EVERYTHING,
    "data": ("moons-0.2", "circles-0.2", "digits"),
    "hidden": None,
    "activation": ("relu",),
    "regularisation": ("none",),
    "beta": (0.9,),
}
_FEW = {**_PLAIN, "method": ("minibatch_sgd", "momentum", "adam"), "batch": (32,)}
DEFAULT = (
    _PLAIN,
    {**_FEW, "activation": EVERYTHING["activation"]},
    {**_FEW, "rate": (0.01,), "regularisation": EVERYTHING["regularisation"]},
)


def settings(everything=False, only=()):
    """The settings of the default slice, or all; each once, in the order of the axes.

    only: names of values. Along an axis of which one is named, the named ones take the place of
    what would be run. Raises ValueError for a name that no axis has, and where nothing is left.
    """
    narrowed = {}
    for name in only:
        found = {axis: values for axis, of in AXES.items() if (values := of.named(name))}
        if not found:
            known = ", ".join(sorted(set().union(*(axis.names for axis in AXES.values()))))
            raise ValueError(f"--only: no {name} in the study, but {known}")
        for axis, values in found.items():
            narrowed[axis] = (*narrowed.get(axis, ()), *values)
    slices = (EVERYTHING,) if everything else DEFAULT
    chosen = dict.fromkeys(s for each in slices for s in product({**each, **narrowed}))
    if not chosen:
        raise ValueError(f"--only: no method takes what is named: {' '.join(only)}")
    return list(chosen)


def product(values):
    """The settings of these values along every axis, as far as the methods take them."""
    for name in values["data"]:
        hidden = values["hidden"] or (data.SETS[name].hidden,)
        axes = {**values, "data": (name,), "hidden": hidden}
        for combined in itertools.product(*(axes[axis] for axis in AXES)):
            setting = Setting(**dict(zip(AXES, combined, strict=True)))
            method = METHODS[setting.method]
            if setting.batch not in method.batches:
                continue
            if method.betas:
                yield setting
            elif setting.beta == values["beta"][0]:
                yield dataclasses.replace(setting, beta=None)
