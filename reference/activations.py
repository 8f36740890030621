"""Activations and their derivatives, elementwise on pre-activations z of shape (batch, units).

The rectifiers are one function, max(0, z) + alpha min(0, z), with alpha = 1 (identity), 0 (relu),
0.01 (leaky_relu) or learned for every unit (prelu). The backward pass takes `saved`: the output y
where the derivative follows from it, else the pre-activation z (`saves_input`). At a kink the
derivative is the one from the left.
"""

import math
from dataclasses import dataclass

import numpy as np

from .bounds import ELEMENTARY
from .spec import store

# Klambauer et al., Self-Normalizing Neural Networks, NeurIPS 2017, appendix A1.
SELU_LAMBDA = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


@dataclass(frozen=True)
class Activation:
    """What is declared of an activation beside its equations.

    roundings      of one evaluation forward and backward, in units of u relative to the result;
                   a function of z where its argument magnifies them
    flops          of one element, forward and backward
    alpha, alphas  its parameter unless given, and from where samples draw it; of selu pairs
    saves_input    whether the backward pass takes z; else it takes y
    gated          whether it is z g(z): its derivative is then a sum, g + z g'
    kinks          where its slope changes at once, or it itself; None: at alpha
    weight_gain    times 1 / fan_in: the variance of the weights before it, Glorot's where None
    """

    roundings: tuple
    flops: tuple[int, int]
    alpha: float | tuple[float, float] | None = None
    alphas: tuple | None = None
    saves_input: bool = False
    gated: bool = False
    kinks: tuple | None = (0.0,)
    weight_gain: float | None = None


def _magnified(roundings, more=np.square):
    """An exponential's roundings and these. It magnifies those of its argument by it, to `more` u
    until it is 0. That counts in the tail: to the right the exponential is small beside 1.
    """
    roundings += ELEMENTARY
    return lambda z: roundings + np.where(z < 0, np.minimum(more(z), 5000.0), 4.0)


def _five(z):
    return 5 * np.abs(_gelu_argument(z)[0])  # the argument takes five roundings


# alpha and lambda are themselves rounded; sigmoid and tanh take an exponential, an addition and a
# division. Gains: He et al. 2015, selu Klambauer et al. 2017.
ACTIVATIONS = {
    "identity": Activation((0, 0), (0, 0)),
    "relu": Activation((0, 0), (1, 1), weight_gain=2),
    "leaky_relu": Activation((2, 2), (2, 2), alpha=0.01, alphas=(0.0, 1.0), weight_gain=2),
    "prelu": Activation((1, 1), (2, 4), saves_input=True, weight_gain=2),
    "elu": Activation((ELEMENTARY + 2, 2), (3, 3), alpha=1.0, alphas=(0.0, 2.0), weight_gain=2),
    "selu": Activation(
        *((ELEMENTARY + 3, 2), (4, 3)),
        alpha=(SELU_ALPHA, SELU_LAMBDA),
        alphas=((0.0, 2.5), (0.5, 2.0)),
        weight_gain=1,
    ),
    "sigmoid": Activation((ELEMENTARY + 2, 3), (4, 3)),
    "tanh": Activation((ELEMENTARY + 2, 4), (1, 4)),
    "silu": Activation((ELEMENTARY + 3, 2 * ELEMENTARY + 9), (5, 9), saves_input=True, gated=True),
    "gelu": Activation((_magnified(4), _magnified(6)), (5, 9), saves_input=True, gated=True),
    "gelu_tanh": Activation(
        (_magnified(3, _five), _magnified(ELEMENTARY + 14, _five)),
        flops=(9, 16),
        saves_input=True,
        gated=True,
    ),
    "softplus": Activation((2 * ELEMENTARY + 1, ELEMENTARY + 1), (4, 3)),
    "softsign": Activation((2, 5), (3, 4)),
    # Of mish the largest at any z: where one function's roundings count, the others' do not.
    "mish": Activation(
        (3 * ELEMENTARY + 3, 2 * ELEMENTARY + 12), (6, 12), saves_input=True, gated=True
    ),
    "celu": Activation((ELEMENTARY + 4, 2), (4, 3), alpha=1.0, alphas=(0.1, 2.0)),
    "hard_sigmoid": Activation(
        (lambda z: np.where(np.abs(z) < 3, 2.0, 0.0), 2), (4, 2), kinks=(-3.0, 3.0)
    ),
    "hard_swish": Activation((3, 3), (5, 5), saves_input=True, gated=True, kinks=(-3.0, 3.0)),
    "thresholded_relu": Activation((0, 0), (1, 1), alpha=1.0, alphas=(0.0, 2.0), kinks=None),
    "rectifier": Activation((2, 2), (2, 2), saves_input=True),
}


