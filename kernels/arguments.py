"""What the backends share: the checks of all arguments.

A check raises before anything is written: TypeError for a wrong type or dtype, ValueError for a
wrong shape, memory layout or value; each message names the argument, what it got and what it needs.
`kind` is the backend's array type. The checks run on every call and cost about a microsecond.
"""

import operator

import numpy as np

from .catalog import ABOVE_ZERO, ACTIVATIONS, SCALED_ELU, SEEDS, SLOPES, STREAMS

FLOATS = (np.dtype("float32"), np.dtype("float64"))
INTEGERS = (np.dtype("int32"), np.dtype("int64"))
MOST_PIXELS = 1 << 30  # of an image with a border around it


def _without_alpha(declared):
    """(id, alpha) of an activation that needs no more than its name; None of any other."""
    if declared.alpha is None:
        return None if declared.per_unit else (declared.id, 0.0)
    return None if declared.alpha.default is None else (declared.id, declared.alpha.default)


_WITHOUT_ALPHA = {name: _without_alpha(declared) for name, declared in ACTIVATIONS.items()}


class Unavailable(RuntimeError):
    """A backend cannot run on this machine; the message says why and what to do."""


def floating(name, value, kind, ndim=None):
    """A C-contiguous float32 or float64 array (of `ndim` dimensions, where given)."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {type_name(kind)}, got {type_name(type(value))}")
    if value.dtype not in FLOATS:
        raise TypeError(f"{name} must be float32 or float64, got {value.dtype}")
    if ndim is not None and value.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got shape {value.shape}")
    _contiguous(name, value)


def array(name, value, kind, dtype, shape):
    """A C-contiguous array of exactly this dtype and shape."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {type_name(kind)}, got {type_name(type(value))}")
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
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        raise ValueError(f"{name} must be writeable, got a read-only array")


def several(name, value, count):
    """A tuple or list of `count` output arrays."""
    if not isinstance(value, tuple | list) or len(value) != count:
        got = f"{len(value)}" if isinstance(value, tuple | list) else type_name(type(value))
        raise ValueError(f"{name} must be a tuple of {count} arrays, got {got}")


def outputs(out, shapes, dtype, inputs, in_place=()):
    """The NumPy arrays of the tuple `out`, checked, or new ones; in_place as in `disjoint`."""
    if out is None:
        return tuple(np.empty(shape, dtype) for shape in shapes)
    several("out", out, len(shapes))
    named = {f"out[{k}]": array for k, array in enumerate(out)}
    for (name, array), shape in zip(named.items(), shapes, strict=True):
        written(name, array, np.ndarray, dtype, shape)
    disjoint(named, inputs, in_place)
    return tuple(out)


def disjoint(outputs, inputs, in_place=()):
    """An output is the very same array as an input that it may replace, or shares no byte with any
    other argument: it would overwrite what is yet to be read.

    outputs, inputs: C-contiguous arrays by name, None for one that is not given; in_place: pairs
    (output, input) of what may be the same array.
    """
    if _all_apart(outputs.values(), inputs.values()):
        return
    others = {name: value for name, value in inputs.items() if value is not None}
    for name, value in outputs.items():
        for other, array in others.items():
            if _meet(value, array) and not ((name, other) in in_place and _same(value, array)):
                exception = " unless it is the same array" if (name, other) in in_place else ""
                raise ValueError(f"{name} must not share memory with {other}{exception}")
        others[name] = value


def _all_apart(outputs, inputs):
    """Whether no output of a GPU meets another array: the common case; each is read once."""
    spans = []
    for array in outputs:
        if isinstance(array, np.ndarray):  # NumPy itself is quicker to ask
            return False
        start = array.data.ptr
        end = start + array.nbytes
        for other, others_end in spans:
            if other < end and start < others_end:
                return False
        spans.append((start, end))
    for array in inputs:
        if array is not None:
            start = array.data.ptr
            end = start + array.nbytes
            for other, others_end in spans:
                if other < end and start < others_end:
                    return False
    return True


def _meet(one, other):
    """Whether two C-contiguous arrays have a byte in common."""
    if isinstance(one, np.ndarray):
        return np.may_share_memory(one, other)  # compares where they begin and end
    first, second = one.data.ptr, other.data.ptr
    return max(first, second) < min(first + one.nbytes, second + other.nbytes)


def _same(one, other):
    """Whether two arrays that meet are one."""
    return span(one) == span(other)


def span(array):
    """The addresses of the first byte of a C-contiguous array and of the first one behind it."""
    start = array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr
    return start, start + array.nbytes


def updated(param, grad, states, kind):
    """What a rule updates: all arrays are like param, which sets dtype and shape."""
    floating("param", param, kind)
    writeable("param", param)
    array("grad", grad, kind, param.dtype, param.shape)
    for name, state in states.items():
        written(name, state, kind, param.dtype, param.shape)
    disjoint({"param": param, **states}, {"grad": grad})


def maxout(weight, kind, dtype, fan_in, units=None):
    """(pieces, units) of the weights (fan_in, pieces, units) of a maxout layer."""
    floating("weight", weight, kind, 3)
    _, pieces, given = weight.shape
    if pieces == 0:
        raise ValueError(f"weight must have at least one piece, got shape {weight.shape}")
    units = given if units is None else units
    array("weight", weight, kind, dtype, (fan_in, pieces, units))
    return pieces, units


