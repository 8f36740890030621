"""Recurrent layers: pieces, directions, lengths, what is learned, and bad arguments."""

import numba
import numpy as np
import pytest
from conftest import FAST_NATIVE, NATIVE, backend_or_skip, case

import reference

CELLS = {"rnn": 1, "lstm": 2, "gru": 1}  # and their states
over_cells = pytest.mark.parametrize("cell", CELLS)
SIMULATED_TOO = (*NATIVE, "simulated-forward")
FEATURES, UNITS = 3, 5


def parameters(cell, features=FEATURES, units=UNITS, seed=0, dtype="float64", scale=1.0):
    """weight, recurrent, bias."""
    rng = np.random.default_rng(seed)
    gates, biases = {"rnn": (1, 1), "lstm": (4, 4), "gru": (3, 4)}[cell]
    shapes = (features, gates * units), (units, gates * units), (biases * units,)
    drawn = (rng.standard_normal(shape) * scale / np.sqrt(units) for shape in shapes)
    return tuple(array.astype(dtype) for array in drawn)


class Layer:
    """A cell with its parameters on a backend; arrays come and go as NumPy's."""

    def __init__(self, backend, cell, weights):
        self.backend, self.cell, self.states = backend, cell, CELLS[cell]
        self.weights = tuple(map(backend.asarray, weights))

    def forward(self, x, first=(), **options):
        """(y, last states, what is saved)."""
        names = ("h0", "c0")[: len(first)]
        given = self._there(options | dict(zip(names, first, strict=True)))
        x = self.backend.asarray(x)
        results = getattr(self.backend, f"{self.cell}_forward")(x, *self.weights, **given)
        self.backend.synchronize()
        y, *others = map(self.backend.to_host, results)
        return y, tuple(others[: self.states]), tuple(others[self.states :])

    def backward(self, dy, x, y, saved, first=(), dlast=(), **options):
        """(gradients by x and the parameters, those by the first states)."""
        given = options | dict(zip(("h0", "c0"), first, strict=False))
        given = self._there(given | dict(zip(("dlast", "dlast_cell"), dlast, strict=False)))
        dy = None if dy is None else self.backend.asarray(dy)
        arrays = map(self.backend.asarray, (x, *self.weights[:2], y, *saved))
        found = getattr(self.backend, f"{self.cell}_backward")(dy, *arrays, **given)
        self.backend.synchronize()
        found = tuple(map(self.backend.to_host, found))
        return found[:4], found[4:]

    def _there(self, options):
        is_array = {k: isinstance(v, np.ndarray) for k, v in options.items()}
        return {k: self.backend.asarray(v) if is_array[k] else v for k, v in options.items()}


@pytest.fixture(params=SIMULATED_TOO)
def layer_of(request):
    backend = backend_or_skip(request.param)
    return lambda cell, **settings: Layer(backend, cell, parameters(cell, **settings))


