"""Who is compared. A contender prepares a call of an operation, once its answer has been checked.

prepare(operation, inputs) returns a function without arguments that runs the operation once. It
raises suite.Wrong where the answer differs from the float64 oracle's and NotImplementedError where
the contender has no such operation. Our kernels are held to the specification's error bound; to
what other libraries are is told in answers.py.

A library that multiplies float32 matrices in less, as in TF32, is not compared at all: it would be
unfairly fast.
"""

import dataclasses
import functools
import importlib.util
import shutil
from collections.abc import Callable

import numpy as np

from reference import spec
from reference.bounds import product_bound

from ..suites import owned, suite, training_step
from . import answers, jax_peer, steps, torch_peers

DEPTHS = (8, 64, 512, 2048)  # of the products that tell TF32 from float32
INSTALL = ".venv/bin/python -m pip install -e .[peers]"


@dataclasses.dataclass(frozen=True)
class Contender:
    """A column of the table. `trains` is false for one whose weights cannot change.

    wait() returns when all calls are done; on the CPU a call is done when it returns.
    """

    name: str
    prepare: Callable
    trains: bool = True
    wait: Callable = lambda: None


def available(ours, device="cpu", libraries=("torch", "jax")):
    """(these backends, by name, and the libraries that run here; a line for each that cannot)."""
    found, missing = [_ours(name, module) for name, module in ours.items()], []
    for name in libraries:
        try:
            more, absent = {"torch": _torch, "jax": _jax}[name](device)
        except Exception as error:  # of a library that does not start here
            more, absent = [], [f"{name}: {type(error).__name__}: {error}"]
        found, missing = found + more, missing + absent
    return found, missing


def _torch(device):
    names = "torch, torch.compile, oneDNN"
    if not (importlib.util.find_spec("torch") and torch_peers.runs_on(device)):
        return [], [f"{names}: {_absent('PyTorch', device)}"]
    if complaint := shortened(torch_peers.product(device)):
        return [], [f"{names}: {complaint}"]
    wait = torch_peers.wait(device)
    found = [_library("torch", torch_peers.eager, device, steps.eager, wait=wait)]
    if device != "cpu":
        found.append(_library("torch graph", None, device, steps.graphed, wait=wait))
    elif torch_peers.has_onednn():
        found.append(_library("oneDNN", torch_peers.onednn, device, trains=False))
    if device == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        return found, ["torch.compile: no C++ compiler (Debian, Ubuntu: apt install g++)"]
    compiled = _library("torch.compile", torch_peers.compiled, device, steps.compiled, wait=wait)
    return [*found, compiled], []


def _jax(device):
    if not (importlib.util.find_spec("jax") and jax_peer.runs_on(device)):
        return [], [f"jax.jit: {_absent('JAX', device)}"]
    if complaint := shortened(jax_peer.product(device)):
        return [], [f"jax.jit: {complaint}"]
    return [_library("jax.jit", jax_peer.jitted, device, steps.jitted, wait=jax_peer.wait)], []


def shortened(product):
    """What shows that product(a, b) rounds float32 matrices to fewer digits, or None.

    It is the root mean square of the errors, at every depth: see reference/bounds.py.
    """
    rng, dtype = np.random.default_rng(0), np.dtype(np.float32)
    for depth in DEPTHS:
        a, b = (rng.standard_normal(shape, dtype) for shape in ((64, depth), (depth, 64)))
        wide = a.astype(np.float64), b.astype(np.float64)
        bound = product_bound(*wide, dtype)
        if complaint := spec.compare(product(a, b), wide[0] @ wide[1], bound, dtype):
            return f"multiplies float32 in less than float32, {depth} terms deep: {complaint}"
    return None


def _absent(name, device):
    return f"{name} is not installed: {INSTALL}" if device == "cpu" else f"no {name} with CUDA here"


def _ours(name, module):
    def prepare(operation, inputs):
        if operation.name == training_step.NAME:
            return training_step.checked(operation, module, inputs)
        return suite.checked(operation, module, inputs)

    return Contender(name, prepare, wait=module.synchronize)


def _library(name, bind, device, bind_step=None, **more):
    """A contender from functions that return (call, results).

    bind(operation, inputs, device) is for single operations, bind_step(inputs, lr, device) for the
    training step; a contender may have only one of them. A step that drops is compared without
    masks, which each library draws for itself. On a GPU every step is waited for, because
    ours returns its loss: no contender runs ahead of the GPU with its next step.
    """

    def prepare(operation, inputs):
        is_step = operation.name == training_step.NAME
        if not (bind_step if is_step else bind):
            raise NotImplementedError(f"{name} has no {operation}")
        compared, same = operation, inputs
        if is_step:
            compared, same = training_step.unmasked(operation, inputs)
            if compared is not operation:
                compared = remembered(compared, same)
            call, results = bind_step(same, training_step.RATE, device)
        else:
            call, results = bind(operation, inputs, device)
        call()
        complaint = answers.disagreement(compared, same, results())
        if complaint:
            raise suite.Wrong(complaint)
        if is_step:
            call, _ = bind_step(inputs, 0.0, device)
            call()
            return call if device == "cpu" else _one_after_the_other(call, more["wait"])
        return call

    return Contender(name, prepare, **more)


def _one_after_the_other(call, wait):
    """The call and the wait for all that it has queued."""

    def both():
        call()
        wait()

    return both


def remembered(operation, inputs):
    """The operation with its float64 results and error bounds on these inputs kept.

    They take longer than many calls and every contender is compared with them.
    """
    with owned.one_blas_thread(), np.errstate(over="ignore"):  # of bounds
        expected = operation.oracle(inputs)
        bounds = operation.bounds(inputs)
    owned.settle()

    @functools.wraps(operation.function)
    def function(**wide):
        returned = []
        for result, value in zip(operation.results, expected, strict=True):
            if result.updates:
                result.among(wide)[...] = value
            else:
                returned.append(value)
        return tuple(returned) or None

    return dataclasses.replace(operation, function=function, error_bound=lambda *_: bounds)
