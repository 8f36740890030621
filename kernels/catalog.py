"""What several rooms must agree on, declared once: activations, losses, update rules, initialisers,
conjugacies, borders of images.

An id is what compiled code, Numba's and CUDA's alike, is told; the ids of a kind count from 0.
Equations and sources stand in `reference`, functions by these names in every backend.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import NormalDist

ABOVE_ZERO = math.ulp(0.0)  # the least number above 0


@dataclass(frozen=True)
class Number:
    """A number of the caller's: low <= number < high. Without a default it must be given."""

    default: float | None = None
    low: float = 0.0
    high: float = math.inf


# --- activations ----------------------------------------------------------------------------------

IDENTITY, RELU, SLOPE, SLOPES, ELU, SELU, SIGMOID, TANH, SILU, GELU, GELU_TANH = range(11)
SOFTPLUS, SOFTSIGN, MISH, CELU, HARD_SIGMOID, HARD_SWISH, THRESHOLDED_RELU = range(11, 18)
SCALED_ELU = 18  # selu of a pair that is given

# Klambauer et al., Self-Normalizing Neural Networks, NeurIPS 2017, appendix A1.
SELU_LAMBDA = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717
# P(Z <= z) is about sigmoid(scale (z + cube z^3)): Hendrycks and Gimpel, 2016.
GELU_SCALE, GELU_CUBE = 2 * math.sqrt(2 / math.pi), 0.044715


@dataclass(frozen=True)
class Activation:
    """y = act(z).

    id             of its kernels; rectifiers share two: one slope for all units, or one for each
    alpha          its parameter where it is one number
    pair           where it is two; given, they are those of SCALED_ELU
    per_unit       whether alpha is an array with a number for every unit, or may be
    learned        whether the backward pass returns the gradient of alpha
    saves_input    whether the backward pass takes z; else it takes y
    weight_gain    times 1 / fan_in: the variance of the weights before it at which the variance of
                   its outputs is that of its inputs; None: 2 / (fan_in + fan_out), Glorot's
    exponentials   whether it takes an exponential: it is worth a thread earlier
    """

    id: int
    alpha: Number | None = None
    pair: tuple[Number, Number] | None = None
    per_unit: bool = False
    learned: bool = False
    saves_input: bool = False
    weight_gain: float | None = None
    exponentials: bool = False


# Derivatives of leaky_relu, (s)elu and thresholded_relu are read off y: alpha cannot be negative.
_SELU = Number(SELU_ALPHA), Number(SELU_LAMBDA, low=ABOVE_ZERO)
ACTIVATIONS = {
    "identity": Activation(IDENTITY),
    "relu": Activation(RELU, weight_gain=2),
    "leaky_relu": Activation(SLOPE, alpha=Number(0.01), weight_gain=2),
    "prelu": Activation(SLOPES, per_unit=True, learned=True, saves_input=True, weight_gain=2),
    "elu": Activation(ELU, alpha=Number(1.0), weight_gain=2, exponentials=True),
    "selu": Activation(SELU, pair=_SELU, weight_gain=1, exponentials=True),
    "sigmoid": Activation(SIGMOID, exponentials=True),
    "tanh": Activation(TANH, exponentials=True),
    "silu": Activation(SILU, saves_input=True, exponentials=True),
    "gelu": Activation(GELU, saves_input=True, exponentials=True),
    "gelu_tanh": Activation(GELU_TANH, saves_input=True, exponentials=True),
    "softplus": Activation(SOFTPLUS, exponentials=True),
    "softsign": Activation(SOFTSIGN),
    "mish": Activation(MISH, saves_input=True, exponentials=True),
    "celu": Activation(CELU, alpha=Number(1.0, low=ABOVE_ZERO), exponentials=True),
    "hard_sigmoid": Activation(HARD_SIGMOID),
    "hard_swish": Activation(HARD_SWISH, saves_input=True),
    "thresholded_relu": Activation(THRESHOLDED_RELU, alpha=Number(1.0)),
    "rectifier": Activation(SLOPE, Number(low=-math.inf), per_unit=True, saves_input=True),
}
PRELU_SLOPE = 0.25  # at the start: He et al., Delving Deep into Rectifiers, ICCV 2015


def maxout_gain(pieces):
    """The weight_gain of the largest of so many pieces; see reference.maxout.weight_gain."""
    normal, points = NormalDist(), [k / 16 for k in range(-160, 161)]
    density = [pieces * normal.cdf(x) ** (pieces - 1) * normal.pdf(x) for x in points]
    return 16 / sum(x * x * d for x, d in zip(points, density, strict=True))


