"""The operations as JAX does them: functions of jax.nn, jax.random and optax, else compositions.

Activations are differentiated by JAX, from z, but for the four whose derivative it takes from y
here, as we do: that was faster.
"""

import math

from kernels import catalog

from .given import alpha_of, mask_of, pre_activation, settings_of

# An activation -> its name in jax.nn.
_ACTIVATIONS = {
    "relu": "relu",
    "leaky_relu": "leaky_relu",
    "elu": "elu",
    "selu": "selu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "silu": "silu",
    "gelu": "gelu",
    "gelu_tanh": "gelu",
    "softplus": "softplus",
    "softsign": "soft_sign",
    "mish": "mish",
    "celu": "celu",
    "hard_sigmoid": "hard_sigmoid",
    "hard_swish": "hard_swish",
}
_SETTINGS = {
    "leaky_relu": "negative_slope",
    "elu": "alpha",
    "celu": "alpha",
}
_FROM_OUTPUT = ("relu", "elu", "sigmoid", "tanh")


def kept(operation, inputs):
    """The inputs, but for z of an activation where the derivative is taken from it, and with the
    mask of dropout, which is kept from the forward pass.
    """
    if operation.name == "dropout_backward":
        return {**inputs, "mask": mask_of(inputs)}
    backward = operation.name == "activation_backward"
    if backward and operation.variant not in _FROM_OUTPUT:
        return {**inputs, "saved": pre_activation(inputs)}
    return inputs


