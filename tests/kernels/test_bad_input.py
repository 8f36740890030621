"""Bad input raises an error that names the argument, before anything is written."""

import functools
import inspect
import itertools
import re

import numpy as np
import pytest
from conftest import as_tuple, case, on_device

from benchmarks.checking.cases import MAY_REPLACE
from benchmarks.checking.comparison import empty_results
from reference import OPERATIONS

FRACTION = (-0.1, 1.0, np.nan, "0.9", None)
NUMBERS = {
    "lr": (-0.1, np.nan, np.inf, "fast", None),
    **dict.fromkeys(("beta", "beta1", "beta2", "rho", "label_smoothing"), FRACTION),
    "rate": FRACTION,
    "eps": (0.0, -1e-8, np.nan, "small", None),
    "delta": (0.0, -1.0, np.nan, np.inf, "far", None),
    "ignore_index": (1.5, "first", True, 2**63, np.array([0, 1])),
    "reduction": ("average", "", "Mean", None, 3, True, ["mean"], np.array("mean")),
    "initializer": ("xavier", "", None, 3),
    "seed": (-1, 2**64, 1.5, "first", True, None),
    "stream": (-1, 2**32, 1.5, "first", True, None),
    "layer": (-1, 2**31, 1.5, "first", True, None),
    "value": (np.nan, 1e39, "large"),
    "step": (0, -1, 1.5, "first", True, None),
    "activation": ("relu6", "", None, 3),
    "reverse": (1, 0.0, "yes", None, [True], np.array([True, False])),
    "precision": ("tf16", "", "TF32", 32, True, ("tf32",), np.array("tf32")),
    "threshold": (np.nan, np.inf, "low", None),
    "margin": FRACTION,
    **dict.fromkeys(("low", "high"), (np.nan, np.inf, -np.inf, "low", None)),
    "axis": (2, -3, 0.0, "last", True, None, (0,), 2**63, np.array([0, 1])),
    "bins": (0, -1, 1.5, "ten", True, None, 2**31),
    **dict.fromkeys(
        ("arrays", "grads", "params"),
        (None, 3, "arrays", (), [], (1.0,), [None], ([1.0, 2.0],)),
    ),
    **dict.fromkeys(("limit", "max_norm"), (0.0, -1.0, np.nan, np.inf, "high", None)),
    "l2": (-0.1, np.nan, np.inf, "much", None),
    "step_length": (np.nan, np.inf, -np.inf, 1e38, "far", None),
    "damping": (-0.1, np.nan, np.inf, "low", None),
    "method": ("steepest", "", None, 3, True, ["polak_ribiere"]),
    "fill": ("mirror", "", None, 3, True, ["nearest"]),
    "sigma": (0.0, -1.0, 1e4, np.nan, "wide", None),
    "rotation": (-1.0, 360.0, np.nan, "far", None),
    "shift": (-1.0, np.inf, np.nan, "far", None),
    "zoom": (-0.1, 1.0, np.nan, "near", None),
    "shear": (-1.0, 90.0, np.nan, "much", None),
    **dict.fromkeys(("height", "width"), (0, -1, 1.5, "high", True, None, 2**31)),
}
# Shapes that are no mistake: any array, or any number of rows. Numbers that are none.
RESHAPED = {"of another dimension", "of another length", "of another width"}
MORE_ROWS = {"of another length"}
FREE = {
    ("softmax", "logits"): RESHAPED,
    ("log_softmax", "logits"): RESHAPED,
    ("global_norm", "arrays"): RESHAPED,
    ("clip_by_value", "grads"): RESHAPED,
    ("clip_by_global_norm", "grads"): RESHAPED,
    ("sparsity", "x"): RESHAPED,
    ("histogram", "x"): RESHAPED,
    ("connection_sparsity", "weight"): MORE_ROWS,
    ("batch_norm_forward", "x"): MORE_ROWS,
    ("unit_activity", "y"): MORE_ROWS,
    ("saturation", "y"): MORE_ROWS,
    **{(f"dropout_{way}", "step"): {"0"} for way in ("forward", "backward")},
    # Nothing where there is a gradient by the last state.
    **{(f"{cell}_backward", "dy"): {"nothing"} for cell in ("rnn", "lstm", "gru")},
    ("elastic_transform", "images"): {"of another dimension"},  # of several channels
}


