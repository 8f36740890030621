"""The whole training step against the reference, against its own parts, and on real data."""

import numpy as np
import pytest
from conftest import FAST_NATIVE, NATIVE, SIMULATED, as_tuple, backend_or_skip
from network_cases import BUSY, LARGE, NETWORKS, SMALL, make, put, sample

import reference
from reference.activations import SAVES_INPUT
from reference.network import LOSSES, STATES, initial
from reference.network_spec import step_bound

STEPS = 200


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


def host(backend, network):
    return {name: backend.to_host(array) for name, array in network.parameters.items()}


# --- the reference ------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", reference.activations.ACTIVATIONS[:-1])
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


@pytest.mark.parametrize("optimizer", STATES)
@pytest.mark.parametrize("loss", LOSSES)
@NETWORKS
def test_each_of_many_steps_is_the_references(backend, network, loss, optimizer):
    """Every step starts from the reference's state; its result lies within the running error."""
    smoothing = 0.0 if loss == "mean_squared_error" else 0.1
    options = {"loss": loss, "optimizer": optimizer, "label_smoothing": smoothing, "lr": 0.003}
    steps = STEPS if (loss, optimizer) == ("softmax_cross_entropy", "adam") else 5
    options["weight_decay"] = 0.01
    ours, oracle = (make(b, network, **options) for b in (backend, reference))
    for step in range(steps):
        x, labels = sample(network, 16 - step % 3, loss, seed=step)
        start = {name: array.copy() for name, array in oracle.parameters.items()}
        loss_bound, bounds = step_bound(oracle, x, labels, "float64")
        ours.load_state(oracle.state())
        got, want = ours.step(*put(backend, x, labels)), oracle.step(x, labels)
        assert isinstance(got, float)
        assert abs(got - want) <= 2 * loss_bound, step
        result, expected = ours.state(), oracle.state()
        assert set(result) == set(expected) == {"steps", *bounds}
        assert result["steps"] == expected["steps"] == step + 1
        for name, bound in bounds.items():
            error = np.abs(result[name] - expected[name])
            assert (error <= 2 * bound).all(), (step, name, (error / bound).max())
        np.testing.assert_allclose(ours.gradients, oracle.gradients, rtol=1e-9)
        # The bound must mean something: most parameters moved by far more.
        moved = np.concatenate([np.abs(expected[n] - start[n]).ravel() for n in start])
        allowed = np.concatenate([bounds[n].ravel() for n in start])
        assert (moved > 1e3 * allowed).mean() > 0.5, step


@pytest.mark.parametrize("network", [SMALL, BUSY, LARGE], ids=["small", "busy", "large"])
def test_any_number_of_rows(backend, network):
    """One step on batches around the widths of tiles (6, 14), blocks (64) and sweeps (256)."""
    for rows in (1, 2, 6, 7, 14, 15, 63, 64, 65, 128, 255, 257, 600):
        ours, oracle = (make(b, network, batch=rows) for b in (backend, reference))
        x, labels = sample(network, rows)
        loss_bound, bounds = step_bound(oracle, x, labels, "float64")
        got, want = ours.step(*put(backend, x, labels)), oracle.step(x, labels)
        assert abs(got - want) <= 2 * loss_bound, rows
        result, expected = ours.state(), oracle.state()
        for name, bound in bounds.items():
            assert (np.abs(result[name] - expected[name]) <= 2 * bound).all(), (rows, name)


@pytest.mark.parametrize("optimizer", STATES)
@NETWORKS
def test_trajectory(native, network, optimizer):
    """200 steps on their own: what a slip in the state would spoil, rounding does not.

    In float64 a run may amplify rounding by 10^7 before this fails; float32 ends at the same loss.
    """
    network = {**network, "activations": "tanh"}
    options = {"optimizer": optimizer, "lr": 0.01}
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
    np.testing.assert_allclose(end[1], end[0], rtol=1e-9)
    assert abs(end[2] - end[0]) < 1e-3 * (start[0] - end[0])


@pytest.mark.parametrize("optimizer", STATES)
@NETWORKS
def test_step_is_its_parts(backend, network, optimizer):
    """The backend's own dense, activation, loss and update functions, called one by one."""
    lr = 0.01
    whole = make(backend, network, optimizer=optimizer, lr=lr)
    param = {k: backend.asarray(v.copy()) for k, v in host(backend, whole).items()}
    state = {
        name: [backend.asarray(np.zeros_like(backend.to_host(array))) for _ in STATES[optimizer]]
        for name, array in param.items()
    }
    activations = (*network["activations"], "identity")
    for step in range(1, 6):
        x, labels = put(backend, *sample(network, 16, seed=step))
        inputs, saved = [x], []
        for n, name in enumerate(activations):
            alpha = param.get(f"layer{n}.slope")
            weight, bias = param[f"layer{n}.weight"], param[f"layer{n}.bias"]
            z = backend.dense_forward(inputs[-1], weight, bias)
            inputs.append(backend.activation_forward(z, name, alpha))
            saved.append(z if name in SAVES_INPUT else inputs[-1])
        loss, dy = backend.softmax_cross_entropy(inputs[-1], labels)
        for n, name in reversed(list(enumerate(activations))):
            alpha, weight = param.get(f"layer{n}.slope"), param[f"layer{n}.weight"]
            results = backend.dense_backward(dy, inputs[n], weight, saved[n], name, alpha)
            dy, *gradients = as_tuple(results)
            for part, gradient in zip(("weight", "bias", "slope"), gradients, strict=False):
                key = f"layer{n}.{part}"
                count = (step,) if optimizer == "adam" else ()
                getattr(backend, optimizer)(param[key], gradient, *state[key], *count, lr=lr)
        assert whole.step(x, labels) == pytest.approx(float(backend.to_host(loss)), rel=1e-12)
        for name, array in host(backend, whole).items():
            expected = backend.to_host(param[name])
            np.testing.assert_allclose(array, expected, rtol=1e-7, atol=1e-10, err_msg=name)


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


@pytest.mark.parametrize("rows", [1, 5, 16, 50])
@pytest.mark.parametrize("loss", LOSSES)
@NETWORKS
def test_predict_and_evaluate_any_number_of_rows(backend, network, loss, rows):
    ours, oracle = (make(b, network, loss=loss) for b in (backend, reference))
    x, labels = sample(network, rows, loss)
    logits = backend.to_host(ours.predict(*put(backend, x)))
    np.testing.assert_allclose(logits, oracle.predict(x), rtol=1e-9, atol=1e-12)
    (got, share), (want, expected) = (
        ours.evaluate(*put(backend, x, labels)),
        oracle.evaluate(x, labels),
    )
    assert got == pytest.approx(want, rel=1e-9)
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
