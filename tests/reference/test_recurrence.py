"""The equations of recurrent layers: gradients against central differences, and beside PyTorch."""

import numpy as np
import pytest
from conftest import case

import reference
from reference import recurrence
from reference.bounds import Bound
from reference.estimates import Estimate, activate

OPERATIONS = {
    (o.name.partition("_")[0], o.variant): o
    for o in reference.FAMILIES["recurrent"]
    if o.name.endswith("forward")
}
OPTIONS = "h0", "c0", "lengths", "activation", "reverse"


def drawn(cell, variant, reverse, sizes=(3, 2, 3)):
    operation = OPERATIONS[cell, variant]
    inputs = operation.sample(np.random.default_rng(4), case(*sizes, "float64"))
    if "lengths" in inputs:
        inputs["lengths"] = np.array([2, 3, 1], np.int32)
    return {**inputs, "reverse": reverse}


def results(cell, inputs):
    """(y, the last states, what is saved beside y)."""
    y, *others = getattr(reference, f"{cell}_forward")(**inputs)
    lasts = 2 if cell == "lstm" else 1
    return y, others[:lasts], others[lasts:]


def gradients(cell, inputs, dy, dlasts):
    """By the name of what they are by."""
    y, _, saved = results(cell, inputs)
    given = {k: v for k, v in inputs.items() if k in ("x", "weight", "recurrent", *OPTIONS)}
    given |= dict(zip(("dlast", "dlast_cell"), dlasts, strict=False)) | {"y": y}
    given |= dict(zip(("cells", "gates") if cell == "lstm" else ("gates",), saved, strict=False))
    found = getattr(reference, f"{cell}_backward")(dy, **given)
    names = "x", "weight", "recurrent", "bias", "h0", "c0"
    return dict(zip(names, found, strict=False))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("cell", "variant"), OPERATIONS)
def test_gradients_are_central_differences(cell, variant, reverse):
    inputs, step = drawn(cell, variant, reverse), 1e-6
    y, lasts, _ = results(cell, inputs)
    rng = np.random.default_rng(5)
    dy, *dlasts = (rng.standard_normal(array.shape) for array in (y, *lasts))

    def loss():
        y, lasts, _ = results(cell, inputs)
        return (dy * y).sum() + sum((d * s).sum() for d, s in zip(dlasts, lasts, strict=True))

    for name, gradient in gradients(cell, inputs, dy, dlasts).items():
        for place in np.ndindex(inputs[name].shape) if name in inputs else ():
            around = []
            for sign in (1, -1):
                inputs[name][place] += sign * step
                around.append(loss())
                inputs[name][place] -= sign * step
            difference = (around[0] - around[1]) / (2 * step)
            assert gradient[place] == pytest.approx(difference, rel=1e-6, abs=1e-8), (name, place)


def theirs(torch, cell, inputs):
    """PyTorch's layer with these weights, in its order, and our names of its parameters."""
    weight, matrix, bias = (torch.tensor(inputs[n]) for n in ("weight", "recurrent", "bias"))
    units, features = len(matrix), len(weight)
    settings = {"nonlinearity": inputs["activation"]} if cell == "rnn" else {}
    layer = getattr(torch.nn, cell.upper())(features, units, batch_first=True, **settings).double()
    of_x, of_h = bias, torch.zeros_like(bias)
    if cell == "gru":
        of_x = bias[: 3 * units]
        of_h = torch.cat([torch.zeros(2 * units).double(), bias[3 * units :]])
    with torch.no_grad():
        for name, value in (("weight_ih_l0", weight.T), ("weight_hh_l0", matrix.T),
                            ("bias_ih_l0", of_x), ("bias_hh_l0", of_h)):  # fmt: skip
            getattr(layer, name).copy_(value)
    return layer


