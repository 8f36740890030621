"""The specifications themselves: what can be said, the work against hand-computed numbers, and that
the error bounds are tight enough to find a mistake.
"""

import inspect
import math

import numpy as np
import pytest
from conftest import NATIVE, SIMULATED, backend_or_skip, call, case, is_quick, moved, verify

import kernels
import reference
from benchmarks.suites import workloads
from reference import Operation, Result, bounds, network_spec
from reference.bounds import EXACT, Bound

OPERATIONS = [operation for family in reference.FAMILIES.values() for operation in family]
over_operations = pytest.mark.parametrize("operation", OPERATIONS, ids=str)
BY_NAME = {str(operation): operation for operation in OPERATIONS}

# --- what a specification can say -----------------------------------------------------------------


def standardise(x, mean, count, *, share=0.1, out=None):
    """(x - mean, the place of each row's largest), mean and count of rows brought up to date."""
    y, largest = x - mean, x.argmax(axis=1)
    mean += share * (x.mean(axis=0) - mean)
    count += len(x)
    if out is None:
        return y, largest, y > 0
    for array, value in zip(out, (y, largest, y > 0), strict=True):
        array[...] = value
    return out


def _sample(rng, case):
    batch, units = case.sizes["batch"], case.sizes["fan_out"]
    x, mean = rng.standard_normal((batch, units)), rng.standard_normal(units)
    share = {"share": rng.uniform()} if case.vary else {}
    arrays = {"x": x.astype(case.dtype), "mean": mean.astype(case.dtype)}
    return {**arrays, "count": np.array(7), **share}


def _error(inputs, dtype):
    x, mean, share, u = inputs["x"], inputs["mean"], inputs["share"], bounds.unit_roundoff(dtype)
    mean_of_x = bounds.sum_bound(x, dtype) * (1 / len(x)) + Bound.of(u * np.abs(x.mean(axis=0)))
    size = np.abs(mean) + 4 * share * (np.abs(mean) + np.abs(x.mean(axis=0)))
    of_mean = mean_of_x * share + Bound.of(u * size)
    return Bound.of(u * np.abs(x - mean)), EXACT, EXACT, of_mean, EXACT


STANDARDISE = Operation(
    "standardise",
    standardise,
    ("batch", "fan_out"),
    _sample,
    lambda batch, fan_out, **_: 2 * batch * fan_out + 4 * fan_out,
    lambda batch, fan_out, **_: 2 * batch * fan_out + 2 * fan_out,
    (
        Result("y"),
        Result("largest", "int64"),
        Result("positive", "bool"),
        Result("mean", updates=True),
        Result("count", "int64", updates=True),
    ),
    _error,
    lambda dtype: iter(()),
    other_bytes=lambda batch, fan_out, **_: 8 * batch + batch * fan_out + 16,
)


class Backend:
    """`standardise` as it is, or with one result spoilt."""

    asarray = staticmethod(np.asarray)
    to_host = staticmethod(np.copy)
    synchronize = staticmethod(lambda: None)

    def __init__(self, spoil=None, **settings):
        self.spoil, self.settings = spoil, settings

    def standardise(self, x, mean, count, **given):
        returned = standardise(x, mean, count, **{**given, **self.settings})
        if self.spoil:
            self.spoil(returned, mean, count)
        return returned


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_that_are_returned_updated_integer_and_mask(dtype):
    rng = np.random.default_rng(0)
    for shape in ((1, 1, 1), (40, 1, 9)):
        verify(Backend(), STANDARDISE, STANDARDISE.sample(rng, case(*shape, dtype)))