def near(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@over_cells
def test_pieces_that_hand_on_states_and_gradients_are_the_whole(layer_of, cell):
    """Truncated backpropagation is what remains where the second piece's gradient is not handed
    on: of the first piece's losses alone.
    """
    layer, rng = layer_of(cell), np.random.default_rng(1)
    x, dy = rng.standard_normal((4, 7, FEATURES)), rng.standard_normal((4, 7, UNITS))
    y, last, saved = layer.forward(x)
    whole, _ = layer.backward(dy, x, y, saved)
    parts = [np.ascontiguousarray(x[:, p]) for p in (slice(3), slice(3, 7))]
    losses = [np.ascontiguousarray(dy[:, p]) for p in (slice(3), slice(3, 7))]
    y1, middle, saved1 = layer.forward(parts[0])
    y2, end, saved2 = layer.forward(parts[1], middle)
    near(np.concatenate([y1, y2], axis=1), y)
    near(np.stack(end), np.stack(last))
    second, handed = layer.backward(losses[1], parts[1], y2, saved2, middle)
    first, _ = layer.backward(losses[0], parts[0], y1, saved1, dlast=handed)
    near(np.concatenate([first[0], second[0]], axis=1), whole[0])
    for of_first, of_second, of_whole in zip(first[1:], second[1:], whole[1:], strict=True):
        near(of_first + of_second, of_whole)
    truncated, _ = layer.backward(losses[0], parts[0], y1, saved1)
    only_first = dy * (np.arange(7) < 3)[None, :, None]
    alone, _ = layer.backward(only_first, x, y, saved)
    near(truncated[0], alone[0][:, :3])


@over_cells
def test_the_other_direction_respects_lengths(layer_of, cell):
    """Reversed by hand, each row from its own end, it is the same layer; so are the gradients."""
    layer, rng = layer_of(cell), np.random.default_rng(2)
    lengths = np.array([6, 1, 4], np.int64)
    x, dy = rng.standard_normal((3, 6, FEATURES)), rng.standard_normal((3, 6, UNITS))
    turned = np.array([[n - 1 - t if t < n else t for t in range(6)] for n in lengths])
    rows = np.arange(3)[:, None]
    y, last, saved = layer.forward(x, lengths=lengths, reverse=True)
    y_turned, last_turned, saved_turned = layer.forward(x[rows, turned], lengths=lengths)
    near(y, y_turned[rows, turned])
    near(np.stack(last), np.stack(last_turned))
    near(last[0], y[:, 0])  # of a sequence that was read from its end
    assert not y[1, 1:].any()
    assert not y[2, 4:].any()
    found, _ = layer.backward(dy, x, y, saved, lengths=lengths, reverse=True)
    given = dy[rows, turned], x[rows, turned], y_turned, saved_turned
    expected, _ = layer.backward(*given, lengths=lengths)
    near(found[0], expected[0][rows, turned])
    for one, other in zip(found[1:], expected[1:], strict=True):
        near(one, other)


def test_a_layer_for_both_directions_is_two_beside_each_other(layer_of):
    """Each half of y is a direction's, and dx the sum of both: as PyTorch's bidirectional layer."""
    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((2, 5, FEATURES)), rng.standard_normal((2, 5, 2 * UNITS))
    layers = [layer_of("gru", seed=seed) for seed in (0, 1)]
    passes = [layer.forward(x, reverse=bool(k)) for k, layer in enumerate(layers)]
    y = np.concatenate([y for y, *_ in passes], axis=2)
    assert y.shape == (2, 5, 2 * UNITS)
    dx, step = 0.0, 1e-6
    for k, (layer, (half, _, saved)) in enumerate(zip(layers, passes, strict=True)):
        part = np.ascontiguousarray(dy[..., k * UNITS : (k + 1) * UNITS])
        found, _ = layer.backward(part, x, half, saved, reverse=bool(k))
        dx = dx + found[0]
    around = []
    for sign in (1, -1):
        x[1, 2, 0] += sign * step
        outputs = [layer.forward(x, reverse=bool(k))[0] for k, layer in enumerate(layers)]
        around.append((dy * np.concatenate(outputs, axis=2)).sum())
        x[1, 2, 0] -= sign * step
    assert dx[1, 2, 0] == pytest.approx((around[0] - around[1]) / (2 * step), rel=1e-6)


@over_cells
def test_what_is_past_the_end_plays_no_part(layer_of, cell):
    """Nor does dy there; and a shorter batch gives the same."""
    layer, rng = layer_of(cell), np.random.default_rng(4)
    lengths = np.array([2, 3], np.int32)
    x, dy = rng.standard_normal((2, 5, FEATURES)), rng.standard_normal((2, 5, UNITS))
    y, last, saved = layer.forward(x, lengths=lengths)
    found = layer.backward(dy, x, y, saved, lengths=lengths)
    x[0, 2:], dy[0, 2:], dy[1, 3:] = 1e3, np.nan, np.inf
    again, last_again, saved = layer.forward(x, lengths=lengths)
    np.testing.assert_array_equal(y, again)
    np.testing.assert_array_equal(last, last_again)
    for one, other in zip(found, layer.backward(dy, x, again, saved, lengths=lengths), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    shorter = layer.forward(x[:, :3].copy(), lengths=lengths)
    near(y[:, :3], shorter[0])


@over_cells
def test_a_sequence_to_one_vector_needs_no_dy(layer_of, cell):
    layer, rng = layer_of(cell), np.random.default_rng(5)
    x = rng.standard_normal((3, 4, FEATURES))
    y, last, saved = layer.forward(x)
    dlast = tuple(rng.standard_normal(state.shape) for state in last)
    found, _ = layer.backward(None, x, y, saved, dlast=dlast)
    expected, _ = layer.backward(np.zeros_like(y), x, y, saved, dlast=dlast)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_clipping_tames_a_gradient_that_explodes(layer_of):
    """A linear chain of 60 steps whose recurrent weight is 1.5: its gradient grows by 1.5 each."""
    layer = layer_of("rnn", features=1, units=1)
    ones = [np.full(shape, value) for shape, value in (((1, 1), 1.0), ((1, 1), 1.5), ((1,), 0.0))]
    layer.weights = tuple(map(layer.backend.asarray, ones))
    x = np.zeros((1, 60, 1))
    x[0, 0] = 1e-12
    y, _, saved = layer.forward(x, activation="relu")
    dlast = (np.ones((1, 1)),)
    (dx, *gradients), _ = layer.backward(None, x, y, saved, dlast=dlast, activation="relu")
    assert dx[0, 0, 0] == pytest.approx(1.5**59)
    there = tuple(map(layer.backend.asarray, gradients))
    layer.backend.clip_by_global_norm(there, max_norm=1.0)
    clipped = [layer.backend.to_host(g) for g in there]
    assert np.sqrt(sum((g**2).sum() for g in clipped)) == pytest.approx(1.0)
    near(clipped[1], gradients[1] / np.sqrt(sum((g**2).sum() for g in gradients)))


@pytest.mark.parametrize("fast_backend", FAST_NATIVE, indirect=True)
@over_cells
def test_results_do_not_depend_on_how_the_batch_is_cut(fast_backend, cell):
    """A row alone, and among others: the same chains of multiply-adds."""
    rng, weights = np.random.default_rng(6), parameters(cell, 7, 70, dtype="float32")
    layer = Layer(fast_backend, cell, weights)
    x = rng.standard_normal((61, 9, 7)).astype(np.float32)
    y, *_ = layer.forward(x)
    for rows in (slice(0, 2), slice(30, 47), slice(8, 61)):
        part, *_ = layer.forward(np.ascontiguousarray(x[rows]))
        np.testing.assert_array_equal(part, y[rows])


@over_cells
def test_results_do_not_depend_on_the_number_of_threads(cell):
    """Bit for bit, though the batch is cut otherwise and the gradients of weights are sums."""
    backend, rng = backend_or_skip("numba"), np.random.default_rng(8)
    layer = Layer(backend, cell, parameters(cell, 40, 70, dtype="float32"))
    x, dy = (rng.standard_normal((30, 29, n)).astype(np.float32) for n in (40, 70))
    lengths, before, found = rng.integers(1, 30, 30), numba.get_num_threads(), []
    try:
        for threads in {1, min(2, before), before}:
            numba.set_num_threads(threads)
            y, last, saved = layer.forward(x, lengths=lengths)
            gradients, firsts = layer.backward(dy, x, y, saved, dlast=last, lengths=lengths)
            arrays = y, *last, *saved, *gradients, *firsts
            found.append(tuple(array.tobytes() for array in arrays))
    finally:
        numba.set_num_threads(before)
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("batch", "steps", "features"), [(100, 17, 3), (900, 2, 3), (3, 4, 20_000)]
)
@over_cells
def test_gradients_of_many_rows_are_added_up_in_parts(cell, batch, steps, features):
    """Of some steps, of some rows of one step; and all at once where x has many features."""
    weights, rng = parameters(cell, features), np.random.default_rng(10)
    x, dy = (rng.standard_normal((batch, steps, n)) for n in (features, UNITS))
    options = {"lengths": rng.integers(1, steps + 1, batch), "reverse": True}
    found = []
    for backend in (reference, backend_or_skip("numba")):
        layer = Layer(backend, cell, weights)
        y, last, saved = layer.forward(x, **options)
        gradients, firsts = layer.backward(dy, x, y, saved, dlast=last, **options)
        found.append((*gradients, *firsts))
    for one, other in zip(*found, strict=True):
        near(one, other)


def test_teacher_forcing_is_one_product_of_all_steps(layer_of):
    """Output to hidden, h_t = tanh(x_t W + y_{t-1} R + b), y_t = h_t V + c: where the targets are
    what it answers itself, the dense layer of all steps gives the same as step after step.
    """
    backend, rng = layer_of("rnn").backend, np.random.default_rng(9)
    weight, bias, out, of_out = map(backend.asarray, (
        rng.standard_normal((FEATURES + 2, UNITS)), rng.standard_normal(UNITS),
        rng.standard_normal((UNITS, 2)), rng.standard_normal(2),
    ))  # fmt: skip
    x, y = rng.standard_normal((4, 6, FEATURES)), np.zeros((4, 7, 2))

    def answered(given):
        h = backend.dense_forward(backend.asarray(given), weight, bias, "tanh")
        answer = backend.dense_forward(h, out, of_out)
        backend.synchronize()
        return backend.to_host(answer)

    for t in range(6):
        y[:, t + 1] = answered(np.concatenate([x[:, t], y[:, t]], axis=1))
    given = np.concatenate([x, y[:, :-1]], axis=2).reshape(4 * 6, -1)
    near(answered(given).reshape(4, 6, 2), y[:, 1:])


# --- learning -------------------------------------------------------------------------------------


def added_numbers(rng, batch, steps):
    """The adding problem (Hochreiter and Schmidhuber 1997): two of the numbers are marked."""
    x = np.zeros((batch, steps, 2), np.float32)
    x[..., 0] = rng.random((batch, steps))
    half, rows = steps // 2, np.arange(batch)
    marked = rng.integers(0, half, batch), rng.integers(half, steps, batch)
    for places in marked:
        x[rows, places, 1] = 1
    return x, sum(x[rows, places, 0] for places in marked)[:, None]


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_adding_problem_is_learned(cell):
    """Twelve steps; who always answers 1 errs by 1 / 6 in the mean square."""
    backend, rng, units = backend_or_skip("numba"), np.random.default_rng(7), 24
    drawn = parameters(cell, 2, units, dtype="float32")
    dense = (rng.standard_normal((units, 1)) / np.sqrt(units)).astype(np.float32)
    weights = [*drawn, dense, np.zeros(1, np.float32)]
    states = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]
    forward, backward = (getattr(backend, f"{cell}_{name}") for name in ("forward", "backward"))
    losses = []
    for step in range(1, 1201):
        x, target = added_numbers(rng, 64, 12)
        y, last, *saved = forward(x, *weights[:3])
        saved = saved[1:] if cell == "lstm" else saved
        answer = backend.dense_forward(last, *weights[3:])
        loss, *gradient = backend.mean_squared_error(answer, target)
        dlast, *of_dense = backend.dense_backward(gradient[0], last, weights[3], answer)
        found = backward(None, x, *weights[:2], y, *saved, dlast=dlast)
        gradients = (*found[1:4], *of_dense)
        backend.clip_by_global_norm(gradients, max_norm=1.0)
        for weight, gradient, (mean, variance) in zip(weights, gradients, states, strict=True):
            backend.adam(weight, gradient, mean, variance, step, lr=5e-3)
        losses.append(float(loss))
    assert np.mean(losses[-50:]) < 0.01
    assert np.mean(losses[:20]) > 0.1


