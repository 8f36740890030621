"""The dense network and its whole training step: forward, loss, backward, update.

Layer l computes x_{l+1} = act_l(x_l W_l + b_l); the last one is linear, its outputs are logits. A
step takes the gradient of the mean loss over the rows it is given and applies the update rule to
every parameter. Sources: Goodfellow, Bengio and Courville, Deep Learning, MIT Press 2016, sections
6.4 and 8.3; decoupled weight decay: Loshchilov and Hutter, ICLR 2019.
"""

import itertools

import numpy as np

from . import optimizers
from .activations import (
    DEFAULT_ALPHA,
    SAVES_INPUT,
    SELU_ALPHA,
    SELU_LAMBDA,
    activation_backward,
    activation_forward,
    dalpha_bound,
    derivative_bound,
    forward_bound,
)
from .dense import dense_backward, dense_forward
from .losses import OPERATIONS as LOSS_OPERATIONS
from .losses import softmax, softmax_cross_entropy
from .spec import ELEMENTARY, smallest_normal, summation, unit_roundoff

# rule -> the names of its state arrays. Settings not given are the rule's own defaults.
STATES = {
    "sgd": (),
    "momentum": ("velocity",),
    "nesterov": ("velocity",),
    "adagrad": ("accumulator",),
    "rmsprop": ("mean_square",),
    "adam": ("mean", "variance"),
}
PRELU_SLOPE = 0.25  # at the start: He et al., Delving Deep into Rectifiers, ICCV 2015


def sigmoid_cross_entropy(logits, labels, *, label_smoothing=0.0):
    """Mean loss L = 1/N sum_ij max(0, x) - t x + log(1 + exp(-|x|)) and dL/dx = (s(x) - t) / N.

    s is the logistic function, t = (1 - smoothing) label + smoothing / 2 and N = batch * outputs.
    logits, labels: (batch, outputs), labels from 0 to 1. Returns (loss, dlogits).
    """
    target = (1 - label_smoothing) * labels + label_smoothing / 2
    each = np.maximum(logits, 0) - target * logits + np.log1p(np.exp(-np.abs(logits)))
    return each.mean(), (activation_forward(logits, "sigmoid") - target) / logits.size


def mean_squared_error(logits, labels, *, label_smoothing=0.0):
    """Mean loss L = 1/N sum_ij (x - t)^2 and dL/dx = 2 (x - t) / N with N = batch * outputs.

    logits, labels: (batch, outputs). Returns (loss, dlogits). There is nothing to smooth.
    """
    difference = logits - labels
    return (difference**2).mean(), 2 * difference / logits.size


LOSSES = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "sigmoid_cross_entropy": sigmoid_cross_entropy,
    "mean_squared_error": mean_squared_error,
}


