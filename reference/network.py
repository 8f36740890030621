"""The dense network and its whole training step: forward, loss, backward, update.

Layer l computes x_{l+1} = act_l(x_l W_l + b_l), or what blocks.py adds to it; the last one is
linear, its outputs are logits. A step takes the gradient of the mean loss over the rows it is
given, adds that of an L2 penalty, clips what has come of it, and applies decay and the update rule,
at its scheduled rate, to every parameter. Sources: Goodfellow, Bengio and Courville, Deep Learning,
MIT Press 2016, sections 6.4, 7.1, 8.3 and 10.11.1; decoupled weight decay: Loshchilov and Hutter,
ICLR 2019; clipping by the norm: Pascanu, Mikolov and Bengio, ICML 2013.
"""

import itertools

import numpy as np

from . import blocks, maxout, optimizer_spec, optimizers
from .activations import ACTIVATIONS, activation_forward
from .cross_entropy import softmax_cross_entropy
from .gradients import add_l2, clip_by_global_norm, clip_by_value

# rule -> the names of its state arrays. Settings not given are the rule's own defaults.
STATES = {rule.name: rule.in_place[1:] for rule in optimizer_spec.OPERATIONS}
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


def initial(sizes, activations, dtype, seed, normalized=False, pieces=2):
    """The parameters at the start: {"layer0.weight": ..., "layer0.bias": ..., ...}.

    Weights are normal with variance gain / fan_in where the activation behind them declares a gain
    and 2 / (fan_in + fan_out) otherwise (Glorot and Bengio 2010); maxout's: maxout.weight_gain.
    numpy.random.default_rng(seed), layer by layer, drawn in float64.
    Biases are 0, the learned slopes of prelu 0.25; of normalised layers gamma is 1, beta 0. Those
    of a maxout layer are (fan_in, pieces, fan_out) and (pieces, fan_out).
    """
    rng, parameters = np.random.default_rng(seed), {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        if activations[layer] == "maxout":
            gain, outputs = maxout.weight_gain(pieces), (pieces, fan_out)
        else:
            gain, outputs = ACTIVATIONS[activations[layer]].weight_gain, (fan_out,)
        variance = gain / fan_in if gain else 2 / (fan_in + fan_out)
        weight = rng.standard_normal((fan_in, *outputs)) * variance**0.5
        parameters[f"layer{layer}.weight"] = weight.astype(dtype)
        if normalized and layer < len(activations) - 1:
            parameters[f"layer{layer}.gamma"] = np.ones(outputs, dtype)
            parameters[f"layer{layer}.beta"] = np.zeros(outputs, dtype)
        else:
            parameters[f"layer{layer}.bias"] = np.zeros(outputs, dtype)
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
    precision=None,
    seed=0,
    label_smoothing=0.0,
    weight_decay=None,
    l2=0.0,
    clip_value=None,
    clip_norm=None,
    schedule=None,
    normalization=None,
    dropout=0.0,
    residual=False,
    pieces=2,
    **settings,
):
    """A dense network with its optimizer; `step` trains it.

    sizes            units of the input, of each hidden layer and of the output
    activations      of the hidden layers: one name for all or one a layer (any but rectifier; the
                     slopes of prelu are learned), or "maxout": see `pieces`
    loss             softmax_cross_entropy: labels (rows,) of int32 or int64; sigmoid_cross_entropy
                     (from 0 to 1) or mean_squared_error: labels (rows, outputs) of `dtype`
    optimizer        the name of an update rule; `settings` are the rule's own by name (beta, rho,
                     beta1, beta2, eps). nesterov keeps the lookahead point as its parameters and
                     evaluates the network there.
    batch            the most rows of one step
    lr               learning rate
    precision        None, or "tf32": of every layer's products, see dense.py; float32's alone
    seed             of the first parameters, see `initial`
    label_smoothing  mixes the labels with the uniform distribution, [0, 1)
    weight_decay     wd in p -= lr wd p, beside the rule's own change, for every parameter; unless
                     given 0, or what the rule decays by (adamw)
    l2               of every parameter's gradient g += l2 p, as for a penalty l2/2 |p|^2
    clip_value       limits every element of the gradient to -clip_value ... clip_value
    clip_norm        then scales all gradients where their common Euclidean norm exceeds it: to it
    schedule         schedule(t) >= 0 times lr is the rate of step t, which counts from 1: a
                     function, such as those of kernels/schedules.py
    normalization    of what goes into the hidden layers' activations: None, "batch_norm" or
                     "layer_norm", with the default settings of these functions; `predict` and
                     `evaluate` take batch norm's running statistics
    dropout          the share of a hidden layer's outputs that a step drops, [0, 1): in step t of
                     layer l those which dropout_forward(..., seed=seed, step=t, layer=l) drops
    residual         whether the input of a hidden layer that is as wide as its output is added to
                     that; there has to be one
    pieces           of each unit of a maxout layer, 2 at least: weight, bias (gamma, beta, running
                     statistics) are (fan_in, pieces, units) and (pieces, units), as in
                     maxout_forward; a normalisation is that of the pieces, each by itself

    The network has the attributes sizes, batch and parameters, a mapping from "layer0.weight",
    "layer0.bias" (of a normalised layer "layer0.gamma" and "layer0.beta", of prelu "layer0.slope"
    besides), ... to arrays that change with every step.
    Raises ValueError or TypeError naming the argument.
    """
    hidden = len(sizes) - 2
    names = (activations,) * hidden if isinstance(activations, str) else tuple(activations)
    names = (*names, "identity")
    settings = {"lr": lr, **settings}
    own = optimizer_spec.parts(getattr(optimizers, optimizer))[1]
    if weight_decay is not None and "weight_decay" in own:
        settings["weight_decay"], weight_decay = weight_decay, 0.0
    weight_decay = weight_decay or 0.0
    given = (loss, optimizer, batch, dtype, precision, seed, label_smoothing, weight_decay)
    given = *given, l2, clip_value, clip_norm, schedule, normalization, dropout, residual, pieces
    return Network(tuple(sizes), names, *given, settings)


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
        precision,
        seed,
        label_smoothing,
        weight_decay,
        l2,
        clip_value,
        clip_norm,
        schedule,
        normalization,
        dropout,
        residual,
        pieces,
        settings,
    ):
        self.sizes, self.activations, self.batch = sizes, activations, batch
        self.loss, self.label_smoothing = loss, label_smoothing
        self.optimizer, self.settings, self.weight_decay = optimizer, settings, weight_decay
        self.l2, self.clip_value, self.clip_norm = l2, clip_value, clip_norm
        self.schedule, self.precision = schedule, precision
        self.normalization, self.dropout, self.residual = normalization, dropout, residual
        self.seed, self.pieces = seed, pieces
        normalized = normalization is not None
        self.parameters = initial(sizes, activations, dtype, seed, normalized, pieces)
        self.states = {
            f"{name}.{state}": np.zeros_like(array)
            for name, array in self.parameters.items()
            for state in STATES[optimizer]
        }
        self.running = {}  # statistics of batch norm
        if normalization == "batch_norm":
            for layer in range(len(sizes) - 2):
                gamma = self.parameters[f"layer{layer}.gamma"]
                self.running[f"layer{layer}.running_mean"] = np.zeros_like(gamma)
                self.running[f"layer{layer}.running_variance"] = np.ones_like(gamma)
        self.steps = 0
        self._gradients = {name: np.zeros_like(a) for name, a in self.parameters.items()}

    def _block(self, layer):
        """See blocks.py. The last layer has no more than a product."""
        prefix, hidden = f"layer{layer}.", layer < len(self.activations) - 1
        parts, running = (
            {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            for arrays in (self.parameters, self.running)
        )
        for arrays in (parts, running):
            for name, a in arrays.items():
                arrays[name] = a.reshape((len(a), -1) if name == "weight" else -1)
        mask = {"rate": self.dropout, "seed": self.seed, "step": self.steps + 1, "layer": layer}
        return blocks.Block(
            parts,
            self.activations[layer],
            self.normalization if hidden else None,
            tuple(running.values()),
            mask if hidden and self.dropout > 0 else None,
            hidden and self.residual and self.sizes[layer] == self.sizes[layer + 1],
            self.precision,
            self.pieces,
        )

    def _forward(self, x, training):
        """(block, tape) of every layer."""
        done = []
        for layer in range(len(self.activations)):
            block = self._block(layer)
            done.append((block, blocks.forward(block, x, training)))
            x = done[-1][1].y
        return done

    def _loss(self, logits, labels):
        return LOSSES[self.loss](logits, labels, label_smoothing=self.label_smoothing)

    def loss_and_gradients(self, x, labels):
        """The mean loss of these rows, and its gradients by the names of the parameters."""
        loss, _, gradients = self._passes(x, labels)
        return loss, gradients

    def _passes(self, x, labels):
        """Forward and backward: the loss, what the layers computed, and the gradients."""
        done = self._forward(x, training=True)
        loss, dy = self._loss(done[-1][1].y, labels)
        gradients = {}
        for layer, (block, tape) in reversed(list(enumerate(done))):
            dy, of_layer = blocks.backward(block, tape, dy)
            for part in block.parts:
                name = f"layer{layer}.{part}"
                gradients[name] = of_layer[part].reshape(self.parameters[name].shape)
        return float(loss), done, gradients

    def step(self, x, labels):
        """One training step on x (rows, sizes[0]), rows <= batch; returns the loss before it."""
        loss, done, gradients = self._passes(x, labels)
        for block, tape in done:
            for array, after in zip(block.running, tape.running, strict=True):
                array[...] = after
        self._gradients = self._clipped(gradients)
        settings = self._scheduled()
        self.steps += 1
        rule = getattr(optimizers, self.optimizer)
        count = {"step": self.steps} if optimizer_spec.counts(rule) else {}
        for name, param in self.parameters.items():
            states = [self.states[f"{name}.{state}"] for state in STATES[self.optimizer]]
            param -= settings["lr"] * self.weight_decay * param
            rule(param, self._gradients[name], *states, **count, **settings)
        return loss

    def _limited(self, gradients):
        """The gradients with L2's share, clipped by value."""
        given = {name: g.copy() for name, g in gradients.items()}
        add_l2(given.values(), [self.parameters[name] for name in given], self.l2)
        if self.clip_value is not None:
            clip_by_value(given.values(), self.clip_value)
        return given

    def _clipped(self, gradients):
        """What the rule is given: `_limited`, and clipped by the norm."""
        given = self._limited(gradients)
        if self.clip_norm is not None:
            clip_by_global_norm(given.values(), self.clip_norm)
        return given

    def _scheduled(self):
        """The rule's settings in the next step."""
        factor = 1.0 if self.schedule is None else self.schedule(self.steps + 1)
        return {**self.settings, "lr": self.settings["lr"] * factor}

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
        return self._forward(x, training=False)[-1][1].y

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
        """(layers, 2): the Euclidean norms of the last step's weight and bias gradients.

        As the rule was given them: with L2's share, and clipped. A normalised layer's beta counts
        as its bias.
        """
        parts = [("weight", "bias" if "bias" in self._block(n).parts else "beta")
                 for n in range(len(self.activations))]  # fmt: skip
        norms = [[np.linalg.norm(self._gradients[f"layer{n}.{part}"]) for part in both]
                 for n, both in enumerate(parts)]  # fmt: skip
        return np.array(norms)

    def state(self):
        """A copy of all that a step changes: {"steps": ..., "layer0.weight": ..., ...}.

        The arrays of the optimizer stand beside their parameters ("layer0.weight.mean", ...), batch
        norm's running statistics too ("layer0.running_mean", ...). Where there is dropout, its seed
        is there as well: with the steps it says which masks follow.
        numpy.savez(path, **network.state()) keeps it; every backend can load it.
        """
        seed = {"seed": np.array(self.seed, np.uint64)} if self.dropout > 0 else {}
        arrays = {name: array.copy() for name, array in self._arrays().items()}
        return {"steps": np.array(self.steps), **seed, **arrays}

    def _arrays(self):
        return {**self.parameters, **self.states, **self.running}

    def load_state(self, source):
        """Goes on from a state: the mapping, or the path of the npz file that holds it."""
        source = source if isinstance(source, dict) else dict(np.load(source))
        self.steps, self.seed = int(source["steps"]), int(source.get("seed", self.seed))
        for name, array in self._arrays().items():
            array[...] = source[name]
