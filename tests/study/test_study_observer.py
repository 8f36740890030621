"""What is looked at in a network, against counts by hand."""

import numpy as np
import pytest

import reference
from benchmarks.study import observer
from reference import blocks

SIZES, ROWS = (3, 8, 6, 2), 40


def seen(activation, change=lambda parameters: None):
    """(the observation of a network, its parameters, x, labels)."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((ROWS, 3)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(np.int32)
    net = reference.network.create(SIZES, activations=activation, batch=ROWS, lr=0.1, seed=3)
    change(net.parameters)
    before = {name: array.copy() for name, array in net.parameters.items()}
    found = observer.Observer(reference, SIZES, activation, x, labels)(net.parameters)
    for name, array in before.items():
        np.testing.assert_array_equal(array, net.parameters[name])
    return found, net, x, labels


def kill(parameters):
    parameters["layer0.bias"][:3] = -100


@pytest.mark.parametrize(
    ("activation", "dead"), [("relu", 3 / 8), ("leaky_relu", 0), ("prelu", 0), ("elu", 3 / 8)]
)
def test_units_that_pass_no_gradient_are_dead(activation, dead):
    found, *_ = seen(activation, kill)
    assert found["dead"][0] == dead
    if activation == "relu":
        assert found["sparse_activations"][0] >= 3 / 8
    if activation == "elu":  # saturated, at -1, not at 0
        assert found["sparse_activations"][0] < 0.05


def test_a_negative_slope_is_alive_and_a_slope_of_zero_dead():
    def slopes(parameters):
        kill(parameters)
        parameters["layer0.slope"][:3] = (-0.5, 0.0, 0.3)

    assert seen("prelu", slopes)[0]["dead"][0] == 1 / 8


def test_gradients_are_those_of_the_mean_loss_of_all_rows():
    found, net, x, labels = seen("relu")
    _, gradients = net.loss_and_gradients(x, labels)
    norms = [np.linalg.norm(gradients[f"layer{n}.weight"]) for n in range(3)]
    np.testing.assert_allclose(found["gradients"], norms, rtol=1e-5)


def test_shares_that_are_near_zero():
    def clear(parameters):
        for name in ("layer0.weight", "layer1.weight", "layer2.weight"):
            parameters[name][...] = 1
        parameters["layer1.weight"][:, :2] = 1e-4

    found, net, x, _ = seen("relu", clear)
    assert found["sparse_weights"] == pytest.approx(16 / (24 + 48 + 12))
    first = blocks.forward(net._block(0), x, False).y
    assert found["sparse_activations"][0] == pytest.approx((first <= observer.NEAR).mean())