def activation_forward(z, activation, alpha=None, *, out=None):
    """y = act(z), elementwise.

    identity    z
    relu        max(0, z)
    leaky_relu  z if z > 0 else alpha z                            alpha >= 0, 0.01 unless given
    prelu       z if z > 0 else alpha z                            alpha (units,), learned
    rectifier   max(0, z) + alpha min(0, z)                        alpha a number or (units,)
    elu         z if z > 0 else alpha (exp(z) - 1)                 alpha >= 0, 1 unless given
    selu        gamma (z if z > 0 else alpha (exp(z) - 1))         alpha, a pair: (alpha >= 0,
                gamma > 0), unless given (1.6733, 1.0507), where gamma is Klambauer's lambda
    sigmoid     1 / (1 + exp(-z))
    tanh        tanh(z)
    silu        z / (1 + exp(-z))
    gelu        z P(Z <= z), Z standard normal
    softplus    log(1 + exp(z))
    softsign    z / (1 + |z|)
    mish        z tanh(log(1 + exp(z)))
    celu        z if z > 0 else alpha (exp(z / alpha) - 1)         alpha > 0, 1 unless given
    gelu_tanh   z / (1 + exp(-2 t)), t = sqrt(2 / pi) (z + 0.044715 z^3)
    hard_sigmoid      h = min(max(z + 3, 0), 6) / 6
    hard_swish        z h
    thresholded_relu  z if z > alpha else 0                        alpha >= 0, 1 unless given

    z, out: (batch, units). Raises ValueError for an unknown activation.
    Sources: Nair and Hinton 2010 (relu), Maas et al. 2013 (leaky_relu), He et al. 2015 (prelu),
    Clevert et al. 2016 (elu), Klambauer et al. 2017 (selu), Elfwing et al. 2018 (silu),
    Hendrycks and Gimpel 2016 (gelu, gelu_tanh),
    Dugas et al. 2001 (softplus), Bergstra et al. 2009 (softsign), Misra 2019 (mish), Barron 2017
    (celu), Howard et al. 2019 (hard_sigmoid, hard_swish), Konda et al. 2015 (thresholded_relu).
    """
    alpha = default_alpha(activation, alpha)
    match activation:
        case "identity":
            y = z.copy()
        case "relu":
            y = np.maximum(z, 0)
        case "leaky_relu" | "prelu":
            y = np.where(z > 0, z, alpha * z)
        case "rectifier":
            y = np.maximum(z, 0) + alpha * np.minimum(z, 0)
        case "elu":
            y = np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))
        case "selu":
            alpha, gamma = alpha
            y = np.where(z > 0, gamma * z, gamma * alpha * np.expm1(np.minimum(z, 0)))
        case "sigmoid":
            e = np.exp(-np.abs(z))  # never overflows
            y = np.where(z >= 0, 1, e) / (1 + e)
        case "tanh":
            y = np.tanh(z)
        case "silu":
            y = z * activation_forward(z, "sigmoid")
        case "gelu":
            y = z * normal(z)[0]
        case "gelu_tanh":
            y = z * activation_forward(_gelu_argument(z)[0], "sigmoid")
        case "softplus":
            y = np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))
        case "softsign":
            y = z / (1 + np.abs(z))
        case "mish":
            y = z * np.tanh(activation_forward(z, "softplus"))
        case "celu":
            y = np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0) / alpha))
        case "hard_sigmoid":
            y = np.clip(z + 3, 0, 6) / 6
        case "hard_swish":
            y = z * (np.clip(z + 3, 0, 6) / 6)
        case "thresholded_relu":
            y = np.where(z <= alpha, 0, z)
        case _:
            raise _unknown(activation)
    return store(out, y)


def _gelu_argument(z):
    """2 t and its derivative."""
    scale, square = 2 * (2 / np.pi) ** 0.5, 0.044715 * z * z
    return scale * z * (1 + square), scale * (1 + 3 * square)


