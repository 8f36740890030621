"""The training step as PyTorch and JAX take it: bind(inputs, lr, device) -> (call, results).

What the step is, and how it is checked, stands in benchmarks/suites/training_step.py. The rate is
not told to the compilers. Dropout's masks are the libraries' own: a deep network is checked without
them, at a dropout of 0, and timed with them.
"""

import copy
import functools
import itertools
import math

import numpy as np

from ..suites.training_step import NETWORKS, batches, of_network, parameters

MOMENTUM, EPS = 0.1, 1e-5  # batch norm's


def grid():
    """(operation, network, batch) of all cells; the network stands where a layer does."""
    for name, layer in NETWORKS.items():
        for batch in batches(layer):
            yield of_network(name), layer, batch


def eager(inputs, lr, device="cpu"):
    """(call, results) of torch.nn, autograd and torch.optim.Adam(fused=True)."""
    model, rule, x, labels = _model(inputs, lr, device)
    last = []

    def call():
        rule.zero_grad()
        last[:] = (_trained(model, rule, x, labels),)

    return call, lambda: _torch_results(last, model, rule)


def graphed(inputs, lr, device="cuda"):
    """(call, results) of the same step captured once as a CUDA graph, which a call replays."""
    import torch

    model, rule, x, labels = _model(inputs, lr, device, capturable=True)
    untrained = copy.deepcopy(model.state_dict())
    torch.cuda.synchronize()
    # Once outside of a capture: what allocates the optimizer's state and chooses cuBLAS's kernels.
    with torch.cuda.stream(torch.cuda.Stream()):
        _trained(model, rule, x, labels)
        rule.zero_grad()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    graph.reads = x, labels  # a graph keeps none of its inputs
    with torch.cuda.graph(graph):
        loss = _trained(model, rule, x, labels)
    # Capturing computed nothing: only the step before it is undone.
    model.load_state_dict(untrained)
    for state in rule.state.values():
        for tensor in state.values():
            tensor.zero_()
    return graph.replay, lambda: _torch_results([loss], model, rule)


