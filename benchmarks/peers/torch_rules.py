"""The update rules of torch.optim, by the names of their settings and states here and there.

A rule is fused where PyTorch has a fused form of it on the CPU (SGD, Adagrad, Adam, AdamW); the
others run as PyTorch chooses there, one operation after another on each tensor (foreach=False).
lion and delta_bar_delta are not among its rules.
"""

import functools
import inspect

import numpy as np

from kernels.catalog import RULES

from .given import settings_of

# A rule -> (its class, what makes it this one).
_CLASSES = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {}),
    "nesterov": ("SGD", {"nesterov": True}),
    "adagrad": ("Adagrad", {}),
    "rmsprop": ("RMSprop", {}),
    "centered_rmsprop": ("RMSprop", {"centered": True}),
    "adam": ("Adam", {}),
    "amsgrad": ("Adam", {"amsgrad": True}),
    "adamw": ("AdamW", {}),
    "adadelta": ("Adadelta", {}),
    "adamax": ("Adamax", {}),
    "radam": ("RAdam", {}),
    "nadam": ("NAdam", {}),
    "rprop": ("Rprop", {}),
    "asgd": ("ASGD", {}),
}
_PAIRS = {"beta1": "betas", "beta2": "betas", "eta_minus": "etas", "eta_plus": "etas"}
_PAIRS |= {"smallest": "step_sizes", "largest": "step_sizes"}
_STATES = {
    "velocity": "momentum_buffer",
    "accumulator": "sum",
    "mean_square": "square_avg",
    "mean_square_change": "acc_delta",
    "mean": "exp_avg",
    "variance": "exp_avg_sq",
    "infinity_norm": "exp_inf",
    "largest": "max_exp_avg_sq",
    "previous": "prev",
    "step_size": "step_size",
    "average": "ax",
}


def bound(operation, inputs, tensors):
    """(call, results) of a rule of torch.optim, its parameters and state set to the inputs'.

    Raises NotImplementedError where it has none. torch.optim.SGD keeps v / lr.
    """
    import torch

    name = operation.name
    if name not in _CLASSES:
        raise NotImplementedError(f"torch.optim has no {name}")
    rule, given = _CLASSES[name]
    rule, given = getattr(torch.optim, rule), {**given, **_settings(operation, inputs)}
    if "fused" in inspect.signature(rule).parameters:
        given["fused"] = True
    scale = given["lr"] if given.get("nesterov") or name == "momentum" else 1.0
    param = torch.nn.Parameter(tensors["param"].clone())
    param.grad = tensors["grad"]
    rule = rule([param], **given)
    # Steps of its own, until the number of steps is ours and whatever follows from it as well.
    for _ in range(max(1, inputs.get("step", 2) - 1)):
        rule.step()
    theirs = [_STATES[state] for state in RULES[name].states]
    if name == "centered_rmsprop":
        theirs[1] = "grad_avg"
    param.data.copy_(tensors["param"])
    for key, state in zip(theirs, RULES[name].states, strict=True):
        rule.state[param][key].copy_(tensors[state] / scale)

    def results():
        kept = [rule.state[param][key] * scale for key in theirs]
        return tuple(np.asarray(tensor.detach().cpu()) for tensor in (param, *kept))

    return functools.partial(rule.step), results


def _settings(operation, inputs):
    """The settings as torch.optim names them."""
    found = {}
    for key, value in settings_of(operation, inputs).items():
        if key in _PAIRS:
            found[_PAIRS[key]] = (*found.get(_PAIRS[key], ()), value)
        elif key == "beta":
            found["momentum"] = max(value, 1e-30)  # without one it would keep no velocity
        elif key == "rho":
            found["rho" if operation.name == "adadelta" else "alpha"] = value
        else:
            found[key] = value
    return found
