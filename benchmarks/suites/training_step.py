"""The whole training step of a network as an operation, and the check of it.

Adam, softmax cross-entropy, relu. The step that is checked starts from moments of zero and has the
rate RATE. Its loss and its gradients must be the reference's to TOLERANCE, relative to the largest
number of each array; what the moments and the parameters may differ by follows. A bound that is
derived through all layers allows anything for the largest network: Adam's first step is lr sign(g),
also where g is lost in rounding. The steps that are timed have a rate of 0: the network stays what
it is, however often the step is repeated.
"""

import functools

import numpy as np

import reference
from reference import Case, Operation, Result, network, network_spec, spec
from reference.bounds import Bound, unit_roundoff

from . import suite, workloads

NAME = "network_step"
RATE = 1e-3
TOLERANCE = 1e-4  # in float32, 1700 unit roundoffs; in float64 as many
KINK = 256  # unit roundoffs of a layer's root mean square: six times the largest error seen
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # Adam's defaults

# By name: the workload and its layer sizes, such as "moons-2-32-16-2".
NETWORKS = {
    name: Case(name, {}, vary=False)
    for workload in ("moons", "digits", "mnist")
    for name in ["-".join(map(str, (workload, *workloads.SIZES[workload])))]
}


def sizes(name):
    """The layer sizes of a network, from its name."""
    return tuple(map(int, name.split("-")[1:]))


def of_network(name):
    """The step of one of the NETWORKS, by its name."""
    rows = functools.partial(workloads.training, name.partition("-")[0])
    return operation(rows, sizes(name))


def operation(rows, sizes):
    """The specification: inputs x, labels and parameters; results the loss and `names`.

    rows() gives all x and labels that there are; of the first of them a batch is chosen.
    """

    def sample(rng, case):
        batch, dtype = case.sizes["batch"], case.dtype
        x, labels = rows()
        names = ("relu",) * (len(sizes) - 2) + ("identity",)
        seed = int(rng.integers(1 << 31))
        initial = network.initial(sizes, names, dtype, seed)
        chosen = _clear_rows(x[: 2 * batch + 16].astype(dtype), list(initial.values()))
        chosen = np.resize(chosen, batch)  # of a full batch a few rows stand twice
        return {"x": x[chosen].astype(dtype), "labels": labels[chosen], **initial}

    def work(count):
        return lambda batch, **_: count(
            reference.network.create(sizes, batch=batch, lr=RATE), batch
        )

    layers = range(len(sizes) - 1)
    of_layers = names([f"layer{n}.{part}" for n in layers for part in ("weight", "bias")])
    return Operation(
        NAME,
        _step,
        ("batch",),
        sample,
        work(network_spec.flops),
        work(network_spec.elements),
        tuple(map(Result, ("loss", *of_layers))),
        _bounds,
        lambda dtype: iter(()),
        other_bytes=work(network_spec.label_bytes),
    )


def _clear_rows(x, arrays):
    """The numbers of the rows that keep so far from every kink of relu that rounding is no matter.

    On which side of it a sum falls changes a gradient by one row's whole share.
    """
    clear, within = np.ones(len(x), bool), KINK * unit_roundoff(x.dtype)
    for weight, bias in list(zip(arrays[::2], arrays[1::2], strict=True))[:-1]:
        z = x @ weight.astype(np.float64) + bias
        clear &= (np.abs(z) > within * np.sqrt((z**2).mean())).all(axis=1)
        x = np.maximum(z, 0)
    return np.flatnonzero(clear)


def made(module, inputs, lr):
    """The module's network with the parameters of the inputs."""
    weights = [inputs[name] for name in parameters(inputs) if name.endswith("weight")]
    sizes = [len(weights[0]), *(weight.shape[1] for weight in weights)]
    dtype = inputs["x"].dtype.name
    found = module.network.create(sizes, batch=len(inputs["x"]), lr=lr, dtype=dtype)
    for name in parameters(inputs):
        found.parameters[name][...] = module.asarray(inputs[name])
    return found


def parameters(inputs):
    """The names of the parameters among the inputs."""
    return [name for name in inputs if name.startswith("layer")]


def names(inputs):
    """The names of all results but the loss: parameters, means, variances."""
    return [f"{name}{state}" for state in ("", ".mean", ".variance") for name in parameters(inputs)]


def _step(**inputs):
    made_here = made(reference, inputs, RATE)
    loss, state = made_here.step(inputs["x"], inputs["labels"]), made_here.state()
    return np.asarray(loss), *(state[name] for name in names(inputs))


def _bounds(inputs, dtype):
    """Of all results, when the gradients g are known to d = tolerance max|g|.

    Adam's first step is RATE f(g), f(g) = g / (|g| + eps), which is odd and rises ever slower: it
    can be off by f(|g|) - f(|g| - d), where the sign is lost by nearly 2. m = (1 - beta1) g and
    v = (1 - beta2) g^2; fewer than 16 roundings lie between g and f(g), 4 in the parameter.
    """
    u = unit_roundoff(dtype)
    tolerance = TOLERANCE * u / unit_roundoff(np.float32)
    loss, *arrays = _step(**inputs)
    count = len(parameters(inputs))
    params, means = arrays[:count], arrays[count : 2 * count]
    of_params, of_means, of_variances = [], [], []
    for param, mean in zip(params, means, strict=True):
        g = np.abs(mean) / (1 - BETA1)
        d = tolerance * g.max()
        moved = _first_change(g) - _first_change(g - d)
        of_params.append(RATE * (moved + 16 * u) + 4 * u * np.abs(param))
        of_means.append(np.full_like(g, (1 - BETA1) * d))
        of_variances.append((1 - BETA2) * (2 * g + d) * d)
    bounds = tolerance * max(1.0, abs(loss)), *of_params, *of_means, *of_variances
    return tuple(map(Bound.of, bounds))


def _first_change(g):
    """f(g) of Adam's first step."""
    return g / (np.abs(g) + EPS)


def checked(operation, module, inputs):
    """A step of one of our backends, once it agrees with the oracle; raises suite.Wrong."""
    x, labels = module.asarray(inputs["x"]), module.asarray(inputs["labels"])
    trained = made(module, inputs, RATE)
    loss, state = trained.step(x, labels), trained.state()
    results = (spec.floating(inputs).type(loss), *(state[name] for name in names(inputs)))
    complaint = operation.disagreement(inputs, results)
    if complaint:
        raise suite.Wrong(complaint)
    return functools.partial(made(module, inputs, 0.0).step, x, labels)
