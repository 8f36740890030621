"""First calls, Python threads and forks: what a call relies on that an earlier call may have left.

Each case runs in a process of its own, which ends by itself or is ended: a crash or a hang is a
failure here and not of the whole run.
"""

import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from textwrap import dedent

import pytest
from conftest import FAST_NATIVE, SIMULATED
from network_cases import LARGE, NETWORKS, make, put, sample

from kernels.numba_cpu.codegen import threads

ROOT = Path(__file__).resolve().parents[2]
# What the processes share: a call of every function and variant, checked against the oracle.
CALLS = """
import functools, os, sys, threading, time
sys.path[:0] = ["tests"]
import numpy as np
import kernels, reference
from conftest import as_tuple
from network_cases import make, sample
from reference.spec import with_arrays

numba = kernels.load("numba")


def operation(name, dtype="float32", batch=130, units=129):
    found = reference.OPERATIONS[name]
    sizes = {"batch": batch, "fan_in": 40, "fan_out": units}
    given = reference.Case("test", sizes, dtype, vary=False)
    inputs = found.sample(np.random.default_rng(0), given)
    arguments = with_arrays(np.copy, inputs)
    results = found.collect(arguments, getattr(numba, found.name)(**arguments))
    complaint = found.disagreement(inputs, results)
    assert complaint is None, complaint


def network(method, sizes, dtype="float32"):
    given = {"sizes": sizes, "activations": "prelu"}
    x, labels = sample(given, 40, dtype=dtype)
    net = make(numba, given, dtype=dtype, batch=40)
    wide = make(reference, given, batch=40)
    wide.load_state(net.state())
    more = {"step": (labels,), "epoch": (labels, np.arange(40)), "evaluate": (labels,)}
    got, want = (as_tuple(getattr(n, method)(x, *more.get(method, ()))) for n in (net, wide))
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


CASES = {name: functools.partial(operation, name) for name in reference.OPERATIONS}
for sizes in ((20, 17, 4), (20, 200, 180, 4)):
    for method in ("step", "epoch", "predict", "evaluate"):
        CASES[f"{method} {sizes}"] = functools.partial(network, method, sizes)
"""
# In a fork of a process that has launched no thread every call is the first one.
FIRST_CALLS = """
firsts = [str(family[0]) for family in reference.FAMILIES.values()]
firsts += ["activation_backward[prelu]", *(set(CASES) - set(reference.OPERATIONS))]


for name in CASES if EVERY else firsts:
    child = os.fork()
    if not child:
        CASES[name]()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        print(f"{name}: status {status}")
"""
TOGETHER = """
def together(case, **arguments):
    failures, start = [], threading.Barrier(4)

    def call():
        try:
            start.wait()
            case(**arguments)
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures
"""
FOUR_THREADS = """
others = ("identity", "leaky", "elu]", "selu", "sigmoid", "tanh")  # relu's code is theirs
for name, case in CASES.items():
    for dtype in ("float32", "float64") if not any(o in name for o in others) else ():
        for failure in together(case, dtype=dtype):
            print(f"{name}, {dtype}: {failure}")
"""
# Sizes from which on every function uses threads.
BUSY = """
def busy():
    for name in ("activation_forward[tanh]", "activation_backward[prelu]", "softmax",
                 "softmax_cross_entropy[smoothed]", "softmax_cross_entropy[soft]",
                 "softmax[across rows]", "dense_forward[relu]", "dense_backward[prelu]",
                 "unit_activity", "affine_transform", "elastic_transform"):
        operation(name, batch=1500, units=300)
    for name in ("sgd", "adam", "sparsity", "histogram", "global_norm", "add_l2", "clip_by_value"):
        operation(name, units=5000)
    network("step", (20, 200, 180, 4))
    network("epoch", (64, 128, 64, 10))
"""
FORKS = """
import multiprocessing

busy()


def child():
    busy()
    assert not together(busy)


context = multiprocessing.get_context("fork")
children = [context.Process(target=child) for _ in range(2)]
for process in children:
    process.start()
for process in children:
    process.join()
    print(process.exitcode, end=" ")
busy()
"""


