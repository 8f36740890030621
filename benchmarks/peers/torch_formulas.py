"""The operations as PyTorch does them: what it would call itself, else a composition of that.

An activation, and its derivative, is the function of torch.ops.aten that autograd would call; the
gradient of a loss is autograd's, or in torch.compile that of torch.func.
"""

import functools

import numpy as np

from kernels import catalog
from kernels.catalog import SELU_ALPHA, SELU_LAMBDA

from .given import alpha_of, mask_of, pre_activation

# A loss of elements -> its name in torch.nn.functional.
LOSSES = {
    "mean_squared_error": "mse_loss",
    "mean_absolute_error": "l1_loss",
    "huber": "huber_loss",
    "binary_cross_entropy_with_logits": "binary_cross_entropy_with_logits",
    "binary_cross_entropy": "binary_cross_entropy",
    "poisson_nll": "poisson_nll_loss",
    "gaussian_nll": "gaussian_nll_loss",
}
KEEPS_INPUT = ("softplus", "hard_sigmoid")  # where our backward pass reads y


def kept(operation, inputs):
    """The inputs, but for what PyTorch keeps otherwise from the forward pass: of some activations
    z, of maxout which piece was the largest, of dropout the mask. Its matrices are between points
    from -1 to 1.
    """
    if operation.name == "dropout_backward":
        return {**inputs, "mask": mask_of(inputs)}
    if operation.name == "affine_transform":
        return {**inputs, "matrices": _normalized(inputs["matrices"], *inputs["images"].shape[-2:])}
    if operation.name == "activation_backward" and operation.variant in KEEPS_INPUT:
        return {**inputs, "saved": pre_activation(inputs)}
    if operation.name == "maxout_backward":
        return {**inputs, "z": inputs["z"].argmax(axis=1)[:, None]}
    return inputs


def _normalized(matrices, height, width):
    """The matrices from (x, y, 1) to (x, y), both -1 and 1 at the edges of the image."""
    wide, n = matrices.astype(np.float64), np.array([height, width])
    offset = (wide[:, :, :2] @ (n - 1) + 2 * wide[:, :, 2] + 1) / n - 1
    normalized = wide[:, :, :2] * n / n[:, None]
    swapped = [normalized[:, ::-1, ::-1], offset[:, ::-1, None]]
    return np.concatenate(swapped, axis=2).astype(matrices.dtype)


