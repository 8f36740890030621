"""The L2 penalty and clipping by hand, at the ends of the numbers, in a loop of a user's own."""

import numba
import numpy as np
import pytest
from conftest import FAST_NATIVE, SIMULATED, backend_or_skip, over_dtypes
from network_cases import make, put, sample, trained, wide

import reference
from kernels.catalog import ACTIVATIONS
from kernels.gradient_arguments import FEW
from reference.network_spec import step_disagreement

REACHED = "clip_by_value", "clip_by_global_norm"


def on(backend, *arrays):
    """Copies, which a call may change."""
    return tuple(backend.asarray(array.copy()) for array in arrays)


def host(backend, arrays):
    backend.synchronize()
    return [backend.to_host(array) for array in arrays]


def changed(backend, function, arrays, *given):
    """(what is returned, the arrays after the call), on the host."""
    there = on(backend, *arrays)
    with np.errstate(all="ignore"):
        returned = getattr(backend, function)(there, *given)
    after = host(backend, there)
    return returned if returned is None else backend.to_host(returned), after


@over_dtypes
def test_worked_examples(backend, dtype):
    weight, bias = np.array([[3.0, -4.0]], dtype), np.array([12.0], dtype)
    nothing, after = changed(backend, "add_l2", (weight, bias), on(backend, bias * weight, bias), 2)
    assert nothing is None
    assert [a.tolist() for a in after] == [[[75, -100]], [36]]
    nothing, after = changed(backend, "clip_by_value", (weight, bias), 3.5)
    assert nothing is None
    assert [a.tolist() for a in after] == [[[3, -3.5]], [3.5]]
    norm, after = changed(backend, "clip_by_global_norm", (weight, bias), 6.5)
    assert (norm.shape, norm.dtype, float(norm)) == ((), weight.dtype, 13)
    assert [a.tolist() for a in after] == [[[1.5, -2]], [6]]


@over_dtypes
@pytest.mark.parametrize("function", REACHED)
def test_a_limit_that_is_not_reached_changes_no_bit(backend, function, dtype):
    """Of clip_by_value the GPU may take subnormal numbers for 0; by the norm nothing is written."""
    values = [3.0, -4.0, 0.0, -0.0, np.finfo(dtype).tiny, 1e-20]
    if function == "clip_by_global_norm":
        values.append(-np.finfo(dtype).smallest_subnormal)
    x = np.array(values, dtype)
    for limit in (5.0, 1e6):
        _, (after,) = changed(backend, function, (x,), limit)
        assert after.tobytes() == x.tobytes()


@over_dtypes
def test_norms_that_are_no_numbers(backend, dtype):
    """NaN changes nothing; infinity is beyond every limit: what is finite becomes 0."""
    nan, inf = np.nan, np.inf
    far = 1e30 if backend is reference else 1e300  # which NumPy takes for infinity in float32
    for values, limit, expected in (
        ([0.0, -0.0, 0.0], 1.0, [0.0, 0.0, 0.0]),
        ([nan, 7.0, -inf], 1.0, [nan, 7.0, -inf]),
        ([inf, 7.0, -inf], 1.0, [nan, 0.0, nan]),
        ([inf, 7.0, 0.0], far, [nan, 0.0, 0.0]),
    ):
        norm, (after,) = changed(backend, "clip_by_global_norm", (np.array(values, dtype),), limit)
        np.testing.assert_array_equal(after, np.array(expected, dtype))
        np.testing.assert_array_equal(norm, np.array(max(map(abs, values)), dtype))
    _, (after,) = changed(backend, "clip_by_value", (np.array([nan, 7.0, -inf], dtype),), 1.0)
    np.testing.assert_array_equal(after, [nan, 1.0, -1.0])


@over_dtypes
def test_arrays_of_any_number_and_shape(backend, dtype):
    rng = np.random.default_rng(0)
    shapes = [(), (0,), (3, 0), (7,), (2, 3, 5), (1, 1), *[(k, 4) for k in range(1, 8)]]
    for chosen in (shapes, shapes[:1], shapes[1:2], shapes[4:5]):
        grads = [np.asarray(rng.normal(size=shape), dtype) for shape in chosen]
        params = on(backend, *grads)
        norm = float(reference.global_norm([g.astype(np.float64) for g in grads]))
        for function, given, expected in (
            ("add_l2", (params, 0.5), lambda g: 1.5 * g),
            ("clip_by_value", (0.5,), lambda g: np.clip(g, -0.5, 0.5)),
            ("clip_by_global_norm", (norm / 4 + 1e-9,), lambda g: g / 4),
        ):
            there = list(on(backend, *grads))
            getattr(backend, function)(there, *given)
            for after, before in zip(host(backend, there), grads, strict=True):
                assert after.shape == before.shape
                np.testing.assert_allclose(after, expected(before), rtol=1e-5, atol=1e-8)


