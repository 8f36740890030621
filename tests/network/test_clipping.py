"""What a step does between the gradients and the rule: L2, clipping, the scheduled rate."""

import numpy as np
import pytest
from conftest import FAST_NATIVE, SIMULATED, backend_or_skip, over_dtypes
from network_cases import BUSY, LARGE, SMALL, hold, make, put, sample, trained

import reference
from kernels.schedules import CosineRestarts, Exponential, ReduceOnPlateau, WarmUp

OPTIONS = {
    "l2": {"l2": 0.3},
    "value": {"clip_value": 0.01},
    "norm": {"clip_norm": 0.05},
    "norm that is never reached": {"clip_norm": 50.0},
    "all": {"l2": 0.2, "clip_value": 0.02, "clip_norm": 0.1, "weight_decay": 0.1}
    | {"optimizer": "sgd", "schedule": CosineRestarts(2)},
    "schedule": {"optimizer": "adamw", "schedule": WarmUp(2, 0.1, Exponential(0.5))},
}
over_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
over_networks = pytest.mark.parametrize("network", [SMALL, LARGE, BUSY], ids=["s", "large", "busy"])


@pytest.fixture(scope="module", params=[*FAST_NATIVE, SIMULATED[2]])
def backend(request):
    return backend_or_skip(request.param)


@over_dtypes
@over_networks
@over_options
def test_steps_agree_with_the_oracle(backend, network, options, dtype):
    ours = make(backend, network, dtype=dtype, **options)
    oracle = make(reference, network, **options)
    ours.load_state(trained(ours.state()))
    for seed in range(3):
        hold(backend, ours, oracle, *sample(network, 16, dtype=dtype, seed=seed), dtype)


@over_networks
def test_limits_that_are_never_reached_change_nothing(backend, network):
    """Not a bit: the same sums, however the gradients are gone over."""
    x, labels = put(backend, *sample(network, 16))
    plain, limited = make(backend, network), make(backend, network, clip_norm=1e6, clip_value=1e6)
    for _ in range(2):
        assert plain.step(x, labels) == limited.step(x, labels)
    for name, array in plain.state().items():
        np.testing.assert_array_equal(array, limited.state()[name], name)


@over_networks
def test_gradients_are_as_long_as_they_may_be(backend, network):
    ours = make(backend, network, clip_norm=0.03, activations="tanh")
    ours.step(*put(backend, *sample(network, 16)))
    assert np.linalg.norm(ours.gradients) == pytest.approx(0.03, rel=1e-12)


@over_networks
def test_an_epoch_takes_each_step_at_its_rate(backend, network):
    x, labels = sample(network, 40)
    order = np.random.default_rng(1).permutation(40)
    options = {"schedule": Exponential(0.5), "optimizer": "momentum", "clip_norm": 0.2}
    stepwise, whole = (make(backend, network, **options) for _ in range(2))
    for first in range(0, 40, 16):
        rows = order[first : first + 16]
        stepwise.step(*put(backend, x[rows], labels[rows]))
    whole.epoch(*put(backend, x, labels, order))
    for name, array in stepwise.state().items():
        np.testing.assert_array_equal(array, whole.state()[name], name)


def test_a_loaded_network_goes_on_with_its_schedule(backend):
    x, labels = put(backend, *sample(SMALL, 16))
    options = {"schedule": Exponential(0.5), "optimizer": "sgd"}
    first, second = make(backend, SMALL, **options), make(backend, SMALL, **options)
    for _ in range(3):
        first.step(x, labels)
    second.load_state(first.state())
    assert first.step(x, labels) == second.step(x, labels)
    for name, array in first.state().items():
        np.testing.assert_array_equal(array, second.state()[name], name)


def test_a_rate_may_follow_what_is_observed(backend):
    """A schedule that changes between calls is asked again."""
    x, labels = put(backend, *sample(SMALL, 16))
    plateau = ReduceOnPlateau(factor=0.0, patience=0)
    network = make(backend, SMALL, optimizer="sgd", schedule=plateau)
    network.step(x, labels)
    plateau.observe(1.0)
    plateau.observe(1.0)
    before = network.state()
    network.step(x, labels)
    for name, array in network.state().items():
        if name != "steps":
            np.testing.assert_array_equal(array, before[name], name)


@pytest.mark.parametrize("factor", [-1.0, float("nan"), float("inf"), "fast", None])
def test_a_bad_rate_is_told_and_nothing_changed(backend, factor):
    x, labels, order = put(backend, *sample(SMALL, 16), np.arange(16))
    network = make(backend, SMALL, schedule=lambda step: factor)
    before = network.state()
    for call in (lambda: network.step(x, labels), lambda: network.epoch(x, labels, order)):
        with pytest.raises((TypeError, ValueError), match=r"schedule\(1\) must be"):
            call()
    for name, array in network.state().items():
        np.testing.assert_array_equal(array, before[name], name)
