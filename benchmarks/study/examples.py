"""The course's worked examples, which run: `python -m doctest benchmarks/study/examples.py`.

From the checkout's root, with no output where all is as it says here.

Cross-entropy. Four rows whose true classes have the probabilities 0.70, 0.15, 0.60 and 0.50; the
loss is the mean of their negative logarithms, -ln(0.70 0.15 0.60 0.50) / 4 = 0.864:

>>> import numpy as np
>>> import kernels
>>> backend = kernels.load("numpy")
>>> probabilities = np.array(
...     [[0.70, 0.20, 0.10], [0.05, 0.15, 0.80], [0.20, 0.20, 0.60], [0.25, 0.50, 0.25]]
... )
>>> labels = np.array([0, 1, 2, 1])
>>> [round(float(-np.log(p[label])), 3) for p, label in zip(probabilities, labels)]
[0.357, 1.897, 0.511, 0.693]
>>> loss = backend.sparse_categorical_cross_entropy(probabilities, labels)
>>> abs(float(loss) - 0.865) < 0.001
True

With logarithms of two digits, as the course has them, it is 0.865. Logits whose softmax these
probabilities are have the same loss:

>>> loss, _ = backend.softmax_cross_entropy(np.log(probabilities), labels)
>>> round(float(loss), 4)
0.8644

Updates an epoch. Six points are one update of batch gradient descent, three of mini-batches of two,
six of stochastic gradient descent:

>>> x = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]], np.float32)
>>> labels = np.array([0, 0, 0, 1, 1, 1], np.int32)
>>> for batch in (6, 2, 1):
...     network = backend.network.create((1, 2), optimizer="sgd", batch=batch, lr=0.1)
...     _ = network.epoch(x, labels, np.arange(6))
...     print(batch, int(network.state()["steps"]))
6 1
2 3
1 6

Momentum. At a gradient that stays 1, beta = 0.9 and the rate 0.1, velocity grows by beta v + lr g:
0.1, 0.19, 0.271, towards 0.1 / (1 - 0.9) = 1, ten times the step of plain descent:

>>> parameter, velocity, gradient = np.zeros(1), np.zeros(1), np.ones(1)
>>> for _ in range(3):
...     backend.momentum(parameter, gradient, velocity, lr=0.1, beta=0.9)
...     print(round(float(velocity[0]), 3), round(float(parameter[0]), 3))
0.1 -0.1
0.19 -0.29
0.271 -0.561
>>> for _ in range(200):
...     backend.momentum(parameter, gradient, velocity, lr=0.1, beta=0.9)
>>> round(float(velocity[0]), 6)
1.0

Adam. Whatever the size of the gradient, the first step is the rate, for both moments are corrected
to g and g^2:

>>> for size in (1e-3, 1.0, 1e3):
...     parameter, mean, variance = np.zeros(1), np.zeros(1), np.zeros(1)
...     backend.adam(parameter, np.array([size]), mean, variance, step=1, lr=0.01)
...     print(round(float(parameter[0]), 5))
-0.01
-0.01
-0.01
"""