def initial(sizes, activations, dtype, seed):
    """The parameters at the start: {"layer0.weight": ..., "layer0.bias": ..., ...}.

    Weights are normal with variance 2 / fan_in before relu, leaky_relu, prelu and elu (He et al.
    2015), 1 / fan_in before selu (Klambauer et al. 2017) and 2 / (fan_in + fan_out) otherwise
    (Glorot and Bengio 2010): numpy.random.default_rng(seed), layer by layer, drawn in float64.
    Biases are 0, the learned slopes of prelu 0.25.
    """
    rng, parameters = np.random.default_rng(seed), {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        match activations[layer]:
            case "relu" | "leaky_relu" | "prelu" | "elu":
                variance = 2 / fan_in
            case "selu":
                variance = 1 / fan_in
            case _:
                variance = 2 / (fan_in + fan_out)
        weight = rng.standard_normal((fan_in, fan_out)) * variance**0.5
        parameters[f"layer{layer}.weight"] = weight.astype(dtype)
        parameters[f"layer{layer}.bias"] = np.zeros(fan_out, dtype)
        if activations[layer] == "prelu":
            parameters[f"layer{layer}.slope"] = np.full(fan_out, PRELU_SLOPE, dtype)
    return parameters


def create(
    sizes,
    *,
    activations="relu",
    loss="softmax_cross_entropy",
    optimizer="adam",
    batch,
    lr,
    dtype="float32",
    seed=0,
    label_smoothing=0.0,
    weight_decay=0.0,
    **settings,
):
    """A dense network with its optimizer; `step` trains it.

    sizes            units of the input, of each hidden layer and of the output
    activations      of the hidden layers: one name for all or one a layer (any but rectifier; the
                     slopes of prelu are learned)
    loss             softmax_cross_entropy: labels (rows,) of int32 or int64; sigmoid_cross_entropy
                     (from 0 to 1) or mean_squared_error: labels (rows, outputs) of `dtype`
    optimizer        sgd, momentum, nesterov, adagrad, rmsprop or adam; `settings` are the rule's
                     own by name (beta, rho, beta1, beta2, eps). nesterov keeps the lookahead point
                     as its parameters and evaluates the network there.
    batch            the most rows of one step
    lr               learning rate
    seed             of the first parameters, see `initial`
    label_smoothing  mixes the labels with the uniform distribution, [0, 1)
    weight_decay     wd in p -= lr wd p, beside the rule's own change, for every parameter

    The network has the attributes sizes, batch and parameters, a mapping from "layer0.weight",
    "layer0.bias" (and "layer0.slope" of prelu), ... to arrays that change with every step.
    Raises ValueError or TypeError naming the argument.
    """
    hidden = len(sizes) - 2
    names = (activations,) * hidden if isinstance(activations, str) else tuple(activations)
    names = (*names, "identity")
    settings = {"lr": lr, **settings}
    arguments = (loss, optimizer, batch, dtype, seed, label_smoothing, weight_decay, settings)
    return Network(tuple(sizes), names, *arguments)


class Network:
    """What `create` returns."""

    def __init__(
        self,
        sizes,
        activations,
        loss,
        optimizer,
        batch,
        dtype,
        seed,
        label_smoothing,
        weight_decay,
        settings,
    ):
        self.sizes, self.activations, self.batch = sizes, activations, batch
        self.loss, self.label_smoothing = loss, label_smoothing
        self.optimizer, self.settings, self.weight_decay = optimizer, settings, weight_decay
        self.parameters = initial(sizes, activations, dtype, seed)
        self.states = {
            f"{name}.{state}": np.zeros_like(array)
            for name, array in self.parameters.items()
            for state in STATES[optimizer]
        }
        self.steps = 0
        self._gradients = {name: np.zeros_like(a) for name, a in self.parameters.items()}

    def _layer(self, layer):
        parts = (self.parameters.get(f"layer{layer}.{part}") for part in ("weight", "bias"))
        name = self.activations[layer]
        alpha = self.parameters.get(f"layer{layer}.slope", DEFAULT_ALPHA.get(name))
        return *parts, name, alpha

    def _forward(self, x):
        """The inputs of every layer, its pre-activations, and the logits."""
        inputs, sums = [], []
        for layer in range(len(self.activations)):
            weight, bias, name, alpha = self._layer(layer)
            inputs.append(x)
            sums.append(dense_forward(x, weight, bias))
            x = activation_forward(sums[-1], name, alpha)
        return inputs, sums, x

    def _loss(self, logits, labels):
        return LOSSES[self.loss](logits, labels, label_smoothing=self.label_smoothing)

    def loss_and_gradients(self, x, labels):
        """The mean loss of these rows, and its gradients by the names of the parameters."""
        inputs, sums, logits = self._forward(x)
        loss, dy = self._loss(logits, labels)
        gradients = {}
        for layer in reversed(range(len(self.activations))):
            weight, _, name, alpha = self._layer(layer)
            after = inputs[layer + 1] if layer + 1 < len(inputs) else logits
            saved = sums[layer] if name in SAVES_INPUT else after
            dy, *of_layer = dense_backward(dy, inputs[layer], weight, saved, name, alpha)
            for part, gradient in zip(("weight", "bias", "slope"), of_layer, strict=False):
                gradients[f"layer{layer}.{part}"] = gradient
        return float(loss), gradients

    def step(self, x, labels):
        """One training step on x (rows, sizes[0]), rows <= batch; returns the loss before it."""
        loss, self._gradients = self.loss_and_gradients(x, labels)
        self.steps += 1
        rule, count = getattr(optimizers, self.optimizer), {}
        if self.optimizer == "adam":
            count["step"] = self.steps
        for name, param in self.parameters.items():
            states = [self.states[f"{name}.{state}"] for state in STATES[self.optimizer]]
            param -= self.settings["lr"] * self.weight_decay * param
            rule(param, self._gradients[name], *states, **count, **self.settings)
        return loss

    def epoch(self, x, labels, order):
        """A step on every `batch` rows in this order; returns the mean loss of the rows.

        order: (n,) int32 or int64 row numbers of x, usually a permutation; the last step may have
        fewer rows.
        """
        total = 0.0
        for first in range(0, len(order), self.batch):
            rows = order[first : first + self.batch]
            total += self.step(x[rows], labels[rows]) * len(rows)
        return total / len(order)

    def predict(self, x):
        """The logits (rows, sizes[-1]) of any number of rows."""
        return self._forward(x)[2]

    def evaluate(self, x, labels):
        """(mean loss, accuracy) of any number of rows.

        The accuracy is the share of right decisions: the largest logit against the label, or every
        logit's sign against label > 1/2; None for mean_squared_error.
        """
        logits = self.predict(x)
        loss = float(self._loss(logits, labels)[0])
        if self.loss == "mean_squared_error":
            return loss, None
        if self.loss == "softmax_cross_entropy":
            return loss, float((logits.argmax(axis=1) == labels).mean())
        return loss, float(((logits > 0) == (labels > 0.5)).mean())

    @property
    def gradients(self):
        """(layers, 2): the Euclidean norms of the last step's weight and bias gradients."""
        layers = range(len(self.activations))
        parts = ("weight", "bias")
        norms = [[np.linalg.norm(self._gradients[f"layer{n}.{p}"]) for p in parts] for n in layers]
        return np.array(norms)

    def state(self):
        """A copy of all that a step changes: {"steps": ..., "layer0.weight": ..., ...}.

        The arrays of the optimizer stand beside their parameters: "layer0.weight.mean", ...
        numpy.savez(path, **network.state()) keeps it; every backend can load it.
        """
        arrays = {name: array.copy() for name, array in {**self.parameters, **self.states}.items()}
        return {"steps": np.array(self.steps), **arrays}

    def load_state(self, source):
        """Goes on from a state: the mapping, or the path of the npz file that holds it."""
        source = source if isinstance(source, dict) else dict(np.load(source))
        self.steps = int(source["steps"])
        for name, array in {**self.parameters, **self.states}.items():
            array[...] = source[name]


# --- specification ------------------------------------------------------------


def flops(network, rows):
    """Fewest operations of one step: three products a layer, the first needs no dx; the update."""
    weights = [fan_in * fan_out for fan_in, fan_out in itertools.pairwise(network.sizes)]
    rule = next(o for o in optimizers.OPERATIONS if o.name == network.optimizer)
    parameters = sum(array.size for array in network.parameters.values())
    return 2 * rows * (3 * sum(weights) - weights[0]) + rule.flops(0, parameters - 1, 1)


def elements(network, rows):
    """Fewest array elements moved: parameters and state read and written once, the rows read."""
    parameters = sum(array.size for array in network.parameters.values())
    outputs = 1 if network.loss == "softmax_cross_entropy" else network.sizes[-1]
    per_parameter = 2 * (1 + len(STATES[network.optimizer]))
    return per_parameter * parameters + rows * (network.sizes[0] + outputs)


# The largest |act'|, the largest |act''| beside the kink at 0, and the jump of act' at the kink.
SHAPES = {
    "identity": (1.0, 0.0, 0.0),
    "relu": (1.0, 0.0, 1.0),
    "leaky_relu": (1.0, 0.0, 1.0 - DEFAULT_ALPHA["leaky_relu"]),
    "elu": (1.0, 1.0, 0.0),
    "selu": (SELU_LAMBDA * SELU_ALPHA, SELU_LAMBDA * SELU_ALPHA, SELU_LAMBDA * (SELU_ALPHA - 1)),
    "sigmoid": (0.25, 0.0963, 0.0),
    "tanh": (1.0, 0.7699, 0.0),
}


def _shape(name, alpha):
    if name != "prelu":
        return SHAPES[name]
    return max(1.0, np.abs(alpha).max()), 0.0, np.abs(1 - alpha)


def step_bound(network, x, labels, dtype):
    """Error bounds of one step in `dtype` from this very state: (of the loss, {name: of array}).

    network: in float64, before the step; the arrays are the parameters and the optimizer's state.
    The running error of each intermediate result is carried, to first order in u, through the
    products (Higham, ch. 3), the activations (by their largest slope and curvature; what is within
    its error of a kink may fall on either side), the loss and the update rule.
    """
    u, tiny = unit_roundoff(dtype), smallest_normal(dtype)

    def product(a, a_error, b, b_error):
        """Error of a @ b from those of a and b."""
        a, b, terms = np.abs(a), np.abs(b), a.shape[1]
        rounding = (summation(terms) + 1) * u * (a + a_error) @ (b + b_error) + terms * tiny
        return a_error @ b + (a + a_error) @ b_error + rounding

    inputs, sums, logits = network._forward(x)
    x_errors, z_errors, error = [], [], np.zeros_like(x)
    for layer, z in enumerate(sums):
        weight, bias, name, alpha = network._layer(layer)
        x_errors.append(error)
        z_error = product(inputs[layer], error, weight, np.zeros_like(weight))
        z_errors.append(z_error + u * (np.abs(bias) + np.abs(z)))
        y = activation_forward(z, name, alpha)
        error = _shape(name, alpha)[0] * z_errors[-1] + forward_bound(y, name, dtype)
    loss_error, error = _loss_bound(network, logits, error, labels, dtype)
    _, dy = network._loss(logits, labels)

    errors, gradients = {}, {}
    for layer in reversed(range(len(sums))):
        weight, bias, name, alpha = network._layer(layer)
        z, z_error, x, x_error = sums[layer], z_errors[layer], inputs[layer], x_errors[layer]
        after = inputs[layer + 1] if layer + 1 < len(inputs) else logits
        saved = z if name in SAVES_INPUT else after
        largest, curvature, jump = _shape(name, alpha)
        dz = activation_backward(dy, saved, name, alpha)
        dz, dalpha = dz if name == "prelu" else (dz, None)
        slack = curvature * z_error + jump * (np.abs(z) <= z_error)
        dz_error = largest * error + (np.abs(dy) + error) * slack
        dz_error = dz_error + derivative_bound(dy, saved, name, alpha, dtype)
        if name == "prelu":
            key, negative = f"layer{layer}.slope", np.abs(np.minimum(z, 0))
            each = error * (negative + z_error) + np.abs(dy) * z_error
            gradients[key] = dalpha
            errors[key] = each.sum(axis=0) + dalpha_bound(dy, z, dtype)
        key = f"layer{layer}.weight"
        gradients[key], errors[key] = x.T @ dz, product(x.T, x_error.T, dz, dz_error)
        key, ones = f"layer{layer}.bias", np.ones((1, len(x)))
        gradients[key] = dz.sum(axis=0)
        errors[key] = product(ones, np.zeros_like(ones), dz, dz_error)[0]
        error = product(dz, dz_error, weight.T, np.zeros_like(weight.T))
        dy = dz @ weight.T

    bounds = {}
    for name, gradient in gradients.items():
        param = network.parameters[name]
        bounds.update(_update_bound(network, name, param, gradient, errors[name], dtype))
    return loss_error, bounds


def _loss_bound(network, logits, error, labels, dtype):
    """Error bounds of the loss and of dlogits, given that of the logits."""
    u, tiny, n = unit_roundoff(dtype), smallest_normal(dtype), logits.size
    smoothing = network.label_smoothing
    if network.loss == "softmax_cross_entropy":
        operation = next(o for o in LOSS_OPERATIONS if o.name == network.loss)
        inputs = {"logits": logits, "labels": labels, "label_smoothing": smoothing}
        loss_error, rounding = operation.error_bound(inputs, dtype)
        worst = error.max(axis=1, keepdims=True)  # p_j changes by at most 2 p_j max_k |dx_k|
        moved = softmax(logits) * np.expm1(2 * worst) / len(logits)
        return loss_error + 2 * worst.mean(), rounding + moved
    each_size = summation(n) + 2
    if network.loss == "mean_squared_error":
        difference = np.abs(logits - labels)
        off = error + u * difference
        loss_error = ((2 * difference + off) * off).mean() + each_size * u * (difference**2).mean()
        return loss_error + tiny, 2 * (off + 3 * u * difference) / n + tiny
    target = (1 - smoothing) * labels + smoothing / 2
    terms = (2 + ELEMENTARY) * (np.abs(logits) + 1)
    loss_error = (error + (each_size + 3) * u * terms).mean() + tiny
    p = activation_forward(logits, "sigmoid")
    return loss_error, ((ELEMENTARY + 6) * u * (p + np.abs(target)) + error / 4) / n + tiny


def _update_bound(network, name, param, gradient, error, dtype):
    """Error bounds of a parameter and its state after the rule, given that of the gradient.

    An error of the gradient acts like one that the state carries along from an earlier step.
    """
    u, rule, lr = unit_roundoff(dtype), network.optimizer, network.settings["lr"]
    operation = next(o for o in optimizers.OPERATIONS if o.name == rule)
    settings = dict(network.settings)
    if rule == "adam":
        settings["step"] = network.steps + 1
    states = {s: network.states[f"{name}.{s}"] for s in STATES[rule]}
    kept = param - lr * network.weight_decay * param
    inputs = {"param": kept, "grad": gradient, **states, **settings}
    of_param = 3 * u * np.abs(param) if network.weight_decay else 0.0
    square = (2 * np.abs(gradient) + error) * error
    match rule:
        case "sgd":
            carried = (of_param + lr * error,)
        case "momentum":
            carried = of_param, lr * error / settings.get("beta", 0.9)
        case "nesterov":
            carried = of_param + lr * error, lr * error / settings.get("beta", 0.9)
        case "adam":
            beta1, beta2 = settings.get("beta1", 0.9), settings.get("beta2", 0.999)
            carried = of_param, (1 - beta1) * error / beta1, (1 - beta2) * square / beta2
        case "adagrad" | "rmsprop":
            # p also feels the gradient's error in the numerator, over the least denominator.
            rho = settings.get("rho", 0.9)
            share = (1 - rho) if rule == "rmsprop" else 1.0
            kept_share = rho if rule == "rmsprop" else 1.0
            (state,) = states.values()
            least = kept_share * state + share * np.maximum(np.abs(gradient) - error, 0) ** 2
            numerator = lr * error / (np.sqrt(least) + settings.get("eps", 1e-8))
            carried = of_param + numerator, share * square / kept_share
    after = operation.error_bound(inputs, dtype, carried)
    names = (name, *(f"{name}.{state}" for state in states))
    return dict(zip(names, after, strict=True))