def bad_arrays(backend, good, sets_shapes):
    """What is wrong, and a bad value in place of `good`; one array may set the shapes."""
    yield "a list", good.tolist()
    yield "nothing", None
    yield "text", "array"
    integer = good.dtype.kind == "i"
    for dtype in ("uint8", "float32") if integer else ("float16", "complex64", "int32", "bool"):
        yield dtype, backend.asarray(good.astype(dtype))
    yield "big-endian", good.astype(good.dtype.newbyteorder(">"))
    yield "strided", backend.asarray(np.repeat(good, 2, axis=-1))[..., ::2]
    raw = np.zeros(good.nbytes + 1, np.uint8)
    yield "not aligned", raw[1:].view(good.dtype).reshape(good.shape)
    if good.ndim == 2:
        yield "transposed", backend.asarray(good.T.copy()).T
    yield "of another dimension", backend.asarray(good[None].copy())
    if not sets_shapes:
        yield "of another length", backend.asarray(good[:-1].copy())
        yield "of another width", backend.asarray(good[..., :-1].copy())


def named_arrays(inputs):
    """The arrays among the inputs by name; those in tuples as "grads[0]"."""
    tuples = {name: as_tuple(value) for name, value in inputs.items()}
    return {
        f"{name}[{k}]" if isinstance(inputs[name], tuple) else name: value
        for name, values in tuples.items()
        for k, value in enumerate(values)
        if hasattr(value, "dtype")
    }


def with_named(inputs, arrays):
    """The inputs with these arrays, named as above, in the place of theirs."""

    def changed(name, value):
        if isinstance(value, tuple):
            return tuple(changed(f"{name}[{k}]", each) for k, each in enumerate(value))
        return arrays.get(name, value)

    return {name: changed(name, value) for name, value in inputs.items()}


def assert_rejected(backend, operation, arguments, bad, what):
    """The call fails, names the bad argument and leaves what it would have updated as it was."""
    named = named_arrays({k: arguments[k] for k in operation.in_place if k != bad})
    before = {k: backend.to_host(array).copy() for k, array in named.items()}
    with pytest.raises((TypeError, ValueError)) as raised:
        getattr(backend, operation.name)(**arguments)
    # Two shapes that do not fit: either argument may be the one that is named.
    names = "|".join(arguments) if what.startswith("of another") else re.escape(bad)
    assert re.match(rf"({names})(\[\d\])? must ", str(raised.value)), (what, str(raised.value))
    for name, values in before.items():
        np.testing.assert_array_equal(backend.to_host(named[name]), values, err_msg=name)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_argument_is_checked(fast_backend, name):
    operation = OPERATIONS[name]
    sample = operation.sample(np.random.default_rng(0), case(4, 3, 5, vary=False))
    parameters = inspect.signature(operation.function).parameters
    call = getattr(fast_backend, operation.name)
    # Only once something has succeeded, everything that makes later calls quick is in place.
    out = call(**on_device(fast_backend, sample))
    outs = [{}] if operation.in_place else [{}, {"out": out}]
    for (position, argument), out in itertools.product(enumerate(parameters), outs):
        good = sample.get(argument)
        free = FREE.get((operation.name, argument), ())
        alone = sum(isinstance(value, np.ndarray) for value in sample.values()) == 1
        fixed = (operation.in_place and not alone) or (out and as_tuple(out["out"])[-1].ndim > 0)
        sets_shapes = position == 0 and not fixed
        if isinstance(good, np.ndarray):
            if parameters[argument].default is None:  # it may be left out
                free = (*free, "nothing")
            bad_values = bad_arrays(fast_backend, good, sets_shapes)
            bad_values = [(what, bad) for what, bad in bad_values if what not in free]
        else:
            bad_values = [(repr(bad), bad) for bad in NUMBERS.get(argument, ())]
            bad_values = [(what, bad) for what, bad in bad_values if what not in free]
        if isinstance(good, tuple):
            first, *_ = on_device(fast_backend, {argument: good})[argument]
            bad_values += [
                (what, (first, bad))
                for what, bad in bad_arrays(fast_backend, good[1], sets_shapes=False)
                if what not in free
            ]
        for what, bad in bad_values:
            arguments = {**on_device(fast_backend, sample), argument: bad, **out}
            assert_rejected(fast_backend, operation, arguments, argument, what)


