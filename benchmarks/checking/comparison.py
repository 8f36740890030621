"""One call of an operation on a backend, and what is wrong with it: what tests, suites and `check`
share.
"""

import numpy as np

from reference.spec import floating, with_arrays


def as_tuple(results):
    return results if isinstance(results, tuple) else (results,)


def on_device(backend, inputs):
    """The inputs as the backend wants them; arrays are copies."""
    return with_arrays(lambda array: backend.asarray(array.copy()), inputs)


def poisoned(backend, results):
    """Output arrays full of NaN, or of another value, so that an element never written shows."""
    wrong = (np.full_like(r, np.nan) if r.dtype.kind == "f" else ~r for r in results)
    return tuple(map(backend.asarray, wrong))


def empty_results(operation, sample):
    """Zeros by the names of outputs, as they are to be given for what it returns."""
    pairs = zip(operation.results, operation.oracle(sample), strict=True)
    dtype = floating(sample)
    zeros = [np.zeros(a.shape, r.dtype or dtype) for r, a in pairs if not r.updates]
    names = [f"out[{k}]" for k in range(len(zeros))] if len(zeros) > 1 else ["out"]
    return dict(zip(names, zeros, strict=False))


def call(backend, operation, inputs, out=None):
    """(what was returned, the results as host arrays, the arguments) of a call on copies.

    out: arrays for the results; the name of an argument in the place of one stands for its array.
    """
    arguments, given = on_device(backend, inputs), {}
    if out is not None:
        out = tuple(arguments[each] if isinstance(each, str) else each for each in out)
        given["out"] = out if len(out) > 1 else out[0]
    with np.errstate(all="ignore"):
        returned = getattr(backend, operation.name)(**arguments, **given)
    backend.synchronize()
    results = tuple(backend.to_host(r) for r in operation.collect(arguments, returned))
    return returned, results, arguments


def complaint(backend, operation, inputs, *, repeats=True):
    """What a backend's call on these inputs does not keep of all that the operation promises, or
    None: results within their bounds, inputs as they were, the same once more in arrays given as
    `out`, which are returned.

    repeats: whether the same is bit for bit the same; else it is within the bounds again.
    """
    returned, results, arguments = call(backend, operation, inputs)
    if found := operation.disagreement(inputs, results):
        return found
    for name, value in inputs.items():
        for before, after in zip(as_tuple(value), as_tuple(arguments[name]), strict=True):
            untouched = isinstance(before, np.ndarray) and name not in operation.in_place
            if untouched and not _same(before, backend.to_host(after)):
                return f"{operation}: {name} was changed"
    if not operation.returns:
        return None
    out = poisoned(backend, map(backend.to_host, as_tuple(returned)))
    returned, again, _ = call(backend, operation, inputs, out)
    if any(got is not given for given, got in zip(out, as_tuple(returned), strict=True)):
        return f"{operation} must return the arrays given as out"
    if all(map(_same, results, again)):
        return None
    return _otherwise(operation, results, again, "with out=") if repeats else (
        operation.disagreement(inputs, again)
    )  # fmt: skip


def complaint_in_place(backend, operation, inputs, output, argument):
    """The same where the array of an argument is given for one of the outputs."""
    zeros = empty_results(operation, inputs)
    arrays = dict(zip(zeros, poisoned(backend, zeros.values()), strict=True))
    _, results, _ = call(backend, operation, inputs, tuple((arrays | {output: argument}).values()))
    if found := operation.disagreement(inputs, results):
        return f"{found}, where {output} is {argument}"
    return None


def _same(before, after):
    """Whether dtype, shape and every element are the same, NaN meeting NaN."""
    if (before.dtype, before.shape) != (after.dtype, after.shape):
        return False
    return np.array_equal(before, after, equal_nan=before.dtype.kind == "f")


def _otherwise(operation, results, again, when):
    """Which result is another one, and where first."""
    for result, first, second in zip(operation.results, results, again, strict=True):
        if not _same(first, second):
            where = np.argwhere(~((first == second) | ((first != first) & (second != second))))
            at = tuple(map(int, where[0])) if len(where) else ()
            return (
                f"{operation} {when}, {result.name}: {len(where)} of {first.size} differ, "
                f"at {at}: {second[at]} instead of {first[at]}"
            )
    return None
