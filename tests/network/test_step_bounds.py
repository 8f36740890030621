"""The error bounds of a network's step: tight enough to find a mistake, at any depth."""

import itertools

import numpy as np
from conftest import backend_or_skip
from network_cases import BLOCKS, make, of_every_kind, sample, trained, wide

import reference
from reference.network_spec import forward_bounds, loss_bound, step_bound


def _taken(kind, activation, networks, rows_of):
    """{name: how much of a step's bounds the CPU's errors in float32 take}, the most of networks of
    these (sizes, seed).
    """
    backend, taken = backend_or_skip("numba"), {}
    options = {"activations": activation, **BLOCKS[kind], "clip_norm": None, "clip_value": None}
    for sizes, seed in networks:
        shape = {"sizes": sizes, **options}
        ours, oracle = make(backend, shape, dtype="float32"), make(reference, shape)
        ours.load_state(trained(ours.state(), seed))
        oracle.load_state({name: wide(array) for name, array in ours.state().items()})
        loss = options.get("loss", "softmax_cross_entropy")
        x, labels = sample(shape, rows_of(sizes), loss, "float32", seed)
        of_loss, bounds, _ = step_bound(oracle, wide(x), wide(labels), "float32")
        got, want = {"loss": ours.step(x, labels)}, {"loss": oracle.step(wide(x), wide(labels))}
        got, want = got | ours.state(), want | oracle.state()
        for name, bound in ({"loss": of_loss} | bounds).items():
            shares = bound.shares(got[name], want[name])
            taken[name] = list(map(max, taken.get(name, shares), shares))
    for name, shares in taken.items():
        print(f"\n{kind:12} {name:26} {shares[0]:.3f} {shares[1]:.3f}", end="")
    return taken


@of_every_kind
def test_bounds_of_a_step_bind(kind):
    """The errors of the CPU's step in float32 come near to its bounds. `pytest -s` shows them."""
    networks = itertools.product([(2, 2, 2), (5, 7, 7, 3)], range(10))
    taken = _taken(kind, "tanh", networks, lambda sizes: 16 if sizes[0] > 2 else 3)
    assert min(map(max, taken.values())) >= 0.01, taken


@of_every_kind
def test_deviations_of_a_deep_step_bind(kind):
    """Of the loss and of every weight after ten layers, where the worst case has long left the
    numbers behind.
    """
    networks = [((16, *[16] * 10, 3), seed) for seed in range(10)]
    taken = _taken(kind, "tanh", networks, lambda sizes: 16)
    for name, (_, of_deviation) in taken.items():
        assert of_deviation <= 1, name
        assert of_deviation >= 0.01 or not name.endswith(("loss", "weight")), name


def test_bounds_of_a_step_stay_numbers():
    """Two rows under batch norm: a layer's errors are many times those of the layer before, and
    where a probability may be anything its bound is 1, not 0 times infinity.
    """
    shape = {"sizes": (8, *[16] * 8, 3), "activations": "relu", "normalization": "batch_norm"}
    oracle = make(reference, shape)
    oracle.load_state(trained(oracle.state()))
    x, labels = sample(shape, 2)
    of_logits = forward_bounds(oracle, x, "float32", training=True)[-1][2].y
    assert of_logits.each.max() > 400  # exp of twice as much overflows
    of_loss, bounds, norms = step_bound(oracle, x, labels, "float32")
    logits = np.array([[0.0, -1e4, 2.0], [1.0, 2.0, 3.0]])
    _, of_slope = loss_bound(oracle, logits, of_logits, labels, "float32")
    assert (of_slope.each < 1).all()  # of a mean of two
    for bound in (of_loss, *bounds.values(), norms, of_slope):
        assert not np.isnan(bound.each).any()
        assert not np.isnan(bound.deviation).any()
