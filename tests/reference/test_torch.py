"""The reference beside PyTorch where that is installed: trajectories of update rules and of a
network, activations and losses with their derivatives, in float64; schedules.
"""

import numpy as np
import pytest

import reference
from kernels import schedules
from reference import element_loss_spec, optimizer_spec
from reference.activations import ACTIVATIONS
from reference.optimizers import RULES

torch = pytest.importorskip("torch", reason="torch is not installed (the extra peers)")
STEPS = 100
# A rule's settings here -> (its class in torch.optim, its settings there).
BETAS = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3}
THEIRS = {"betas": (0.8, 0.95), "eps": 1e-3}
COUNTERPARTS = {
    "sgd": ({}, "SGD", {}),
    "momentum": ({"beta": 0.7}, "SGD", {"momentum": 0.7}),
    "nesterov": ({"beta": 0.7}, "SGD", {"momentum": 0.7, "nesterov": True}),
    "adagrad": ({"eps": 1e-3}, "Adagrad", {"eps": 1e-3}),
    "rmsprop": ({"rho": 0.8, "eps": 1e-3}, "RMSprop", {"alpha": 0.8, "eps": 1e-3}),
    "adam": (BETAS, "Adam", THEIRS),
    "adamw": (BETAS | {"weight_decay": 0.1}, "AdamW", THEIRS | {"weight_decay": 0.1}),
    "adadelta": ({"rho": 0.8, "eps": 1e-3}, "Adadelta", {"rho": 0.8, "eps": 1e-3}),
    "adamax": (BETAS, "Adamax", THEIRS),
    "amsgrad": (BETAS, "Adam", THEIRS | {"amsgrad": True}),
    "radam": (BETAS, "RAdam", THEIRS),
    "centered_rmsprop": (
        {"rho": 0.8, "beta": 0.7, "eps": 1e-3},
        *("RMSprop", {"alpha": 0.8, "momentum": 0.7, "eps": 1e-3, "centered": True}),
    ),
    "asgd": (
        {"lambd": 0.1, "alpha": 0.6, "t0": 20.0},
        *("ASGD", {"lambd": 0.1, "alpha": 0.6, "t0": 20.0}),
    ),
    "nadam": (BETAS | {"momentum_decay": 0.1}, "NAdam", THEIRS | {"momentum_decay": 0.1}),
    "rprop": (
        {"eta_minus": 0.4, "eta_plus": 1.3, "smallest": 1e-3, "largest": 0.2},
        *("Rprop", {"etas": (0.4, 1.3), "step_sizes": (1e-3, 0.2)}),
    ),
}
ALONE = {"lion", "delta_bar_delta"}  # torch.optim has none
# PyTorch keeps a number of these in float32.
SINGLE = {"asgd", "nadam", "hard_sigmoid", "celu", "binary_cross_entropy"}


def test_every_rule_is_compared_or_has_no_counterpart():
    assert {rule.__name__ for rule in RULES} == {*COUNTERPARTS, *ALONE}


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_trajectory(name):
    """A hundred steps from a state of zeros, with hyperparameters that are nobody's defaults."""
    rng, rule = np.random.default_rng(0), getattr(reference, name)
    settings, counterpart, theirs = COUNTERPARTS[name]
    param = rng.standard_normal(50)
    states = [np.zeros_like(param) for _ in optimizer_spec.parts(rule)[0]]
    there = torch.nn.Parameter(torch.tensor(param))
    optimizer = getattr(torch.optim, counterpart)([there], lr=0.05, **theirs)
    for step in range(1, STEPS + 1):
        grad = rng.standard_normal(param.shape)
        count = {"step": step} if optimizer_spec.counts(rule) else {}
        rule(param, grad, *states, **count, lr=0.05, **settings)
        there.grad = torch.tensor(grad)
        optimizer.step()
        allowed = {"atol": 1e-7} if name in SINGLE else {"rtol": 1e-10, "atol": 1e-12}
        np.testing.assert_allclose(param, there.detach().numpy(), **allowed)
    if name == "asgd":
        average = optimizer.state[there]["ax"].numpy()
        np.testing.assert_allclose(states[0], average, rtol=1e-6)


def functions():
    """{activation: (alpha, PyTorch's)}"""
    of = torch.nn.functional
    return {
        "identity": (None, lambda z: 1 * z),
        "relu": (None, of.relu),
        "leaky_relu": (0.2, lambda z: of.leaky_relu(z, 0.2)),
        "elu": (0.7, lambda z: of.elu(z, 0.7)),
        "selu": (None, of.selu),
        "sigmoid": (None, torch.sigmoid),
        "tanh": (None, torch.tanh),
        "silu": (None, of.silu),
        "gelu": (None, of.gelu),
        "gelu_tanh": (None, lambda z: of.gelu(z, approximate="tanh")),
        "softplus": (None, of.softplus),
        "softsign": (None, of.softsign),
        "mish": (None, of.mish),
        "celu": (0.7, lambda z: of.celu(z, 0.7)),
        "hard_sigmoid": (None, of.hardsigmoid),
        "hard_swish": (None, of.hardswish),
        "thresholded_relu": (0.7, lambda z: of.threshold(z, 0.7, 0.0)),
    }


