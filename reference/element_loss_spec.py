"""The specifications of the losses of elements: their samples, work, error bounds and borders.

`_ERRORS` says by how much the loss and the gradients of one element may be off before they are
reduced, from the roundings of the equations in element_losses.py: u is that of one rounding, tiny
what is lost of a number that is flushed to zero.
"""

from functools import partial

import numpy as np

from .bounds import ELEMENTARY, Bound, smallest_normal, unit_roundoff
from .element_losses import LEAST_SPREAD, LOSSES
from .losses import mean_bound
from .spec import Operation, Result, border_values

# --- error bounds ---------------------------------------------------------------------------------


def _of_squared(prediction, target, u, tiny):
    error = np.abs(prediction - target)
    return 3 * u * error**2 + tiny, u * 2 * error + 2 * tiny


def _of_absolute(prediction, target, u, tiny):
    """A difference that is flushed has no sign."""
    error = np.abs(prediction - target)
    return u * error + tiny, np.where((error > 0) & (error < tiny), 1.0, 0.0)


def _of_huber(prediction, target, u, tiny, delta):
    """Where rounding decides, both branches agree but for the square of a rounding error."""
    error = np.abs(prediction - target)
    near, far = 3 * u * error**2 / 2, delta * u * (4 * error + 2 * delta)
    each = np.where(error <= delta * (1 - 4 * u), near, far)
    return each + (1 + delta) * tiny, 3 * u * np.minimum(error, delta) + tiny


def _of_logistic(logits, target, u, tiny):
    """exp(-|x|), of relative error d, moves log(1 + exp(-|x|)) by d / log 2 of itself at most."""
    e = np.exp(-np.abs(logits))
    p = np.where(logits < 0, e, 1) / (1 + e)
    linear = np.abs(logits * target) + 2 * np.abs(np.maximum(logits, 0) - logits * target)
    each = u * (linear + (1 + 2.5 * ELEMENTARY) * np.log1p(e)) + 2 * tiny
    return each, u * ((ELEMENTARY + 3) * p + np.abs(p - target)) + 2 * tiny


def _of_bernoulli(probability, target, u, tiny):
    """The logarithm of a subnormal p that is flushed is -100. Both terms have one sign."""
    log_p, log_rest = np.log(probability), np.log1p(-probability)
    of_p, of_rest = (np.minimum(-x, 100.0) for x in (log_p, log_rest))
    lost = np.where((probability > 0) & (probability < tiny), 100 - of_p, 0.0)
    each = u * (ELEMENTARY + 4) * (target * of_p + (1 - target) * of_rest) + target * lost
    spread = np.maximum(probability * (1 - probability), LEAST_SPREAD)
    return each + 2 * tiny, (5 * u * np.abs(probability - target) + 3 * tiny) / spread


def _of_poisson(log_rate, target, u, tiny):
    """A kernel may split off e of a large exponential: two more roundings."""
    rate = (ELEMENTARY + 3) * np.exp(log_rate)
    loss, gradient = np.exp(log_rate) - target * log_rate, np.exp(log_rate) - target
    each = u * (rate + np.abs(target * log_rate) + np.abs(loss)) + 2 * tiny
    return each, u * (rate + np.abs(gradient)) + tiny


def _of_gaussian(mean, target, variance, u, tiny, eps):
    """eps is rounded, and 1 / s; (x - t)^2 / s takes three roundings more."""
    error, s = np.abs(mean - target), np.maximum(variance, eps)
    share, log_s = error**2 / s, np.abs(np.log(s))
    of_share = 5 * u * share + tiny + tiny / s
    each = (u * (ELEMENTARY * log_s + 1) + of_share) / 2 + u * (np.log(s) + share) / 2
    of_variance = (of_share + u * np.abs(1 - share)) / (2 * s) + 3 * u * np.abs(1 - share) / (2 * s)
    return np.abs(each) + u * log_s + tiny, (4 * u * error + tiny) / s + tiny, of_variance + tiny


def _error_bound(function, errors, inputs, dtype):
    u, tiny = unit_roundoff(dtype), smallest_normal(dtype)
    given = {name: value for name, value in inputs.items() if name not in ("reduction", "out")}
    losses, *gradients = function(**given, reduction="none")
    of_loss, *of_gradients = errors(**given, u=u, tiny=tiny)
    scale = 1 / losses.size if inputs["reduction"] == "mean" else 1
    bounds = [
        Bound.of((error + 3 * u * np.abs(gradient)) * scale + tiny)
        for gradient, error in zip(gradients, of_gradients, strict=True)
    ]
    if inputs["reduction"] == "none":
        return Bound.of(of_loss), *bounds
    mean = mean_bound([losses.reshape(-1)], dtype, [of_loss.reshape(-1)])
    return mean * (1 if inputs["reduction"] == "mean" else losses.size), *bounds