def test_what_is_refused(fast_backend):
    """Nothing is changed, and out is named as it stands."""
    x, y, norm = on(fast_backend, *(np.ones(shape, np.float32) for shape in ((2, 3), 4, ())))
    other = fast_backend.asarray(np.ones(4))
    for error, message, call in (
        (ValueError, r"grads\[1\] must not share memory with grads\[0\]", lambda g: g((x, x), 0.5)),
        (TypeError, r"grads\[1\] must be float32, as grads\[0\] is", lambda g: g((x, other), 0.5)),
    ):
        for name in REACHED:
            with pytest.raises(error, match=message):
                call(getattr(fast_backend, name))
    for message, params in (
        (r"params must be 2 arrays, as grads are, got 1", (x,)),
        (r"params\[1\] must have shape \(4,\), got \(2, 3\)", (x, x)),
        (r"grads\[1\] must not share memory with params\[1\]", (norm, y)),
    ):
        params = (x.copy(), *params[1:]) if len(params) == 2 else params
        with pytest.raises(ValueError, match=message):
            fast_backend.add_l2((x, y), params, 1.0)
    for out in (x[0, :1].reshape(()), norm):
        grads = (x, y) if out is not norm else (norm, x)
        with pytest.raises(ValueError, match=r"out must not share memory with grads\[0\]"):
            fast_backend.clip_by_global_norm(grads, 0.5, out=out)
    assert all((array == 1).all() for array in host(fast_backend, (x, y, norm)))


@pytest.mark.parametrize("count", [0, FEW])
def test_an_array_inside_another_one(fast_backend, count):
    """Also where a smaller one lies between the two: ends are not in the order of beginnings; and
    beside `count` others, which lie apart.
    """
    more, of_more = ((*on(fast_backend, *[np.ones(2, np.float32)] * count),) for _ in range(2))
    (flat,) = on(fast_backend, np.ones(64, np.float32))
    whole, within, behind = flat, flat[16:32], flat[48:]
    for params in ((within, flat[4:8], behind), (whole,) * 3, (within[:4], within, whole)):
        grads = on(fast_backend, *host(fast_backend, params))
        fast_backend.add_l2(grads + more, params + of_more, 1.0)  # they may lie as they like
    for grads in ((whole, within), (within, behind, whole), (behind, whole[:33], within)):
        with pytest.raises(ValueError, match="must not share memory with grads"):
            fast_backend.clip_by_value(more + grads, 0.5)
    (elsewhere,) = on(fast_backend, np.ones(64, np.float32))
    with pytest.raises(ValueError, match=r"grads\[1\] must not share memory with params\[0\]"):
        fast_backend.add_l2((elsewhere, behind, *more), (whole, within, *of_more), 1.0)
    assert (fast_backend.to_host(flat) == 1).all()


def test_read_only_gradients_of_the_cpu():
    from kernels import numba_cpu

    x, fixed = np.ones(3, np.float32), np.ones(3, np.float32)
    fixed.flags.writeable = False
    for call in (
        lambda: numba_cpu.clip_by_value((x, fixed), 0.5),
        lambda: numba_cpu.add_l2((x, fixed), (fixed, fixed), 0.5),
    ):
        with pytest.raises(ValueError, match=r"grads\[1\] must be writeable"):
            call()
    assert (x == 1).all()
    numba_cpu.add_l2((x,), (fixed,), 0.5)  # parameters are read
    assert (x == 1.5).all()


def test_the_quick_way_of_a_layer_on_the_cpu():
    """A weight and its bias take it from the second call on: their checks are compiled."""
    from kernels import numba_cpu

    weight, bias = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    params = weight.copy(), bias.copy()
    for _ in range(2):
        numba_cpu.add_l2((weight, bias), params, 1.0)
        numba_cpu.clip_by_value((weight, bias), 5.0)
    assert (weight == 3).all()
    assert (bias == 3).all()
    numba_cpu.clip_by_value((weight, bias), 0.5)
    assert (weight == 0.5).all()
    assert (bias == 0.5).all()
    flat = np.ones(6, np.float32)
    with pytest.raises(ValueError, match="must not share memory"):
        numba_cpu.clip_by_value((flat.reshape(2, 3), flat[:3]), 0.5)
    assert (flat == 1).all()


