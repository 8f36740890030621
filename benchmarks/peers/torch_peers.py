"""PyTorch's ways of doing our operations: eager, torch.compile, and oneDNN with packed weights.

What PyTorch itself would run is called directly, in the form that was fastest: without autograd's
records, but for the gradients of losses and for recurrent layers; the backward pass as the products
and derivatives that autograd would call; in eager mode into results allocated beforehand; update
rules through torch.optim. torch.compile is given the same formulas (of the rules those of three),
one compilation for every shape, and allocates its results as it always does. PyTorch is imported
when something is bound, never with this module.
"""

import functools
import inspect
import math

import numpy as np

from kernels.catalog import RULES
from reference.spec import with_arrays

from . import torch_formulas, torch_recurrent, torch_rules
from .given import cell_of, settings_of

SPLITS = ("gaussian_nll",)  # what it checks of its arguments torch.compile takes from it


def eager(operation, inputs, device="cpu"):
    """(call, results) of eager mode."""
    torch = _torch()
    if cell_of(operation):
        return torch_recurrent.bound(operation, inputs, device)
    tensors = _tensors(torch_formulas.kept(operation, inputs), device)
    if operation.name in RULES:
        return torch_rules.bound(operation, inputs, tensors)
    formula = functools.partial(torch_formulas.formula(operation, inputs, _by_autograd), **tensors)
    if operation.in_place:
        return _updating(operation, formula, tensors)
    if "out" not in inspect.signature(formula).parameters:
        return formula, lambda: _host(formula(), operation)
    call = functools.partial(formula, out=[torch.empty_like(result) for result in formula()])
    return call, lambda: _host(call(), operation)


def compiled(operation, inputs, device="cpu"):
    """(call, results) of the formula through torch.compile, compiled for these very shapes."""
    torch = _torch()
    if operation.name in SPLITS:
        raise NotImplementedError(f"torch.compile splits {operation}")
    torch.compiler.reset()  # else the limit of recompilations is met; what runs stays as it is
    tensors = _tensors(torch_formulas.kept(operation, inputs), device)
    if "step" in inputs:  # counted on the device, so that it is not compiled in
        tensors["step"] = torch.tensor(float(inputs["step"]), device=device)
    if operation.name in RULES:
        formula = _update(operation, inputs)
    else:
        formula = torch_formulas.formula(operation, inputs, _by_function)
    formula = torch.compile(formula, dynamic=False, fullgraph=True)
    call = functools.partial(formula, **tensors)
    if operation.in_place:
        return _updating(operation, call, tensors)
    return call, lambda: _host(call(), operation)


def _updating(operation, call, tensors):
    """(call, results) of what updates tensors by name, and may return others."""
    if not operation.returns:
        return call, lambda: _host(operation.collect(tensors, None), operation)
    last = [None]

    def update():
        last[0] = call()

    return update, lambda: _host(operation.collect(tensors, last[0]), operation)


def onednn(operation, inputs, device="cpu"):
    """(call, results) of oneDNN's fused layer, its weights packed for the batch beforehand."""
    torch = _torch()
    names = {"identity": "none", "relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid"}
    if operation.name != "dense_forward" or operation.variant not in names:
        raise NotImplementedError(f"oneDNN's inference has no {operation}")
    x, weight, bias = (_tensors(inputs, device)[name] for name in ("x", "weight", "bias"))
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.T.contiguous(), len(x))
    function = torch.ops.mkldnn._linear_pointwise.default
    call = functools.partial(function, x, packed, bias, names[operation.variant], [], "")
    return call, lambda: _host([call()], operation)


def runs_on(device):
    """Whether this build of PyTorch reaches the device."""
    return device == "cpu" or _torch().cuda.is_available()


def product(device):
    """product(a, b) of two matrices on the host, by the device."""
    torch = _torch()

    def product(a, b):
        a, b = (torch.tensor(array, device=device) for array in (a, b))
        return torch.mm(a, b).cpu().numpy()

    return product


def has_onednn():
    """Whether this build of PyTorch has oneDNN."""
    return _torch().backends.mkldnn.is_available()


def wait(device):
    """What waits until all calls are done."""
    return _torch().cuda.synchronize if device == "cuda" else lambda: None


@functools.cache
def _torch():
    """PyTorch, told to multiply float32 in float32 and not in TF32, by its old and new switches."""
    import torch

    torch.set_float32_matmul_precision("highest")
    return torch


def _tensors(inputs, device):
    """Copies of the arrays; labels are int64, which PyTorch's losses want."""
    _torch().set_grad_enabled(False)  # from here on: what needs autograd's records turns it on

    def tensor(array):
        return (
            _torch().tensor(array.astype(np.int64) if array.dtype.kind == "i" else array).to(device)
        )

    arrays = {k: v for k, v in inputs.items() if isinstance(v, np.ndarray | tuple)}
    return with_arrays(tensor, arrays)


def _host(tensors, operation):
    """The results as the reference returns them; the first of the backward formula is dz."""
    arrays = tuple(tensor.detach().cpu().numpy() for tensor in tensors)
    return arrays[1:] if operation.name == "dense_backward" else arrays


def _by_autograd(loss, tensors):
    """(loss, its gradients), of autograd's records."""
    torch = _torch()
    with torch.enable_grad():
        found = loss(*[tensor.requires_grad_() for tensor in tensors])
        return found.detach(), *torch.autograd.grad(found, tensors)


def _by_function(loss, tensors):
    """The same as one function, which torch.compile can take."""
    import torch

    arguments = tuple(range(len(tensors)))
    gradients, found = torch.func.grad_and_value(loss, arguments)(*tensors)
    return found, *gradients


def _update(operation, inputs):
    """An update rule on tensors by name."""
    torch, lr = _torch(), settings_of(operation, inputs)["lr"]

    def sgd(param, grad):
        param.add_(grad, alpha=-lr)

    def momentum(param, grad, velocity):
        velocity.mul_(0.9).add_(grad, alpha=lr)
        param.sub_(velocity)

    def adam(param, grad, mean, variance, step):
        mean.mul_(0.9).add_(grad, alpha=1 - 0.9)
        variance.mul_(0.999).add_(grad * grad, alpha=1 - 0.999)
        # 1 - beta^t in float32 loses five digits at small t, expm1 none.
        first = -torch.expm1(step * math.log(0.9))
        second = -torch.expm1(step * math.log(0.999))
        param.sub_(lr * (mean / first) / (torch.sqrt(variance / second) + 1e-8))
        step.add_(1)

    if operation.name not in locals():
        raise NotImplementedError(f"no formula of PyTorch for {operation}")
    return locals()[operation.name]