def formula(operation, inputs):
    """The operation on arrays in the order of its inputs, what is updated first; returns a tuple.

    Raises NotImplementedError where JAX has nothing of the kind.
    """
    import jax

    jnp = jax.numpy
    act, slope = activation(inputs) if "activation" in inputs else (None, None)
    eps = inputs.get("eps", 1e-5)  # of normalisation
    lr = settings_of(operation, inputs)["lr"] if operation.name in catalog.RULES else None

    def activation_forward(z, *alpha):
        return (act(z, *alpha),)

    def activation_backward(dy, saved, *alpha):
        return slope(dy, saved, *alpha)

    def dense_forward(x, weight, bias):
        return (act(x @ weight + bias),)

    def dense_backward(dy, x, weight, saved):
        (dz,) = slope(dy, saved)
        return dz @ weight.T, x.T @ dz, dz.sum(axis=0)

    def maxout_forward(x, weight, bias):
        z = jnp.tensordot(x, weight, 1) + bias
        return z.max(axis=1), z

    def maxout_backward(dy, x, weight, z):
        winner = jnp.arange(z.shape[1])[:, None] == z.argmax(axis=1)[:, None]
        dz = jnp.where(winner, dy[:, None], 0)
        dx = jnp.tensordot(dz, weight, ((1, 2), (1, 2)))
        return dx, jnp.tensordot(x.T, dz, 1), dz.sum(axis=0)

    def softmax(logits):
        return (jax.nn.softmax(logits, inputs.get("axis", -1)),)

    def log_softmax(logits):
        return (jax.nn.log_softmax(logits, inputs.get("axis", -1)),)

    def added(y, skip):
        return y if skip is None else y + skip

    def normalized(x, gamma, beta, skip, axis):
        mean = x.mean(axis=axis, keepdims=True)
        variance = jnp.square(x - mean).mean(axis=axis, keepdims=True)
        rstd = jax.lax.rsqrt(variance + eps)
        y = added((x - mean) * rstd * gamma + beta, skip)
        return y, mean.ravel(), rstd.ravel(), variance.ravel()

    def batch_norm_forward(running_mean, running_variance, x, gamma, beta, skip=None):
        y, mean, rstd, variance = normalized(x, gamma, beta, skip, 0)
        share, unbiased = inputs.get("momentum", 0.1), len(x) / max(1, len(x) - 1)
        running_mean = running_mean + share * (mean - running_mean)
        running_variance = running_variance + share * (unbiased * variance - running_variance)
        return running_mean, running_variance, y, mean, rstd

    def batch_norm_inference(x, gamma, beta, running_mean, running_variance, skip=None):
        y = (x - running_mean) * jax.lax.rsqrt(running_variance + eps) * gamma + beta
        return (added(y, skip),)

    def batch_norm_backward(dy, x, gamma, mean, rstd):
        h = (x - mean) * rstd
        dgamma, dbeta = (dy * h).sum(axis=0), dy.sum(axis=0)
        return gamma * rstd * (dy - (dbeta + h * dgamma) / len(x)), dgamma, dbeta

    def layer_norm_forward(x, gamma, beta, skip=None):
        return normalized(x, gamma, beta, skip, 1)[:3]

    def layer_norm_backward(dy, x, gamma, mean, rstd):
        h, g = (x - mean[:, None]) * rstd[:, None], gamma * dy
        along = (g * h).mean(axis=1, keepdims=True)
        dx = rstd[:, None] * (g - g.mean(axis=1, keepdims=True) - h * along)
        return dx, (dy * h).sum(axis=0), dy.sum(axis=0)

    def dropout_forward(x, key):
        mask = jax.random.bernoulli(key, 1 - inputs["rate"], x.shape)
        return dropout_backward(x, mask)

    def dropout_backward(dy, mask):
        return (jnp.where(mask, dy / (1 - inputs["rate"]), 0),)

    def of_targets(logits, targets, class_weights):
        """Of soft targets, or of labels with weights and one that is ignored."""
        weights = jnp.ones(logits.shape[1]) if class_weights is None else class_weights
        divisor, smoothing = len(logits), inputs["label_smoothing"]
        if targets.ndim == 1:
            kept = targets != inputs.get("ignore_index")
            divisor = (kept * weights[targets]).sum()
            targets = kept[:, None] * jax.nn.one_hot(targets, logits.shape[1])
        targets = (1 - smoothing) * targets + smoothing / logits.shape[1]
        return -(weights * targets * jax.nn.log_softmax(logits)).sum() / divisor

    def softmax_cross_entropy(logits, labels, class_weights=None):
        if class_weights is not None or labels.ndim == 2:
            return jax.value_and_grad(of_targets)(logits, labels, class_weights)

        def loss(logits):
            log_p = jax.nn.log_softmax(logits)
            chosen = -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean()
            smoothing = inputs["label_smoothing"]
            return (1 - smoothing) * chosen - smoothing * log_p.mean() if smoothing else chosen

        return jax.value_and_grad(loss)(logits)

    def sparse_categorical_cross_entropy(probabilities, labels):
        chosen = jnp.take_along_axis(probabilities, labels[:, None], axis=1)
        return (-jnp.log(chosen).mean(),)

    def nll(log_probabilities, labels, class_weights=None):
        def loss(y):
            ignored = inputs.get("ignore_index")
            kept = 1.0 if ignored is None else labels != ignored
            weights = kept * (jnp.ones(len(y)) if class_weights is None else class_weights[labels])
            chosen = jnp.take_along_axis(y, labels[:, None], axis=1)[:, 0]
            return -(weights * chosen).sum() / weights.sum()

        return jax.value_and_grad(loss)(log_probabilities)

    def loss_of_elements(first, target, *others):
        each = _loss(operation.name)

        def loss(first, *others):
            return each(first, target, *others).mean()

        found, gradients = jax.value_and_grad(loss, tuple(range(1 + len(others))))(first, *others)
        return found, *gradients

    def initialize(weight, key):
        fan_in, fan_out = shape = weight.shape
        initializer, value = catalog.INITIALIZERS[inputs["initializer"]], inputs["value"]
        scale = initializer.scale and initializer.scale(fan_in, fan_out)
        match initializer.distribution:
            case catalog.CONSTANT:
                return (jnp.full_like(weight, value or 0.0),)
            case catalog.NORMAL:
                return (scale * jax.random.normal(key, shape, weight.dtype),)
            case catalog.UNIFORM:
                return (jax.random.uniform(key, shape, weight.dtype, -scale, scale),)
            case catalog.ORTHOGONAL:
                gain = 1.0 if value is None else value
                return (jax.nn.initializers.orthogonal(gain)(key, shape, weight.dtype),)
        raise NotImplementedError(f"no formula of JAX for {operation}")

    def sparsity(x):
        zeros = x.size - jnp.count_nonzero(x)
        return (jnp.stack([zeros, (jnp.abs(x) <= inputs["threshold"]).sum()]),)

    def connection_sparsity(weight):
        return ((jnp.abs(weight) <= inputs["threshold"]).sum(axis=0),)

    def saturation(y):
        low, high = inputs["margin"], 1 - inputs["margin"]
        near = jnp.abs(y) > high if inputs["activation"] == "tanh" else (y < low) | (y > high)
        return (near.sum(axis=0),)

    def histogram(x):
        ends = inputs["low"], inputs["high"]
        return (jnp.histogram(x, inputs["bins"], ends)[0],)

    def global_norm(arrays):
        import optax

        return (optax.global_norm(arrays),)

    def add_l2(grads, params):
        return (tuple(g + inputs["l2"] * p for g, p in zip(grads, params, strict=True)),)

    def clip_by_value(grads):
        return (tuple(jnp.clip(g, -inputs["limit"], inputs["limit"]) for g in grads),)

    def clip_by_global_norm(grads):
        import optax

        norm = optax.global_norm(grads)
        factor = jnp.minimum(1, inputs["max_norm"] / norm)
        return tuple(factor * g for g in grads), norm

    def affine_transform(images, matrices):
        def one(image, matrix):
            row, column = jnp.indices(image.shape, image.dtype)
            points = [a * row + b * column + c for a, b, c in matrix]
            return jax.scipy.ndimage.map_coordinates(image, points, 1, "constant")

        return (jax.vmap(one)(images, matrices),)

    def inner_product(a, b):
        return (jnp.dot(a, b),)

    def add_scaled(x, direction):
        return (x + inputs["step_length"] * direction,)

    def newton_direction(grad, hessian):
        factor = jax.scipy.linalg.cho_factor(hessian, lower=True)
        return (-jax.scipy.linalg.cho_solve(factor, grad),)

    def sgd(param, grad):
        return (param - lr * grad,)

    def momentum(param, velocity, grad):
        velocity = 0.9 * velocity + lr * grad
        return param - velocity, velocity

    def adam(param, mean, variance, step, grad):
        mean = 0.9 * mean + (1 - 0.9) * grad
        variance = 0.999 * variance + (1 - 0.999) * grad * grad
        # 1 - beta^t in float32 loses five digits at small t, expm1 none.
        first, second = -jnp.expm1(step * math.log(0.9)), -jnp.expm1(step * math.log(0.999))
        change = lr * (mean / first) / (jnp.sqrt(variance / second) + 1e-8)
        return param - change, mean, variance, step + 1

    if operation.name in catalog.ELEMENT_LOSSES:
        return loss_of_elements
    if operation.name not in locals():
        raise NotImplementedError(f"no formula of JAX for {operation}")
    return locals()[operation.name]


