"""PyTorch's ways of doing our operations: eager, torch.compile, and oneDNN with packed weights.

What PyTorch itself would run is called directly, in the form that was fastest: without autograd's
records; the backward pass as the products and derivatives that autograd would call; in eager mode
into results allocated beforehand; update rules through torch.optim with fused=True.
torch.compile is given the same formulas, one compilation for every shape, and allocates its results
as it always does. PyTorch is imported when something is bound, never with this module.
"""

import functools
import math

import numpy as np


def eager(operation, inputs, device="cpu"):
    """(call, results) of eager mode."""
    torch = _torch()
    tensors = _tensors(inputs, device)
    if operation.in_place:
        return _optimizer(operation, inputs, tensors)
    formula = functools.partial(_formula(operation, inputs), **tensors)
    call = functools.partial(formula, out=[torch.empty_like(result) for result in formula()])
    return call, lambda: _host(call(), operation)


def compiled(operation, inputs, device="cpu"):
    """(call, results) of the formula through torch.compile, compiled for these very shapes."""
    torch = _torch()
    torch.compiler.reset()  # else the limit of recompilations is met; what runs stays as it is
    tensors = _tensors(inputs, device)
    if "step" in inputs:  # counted on the device, so that it is not compiled in
        tensors["step"] = torch.tensor(float(inputs["step"]), device=device)
    formula = torch.compile(_formula(operation, inputs), dynamic=False, fullgraph=True)
    call = functools.partial(formula, **tensors)
    if operation.in_place:
        return call, lambda: _host([tensors[name] for name in operation.in_place], operation)
    return call, lambda: _host(call(), operation)


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
    _torch().set_grad_enabled(False)  # from here on: nothing here needs autograd's records
    found = {}
    for name, value in inputs.items():
        if isinstance(value, np.ndarray):
            value = value.astype(np.int64) if value.dtype.kind == "i" else value
            found[name] = _torch().tensor(value, device=device)
    return found


def _host(tensors, operation):
    """The results as the reference returns them; the first of the backward formula is dz."""
    arrays = tuple(tensor.cpu().numpy() for tensor in tensors)
    return arrays[1:] if operation.name == "dense_backward" else arrays


def _formula(operation, inputs):
    """The operation on tensors by name, as a function that returns a tuple.

    It writes into `out` where that is given, but for the loss, which PyTorch always allocates.
    """
    torch = _torch()
    aten, lr = torch.ops.aten, inputs.get("lr")
    act, slope = _activation(operation.variant) if "activation" in inputs else (None, None)

    def activation_forward(z, out=(None,)):
        return (act(z, out=out[0]),)

    def activation_backward(dy, saved, out=(None,)):
        return (slope(dy, saved, out[0]),)

    def dense_forward(x, weight, bias, out=(None,)):
        y = torch.addmm(bias, x, weight, out=out[0])
        return (act(y, out=out[0]),)

    def dense_backward(dy, x, weight, saved, out=(None,) * 4):
        dz = slope(dy, saved, out[0])
        dx, dweight = torch.mm(dz, weight.T, out=out[1]), torch.mm(x.T, dz, out=out[2])
        return dz, dx, dweight, torch.sum(dz, 0, out=out[3])

    def softmax_cross_entropy(logits, labels, out=None):
        log_p = torch.log_softmax(logits, 1)
        loss, total = aten.nll_loss_forward(log_p, labels, None, 1, -100)
        unit = torch.ones_like(loss)
        gradient = aten.nll_loss_backward(unit, log_p, labels, None, 1, -100, total)
        return loss, aten._log_softmax_backward_data(gradient, log_p, 1, logits.dtype)

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

    if operation.name not in locals() or inputs.get("label_smoothing"):
        raise NotImplementedError(f"no formula of PyTorch for {operation}")
    return locals()[operation.name]


def _activation(name):
    """(act(z, out=), derivative(dy, saved, out)) of an activation."""
    torch = _torch()
    aten = torch.ops.aten
    forward = {
        "relu": functools.partial(torch.clamp_min, min=0),
        "elu": torch._C._nn.elu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
    }
    backward = {
        "relu": (aten.threshold_backward, (0,)),
        "elu": (aten.elu_backward, (1.0, 1.0, 1.0, True)),
        "sigmoid": (aten.sigmoid_backward, ()),
        "tanh": (aten.tanh_backward, ()),
    }
    if name not in forward:
        raise NotImplementedError(f"no formula of PyTorch for {name}")
    derivative, settings = backward[name]

    def slope(dy, saved, out):
        given = (dy, *settings, saved) if name == "elu" else (dy, saved, *settings)
        if out is None:
            return derivative.default(*given)
        return derivative.grad_input(*given, grad_input=out)

    return forward[name], slope


def _optimizer(operation, inputs, tensors):
    """(call, results) of a fused rule of torch.optim, its state set to the inputs'.

    torch's momentum keeps v / lr.
    """
    torch, lr = _torch(), inputs["lr"]
    param = torch.nn.Parameter(tensors["param"])
    param.grad = tensors["grad"]
    match operation.name:
        case "sgd":
            rule, state = torch.optim.SGD([param], lr, fused=True), {}
        case "momentum":
            rule = torch.optim.SGD([param], lr, momentum=0.9, fused=True)
            state = {"momentum_buffer": tensors["velocity"] / lr}
        case "adam":
            rule = torch.optim.Adam([param], lr, fused=True)
            step = torch.tensor(inputs["step"] - 1.0, device=param.device)
            state = {"step": step, "exp_avg": tensors["mean"], "exp_avg_sq": tensors["variance"]}
        case _:
            raise NotImplementedError(f"torch.optim has no fused {operation}")
    rule.state[param].update(state)

    def results():
        kept = rule.state[param]
        match operation.name:
            case "sgd":
                states = ()
            case "momentum":
                states = (kept["momentum_buffer"] * lr,)
            case _:
                states = (kept["exp_avg"], kept["exp_avg_sq"])
        return _host([param, *states], operation)

    return rule.step, results
