"""The whole training step of a network as an operation, and the check of it.

Adam, softmax cross-entropy, relu. The step that is checked starts from moments of zero and has the
rate RATE. Its loss and its gradients must be the reference's to TOLERANCE, relative to the largest
number of each array; what the moments and the parameters may differ by follows. A bound that is
derived through all layers allows anything for the largest network: Adam's first step is lr sign(g),
also where g is lost in rounding; through ten normalised layers it grows above 1e50. The steps that
are timed have a rate of 0: the network stays what it is, however often the step is repeated.

Deep networks have ten hidden layers of batch norm, relu, dropout and skips. Their masks are the
suite's, the same on every backend, so ours are checked and timed with them. Other libraries draw
others: they are checked without, `unmasked`, and timed with masks of their own.
"""

import dataclasses
import functools
import itertools

import numpy as np

import reference
from reference import Case, Operation, Result, blocks, network, network_spec, spec
from reference.bounds import Bound, unit_roundoff

from . import suite, workloads

NAME = "network_step"
RATE = 1e-3
TOLERANCE = 1e-4  # in float32, 1700 unit roundoffs; in float64 as many
# Unit roundoffs of a layer's root mean square: six times the largest error seen, and that of ten
# normalised layers.
KINK, DEEP_KINK = 256, 1024
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # Adam's defaults

# By name: the workload and its layer sizes; 128x10 are ten layers of 128.
PLAIN = ["moons-2-32-16-2", "digits-64-128-64-32-10", "mnist-784-512-512-10"]
DEEP = ["digits-64-128x10-10", "digits-64-512x10-10"]
NETWORKS = {name: Case(name, {}, vary=False) for name in (*PLAIN, *DEEP)}
OPTIONS = {"normalization": "batch_norm", "dropout": 0.1, "residual": True}  # of the deep ones
DEEP_BATCHES = (32, 128)


def sizes(name):
    """The layer sizes of a network, from its name."""
    found = []
    for part in name.split("-")[1:]:
        units, _, layers = part.partition("x")
        found += [int(units)] * int(layers or 1)
    return tuple(found)


def batches(layer):
    """The batch sizes of one of the NETWORKS, ascending."""
    name = layer.name
    return DEEP_BATCHES if name in DEEP else workloads.batches(name.partition("-")[0])


def of_network(name):
    """The step of one of the NETWORKS, by its name."""
    rows = functools.partial(workloads.training, name.partition("-")[0])
    return operation(rows, sizes(name), OPTIONS if name in DEEP else {})


def operation(rows, sizes, options=None):
    """The specification: inputs x, labels, parameters and options; results the loss and `names`.

    rows() gives all x and labels that there are; of the first of them a batch is chosen. options:
    none, or those of a deep network.
    """
    options = options or {}

    def sample(rng, case):
        batch, dtype = case.sizes["batch"], case.dtype
        x, labels = rows()
        names = ("relu",) * (len(sizes) - 2) + ("identity",)
        seed = int(rng.integers(1 << 31))
        initial = network.initial(sizes, names, dtype, seed, bool(options))
        if options:
            given = {"x": x[:batch].astype(dtype), "labels": labels[:batch], **initial, **options}
            return _clear_units(given)
        chosen = _clear_rows(x[: 2 * batch + 16].astype(dtype), list(initial.values()))
        chosen = np.resize(chosen, batch)  # of a full batch a few rows stand twice
        return {"x": x[chosen].astype(dtype), "labels": labels[chosen], **initial}

    def work(count):
        return lambda batch, **_: count(
            reference.network.create(sizes, batch=batch, lr=RATE, **options), batch
        )

    hidden, last = ("weight", "gamma", "beta") if options else ("weight", "bias"), len(sizes) - 2
    parts = [f"layer{n}.{part}" for n in range(last) for part in hidden]
    of_layers = names([*parts, f"layer{last}.weight", f"layer{last}.bias"])
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


