"""Networks with normalisation, maxout, dropout and skips: the program that every backend runs."""

import numba
import numpy as np
import pytest
from conftest import FAST_NATIVE, IN_EVERY_ORDER, NATIVE, SIMULATED, backend_or_skip
from network_cases import (
    BLOCKS,
    EVERY_ACTIVATION,
    hold,
    make,
    of_every_kind,
    put,
    sample,
    trained,
    wide,
)

import reference
from benchmarks.suites import owned
from kernels import numba_cpu
from kernels.catalog import maxout_gain
from reference.network import initial
from reference.network_spec import forward_bounds, loss_bound
from reference.spec import compare, oracles_share

SHAPES = {
    "narrow": {"sizes": (7, 7, 7, 5, 5, 3), "activations": ("relu", "gelu", "prelu", "tanh")},
    "wide": {"sizes": (20, 200, 200, 4), "activations": ("prelu", "elu")},
}
of_every_shape = pytest.mark.parametrize("shape", SHAPES)


@pytest.fixture(scope="module", params=[*NATIVE, SIMULATED[2]])
def backend(request):
    return backend_or_skip(request.param)


@pytest.fixture(scope="module", params=[*FAST_NATIVE, SIMULATED[2]])
def fast_backend(request):
    return backend_or_skip(request.param)


@pytest.fixture(scope="module", autouse=True)
def one_blas_thread():
    with owned.one_blas_thread():
        yield


def both(backend, kind, shape="narrow", dtype="float64", **others):
    """A network of the backend, in a state as if it had trained, and the oracle."""
    options = {**SHAPES[shape], **BLOCKS[kind], **others}
    ours = make(backend, options, dtype=dtype)
    ours.load_state(trained(ours.state()))
    return ours, make(reference, options)


def rows_of(kind, shape, count, dtype="float64", seed=0):
    loss = BLOCKS[kind].get("loss", "softmax_cross_entropy")
    return sample(SHAPES[shape], count, loss, dtype, seed)


@pytest.mark.parametrize(
    ("activation", "kind"),
    [(name, k) for k in BLOCKS for name in ("tanh", "prelu") if "activations" not in BLOCKS[k]]
    + [("maxout", k) for k in BLOCKS if "activations" in BLOCKS[k]],
)
def test_gradients_are_central_differences(activation, kind):
    shape = {"sizes": (4, 6, 6, 6, 3), "activations": activation}
    network = make(reference, {**shape, **BLOCKS[kind]})
    x, labels = sample(shape, 7, BLOCKS[kind].get("loss", "softmax_cross_entropy"))
    rng = np.random.default_rng(4)
    for name, param in network.parameters.items():
        if not name.endswith("weight"):
            param += rng.uniform(0.1, 0.5, param.shape)
    _, gradients = network.loss_and_gradients(x, labels)
    assert set(gradients) == set(network.parameters)
    for name, param in network.parameters.items():
        for place in np.ndindex(param.shape):
            middle, around = param[place], []
            for h in (2e-4, -2e-4, 1e-4, -1e-4):
                param[place] = middle + h
                around.append(network.loss_and_gradients(x, labels)[0])
            param[place] = middle
            # Of two steps, so that what is left is h^4 L^(5): a small variance bends the loss.
            slope = (8 * (around[2] - around[3]) - (around[0] - around[1])) / 12e-4
            assert abs(slope - gradients[name][place]) < 1e-8, (name, place)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@of_every_shape