@pytest.mark.parametrize("name", [n for n, o in OPERATIONS.items() if o.returns])
def test_out_is_checked(fast_backend, name):
    operation = OPERATIONS[name]
    sample = operation.sample(np.random.default_rng(0), case(4, 3, 5, vary=False))
    zeros = empty_results(operation, sample).values()
    shapes, good = [zero.shape for zero in zeros], [fast_backend.asarray(zero) for zero in zeros]
    for position, shape in enumerate(shapes):
        of_dtype = good[position].dtype
        for what, bad in (
            ("a list", [0.0]),
            ("float64", fast_backend.asarray(np.zeros(shape))),
            ("of the wrong shape", fast_backend.asarray(np.zeros((*shape, 2), of_dtype))),
        ):
            out = (*good[:position], bad, *good[position + 1 :])
            arguments = {**on_device(fast_backend, sample), "out": out if len(out) > 1 else bad}
            assert_rejected(fast_backend, operation, arguments, "out", what)
    if len(shapes) > 1:
        for what, out in (("too few", tuple(good[1:])), ("one array", good[0])):
            arguments = {**on_device(fast_backend, sample), "out": out}
            assert_rejected(fast_backend, operation, arguments, "out", what)


@pytest.mark.parametrize("activation", ["identity", "relu", "sigmoid", "tanh"])
def test_alpha_where_there_is_none(fast_backend, activation):
    z = fast_backend.asarray(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=f"alpha must be None for {activation}, got 0.5"):
        fast_backend.activation_forward(z, activation, 0.5)


@pytest.mark.parametrize(
    ("activation", "alpha"),
    [
        *[
            ("prelu", None),
            ("rectifier", None),
            ("leaky_relu", -0.1),
            ("elu", -1.0),
            ("elu", "one"),
        ],
        *(("selu", bad) for bad in (0.5, "12", (1.0,), (1.0, 2.0, 3.0), (-0.1, 1.0), (1.0, 0.0))),
        *(("selu", bad) for bad in ((np.nan, 1.0), (1.0, np.inf), ("one", 1.0), (1.0, None))),
    ],
)
def test_alpha_out_of_range(fast_backend, activation, alpha):
    z = fast_backend.asarray(np.zeros((2, 3), np.float32))
    weight = fast_backend.asarray(np.zeros((3, 3), np.float32))
    for call in (
        lambda: fast_backend.activation_forward(z, activation, alpha),
        lambda: fast_backend.activation_backward(z, z, activation, alpha),
        lambda: fast_backend.dense_forward(z, weight, weight[0], activation, alpha),
        lambda: fast_backend.dense_backward(z, z, weight, z, activation, alpha),
    ):
        with pytest.raises((TypeError, ValueError), match=r"alpha(\[\d\])? must "):
            call()


@pytest.mark.parametrize("shape", [(0, 5), (4, 0)])
def test_a_loss_of_nothing(fast_backend, shape):
    values = fast_backend.asarray(np.zeros(shape, np.float32))
    labels = fast_backend.asarray(np.zeros(shape[0], np.int32))
    with pytest.raises(ValueError, match="logits must have at least one row and one column"):
        fast_backend.softmax_cross_entropy(values, labels)
    with pytest.raises(ValueError, match="probabilities must have at least one row and one column"):
        fast_backend.sparse_categorical_cross_entropy(values, labels)


