"""The whole training step against the reference, against its own parts, and on real data."""

import numpy as np
import pytest
from conftest import FAST_NATIVE, NATIVE, SIMULATED, backend_or_skip
from network_cases import (
    BUSY,
    EVERY_ACTIVATION,
    LARGE,
    NETWORKS,
    SMALL,
    hold,
    make,
    put,
    sample,
    trained,
    wide,
)

import reference
from benchmarks.suites import owned
from reference import optimizer_spec
from reference.network import LOSSES, STATES, initial
from reference.network_spec import forward_bounds, loss_bound, step_bound
from reference.spec import compare, oracles_share

STEPS = 200
OTHERS = {"sizes": (7, 12, 70, 5, 6), "activations": ("relu", "selu", "identity")}
over_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@pytest.fixture(scope="module", params=[*NATIVE, SIMULATED[2]])
def backend(request):
    """One order of the simulated threads: all of them are test_cuda_network.py's."""
    return backend_or_skip(request.param)


@pytest.fixture(scope="module", params=[*FAST_NATIVE, SIMULATED[2]])
def fast_backend(request):
    return backend_or_skip(request.param)


@pytest.fixture(scope="module", params=NATIVE)
def native(request):
    return backend_or_skip(request.param)


@pytest.fixture(scope="module", params=FAST_NATIVE)
def fast_native(request):
    return backend_or_skip(request.param)


@pytest.fixture(scope="module", autouse=True)
def one_blas_thread():
    """The oracle's threads would look for work while the network's are to have the cores."""
    with owned.one_blas_thread():
        yield


def host(backend, network):
    return {name: backend.to_host(array) for name, array in network.parameters.items()}


# --- the reference ------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", EVERY_ACTIVATION)
def test_gradients_are_central_differences(activation, loss):
    shape = {"sizes": (4, 6, 5, 3), "activations": activation}
    smoothing = 0.0 if loss == "mean_squared_error" else 0.1
    network = make(reference, shape, loss=loss, label_smoothing=smoothing)
    x, labels = sample(shape, 7, loss)
    for name, param in network.parameters.items():
        if name.endswith("bias"):  # at 0 the unit behind a dead layer sits on the kink
            param[:] = np.random.default_rng(4).uniform(0.1, 0.5, param.size)
    _, gradients = network.loss_and_gradients(x, labels)
    assert set(gradients) == set(network.parameters)
    h = 1e-5
    for name, param in network.parameters.items():
        for place in np.ndindex(param.shape):
            middle, around = param[place], []
            for shift in (h, -h):
                param[place] = middle + shift
                around.append(network.loss_and_gradients(x, labels)[0])
            param[place] = middle
            slope = (around[0] - around[1]) / (2 * h)
            # h^2 / 6 |L'''| and the rounding u |L| / h, each with an order of magnitude to spare
            assert abs(slope - gradients[name][place]) < 2e-9, (name, place)


def test_nesterov_takes_the_gradient_at_the_lookahead():
    """The textbook's p and v beside the network, whose parameters are p - beta v."""
    lr, beta = 0.05, 0.9
    network = make(reference, SMALL, optimizer="nesterov", lr=lr, beta=beta)
    at_lookahead = make(reference, SMALL)
    x, labels = sample(SMALL, 16)
    p = {name: array.copy() for name, array in network.parameters.items()}
    v = {name: np.zeros_like(array) for name, array in p.items()}
    for _ in range(20):
        for name, array in at_lookahead.parameters.items():
            array[...] = p[name] - beta * v[name]
        _, gradients = at_lookahead.loss_and_gradients(x, labels)
        for name, gradient in gradients.items():
            v[name] = beta * v[name] + lr * gradient
            p[name] = p[name] - v[name]
        network.step(x, labels)
        for name, array in network.parameters.items():
            np.testing.assert_allclose(array, p[name] - beta * v[name], rtol=1e-9, atol=1e-12)


# --- every backend ------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_first_parameters_are_the_same_everywhere(backend, dtype):
    names = ("relu", "selu", "tanh", "prelu", "identity")
    shape = {"sizes": (3, 7, 5, 4, 6, 2), "activations": names[:4]}
    ours = host(backend, make(backend, shape, dtype=dtype, seed=5))
    expected = initial(shape["sizes"], names, dtype, 5)
    assert list(ours) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(ours[name], array, strict=True)


