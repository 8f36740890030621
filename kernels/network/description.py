"""What the backends share of a network: its arguments, checked, and where its parameters lie."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import arguments
from ..catalog import (
    ABOVE_ZERO,
    ACTIVATIONS,
    FRACTION,
    LOSSES,
    PRELU_SLOPE,
    RULES,
    SEEDS,
    Number,
    maxout_gain,
)

NORMALIZATIONS = "batch_norm", "layer_norm"
ALIGNMENT = 64  # bytes: a cache line, and the widest vector


@dataclass(frozen=True)
class Network:
    """What a network is, checked and with all defaults filled in; where its parameters lie.

    All parameters lie in one flat array of `size` elements, and so do gradients and each state:
    `places` has {"layer0.weight": (start, shape), ...}, every start at a multiple of ALIGNMENT
    bytes. What lies between is zero and stays zero under every rule. pieces: of each layer's units,
    1 where it is no maxout; a maxout layer's activation is the identity.
    """

    sizes: tuple
    activations: tuple
    loss: str
    optimizer: str
    states: tuple
    settings: dict
    batch: int
    dtype: np.dtype
    precision: str | None
    seed: int
    label_smoothing: float
    weight_decay: float
    l2: float
    clip_value: float | None
    clip_norm: float | None
    schedule: Callable | None
    normalization: str | None
    dropout: float
    residual: bool
    pieces: tuple
    places: dict
    size: int

    def views(self, flat):
        """The parts of a flat array, by name."""
        return {
            name: flat[start : start + math.prod(shape)].reshape(shape)
            for name, (start, shape) in self.places.items()
        }

    def hidden(self, layer):
        return layer < len(self.activations) - 1

    def width(self, layer):
        """How many numbers its product gives a row: all pieces of its units."""
        return self.sizes[layer + 1] * self.pieces[layer]

    def outputs(self, layer):
        """The shape of what it has for each of these."""
        return _outputs(self.sizes, self.pieces, layer)

    def normalization_of(self, layer):
        return self.normalization if self.hidden(layer) else None

    def bias_of(self, layer):
        """The name of its bias, None where a normalisation shifts its units."""
        return None if self.normalization_of(layer) else f"layer{layer}.bias"

    def shift_of(self, layer):
        """The name of what shifts its units."""
        return self.bias_of(layer) or f"layer{layer}.beta"

    def drops(self, layer):
        return self.hidden(layer) and self.dropout > 0

    def skips(self, layer):
        """Whether its input is added to its output."""
        return _skips(self.sizes, layer, self.residual)

    def running(self):
        """Batch norm's running statistics at the start, by name."""
        if self.normalization != "batch_norm":
            return {}
        return {
            f"layer{layer}.running_{name}": np.full(self.outputs(layer), value, self.dtype)
            for layer in range(len(self.sizes) - 2)
            for name, value in (("mean", 0), ("variance", 1))
        }

    def initial(self):
        """The flat parameters at the start, see reference.network.initial, as a host array."""
        rng, flat = np.random.default_rng(self.seed), np.zeros(self.size, self.dtype)
        for name, view in self.views(flat).items():
            layer, part = name.removeprefix("layer").split(".")
            if part == "weight":
                fan_in, *_, fan_out = view.shape
                gain = self._weight_gain(int(layer))
                variance = gain / fan_in if gain else 2 / (fan_in + fan_out)
                view[:] = rng.standard_normal(view.shape) * variance**0.5
            elif part == "slope":
                view[:] = PRELU_SLOPE
            elif part == "gamma":
                view[:] = 1
        return flat

    def _weight_gain(self, layer):
        if self.pieces[layer] > 1:
            return maxout_gain(self.pieces[layer])
        return ACTIVATIONS[self.activations[layer]].weight_gain

    def rates(self, steps, count):
        """The learning rates of the `count` steps that follow the first `steps`."""
        lr = self.settings["lr"]
        if self.schedule is None:
            return [lr] * count
        numbers = range(steps + 1, steps + count + 1)
        factors = [(f"schedule({n})", self.schedule(n)) for n in numbers]
        return [lr * arguments.number(name, factor, Number()) for name, factor in factors]

    def running_views(self, flat):
        """The parts of a flat array of all running statistics, flat too, by name."""
        views, start = {}, 0
        for name, array in self.running().items():
            views[name] = flat[start : start + array.size]
            start += array.size
        return views

    def norms(self, flat):
        """(layers, 2): the Euclidean norms of the gradients in a flat host array."""
        views = self.views(flat.astype(np.float64))
        layers = range(len(self.activations))
        names = [(f"layer{layer}.weight", self.shift_of(layer)) for layer in layers]
        return np.array([[np.linalg.norm(views[name]) for name in both] for both in names])

    def state(self, steps, seed, flats, running):
        """The mapping that `state` returns, from the flat host arrays of parameters and states."""
        arrays = {"steps": np.array(steps)}
        if self.dropout > 0:
            arrays["seed"] = np.array(seed, np.uint64)
        for suffix, flat in zip(("", *self.states), flats, strict=True):
            for name, view in self.views(flat).items():
                arrays[f"{name}.{suffix}" if suffix else name] = view.copy()
        shapes = {name: array.shape for name, array in self.running().items()}
        return arrays | {name: np.array(running[name]).reshape(s) for name, s in shapes.items()}

    def load(self, source):
        """(steps, seed, flat host arrays, flat running statistics by name) of a mapping that
        `state` returned or of an npz file.
        """
        if not hasattr(source, "keys"):
            with np.load(source) as file:
                source = dict(file)
        flats = [np.zeros(self.size, self.dtype) for _ in ("", *self.states)]
        wanted = self.running()
        running, numbers = dict(wanted), {"steps": None}
        if self.dropout > 0:
            numbers["seed"] = None
        for suffix, flat in zip(("", *self.states), flats, strict=True):
            for name, view in self.views(flat).items():
                wanted[f"{name}.{suffix}" if suffix else name] = view
        if set(source) != {*numbers, *wanted}:
            strange = ", ".join(sorted(set(source) ^ {*numbers, *wanted}))
            raise ValueError(f"source must hold the state of such a network; different: {strange}")
        for name, view in wanted.items():
            given = np.asarray(source[name])
            if given.shape != view.shape or given.dtype != self.dtype:
                raise ValueError(
                    f"source must hold {name} as {self.dtype} of shape {view.shape}, "
                    f"got {given.dtype} of shape {given.shape}"
                )
            view[...] = given
        for name in numbers:
            number = np.asarray(source[name])
            if number.shape != () or number.dtype.kind not in "iu" or number < 0:
                raise ValueError(f"source must hold {name} as a number from 0 on, got {number!r}")
            numbers[name] = int(number)
        running = {name: array.ravel() for name, array in running.items()}
        return numbers["steps"], numbers.get("seed", self.seed), flats, running

    def rows(self, x, kind, most=None):
        """The number of rows of x; at most `most`, where given."""
        if not isinstance(x, kind):
            raise TypeError(
                f"x must be a {arguments.type_name(kind)}, got {arguments.type_name(type(x))}"
            )
        shape = x.shape
        if len(shape) != 2 or shape[1] != self.sizes[0] or shape[0] == 0:
            raise ValueError(f"x must have shape (rows, {self.sizes[0]}), got {shape}")
        rows = shape[0]
        if most is not None and rows > most:
            raise ValueError(f"x must have at most batch = {most} rows, got {rows}")
        arguments.array("x", x, kind, self.dtype, shape)
        return rows

    def labels(self, value, kind, count):
        """Labels of `count` rows, as the loss takes them; their range is the kernel's to check."""
        if self.loss == "softmax_cross_entropy":
            arguments.labels("labels", value, kind, count)
        else:
            arguments.array("labels", value, kind, self.dtype, (count, self.sizes[-1]))

    def labels_in_range(self, labels):
        """Whether every label of a host array is one that the loss knows."""
        if self.loss == "mean_squared_error":
            return True
        high = self.sizes[-1] - 1 if self.loss == "softmax_cross_entropy" else 1
        return bool(((labels >= 0) & (labels <= high)).all())

    def label_out_of_range(self):
        """The error of a label that the loss does not know."""
        if self.loss == "softmax_cross_entropy":
            return arguments.label_out_of_range("labels", self.sizes[-1])
        return ValueError(f"labels must be from 0 to 1 for {self.loss}, got one outside")


