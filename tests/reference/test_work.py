"""The specifications' work, against numbers counted by hand."""

import pytest

import reference
from reference import OPERATIONS, network_spec

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


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=str)
def test_work_is_what_a_hand_counts(operation):
    flops, elements, *labels = WORK[operation.name][operation.variant]
    sizes = {"batch": 2, "fan_in": 3, "fan_out": 5}
    assert operation.flops(**sizes) == flops
    for dtype, size in (("float32", 4), ("float64", 8)):
        assert operation.bytes(dtype, **sizes) == elements * size + sum(labels)


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
