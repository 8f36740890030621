"""Update rules: param and state arrays, of one shape, are updated in place; nothing is returned.

grad is the gradient of the loss with respect to param. lr is the learning rate, eps stands outside
the root, step counts from 1. The equations are those of Goodfellow, Bengio and Courville, Deep
Learning, MIT Press 2016, sections 8.3 and 8.5.
"""

import numpy as np


def sgd(param, grad, *, lr):
    """p -= lr g."""
    param -= lr * grad


def momentum(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g; p -= v. Source: Polyak 1964."""
    velocity *= beta
    velocity += lr * grad
    param -= velocity


def nesterov(param, grad, velocity, *, lr, beta=0.9):
    """v = beta v + lr g(p - beta v); p -= v, in its lookahead form.

    `param` holds q = p - beta v, the point at which the gradient is taken; in q the rule reads
    v = beta v + lr g(q); q -= beta v + lr g(q). The parameters themselves are p = q + beta v.
    Sources: Nesterov 1983; Sutskever et al., ICML 2013.
    """
    velocity *= beta
    velocity += lr * grad
    param -= beta * velocity + lr * grad


def adagrad(param, grad, accumulator, *, lr, eps=1e-8):
    """G += g^2; p -= lr g / (sqrt(G) + eps). Source: Duchi et al., JMLR 12, 2011."""
    accumulator += grad**2
    param -= lr * grad / (np.sqrt(accumulator) + eps)


def rmsprop(param, grad, mean_square, *, lr, rho=0.9, eps=1e-8):
    """E = rho E + (1 - rho) g^2; p -= lr g / (sqrt(E) + eps). Source: Tieleman and Hinton 2012."""
    mean_square *= rho
    mean_square += (1 - rho) * grad**2
    param -= lr * grad / (np.sqrt(mean_square) + eps)


def adam(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
    p -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) with t = step >= 1.

    Source: Kingma and Ba, Adam, ICLR 2015, algorithm 1.
    """
    mean *= beta1
    mean += (1 - beta1) * grad
    variance *= beta2
    variance += (1 - beta2) * grad**2
    corrected = np.sqrt(variance / (1 - beta2**step))
    param -= lr * (mean / (1 - beta1**step)) / (corrected + eps)


def adamw(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8,
          weight_decay=0.01):  # fmt: skip
    """p -= lr weight_decay p, then adam. Source: Loshchilov and Hutter, ICLR 2019."""
    param -= lr * weight_decay * param
    adam(param, grad, mean, variance, step, lr=lr, beta1=beta1, beta2=beta2, eps=eps)


def adadelta(param, grad, mean_square, mean_square_change, *, lr=1.0, rho=0.9, eps=1e-6):
    """E = rho E + (1 - rho) g^2; d = sqrt(D + eps) / sqrt(E + eps) g;
    D = rho D + (1 - rho) d^2; p -= lr d. Source: Zeiler, ADADELTA, arXiv:1212.5701, algorithm 1.
    """
    mean_square *= rho
    mean_square += (1 - rho) * grad**2
    change = np.sqrt(mean_square_change + eps) / np.sqrt(mean_square + eps) * grad
    mean_square_change *= rho
    mean_square_change += (1 - rho) * change**2
    param -= lr * change


def adamax(param, grad, mean, infinity_norm, step, *, lr=0.002, beta1=0.9, beta2=0.999, eps=1e-8):
    """m = beta1 m + (1 - beta1) g; u = max(beta2 u, |g| + eps); p -= lr (m / (1 - beta1^t)) / u.

    Source: Kingma and Ba, Adam, ICLR 2015, algorithm 2; eps as in PyTorch.
    """
    mean *= beta1
    mean += (1 - beta1) * grad
    np.maximum(beta2 * infinity_norm, np.abs(grad) + eps, out=infinity_norm)
    param -= lr * (mean / (1 - beta1**step)) / infinity_norm


def amsgrad(param, grad, mean, variance, largest, step, *, lr=0.001, beta1=0.9, beta2=0.999,
            eps=1e-8):  # fmt: skip
    """m and v as in adam; u = max(u, v);
    p -= lr (m / (1 - beta1^t)) / (sqrt(u / (1 - beta2^t)) + eps).

    Source: Reddi et al., On the Convergence of Adam and Beyond, ICLR 2018; both corrections as in
    PyTorch.
    """
    mean *= beta1
    mean += (1 - beta1) * grad
    variance *= beta2
    variance += (1 - beta2) * grad**2
    np.maximum(largest, variance, out=largest)
    corrected = np.sqrt(largest / (1 - beta2**step))
    param -= lr * (mean / (1 - beta1**step)) / (corrected + eps)


def lion(param, grad, mean, *, lr=0.0001, beta1=0.9, beta2=0.99, weight_decay=0.0):
    """p -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay p); m = beta2 m + (1 - beta2) g.

    Source: Chen et al., Symbolic Discovery of Optimization Algorithms, NeurIPS 2023, algorithm 2.
    """
    direction = np.sign(beta1 * mean + (1 - beta1) * grad)
    param -= lr * weight_decay * param
    param -= lr * direction
    mean *= beta2
    mean += (1 - beta2) * grad


def radam(param, grad, mean, variance, step, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """m and v as in adam; p -= lr (m / (1 - beta1^t)) r sqrt(1 - beta2^t) / (sqrt(v) + eps) with
    r^2 = (rho - 4)(rho - 2) R / ((R - 4)(R - 2) rho), R = 2 / (1 - beta2) - 1,
    rho = R - 2 t beta2^t / (1 - beta2^t), or where rho <= 5: p -= lr m / (1 - beta1^t).

    Source: Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, ICLR 2020; the
    limit 5 as in PyTorch.
    """
    mean *= beta1
    mean += (1 - beta1) * grad
    variance *= beta2
    variance += (1 - beta2) * grad**2
    change = lr * (mean / (1 - beta1**step))
    longest, decay = 2 / (1 - beta2) - 1, beta2**step
    rho = longest - 2 * step * decay / (1 - decay)
    if rho > 5:
        ratio = (rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho)
        change = change * np.sqrt(ratio * (1 - decay)) / (np.sqrt(variance) + eps)
    param -= change


def centered_rmsprop(param, grad, mean_square, mean, velocity, *, lr, rho=0.9, beta=0.0, eps=1e-8):
    """E = rho E + (1 - rho) g^2; m = rho m + (1 - rho) g;
    v = beta v + g / (sqrt(E - m^2) + eps); p -= lr v.

    Source: Graves, Generating Sequences with Recurrent Neural Networks, arXiv:1308.0850, eqs.
    38-45; eps as in PyTorch.
    """
    mean_square *= rho
    mean_square += (1 - rho) * grad**2
    mean *= rho
    mean += (1 - rho) * grad
    variance = np.maximum(mean_square - mean**2, 0)  # which rounding alone makes negative
    velocity *= beta
    velocity += grad / (np.sqrt(variance) + eps)
    param -= lr * velocity


def asgd(param, grad, average, step, *, lr=0.01, lambd=1e-4, alpha=0.75, t0=1e6):
    """r = lr / (1 + lambd lr (t - 1))^alpha; p -= lambd r p + r g;
    a += (p - a) / max(1, t - 1 - t0) with t = step >= 1. The average a is what is looked for.

    Source: Polyak and Juditsky 1992; rates as in PyTorch.
    """
    rate = lr / (1 + lambd * lr * (step - 1)) ** alpha
    param -= lambd * rate * param
    param -= rate * grad
    average += (param - average) * (1 / np.maximum(1, step - 1 - t0))


def nadam(param, grad, mean, variance, step, *, lr=0.002, beta1=0.9, beta2=0.999, eps=1e-8,
          momentum_decay=0.004):  # fmt: skip
    """m and v as in adam; with mu_i = beta1 (1 - 0.96^(i momentum_decay) / 2) and M_t the product
    of mu_1 ... mu_t: p -= lr (mu_(t+1) m / (1 - M_(t+1)) + (1 - mu_t) g / (1 - M_t)) /
    (sqrt(v / (1 - beta2^t)) + eps).

    Source: Dozat, Incorporating Nesterov Momentum into Adam, ICLR 2016 workshop; as in PyTorch.
    """
    mean *= beta1
    mean += (1 - beta1) * grad
    variance *= beta2
    variance += (1 - beta2) * grad**2
    corrected = np.sqrt(variance / (1 - beta2**step))
    mu = beta1 * (1 - 0.5 * 0.96 ** (np.arange(1, int(step) + 1) * momentum_decay))
    following = beta1 * (1 - 0.5 * 0.96 ** ((step + 1) * momentum_decay))
    now, product = beta1 * (1 - 0.5 * 0.96 ** (step * momentum_decay)), np.prod(mu)
    ahead = lr * following / (1 - product * following) * mean
    param -= (ahead + lr * (1 - now) / (1 - product) * grad) / (corrected + eps)


def rprop(param, grad, previous, step_size, *, lr=0.01, eta_minus=0.5, eta_plus=1.2, smallest=1e-6,
          largest=50.0):  # fmt: skip
    """s = min(eta_plus s, largest) where g has its previous sign, max(eta_minus s, smallest) and
    g = 0 where the other one; p -= sign(g) s. A step size s of 0 has not begun: it is lr.

    For whole batches. Source: Riedmiller and Braun, ICNN 1993; as in PyTorch.
    """
    size = np.where(step_size > 0, step_size, lr)
    agree = np.sign(grad) * np.sign(previous)
    size = np.where(agree > 0, np.minimum(eta_plus * size, largest), size)
    size = np.where(agree < 0, np.maximum(eta_minus * size, smallest), size)
    np.positive(size, out=step_size)
    np.positive(np.where(agree < 0, 0.0, grad), out=previous)
    param -= np.sign(previous) * size


def delta_bar_delta(param, grad, trend, rate, *, lr, kappa=0.001, phi=0.1, theta=0.7):
    """r += kappa where g has the sign of the trend b, r -= phi r where the other one; p -= r g;
    b = theta b + (1 - theta) g. A rate r of 0 has not begun: it is lr.

    For whole batches. Source: Jacobs, Neural Networks 1, 1988.
    """
    size = np.where(rate > 0, rate, lr)
    agree = np.sign(grad) * np.sign(trend)
    size = np.where(agree > 0, size + kappa, size)
    size = np.where(agree < 0, (1 - phi) * size, size)
    np.positive(size, out=rate)
    param -= size * grad
    trend *= theta
    trend += (1 - theta) * grad


# Flops of one parameter, and what samples take where there is no default.
RULES = {
    sgd: (2, {"lr": 0.01}),
    momentum: (4, {"lr": 0.01}),
    nesterov: (6, {"lr": 0.01}),
    adagrad: (7, {"lr": 0.01}),
    rmsprop: (9, {"lr": 0.001}),
    adam: (12, {"step": 3}),
    adamw: (14, {"step": 3}),
    adadelta: (15, {}),
    adamax: (10, {"step": 3}),
    amsgrad: (13, {"step": 3}),
    lion: (11, {}),
    radam: (11, {"step": 7}),
    centered_rmsprop: (16, {"lr": 0.001}),
    nadam: (15, {"step": 3}),
    rprop: (5, {}),
    delta_bar_delta: (7, {"lr": 0.01}),
    asgd: (7, {"step": 3}),
}
__all__ = [rule.__name__ for rule in RULES]
