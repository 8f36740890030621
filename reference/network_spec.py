"""The specification of a network's step: its work, its error bounds, and what is wrong with one."""

import itertools
from dataclasses import dataclass

import numpy as np

from . import blocks, normalization_bounds, optimizer_spec
from .activation_spec import backward_bound, forward_bound, slope_bound
from .activations import ACTIVATIONS, activation_forward
from .bounds import ELEMENTARY, EXACT, Bound, of_likely_errors, smallest_normal, unit_roundoff
from .cross_entropy import OPERATIONS as CROSS_ENTROPIES
from .dense import gradient_bounds, linear_bound
from .dropout import OPERATIONS as DROPOUTS
from .dropout import dropout_backward, dropout_forward
from .losses import LABEL_BYTES, mean_bound
from .maxout import largest_bound, pieces_gradient_bound
from .network import STATES
from .normalization_spec import OPERATIONS as NORMALIZATIONS
from .softmax import softmax
from .spec import compare, oracles_share

RULES = {operation.name: operation for operation in optimizer_spec.OPERATIONS}
BETWEEN = {str(operation): operation for operation in (*NORMALIZATIONS, *DROPOUTS)}


def flops(network, rows):
    """Fewest operations of one step: three products a layer, the first needs no dx; what stands
    between the products; the update. Of a maxout layer's gradients only the winners' terms count.
    """
    weights = [fan_in * fan_out for fan_in, fan_out in itertools.pairwise(network.sizes)]
    forward = sum(a.size for name, a in network.parameters.items() if name.endswith("weight"))
    parameters = sum(array.size for array in network.parameters.values())
    update = RULES[network.optimizer].flops(fan_in=parameters - 1, fan_out=1)
    products = 2 * rows * (forward + 2 * sum(weights) - weights[0])
    return products + _between(network, rows) + update


def _between(network, rows):
    """Of normalisations, masks and skips, there and back. A mask is drawn once and kept; what the
    first layer's skip would add on the way back, nobody needs.
    """
    count = 0
    for layer, (fan_in, units) in enumerate(itertools.pairwise(network.sizes[:-1])):
        names = [f"{network.normalization}_{way}" for way in ("forward", "backward")]
        for name in names if network.normalization else ():
            pieces = network.parameters[f"layer{layer}.gamma"].size
            count += BETWEEN[name].flops(batch=rows, fan_out=pieces)
        if network.dropout > 0:
            count += BETWEEN["dropout_forward"].flops(batch=rows, fan_out=units) + rows * units
        if network.residual and fan_in == units:
            count += rows * units * (1 + (layer > 0))
    return count


def elements(network, rows):
    """Fewest floating-point elements moved: parameters, state and what runs along read and written,
    rows read.
    """
    parameters = sum(array.size for array in network.parameters.values())
    targets = 0 if network.loss == "softmax_cross_entropy" else network.sizes[-1]
    per_parameter = 2 * (1 + len(STATES[network.optimizer]))
    running = sum(array.size for array in network.running.values())
    return per_parameter * parameters + 2 * running + rows * (network.sizes[0] + targets)


def label_bytes(network, rows):
    """Bytes of the labels that are class numbers."""
    return LABEL_BYTES * rows * (network.loss == "softmax_cross_entropy")


@dataclass(frozen=True)
class Bounds:
    """Of what a layer has computed. n: what its activation is given; h, relative: a normalisation's
    normalised z and the relative error of its rstd; running: batch norm's statistics.
    """

    z: Bound
    n: Bound
    h: Bound
    relative: Bound
    running: tuple
    a: Bound
    y: Bound


def forward_bounds(network, x, dtype, training):
    """[(block, tape, Bounds)] of every layer in `dtype`; network: in float64."""
    found, of_y = [], EXACT
    for block, tape in network._forward(x, training):
        found.append((block, tape, _layer_bounds(block, tape, of_y, dtype, training)))
        of_y = found[-1][2].y
    return found