def pairs(steps, differences, kind, grad):
    """The pairs of limited-memory BFGS: two arrays (m, n) for a gradient of n elements."""
    floating("steps", steps, kind, 2)
    array("steps", steps, kind, grad.dtype, (len(steps), grad.size))
    array("differences", differences, kind, grad.dtype, steps.shape)


def labels(name, value, kind, batch):
    """(batch,) int32 or int64; their range is the kernel's to check, where they are at hand."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {type_name(kind)}, got {type_name(type(value))}")
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


def number(name, value, allowed):
    """The value as a float, in the range of the catalogue's Number, so never NaN."""
    try:
        within = bool(allowed.low <= value < allowed.high)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {type_name(type(value))}") from None
    if not within:
        low = "above 0" if allowed.low == ABOVE_ZERO else f"at least {allowed.low:g}"
        raise ValueError(f"{name} must be {low} and below {allowed.high:g}, got {value}")
    return float(value)


def step(name, value):
    """The value as an integer that counts from 1."""
    return integer(name, value, 1)


def integer(name, value, low, high=None):
    """The value as an integer, low <= value, and value < high where that is given."""
    number = as_integer(value)
    if number is None:
        raise TypeError(f"{name} must be an integer, got {type_name(type(value))}")
    if number < low or (high is not None and number >= high):
        below = "" if high is None else f" and below {high}"
        raise ValueError(f"{name} must be at least {low}{below}, got {value}")
    return number


def as_integer(value):
    """The value as an integer; None where it is none, as True and an array of several are not."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def random_numbers(seed, stream):
    """(seed, stream) as integers: which numbers of the generator are drawn."""
    return integer("seed", seed, 0, SEEDS), integer("stream", stream, 0, STREAMS)


def images(name, value, kind):
    """(batch, height, width), or with channels behind the batch, of at least one pixel each; places
    in one are 32-bit numbers.
    """
    floating(name, value, kind)
    if value.ndim not in (3, 4):
        raise ValueError(f"{name} must have 3 or 4 dimensions, got shape {value.shape}")
    height, width = value.shape[-2:]
    if 0 in value.shape[1:] or (height + 2) * (width + 2) > MOST_PIXELS:
        raise ValueError(f"{name} must have 1 to 2^30 pixels an image, got shape {value.shape}")


def activation(name, alpha, units, kind, dtype):
    """(id, slope, slopes) of the activation: its alpha as a number or an array.

    Exactly one of slope and slopes counts: slopes (units,) where the id is SLOPES; a NumPy array
    (alpha gamma, gamma) where it is SCALED_ELU; else slope.
    """
    declared = ACTIVATIONS.get(name) if isinstance(name, str) else None
    if declared is None:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    if alpha is None:
        if _WITHOUT_ALPHA[name] is None:
            raise ValueError(f"alpha must be given for {name}, got None")
        return *_WITHOUT_ALPHA[name], None
    if declared.per_unit and (declared.alpha is None or isinstance(alpha, kind)):
        array("alpha", alpha, kind, dtype, (units,))
        return SLOPES, 0.0, alpha
    if declared.pair:
        if not isinstance(alpha, tuple | list) or len(alpha) != 2:
            raise TypeError(f"alpha must be a pair (alpha, gamma) for {name}, got {alpha!r}")
        named = zip(("alpha[0]", "alpha[1]"), alpha, declared.pair, strict=True)
        left, gamma = (number(*given) for given in named)
        return SCALED_ELU, 0.0, np.array([left * gamma, gamma], dtype)
    if declared.alpha is None:
        raise ValueError(f"alpha must be None for {name}, got {alpha!r}")
    return declared.id, number("alpha", alpha, declared.alpha), None


def plain(name, alpha):
    """(id, slope) of an activation that needs no more than its name; None of any other."""
    return _WITHOUT_ALPHA.get(name) if alpha is None and isinstance(name, str) else None


def precision(value, dtype=FLOATS[0]):
    """What products in this dtype may be rounded to: "tf32" in float32 alone, or None."""
    if value is not None and not (isinstance(value, str) and value == "tf32"):
        raise ValueError(f"precision must be None or 'tf32', got {value!r}")
    return value if dtype == FLOATS[0] else None


def flag(name, value):
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def order(name, value, kind):
    """(n,) int32 or int64 row numbers, n >= 1; their range is the kernel's to check."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {type_name(kind)}, got {type_name(type(value))}")
    if value.ndim != 1 or value.size == 0:
        raise ValueError(f"{name} must have shape (rows,), got {value.shape}")
    labels(name, value, kind, len(value))


def row_out_of_range(name, count):
    """The error of a row number that names no row."""
    return ValueError(f"{name} must be in 0 ... {count - 1} for {count} rows, got one outside")


def one_of(name, value, allowed):
    """A string among these."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _contiguous(name, value):
    if type(value) is not np.ndarray and getattr(value, "_c_contiguous", False):
        return  # CuPy's array knows it; its flags are an object made anew at every look
    flags = value.flags
    if not flags.c_contiguous:
        raise ValueError(f"{name} must be C-contiguous, got strides {value.strides}")
    if not getattr(flags, "aligned", True):  # a GPU's arrays always are
        raise ValueError(f"{name} must be aligned to its elements, got one that is not")


def type_name(kind):
    """How messages name a type."""
    return f"{kind.__module__}.{kind.__qualname__}"