@pytest.mark.parametrize(("cell", "variant"), OPERATIONS)
def test_as_pytorch(cell, variant):
    """Outputs, last states and all gradients; lengths are those of a packed sequence."""
    torch = pytest.importorskip("torch", reason="torch is not installed (the extra peers)")
    inputs = drawn(cell, variant, False, (3, 5, 6))
    y, lasts, _ = results(cell, inputs)
    rng = np.random.default_rng(6)
    dy, *dlasts = (rng.standard_normal(array.shape) for array in (y, *lasts))
    ours, layer = gradients(cell, inputs, dy, dlasts), theirs(torch, cell, inputs)
    names = [name for name in ("x", "h0", "c0") if name in inputs]
    given = {name: torch.tensor(inputs[name], requires_grad=True) for name in names}
    sequence, states = given["x"], [given[name][None] for name in names[1:]]
    if "lengths" in inputs:
        lengths = torch.tensor(inputs["lengths"], dtype=torch.int64)
        pack = torch.nn.utils.rnn.pack_padded_sequence
        sequence = pack(sequence, lengths, batch_first=True, enforce_sorted=False)
    first = (tuple(states) if cell == "lstm" else states[0]) if states else None
    got, last = layer(sequence, first)
    if "lengths" in inputs:
        unpack = torch.nn.utils.rnn.pad_packed_sequence
        got, _ = unpack(got, batch_first=True, total_length=y.shape[1])
    last = [state[0] for state in (last if cell == "lstm" else (last,))]
    pairs = (got, dy), *zip(last, dlasts, strict=True)
    sum((a * torch.tensor(d)).sum() for a, d in pairs).backward()
    expected = {name: tensor.grad for name, tensor in given.items()}
    expected |= {"weight": layer.weight_ih_l0.grad.T, "recurrent": layer.weight_hh_l0.grad.T}
    of_h = layer.bias_hh_l0.grad
    expected["bias"] = layer.bias_ih_l0.grad
    if cell == "gru":
        expected["bias"] = torch.cat([expected["bias"], of_h[2 * len(of_h) // 3 :]])
    pairs = [("y", y, got.detach())]
    pairs += [("last", a, b.detach()) for a, b in zip(lasts, last, strict=True)]
    pairs += [(name, ours[name], value) for name, value in expected.items()]
    for name, a, b in pairs:
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(("cell", "variant"), OPERATIONS)
def test_errors_are_carried_from_step_to_step(cell, variant):
    """A state that is off by a thousandth at first is off by no more than estimates say at last,
    and by a hundredth of that at least.
    """
    inputs = drawn(cell, variant, False, (3, 3, 9))
    units = len(inputs["recurrent"])
    rng, states = np.random.default_rng(8), 2 if cell == "lstm" else 1
    firsts = rng.standard_normal((states, 3, units))
    z = inputs["x"] @ inputs["weight"] + inputs["bias"][: inputs["weight"].shape[1]]
    step = {
        "rnn": lambda: recurrence.rnn_cell(inputs["activation"]),
        "lstm": lambda: recurrence.lstm_cell,
        "gru": lambda: recurrence.gru_cell(inputs["bias"][3 * units :]),
    }[cell]()
    given = inputs["recurrent"], inputs.get("lengths"), False
    off = 1e-3 * rng.uniform(-1, 1, firsts.shape)

    def lasts(states, z, *act):
        last, _ = recurrence.forward(step, z, given[0], states, *given[1:], *act)
        return last

    exact, moved = lasts(tuple(firsts), z), lasts(tuple(firsts + off), z)
    estimates = tuple(
        Estimate(f, "float64", Bound.of(np.abs(o))) for f, o in zip(firsts, off, strict=True)
    )
    bounds = lasts(estimates, Estimate(z, "float64"), activate)
    for one, other, estimate in zip(exact, moved, bounds, strict=True):
        change, bound = np.abs(other - one), estimate.bound.each
        assert (change <= bound).all()
        assert (change > 1e-2 * bound).any()