@pytest.mark.parametrize("activation", [a for a in ACTIVATIONS if a not in ("prelu", "rectifier")])
def test_activation_and_derivative(activation):
    """At normal numbers and at the kinks. softplus is linear from 20 on there: 2e-9 of it."""
    alpha, theirs = functions()[activation]
    kinks = [0.0, -3.0, 3.0, 0.7]
    z = np.concatenate([5 * np.random.default_rng(1).standard_normal(500), kinks]).reshape(1, -1)
    there = torch.tensor(z, requires_grad=True)
    y = theirs(there)
    y.sum().backward()
    ours = reference.activation_forward(z, activation, alpha)
    np.testing.assert_allclose(ours, y.detach().numpy(), rtol=1e-9, atol=1e-12)
    saved = z if ACTIVATIONS[activation].saves_input else ours
    dz = reference.activation_backward(np.ones_like(z), saved, activation, alpha)
    tolerance = 1e-6 if activation in SINGLE else 1e-8
    np.testing.assert_allclose(dz, there.grad.numpy(), rtol=tolerance, atol=1e-12)


def test_schedules():
    """Theirs are asked before the first step and after every other, from a rate of 1."""
    of = torch.optim.lr_scheduler
    pairs = [
        (schedules.StepDecay(7, 0.5), lambda o: of.StepLR(o, 7, 0.5)),
        (schedules.Exponential(0.9), lambda o: of.ExponentialLR(o, 0.9)),
        (
            schedules.CosineRestarts(10, growth=2, lowest=0.1),
            lambda o: of.CosineAnnealingWarmRestarts(o, 10, 2, eta_min=0.1),
        ),
        (schedules.WarmUp(20, 0.25), lambda o: of.LinearLR(o, 0.25, total_iters=20)),
        (schedules.OneCycle(STEPS), lambda o: of.OneCycleLR(o, 1.0, STEPS, cycle_momentum=False)),
        (
            schedules.OneCycle(STEPS, 0.5, 0.1, 1e-3),
            lambda o: of.OneCycleLR(
                *(o, 1.0, STEPS), pct_start=0.5, div_factor=10, final_div_factor=100,
                cycle_momentum=False,
            ),
        ),
    ]  # fmt: skip
    for ours, make in pairs:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        theirs = make(optimizer)
        for step in range(1, STEPS + 1):
            (group,) = optimizer.param_groups
            assert ours(step) == pytest.approx(float(group["lr"]), rel=1e-9), (ours, step)
            optimizer.step()
            if step < STEPS:
                theirs.step()


def test_plateau():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=3)
    ours = schedules.ReduceOnPlateau(factor=0.5, patience=3)
    for loss in np.random.default_rng(2).uniform(1, 2, STEPS):
        ours.observe(loss)
        theirs.step(loss)
        assert ours(1) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)


def test_a_network_with_penalty_clipping_and_schedule():
    """Twenty steps; here the penalty is part of what is clipped, and so it is of their loss.

    They divide by the norm + 1e-6.
    """
    rng, sizes, l2, limit = np.random.default_rng(3), (6, 9, 4), 0.05, 0.3
    schedule = schedules.CosineRestarts(6)
    ours = reference.network.create(
        *(sizes,), activations="tanh", optimizer="momentum", batch=16, lr=0.1, dtype="float64",
        l2=l2, clip_norm=limit, schedule=schedule,
    )  # fmt: skip
    there = {n: torch.tensor(a, requires_grad=True) for n, a in ours.parameters.items()}
    optimizer = torch.optim.SGD(there.values(), lr=0.1, momentum=0.9)
    for step in range(1, 21):
        x, labels = rng.standard_normal((16, 6)), rng.integers(0, 4, 16)
        optimizer.param_groups[0]["lr"] = 0.1
        hidden = torch.tanh(torch.tensor(x) @ there["layer0.weight"] + there["layer0.bias"])
        logits = hidden @ there["layer1.weight"] + there["layer1.bias"]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
        assert ours.step(x, labels) == pytest.approx(float(loss), rel=1e-6)
        penalty = sum((p**2).sum() for p in there.values())
        optimizer.zero_grad()
        (loss + l2 / 2 * penalty).backward()
        torch.nn.utils.clip_grad_norm_(there.values(), limit)
        for p in there.values():  # v = beta v + lr g takes the rate into the velocity
            p.grad *= schedule(step)
        optimizer.step()
    for name, p in there.items():
        np.testing.assert_allclose(ours.parameters[name], p.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [None, 2, -100])