def _shifted(array, where=0):
    array.flat[where] += array.dtype.type(1) if array.dtype.kind != "f" else 1e-4


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda returned, mean, count: _shifted(returned[0], -1), "standardise, y: 1 of 360 wrong"),
        (lambda returned, mean, count: _shifted(returned[1], 5), "largest: 1 of 40 wrong"),
        (lambda returned, mean, count: np.logical_not(*[returned[2]] * 2), "positive: 360 of 360"),
        (lambda returned, mean, count: _shifted(mean), "mean: 1 of 9 wrong"),
        (lambda returned, mean, count: _shifted(count), "count: 1 of 1 wrong"),
    ],
)
def test_each_wrong_result_is_seen(spoil, what):
    inputs = STANDARDISE.sample(np.random.default_rng(0), case(40, 1, 9))
    with pytest.raises(AssertionError, match=what):
        verify(Backend(spoil), STANDARDISE, inputs)


def test_an_ignored_setting_a_dtype_and_a_number_of_results_are_seen():
    inputs = STANDARDISE.sample(np.random.default_rng(0), case(40, 1, 9))
    with pytest.raises(AssertionError, match="mean: "):
        verify(Backend(share=0.1), STANDARDISE, inputs)
    _, results, _ = call(Backend(), STANDARDISE, inputs)
    narrow = results[0], results[1].astype(np.int32), *results[2:]
    assert "dtype int32 instead of int64" in STANDARDISE.disagreement(inputs, narrow)
    assert "4 results instead of 5" in STANDARDISE.disagreement(inputs, results[:4])
    with pytest.raises(ValueError, match="must return 3 arrays, got 1"):
        STANDARDISE.collect(inputs, results[0])


CHOICES = "reduction", "method", "fill"  # settings that are names


@over_operations
def test_hyperparameters_vary_and_defaults_are_one_sample(operation):
    rng, drawn = np.random.default_rng(1), {}
    varied = case(3, 4, 5)
    for _ in range(8):
        for name, value in operation.sample(rng, varied).items():
            if isinstance(value, float | int) or name in CHOICES:
                drawn.setdefault(name, set()).add(value)
            if isinstance(value, tuple) and name == "alpha":
                for part, number in zip(("alpha", "gamma"), value, strict=True):
                    drawn.setdefault(part, set()).add(number)
    parameters = inspect.signature(operation.function).parameters.values()
    settings = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    valueless = operation.variant in ("zeros", *reference.initializers.SCALES)
    settings -= {"value"} if valueless else set()
    settings -= {
        "out",
        "precision",
        "class_weights",
        "skip",
        "bins",
    }  # bins are the size of a result
    settings -= {"axis"} if operation.variant != "across rows" else set()
    settings |= {"alpha"} if operation.variant in ("leaky_relu", "elu", "selu") else set()
    settings |= {"gamma"} if operation.variant == "selu" else set()
    fixed = {
        "plain": {"ignore_index"},
        "hard": {"label_smoothing", "ignore_index", "reduction"},
        "smoothed": {"ignore_index", "reduction"},
        "soft": {"ignore_index"},
    }.get(operation.variant, set())
    assert all(len(drawn[name]) > 1 for name in settings - fixed)
    plain, others = (
        reference.Case("test", varied.sizes, vary=False),
        ("ignore_index", "value", "axis"),
    )
    for name, value in operation.sample(rng, plain).items():
        default = inspect.signature(operation.function).parameters[name].default
        free = name in (*others, "step", "lr", "label_smoothing")
        given = free or default is inspect.Parameter.empty
        assert given or name not in drawn or value == default


# --- work -----------------------------------------------------------------------------------------