# --- losses ---------------------------------------------------------------------------------------

SOFTMAX_CROSS_ENTROPY, SIGMOID_CROSS_ENTROPY, MEAN_SQUARED_ERROR = range(3)
LOSSES = {
    "softmax_cross_entropy": SOFTMAX_CROSS_ENTROPY,
    "sigmoid_cross_entropy": SIGMOID_CROSS_ENTROPY,
    "mean_squared_error": MEAN_SQUARED_ERROR,
}

# --- losses of elements ---------------------------------------------------------------------------

SQUARED, ABSOLUTE, HUBER, LOGISTIC, BERNOULLI, POISSON, GAUSSIAN = range(7)
REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


@dataclass(frozen=True)
class ElementLoss:
    """A loss of every prediction by its target, and its derivative.

    id             of its kernels
    prediction     the name of its first argument
    setting        the name and the range of its number, where it has one
    fractions      whether targets are from 0 to 1
    variance       whether it takes the variance of every prediction, and returns its derivative
    exponentials   whether it takes an exponential or a logarithm: it is worth a thread earlier
    """

    id: int
    prediction: str = "prediction"
    setting: tuple[str, Number] | None = None
    fractions: bool = False
    variance: bool = False
    exponentials: bool = False

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arrays that it takes."""
        return (self.prediction, "target", *["variance"] * self.variance)

    @property
    def may_replace(self) -> list[tuple[str, str]]:
        """The pairs (output, input) of what may be one array: a gradient, what it is by."""
        return [("out[1]", self.prediction), *[("out[2]", "variance")] * self.variance]


_DELTA, _LEAST = Number(1.0, low=ABOVE_ZERO), Number(1e-6, low=ABOVE_ZERO)
ELEMENT_LOSSES = {
    "mean_squared_error": ElementLoss(SQUARED),
    "mean_absolute_error": ElementLoss(ABSOLUTE),
    "huber": ElementLoss(HUBER, setting=("delta", _DELTA)),
    "binary_cross_entropy_with_logits": ElementLoss(
        LOGISTIC, "logits", fractions=True, exponentials=True
    ),
    "binary_cross_entropy": ElementLoss(
        BERNOULLI, "probability", fractions=True, exponentials=True
    ),
    "poisson_nll": ElementLoss(POISSON, "log_rate", exponentials=True),
    "gaussian_nll": ElementLoss(
        GAUSSIAN, "mean", setting=("eps", _LEAST), variance=True, exponentials=True
    ),
}


# --- update rules ---------------------------------------------------------------------------------

SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM, ADAMW, ADADELTA = range(8)
ADAMAX, AMSGRAD, LION, RADAM, CENTERED_RMSPROP, ASGD, NADAM, RPROP, DELTA_BAR_DELTA = range(8, 17)
FRACTION = Number(high=1)


@dataclass(frozen=True)
class Rule:
    """An update rule.

    id         of its kernels
    states     the names of its state arrays, which are like the parameters
    settings   the names and ranges of its numbers, the rate lr first
    scalars    scalars(step, *settings): what the inner loop needs, computed once a step in float64
    counts     whether it takes the number of the step
    """

    id: int
    states: tuple[str, ...]
    settings: dict[str, Number] = field(hash=False)
    scalars: Callable
    counts: bool = False


def _rate(step, lr):
    return (lr,)


def _rate_and_beta(step, lr, beta):
    return lr, beta


def _rate_and_eps(step, lr, eps):
    return lr, eps


def _of_rmsprop(step, lr, rho, eps):
    return lr, rho, 1 - rho, eps


def _of_adam(step, lr, beta1, beta2, eps):
    rate, correction = lr / (1 - beta1**step), 1 / (1 - beta2**step)
    return rate, correction, beta1, 1 - beta1, beta2, 1 - beta2, eps


def _of_adamw(step, lr, beta1, beta2, eps, weight_decay):
    return *_of_adam(step, lr, beta1, beta2, eps), lr * weight_decay


def _of_adamax(step, lr, beta1, beta2, eps):
    return lr / (1 - beta1**step), beta1, 1 - beta1, beta2, eps


def _of_radam(step, lr, beta1, beta2, eps):
    """Where the variance says nothing yet, eps is 0, and there is nothing to divide by."""
    rate, longest, decay = lr / (1 - beta1**step), 2 / (1 - beta2) - 1, beta2**step
    rho = longest - 2 * step * decay / (1 - decay)
    if rho > 5:
        ratio = (rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho)
        rate *= math.sqrt(ratio * (1 - decay))
    else:
        eps = 0.0
    return rate, beta1, 1 - beta1, beta2, 1 - beta2, eps


def _of_nadam(step, lr, beta1, beta2, eps, momentum_decay):
    """The product of all mu_i = beta1 (1 - q^i / 2) is beta1^t exp(- sum over k of
    q^k (1 - q^(t k)) / (1 - q^k) / (2^k k)), by the logarithm's series.
    """
    bend = momentum_decay * math.log(0.96)  # log q
    now = beta1 * (1 - 0.5 * math.exp(step * bend))
    following = beta1 * (1 - 0.5 * math.exp((step + 1) * bend))
    logarithm = 0.0
    for k in range(1, 60):
        terms = float(step)
        if bend < 0:
            terms = math.exp(k * bend) * math.expm1(step * k * bend) / math.expm1(k * bend)
        logarithm -= terms / (2.0**k * k)
    product, correction = beta1**step * math.exp(logarithm), 1 / (1 - beta2**step)
    of_grad, of_mean = lr * (1 - now) / (1 - product), lr * following / (1 - product * following)
    return of_grad, of_mean, correction, beta1, 1 - beta1, beta2, 1 - beta2, eps


def _of_rprop(step, lr, eta_minus, eta_plus, smallest, largest):
    return lr, eta_minus, eta_plus, smallest, largest


def _of_delta_bar_delta(step, lr, kappa, phi, theta):
    return lr, kappa, 1 - phi, theta, 1 - theta


def _of_centered_rmsprop(step, lr, rho, beta, eps):
    return lr, rho, 1 - rho, beta, eps


def _of_asgd(step, lr, lambd, alpha, t0):
    rate = lr / (1 + lambd * lr * (step - 1)) ** alpha
    return rate, lambd * rate, 1 / max(1.0, step - 1 - t0)


def _of_lion(step, lr, beta1, beta2, weight_decay):
    return lr, beta1, 1 - beta1, beta2, 1 - beta2, lr * weight_decay


def _settings(**others):
    return {"lr": Number(), **others}


_BETA, _EPS = Number(0.9, high=1), Number(1e-8, low=ABOVE_ZERO)
_ADAM = _settings(beta1=_BETA, beta2=Number(0.999, high=1), eps=_EPS)
_MOMENTS = "mean", "variance"
_LION = _settings(beta1=_BETA, beta2=Number(0.99, high=1), weight_decay=Number(0.0))
_ADADELTA = {"lr": Number(1.0), "rho": _BETA, "eps": Number(1e-6, low=ABOVE_ZERO)}
_CENTERED = _settings(rho=_BETA, beta=Number(0.0, high=1), eps=_EPS)
_NADAM = {**_ADAM, "momentum_decay": Number(0.004)}
_RPROP = _settings(
    eta_minus=Number(0.5, low=ABOVE_ZERO, high=1),
    eta_plus=Number(1.2, low=1.0),
    smallest=Number(1e-6, low=ABOVE_ZERO),
    largest=Number(50.0, low=ABOVE_ZERO),
)
_BARS = _settings(kappa=Number(0.001), phi=Number(0.1, high=1), theta=Number(0.7, high=1))
_ASGD = {"lr": Number(0.01), "lambd": Number(1e-4), "alpha": Number(0.75), "t0": Number(1e6)}
RULES = {
    "sgd": Rule(SGD, (), _settings(), _rate),
    "momentum": Rule(MOMENTUM, ("velocity",), _settings(beta=_BETA), _rate_and_beta),
    "nesterov": Rule(NESTEROV, ("velocity",), _settings(beta=_BETA), _rate_and_beta),
    "adagrad": Rule(ADAGRAD, ("accumulator",), _settings(eps=_EPS), _rate_and_eps),
    "rmsprop": Rule(RMSPROP, ("mean_square",), _settings(rho=_BETA, eps=_EPS), _of_rmsprop),
    "adam": Rule(ADAM, _MOMENTS, _ADAM, _of_adam, counts=True),
    "adamw": Rule(ADAMW, _MOMENTS, {**_ADAM, "weight_decay": Number(0.01)}, _of_adamw, counts=True),
    "adadelta": Rule(ADADELTA, ("mean_square", "mean_square_change"), _ADADELTA, _of_rmsprop),
    "adamax": Rule(ADAMAX, ("mean", "infinity_norm"), _ADAM, _of_adamax, counts=True),
    "amsgrad": Rule(AMSGRAD, (*_MOMENTS, "largest"), _ADAM, _of_adam, counts=True),
    "lion": Rule(LION, ("mean",), _LION, _of_lion),
    "radam": Rule(RADAM, _MOMENTS, _ADAM, _of_radam, counts=True),
    "centered_rmsprop": Rule(
        CENTERED_RMSPROP, ("mean_square", "mean", "velocity"), _CENTERED, _of_centered_rmsprop
    ),
    "nadam": Rule(NADAM, _MOMENTS, _NADAM, _of_nadam, counts=True),
    "rprop": Rule(RPROP, ("previous", "step_size"), _RPROP, _of_rprop),
    "delta_bar_delta": Rule(DELTA_BAR_DELTA, ("trend", "rate"), _BARS, _of_delta_bar_delta),
    "asgd": Rule(ASGD, ("average",), _ASGD, _of_asgd, counts=True),
}


# --- initialisers ---------------------------------------------------------------------------------

CONSTANT, UNIFORM, NORMAL, SPARSE_NORMAL, ORTHOGONAL = range(5)
LARGEST = 1e38  # of a number that float32 holds as well


@dataclass(frozen=True)
class Initializer:
    """How initial weights are made.

    distribution   the id of its kernels
    scale          scale(fan_in, fan_out): the standard deviation of NORMAL, the limit of UNIFORM
    value          the range of its number: the constant, the gain of ORTHOGONAL, the inputs of a
                   unit of SPARSE_NORMAL, an integer and fan_in at most
    """

    distribution: int
    scale: Callable | None = None
    value: Number | None = None


def _by_inputs(distribution, share):
    return Initializer(distribution, lambda fan_in, fan_out: math.sqrt(share / fan_in))


def _by_both(distribution, share):
    return Initializer(distribution, lambda fan_in, fan_out: math.sqrt(share / (fan_in + fan_out)))


INITIALIZERS = {
    "zeros": Initializer(CONSTANT, lambda fan_in, fan_out: 0.0),
    "constant": Initializer(CONSTANT, value=Number(low=-LARGEST, high=LARGEST)),
    "he_normal": _by_inputs(NORMAL, 2),
    "he_uniform": _by_inputs(UNIFORM, 6),
    "glorot_normal": _by_both(NORMAL, 2),
    "glorot_uniform": _by_both(UNIFORM, 6),
    "lecun_normal": _by_inputs(NORMAL, 1),
    "lecun_uniform": _by_inputs(UNIFORM, 3),
    "fan_in_uniform": _by_inputs(UNIFORM, 1),
    "sparse_normal": Initializer(SPARSE_NORMAL, value=Number(15, low=1)),
    "orthogonal": Initializer(ORTHOGONAL, value=Number(1.0, low=ABOVE_ZERO, high=LARGEST)),
}
SEEDS, STREAMS = 1 << 64, 1 << 32  # how many there are

# --- dropout --------------------------------------------------------------------------------------

STEPS, LAYERS = 1 << 32, 1 << 31  # how many there are
FIRST_DROPOUT = 1 << 31  # the stream of its layer 0

# --- directions of second order -------------------------------------------------------------------

CONJUGACIES = {"polak_ribiere": 0, "fletcher_reeves": 1}  # beta of conjugate gradients
DAMPING = Number(0.0, high=LARGEST)
STEP = Number(low=-LARGEST, high=LARGEST)  # along a direction

# --- augmentation ---------------------------------------------------------------------------------

CONSTANT_FILL, NEAREST, REFLECT, WRAP = range(4)
FILLS = {"constant": CONSTANT_FILL, "nearest": NEAREST, "reflect": REFLECT, "wrap": WRAP}
FILL_VALUE = DISTORTION = Number(low=-LARGEST, high=LARGEST)  # DISTORTION: an elastic one's alpha
SIGMA = Number(low=ABOVE_ZERO, high=1e4)
RANGES = {  # of random affine transformations
    "rotation": Number(0.0, high=360.0),
    "shift": Number(0.0, high=LARGEST),
    "zoom": Number(0.0, high=1.0),
    "shear": Number(0.0, high=90.0),
}
AFFINE_STREAM, ELASTIC_STREAM = 2**30 + 8, 2**30 + 9  # far behind the streams of layers
