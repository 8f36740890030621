"""How any update rule goes over its arrays: one pass over memory, in place.

A rule is a function of one parameter: (p, gradient, its states..., its scalars...) -> p, or
(p, its states...). What its scalars are, computed once a call in float64, the catalogue says.
"""

import numpy as np
from numba import carray, njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic, overload, register_jitable
from numba.np.unsafe.ndarray import to_fixed_tuple

from .. import arguments
from ..catalog import RULES
from .codegen.jit import INTERNAL, choice, chunk, chunks, named, serial
from .codegen.shortcut import disjoint, read, span, written
from .codegen.vectors import advance


@intrinsic
def _reals(typingctx, array, numbers):
    """The float64 numbers as those of the array's dtype."""
    wanted = types.UniTuple(array.dtype, numbers.count)

    def codegen(context, builder, signature, args):
        values = [
            context.cast(builder, value, numbers.dtype, array.dtype)
            for value in cgutils.unpack_tuple(builder, args[1])
        ]
        return context.make_tuple(builder, wanted, values)

    return wanted(array, numbers), codegen


# Loops over part of a rule's arrays, by the number of its states.


@register_jitable
def _sweep_none(rule, arrays, part, scalars):
    param, grad = arrays[0][part], arrays[1][part]
    for i in range(param.size):
        param[i] = rule(param[i], grad[i], *scalars)


@register_jitable
def _sweep_one(rule, arrays, part, scalars):
    param, grad, first = arrays[0][part], arrays[1][part], arrays[2][part]
    for i in range(param.size):
        param[i], first[i] = rule(param[i], grad[i], first[i], *scalars)


@register_jitable
def _sweep_two(rule, arrays, part, scalars):
    param, grad = arrays[0][part], arrays[1][part]
    first, second = arrays[2][part], arrays[3][part]
    for i in range(param.size):
        param[i], first[i], second[i] = rule(param[i], grad[i], first[i], second[i], *scalars)


@register_jitable
def _fit(arrays):
    """Whether all have the size of the first, and none shares memory with another."""
    for k in range(len(arrays)):
        if arrays[k].size != arrays[0].size:
            return False
        for other in range(k):
            if not disjoint((span(arrays[k]),), (span(arrays[other]),)):
                return False
    return True


# The same arrays of a network, whose gradients and states lie each `size` elements further on.


@register_jitable
def _at(memory, size, start, n, k):
    return carray(advance(memory, k * size + start), (n,))


@register_jitable
def _arrays_none(memory, size, start, n):
    return _at(memory, size, start, n, 0), _at(memory, size, start, n, 1)


@register_jitable
def _arrays_one(memory, size, start, n):
    return *_arrays_none(memory, size, start, n), _at(memory, size, start, n, 2)


@register_jitable
def _arrays_two(memory, size, start, n):
    return *_arrays_one(memory, size, start, n), _at(memory, size, start, n, 3)


_BY_STATES = (_sweep_none, _arrays_none), (_sweep_one, _arrays_one), (_sweep_two, _arrays_two)


class Update:
    """One rule of the catalogue, from its function of one parameter.

    argument_types                              Numba's types of a shortcut's arguments: the arrays,
                                               the step where the rule counts, the settings
    run(arrays, step, settings)                for such a shortcut: False, and nothing changed,
                                               where anything is not as it must be
    scalars(step, settings, scalars)           from one pointer to another, once a step of a network
    part(memory, size, start, n, scalars)      the update of n parameters of a network
    """

    def __init__(self, name, rule):
        declared = RULES[name]
        sweep, arrays_of = _BY_STATES[len(declared.states)]
        scalars_of = register_jitable(declared.scalars)
        settings = declared.settings.values()
        low, high = (tuple(float(getattr(s, end)) for s in settings) for end in ("low", "high"))
        given, needed = len(low), len(declared.scalars(1, *low))
        numbers = [types.float64] * (declared.counts + given)
        self.argument_types = (written(1), read(1), *_states(declared), *numbers)

        def everywhere(arrays, scalars):
            size = arrays[0].size
            if serial(size):
                sweep(rule, arrays, slice(0, size), scalars)
            else:
                for c in prange(chunks(size)):
                    sweep(rule, arrays, chunk(c, size), scalars)

        everywhere = njit(named(everywhere, name), **INTERNAL, fastmath={"contract"}, parallel=True)

        def run(arrays, step, settings):
            fits = _fit(arrays)
            for k in range(given):
                fits = fits and low[k] <= settings[k] and settings[k] < high[k]
            if fits:
                everywhere(arrays, _reals(arrays[0], scalars_of(step, *settings)))
            return fits

        def scalars(step, settings, scalars):
            found = scalars_of(step, *to_fixed_tuple(carray(settings, (given,)), given))
            for k in range(needed):
                carray(scalars, (needed,))[k] = found[k]

        def part(memory, size, start, n, scalars):
            arrays = arrays_of(memory, size, start, n)
            numbers = _reals(arrays[0], to_fixed_tuple(carray(scalars, (needed,)), needed))
            sweep(rule, arrays, slice(0, n), numbers)

        made = (register_jitable(named(function, name)) for function in (run, scalars, part))
        self.run, self.scalars, self.part = made


def _states(declared):
    return [written(1)] * len(declared.states)


_UPDATES = {}  # by id


def update_rule(name):
    """Decorates a rule's function of one parameter."""

    def decorate(rule):
        _UPDATES[RULES[name].id] = Update(name, rule)
        return rule

    return decorate


def argument_types(which):
    """Of the shortcut of the rule with this id."""
    return _UPDATES[which].argument_types


def update(which, arrays, step, settings):
    """Update.run of the rule with this constant id."""


@overload(update, prefer_literal=True)
def _update(which, arrays, step, settings):
    if isinstance(which, types.IntegerLiteral):
        run = _UPDATES[which.literal_value].run
        return lambda which, arrays, step, settings: run(arrays, step, settings)
    return None


def choices():
    """The choices between all rules' `scalars`, and between their `part`s."""
    ids = [rule.id for rule in RULES.values()]
    return (
        choice({number: getattr(update, what) for number, update in _UPDATES.items()}, ids)
        for what in ("scalars", "part")
    )


def checked(call, name, param, grad, *others):
    """Runs a rule's shortcut on these, its own arguments, once each has passed its check."""
    declared = RULES[name]
    first = len(declared.states)
    last = first + declared.counts
    states = dict(zip(declared.states, others[:first], strict=True))
    arguments.updated(param, grad, states, np.ndarray)
    settings = zip(declared.settings.items(), others[last:], strict=True)
    numbers = [arguments.number(key, value, allowed) for (key, allowed), value in settings]
    call.ready(param.dtype)
    arrays = [array.reshape(-1) for array in (param, grad, *states.values())]
    call(*arrays, *others[first:last], *numbers)