def test_nll(ignored, weighted, reduction):
    """Also where every label is ignored: the mean is NaN there, the gradient 0."""
    rng = np.random.default_rng(4)
    y, labels = rng.standard_normal((40, 5)), rng.integers(0, 5, 40)
    labels[:7] = labels[:7] if ignored is None else ignored
    weights = rng.random(5) if weighted else None
    for given in (labels, np.full(40, 2 if ignored is None else ignored)):
        there = torch.tensor(y, requires_grad=True)
        theirs = torch.nn.functional.nll_loss(
            *(there, torch.tensor(given), torch.tensor(weights) if weighted else None),
            ignore_index=-1 if ignored is None else ignored,
            reduction=reduction,
        )
        theirs.sum().backward()
        settings = {"class_weights": weights, "ignore_index": ignored, "reduction": reduction}
        loss, gradient = reference.nll(y, given, **settings)
        np.testing.assert_allclose(loss, theirs.detach().numpy(), rtol=1e-12)
        np.testing.assert_allclose(gradient, there.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("labels", ["labels", "some ignored", "all ignored", "soft"])
def test_cross_entropy(labels, smoothing, weighted, reduction):
    """Of rows that are all ignored the gradient is 0 here, there NaN where they are averaged."""
    rng = np.random.default_rng(5)
    logits, chosen = 3 * rng.standard_normal((40, 5)), rng.integers(0, 5, 40)
    weights, ignored = rng.random(5) if weighted else None, None
    if labels == "soft":
        chosen = rng.random((40, 5))
    elif labels != "labels":
        ignored = -100
        chosen[: 7 if labels == "some ignored" else 40] = ignored
    there = torch.tensor(logits, requires_grad=True)
    theirs = torch.nn.functional.cross_entropy(
        *(there, torch.tensor(chosen), torch.tensor(weights) if weighted else None),
        label_smoothing=smoothing,
        reduction=reduction,
    )
    theirs.sum().backward()
    loss, gradient = reference.softmax_cross_entropy(
        *(logits, chosen),
        label_smoothing=smoothing,
        class_weights=weights,
        ignore_index=ignored,
        reduction=reduction,
    )
    np.testing.assert_allclose(loss, theirs.detach().numpy(), rtol=1e-12)
    expected = np.nan_to_num(there.grad.numpy())
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(axis):
    x = np.random.default_rng(6).standard_normal((3, 4, 5))
    for name in ("softmax", "log_softmax"):
        theirs = getattr(torch.nn.functional, name)(torch.tensor(x), dim=axis).numpy()
        np.testing.assert_allclose(getattr(reference, name)(x, axis=axis), theirs, rtol=1e-12)


# A loss of elements -> (its name in torch.nn.functional, its settings there).
LOSSES = {
    "mean_squared_error": ("mse_loss", {}),
    "mean_absolute_error": ("l1_loss", {}),
    "huber": ("huber_loss", {"delta": 0.7}),
    "binary_cross_entropy_with_logits": ("binary_cross_entropy_with_logits", {}),
    "binary_cross_entropy": ("binary_cross_entropy", {}),
    "poisson_nll": ("poisson_nll_loss", {}),
    "gaussian_nll": ("gaussian_nll_loss", {"eps": 0.4}),
}


def test_every_loss_of_elements_is_compared():
    assert list(LOSSES) == reference.element_losses.__all__


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("operation", element_loss_spec.OPERATIONS, ids=str)
def test_loss_of_elements_and_gradients(operation, reduction):
    """Some errors are 0 and at the kinks, probabilities certain, variances below eps."""
    counterpart, settings = LOSSES[operation.name]
    case = reference.Case("torch", {"batch": 20, "fan_out": 30}, "float64", vary=False)
    inputs = operation.sample(np.random.default_rng(3), case)
    first, second, *_ = inputs.values()
    edges = {"huber": (0.7, 0.0), "binary_cross_entropy": (1.0, 1.0)}
    first[0, :2], second[0, :2] = edges.get(operation.name, (1.0, 1.0))
    first[1, :4], second[1, :4] = (0, 1, 0, 1), (0, 0, 1, 1)
    there = {k: torch.tensor(v, requires_grad=k != "target") for k, v in inputs.items()}
    theirs = getattr(torch.nn.functional, counterpart)(
        *there.values(), **settings, reduction=reduction
    )
    theirs.sum().backward()
    loss, *gradients = operation.function(**inputs, **settings, reduction=reduction)
    np.testing.assert_allclose(loss, theirs.detach().numpy(), rtol=1e-12, atol=1e-15)
    wanted = [tensor.grad.numpy() for tensor in there.values() if tensor.requires_grad]
    tolerance = 1e-8 if operation.name in SINGLE else 1e-12
    for ours, expected in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=1e-15)