def drawn(rng, loss, optimizer):
    """Options of a network, all its hyperparameters at other values than the defaults."""
    _, settings = optimizer_spec.parts(getattr(reference, optimizer))
    return {
        **{name: optimizer_spec.draw(name, rng) for name in settings},
        "loss": loss,
        "optimizer": optimizer,
        "label_smoothing": 0.0 if loss == "mean_squared_error" else rng.uniform(0.1, 0.9),
        "weight_decay": rng.uniform(0.1, 0.5),
    }


def test_adamw_decays_unless_told_otherwise(backend):
    """By the default of its function; others do not."""
    ours, oracle = (make(b, SMALL, optimizer="adamw") for b in (backend, reference))
    ours.load_state(trained(ours.state()))
    hold(backend, ours, oracle, *sample(SMALL, 16), "float64")
    assert oracle.settings.get("weight_decay", 0.01) == 0.01
    without = make(reference, SMALL, optimizer="adamw", weight_decay=0.0)
    assert without.settings["weight_decay"] == 0.0


@pytest.mark.parametrize("activation", EVERY_ACTIVATION)
@pytest.mark.parametrize("sizes", [(4, 9, 7, 3), (20, 200, 180, 4)], ids=["small", "large"])
def test_a_step_with_every_activation(backend, sizes, activation):
    """Hidden layers keep for the backward pass what it takes, z or y."""
    network = {"sizes": sizes, "activations": activation}
    ours, oracle = make(backend, network), make(reference, network)
    ours.load_state(trained(ours.state()))
    hold(backend, ours, oracle, *sample(network, 13), "float64")


