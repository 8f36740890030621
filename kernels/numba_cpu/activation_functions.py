"""Activations of one number: act(z) and dy act'(z), a pair for every id of the catalogue."""

import math

from .. import catalog
from ..catalog import GELU_CUBE, GELU_SCALE, SELU_ALPHA, SELU_LAMBDA
from .codegen.elementary import exp, expm1, log1p, tanh
from .codegen.inlined import register_jitable
from .codegen.normal import normal

# act(z) of one number and dy act'(z), from s: z or y, as the catalogue says; a is alpha. NaN stays
# NaN.


@register_jitable
def _identity(z, a):
    return z


@register_jitable
def _d_identity(dy, s, a):
    return dy


@register_jitable
def _relu(z, a):
    return type(z)(0) if z < 0 else z


@register_jitable
def _d_relu(dy, s, a):
    return dy if s > 0 else type(s)(0)


@register_jitable
def slope(z, a):
    return z if z > 0 else a * z


@register_jitable
def d_slope(dy, s, a):
    return dy if s > 0 else a * dy


@register_jitable
def _elu(z, a):
    return z if z > 0 else a * expm1(z)


@register_jitable
def _d_elu(dy, s, a):
    return dy if s > 0 else (s + a) * dy


@register_jitable
def _selu(z, a):
    left = type(z)(SELU_LAMBDA * SELU_ALPHA) * expm1(z)
    return type(z)(SELU_LAMBDA) * z if z > 0 else left


@register_jitable
def _d_selu(dy, s, a):
    left = (s + type(s)(SELU_LAMBDA * SELU_ALPHA)) * dy
    return type(s)(SELU_LAMBDA) * dy if s > 0 else left


@register_jitable
def _scaled_elu(z, pair):
    left, right = pair
    return right * z if z > 0 else left * expm1(z)


@register_jitable
def _d_scaled_elu(dy, s, pair):
    left, right = pair
    return right * dy if s > 0 else (s + left) * dy


@register_jitable
def _sigmoid(z, a):
    one, e = type(z)(1), exp(-abs(z))
    return (e if z < 0 else one) / (one + e)


@register_jitable
def _d_sigmoid(dy, s, a):
    return s * (type(s)(1) - s) * dy


@register_jitable
def _tanh(z, a):
    return tanh(z)


@register_jitable
def _d_tanh(dy, s, a):
    return (type(s)(1) - s) * (type(s)(1) + s) * dy


@register_jitable
def _silu(z, a):
    return z * _sigmoid(z, a)


@register_jitable
def _d_silu(dy, s, a):
    one, gate = type(s)(1), _sigmoid(s, a)
    return (gate + s * gate * (one - gate)) * dy


@register_jitable(forceinline=True)
def _gelu(z, a):
    return z * normal(z)[0]


@register_jitable(forceinline=True)
def _d_gelu(dy, s, a):
    probability, e = normal(s)
    return (probability + s * (e * type(s)(1 / math.sqrt(2 * math.pi)))) * dy


@register_jitable
def _gate(z):
    real = type(z)
    scale, square = real(GELU_SCALE), real(GELU_CUBE) * z * z
    return _sigmoid(scale * z * (real(1) + square), z), scale * (real(1) + real(3) * square)


@register_jitable
def _gelu_tanh(z, a):
    return z * _gate(z)[0]


@register_jitable
def _d_gelu_tanh(dy, s, a):
    real = type(s)
    z = real(-25) if s < -25 else real(25) if s > 25 else s  # beyond them g' is 0
    gate, slope = _gate(z)
    return (gate + z * gate * (real(1) - gate) * slope) * dy


@register_jitable(forceinline=True)
def _softplus(z, a):
    return (z if z > 0 else type(z)(0)) + log1p(exp(-abs(z)))


@register_jitable
def _d_softplus(dy, s, a):
    return -expm1(-s) * dy


@register_jitable
def _softsign(z, a):
    return z / (type(z)(1) + abs(z))


@register_jitable
def _d_softsign(dy, s, a):
    rest = type(s)(1) - abs(s)
    return rest * rest * dy


@register_jitable
def _mish_gate(z):
    """t = tanh(softplus(z)), and 1 - t without cancellation: with e = exp(-|z|), n / (n + r)."""
    one, two, e = type(z)(1), type(z)(2), exp(-abs(z))
    n = e * (e + two) if z < 0 else one + two * e
    r = two if z < 0 else two * e * e
    return n / (n + r), r / (n + r)


@register_jitable
def _mish(z, a):
    return z * _mish_gate(z)[0]


@register_jitable
def _d_mish(dy, s, a):
    t, rest = _mish_gate(s)
    return (t + s * rest * (type(s)(1) + t) * _sigmoid(s, a)) * dy


@register_jitable
def _celu(z, a):
    return z if z > 0 else a * expm1(z / a)


@register_jitable
def _d_celu(dy, s, a):
    return dy if s > 0 else (s / a + type(s)(1)) * dy


@register_jitable
def _hard_sigmoid(z, a):
    six, t = type(z)(6), z + type(z)(3)
    return (type(z)(0) if t < 0 else six if t > six else t) / six


@register_jitable
def _d_hard_sigmoid(dy, s, a):
    return dy / type(s)(6) if (s > 0) & (s < 1) else type(s)(0)


@register_jitable
def _hard_swish(z, a):
    return z * _hard_sigmoid(z, a)


@register_jitable
def _d_hard_swish(dy, s, a):
    slope = (s + s + type(s)(3)) / type(s)(6) if s < 3 else type(s)(1)
    return type(s)(0) if s <= -3 else slope * dy


@register_jitable
def _thresholded_relu(z, a):
    return type(z)(0) if z <= a else z


# Of one alpha for all units; SLOPES, with one for each, has loops of its own.
FUNCTIONS = {
    catalog.IDENTITY: (_identity, _d_identity),
    catalog.RELU: (_relu, _d_relu),
    catalog.SLOPE: (slope, d_slope),
    catalog.ELU: (_elu, _d_elu),
    catalog.SELU: (_selu, _d_selu),
    catalog.SIGMOID: (_sigmoid, _d_sigmoid),
    catalog.TANH: (_tanh, _d_tanh),
    catalog.SILU: (_silu, _d_silu),
    catalog.GELU: (_gelu, _d_gelu),
    catalog.GELU_TANH: (_gelu_tanh, _d_gelu_tanh),
    catalog.SOFTPLUS: (_softplus, _d_softplus),
    catalog.SOFTSIGN: (_softsign, _d_softsign),
    catalog.MISH: (_mish, _d_mish),
    catalog.CELU: (_celu, _d_celu),
    catalog.HARD_SIGMOID: (_hard_sigmoid, _d_hard_sigmoid),
    catalog.HARD_SWISH: (_hard_swish, _d_hard_swish),
    catalog.THRESHOLDED_RELU: (_thresholded_relu, _d_relu),
}
OF_PAIRS = {catalog.SCALED_ELU: (_scaled_elu, _d_scaled_elu)}  # a is a pair
