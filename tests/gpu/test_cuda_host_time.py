"""What a call of the GPU's functions costs the host before CuPy launches anything; needs no card.

The backend runs on CuPy's arrays in host memory. Its launches are planned and then dropped, its
temporary arrays are at hand. How long a call takes stands at the end of the tests' report: it
depends on the machine. How many calls of functions it consists of does not, and is held.
"""

import sys
import timeit

import numpy as np
import pytest
from conftest import ON_CUPY_ARRAYS, backend_or_skip

BATCH, FAN_IN, FAN_OUT = 32, 64, 128
DIGITS, MOONS = (64, 128, 64, 32, 10), (2, 32, 16, 2)
# Launches and the most calls of functions, those in C too: some 15% more than there were.
MOST = {
    "activation_forward": (1, 38),
    "dense_forward": (1, 60),
    "dense_backward": (3, 135),
    "maxout_forward": (2, 83),
    "maxout_backward": (5, 167),
    "lstm_forward": (2, 154),
    "lstm_backward": (5, 250),
    "softmax": (1, 44),
    "log_softmax": (1, 44),
    "softmax_cross_entropy": (2, 86),
    "nll": (2, 72),
    "nll, ignoring": (3, 92),
    "mean_squared_error": (2, 78),
    "sgd": (1, 40),
    "adam": (1, 68),
    "amsgrad": (1, 78),
    "initialize": (1, 33),
    "initialize sparse": (2, 46),
    "dropout_forward": (1, 52),
    "sparsity": (1, 40),
    "histogram": (1, 52),
    "global_norm": (3, 69),
    "affine_transform": (1, 45),
    "random_affine": (1, 60),
    "elastic_transform": (1, 60),
    "step in one block": (1, 38),
    "step as a graph": (2, 52),
    "step as a chain": (20, 455),
}


class Idle:
    """The simulated GPU with launches that only count."""

    def __init__(self, gpu, monkeypatch):
        from cupy._core._scalar import CScalar

        self.gpu, self.launches, self.arrays, self.passed = gpu, 0, {}, CScalar
        self.outcome = np.zeros(2, np.float32)
        for name in ("launch", "empty", "matmul", "to_host"):
            monkeypatch.setattr(gpu.device, name, getattr(self, name))

    def launch(self, name, work, *arguments):
        self.launches += 1
        self.gpu.runtime.table.plan(name, work, arguments, self.passed)

    def matmul(self, a, b, *, out, precision=None):
        self.launches += 1

    def to_host(self, array):
        return self.outcome

    def empty(self, shape, dtype):
        key = shape, np.dtype(dtype)
        if key not in self.arrays:
            self.arrays[key] = self.gpu.asarray(np.zeros(*key))
        return self.arrays[key]


@pytest.fixture
def idle(monkeypatch):
    return Idle(backend_or_skip(ON_CUPY_ARRAYS), monkeypatch)


