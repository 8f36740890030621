"""Recurrent layers as PyTorch has them: torch.nn.RNN, LSTM (oneDNN's on the CPU) and GRU.

Sequences and parameters lie beforehand as these take them, (steps, batch, features) and (gates,
features). The forward pass leaves what the backward pass reads, as ours does; the backward pass is
that of autograd alone, of a forward pass that was taken before.

Not compared are sequences of several lengths, which PyTorch has to pack and to unpack again; and
reading from the end, which it does only beside reading from the beginning.
"""

import numpy as np

from .given import cell_of, recurrent_bias


def bound(operation, inputs, device):
    """(call, results) of a layer of torch.nn with these inputs.

    Raises NotImplementedError where they have lengths.
    """
    import torch

    if "lengths" in inputs:
        raise NotImplementedError(f"sequences of {operation} are packed by PyTorch")
    cell, x = cell_of(operation), inputs["x"]
    units = len(inputs["recurrent"])
    layer = getattr(torch.nn, cell.upper())(x.shape[2], units).to(device)
    for parameter, array in zip(layer.parameters(), _parameters(cell, inputs), strict=True):
        parameter.data.copy_(torch.tensor(array))
    layer.bias_hh_l0.requires_grad_(cell == "gru")  # the two others' are one, as ours
    x = _by_steps(x, device).requires_grad_()
    first = [
        torch.zeros(1, x.shape[1], units, device=device, requires_grad=True)
        for _ in range(2 if cell == "lstm" else 1)
    ]

    def forward():
        with torch.enable_grad():
            return layer(x, tuple(first) if cell == "lstm" else first[0])

    def states():
        y, last = forward()
        last = last if cell == "lstm" else (last,)
        return _host(y).swapaxes(0, 1), *(_host(state)[0] for state in last)

    if operation.name.endswith("forward"):
        return forward, states
    (y, _), dy = forward(), _by_steps(inputs["dy"], device)
    sought = x, *(p for p in layer.parameters() if p.requires_grad), *first

    def backward():
        return torch.autograd.grad(y, sought, dy, retain_graph=True)

    def gradients():
        dx, weight, matrix, bias, *others = map(_host, backward())
        if cell == "gru":
            bias = np.concatenate([bias, others.pop(0)[2 * units :]])
        return dx.swapaxes(0, 1), weight.T, matrix.T, bias, *(array[0] for array in others)

    return backward, gradients


def _parameters(cell, inputs):
    """Ours in the order of a layer's: the weights of x and of h, the biases there."""
    weight, matrix, bias = inputs["weight"], inputs["recurrent"], inputs.get("bias")
    bias = recurrent_bias(cell, inputs) if bias is None else bias
    of_x, of_m = np.split(bias, [weight.shape[1]])
    of_h = np.zeros_like(of_x)
    of_h[len(of_h) - len(of_m) :] = of_m
    return weight.T, matrix.T, of_x, of_h


def _by_steps(array, device):
    import torch

    return torch.tensor(np.ascontiguousarray(array.swapaxes(0, 1)), device=device)


def _host(tensor):
    return tensor.detach().cpu().numpy()
