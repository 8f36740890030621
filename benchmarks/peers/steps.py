"""The training step as PyTorch and JAX take it: bind(inputs, lr, device) -> (call, results).

What the step is, and how it is checked, stands in benchmarks/suites/training_step.py. The rate is
not told to the compilers.
"""

import copy
import functools
import math

import numpy as np

from ..suites import workloads
from ..suites.training_step import NETWORKS, of_network, parameters


def grid():
    """(operation, network, batch) of all cells; the network stands where a layer does."""
    for name, layer in NETWORKS.items():
        for batch in workloads.batches(name.partition("-")[0]):
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
    layers = []
    for weight, bias in _pairs(inputs):
        layer = torch.nn.Linear(*weight.shape, device=device)
        layer.weight.data.copy_(torch.tensor(weight.T))
        layer.bias.data.copy_(torch.tensor(bias))
        layers += [layer, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
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
    tensors = [*last, *params, *moments[0], *moments[1]]
    return tuple(tensor.detach().cpu().numpy().T for tensor in tensors)


def compiled(inputs, lr, device="cpu"):
    """(call, results) of forward, torch.func's gradient and the update in one torch.compile."""
    import torch

    torch.set_grad_enabled(True)  # as eager mode, which is called in turn, needs it
    torch.compiler.reset()

    def loss_of(params, x, labels):
        for k in range(0, len(params), 2):
            x = torch.addmm(params[k + 1], x, params[k])
            x = torch.relu(x) if k < len(params) - 2 else x
        return torch.nn.functional.cross_entropy(x, labels)

    @functools.partial(torch.compile, dynamic=False, fullgraph=True)
    def step(params, means, variances, count, rate, x, labels):
        grads, loss = torch.func.grad_and_value(loss_of)(params, x, labels)
        first = -torch.expm1(count * math.log(0.9))
        second = -torch.expm1(count * math.log(0.999))
        for p, m, v, g in zip(params, means, variances, grads, strict=True):
            m.mul_(0.9).add_(g, alpha=1 - 0.9)
            v.mul_(0.999).add_(g * g, alpha=1 - 0.999)
            p.sub_(rate * (m / first) / (torch.sqrt(v / second) + 1e-8))
        count.add_(1)
        return loss

    params = [torch.tensor(array, device=device) for pair in _pairs(inputs) for array in pair]
    means, variances = ([torch.zeros_like(p) for p in params] for _ in range(2))
    count, rate = torch.tensor(1.0, device=device), torch.tensor(lr, device=device)
    x = torch.tensor(inputs["x"], device=device)
    labels = torch.tensor(inputs["labels"].astype(np.int64), device=device)
    last = []

    def call():
        last[:] = (step(params, means, variances, count, rate, x, labels),)

    return call, lambda: tuple(t.cpu().numpy() for t in (*last, *params, *means, *variances))


def jitted(inputs, lr, device="cpu"):
    """(call, results) of one jax.jit of the whole step, parameters and moments donated."""
    import jax
    import jax.numpy as jnp

    from . import jax_peer

    def loss_of(params, x, labels):
        for k in range(0, len(params), 2):
            x = x @ params[k] + params[k + 1]
            x = jax.nn.relu(x) if k < len(params) - 2 else x
        log_p = jax.nn.log_softmax(x)
        return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2, 3))
    def step(params, means, variances, count, rate, x, labels):
        loss, grads = jax.value_and_grad(loss_of)(params, x, labels)
        means = [0.9 * m + (1 - 0.9) * g for m, g in zip(means, grads, strict=True)]
        variances = [0.999 * v + (1 - 0.999) * g * g for v, g in zip(variances, grads, strict=True)]
        first, second = -jnp.expm1(count * math.log(0.9)), -jnp.expm1(count * math.log(0.999))
        params = [
            p - rate * (m / first) / (jnp.sqrt(v / second) + 1e-8)
            for p, m, v in zip(params, means, variances, strict=True)
        ]
        return params, means, variances, count + 1, loss

    place = jax.devices(device)[0]
    put = functools.partial(jax.device_put, device=place)
    params = [put(np.array(array)) for pair in _pairs(inputs) for array in pair]
    state = [params, *([jnp.zeros_like(p) for p in params] for _ in range(2)), put(np.float32(1))]
    given = put(np.float32(lr)), put(np.array(inputs["x"])), put(np.array(inputs["labels"]))
    last = []

    def call():
        *state[:], loss = step(*state, *given)
        last[:] = (loss,)
        jax_peer.finish(last, device)

    return call, lambda: tuple(map(np.array, (*last, *state[0], *state[1], *state[2])))


def _pairs(inputs):
    """(weight, bias) of every layer."""
    arrays = [inputs[name] for name in parameters(inputs)]
    return list(zip(arrays[::2], arrays[1::2], strict=True))