def _model(inputs, lr, device, **options):
    """(torch's network, its optimizer, x, labels)."""
    import torch

    torch.set_grad_enabled(True)
    names, layers, deep = parameters(inputs), [], "normalization" in inputs

    class Skip(torch.nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    *hidden, last = (inputs[name].shape for name in names if name.endswith("weight"))
    for fan_in, units in hidden:
        block = [torch.nn.Linear(fan_in, units, bias=not deep), torch.nn.ReLU()]
        if deep:
            block.insert(1, torch.nn.BatchNorm1d(units))
            block.append(torch.nn.Dropout(inputs["dropout"]))
        layers += [Skip(*block)] if deep and fan_in == units else block
    model = torch.nn.Sequential(*layers, torch.nn.Linear(*last)).to(device)
    for param, name in zip(model.parameters(), names, strict=True):
        param.data.copy_(torch.tensor(inputs[name].T))
    rule = torch.optim.Adam(model.parameters(), lr, fused=True, **options)
    x = torch.tensor(inputs["x"], device=device)
    return model, rule, x, torch.tensor(inputs["labels"].astype(np.int64), device=device)


def _trained(model, rule, x, labels):
    """The loss of one step."""
    import torch

    loss = torch.nn.functional.cross_entropy(model(x), labels)
    loss.backward()
    rule.step()
    return loss


def _torch_results(last, model, rule):
    params = list(model.parameters())
    moments = [[rule.state[p][key] for p in params] for key in ("exp_avg", "exp_avg_sq")]
    running = [tensor for name, tensor in model.named_buffers() if "running" in name]
    tensors = [*last, *params, *moments[0], *moments[1], *running]
    return tuple(tensor.detach().cpu().numpy().T for tensor in tensors)


def compiled(inputs, lr, device="cpu"):
    """(call, results) of forward, torch.func's gradient and the update in one torch.compile."""
    import torch

    torch.set_grad_enabled(True)  # as eager mode, which is called in turn, needs it
    torch.compiler.reset()

    deep, dropped = "normalization" in inputs, inputs.get("dropout")

    def hidden(x, weight, *shift):
        """A layer's outputs, and what batch norm lets run along."""
        if not deep:
            return torch.relu(torch.addmm(*shift, x, weight)), []
        z, (gamma, beta) = x @ weight, shift
        variance, mean = torch.var_mean(z, 0, correction=0)
        y = torch.relu((z - mean) * torch.rsqrt(variance + EPS) * gamma + beta)
        y = torch.nn.functional.dropout(y, dropped) if dropped else y
        running = [mean, variance * (len(x) / (len(x) - 1))]
        return (x + y if x.shape == y.shape else y), running

    def loss_of(params, x, labels):
        *layers, (weight, bias) = _layers(params, deep)
        found = []
        for layer in layers:
            x, running = hidden(x, *layer)
            found += running
        return torch.nn.functional.cross_entropy(torch.addmm(bias, x, weight), labels), found

    @functools.partial(torch.compile, dynamic=False, fullgraph=True)
    def step(params, means, variances, running, count, rate, x, labels):
        grads, (loss, found) = torch.func.grad_and_value(loss_of, has_aux=True)(params, x, labels)
        for r, batch in zip(running, found, strict=True):
            r.mul_(1 - MOMENTUM).add_(batch, alpha=MOMENTUM)
        first = -torch.expm1(count * math.log(0.9))
        second = -torch.expm1(count * math.log(0.999))
        for p, m, v, g in zip(params, means, variances, grads, strict=True):
            m.mul_(0.9).add_(g, alpha=1 - 0.9)
            v.mul_(0.999).add_(g * g, alpha=1 - 0.999)
            p.sub_(rate * (m / first) / (torch.sqrt(v / second) + 1e-8))
        count.add_(1)
        return loss

    params = [torch.tensor(inputs[name], device=device) for name in parameters(inputs)]
    means, variances = ([torch.zeros_like(p) for p in params] for _ in range(2))
    running = [torch.tensor(array, device=device) for array in _running(inputs)]
    count, rate = torch.tensor(1.0, device=device), torch.tensor(lr, device=device)
    x = torch.tensor(inputs["x"], device=device)
    labels = torch.tensor(inputs["labels"].astype(np.int64), device=device)
    last = []

    def call():
        last[:] = (step(params, means, variances, running, count, rate, x, labels),)

    def results():
        found = *last, *params, *means, *variances, *running
        return tuple(tensor.cpu().numpy() for tensor in found)

    return call, results


def jitted(inputs, lr, device="cpu"):
    """(call, results) of one jax.jit of the whole step, parameters and moments donated."""
    import jax
    import jax.numpy as jnp

    from . import jax_peer

    deep, dropped = "normalization" in inputs, inputs.get("dropout")

    def hidden(key, x, weight, *shift):
        """A layer's outputs, and what batch norm lets run along."""
        if not deep:
            return jax.nn.relu(x @ weight + shift[0]), []
        z, (gamma, beta) = x @ weight, shift
        mean, variance = z.mean(axis=0), z.var(axis=0)
        y = jax.nn.relu((z - mean) * jax.lax.rsqrt(variance + EPS) * gamma + beta)
        if dropped:
            kept = jax.random.bernoulli(key, 1 - dropped, y.shape)
            y = jnp.where(kept, y / (1 - dropped), 0)
        running = [mean, variance * (len(x) / (len(x) - 1))]
        return (x + y if x.shape == y.shape else y), running

    def loss_of(params, key, x, labels):
        *layers, (weight, bias) = _layers(params, deep)
        found = []
        for number, layer in enumerate(layers):
            x, running = hidden(jax.random.fold_in(key, number), x, *layer)
            found += running
        log_p = jax.nn.log_softmax(x @ weight + bias)
        return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean(), found

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2, 3, 4))
    def step(params, means, variances, running, count, rate, x, labels):
        key = jax.random.fold_in(jax.random.key(0), count.astype(jnp.uint32))
        of_loss = jax.value_and_grad(loss_of, has_aux=True)
        (loss, found), grads = of_loss(params, key, x, labels)
        running = [
            (1 - MOMENTUM) * r + MOMENTUM * batch for r, batch in zip(running, found, strict=True)
        ]
        means = [0.9 * m + (1 - 0.9) * g for m, g in zip(means, grads, strict=True)]
        variances = [0.999 * v + (1 - 0.999) * g * g for v, g in zip(variances, grads, strict=True)]
        first, second = -jnp.expm1(count * math.log(0.9)), -jnp.expm1(count * math.log(0.999))
        params = [
            p - rate * (m / first) / (jnp.sqrt(v / second) + 1e-8)
            for p, m, v in zip(params, means, variances, strict=True)
        ]
        return params, means, variances, running, count + 1, loss

    place = jax.devices(device)[0]
    put = functools.partial(jax.device_put, device=place)
    params = [put(np.array(inputs[name])) for name in parameters(inputs)]
    state = [params, *([jnp.zeros_like(p) for p in params] for _ in range(2))]
    state += [list(map(put, _running(inputs))), put(np.float32(1))]
    given = put(np.float32(lr)), put(np.array(inputs["x"])), put(np.array(inputs["labels"]))
    last = []

    def call():
        *state[:], loss = step(*state, *given)
        last[:] = (loss,)
        jax_peer.finish(last, device)

    return call, lambda: tuple(map(np.array, (*last, *itertools.chain(*state[:4]))))


def _layers(params, deep):
    """The parameters of every layer: weight and bias, of a deep network's hidden ones weight, gamma
    and beta.
    """
    parts = 3 if deep else 2
    return [*(params[k : k + parts] for k in range(0, len(params) - 2, parts)), params[-2:]]


def _running(inputs):
    """Batch norm's running mean and variance of every hidden layer, as they are at the start."""
    gammas = [inputs[name] for name in parameters(inputs) if name.endswith("gamma")]
    return [make(gamma) for gamma in gammas for make in (np.zeros_like, np.ones_like)]