@of_every_kind
def test_steps_are_the_references(backend, kind, shape, dtype):
    ours, oracle = both(backend, kind, shape, dtype)
    for rows in (16, 13):
        hold(backend, ours, oracle, *rows_of(kind, shape, rows, dtype), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("normalization", [None, "batch_norm", "layer_norm"])
@pytest.mark.parametrize("activation", [*EVERY_ACTIVATION, "maxout"])
def test_steps_with_every_activation(backend, activation, normalization):
    options = {"normalization": normalization, "dropout": 0.25, "residual": True}
    shape = {"sizes": (6, 9, 9, 3), "activations": activation, **options}
    ours, oracle = make(backend, shape), make(reference, shape)
    ours.load_state(trained(ours.state()))
    hold(backend, ours, oracle, *sample(shape, 13), "float64")


@pytest.mark.parametrize("order", IN_EVERY_ORDER)
@of_every_kind
def test_in_every_order_of_threads(order, kind):
    gpu = backend_or_skip(order)
    ours, oracle = both(gpu, kind, dtype="float32")
    hold(gpu, ours, oracle, *rows_of(kind, "narrow", 13, "float32"), "float32")


@of_every_kind
def test_inference_takes_what_runs_along_and_drops_nothing(backend, kind):
    """More rows than a batch, too; running statistics that are not those of the start."""
    ours, oracle = both(backend, kind, batch=16)
    for seed in range(3):
        ours.step(*put(backend, *rows_of(kind, "narrow", 16, seed=seed)))
    oracle.load_state({name: wide(array) for name, array in ours.state().items()})
    factor = oracles_share("float64")
    for rows in (1, 16, 37):
        x, labels = rows_of(kind, "narrow", rows)
        of_logits = forward_bounds(oracle, wide(x), "float64", training=False)[-1][2].y
        logits = oracle.predict(x)
        got = backend.to_host(ours.predict(*put(backend, x)))
        complaint = compare(got, logits, of_logits * factor, "float64")
        assert complaint is None, complaint
        of_loss, _ = loss_bound(oracle, logits, of_logits, labels, "float64")
        (found, share), (want, expected) = (
            network.evaluate(*given)
            for network, given in ((ours, put(backend, x, labels)), (oracle, (x, labels)))
        )
        complaint = compare(np.float64(found), want, of_loss * factor, "float64")
        assert complaint is None, complaint
        assert share == pytest.approx(expected)


@of_every_kind
def test_a_run_continues_to_the_bit(backend, kind, tmp_path):
    """Masks and running statistics too, in a network that was made with another seed."""
    options = {**SHAPES["narrow"], **BLOCKS[kind], "dtype": "float32"}

    def steps(network, first, last):
        batches = (rows_of(kind, "narrow", 16, "float32", seed) for seed in range(first, last))
        return [network.step(*put(backend, *batch)) for batch in batches]

    whole = make(backend, options, seed=2**63 + 5)
    steps(whole, 0, 3)
    path = tmp_path / "run.npz"
    np.savez(path, **whole.state())
    resumed = make(backend, options, seed=1)
    resumed.load_state(path)
    assert steps(whole, 3, 6) == steps(resumed, 3, 6)
    after, again = whole.state(), resumed.state()
    assert after.keys() == again.keys()
    for name, array in after.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name, strict=True)


def test_a_state_is_every_backends(fast_backend):
    ours, _ = both(fast_backend, "all", dtype="float32")
    batch = rows_of("all", "narrow", 16, "float32")
    ours.step(*put(fast_backend, *batch))
    state = ours.state()
    other = make(reference, {**SHAPES["narrow"], **BLOCKS["all"]}, dtype="float32", seed=9)
    assert other.state().keys() == state.keys()
    other.load_state(state)
    for name, array in state.items():
        np.testing.assert_array_equal(array, other.state()[name], err_msg=name, strict=True)
    state.pop("layer1.running_variance")
    with pytest.raises(ValueError, match="source must hold the state of such a network"):
        ours.load_state(state)


def test_an_epoch_is_its_steps(backend):
    ours, one_by_one = (both(backend, "all", dtype="float32", batch=8)[0] for _ in range(2))
    x, labels = rows_of("all", "narrow", 21, "float32")
    order = np.random.default_rng(0).permutation(21)
    ours.epoch(*put(backend, x, labels, order))
    for first in range(0, 21, 8):
        rows = order[first : first + 8]
        one_by_one.step(*put(backend, x[rows], labels[rows]))
    after, again = ours.state(), one_by_one.state()
    for name, array in after.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)


