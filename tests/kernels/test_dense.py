"""The gradients of the reference's dense layer are those of the function it computes."""

import numpy as np
import pytest

import reference
from reference.activations import ACTIVATIONS


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_central_differences(activation):
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(s) for s in ((5, 4), (4, 3), 3))
    dy = rng.standard_normal((5, 3))
    alpha = np.array([0.3, -0.2, 1.5]) if activation in ("prelu", "rectifier") else None

    def objective(x, weight, bias, alpha):
        return (dy * reference.dense_forward(x, weight, bias, activation, alpha)).sum()

    z = reference.dense_forward(x, weight, bias)
    assert np.abs(z).min() > 1e-3, "the kink at 0 has no derivative"
    y = reference.activation_forward(z, activation, alpha)
    saved = z if ACTIVATIONS[activation].saves_input else y
    gradients = reference.dense_backward(dy, x, weight, saved, activation, alpha)

    arguments = [x, weight, bias, alpha]
    h = 1e-5
    for position, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            ends = []
            for sign in (1, -1):
                moved = [None if a is None else a.copy() for a in arguments]
                moved[position][index] += sign * h
                ends.append(objective(*moved))
            # h^2 / 6 times third derivatives of a few tens, and rounding u |objective| / h.
            assert abs((ends[0] - ends[1]) / (2 * h) - gradient[index]) < 1e-7