def _layer_bounds(block, tape, of_x, dtype, training):
    weight, name, kind = block.parts["weight"], block.activation, block.normalization
    bias = block.parts.get("bias", np.zeros(weight.shape[1]))
    of_z = linear_bound(tape.h, weight, bias, tape.z, dtype, of_x, block.precision)
    of_n, of_h, relative, of_running = of_z, EXACT, EXACT, ()
    if kind is not None:
        given = tape.z, block.parts["gamma"], block.parts["beta"], block.running, dtype, of_z
        if training or kind == "layer_norm":
            norms = normalization_bounds.forward_bounds(kind, *given)
            of_n, of_h, relative, of_running = norms
        else:
            of_n = normalization_bounds.inference_bound(*given)
    if name == "maxout":
        of_a = of_y = largest_bound(of_n.reshape(block.split(tape.n).shape))
    else:
        of_a = of_y = forward_bound(tape.n, tape.a, name, block.alpha, dtype, of_n)
    if training and block.mask is not None:
        of_y = _masked(block, of_a, tape.a, dtype)
    if block.skips:
        of_y = of_y + of_x + Bound.of(unit_roundoff(dtype) * np.abs(tape.y))
    return Bounds(of_z, of_n, of_h, relative, of_running, of_a, of_y)


def _masked(block, bound, array, dtype):
    """Of the array behind dropout: the scale is rounded, and the product."""
    factor = dropout_forward(np.ones_like(array), **block.mask)
    rounding = 2 * unit_roundoff(dtype) * np.abs(array) + smallest_normal(dtype)
    return (bound + Bound.of(rounding)) * factor


def step_bound(network, x, labels, dtype):
    """Bounds of one step in `dtype` from this very state: (of the loss, {name: of an array}, of the
    norms of gradients).

    network: in float64, before the step; the arrays are the parameters, the optimizer's state and
    running statistics. The running error of each intermediate result is carried, to first order in
    u, through the products (Higham, ch. 3), normalisations, activations, the loss and the update
    rule; its deviation as if errors of different elements were independent.
    """
    layers = forward_bounds(network, x, dtype, training=True)
    logits, of_logits = layers[-1][1].y, layers[-1][2].y
    of_loss, of_dy = loss_bound(network, logits, of_logits, labels, dtype)
    _, dy = network._loss(logits, labels)

    gradients, of_gradients, bounds = {}, {}, {}
    for layer in reversed(range(len(layers))):
        block, tape, of_tape = layers[layer]
        of_x = layers[layer - 1][2].y if layer else EXACT
        of_dx, of_parts = _gradient_bounds(block, tape, of_tape, of_x, dy, of_dy, dtype)
        dx, parts = blocks.backward(block, tape, dy)
        for part in block.parts:
            key = f"layer{layer}.{part}"
            shape = network.parameters[key].shape
            gradients[key] = parts[part].reshape(shape)
            of_gradients[key] = of_parts[part].reshape(shape)
        running = "running_mean", "running_variance"
        for name, bound in zip(running, of_tape.running, strict=False):
            key = f"layer{layer}.{name}"
            bounds[key] = bound.reshape(network.running[key].shape)
        dy, of_dy = dx, of_dx

    gradients, of_gradients = _clipped_bounds(network, gradients, of_gradients, dtype)
    norms = np.zeros((len(layers), 2))
    for name, gradient in gradients.items():
        bounds.update(_update_bound(network, name, gradient, of_gradients[name], dtype))
    for layer, column in np.ndindex(norms.shape):
        shift = "bias" if "bias" in layers[layer][0].parts else "beta"
        name = f"layer{layer}.{('weight', shift)[column]}"
        norms[layer, column] = _norm_bound(gradients[name], of_gradients[name], dtype)
    return of_loss, bounds, Bound.of(norms)