def test_a_bad_label_changes_nothing(fast_backend):
    ours, _ = both(fast_backend, "all", dtype="float32")
    x, labels = rows_of("all", "narrow", 16, "float32")
    before = ours.state()
    labels[5] = 3
    with pytest.raises(ValueError, match="labels"):
        ours.step(*put(fast_backend, x, labels))
    after = ours.state()
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name], err_msg=name)


@pytest.mark.parametrize(
    ("kind", "shape"), [("all", "narrow"), ("all", "wide"), ("all with maxout", "wide")]
)
def test_threads_change_no_bit(kind, shape):
    x, labels = rows_of(kind, shape, 900, "float32")
    results = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        network, _ = both(numba_cpu, kind, shape, "float32", batch=900)
        results.append(([network.step(x, labels) for _ in range(3)], network.state()))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert results[0][0] == results[1][0]
    for name, array in results[0][1].items():
        np.testing.assert_array_equal(array, results[1][1][name])


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"normalization": "batch"}, "normalization must be one of"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"dropout": -0.1}, "dropout must be"),
        ({"dropout": None}, "dropout must be"),
        ({"residual": 1}, "residual must be True or False"),
        ({"residual": True, "sizes": (5, 4, 3)}, "residual needs a hidden layer as wide"),
        ({"residual": True, "sizes": (3, 3)}, "residual needs a hidden layer as wide"),
        ({"seed": 2**64}, "seed must be"),
        ({"pieces": 1}, "pieces must be at least 2, got 1"),
        ({"pieces": 2.0}, "pieces must be an integer"),
        ({"activations": "maxout", "pieces": None}, "pieces must be an integer"),
    ],
    ids=str,
)
def test_create_names_the_bad_argument(fast_backend, bad, said):
    arguments = {"sizes": (4, 4, 3), "batch": 8, "lr": 0.1, **bad}
    with pytest.raises((TypeError, ValueError), match=said):
        fast_backend.network.create(arguments.pop("sizes"), **arguments)


def test_maxout_is_the_public_functions():
    """A layer of pieces and the linear one behind it."""
    shape = {"sizes": (5, 7, 3), "activations": "maxout", "pieces": 4}
    network = make(reference, shape)
    x, labels = sample(shape, 9)
    weight, bias, *last = network.parameters.values()
    y, z = reference.maxout_forward(x, weight, bias)
    logits = reference.dense_forward(y, *last)
    loss, dlogits = reference.softmax_cross_entropy(logits, labels)
    dy, *of_last = reference.dense_backward(dlogits, y, last[0], logits)
    _, *of_pieces = reference.maxout_backward(dy, x, weight, z)
    found, gradients = network.loss_and_gradients(x, labels)
    assert found == pytest.approx(loss, rel=1e-14)
    gradients = [gradients[name] for name in network.parameters]
    for ours, expected in zip(gradients, [*of_pieces, *of_last], strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("pieces", [2, 3, 4])
def test_pieces_keep_the_second_moment_of_what_they_are_given(fast_backend, pieces):
    """By its closed forms; and the first parameters are the reference's to the bit."""
    names = ("maxout", "relu", "maxout", "identity")
    shape = {"sizes": (400, 300, 20, 7, 2), "activations": names[:3]}
    network = make(fast_backend, shape, dtype="float32", seed=5, pieces=pieces)
    first = {name: fast_backend.to_host(array) for name, array in network.parameters.items()}
    expected = initial(shape["sizes"], names, "float32", 5, pieces=pieces)
    assert list(first) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(first[name], array, strict=True)
    moment = {2: 1, 3: 1 + 3**0.5 / (2 * np.pi), 4: 1 + 3**0.5 / np.pi}[pieces]
    assert maxout_gain(pieces) == pytest.approx(1 / moment, rel=1e-14)
    weight = first["layer0.weight"]
    assert weight.shape == (400, pieces, 300)
    x = np.random.default_rng(0).standard_normal((100, 400))
    y, _ = reference.maxout_forward(x, wide(weight), np.zeros(weight.shape[1:]))
    assert (y**2).mean() == pytest.approx(1, rel=0.05)