# By hand for batch 2, fan_in 3, fan_out 5: operations, elements read and written, bytes of labels.
# 10 elements of y; 6 of x, 15 of W, 5 of b and of alpha; 20 parameters. A product has 30 terms.
# Of an activation: the operations of an element forward and backward, the alphas that are read.
ACTIVATIONS = {
    "identity": (0, 0, 0),
    "relu": (1, 1, 0),
    "leaky_relu": (2, 2, 0),
    "prelu": (2, 4, 5),
    "elu": (3, 3, 0),
    "selu": (4, 3, 0),
    "sigmoid": (4, 3, 0),
    "tanh": (1, 4, 0),
    "silu": (5, 9, 0),
    "gelu": (5, 9, 0),
    "gelu_tanh": (9, 16, 0),
    "softplus": (4, 3, 0),
    "softsign": (3, 4, 0),
    "mish": (6, 12, 0),
    "celu": (4, 3, 0),
    "hard_sigmoid": (4, 2, 0),
    "hard_swish": (5, 5, 0),
    "thresholded_relu": (1, 1, 0),
    "rectifier": (2, 2, 5),
}
WORK = {
    "activation_forward": {},
    "activation_backward": {},
    "dense_forward": {},
    "dense_backward": {},
    # 30 terms a piece, its 10 biases, 10 comparisons of two; x, y; W, b, z of each piece.
    "maxout_forward": {"two pieces": (150, 76), "five pieces": (390, 166)},
    # 60 terms of winners, their 10 sums, the comparisons; dy, x, dx; W, dW, db, z of each piece.
    "maxout_backward": {"two pieces": (140, 112), "five pieces": (170, 247)},
    # Of an element: sum, distance, its square, the sum, scale, offset. Of a unit two means, + eps,
    # a root, 1 / it, gamma by it; the unbiased variance, and 3 for each of what runs along.
    # And with skip a sum and another array of 10 elements.
    "batch_norm_forward": {"": (125, 60), "skip": (135, 70)},
    # Distance, scale, offset; + eps, root, gamma by it.
    "batch_norm_inference": {"": (50, 40), "skip": (60, 50)},
    # Sum, distance, product, its sum, 4 for dx; of a unit rstd by the sum, the 3 factors of dx.
    "batch_norm_backward": {"": (115, 55)},
    # Both scales, sum, distance, square, its sum, offset; of a row two means, + eps, root, 1 / it.
    "layer_norm_forward": {"": (80, 34), "skip": (90, 44)},
    # gamma dy, distance, its scale; 2 sums, 2 of products; two differences, two products; 2 means.
    "layer_norm_backward": {"": (134, 49)},
    # Three blocks of four words, ten rounds of two products and four exclusive ors each; of an
    # element a comparison and a product.
    "dropout_forward": {"": (200, 20)},
    "dropout_backward": {"": (200, 20)},
    # Of 6 rows (3 steps): 40 terms, 5 biases, 5 sums and tanh; x, y, W, R, b, last; h0, lengths.
    "rnn_forward": {"tanh, whole": (570, 103), "relu, lengths": (570, 113, 8)},
    # 80 terms, 5 sums, derivative and sum with dy (4 each); dy, x, dx, y, W, R, their gradients.
    "rnn_backward": {"tanh, whole": (1110, 191), "relu, lengths": (1110, 211, 8)},
    # 160 terms, 20 biases; 4 sums, 3 sigmoids, 2 tanh, 4 for c and h. Also cells and gates.
    "lstm_forward": {"whole": (2700, 398), "lengths": (2700, 418, 8)},
    # d + dy, tanh, 5 for e, 4 for each gate, e f.
    "lstm_backward": {"whole": (4680, 606), "lengths": (4680, 646, 8)},
    # 120 terms, 20 biases; 2 sums, 2 sigmoids, 3 for n, 4 for h.
    "gru_forward": {"whole": (2070, 318), "lengths": (2070, 328, 8)},
    # d + dy, 5 for dn, 4 for du, dm, 4 for dr, d u and the sum with the product.
    "gru_backward": {"whole": (3510, 486), "lengths": (3510, 506, 8)},
    # Of each element: maximum, difference, exp, sum, scale.
    "softmax": {"": (50, 20), "across rows": (50, 20)},
    # And the difference to the target; two labels of 4 bytes.
    "softmax_cross_entropy": {
        "hard": (60, 21, 8),
        "smoothed": (60, 21, 8),
        "weighted": (66, 26, 8),  # two products and the sum of the weights, of each row
        "soft": (
            90,
            31,
        ),  # the sum of the targets, their products with the logits, the sum of these
    },
    # The same but for the scale, a difference; a logarithm of each of two rows or five columns.
    "log_softmax": {"": (52, 20), "across rows": (55, 20)},
    # The logarithm and the sum of two rows, of which one element each is read.
    "sparse_categorical_cross_entropy": {"": (4, 3, 8)},
    # The sum of two rows' losses; with weights also two products and the sum of the weights.
    "nll": {"plain": (2, 13, 8), "weighted": (8, 18, 8)},
    # Of an element a difference, its square, the sum, the scaled gradient; three arrays, the loss.
    "mean_squared_error": {"": (40, 31)},
    "mean_absolute_error": {"": (40, 31)},  # a magnitude in the square's place; the scale's sign
    "huber": {"": (70, 31)},  # and a half, the clipped difference, a choice
    # |x|, exp, 1 + e, /, max, x t, -, log1p, +, the sum; p - t, its scale.
    "binary_cross_entropy_with_logits": {"": (120, 31)},
    # Two logarithms, two limits, 1 - t, two products, +, the sum; p - t, 1 - p, *, max, /, scale.
    "binary_cross_entropy": {"": (150, 31)},
    "poisson_nll": {"": (60, 31)},  # exp, t x, -, the sum; - t, scale
    # max, log, x - t, 1 / s, two products, +, the sum; scale; 1 - share, * 1 / s, scale.
    "gaussian_nll": {"": (120, 51)},
    "sgd": {"": (40, 60)},
    "momentum": {"": (80, 100)},
    "nesterov": {"": (120, 100)},
    # g^2, G + g^2, lr g, sqrt, + eps, /, p -.
    "adagrad": {"": (140, 100)},
    # rho E, g^2, (1 - rho) g^2, +, lr g, sqrt, + eps, /, p -.
    "rmsprop": {"": (180, 100)},
    # 3 for m, 4 for v; with both corrections in the rate and eps: sqrt, + eps, rate m, /, p -.
    "adam": {"": (240, 140)},
    "adamw": {"": (280, 140)},  # and 2 for the decay
    "adadelta": {"": (300, 140)},  # 4 for E, two + eps, two sqrt, /, *, 3 for D and d^2, 2 for p
    "adamax": {"": (200, 140)},  # 3 for m, 4 for u, rate m, /, p -
    "amsgrad": {"": (260, 180)},  # adam and a maximum
    "radam": {"": (220, 140)},  # 3 for m, 4 for v, sqrt, + eps, /, p -; the rate holds the rest
    "centered_rmsprop": {"": (320, 180)},  # 4 for E, 3 for m, 3 for sqrt(E - m^2), + eps, /, 2, 2
    "nadam": {"": (300, 140)},  # 3 for m, 4 for v, 3 for the root, 3 for the sum, /, p -
    "rprop": {"": (100, 140)},  # the product of the signs, a factor, its limit, a sign, p -
    "delta_bar_delta": {"": (140, 140)},  # the product of the signs, 1 for r, r g, p -, 3 for b
    "asgd": {"": (140, 100)},  # 2 for the decay, 2 for p, 3 for the average
    "lion": {"": (220, 100)},  # 3 for the direction, its sign, lr, p -, 2 for the decay, 3 for m
    # Magnitude, two comparisons and counts of 15 weights; two counts of 8 bytes.
    "add_l2": {"": (40, 60)},
    "clip_by_value": {"": (40, 40)},  # two comparisons
    "clip_by_global_norm": {"": (41, 21)},  # of a norm below the limit: as global_norm
    "sparsity": {"": (75, 15, 16)},
    "connection_sparsity": {"": (45, 15, 40)},  # magnitude, comparison, count; five counts
    "unit_activity": {"": (20, 10, 80)},  # comparison, count of 10; five counts read and written
    # Two comparisons, or magnitude and comparison, and a count of 10; five counts.
    "saturation": {"sigmoid": (30, 10, 40), "tanh": (30, 10, 40)},
    # Three comparisons, difference, product, floor, count; 64 bins and three more counts.
    "histogram": {"": (105, 15, 536)},
    "global_norm": {"": (41, 21)},  # square and sum of 15 and 5, a root
    "inner_product": {"": (30, 31)},
    "add_scaled": {"": (30, 45)},
    "conjugate_direction": {"": (165, 60)},  # 2, 2, 2 and 3 for inner products, 2 for the sum
    # Of each of 4 pairs 5 products and sums of 15 elements; y^T y, the scale; 10 vectors.
    "lbfgs_direction": {"": (645, 150)},
    "newton_direction": {"": (30, 15)},  # 27 / 3 for the factors, 18 for two systems, 3 sums
    # Images of 1 x 3. Both coordinates: of a row 2 each, of a pixel product, sum, place, distance;
    # 3 interpolations of 3. Images, y, matrices.
    "affine_transform": {"": (110, 24)},
    # 5 numbers of factor and shift, 2 angles, 3 functions, 2 shifts, scale 3, R S 8, offsets 10.
    "random_affine": {"": (76, 12)},
    # Both coordinates: 3 + 9 products and sums of 3 pixels, 2 + 2 + 2 of each; 3 interpolations.
    "elastic_transform": {"": (222, 12)},
}
# 15 weights are written, none is read. A uniform one takes a factor and a shift; a pair of normal
# ones logarithm, factor, root, angle, cosine, sine, two products: half of it each. Of a sparse unit
# all three inputs are connected, and each needs six. Q of a matrix 5 x 3: 36 (5 - 1), its signs.
WORK["initialize"] = {
    **dict.fromkeys(("zeros", "constant"), (0, 15)),
    **dict.fromkeys(("he_uniform", "glorot_uniform", "lecun_uniform", "fan_in_uniform"), (30, 15)),
    **dict.fromkeys(("he_normal", "glorot_normal", "lecun_normal"), (60, 15)),
    "sparse_normal": (90, 15),
    "orthogonal": (36 * 4 + 15 + 60, 15),
}
for name, (forward, backward, alphas) in ACTIVATIONS.items():
    read = 0 if name == "identity" else 10 + alphas
    written = 5 if name == "prelu" else 0  # dalpha
    WORK["activation_forward"][name] = 10 * forward, 20 + alphas
    WORK["activation_backward"][name] = 10 * backward, 20 + read + written
    # 2 * 30 for the product, 10 for the bias, then the activation.
    WORK["dense_forward"][name] = 70 + 10 * forward, 36 + alphas
    # 4 * 30 for two products, 10 for dbias; x, dx, W, dW, dbias, dy, and saved where it is read.
    WORK["dense_backward"][name] = 130 + 10 * backward, 57 + read + written
