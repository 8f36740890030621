"""Answers of other libraries that are not compared number by number, and what these keep."""

import functools

import numpy as np
import pytest

import reference
from benchmarks.peers import answers, contenders, given
from benchmarks.suites import workloads
from kernels.catalog import ACTIVATIONS
from reference import FAMILIES

OPERATIONS = {str(operation): operation for family in FAMILIES.values() for operation in family}


def drawn(name, change, layer="mnist-512x512"):
    """What is wrong with a layer of another seed that was changed."""
    operation, layer = OPERATIONS[f"initialize[{name}]"], workloads.layers()[layer]
    inputs = operation.sample(np.random.default_rng(3), layer)
    weight = inputs["weight"].copy()
    operation.function(**{**inputs, "weight": weight, "seed": 7})
    known = contenders.remembered(operation, inputs)
    return answers.disagreement(known, inputs, (change(weight),))


@pytest.mark.parametrize("name", ["he_normal", "he_uniform"])
def test_random_numbers_are_compared_by_their_distribution(name):
    assert drawn(name, lambda weight: weight) is None
    assert "distributions" in drawn(name, lambda weight: np.float32(1.1) * weight)
    assert "distributions" in drawn(name, lambda weight: np.full_like(weight, np.nan))


def test_sparse_weights_are_compared_by_their_number_and_distribution():
    assert drawn("sparse_normal", lambda weight: weight) is None
    assert "distributions" in drawn("sparse_normal", lambda weight: 2 * weight)
    assert "inputs" in drawn("sparse_normal", lambda weight: np.where(weight > -3, weight, 0))


def test_what_is_not_orthonormal_is_reported():
    compared = functools.partial(drawn, "orthogonal", layer="digits-64x128")
    assert compared(lambda weight: -weight) is None
    assert "orthonormal" in compared(lambda weight: np.float32(1.001) * weight)
    assert "orthonormal" in compared(lambda weight: np.full_like(weight, np.nan))


def test_of_dropout_what_is_kept_is_compared_and_how_much():
    operation = OPERATIONS["dropout_forward"]
    case = workloads.layers()["mnist-512x512"].at(batch=32)
    inputs = operation.sample(np.random.default_rng(3), case)
    y = operation.function(**{**inputs, "seed": 7})
    known = functools.partial(
        answers.disagreement, contenders.remembered(operation, inputs), inputs
    )
    assert known((y,)) is None
    assert "wrong" in known((np.float32(1.001) * y,))
    assert "wrong" in known((np.full_like(y, np.nan),))
    fewer = np.where(np.arange(y.size).reshape(y.shape) % 10, y, 0)
    assert known((fewer,)) == f"{(fewer != 0).mean():.3g} are kept, not 0.5"


def test_histograms_may_differ_at_borders_alone():
    operation = OPERATIONS["histogram"]
    x = np.array([0.1, 0.4, 0.5, 0.9], np.float32)
    inputs = {"x": x, "low": 0.0, "high": 1.0, "bins": 2}
    for counts, right in (([2, 2], True), ([3, 1], True), ([4, 0], False), ([1, 3], True)):
        complaint = answers.disagreement(operation, inputs, (np.array(counts, np.float32),))
        assert (complaint is None) == right


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_pre_activations_are_found_again(activation):
    """From what the forward pass saved, and so the derivative as well."""
    operation = OPERATIONS[f"activation_backward[{activation}]"]
    layer = workloads.layers()["moons-32x16"]
    inputs = operation.sample(np.random.default_rng(3), layer.at(batch=50))
    z = given.pre_activation(inputs)
    arguments = {"alpha": inputs["alpha"]} if "alpha" in inputs else {}
    saves = ACTIVATIONS[activation].saves_input
    again = z if saves else reference.activation_forward(z, activation, **arguments)
    np.testing.assert_allclose(again, inputs["saved"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_biases_of_recurrent_layers_are_found_again(cell):
    """Both directions draw the same layer."""
    forward, backward = recurrent(cell, "forward"), recurrent(cell, "backward")
    at = workloads.layers_of("recurrent")["moons-32x16"].at(batch=3)
    bias = forward.sample(np.random.default_rng(3), at)["bias"]
    inputs = backward.sample(np.random.default_rng(3), at)
    np.testing.assert_allclose(given.recurrent_bias(cell, inputs), bias, atol=1e-7)


def test_what_a_recurrent_layer_leaves_for_its_gradient_may_be_kept_inside():
    """Not so its states."""
    operation = recurrent("lstm", "forward")
    at = workloads.layers()["moons-32x16"].at(batch=3)
    inputs = operation.sample(np.random.default_rng(3), at)
    known = contenders.remembered(operation, inputs)
    y, last, last_cell, *_ = operation.function(**inputs)
    assert answers.disagreement(known, inputs, (y, last, last_cell)) is None
    assert "last_cell: " in answers.disagreement(known, inputs, (y, last, 1.001 * last_cell))
    with pytest.raises(ValueError, match="longer than"):
        answers.disagreement(known, inputs, (y, last))


def test_after_many_steps_an_answer_is_as_near():
    """Where each bound has grown beyond the numbers, that of the root mean square binds."""
    operation = recurrent("gru", "forward")
    at = workloads.layers_of("recurrent")["digits-128x64"].at(batch=2)
    inputs = operation.sample(np.random.default_rng(3), at)
    known = contenders.remembered(operation, inputs)
    y, last, _ = operation.function(**inputs)
    assert answers.disagreement(known, inputs, (y, last)) is None
    assert "last: " in answers.disagreement(known, inputs, (y, np.float32(1.001) * last))


def recurrent(cell, way):
    return OPERATIONS[f"{cell}_{way}[{'tanh, whole' if cell == 'rnn' else 'whole'}]"]