def test_results_do_not_depend_on_the_number_of_threads():
    from kernels import numba_cpu

    rng, before, found = np.random.default_rng(1), numba.get_num_threads(), []
    x = rng.standard_normal(400_001).astype(np.float32)
    try:
        for threads in {1, before}:
            numba.set_num_threads(threads)
            grads = x.copy(), x[:1000].copy()
            numba_cpu.add_l2(grads, (x, x[:1000]), 0.3)
            numba_cpu.clip_by_value(grads, 2.0)
            norm = numba_cpu.clip_by_global_norm(grads, 10.0)
            found.append((norm.tobytes(), *(g.tobytes() for g in grads)))
    finally:
        numba.set_num_threads(before)
    assert len(set(found)) == 1


NETWORK = {"sizes": (6, 17, 9, 4), "activations": ("tanh", "prelu")}
SETTINGS = {
    "norm": {"l2": 0.2, "clip_value": 0.03, "clip_norm": 0.1},
    "norm that is not reached": {"l2": 0.2, "clip_value": 0.03, "clip_norm": 50.0},
    "value alone": {"l2": 0.0, "clip_value": 0.01, "clip_norm": None},
}


def stepped_by_hand(backend, parameters, x, labels, l2, clip_value, clip_norm):
    """The loss, after the parameters have taken a step of sgd: a loop of a user's own."""
    layers, inputs, saved = range(3), [x], []
    names = (*NETWORK["activations"], "identity")
    for n, name in zip(layers, names, strict=True):
        weight, bias = (parameters[f"layer{n}.{part}"] for part in ("weight", "bias"))
        slope = parameters.get(f"layer{n}.slope")
        z = backend.dense_forward(inputs[-1], weight, bias)
        inputs.append(backend.activation_forward(z, name, slope))
        saved.append(z if ACTIVATIONS[name].saves_input else inputs[-1])
    loss, dy = backend.softmax_cross_entropy(inputs[-1], labels)
    grads = {}
    for n in reversed(layers):
        weight, slope = parameters[f"layer{n}.weight"], parameters.get(f"layer{n}.slope")
        dy, *found = backend.dense_backward(dy, inputs[n], weight, saved[n], names[n], slope)
        parts = zip(("weight", "bias", "slope"), found, strict=False)
        grads |= {f"layer{n}.{part}": gradient for part, gradient in parts}
    ours = tuple(grads.values())
    backend.add_l2(ours, tuple(parameters[name] for name in grads), l2)
    backend.clip_by_value(ours, clip_value)
    if clip_norm:
        backend.clip_by_global_norm(ours, clip_norm)
    for name, gradient in grads.items():
        backend.sgd(parameters[name], gradient, lr=0.05)
    return float(backend.to_host(loss))


@pytest.mark.parametrize("name", ["numpy", *FAST_NATIVE, SIMULATED[2]])
@over_dtypes
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_loop_by_hand_is_the_networks_step(name, dtype, settings):
    """Within the bound of the step; and so is the network's own."""
    backend = backend_or_skip(name)
    given = {"optimizer": "sgd", "lr": 0.05, **settings}
    network, oracle = (
        make(backend, NETWORK, dtype=dtype, **given),
        make(reference, NETWORK, **given),
    )
    network.load_state(trained(network.state()))
    for seed in range(2):
        x, labels = sample(NETWORK, 16, dtype=dtype, seed=seed)
        before = network.state()
        oracle.load_state({name: wide(array) for name, array in before.items()})
        parameters = {k: backend.asarray(a) for k, a in before.items() if k != "steps"}
        loss = stepped_by_hand(backend, parameters, *put(backend, x, labels), **settings)
        state = dict(zip(parameters, host(backend, parameters.values()), strict=True))
        state["steps"] = np.array(seed + 1)
        complaint = step_disagreement(oracle, wide(x), labels, dtype, loss, state)
        assert complaint is None, complaint
        network.step(*put(backend, x, labels))
        for key, array in network.state().items():
            np.testing.assert_allclose(state[key], array, rtol=1e-4, atol=1e-6, err_msg=key)
