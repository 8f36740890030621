"""The study's networks in other libraries, with the same first weights: what peers.py trains.

    name                             of the library
    offers(setting)                  whether it has the setting
    Library(setting, first, batch)   first: the weight and bias of every layer
    epoch(x, labels)                 its steps, batch by batch in this order
    chances(x)                       the probabilities of the classes

Everything is float32, on one thread.
"""

import numpy as np

from . import grid

SOLVERS = {  # arguments of MLPClassifier by rule
    "sgd": {"solver": "sgd", "momentum": 0.0},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd", "nesterovs_momentum": True},
    "adam": {"solver": "adam"},
}
RULES = {  # of torch.optim
    "sgd": ("SGD", {"fused": True}),
    "momentum": ("SGD", {"fused": True}),
    "nesterov": ("SGD", {"nesterov": True, "fused": True}),
    "adagrad": ("Adagrad", {"eps": 1e-8, "fused": True}),
    "rmsprop": ("RMSprop", {"alpha": 0.9, "eps": 1e-8}),
    "adam": ("Adam", {"fused": True}),
    "adamw": ("AdamW", {"fused": True}),
}
NEVER = -1e4  # a logit: its probability is 0


def _rule(setting):
    return grid.METHODS[setting.method].rule


def _is_plain(setting):
    return setting.activation == "relu" and setting.regularisation == "none"


class ScikitLearn:
    """MLPClassifier. Of two classes it has one logistic output, which takes half our step, and
    draws weights and biases from U(-l, l) of Glorot and Bengio; so it is given our weights, and a
    third class that no row has: its bias takes its share of the softmax to 0.
    """

    name = "scikit-learn"

    @staticmethod
    def offers(setting):
        return _is_plain(setting) and _rule(setting) in SOLVERS

    def __init__(self, setting, first, batch):
        from sklearn.neural_network import MLPClassifier

        weight, bias = first[-1]
        self.classes = len(bias)
        if self.classes == 2:
            weight = np.column_stack([weight, np.zeros_like(weight[:, :1])])
            first = [*first[:-1], (weight, np.append(bias, np.float32(NEVER)))]
        layers = iter(first)

        class Begun(MLPClassifier):
            def _init_coef(self, fan_in, fan_out, dtype):
                return tuple(array.astype(dtype) for array in next(layers))

        beta = {} if setting.beta is None else {"momentum": setting.beta}
        self.network = Begun(
            setting.hidden,
            alpha=0.0,
            batch_size=batch,
            learning_rate_init=setting.rate,
            shuffle=False,
            **{**SOLVERS[_rule(setting)], **beta},
        )

    def epoch(self, x, labels):
        classes = np.arange(max(self.classes, 3))
        self.network.partial_fit(x, labels, classes=classes)

    def chances(self, x):
        return self.network.predict_proba(x)[:, : self.classes]


class PyTorch:
    """torch.nn and torch.optim, fused where PyTorch has that."""

    name = "PyTorch"

    @staticmethod
    def offers(setting):
        return _is_plain(setting) and _rule(setting) in RULES

    def __init__(self, setting, first, batch):
        import torch

        self.torch, self.batch, layers = torch, batch, []
        torch.set_num_threads(1)
        for weight, bias in first:
            layer = torch.nn.Linear(*weight.shape)
            layer.weight.data, layer.bias.data = torch.tensor(weight.T.copy()), torch.tensor(bias)
            layers += [layer, torch.nn.ReLU()]
        self.network = torch.nn.Sequential(*layers[:-1])
        name, options = RULES[_rule(setting)]
        beta = {} if setting.beta is None else {"momentum": setting.beta}
        parameters = self.network.parameters()
        self.rule = getattr(torch.optim, name)(parameters, lr=setting.rate, **options, **beta)

    def epoch(self, x, labels):
        torch = self.torch
        split = [torch.from_numpy(a).split(self.batch) for a in (x, labels.astype(np.int64))]
        for rows, of_rows in zip(*split, strict=True):
            self.rule.zero_grad()
            torch.nn.functional.cross_entropy(self.network(rows), of_rows).backward()
            self.rule.step()

    def chances(self, x):
        with self.torch.no_grad():
            logits = self.network(self.torch.from_numpy(x))
            return self.torch.softmax(logits.double(), dim=1).numpy()
