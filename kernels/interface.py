"""What the backends share: the names of the activations and the checks of all arguments.

A check raises before anything is written: TypeError for a wrong type or dtype, ValueError for a
wrong shape, memory layout or value; each message names the argument, what it got and what it needs.
`kind` is the backend's array type. The checks run on every call and cost about a microsecond.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np

FLOATS = (np.dtype("float32"), np.dtype("float64"))
INTEGERS = (np.dtype("int32"), np.dtype("int64"))

# How an activation is computed. The four rectifiers need two ways: one slope, or a slope per unit.
IDENTITY, RELU, SLOPE, SLOPES, ELU, SELU, SIGMOID, TANH = range(8)
ACTIVATIONS = {
    "identity": IDENTITY,
    "relu": RELU,
    "leaky_relu": SLOPE,
    "prelu": SLOPES,
    "elu": ELU,
    "selu": SELU,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "rectifier": SLOPE,
}
DEFAULT_ALPHA = {"leaky_relu": 0.01, "elu": 1.0}
# Activation -> (way, slope) where no alpha is given.
PLAIN = {
    name: (way, DEFAULT_ALPHA.get(name, 0.0))
    for name, way in ACTIVATIONS.items()
    if name not in ("prelu", "rectifier")
}

# Klambauer et al., Self-Normalizing Neural Networks, NeurIPS 2017, appendix A1.
SELU_LAMBDA = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


# Update rule -> the names of its state arrays, and its settings with their defaults.
RULES = {
    "sgd": ((), {}),
    "momentum": (("velocity",), {"beta": 0.9}),
    "nesterov": (("velocity",), {"beta": 0.9}),
    "adagrad": (("accumulator",), {"eps": 1e-8}),
    "rmsprop": (("mean_square",), {"rho": 0.9, "eps": 1e-8}),
    "adam": (("mean", "variance"), {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}),
}
LOSSES = ("softmax_cross_entropy", "sigmoid_cross_entropy", "mean_squared_error")
PRELU_SLOPE = 0.25  # at the start: He et al., Delving Deep into Rectifiers, ICCV 2015
ALIGNMENT = 64  # bytes: a cache line, and the widest vector


class Unavailable(RuntimeError):
    """A backend cannot run on this machine; the message says why and what to do."""


def floating(name, value, kind, ndim=None):
    """A C-contiguous float32 or float64 array (of `ndim` dimensions, where given)."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {_type(kind)}, got {_type(type(value))}")
    if value.dtype not in FLOATS:
        raise TypeError(f"{name} must be float32 or float64, got {value.dtype}")
    if ndim is not None and value.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got shape {value.shape}")
    _contiguous(name, value)


def array(name, value, kind, dtype, shape):
    """A C-contiguous array of exactly this dtype and shape."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {_type(kind)}, got {_type(type(value))}")
    if value.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, got {value.dtype}")
    if value.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {value.shape}")
    _contiguous(name, value)


def written(name, value, kind, dtype, shape):
    """An array as above that may be written to."""
    array(name, value, kind, dtype, shape)
    writeable(name, value)


def writeable(name, value):
    """An array that is not read-only; the arrays of a GPU never are."""
    if not getattr(value.flags, "writeable", True):
        raise ValueError(f"{name} must be writeable, got a read-only array")


def several(name, value, count):
    """A tuple or list of `count` output arrays."""
    if not isinstance(value, tuple | list) or len(value) != count:
        got = f"{len(value)}" if isinstance(value, tuple | list) else _type(type(value))
        raise ValueError(f"{name} must be a tuple of {count} arrays, got {got}")


def apart(outputs, inputs):
    """No output shares memory with another or an input: it would overwrite what is yet to be read.

    All are arrays as above.
    """
    others = dict(inputs)
    for name, value in outputs.items():
        for other, array in others.items():
            if _meet(value, array):
                raise ValueError(f"{name} must not share memory with {other}")
        others[name] = value


def _meet(one, other):
    """Whether two C-contiguous arrays share memory."""
    if isinstance(one, np.ndarray):
        return np.may_share_memory(one, other)  # compares where they begin and end
    first, second = one.data.ptr, other.data.ptr
    return first < second + other.nbytes and second < first + one.nbytes


def updated(param, grad, states, kind):
    """What a rule updates: all arrays are like param, which sets dtype and shape."""
    floating("param", param, kind)
    writeable("param", param)
    array("grad", grad, kind, param.dtype, param.shape)
    for name, state in states.items():
        written(name, state, kind, param.dtype, param.shape)
    apart({"param": param, **states}, {"grad": grad})


def labels(name, value, kind, batch):
    """(batch,) int32 or int64; their range is the kernel's to check, where they are at hand."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {_type(kind)}, got {_type(type(value))}")
    if value.dtype not in INTEGERS:
        raise TypeError(f"{name} must be int32 or int64, got {value.dtype}")
    if value.shape != (batch,):
        raise ValueError(f"{name} must have shape {(batch,)}, got {value.shape}")
    _contiguous(name, value)