def stepped_by_two_threads():
    """The error of a second thread that begins a step of a network before the first has ended."""
    return RuntimeError(
        "a step of this network is being taken in another thread: give each thread its own network"
    )


def checked(
    sizes,
    activations,
    loss,
    optimizer,
    batch,
    lr,
    dtype,
    precision,
    seed,
    label_smoothing,
    weight_decay,
    l2,
    clip_value,
    clip_norm,
    schedule,
    normalization,
    dropout,
    residual,
    pieces,
    settings,
):
    """The Network of these arguments of `network.create`; see reference.network.create."""
    if not isinstance(sizes, tuple | list) or len(sizes) < 2:
        raise ValueError(f"sizes must be a tuple of at least 2 layer sizes, got {sizes!r}")
    sizes = tuple(arguments.step("sizes", size) for size in sizes)
    hidden = len(sizes) - 2
    if isinstance(activations, str):
        activations = (activations,) * hidden
    elif not isinstance(activations, tuple | list) or len(activations) != hidden:
        raise ValueError(f"activations must be one name or {hidden} of them, got {activations!r}")
    names = [name for name, a in ACTIVATIONS.items() if a.learned or arguments.plain(name, None)]
    names.append("maxout")
    for name in activations:
        arguments.one_of("activations", name, names)
    activations = (*activations, "identity")
    pieces = arguments.integer("pieces", pieces, 2)
    pieces = tuple(pieces if name == "maxout" else 1 for name in activations)
    activations = tuple("identity" if name == "maxout" else name for name in activations)
    arguments.one_of("loss", loss, LOSSES)
    arguments.one_of("optimizer", optimizer, RULES)
    declared, settings = RULES[optimizer].settings, {"lr": lr, **settings}
    if weight_decay is not None and "weight_decay" in declared:
        settings["weight_decay"], weight_decay = weight_decay, None
    for name, value in settings.items():
        if name not in declared:
            known = ", ".join(set(declared) - {"lr"})
            needs = f"one of {known}" if known else "left out"
            raise TypeError(f"{name} must be {needs} for {optimizer}, got {value!r}")
    settings = {
        name: arguments.number(name, settings.get(name, allowed.default), allowed)
        for name, allowed in declared.items()
    }
    if dtype not in arguments.FLOATS:  # NumPy compares names, types and dtypes alike
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")
    precision = arguments.precision(precision, np.dtype(dtype))
    seed = arguments.integer("seed", seed, 0, SEEDS)
    smoothing = arguments.number("label_smoothing", label_smoothing, FRACTION)
    if smoothing > 0 and loss == "mean_squared_error":
        raise ValueError(f"label_smoothing must be 0 for mean_squared_error, got {label_smoothing}")
    decay = arguments.number("weight_decay", 0 if weight_decay is None else weight_decay, Number())
    limits = {"clip_value": clip_value, "clip_norm": clip_norm}
    for name, limit in limits.items():
        if limit is not None:
            limits[name] = arguments.number(name, limit, Number(low=ABOVE_ZERO))
    if schedule is not None and not callable(schedule):
        raise TypeError(f"schedule must be a function of the step or None, got {schedule!r}")
    if normalization is not None:
        arguments.one_of("normalization", normalization, NORMALIZATIONS)
    dropout = arguments.number("dropout", dropout, FRACTION)
    if not isinstance(residual, bool):
        raise TypeError(f"residual must be True or False, got {residual!r}")
    if residual and not any(_skips(sizes, layer, True) for layer in range(hidden)):
        raise ValueError(
            f"residual needs a hidden layer as wide as its input, got sizes {sizes}: leave it out"
        )
    dtype = np.dtype(dtype)
    normalized = normalization is not None
    unit = ALIGNMENT // dtype.itemsize
    places, size = _places(sizes, activations, pieces, unit, normalized)
    return Network(
        sizes,
        activations,
        loss,
        optimizer,
        RULES[optimizer].states,
        settings,
        arguments.step("batch", batch),
        dtype,
        precision,
        seed,
        smoothing,
        decay,
        arguments.number("l2", l2, Number()),
        *limits.values(),
        schedule,
        normalization,
        dropout,
        residual,
        pieces,
        places,
        size,
    )


def _skips(sizes, layer, residual):
    return residual and layer < len(sizes) - 2 and sizes[layer] == sizes[layer + 1]


def _outputs(sizes, pieces, layer):
    units = sizes[layer + 1]
    return (pieces[layer], units) if pieces[layer] > 1 else (units,)


def _places(sizes, activations, pieces, unit, normalized):
    places, size = {}, 0
    for layer, fan_in in enumerate(sizes[:-1]):
        hidden, outputs = layer < len(sizes) - 2, _outputs(sizes, pieces, layer)
        shifts = ("gamma", "beta") if normalized and hidden else ("bias",)
        parts = {"weight": (fan_in, *outputs), **dict.fromkeys(shifts, outputs)}
        if ACTIVATIONS[activations[layer]].learned:
            parts["slope"] = outputs
        for part, shape in parts.items():
            places[f"layer{layer}.{part}"] = size, shape
            size += (math.prod(shape) + unit - 1) // unit * unit
    return places, size