def normal(z):
    """(P(Z <= z), its density at z) of a standard normal Z."""
    twice = np.vectorize(math.erfc, otypes=[np.float64])(z.astype(np.float64) / -(2**0.5))
    return (twice / 2).astype(z.dtype), np.exp(-z * z / 2) / np.sqrt(2 * np.pi).astype(z.dtype)


def default_alpha(activation, alpha):
    """alpha, or what it is unless given."""
    declared = ACTIVATIONS.get(activation)
    return declared.alpha if declared and alpha is None else alpha


def _unknown(activation):
    return ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")


def activation_backward(dy, saved, activation, alpha=None, *, out=None):
    """dz = dy act'(z); for prelu (dz, dalpha) with dalpha = sum over the batch of dy min(0, z).

    act' from y: relu 1 or 0, leaky_relu 1 or alpha, elu 1 or y + alpha, selu gamma or
    y + gamma alpha, sigmoid y (1 - y), tanh (1 - y)(1 + y); from z: prelu, rectifier 1 or alpha,
    silu s + z s (1 - s) with s = 1 / (1 + exp(-z)),
    gelu P(Z <= z) + z exp(-z^2 / 2) / sqrt(2 pi),
    gelu_tanh s + z s (1 - s) 2 t' with s = 1 / (1 + exp(-2 t)),
    mish t + z (1 - t^2) / (1 + exp(-z)) with t = tanh(log(1 + exp(z)));
    from y: softplus 1 - exp(-y), softsign (1 - |y|)^2, celu 1 or y / alpha + 1,
    hard_sigmoid 1 / 6 or 0, thresholded_relu 1 or 0; from z: hard_swish 0, (2 z + 3) / 6 or 1.

    dy, saved: (batch, units); dalpha: (units,). out: dz, or (dz, dalpha) for prelu.
    Raises ValueError for an unknown activation.
    """
    alpha = default_alpha(activation, alpha)
    match activation:
        case "identity":
            dz = dy.copy()
        case "relu":
            dz = np.where(saved > 0, dy, 0)
        case "leaky_relu" | "prelu" | "rectifier":
            dz = np.where(saved > 0, dy, alpha * dy)
        case "elu":
            dz = np.where(saved > 0, dy, (saved + alpha) * dy)
        case "selu":
            alpha, gamma = alpha
            dz = np.where(saved > 0, gamma * dy, (saved + gamma * alpha) * dy)
        case "sigmoid":
            dz = saved * (1 - saved) * dy
        case "tanh":
            dz = (1 - saved) * (1 + saved) * dy
        case "silu":
            s = activation_forward(saved, "sigmoid")
            dz = (s + saved * s * (1 - s)) * dy
        case "gelu":
            probability, density = normal(saved)
            dz = (probability + saved * density) * dy
        case "gelu_tanh":
            z = np.clip(saved, -25, 25)  # beyond it s (1 - s) is 0
            argument, slope = _gelu_argument(z)
            s = activation_forward(argument, "sigmoid")
            dz = (s + z * s * (1 - s) * slope) * dy
        case "softplus":
            dz = -np.expm1(-saved) * dy
        case "softsign":
            dz = (1 - np.abs(saved)) ** 2 * dy
        case "mish":
            t = np.tanh(activation_forward(saved, "softplus"))
            rest = 2 / ((1 + np.exp(saved)) ** 2 + 1)  # 1 - t without cancellation
            dz = (t + saved * rest * (1 + t) * activation_forward(saved, "sigmoid")) * dy
        case "celu":
            dz = np.where(saved > 0, dy, (saved / alpha + 1) * dy)
        case "hard_sigmoid":
            dz = np.where((saved > 0) & (saved < 1), dy / 6, 0)
        case "hard_swish":
            slope = np.where(saved < 3, (2 * saved + 3) / 6, 1)
            dz = np.where(saved <= -3, 0, slope * dy)
        case "thresholded_relu":
            dz = np.where(saved > 0, dy, 0)
        case _:
            raise _unknown(activation)
    if activation != "prelu":
        return store(out, dz)
    dalpha = (dy * np.minimum(saved, 0)).sum(axis=0)
    dz_out, dalpha_out = out or (None, None)
    return store(dz_out, dz), store(dalpha_out, dalpha)