for name in ("dense_forward", "dense_backward"):
    WORK[name]["relu tf32"] = WORK[name]["relu"]


@over_operations
def test_work_is_what_a_hand_counts(operation):
    flops, elements, *labels = WORK[operation.name][operation.variant]
    sizes = {"batch": 2, "fan_in": 3, "fan_out": 5}
    assert operation.flops(**sizes) == flops
    for dtype, size in (("float32", 4), ("float64", 8)):
        assert operation.bytes(dtype, **sizes) == elements * size + sum(labels)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("operation", [*OPERATIONS, STANDARDISE], ids=str)
def test_bytes_are_those_of_the_arrays(operation, dtype):
    """Each array that is read, once, and each that is written, once."""
    given = case(6, 5, 7, dtype)
    inputs = operation.sample(np.random.default_rng(2), given)
    results = [
        np.asarray(array).astype(result.dtype or dtype)
        for array, result in zip(operation.oracle(inputs), operation.results, strict=True)
    ]
    assert operation.bytes(dtype, **given.sizes) == moved(operation, inputs, results)


@pytest.mark.parametrize("optimizer", reference.network.STATES)
@pytest.mark.parametrize("loss", reference.network.LOSSES)
def test_work_of_a_step(loss, optimizer):
    """A network 2-3-4 on 5 rows: 25 parameters; products of 6 and 12 terms a row."""
    network = reference.network.create((2, 3, 4), loss=loss, optimizer=optimizer, batch=5, lr=0.1)
    update = WORK[optimizer][""][0] * 25 // 20
    products = 2 * 5 * (6 + 6 + 12 + 12 + 12)  # there is no gradient of the input
    assert network_spec.flops(network, 5) == products + update
    states = (WORK[optimizer][""][1] // 20 - 3) // 2  # 3 elements and 2 a state for a parameter
    targets = 0 if loss == "softmax_cross_entropy" else 5 * 4
    assert network_spec.elements(network, 5) == 50 * (1 + states) + 10 + targets
    assert network_spec.label_bytes(network, 5) == (0 if targets else 20)


@pytest.mark.parametrize(
    ("options", "operations", "running"),
    [
        # Two layers of 15 elements. Batch norm: 6 an element and 13 a unit there, 8 and 7 back.
        ({"normalization": "batch_norm"}, 2 * (15 * 14 + 3 * 20), 24),
        # Layer norm: 7 an element and 5 a row there, 13 and 2 back.
        ({"normalization": "layer_norm"}, 2 * (15 * 20 + 5 * 7), 0),
        # Words in four blocks; compared, multiplied, and multiplied again on the way back.
        ({"dropout": 0.5}, 2 * (4 * 60 + 3 * 15), 0),
        ({"residual": True}, 3 * 15, 0),  # there and back, but for the first on the way back
    ],
    ids=str,
)
def test_work_of_a_step_between_products(options, operations, running):
    """A network 3-3-3-4 on 5 rows."""
    plain, deep = (
        reference.network.create((3, 3, 3, 4), batch=5, lr=0.1, optimizer="sgd", **more)
        for more in ({}, options)
    )
    parameters = 2 * 3 * ("normalization" in options)  # a beta in place of each bias, and a gamma
    expected = network_spec.flops(plain, 5) + operations + 2 * parameters
    assert network_spec.flops(deep, 5) == expected
    assert network_spec.elements(deep, 5) == (
        network_spec.elements(plain, 5) + 2 * parameters + running
    )


def test_of_a_maxout_layer_the_winners_alone_have_gradients():
    """A network 2-3-4 on 5 rows with two pieces a unit: 34 parameters."""
    network = reference.network.create(
        (2, 3, 4), activations="maxout", pieces=2, optimizer="sgd", batch=5, lr=0.1
    )
    update = WORK["sgd"][""][0] * 34 // 20
    assert network_spec.flops(network, 5) == 2 * 5 * (12 + 6 + 12 + 12 + 12) + update


# --- error bounds ---------------------------------------------------------------------------------


def test_growth_of_a_sum():
    """The worst case for few terms, then what holds but with the probability n exp(-32)."""
    assert [bounds.summation(n) for n in (1, 10, 64)] == [1, 10, 64]
    assert bounds.summation(10_000) == pytest.approx(100 * math.sqrt(2 * 32))
    assert pytest.approx(32) == bounds.SIGMAS**2 / 2
    assert (bounds.unit_roundoff("float32"), bounds.unit_roundoff("float64")) == (2**-24, 2**-53)


def rounded(array, bits):
    """float32 numbers with so many bits of mantissa, as TF32 (10) and bfloat16 (7) have."""
    whole = np.float64(array).astype(np.float32).view(np.uint32)
    lost = 23 - bits
    half = np.uint32((1 << (lost - 1)) - 1) + ((whole >> np.uint32(lost)) & np.uint32(1))
    mask = np.uint32(0xFFFFFFFF << lost & 0xFFFFFFFF)
    return ((whole + half) & mask).view(np.float32)


DEPTHS = (1, 2, 3, 4, 7, 16, 33, 64, 128, 257, 784, 2048, 4097, 8192)


def _product(depth, rows=24, columns=20):
    """An operation's inputs whose product has that depth, and where it stands in the results."""
    rng = np.random.default_rng(depth)
    forward = BY_NAME["dense_forward[identity]"], case(rows, depth, columns)
    weight = BY_NAME["dense_backward[identity]"], case(depth, rows, columns)
    return [(operation, operation.sample(rng, shape)) for operation, shape in (forward, weight)]


@pytest.mark.parametrize("bits", [10, 7], ids=["TF32", "bfloat16"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_products_of_rounded_inputs_are_rejected(depth, bits):
    """Their sums are exact here, so that there is nothing but the rounding of the inputs."""
    for operation, inputs in _product(depth):
        results = [result.astype(np.float32) for result in operation.oracle(inputs)]
        assert operation.disagreement(inputs, tuple(results)) is None
        spoilt = {k: rounded(v, bits) for k, v in inputs.items() if k in ("x", "weight", "dy")}
        rounded_results = operation.oracle({**inputs, **spoilt})
        for k, result in enumerate(operation.results):
            if result.name in ("y", "dx", "dweight"):
                wrong = results.copy()
                wrong[k] = rounded_results[k].astype(np.float32)
                complaint = operation.disagreement(inputs, tuple(wrong))
                assert complaint is not None, (result.name, depth)


@pytest.mark.parametrize("depth", DEPTHS)
def test_where_tf32_is_permitted_bfloat16_is_rejected(depth):
    """And float32 is accepted, as are factors of TF32, of which there may be one alone."""
    for operation, inputs in _product(depth):
        inputs["precision"] = "tf32"
        factors = [name for name in ("dy", "x", "weight") if name in inputs]
        exact = operation.oracle(inputs)
        for chosen in ((), *((name,) for name in factors), factors):
            spoilt = {name: rounded(inputs[name], 10) for name in chosen}
            results = operation.oracle({**inputs, **spoilt})
            results = [r.astype(np.float32) for r in results[:2]]  # dbias is of no product
            results = *results, *(r.astype(np.float32) for r in exact[2:])
            assert operation.disagreement(inputs, results) is None, chosen
        spoilt = {name: rounded(inputs[name], 7) for name in factors}
        for k, result in enumerate(operation.oracle({**inputs, **spoilt})[:2]):
            wrong = [r.astype(np.float32) for r in exact]
            wrong[k] = result.astype(np.float32)
            name = operation.results[k].name
            assert f", {name}: " in str(operation.disagreement(inputs, tuple(wrong))), name


def test_the_bound_of_tf32_is_float32s_alone():
    """In float64 nothing is rounded to TF32, whatever is permitted."""
    for operation in (BY_NAME["dense_forward[relu tf32]"], BY_NAME["dense_backward[relu tf32]"]):
        inputs = operation.sample(np.random.default_rng(0), case(9, 8, 7, "float64"))
        plain = {name: value for name, value in inputs.items() if name != "precision"}
        for bound, narrow in zip(operation.bounds(inputs), operation.bounds(plain), strict=True):
            np.testing.assert_array_equal(bound.each, narrow.each)


def _one_after_another(terms):
    total = np.zeros(terms.shape[1:], np.float32)
    for term in terms:
        total += term
    return total


def _pairwise(terms):
    while len(terms) > 1:
        if len(terms) % 2:
            terms = np.concatenate([terms, np.zeros_like(terms[:1])])
        terms = terms[::2] + terms[1::2]
    return terms[0]


def _in_blocks(terms, size=37):
    parts = [_one_after_another(terms[n : n + size]) for n in range(0, len(terms), size)]
    return _one_after_another(np.array(parts))


def _backwards(terms):
    return _one_after_another(terms[::-1])


@pytest.mark.parametrize("order", [_one_after_another, _pairwise, _in_blocks, _backwards])
def test_float32_is_accepted_in_any_order_of_summation(order):
    """Over many draws; each takes a good part of the bound, so that the bound is not a wide one."""
    forward = BY_NAME["dense_forward[identity]"]
    for depth in DEPTHS:
        taken, rng = [], np.random.default_rng(depth)
        for _ in range(12 if depth < 1000 else 3):
            inputs = forward.sample(rng, case(9, depth, 8))
            inputs["bias"][:] = 0
            y = order(np.einsum("ik,kj->kij", inputs["x"], inputs["weight"]))
            assert forward.disagreement(inputs, (y,)) is None, depth
            (want,), (bound,) = forward.oracle(inputs), forward.bounds(inputs)
            taken.append(bound.shares(y, want)[1])
        if order is _one_after_another:
            assert 0.03 < max(taken) < 0.3, depth


# (batch, fan_in, fan_out) and how often.
DRAWS = [((1, 1, 1), 40), ((1, 3, 2), 40), ((9, 7, 5), 20), ((33, 64, 65), 5), ((400, 500, 30), 1)]
ADDED = (
    "param",
    "bias",
)  # to which a result is added: where they are zero, its error is seen alone


def drawn(operation):
    """(which of ADDED is zero, inputs) of many draws."""
    rng = np.random.default_rng(7)
    for shape, draws in DRAWS:
        for _ in range(draws if is_quick(operation, *shape) else 0):
            inputs = operation.sample(rng, case(*shape))
            yield "", inputs
            for name in set(ADDED) & set(inputs):
                yield f", {name} 0", {**inputs, name: np.zeros_like(inputs[name])}


@over_operations
def test_bounds_bind(operation):
    """The worst error of the CPU's kernels comes near to every bound at some size, and so do the
    errors' root mean squares where they have a bound of their own. `pytest -s` shows by how much.
    Of products in TF32 it is the simulated GPU that takes them.
    """
    worst, exact, alike = {}, {}, {}
    backends = map(kernels.load, NATIVE[:2])
    for backend in [backend_or_skip(SIMULATED[0])] if operation.precision else backends:
        for zero, inputs in drawn(operation):
            _, results, _ = call(backend, operation, inputs)
            expected, limits = operation.oracle(inputs), operation.bounds(inputs)
            pairs = zip(operation.results, results, expected, limits, strict=True)
            for result, got, want, bound in pairs:
                name = result.name + zero
                shares = bound.shares(got, want)
                worst[name] = list(map(max, worst.get(name, shares), shares))
                exact[name] = exact.get(name, True) and not np.any(bound.each)
                alike[name] = alike.get(name, True) and bound.deviation is bound.each
    for name, (of_each, of_deviation) in worst.items():
        shown = "exact" if exact[name] else f"{of_each:.3f}"
        spread = "" if alike[name] else f"{of_deviation:.3f}"
        print(f"\n{operation!s:40} {name:18} {shown:>6} {spread:>6}", end="")
        assert exact[name] or of_each >= 0.01, name
        assert alike[name] or of_deviation >= 0.01, name


@pytest.mark.parametrize(
    "operation", [o for o in reference.FAMILIES["recurrent"] if "whole" in o.variant], ids=str
)
def test_deviations_bind_after_many_steps(operation):
    """Where the bound of each element has long left the numbers behind."""
    at = workloads.layers_of("recurrent")["digits-64x128"].at(batch=2)
    inputs = operation.sample(np.random.default_rng(5), at)
    _, results, _ = call(kernels.load("numpy"), operation, inputs)
    expected, limits = operation.oracle(inputs), operation.bounds(inputs)
    for result, got, want, bound in zip(operation.results, results, expected, limits, strict=True):
        _, share = bound.shares(got, want)
        assert 0.01 <= share <= 1, result.name
