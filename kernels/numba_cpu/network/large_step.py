"""The step of a large network: a chain of products that use the threads themselves."""

from numba import carray

from ...catalog import IDENTITY, SLOPES
from .. import gemm
from ..activation_rows import forward, slope_gradient
from ..codegen.inlined import register_jitable
from ..codegen.jit import entry, kernel
from ..codegen.vectors import address, advance
from .plan import (
    ACTIVATION,
    ALPHA,
    ALPHAS,
    BIAS,
    CLIP_NORM,
    COLUMNS,
    DY,
    FAN_IN,
    FAN_OUT,
    SIZE,
    WEIGHT,
    WORKSPACE,
    WORKSPACE_SIZE,
    Y,
    Z,
    loss_part,
    matrix,
    vector,
)
from .update import clipped_update, count_step, finish_all


@register_jitable
def _products(memory, layers, plan, x, n, batch):
    """The products of layer n: forward, of its weights' gradient, and of its input's."""
    layer, workspace, size = layers[n], advance(memory, plan[WORKSPACE]), plan[WORKSPACE_SIZE]
    fan_in, fan_out, activation_id = layer[FAN_IN], layer[FAN_OUT], layer[ACTIVATION]
    fused = activation_id if layer[Z] == layer[Y] else IDENTITY
    gradients, before = plan[SIZE], layers[max(n - 1, 0)]
    weight = matrix(memory, layer[WEIGHT], fan_in, fan_out)
    bias = vector(memory, layer[BIAS], fan_out)
    dweight = matrix(memory, gradients + layer[WEIGHT], fan_in, fan_out)
    dbias = vector(memory, gradients + layer[BIAS], fan_out)
    alpha = vector(memory, layer[ALPHA], layer[ALPHAS])
    z = matrix(memory, layer[Z], batch, fan_out)
    dy = matrix(memory, layer[DY], batch, fan_out)
    inputs = carray(x if n == 0 else advance(memory, before[Y]), (batch, fan_in))
    dx = matrix(memory, before[DY], batch, fan_in)
    return (
        gemm.forward_product(inputs, weight, bias, fused, alpha, z, workspace, size),
        gemm.weight_product(dy, inputs, z, activation_id, alpha, dweight, dbias, workspace, size),
        gemm.input_product(dy, weight, z, activation_id, alpha, dx, workspace, size),
    )


@entry
def workspace_size(elements, layers, plan, batch):
    """Elements of workspace for the products of a large network; `elements` sets their dtype."""
    memory, most = address(elements), 0
    for n in range(len(layers)):
        for each in _products(memory, layers, plan, memory, n, batch):
            most = max(most, gemm.workspace_size(each))
    return most


@kernel
def large_forward(memory, layers, plan, x, batch):
    for n in range(len(layers)):
        layer = layers[n]
        gemm.compute(_products(memory, layers, plan, x, n, batch)[0])
        if layer[Z] != layer[Y]:
            z = matrix(memory, layer[Z], batch, layer[FAN_OUT])
            y = matrix(memory, layer[Y], batch, layer[FAN_OUT])
            forward(layer[ACTIVATION], z, vector(memory, layer[ALPHA], layer[ALPHAS]), y)


@kernel
def large_step(memory, table, count, plan, settings, x, labels, batch):
    layers, gradients = carray(table, (count, COLUMNS)), plan[SIZE]
    large_forward(memory, layers, plan, x, batch)
    loss = loss_part(memory, table, count, plan, settings, labels, 0, batch, batch)
    for n in range(count - 1, -1, -1):
        layer = layers[n]
        if layer[ACTIVATION] == SLOPES:
            z = matrix(memory, layer[Z], batch, layer[FAN_OUT])
            dy = matrix(memory, layer[DY], batch, layer[FAN_OUT])
            slope_gradient(dy, z, vector(memory, gradients + layer[ALPHA], layer[ALPHAS]))
        _, of_weights, of_input = _products(memory, layers, plan, x, n, batch)
        gemm.compute(of_weights)
        if n > 0:
            gemm.compute(of_input)
    count_step(plan, settings)
    finish_all(memory, plan, settings)
    if settings[CLIP_NORM] > 0:
        clipped_update(memory, plan, settings)
    return loss