def activation(inputs):
    """(act(z, alpha), the derivatives dy act' from what is kept) of the activation."""
    import jax

    jnp, name, alpha = jax.numpy, inputs["activation"], alpha_of(inputs)
    if name in ("prelu", "rectifier"):

        def act(z, alpha):
            return jnp.where(z > 0, z, alpha * z)
    elif name == "thresholded_relu":

        def act(z):
            return jnp.where(z > alpha, z, 0)
    elif name == "identity":

        def act(z):
            return z.copy()
    else:
        function = getattr(jax.nn, _ACTIVATIONS[name], None) or getattr(jnp, name)
        given = {_SETTINGS[name]: alpha} if name in _SETTINGS else {}
        if name in ("gelu", "gelu_tanh"):
            given = {"approximate": name == "gelu_tanh"}

        def act(z):
            return function(z, **given)

    def slope(dy, z, *alpha):
        dz, *dalpha = jax.vjp(act, z, *alpha)[1](dy)
        return (dz, *dalpha) if name == "prelu" else (dz,)

    from_output = {
        "relu": lambda dy, y: (jnp.where(y > 0, dy, 0),),
        "elu": lambda dy, y: (jnp.where(y > 0, dy, (y + alpha) * dy),),
        "sigmoid": lambda dy, y: (y * (1 - y) * dy,),
        "tanh": lambda dy, y: ((1 - y) * (1 + y) * dy,),
    }
    return act, from_output.get(name, slope)


def _loss(name):
    """A loss of elements, with the settings' defaults."""
    import jax.numpy as jnp
    import optax

    def binary_cross_entropy(p, t):
        log_p, log_rest = jnp.maximum(jnp.log(p), -100), jnp.maximum(jnp.log1p(-p), -100)
        return -(t * log_p + (1 - t) * log_rest)

    def gaussian_nll(mean, t, variance):
        s = jnp.maximum(variance, 1e-6)
        return (jnp.log(s) + (mean - t) ** 2 / s) / 2

    return {
        "mean_squared_error": optax.squared_error,
        "mean_absolute_error": lambda x, t: jnp.abs(x - t),
        "huber": optax.huber_loss,
        "binary_cross_entropy_with_logits": optax.sigmoid_binary_cross_entropy,
        "binary_cross_entropy": binary_cross_entropy,
        "poisson_nll": lambda x, t: jnp.exp(x) - t * x,
        "gaussian_nll": gaussian_nll,
    }[name]