# --- samples --------------------------------------------------------------------------------------


def _normal(rng, shape):
    return {"prediction": rng.standard_normal(shape), "target": rng.standard_normal(shape)}


def _logits(rng, shape):
    return {"logits": 3 * rng.standard_normal(shape), "target": rng.random(shape)}


def _probabilities(rng, shape):
    logits, target = _logits(rng, shape).values()
    return {"probability": 1 / (1 + np.exp(-logits)), "target": target}


def _counts(rng, shape):
    log_rate = rng.standard_normal(shape)
    return {"log_rate": log_rate, "target": 1.0 * rng.poisson(np.exp(log_rate))}


def _spreads(rng, shape):
    mean, target = _normal(rng, shape).values()
    return {"mean": mean, "target": target, "variance": np.exp(rng.standard_normal(shape))}


# (errors, sample of a shape, range of the setting, border targets, operations an element).
_FRACTIONS, _REALS = (0.0, 0.3, 1.0), (0.0, 0.3, -2.0, np.inf, -np.inf, np.nan)
_WORK = {
    "mean_squared_error": (_of_squared, _normal, {}, _REALS, 4),
    "mean_absolute_error": (_of_absolute, _normal, {}, _REALS, 4),
    "huber": (_of_huber, _normal, {"delta": (0.3, 2.0)}, _REALS, 7),
    "binary_cross_entropy_with_logits": (_of_logistic, _logits, {}, _FRACTIONS, 12),
    "binary_cross_entropy": (_of_bernoulli, _probabilities, {}, _FRACTIONS, 15),
    "poisson_nll": (_of_poisson, _counts, {}, (0.0, 0.25, 1.0), 6),
    "gaussian_nll": (_of_gaussian, _spreads, {"eps": (1e-6, 1.0)}, _REALS, 12),
}


def _sample(draw, settings, rng, case):
    inputs = draw(rng, (case.sizes["batch"], case.sizes["fan_out"]))
    inputs = {name: value.astype(case.dtype) for name, value in inputs.items()}
    if case.vary:
        inputs |= {name: rng.uniform(*ends) for name, ends in settings.items()}
        inputs["reduction"] = str(rng.choice(["mean", "sum"]))
    return inputs


def _edges(draw, settings, targets, dtype):
    """Border values by every target, each element's loss; then shapes, and all reductions."""
    rng = np.random.default_rng(17)
    first, _, *others = draw(rng, ())
    for target in targets:
        inputs = {first: border_values(dtype)}
        inputs["target"] = np.full_like(inputs[first], target)
        for values in (0.0, 0.5, 4.0) if others else ((),):
            inputs |= {name: np.full_like(inputs[first], values) for name in others}
            described = f"target {target}, {others} {values}"
            yield described, {**inputs, "reduction": "none"}
    for shape in ((), (7,), (2, 3, 5)):
        inputs = {name: np.asarray(value, dtype) for name, value in draw(rng, shape).items()}
        for reduction in ("mean", "sum", "none"):
            yield f"{shape}, {reduction}", {**inputs, "reduction": reduction}
            for name, ends in settings.items():
                drawn = {name: rng.uniform(*ends)}
                yield f"{shape}, {reduction}, {drawn}", {**inputs, **drawn, "reduction": reduction}


def _operation(function):
    errors, draw, settings, targets, flops = _WORK[function.__name__]
    first, _, *others = draw(np.random.default_rng(0), ())
    gradients = ["d" + name for name in (first, *others)]
    return Operation(
        function.__name__,
        function,
        ("batch", "fan_out"),
        partial(_sample, draw, settings),
        lambda batch, fan_out, **_: flops * batch * fan_out,
        lambda batch, fan_out, **_: (1 + 2 * len(gradients)) * batch * fan_out + 1,
        tuple(Result(name) for name in ("loss", *gradients)),
        partial(_error_bound, function, errors),
        partial(_edges, draw, settings, targets),
    )


OPERATIONS = tuple(map(_operation, LOSSES))