def label_out_of_range(name, classes):
    """The error of a label that names no class."""
    return ValueError(
        f"{name} must be in 0 ... {classes - 1} for {classes} classes, got one outside"
    )


def rows(name, value):
    """At least one row and one column: a mean over nothing has no value."""
    if 0 in value.shape:
        raise ValueError(f"{name} must have at least one row and one column, got {value.shape}")


def number(name, value, low=0.0, high=math.inf, *, above=False):
    """The value as a float: low <= value < high (low < value where `above`), so never NaN."""
    try:
        within = bool((low < value if above else low <= value) and value < high)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {_type(type(value))}") from None
    if not within:
        limits = f"{'above' if above else 'at least'} {low:g} and below {high:g}"
        raise ValueError(f"{name} must be {limits}, got {value}")
    return float(value)


def step(name, value):
    """The value as an integer that counts from 1."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {_type(type(value))}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(value)


def activation(name, alpha, units, kind, dtype):
    """(way, slope, slopes) of the activation: IDENTITY ... TANH, its alpha as a number or an array.

    Exactly one of slope and slopes counts: slopes (units,) where the way is SLOPES, else slope.
    """
    way = ACTIVATIONS.get(name) if isinstance(name, str) else None
    if way is None:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    if alpha is None:
        if name in ("prelu", "rectifier"):
            raise ValueError(f"alpha must be given for {name}, got None")
        return way, DEFAULT_ALPHA.get(name, 0.0), None
    if name == "prelu" or (name == "rectifier" and isinstance(alpha, kind)):
        array("alpha", alpha, kind, dtype, (units,))
        return SLOPES, 0.0, alpha
    if name not in ("leaky_relu", "elu", "rectifier"):
        raise ValueError(f"alpha must be None for {name}, got {alpha!r}")
    # The derivative of leaky_relu and elu is read off the sign of y: alpha cannot be negative.
    lowest = -math.inf if name == "rectifier" else 0.0
    return way, number("alpha", alpha, lowest), None


def plain(name, alpha):
    """(way, slope) of an activation that needs no more than its name; None of any other."""
    return PLAIN.get(name) if alpha is None and isinstance(name, str) else None


@dataclass(frozen=True)
class Network:
    """What a network is, checked and with all defaults filled in; where its parameters lie.

    All parameters lie in one flat array of `size` elements, and so do gradients and each state:
    `places` has {"layer0.weight": (start, shape), ...}, every start at a multiple of ALIGNMENT
    bytes. What lies between is zero and stays zero under every rule.
    """

    sizes: tuple
    activations: tuple
    loss: str
    optimizer: str
    states: tuple
    settings: dict
    batch: int
    dtype: np.dtype
    seed: int
    label_smoothing: float
    weight_decay: float
    places: dict
    size: int

    def views(self, flat):
        """The parts of a flat array, by name."""
        return {
            name: flat[start : start + math.prod(shape)].reshape(shape)
            for name, (start, shape) in self.places.items()
        }

    def initial(self):
        """The flat parameters at the start, see reference.network.initial, as a host array."""
        rng, flat = np.random.default_rng(self.seed), np.zeros(self.size, self.dtype)
        for name, view in self.views(flat).items():
            layer, part = name.removeprefix("layer").split(".")
            activation = self.activations[int(layer)]
            if part == "weight":
                fan_in, fan_out = view.shape
                variance = 2 / (fan_in + fan_out)
                if activation in ("relu", "leaky_relu", "prelu", "elu"):
                    variance = 2 / fan_in
                elif activation == "selu":
                    variance = 1 / fan_in
                view[:] = rng.standard_normal(view.shape) * variance**0.5
            elif part == "slope":
                view[:] = PRELU_SLOPE
        return flat

    def state(self, steps, flats):
        """The mapping that `state` returns, from the flat host arrays of parameters and states."""
        arrays = {"steps": np.array(steps)}
        for suffix, flat in zip(("", *self.states), flats, strict=True):
            for name, view in self.views(flat).items():
                arrays[f"{name}.{suffix}" if suffix else name] = view.copy()
        return arrays

    def load(self, source):
        """(steps, flat host arrays) of a mapping that `state` returned or of an npz file."""
        if not hasattr(source, "keys"):
            with np.load(source) as file:
                source = dict(file)
        flats = [np.zeros(self.size, self.dtype) for _ in ("", *self.states)]
        wanted = {}
        for suffix, flat in zip(("", *self.states), flats, strict=True):
            for name, view in self.views(flat).items():
                wanted[f"{name}.{suffix}" if suffix else name] = view
        if set(source) != {"steps", *wanted}:
            strange = ", ".join(sorted(set(source) ^ {"steps", *wanted}))
            raise ValueError(f"source must hold the state of such a network; different: {strange}")
        for name, view in wanted.items():
            given = np.asarray(source[name])
            if given.shape != view.shape or given.dtype != self.dtype:
                raise ValueError(
                    f"source must hold {name} as {self.dtype} of shape {view.shape}, "
                    f"got {given.dtype} of shape {given.shape}"
                )
            view[...] = given
        steps = np.asarray(source["steps"])
        if steps.shape != () or steps.dtype.kind not in "iu" or steps < 0:
            raise ValueError(f"source must hold steps as a number from 0 on, got {steps!r}")
        return int(steps), flats

    def rows(self, x, kind, most=None):
        """The number of rows of x; at most `most`, where given."""
        if not isinstance(x, kind):
            raise TypeError(f"x must be a {_type(kind)}, got {_type(type(x))}")
        if x.ndim != 2 or x.shape[1] != self.sizes[0] or len(x) == 0:
            raise ValueError(f"x must have shape (rows, {self.sizes[0]}), got {x.shape}")
        if most is not None and len(x) > most:
            raise ValueError(f"x must have at most batch = {most} rows, got {len(x)}")
        array("x", x, kind, self.dtype, x.shape)
        return len(x)

    def labels(self, value, kind, count):
        """Labels of `count` rows, as the loss takes them."""
        if self.loss == "softmax_cross_entropy":
            labels("labels", value, kind, count)
        else:
            array("labels", value, kind, self.dtype, (count, self.sizes[-1]))


def network(
    sizes,
    activations,
    loss,
    optimizer,
    batch,
    lr,
    dtype,
    seed,
    label_smoothing,
    weight_decay,
    settings,
):
    """The Network of these arguments of `network.create`; see reference.network.create."""
    if not isinstance(sizes, tuple | list) or len(sizes) < 2:
        raise ValueError(f"sizes must be a tuple of at least 2 layer sizes, got {sizes!r}")
    sizes = tuple(step("sizes", size) for size in sizes)
    hidden = len(sizes) - 2
    if isinstance(activations, str):
        activations = (activations,) * hidden
    elif not isinstance(activations, tuple | list) or len(activations) != hidden:
        raise ValueError(f"activations must be one name or {hidden} of them, got {activations!r}")
    names = [name for name in ACTIVATIONS if name != "rectifier"]
    for name in activations:
        _one_of("activations", name, names)
    activations = (*activations, "identity")
    _one_of("loss", loss, LOSSES)
    _one_of("optimizer", optimizer, RULES)
    states, defaults = RULES[optimizer]
    for name in settings:
        if name not in defaults:
            needs = f"one of {', '.join(defaults)}" if defaults else "left out"
            raise TypeError(f"{name} must be {needs} for {optimizer}, got {settings[name]!r}")
    settings = {"lr": lr, **defaults, **settings}
    for name, value in settings.items():
        high = math.inf if name in ("lr", "eps") else 1
        settings[name] = number(name, value, high=high, above=name == "eps")
    if dtype not in FLOATS:  # NumPy compares names, types and dtypes alike
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or seed < 0:
        raise ValueError(f"seed must be an integer from 0 on, got {seed!r}")
    smoothing = number("label_smoothing", label_smoothing, high=1)
    if smoothing > 0 and loss == "mean_squared_error":
        raise ValueError(f"label_smoothing must be 0 for mean_squared_error, got {label_smoothing}")
    decay = number("weight_decay", weight_decay)
    dtype = np.dtype(dtype)
    places, size = _places(sizes, activations, ALIGNMENT // dtype.itemsize)
    return Network(
        sizes,
        activations,
        loss,
        optimizer,
        states,
        settings,
        step("batch", batch),
        dtype,
        int(seed),
        smoothing,
        decay,
        places,
        size,
    )


def _places(sizes, activations, unit):
    places, size = {}, 0
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        parts = {"weight": (fan_in, fan_out), "bias": (fan_out,)}
        if activations[layer] == "prelu":
            parts["slope"] = (fan_out,)
        for part, shape in parts.items():
            places[f"layer{layer}.{part}"] = size, shape
            size += (math.prod(shape) + unit - 1) // unit * unit
    return places, size


def order(name, value, kind):
    """(n,) int32 or int64 row numbers, n >= 1; their range is the kernel's to check."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {_type(kind)}, got {_type(type(value))}")
    if value.ndim != 1 or value.size == 0:
        raise ValueError(f"{name} must have shape (rows,), got {value.shape}")
    labels(name, value, kind, len(value))


def row_out_of_range(name, count):
    """The error of a row number that names no row."""
    return ValueError(f"{name} must be in 0 ... {count - 1} for {count} rows, got one outside")


def _one_of(name, value, allowed):
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _contiguous(name, value):
    if not value.flags.c_contiguous:
        raise ValueError(f"{name} must be C-contiguous, got strides {value.strides}")
    if not getattr(value.flags, "aligned", True):  # a GPU's arrays always are
        raise ValueError(f"{name} must be aligned to its elements, got one that is not")


def _type(kind):
    return f"{kind.__module__}.{kind.__qualname__}"