@over_dtypes
@pytest.mark.parametrize("optimizer", STATES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("network", [SMALL, LARGE, OTHERS], ids=["small", "large", "others"])
def test_steps_are_the_references(backend, network, loss, optimizer, dtype):
    """From states in which nothing is zero, with hyperparameters that are drawn."""
    rng = np.random.default_rng(len(loss) + len(optimizer))
    for seed in range(2):
        options = drawn(rng, loss, optimizer)
        ours, oracle = (
            make(backend, network, dtype=dtype, **options),
            make(reference, network, **options),
        )
        steps = np.array(rng.integers(20))
        ours.load_state({**trained(ours.state(), seed), "steps": steps})
        for rows in (16, 13):
            x, labels = sample(network, rows, loss, dtype, seed)
            hold(backend, ours, oracle, x, labels, dtype)
        assert ours.state()["steps"] == steps + 2


@over_dtypes
@pytest.mark.parametrize("network", [SMALL, LARGE, OTHERS], ids=["small", "large", "others"])
def test_steps_with_products_in_tf32(backend, network, dtype):
    """Within the bound of the permission, whether a backend makes use of it or not."""
    options = {"precision": "tf32", "optimizer": "momentum"}
    ours, oracle = (
        make(backend, network, dtype=dtype, **options),
        make(reference, network, **options),
    )
    ours.load_state(trained(ours.state()))
    for rows in (16, 13):
        hold(backend, ours, oracle, *sample(network, rows, dtype=dtype), dtype)


@pytest.mark.parametrize("optimizer", STATES)
@pytest.mark.parametrize("loss", LOSSES)
def test_bounds_of_a_step_bind(loss, optimizer):
    """The errors of the CPU's step in float32 come near to its bounds. `pytest -s` shows them.

    In a deep network the bound of each element is that of the worst case in every layer; what is
    shown then is how far the root mean square goes, and of the smallest networks each element.
    """
    backend, rng, taken = backend_or_skip("numba"), np.random.default_rng(8), {}
    tiny = {"sizes": (2, 2), "activations": ()}, {"sizes": (2, 3, 2), "activations": "prelu"}
    for network, draws in ((SMALL, 2), (OTHERS, 2), (tiny[0], 100), (tiny[1], 30)):
        for seed in range(draws):
            options = drawn(rng, loss, optimizer)
            ours = make(backend, network, dtype="float32", **options)
            ours.load_state(trained(ours.state(), seed))
            oracle = make(reference, network, **options)
            oracle.load_state({name: wide(array) for name, array in ours.state().items()})
            rows = 1 if network in tiny else 16
            x, labels = sample(network, rows, loss, "float32", seed)
            of_loss, bounds, _ = step_bound(oracle, wide(x), wide(labels), "float32")
            pairs = [("loss", of_loss, ours.step(x, labels), oracle.step(wide(x), wide(labels)))]
            got, want = ours.state(), oracle.state()
            for name, bound in bounds.items():
                kind = name.partition(".")[2]
                if kind not in ("weight", "bias", "slope"):
                    kind = kind.rpartition(".")[2]  # a state's
                pairs.append((kind, bound, got[name], want[name]))
            for kind, *pair in pairs:
                shares = pair[0].shares(*pair[1:])
                taken[kind] = list(map(max, taken.get(kind, shares), shares))
    for kind, shares in taken.items():
        print(f"\n{loss:22} {optimizer:9} {kind:12} {shares[0]:.3f} {shares[1]:.3f}", end="")
        assert min(shares) >= 0.01, kind


@pytest.mark.parametrize("network", [SMALL, BUSY, LARGE], ids=["small", "busy", "large"])
def test_any_number_of_rows(backend, network):
    """One step on batches around the widths of tiles (6, 14), blocks (64) and sweeps (256)."""
    for rows in (1, 2, 6, 7, 14, 15, 63, 64, 65, 128, 129, 255, 257, 600):
        dtype = ("float32", "float64")[rows % 2]
        ours = make(backend, network, batch=rows, dtype=dtype)
        ours.load_state(trained(ours.state()))
        x, labels = sample(network, rows, dtype=dtype)
        hold(backend, ours, make(reference, network, batch=rows), x, labels, dtype)


@pytest.mark.parametrize("optimizer", STATES)
@NETWORKS
def test_trajectory(native, network, optimizer):
    """200 steps on their own: what a slip in the state would spoil, rounding does not.

    In float64 a run may amplify rounding by 10^7 before this fails; float32 ends at the same loss.
    Of lion, whose steps are signs, one that rounding turns moves a parameter by twice the rate.
    """
    network = {**network, "activations": "tanh"}
    options = {"optimizer": optimizer, "lr": 0.001 if optimizer == "lion" else 0.01}
    oracle, wide = (make(b, network, **options) for b in (reference, native))
    narrow = make(native, network, dtype="float32", **options)
    losses = []
    for step in range(STEPS):
        x, labels = sample(network, 16, seed=step % 5)
        runs = ((oracle, (x, labels)), (wide, put(native, x, labels)))
        runs = (*runs, (narrow, put(native, x.astype(np.float32), labels)))
        losses.append([run.step(*batch) for run, batch in runs])
    for name, array in host(native, wide).items():
        np.testing.assert_allclose(array, oracle.parameters[name], rtol=1e-9, atol=1e-9)
    start, end = np.mean(losses[:5], axis=0), np.mean(losses[-5:], axis=0)
    assert (end < 0.95 * start).all()
    np.testing.assert_allclose(end[1], end[0], rtol=1e-9, atol=1e-12)
    assert abs(end[2] - end[0]) < 1e-3 * (start[0] - end[0])


@pytest.mark.parametrize("labels_dtype", [np.int32, np.int64])
@NETWORKS
def test_epoch_is_its_steps(backend, network, labels_dtype):
    """37 rows in steps of 16, the last of 5, in a given order: the same bits as step by step."""
    x, labels = sample(network, 40, dtype="float32")
    labels = labels.astype(labels_dtype)
    order = np.random.default_rng(3).permutation(40)[:37]
    one, other = (make(backend, network, dtype="float32") for _ in range(2))
    for _ in range(3):
        mean = one.epoch(*put(backend, x, labels, order))
        parts = [order[:16], order[16:32], order[32:]]
        losses = [other.step(*put(backend, x[p], labels[p])) for p in parts]
        assert mean == pytest.approx(np.average(losses, weights=[16, 16, 5]), rel=1e-6)
    for name, array in host(backend, one).items():
        np.testing.assert_array_equal(array, host(backend, other)[name], err_msg=name)
    assert one.state()["steps"] == 9


@pytest.mark.parametrize("loss", LOSSES)
def test_epoch_gathers_targets(backend, loss):
    x, labels = sample(SMALL, 20, loss)
    order = np.arange(20)[::-1].astype(np.int32).copy()
    one, oracle = (make(b, SMALL, loss=loss) for b in (backend, reference))
    got, want = one.epoch(*put(backend, x, labels, order)), oracle.epoch(x, labels, order)
    assert got == pytest.approx(want, rel=1e-9)


@over_dtypes
@pytest.mark.parametrize("loss", LOSSES)
@NETWORKS
def test_predict_and_evaluate_any_number_of_rows(backend, network, loss, dtype):
    """Batches of more than one block (64 rows), and more rows than a batch."""
    ours, oracle = (
        make(b, network, loss=loss, batch=130, dtype=d)
        for b, d in ((backend, dtype), (reference, "float64"))
    )
    ours.load_state(trained(ours.state()))
    oracle.load_state({name: wide(array) for name, array in ours.state().items()})
    factor = oracles_share(dtype)
    for rows in (1, 5, 63, 64, 65, 128, 129, 130, 131, 300):
        x, labels = sample(network, rows, loss, dtype)
        of_logits = forward_bounds(oracle, wide(x), dtype, training=False)[-1][2].y
        logits = oracle.predict(wide(x))
        of_loss, _ = loss_bound(oracle, logits, of_logits, wide(labels), dtype)
        got = backend.to_host(ours.predict(*put(backend, x)))
        assert (complaint := compare(got, logits, of_logits * factor, dtype)) is None, complaint
        found, share = ours.evaluate(*put(backend, x, labels))
        want, expected = oracle.evaluate(wide(x), wide(labels))
        complaint = compare(np.float64(found), want, of_loss * factor, "float64")
        assert complaint is None, complaint
        assert share == expected if expected is None else share == pytest.approx(expected)


@pytest.mark.parametrize("optimizer", STATES)
@NETWORKS
def test_a_run_continues_to_the_bit(backend, network, optimizer, tmp_path):
    def batches(first, last):
        for step in range(first, last):
            yield put(backend, *sample(network, 16, dtype="float32", seed=step))

    options = {"optimizer": optimizer, "dtype": "float32", "weight_decay": 0.1}
    whole = make(backend, network, **options)
    for batch in batches(0, 5):
        whole.step(*batch)
    path = tmp_path / "run.npz"
    np.savez(path, **whole.state())
    resumed = make(backend, network, **options, seed=1)
    resumed.load_state(path)
    for batch in batches(5, 9):
        assert whole.step(*batch) == resumed.step(*batch)
    after, again = whole.state(), resumed.state()
    for name, array in after.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name, strict=True)
    # A copy: what was returned stays as it is.
    before = {name: array.copy() for name, array in after.items()}
    whole.step(*next(batches(0, 1)))
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name])


# --- training -----------------------------------------------------------------


def _train(backend, sizes, x, labels, epochs, **options):
    """The README's example: 70 % for training, the accuracy on the rest."""
    x, labels = x.astype(np.float32), labels.astype(np.int32)
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(x))
    train, test = rows[: int(0.7 * len(x))], rows[int(0.7 * len(x)) :]
    network = backend.network.create(sizes, batch=32, **options)
    for _ in range(epochs):
        network.epoch(*put(backend, x, labels, rng.permutation(train)))
    return network.evaluate(*put(backend, x[test], labels[test]))[1]


def test_moons_to_97_percent(fast_backend):
    from sklearn.datasets import make_moons

    x, labels = make_moons(1000, noise=0.2, random_state=0)
    assert _train(fast_backend, (2, 32, 16, 2), x, labels, 60, lr=0.01) >= 0.97


def test_digits_to_97_percent(fast_native):
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    assert _train(fast_native, (64, 128, 64, 32, 10), x / 16, labels, 40, lr=0.002) >= 0.97