def test_empty_batches_are_no_error(fast_backend):
    """An empty batch has results: empty ones, and gradients of zero."""
    x, dy = (fast_backend.asarray(np.zeros((0, n), np.float32)) for n in (3, 5))
    weight = fast_backend.asarray(np.ones((3, 5), np.float32))
    y = fast_backend.dense_forward(x, weight, fast_backend.asarray(np.ones(5, np.float32)))
    assert y.shape == (0, 5)
    dx, dweight, dbias = as_tuple(fast_backend.dense_backward(dy, x, weight, y))
    assert dx.shape == (0, 3)
    assert not fast_backend.to_host(dweight).any()
    assert not fast_backend.to_host(dbias).any()
    assert fast_backend.activation_forward(y, "tanh").shape == (0, 5)


def test_read_only_output_of_the_cpu():
    from kernels import numba_cpu

    z = np.zeros((2, 3), np.float32)
    out = np.zeros((2, 3), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out must be writeable"):
        numba_cpu.activation_forward(z, "relu", out=out)


def in_one_buffer(backend, first, second, distance):
    """Device copies of two arrays, which lie so many bytes apart in one buffer."""
    flat = backend.asarray(np.zeros(max(first.nbytes, distance + second.nbytes) // 4, np.float32))
    copies = []
    for start, array in ((distance, second), (0, first)):
        part = flat[start // 4 : (start + array.nbytes) // 4]
        copies.append(part.view(array.dtype).reshape(array.shape))
        copies[-1][...] = backend.asarray(array)
    return copies[1], copies[0]


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_written_is_an_input_or_apart_from_all(fast_backend, name):
    """One element that is written and yet to be read is enough, and every array takes part.

    Each call is made twice: the first may compile what checks the second.
    """
    operation = OPERATIONS[name]
    sample = operation.sample(np.random.default_rng(0), case(5, 3, 5, vary=False))
    arrays = named_arrays(sample) | (returned := empty_results(operation, sample))
    written = [*(result.name for result in operation.results if result.updates), *returned]
    for output, other in itertools.product(written, arrays):
        first, second = arrays[other], arrays[output]
        distances = [first.nbytes - first.itemsize]
        if (first.shape, first.dtype) == (second.shape, second.dtype):
            distances.append(0)
        for distance, _ in itertools.product(distances if output != other else (), range(2)):
            given = on_device(fast_backend, arrays)
            pair = in_one_buffer(fast_backend, first, second, distance)
            given[other], given[output] = pair
            arguments = with_named(sample, given)
            if returned:
                out = tuple(given[name] for name in returned)
                arguments["out"] = out if len(out) > 1 else given["out"]
            call = functools.partial(getattr(fast_backend, name.partition("[")[0]), **arguments)
            if distance == 0 and (output, other) in MAY_REPLACE.get(operation.name, ()):
                got = as_tuple(call())
                complaint = operation.disagreement(sample, tuple(map(fast_backend.to_host, got)))
                assert complaint is None, (output, other, complaint)
                continue
            before = [fast_backend.to_host(array).copy() for array in given.values()]
            with pytest.raises(ValueError, match="must not share memory with"):
                call()
            for array, old in zip(given.values(), before, strict=True):
                np.testing.assert_array_equal(fast_backend.to_host(array), old)


def test_read_only_inputs_of_the_cpu(tmp_path):
    """Nothing is written to inputs, so they may be read-only, and a file that is mapped as well."""
    from kernels import numba_cpu

    rng = np.random.default_rng(0)
    for name, operation in OPERATIONS.items():
        sample = operation.sample(rng, case(4, 3, 5, vary=False))
        for key, value in sample.items():
            if isinstance(value, np.ndarray) and key not in operation.in_place:
                np.save(tmp_path / f"{key}.npy", value)
                sample[key] = np.load(tmp_path / f"{key}.npy", mmap_mode="r")
        call = getattr(numba_cpu, operation.name)
        out = call(**sample)
        if not operation.in_place:
            call(**sample, out=out)
            assert operation.disagreement(sample, as_tuple(out)) is None, name


def test_steps_that_are_no_integers_are_refused_at_every_call():
    from kernels import numba_cpu

    param, grad, mean, variance = np.ones((4, 6), np.float32)
    for _ in range(2):
        numba_cpu.adam(param, grad, mean, variance, 1)
        for step in (1.5, True, "1"):
            with pytest.raises(TypeError, match="step must be an integer"):
                numba_cpu.adam(param, grad, mean, variance, step)