def said(code, timeout=500, **environment):
    """What a process with this code prints, errors included."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(code)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    return done.stdout + (f"status {done.returncode}" if done.returncode else "")


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@forks
@pytest.mark.parametrize(
    "which", ["a family's first", pytest.param("every", marks=pytest.mark.slow)]
)
def test_any_function_may_be_the_first_that_a_process_calls(which):
    assert said(CALLS + f"EVERY = {which == 'every'}" + FIRST_CALLS) == ""


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "prelu"])
@pytest.mark.parametrize("function", ["activation_forward", "activation_backward"])
def test_first_calls_of_activations_compile(tmp_path, function, activation):
    call = f'CASES["{function}[{activation}]"]()'
    assert said(CALLS + call, NUMBA_CACHE_DIR=str(tmp_path)) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *[f"dense_{way}[{name}]" for way in ("forward", "backward") for name in ("relu", "prelu")],
        *["dense_backward[rectifier]", "activation_backward[rectifier]", "softmax", "adam"],
        *["softmax_cross_entropy[hard]", "sparse_categorical_cross_entropy", "sgd", "momentum"],
        *["softmax[across rows]", "softmax_cross_entropy[weighted]"],
        *["nesterov", "adagrad", "rmsprop", "step (20, 17, 4)", "predict (20, 17, 4)"],
        *["step (20, 200, 180, 4)", "predict (20, 200, 180, 4)", "initialize[sparse_normal]"],
        *["sparsity", "connection_sparsity", "unit_activity", "histogram", "global_norm"],
        *["add_l2", "clip_by_value", "clip_by_global_norm", "random_affine", "elastic_transform"],
    ],
)
def test_first_calls_compile(tmp_path, name):
    assert said(CALLS + f'CASES["{name}"]()', NUMBA_CACHE_DIR=str(tmp_path)) == ""


def test_four_threads_may_make_the_first_call():
    assert said(CALLS + TOGETHER + FOUR_THREADS) == ""


@pytest.mark.slow
def test_four_threads_may_make_the_first_call_that_compiles(tmp_path):
    code = CALLS + TOGETHER + FOUR_THREADS
    assert said(code, timeout=1500, NUMBA_CACHE_DIR=str(tmp_path)) == ""


def test_calls_take_turns_where_the_pool_of_threads_demands_it():
    code = CALLS + TOGETHER + BUSY + "busy(); print(together(busy))"
    assert said(code, NUMBA_THREADING_LAYER="workqueue") == "[]\n"


@forks
@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_calls_go_on_after_a_fork(layer):
    """On one thread: a child has none of its parent's, and GNU OpenMP would end it."""
    code = CALLS + TOGETHER + BUSY + FORKS
    assert said(code, timeout=120, NUMBA_THREADING_LAYER=layer) == "0 0 "


# --- one network, several threads ----------------------------------------------------------------


def in_threads(call, count=4):
    """Calls call(number) in so many threads at once; returns what they raised."""
    raised, start = [], threading.Barrier(count)

    def run(number):
        start.wait()
        try:
            call(number)
        except Exception as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@NETWORKS
@pytest.mark.parametrize("fast_backend", FAST_NATIVE, indirect=True)
def test_a_network_infers_in_several_threads_at_once(fast_backend, network):
    """Each on rows of its own, of more than one batch."""
    net = make(fast_backend, network, dtype="float32")

    def inferred(x, labels):
        return fast_backend.to_host(net.predict(x)).tolist(), net.evaluate(x, labels)

    batches = [put(fast_backend, *sample(network, 37, dtype="float32", seed=n)) for n in range(4)]
    expected = [inferred(*batch) for batch in batches]

    def infer(number):
        for _ in range(100):
            assert inferred(*batches[number]) == expected[number]

    assert in_threads(infer) == []


@NETWORKS
def test_inference_leaves_a_step_in_another_thread_alone(network):
    from kernels import numba_cpu

    x, labels = sample(network, 16, dtype="float32")
    alone, beside = (make(numba_cpu, network, dtype="float32", lr=0.0) for _ in range(2))
    loss, done = alone.step(x, labels), threading.Event()

    def step_or_infer(number):
        if number:
            while not done.is_set():
                beside.predict(x)
                beside.evaluate(x, labels)
            return
        try:
            for _ in range(500):
                assert beside.step(x, labels) == loss
        finally:
            done.set()

    assert in_threads(step_or_infer, 2) == []


@pytest.mark.parametrize("fast_backend", [*FAST_NATIVE, SIMULATED[0]], indirect=True)
def test_two_threads_cannot_step_one_network_at_once(fast_backend):
    net = make(fast_backend, LARGE, dtype="float32", batch=300)
    x, labels = put(fast_backend, *sample(LARGE, 300, dtype="float32"))
    taken, refused, deadline = [], [], time.monotonic() + 60

    def steps(number):
        while not refused and time.monotonic() < deadline:
            try:
                net.step(x, labels)
                taken.append(number)
            except RuntimeError as error:
                refused.append(str(error))

    assert in_threads(steps, 2) == []
    assert refused, "the threads never met"
    assert "is being taken in another thread" in refused[0]
    assert int(net.state()["steps"]) == len(taken)
    net.step(x, labels)  # and goes on


@pytest.mark.parametrize("given", [(700, 10, 10), (0, 10, 10), (10**6, 5, 5)])
def test_compiling_leaves_the_garbage_collector_as_it_was(given):
    before = gc.get_threshold()
    try:
        gc.set_threshold(*given)
        with threads.compiling:
            with threads.compiling:
                pass
            meanwhile = gc.get_threshold()[0]
        assert gc.get_threshold() == given
    finally:
        gc.set_threshold(*before)
    assert meanwhile == (max(given[0], 50_000) if given[0] else 0)
