"""How any update rule goes over its arrays: one pass over memory, in place.

A rule is a function of one parameter: (p, gradient, its states..., its scalars...) -> p, or
(p, its states...). What its scalars are, computed once a call in float64, the catalogue says.
"""

import numpy as np
from numba import carray, njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.unsafe.ndarray import to_fixed_tuple

from .. import arguments
from ..catalog import RULES
from .codegen.inlined import register_jitable
from .codegen.jit import INTERNAL, chunk, chunks, named, serial
from .codegen.shortcut import Shortcut, disjoint, read, span, writable, written
from .codegen.symbol import Numbered
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
def _sweep_three(rule, arrays, part, scalars):
    param, grad = arrays[0][part], arrays[1][part]
    first, second, third = arrays[2][part], arrays[3][part], arrays[4][part]
    for i in range(param.size):
        param[i], first[i], second[i], third[i] = rule(
            param[i], grad[i], first[i], second[i], third[i], *scalars
        )


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


@register_jitable
def _arrays_three(memory, size, start, n):
    return *_arrays_two(memory, size, start, n), _at(memory, size, start, n, 4)


_BY_STATES = (
    (_sweep_none, _arrays_none),
    (_sweep_one, _arrays_one),
    (_sweep_two, _arrays_two),
    (_sweep_three, _arrays_three),
)


class Update(Shortcut):
    """One rule of the catalogue, from its function of one parameter: a shortcut of its arrays, the
    step where it counts, and its settings.

    rule(p, gradient, states, scalars)      its function of one parameter
    part(memory, size, start, n, scalars)   the update of n parameters of a network
    count(settings, step, scalars)          the scalars of its step, from one pointer to another
    """

    def __init__(self, name, rule):
        self._name, self.rule, declared = name, rule, RULES[name]
        sweep, arrays_of = _BY_STATES[len(declared.states)]
        scalars_of = register_jitable(declared.scalars)
        settings = declared.settings.values()
        low, high = (tuple(float(getattr(s, end)) for s in settings) for end in ("low", "high"))
        given, needed = len(low), len(declared.scalars(1, *low))

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

        def count(settings, step, scalars):
            found = scalars_of(step, *to_fixed_tuple(carray(settings, (given,)), given))
            for k in range(needed):
                carray(scalars, (needed,))[k] = found[k]

        def part(memory, size, start, n, scalars):
            arrays = arrays_of(memory, size, start, n)
            numbers = _reals(arrays[0], to_fixed_tuple(carray(scalars, (needed,)), needed))
            sweep(rule, arrays, slice(0, n), numbers)

        run = register_jitable(named(run, name))
        self.part, self.count = named(part, name), named(count, name)
        arrays = written(1), read(1), *[written(1)] * len(declared.states)
        numbers = [types.float64] * (declared.counts + given)
        super().__init__((*arrays, *numbers), _spelt_out(name, declared, run))

    def apply(self, *given):
        """Updates what is given, once every argument has passed its check."""
        try:  # self.accepts(*given), which would take a small update a fifth longer
            if self._call(*given):
                return
        except TypeError:
            pass
        declared = RULES[self._name]
        (param, grad), first = given[:2], 2 + len(declared.states)
        last = first + declared.counts
        states = dict(zip(declared.states, given[2:first], strict=True))
        arguments.updated(param, grad, states, np.ndarray)
        settings = zip(declared.settings.items(), given[last:], strict=True)
        numbers = [arguments.number(key, value, allowed) for (key, allowed), value in settings]
        self.ready(param.dtype)
        self(*(array.reshape(-1) for array in given[:first]), *given[first:last], *numbers)


def _spelt_out(name, declared, run):
    """run(arrays, step, settings) as a function of as many arguments: Numba is slow to tell the
    types of a call's *arguments. It counts as part of this file, where Numba's cache looks for it.
    Behind it no array counts its references, which its caller holds: sgd of 1,000 parameters takes
    some 30 ns less.
    """
    given, settings = ["param", "grad", *declared.states], ", ".join(declared.settings)
    arrays = ", ".join(f"writable({array})" for array in given)
    step, counted = ("step", "step, ") if declared.counts else ("1", "")
    text = f"def {name}({', '.join(given)}, {counted}{settings}):\n"
    text += f"    return run(({arrays}), {step}, ({settings},))\n"
    names = {"__name__": __name__, "run": run, "writable": writable}
    exec(compile(text, __file__, "exec"), names)
    return names[name]


_UPDATES = {}  # by id


def update_rule(name):
    """Decorates a rule's function of one parameter, which becomes an Update."""

    def decorate(rule):
        _UPDATES[RULES[name].id] = update = Update(name, register_jitable(rule))
        return update

    return decorate


# For a network, by the rule's id:
# part(memory, rule, size, start, n, scalars)   the update of n parameters
# count(settings, rule, step, scalars)          the scalars of a step, from one pointer to another
_N, _REALS = types.intp, types.CPointer(types.float64)


def _by_rule(name, signature):
    functions = {number: getattr(update, name) for number, update in _UPDATES.items()}
    return Numbered(name, signature, functions)


def numbered():
    """The rules' `part` and `count` by their ids."""
    return (
        _by_rule("part", lambda p: types.void(p, _N, _N, _N, _REALS)),
        _by_rule("count", lambda p: types.void(p, _N, p)),
    )