def _clear_units(inputs):
    """The inputs with betas by which every hidden unit keeps as far from its kink, in all rows.

    What batch norm gives a unit depends on every row, so no row can be left out of it; its beta
    alone is moved, by a few times that distance. With masks and without.
    """
    wide, within = spec.upcast(inputs), DEEP_KINK * unit_roundoff(inputs["x"].dtype)
    ways = [made(reference, given, RATE) for given in (wide, wide | {"dropout": 0.0})]
    given = [wide["x"]] * len(ways)
    for layer in range(len(ways[0].sizes) - 2):
        name, found = f"layer{layer}.beta", list(zip(ways, given, strict=True))
        n = np.concatenate([blocks.forward(w._block(layer), h, True).n for w, h in found])
        for count in itertools.count(1):  # to and fro, ever farther
            near = (np.abs(n) <= within).any(axis=0)
            if not near.any():
                break
            shift = np.where(near, within * count * (-1) ** count, 0)
            inputs[name] += shift.astype(inputs[name].dtype)
            n += shift
        for way in ways:
            way.parameters[name][...] = inputs[name]
        given = [blocks.forward(way._block(layer), h, True).y for way, h in found]
    return inputs


def made(module, inputs, lr):
    """The module's network with the parameters of the inputs."""
    weights = [inputs[name] for name in parameters(inputs) if name.endswith("weight")]
    sizes = [len(weights[0]), *(weight.shape[1] for weight in weights)]
    dtype = inputs["x"].dtype.name
    options = {name: inputs[name] for name in OPTIONS if name in inputs}
    found = module.network.create(sizes, batch=len(inputs["x"]), lr=lr, dtype=dtype, **options)
    for name in parameters(inputs):
        found.parameters[name][...] = module.asarray(inputs[name])
    return found


def parameters(inputs):
    """The names of the parameters among the inputs."""
    return [name for name in inputs if name.startswith("layer")]


def names(inputs):
    """The names of all results but the loss: parameters, means, variances, and what batch norm lets
    run along.
    """
    of_all = parameters(inputs)
    normalized = [name.removesuffix("gamma") for name in of_all if name.endswith("gamma")]
    return [
        *(f"{name}{state}" for state in ("", ".mean", ".variance") for name in of_all),
        *(f"{layer}running_{what}" for layer in normalized for what in ("mean", "variance")),
    ]


def unmasked(operation, inputs):
    """The operation and its inputs without dropout's masks, for who draws others than ours."""
    if not inputs.get("dropout"):
        return operation, inputs
    anew = dataclasses.replace(operation, function=_step, error_bound=_bounds)
    return anew, inputs | {"dropout": 0.0}


def _step(**inputs):
    made_here = made(reference, inputs, RATE)
    loss, state = made_here.step(inputs["x"], inputs["labels"]), made_here.state()
    return np.asarray(loss), *(state[name] for name in names(inputs))


def _bounds(inputs, dtype):
    """Of all results, when the gradients g are known to d = tolerance max|g|.

    Adam's first step is RATE f(g), f(g) = g / (|g| + eps), which is odd and rises ever slower: it
    can be off by f(|g|) - f(|g| - d), where the sign is lost by nearly 2. m = (1 - beta1) g and
    v = (1 - beta2) g^2; fewer than 16 roundings lie between g and f(g), 4 in the parameter. What
    runs along is a sum of columns: it is known as the gradients are.
    """
    u = unit_roundoff(dtype)
    tolerance = TOLERANCE * u / unit_roundoff(np.float32)
    loss, *arrays = _step(**inputs)
    count = len(parameters(inputs))
    params, means, running = arrays[:count], arrays[count : 2 * count], arrays[3 * count :]
    of_params, of_means, of_variances = [], [], []
    for param, mean in zip(params, means, strict=True):
        g = np.abs(mean) / (1 - BETA1)
        d = tolerance * g.max()
        moved = _first_change(g) - _first_change(g - d)
        of_params.append(RATE * (moved + 16 * u) + 4 * u * np.abs(param))
        of_means.append(np.full_like(g, (1 - BETA1) * d))
        of_variances.append((1 - BETA2) * (2 * g + d) * d)
    of_running = [np.full_like(array, tolerance * np.abs(array).max()) for array in running]
    of_loss = tolerance * max(1.0, abs(loss))
    return tuple(map(Bound.of, (of_loss, *of_params, *of_means, *of_variances, *of_running)))


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