def _gradient_bounds(block, tape, of_tape, of_x, dy, of_dy, dtype):
    """(of dx, {part: of its gradient}), given that of dy."""
    da, of_da = dy, of_dy
    if block.mask is not None:
        da, of_da = dropout_backward(dy, **block.mask), _masked(block, of_dy, dy, dtype)
    dz, _ = blocks.activation_gradients(block, tape, da)
    of_dz, found = _activation_bounds(block, tape, of_tape, da, of_da, dtype)
    if block.normalization is not None:
        given = dz, tape, block.parts["gamma"], dtype, of_dz, of_tape.h, of_tape.relative
        norms = normalization_bounds.backward_bounds(block.normalization, *given)
        of_dz, found["gamma"], found["beta"] = norms
        gradient = blocks.GRADIENTS[block.normalization]
        dz, *_ = gradient(dz, tape.z, block.parts["gamma"], tape.mean, tape.rstd)
    given = dz, tape.h, block.parts["weight"], dtype, of_dz, of_x, block.precision
    of_dx, found["weight"], found["bias"] = gradient_bounds(*given)
    if block.skips:
        dx = dz @ block.parts["weight"].T + dy
        of_dx = of_dx + of_dy + Bound.of(unit_roundoff(dtype) * np.abs(dx))
    return of_dx, found


def _activation_bounds(block, tape, of_tape, da, of_da, dtype):
    """(of dn, that of the slopes' gradient by name), given that of da."""
    name = block.activation
    if name == "maxout":
        n = block.split(tape.n)
        of_dn = pieces_gradient_bound(da, n, of_da, of_tape.n.reshape(n.shape))
        return of_dn.reshape(tape.n.shape), {}
    saved = tape.saved(block)
    of_saved = of_tape.n if ACTIVATIONS[name].saves_input else of_tape.a
    of_dn = backward_bound(da, saved, name, block.alpha, dtype, of_da, of_saved)
    if name != "prelu":
        return of_dn, {}
    return of_dn, {"slope": slope_bound(da, saved, dtype, of_da, of_saved)}


def step_disagreement(network, x, labels, dtype, loss, state, norms=None):
    """What is wrong with the loss and the state (host arrays, as `state` returns them) that another
    network in `dtype` has after a step from this network's state, or None. Takes the step.

    norms: those of the gradients, where that network tells them.
    """
    of_loss, bounds, of_norms = step_bound(network, x, labels, dtype)
    expected = network.step(x, labels)
    after = network.state()
    if set(state) != set(after) or int(state["steps"]) != int(after["steps"]):
        return f"the state is {sorted(state)} after {state['steps']} steps"
    factor = oracles_share(dtype)
    complaint = compare(np.asarray(loss, np.float64), expected, of_loss * factor, np.float64)
    if complaint:
        return f"loss: {complaint}"
    for name, bound in bounds.items():
        if complaint := compare(state[name], after[name], bound * factor, dtype):
            return f"{name}: {complaint}"
    if norms is None:
        return None
    norms = np.asarray(norms, np.float64)
    complaint = compare(norms, network.gradients, of_norms * factor, np.float64)
    return complaint and f"norms of gradients: {complaint}"


def loss_bound(network, logits, of_logits, labels, dtype):
    """Bounds of the loss and of dlogits, given that of the logits."""
    u, tiny, n = unit_roundoff(dtype), smallest_normal(dtype), logits.size
    smoothing = network.label_smoothing
    _, slope = network._loss(logits, labels)
    of_loss = _weighted(of_logits, np.abs(slope), 1 / len(logits))
    if network.loss == "softmax_cross_entropy":
        operation = next(o for o in CROSS_ENTROPIES if o.name == network.loss)
        inputs = {"logits": logits, "labels": labels, "label_smoothing": smoothing}
        inputs |= {"class_weights": None, "ignore_index": None, "reduction": "mean"}
        rounding, of_slope = operation.error_bound(inputs, dtype)
        return of_loss + rounding, of_slope + _moved(logits, of_logits) * (1 / len(logits))
    if network.loss == "mean_squared_error":
        difference = np.abs(logits - labels)
        of_loss = _weighted(of_logits, 2 * difference / n, 1 / n)
        of_slope = of_logits * (2 / n) + Bound.of(8 * u * difference / n + tiny)
        terms, roundings = difference**2, 3 * u * difference**2
    else:
        target = (1 - smoothing) * labels + smoothing / 2
        p, e = activation_forward(logits, "sigmoid"), np.exp(-np.abs(logits))
        of_slope = of_logits * (0.25 / n) + Bound.of(
            (ELEMENTARY + 6) * u * (p + np.abs(target)) / n + tiny
        )
        linear = np.maximum(logits, 0) - target * logits
        terms = linear + np.log1p(e)
        elementary = ELEMENTARY * (np.log1p(e) + e)
        roundings = u * (4 * np.abs(target * logits) + linear + terms + elementary)
    return of_loss + mean_bound([terms.ravel()], dtype, [roundings.ravel()]), of_slope