def calls_of(gpu):
    """{name: call} at a layer of the digits' network, and steps of networks."""
    rng = np.random.default_rng(0)

    def array(*shape):
        return gpu.asarray(rng.standard_normal(shape).astype(np.float32))

    def step(sizes, **limits):
        with gpu.runtime.limits.forced(**limits):
            network = gpu.network.create(sizes, batch=BATCH, lr=0.1)
        x, labels = array(BATCH, sizes[0]), gpu.asarray(np.zeros(BATCH, np.int32))
        return lambda: network.step(x, labels)

    x, y, dy = array(BATCH, FAN_IN), array(BATCH, FAN_OUT), array(BATCH, FAN_OUT)
    weight, bias, dx = array(FAN_IN, FAN_OUT), array(FAN_OUT), array(BATCH, FAN_IN)
    gradients = dx, array(FAN_IN, FAN_OUT), array(FAN_OUT)
    logits, labels = array(BATCH, 10), gpu.asarray(rng.integers(0, 10, BATCH, np.int32))
    loss, dlogits, dloss = array(), array(BATCH, 10), array(BATCH, FAN_OUT)
    param, grad, mean, variance, largest = (array(FAN_IN, FAN_OUT) for _ in range(5))
    pieces, of_pieces = array(FAN_IN, 2, FAN_OUT), array(2, FAN_OUT)
    z, of_maxout = array(BATCH, 2, FAN_OUT), (dx, array(FAN_IN, 2, FAN_OUT), array(2, FAN_OUT))
    steps = x[:, None], array(FAN_IN, 4 * FAN_OUT), array(FAN_OUT, 4 * FAN_OUT)
    biases, h, states = (
        array(4 * FAN_OUT),
        y[:, None],
        (array(BATCH, FAN_OUT), array(BATCH, FAN_OUT)),
    )
    gates, kept = array(BATCH, 1, 4 * FAN_OUT), array(BATCH, 1, FAN_OUT)
    of_lstm = array(BATCH, 1, FAN_IN), *(array(*a.shape) for a in (*steps[1:], biases))
    images, moved, matrices = array(BATCH, 8, 8), array(BATCH, 8, 8), array(BATCH, 2, 3)
    counts, bins = (gpu.asarray(np.zeros(n, np.int64)) for n in (2, 67))
    return {
        "activation_forward": lambda: gpu.activation_forward(dy, "relu", out=y),
        "dense_forward": lambda: gpu.dense_forward(x, weight, bias, "relu", out=y),
        "dense_backward": lambda: gpu.dense_backward(dy, x, weight, y, "relu", out=gradients),
        "maxout_forward": lambda: gpu.maxout_forward(x, pieces, of_pieces, out=(y, z)),
        "maxout_backward": lambda: gpu.maxout_backward(dy, x, pieces, z, out=of_maxout),
        "lstm_forward": (lambda: gpu.lstm_forward(*steps, biases, out=(h, *states, kept, gates))),
        "lstm_backward": (
            lambda: gpu.lstm_backward(kept, *steps, h, kept, gates, out=(*of_lstm, *states))
        ),
        "softmax": lambda: gpu.softmax(logits, out=dlogits),
        "log_softmax": lambda: gpu.log_softmax(logits, out=dlogits),
        "softmax_cross_entropy": (
            lambda: gpu.softmax_cross_entropy(logits, labels, out=(loss, dlogits))
        ),
        "nll": lambda: gpu.nll(logits, labels, out=(loss, dlogits)),
        "nll, ignoring": (lambda: gpu.nll(logits, labels, ignore_index=3, out=(loss, dlogits))),
        "mean_squared_error": lambda: gpu.mean_squared_error(y, dy, out=(loss, dloss)),
        "sgd": lambda: gpu.sgd(param, grad, lr=0.1),
        "adam": lambda: gpu.adam(param, grad, mean, variance, 3),
        "amsgrad": lambda: gpu.amsgrad(param, grad, mean, variance, largest, 3),
        "initialize": lambda: gpu.initialize(param, "he_normal", seed=1),
        "initialize sparse": lambda: gpu.initialize(param, "sparse_normal", seed=1),
        "dropout_forward": lambda: gpu.dropout_forward(dy, 0.5, seed=1, step=7, out=y),
        "sparsity": lambda: gpu.sparsity(weight, threshold=0.1, out=counts),
        "histogram": lambda: gpu.histogram(weight, low=-3, high=3, bins=64, out=bins),
        "global_norm": lambda: gpu.global_norm((weight, bias), out=loss),
        "affine_transform": lambda: gpu.affine_transform(images, matrices, out=moved),
        "random_affine": lambda: gpu.random_affine(matrices, 8, 8, rotation=15, shift=2),
        "elastic_transform": lambda: gpu.elastic_transform(images, 8, 4, seed=1, out=moved),
        "step in one block": step(MOONS),
        "step as a graph": step(DIGITS),
        "step as a chain": step(DIGITS, most_captured=0),
    }


def functions_called(call):
    """The calls of functions, Python's and those in C, that a call consists of."""
    events = []
    sys.setprofile(lambda frame, event, argument: events.append(event))
    try:
        call()
    finally:
        sys.setprofile(None)
    return events.count("call") + events.count("c_call") - 1  # that of setprofile


def test_host_time(idle, figures):
    figures.append("Host time of a call on the GPU before CuPy's own, on this machine [us]:")
    for name, call in calls_of(idle.gpu).items():
        call()
        idle.launches = 0
        call()
        launches, functions = idle.launches, functions_called(call)
        seconds = min(timeit.repeat(call, number=20, repeat=100)) / 20
        figures.append(f"  {name:22}{1e6 * seconds:6.1f}, {launches} launches, {functions} calls")
        assert launches == MOST[name][0], name
        assert functions <= MOST[name][1], name


def test_numbers_of_launches_are_kept_and_stay_right(idle, monkeypatch):
    """What equals another number has its own type and value, and what is kept does not grow."""
    monkeypatch.setattr(idle.gpu.runtime.table, "MOST_KEPT", 3)
    for kind in (np.float32, np.float64, np.int32, np.int64):
        made = idle.gpu.runtime.table.Numbers(kind)
        values = [1, 2, 3, 4, 1, True, 0, 2**31 - 1]
        if kind in (np.float32, np.float64):
            values += [0.1, -0.0, 0.0, np.float64(0.3), np.inf, -np.inf, 1e-40, 0.1]
        for value in values:
            assert type(made[value]) is kind
            assert made[value] == kind(value)
            assert len(made) <= 3
    assert not np.signbit(idle.gpu.runtime.table.Numbers(np.float32)[-0.0])
    assert np.isnan(idle.gpu.runtime.table.Numbers(np.float32)[np.nan])
    with pytest.raises(OverflowError):
        idle.gpu.runtime.table.Numbers(np.int32)[2**31]


def test_cupy_takes_the_numbers_of_a_launch_as_they_are(idle):
    """What is a CPointer, its own kernels' word for an argument, it does not make anew."""
    from cupy.cuda.function import CPointer

    param = idle.gpu.asarray(np.zeros(5, np.float32))
    given = 0, param, param, None, None, None, 5, *(0.5,) * 8
    first, again = (
        idle.gpu.runtime.table.plan("update", (5,), given, idle.passed)[-1] for _ in range(2)
    )
    assert all(isinstance(value, CPointer) for value in first if value is not param)
    assert all(one is other for one, other in zip(first, again, strict=True))
