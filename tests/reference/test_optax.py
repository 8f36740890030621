"""Trajectories of the update rules beside optax's where that is installed, in float64."""

import numpy as np
import pytest

import reference
from reference import optimizer_spec
from reference.optimizers import RULES

optax = pytest.importorskip("optax", reason="optax is not installed (the extra peers)")
import jax  # noqa: E402  it comes with optax

STEPS, LR = 100, 0.05
BETAS = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3}
THEIRS = {"b1": 0.8, "b2": 0.95, "eps": 1e-3}
TINY = 1e-14  # theirs stands inside the root, or beside another: as good as none
# A rule's settings here -> (its name there, its settings).
COUNTERPARTS = {
    "sgd": ({}, "sgd", {}),
    "momentum": ({"beta": 0.7}, "sgd", {"momentum": 0.7}),
    "nesterov": ({"beta": 0.7}, "sgd", {"momentum": 0.7, "nesterov": True}),
    "adagrad": ({"eps": TINY}, "adagrad", {"eps": TINY**2, "initial_accumulator_value": 0.0}),
    "rmsprop": (
        {"rho": 0.8, "eps": 1e-3},
        *("rmsprop", {"decay": 0.8, "eps": 1e-3, "eps_in_sqrt": False}),
    ),
    "centered_rmsprop": (
        {"rho": 0.8, "beta": 0.7, "eps": 1e-3},
        "rmsprop",
        {"decay": 0.8, "eps": 1e-3, "eps_in_sqrt": False, "centered": True, "momentum": 0.7},
    ),
    "adam": (BETAS, "adam", THEIRS),
    "adamw": (BETAS | {"weight_decay": 0.1}, "adamw", THEIRS | {"weight_decay": 0.1}),
    "adadelta": ({"rho": 0.8, "eps": 1e-3}, "adadelta", {"rho": 0.8, "eps": 1e-3}),
    "adamax": (BETAS, "adamax", THEIRS),
    "radam": (BETAS | {"eps": TINY}, "radam", THEIRS | {"eps": TINY}),
    "lion": (
        {"beta1": 0.8, "beta2": 0.95, "weight_decay": 0.1},
        *("lion", {"b1": 0.8, "b2": 0.95, "weight_decay": 0.1}),
    ),
}
# optax has none, or another of this name: amsgrad takes the largest of corrected variances, nadam
# lets its momentum not decay, rprop (in 0.2.8) takes each step at the call after its gradient's.
ALONE = {"asgd", "delta_bar_delta", "amsgrad", "nadam", "rprop"}


def test_every_rule_is_compared_or_has_no_counterpart():
    assert {rule.__name__ for rule in RULES} == {*COUNTERPARTS, *ALONE}


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_trajectory(name):
    """A hundred steps from a state of zeros, with hyperparameters that are nobody's defaults."""
    rng, rule = np.random.default_rng(0), getattr(reference, name)
    settings, counterpart, theirs = COUNTERPARTS[name]
    param = rng.standard_normal(50)
    states = [np.zeros_like(param) for _ in optimizer_spec.parts(rule)[0]]
    with jax.enable_x64(True):
        optimizer = getattr(optax, counterpart)(LR, **theirs)
        there = jax.numpy.asarray(param)
        state = optimizer.init(there)
        advance = jax.jit(optimizer.update)
        for step in range(1, STEPS + 1):
            grad = rng.standard_normal(param.shape)
            count = {"step": step} if optimizer_spec.counts(rule) else {}
            rule(param, grad, *states, **count, lr=LR, **settings)
            change, state = advance(jax.numpy.asarray(grad), state, there)
            there = optax.apply_updates(there, change)
            np.testing.assert_allclose(param, np.asarray(there), rtol=1e-9, atol=1e-11)