@of_likely_errors
def _moved(logits, of_logits):
    """Of the probabilities: p_j changes by the factor exp(dx_j) / sum_k p_k exp(dx_k), and by 1 at
    most.
    """
    p = softmax(logits)
    with np.errstate(over="ignore", invalid="ignore"):  # 0 times what overflows
        moved = np.fmin(p * np.expm1(2 * of_logits.each.max(axis=1, keepdims=True)), 1)
    others = np.sqrt((p**2 * of_logits.deviation**2).sum(axis=1, keepdims=True))
    deviation = p * np.hypot(of_logits.deviation, others)
    return Bound(moved, np.where(moved < 1, deviation, 1))


@of_likely_errors
def _weighted(bound, slope, curvature):
    """Of a sum of all errors, each times a factor that changes within the error."""
    factor = slope + curvature * bound.each
    deviation = np.sqrt(((bound.deviation * factor) ** 2).sum())
    return Bound((bound.each * factor).sum(), deviation)


def _norm_bound(array, bound, dtype):
    """Of the Euclidean norm of an array, its squares added up in any order (Higham, ch. 3)."""
    rounding = (array.size / 2 + 2) * unit_roundoff(dtype) * np.linalg.norm(array)
    underflow = np.sqrt(array.size * smallest_normal(dtype))  # of squares
    return np.linalg.norm(np.broadcast_to(bound.each, array.shape)) + rounding + underflow


def _clipped_bounds(network, gradients, of_gradients, dtype):
    """What the rule is given, and its bounds, given those of the gradients.

    The limits of an element move nothing further apart. The factor min(1, clip_norm / norm) errs by
    the norm's relative error: that of the vector, half the sum's of squares, and 8 roundings of
    terms, root and factor. No more than 64 numbers are added one after another, in whatever tree,
    and as many more as there are millions of parameters.
    """
    u, given = unit_roundoff(dtype), network._clipped(gradients)
    if network.l2 > 0:
        for name, gradient in gradients.items():
            penalty = np.abs(network.l2 * network.parameters[name])
            rounding = Bound.of(u * (3 * penalty + np.abs(gradient)) + smallest_normal(dtype))
            of_gradients[name] = of_gradients[name] + rounding
    if network.clip_norm is None:
        return given, of_gradients
    before = network._limited(gradients)
    each = [np.broadcast_to(of_gradients[n].each, g.shape).ravel() for n, g in before.items()]
    norm = np.sqrt(sum((g**2).sum() for g in before.values()))
    each = np.concatenate(each)
    error, roundings = np.linalg.norm(each), (64 + each.size / 2**20) / 2 + 8
    if norm * (1 + roundings * u) + error > network.clip_norm:
        factor = min(1, network.clip_norm / norm)
        for name, g in before.items():
            moved = np.abs(g) * factor * (error / norm + roundings * u) + smallest_normal(dtype)
            of_gradients[name] = of_gradients[name] * factor + Bound.of(moved)
    return given, of_gradients


def _update_bound(network, name, gradient, of_gradient, dtype):
    """Bounds of a parameter and its state after the rule, given that of the gradient."""
    scheduled = network._scheduled()
    param, lr = network.parameters[name], scheduled["lr"]
    states = {s: network.states[f"{name}.{s}"] for s in STATES[network.optimizer]}
    inputs = {"param": param - lr * network.weight_decay * param, "grad": gradient, **states}
    rule = RULES[network.optimizer].function
    settings = {**optimizer_spec.parts(rule)[1], **scheduled}
    if optimizer_spec.counts(rule):
        settings["step"] = network.steps + 1
    of_param = Bound.of(3 * unit_roundoff(dtype) * np.abs(param) * (network.weight_decay > 0))
    carried = of_param, *[EXACT] * len(states)
    bounds = RULES[network.optimizer].error_bound(inputs | settings, dtype, carried, of_gradient)
    return dict(zip((name, *(f"{name}.{state}" for state in states)), bounds, strict=True))