def formula(operation, inputs, gradients):
    """The operation on tensors by name, as a function that returns a tuple.

    It writes into `out` where it takes that; losses and counts PyTorch allocates.
    gradients(loss, tensors) is (loss, its gradients by the tensors). Raises NotImplementedError
    where PyTorch has nothing of the kind.
    """
    import torch

    aten, functional = torch.ops.aten, torch.nn.functional
    act, slope = activation(inputs) if "activation" in inputs else (None, None)
    eps = inputs.get("eps", 1e-5)  # of normalisation

    def activation_forward(z, alpha=None, out=(None,)):
        return (act(z, out=out[0]),)

    def activation_backward(dy, saved, alpha=None, out=(None,)):
        dz = slope(dy, saved, out[0])
        return dz if isinstance(dz, tuple) else (dz,)

    def dense_forward(x, weight, bias, out=(None,)):
        y = torch.addmm(bias, x, weight, out=out[0])
        return (act(y, out=out[0]),)

    def dense_backward(dy, x, weight, saved, out=(None,) * 4):
        dz = slope(dy, saved, out[0])
        dx, dweight = torch.mm(dz, weight.T, out=out[1]), torch.mm(x.T, dz, out=out[2])
        return dz, dx, dweight, torch.sum(dz, 0, out=out[3])

    def maxout_forward(x, weight, bias, out=(None, None)):
        flat = None if out[1] is None else out[1].view(len(x), -1)
        z = torch.addmm(bias.view(-1), x, weight.view(len(weight), -1), out=flat)
        z = z.view(len(x), *bias.shape)
        return torch.amax(z, 1, out=out[0]), z

    def maxout_backward(dy, x, weight, z):
        dz = torch.zeros(len(x), *weight.shape[1:]).scatter_(1, z, dy[:, None]).view(len(x), -1)
        dx, dweight = torch.mm(dz, weight.view(len(weight), -1).T), torch.mm(x.T, dz)
        return dx, dweight.view(weight.shape), torch.sum(dz, 0).view(weight.shape[1:])

    def softmax(logits, out=(None,)):
        return (torch.softmax(logits, inputs.get("axis", -1), out=out[0]),)

    def log_softmax(logits, out=(None,)):
        return (torch.log_softmax(logits, inputs.get("axis", -1), out=out[0]),)

    def added(y, skip):
        return y if skip is None else y + skip

    def batch_norm_forward(x, gamma, beta, running_mean, running_variance, skip=None):
        given = x, gamma, beta, running_mean, running_variance, True
        y, mean, rstd = torch.native_batch_norm(*given, inputs.get("momentum", 0.1), eps)
        return added(y, skip), mean, rstd

    def batch_norm_inference(x, gamma, beta, running_mean, running_variance, skip=None):
        given = x, running_mean, running_variance, gamma, beta
        return (added(functional.batch_norm(*given, eps=eps), skip),)

    def batch_norm_backward(dy, x, gamma, mean, rstd):
        given = dy, x, gamma, None, None, mean, rstd, True, eps
        return aten.native_batch_norm_backward(*given, [True] * 3)

    def layer_norm_forward(x, gamma, beta, skip=None):
        y, mean, rstd = torch.native_layer_norm(x, gamma.shape, gamma, beta, eps)
        return added(y, skip), mean.view(-1), rstd.view(-1)

    def layer_norm_backward(dy, x, gamma, mean, rstd):
        given = dy, x, gamma.shape, mean[:, None], rstd[:, None], gamma, gamma
        return aten.native_layer_norm_backward(*given, [True] * 3)

    def dropout_forward(x):
        return (functional.dropout(x, inputs["rate"]),)

    def dropout_backward(dy, mask):
        return (aten.native_dropout_backward(dy, mask, 1 / (1 - inputs["rate"])),)

    def softmax_cross_entropy(logits, labels, class_weights=None):
        names = {"label_smoothing", "ignore_index"}
        settings = {name: inputs[name] for name in names if inputs.get(name)}
        if settings or class_weights is not None or labels.is_floating_point():
            loss = functools.partial(functional.cross_entropy, weight=class_weights, **settings)
            return gradients(lambda logits: loss(logits, labels), (logits,))
        log_p = torch.log_softmax(logits, 1)
        loss, total = aten.nll_loss_forward(log_p, labels, None, 1, -100)
        unit = torch.ones_like(loss)
        gradient = aten.nll_loss_backward(unit, log_p, labels, None, 1, -100, total)
        return loss, aten._log_softmax_backward_data(gradient, log_p, 1, logits.dtype)

    def sparse_categorical_cross_entropy(probabilities, labels):
        chosen = probabilities.gather(1, labels[:, None])
        return (torch.log(chosen).mean().neg(),)

    def nll(log_probabilities, labels, class_weights=None):
        ignored = inputs.get("ignore_index")
        ignored = -100 if ignored is None else ignored
        loss = functools.partial(functional.nll_loss, ignore_index=ignored)
        return gradients(lambda y: loss(y, labels, class_weights), (log_probabilities,))

    def loss_of_elements(**tensors):
        first, target, *others = tensors.values()
        loss = getattr(functional, LOSSES[operation.name])
        return gradients(lambda x, *rest: loss(x, target, *rest), (first, *others))

    def initialize(weight):
        initializer, (fan_in, fan_out) = catalog.INITIALIZERS[inputs["initializer"]], weight.shape
        scale, value = initializer.scale, inputs["value"]
        scale = scale and scale(fan_in, fan_out)
        match initializer.distribution:
            case catalog.CONSTANT:
                weight.fill_(value or 0.0)
            case catalog.NORMAL:
                weight.normal_(0.0, scale)
            case catalog.UNIFORM:
                weight.uniform_(-scale, scale)
            case catalog.SPARSE_NORMAL:
                zeros = fan_in - min(fan_in, value or initializer.value.default)
                torch.nn.init.sparse_(weight, (zeros - 0.5) / fan_in, std=1.0)  # rounded up there
            case _:
                torch.nn.init.orthogonal_(weight, 1.0 if value is None else value)

    def sparsity(x):
        zeros = x.numel() - torch.count_nonzero(x)
        return (torch.stack([zeros, (x.abs() <= inputs["threshold"]).sum()]),)

    def connection_sparsity(weight):
        return ((weight.abs() <= inputs["threshold"]).sum(0),)

    def unit_activity(y, active):
        active.add_((y > inputs["threshold"]).sum(0))

    def saturation(y):
        low, high = inputs["margin"], 1 - inputs["margin"]
        near = y.abs() > high if inputs["activation"] == "tanh" else (y < low) | (y > high)
        return (near.sum(0),)

    def histogram(x):
        return (torch.histc(x, inputs["bins"], inputs["low"], inputs["high"]),)

    def global_norm(arrays):
        return (torch.nn.utils.get_total_norm(arrays),)

    def add_l2(grads, params):
        torch._foreach_add_(grads, params, alpha=inputs["l2"])

    def clip_by_value(grads):
        torch._foreach_clamp_min_(grads, -inputs["limit"])
        torch._foreach_clamp_max_(grads, inputs["limit"])

    def clip_by_global_norm(grads):
        norm = torch.nn.utils.get_total_norm(grads)
        torch._foreach_mul_(grads, torch.clamp(inputs["max_norm"] / (norm + 1e-6), max=1.0))
        return (norm,)

    def affine_transform(images, matrices):
        channels = images[:, None]
        grid = functional.affine_grid(matrices, channels.shape, align_corners=False)
        return (functional.grid_sample(channels, grid, align_corners=False)[:, 0],)

    def inner_product(a, b):
        return (torch.dot(a, b),)

    def add_scaled(x, direction, out=(None,)):
        return (torch.add(x, direction, alpha=inputs["step_length"], out=out[0]),)

    def newton_direction(grad, hessian):
        factor, _ = torch.linalg.cholesky_ex(hessian)
        return (torch.cholesky_solve(grad[:, None], factor)[:, 0].neg(),)

    if operation.name in LOSSES:
        return loss_of_elements
    if operation.name not in locals():
        raise NotImplementedError(f"no formula of PyTorch for {operation}")
    return locals()[operation.name]