# --- bad arguments --------------------------------------------------------------------------------


def given(backend, cell, passes="forward", variant="lengths", **changed):
    """The arguments of a sample, some of them changed, on the backend."""
    (operation,) = (
        o
        for o in reference.FAMILIES["recurrent"]
        if o.name == f"{cell}_{passes}" and variant in o.variant
    )
    inputs = operation.sample(np.random.default_rng(0), case(4, 3, 5, vary=False)) | changed
    arrays = {k: backend.asarray(v) for k, v in inputs.items() if isinstance(v, np.ndarray)}
    return inputs | arrays


@pytest.mark.parametrize("bad", [0, -1, 4, 2**40])
@over_cells
def test_lengths_out_of_range_are_named(fast_backend, cell, bad):
    """On a GPU at the next synchronize; it stays usable."""
    forward = getattr(fast_backend, f"{cell}_forward")

    def called(*lengths):
        forward(**given(fast_backend, cell, lengths=np.array(lengths, np.int64)))
        fast_backend.synchronize()

    with pytest.raises(ValueError, match=r"^lengths must be from 1 to "):
        called(1, 2, bad, 3)
    called(1, 2, 3, 3)


def test_bad_arguments_are_named(fast_backend):
    rnn, lstm, back = fast_backend.rnn_forward, fast_backend.lstm_forward, fast_backend.gru_backward
    with pytest.raises(ValueError, match=r"^activation must be one of tanh, relu, got 'sigmoid'"):
        rnn(**given(fast_backend, "rnn", activation="sigmoid"))
    with pytest.raises(ValueError, match=r"^x must have at least one row"):
        rnn(**given(fast_backend, "rnn", x=np.zeros((0, 3, 3), np.float32)))
    with pytest.raises(ValueError, match=r"^recurrent must have at least one row"):
        rnn(**given(fast_backend, "rnn", recurrent=np.zeros((0, 0), np.float32)))
    with pytest.raises(ValueError, match=r"^bias must have shape \(20,\)"):
        lstm(**given(fast_backend, "lstm", bias=np.zeros(15, np.float32)))
    with pytest.raises(TypeError, match=r"^dy must be an array where dlast is None"):
        back(**given(fast_backend, "gru", "backward", "whole", dy=None))