def activation(inputs):
    """(act(z, out=), derivative(dy, saved, out)) of the activation among the inputs."""
    import torch

    aten, name, alpha = torch.ops.aten, inputs["activation"], alpha_of(inputs)
    if name in ("identity", "softsign"):
        return _composed(name)
    if name in ("prelu", "rectifier"):
        slopes = torch.tensor(alpha)

        def of_slopes(dy, z, out):
            dz, terms = aten._prelu_kernel_backward(dy, z, slopes)
            return (dz, terms.sum(0)) if name == "prelu" else dz

        return lambda z, out: torch.prelu(z, slopes), of_slopes
    # Forward and what it takes beside z, backward and what it takes beside dy and what was saved.
    forward, settings, backward, more = {
        "relu": ("clamp_min", (0,), "threshold_backward", (0,)),
        "leaky_relu": ("leaky_relu", (alpha,), "leaky_relu_backward", (alpha, True)),
        "elu": ("elu", (alpha,), "elu_backward", (alpha, 1, 1, True)),
        "selu": (
            "elu",
            (SELU_ALPHA, SELU_LAMBDA),
            "elu_backward",
            (SELU_ALPHA, SELU_LAMBDA, 1, True),
        ),
        "celu": (
            "elu",
            (alpha, 1, 1 / (alpha or 1)),
            "elu_backward",
            (alpha, 1, 1 / (alpha or 1), True),
        ),
        "sigmoid": ("sigmoid", (), "sigmoid_backward", ()),
        "tanh": ("tanh", (), "tanh_backward", ()),
        "silu": ("silu", (), "silu_backward", ()),
        "gelu": ("gelu", (), "gelu_backward", ()),
        "gelu_tanh": ("gelu", (), "gelu_backward", ()),
        "softplus": ("softplus", (), "softplus_backward", (1, 20)),
        "mish": ("mish", (), "mish_backward", ()),
        "hard_sigmoid": ("hardsigmoid", (), "hardsigmoid_backward", ()),
        "hard_swish": ("hardswish", (), "hardswish_backward", ()),
        "thresholded_relu": ("threshold", (alpha, 0), "threshold_backward", (alpha,)),
    }[name]
    named = {"approximate": "tanh"} if name == "gelu_tanh" else {}
    function = getattr(torch._C._nn, forward, None) or getattr(torch, forward)
    derivative = getattr(aten, backward)
    (into,) = {"grad_input", "out"} & set(derivative.overloads()) or (None,)

    def slope(dy, saved, out):
        given = (dy, *more, saved) if backward == "elu_backward" else (dy, saved, *more)
        if out is None or not into:
            return derivative.default(*given, **named)
        return getattr(derivative, into)(*given, **{into: out}, **named)

    return (lambda z, out: function(z, *settings, **named, out=out)), slope


def _composed(name):
    import torch

    if name == "identity":
        return (lambda z, out: torch.mul(z, 1, out=out)), lambda dy, saved, out: torch.mul(
            dy, 1, out=out
        )

    def softsign(z, out):
        return torch.div(z, torch.abs(z).add_(1), out=out)

    def slope(dy, y, out):
        return torch.mul(torch.abs(y).neg_().add_(1).square_(), dy, out=out)

    return softsign, slope
