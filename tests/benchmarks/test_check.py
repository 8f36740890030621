"""`check`: what a user's module is told, and the line that replays it."""

import subprocess
import sys
import types

import numpy as np
import pytest
from conftest import user_module
from test_replay import again

import kernels
import reference
from benchmarks import __main__ as command
from benchmarks.checking import cases, check
from benchmarks.suites import suite, workloads

MINE = """
def sgd(param, grad, *, lr=0.01):
    reference.sgd(param, grad, lr=lr)

def momentum(param, grad, velocity, *, lr=0.01, beta=0.9):
    if param.dtype == np.float64:
        raise NotImplementedError("float32 alone")
    reference.momentum(param, grad, velocity, lr=lr, beta=beta)

def add_scaled(x, direction, step_length, *, out=None):
    y = x + step_length * direction
    if out is None:
        return y
    out[:] = x
    out += step_length * direction
    return out

def global_norm(arrays, *, out=None):
    raise OSError("no such luck")
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the command says of the module above."""
    file = user_module(tmp_path_factory.mktemp("user"), MINE)
    names = ("--only", "sgd", "momentum", "adam", "add_scaled", "global_norm")
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks", "check", file, *names],
        cwd=workloads.ROOT,
        capture_output=True,
        text=True,
    )
    return answer.returncode, answer.stdout, file


@pytest.mark.slow
def test_each_row_has_its_verdict(told):
    code, text, _ = told
    lines = [line for line in text.splitlines() if " float" in line and line[0] != " "]
    words = {(line.split()[0], line.split()[1]): line.split()[2] for line in lines}
    assert code == 1
    assert words == {
        ("sgd", "float32"): "passes",
        ("sgd", "float64"): "passes",
        ("momentum", "float32"): "passes",
        ("momentum", "float64"): "missing",
        ("add_scaled", "float32"): "WRONG",  # given its direction as out
        ("add_scaled", "float64"): "WRONG",
        ("global_norm", "float32"): "failed",
        ("global_norm", "float64"): "failed",
    }
    assert "OSError: no such luck" in text
    assert "float32 alone" in text
    assert "missing: adam\n" in text
    assert "3 pass, 4 do not, 1 are not offered" in text


@pytest.mark.slow
def test_the_line_of_what_is_wrong_replays_it(told):
    _, text, file = told
    lines = [line.strip() for line in text.splitlines() if " replay " in line]
    case = "in-place:out=direction float32 mine"
    assert lines[2] == f"python -m benchmarks replay add_scaled {case} --backend {file}"
    code, said = again(lines[2])
    assert code == 1
    assert said.removeprefix("WRONG: ") in text
    assert again(lines[0]) == (1, "failed: OSError: no such luck")


def judged(name, module, dtype="float32", **more):
    whole = kernels.completed(types.SimpleNamespace(__name__="mine", __doc__="", **module))
    return check.judged(whole, name, dtype, **more)


def forgetful(logits, **more):
    """Right where it is asked for new arrays, and not where it is given some."""
    out = more.pop("out", None)
    return reference.softmax(logits, **more) if out is None else out


def spoiling(logits, **settings):
    y = reference.softmax(logits, **settings)
    logits[0] = 0
    return y


def alone(logits, *, axis=-1, out=None):
    """What it is given as out stays as it was."""
    return reference.softmax(logits, axis=axis)


@pytest.mark.parametrize(
    ("softmax", "word", "says"),
    [
        (reference.softmax, check.PASSES, "cases"),
        (forgetful, "WRONG", "wrong; worst at"),
        (spoiling, "WRONG", "logits was changed"),
        (alone, "WRONG", "must return the arrays given as out"),
        (lambda logits: reference.softmax(logits), "failed", "unexpected keyword argument 'out'"),
    ],
    ids=["right", "forgetful", "spoiling", "alone", "no out"],
)
def test_what_is_asked_of_a_function(softmax, word, says):
    verdict = judged("softmax", {"softmax": softmax})
    assert verdict.word == word
    assert says in verdict.says


@pytest.mark.slow
def test_what_hangs_and_what_crashes_costs_its_own_row(tmp_path, capfd):
    source = """
    import os, time

    def sgd(param, grad, *, lr=0.01):
        if param.dtype == np.float32:
            time.sleep(60)
        reference.sgd(param, grad, lr=lr)

    def add_l2(grads, params, l2):
        os._exit(3)
    """
    file = user_module(tmp_path, source)
    assert check.show(file, ["sgd", "add_l2"], limit=10) == 3
    lines = [
        line.split(None, 3) for line in capfd.readouterr().out.splitlines() if " float" in line
    ]
    assert [line[2:] for line in lines if line[0] != "python"] == [
        ["slow", "it took more than 10 s"],
        ["passes", "43 cases"],
        ["failed", "died: 3"],
        ["failed", "died: 3"],
    ]


def test_an_array_that_is_given_twice():
    def add_scaled(x, direction, step_length, *, out=None):
        y = np.empty_like(x) if out is None else out
        y[:] = x  # of which direction may be
        y += x.dtype.type(step_length) * direction
        return y

    verdict = judged("add_scaled", {"add_scaled": add_scaled})
    assert (verdict.word, verdict.case) == ("WRONG", "in-place:out=direction")
    assert "where out is direction" in verdict.says


def test_a_variant_is_not_offered_without_a_parameter_that_is_passed_now_and_then():
    module = types.SimpleNamespace(
        __name__="mine",
        dense_forward=lambda x, weight, bias, activation, *, out=None: None,
        dense_backward=lambda dy, x, weight, saved, activation, *, out=None: None,
    )
    found = {name for (name, _) in check.rows(module)[0]}
    assert {"dense_forward[relu]", "dense_backward[relu]"} <= found
    assert not {"dense_forward[selu]", "dense_backward[selu]"} & found


def test_what_it_refuses_to_do_is_not_offered():
    def sgd(param, grad, *, lr=0.01):
        if param.dtype == np.float64:
            raise NotImplementedError("float32 alone")
        if param.size == 3 * 1025:
            raise NotImplementedError
        reference.sgd(param, grad, lr=lr)

    verdict = judged("sgd", {"sgd": sgd}, "float64")
    assert (verdict.word, verdict.says) == (check.MISSING, "float32 alone")
    verdict = judged("sgd", {"sgd": sgd})
    assert verdict.word == check.PASSES
    assert verdict.says.endswith("not offered: 1 (NotImplementedError)")


def test_a_file_that_cannot_be_used(tmp_path, capsys):
    for source, only, said in (
        ("x = 1", (), "has none of activation_forward"),
        ("1 / 0", (), "cannot be imported: ZeroDivisionError"),
        ("x = 1", ("--only", "sgdd"), "there is no sgdd"),
    ):
        file = user_module(tmp_path, source)
        assert command.main(["check", str(file), *only]) == 2
        assert said in capsys.readouterr().err


def test_every_pair_of_what_may_be_one_array_is_asked_for():
    asked = {
        (name, *asked.name.removeprefix("in-place:").split("="))
        for name, operation in check.OPERATIONS.items()
        for asked in cases.cases(operation, "float32")
        if asked.name.startswith("in-place:")
    }
    found = {(name.partition("[")[0], *pair) for name, *pair in asked}
    assert found == {(name, *pair) for name, pairs in cases.MAY_REPLACE.items() for pair in pairs}


def test_arrays_of_another_library_over_the_same_memory_are_of_the_host():
    shared = types.SimpleNamespace(asarray=np.from_dlpack, to_host=np.from_dlpack)
    assert not suite.transfers(shared)
    assert suite.transfers(types.SimpleNamespace(asarray=np.array, to_host=np.from_dlpack))


@pytest.mark.slow
@pytest.mark.parametrize("only", [(), ("sgd", "softmax", "batch_norm_forward")])
def test_the_reference_is_right(only):
    """In all that is asked of it; some at the workloads' layers too."""
    module = kernels.load("numpy")
    rows, missing = check.rows(module, only)
    assert missing == []
    for row in rows:
        verdict = check.judged(module, *row, everything=bool(only))
        assert verdict.word == check.PASSES, (row, verdict)


pytest_plugins = ["pytester"]


@pytest.mark.slow
def test_the_fixture_in_tests_of_a_users_own(pytester, monkeypatch):
    """Of what is wrong it says the row and how to replay it."""
    pytester.makepyfile(
        mine="""
        import numpy as np
        import reference

        sgd = reference.sgd

        def momentum(param, grad, velocity, *, lr=0.01, beta=0.9):
            reference.momentum(param, grad, velocity, lr=lr, beta=0.5)
        """,
        test_mine="""
        import mine
        import pytest

        @pytest.mark.parametrize("function", ["sgd", "momentum"])
        def test_one(fusebench_check, function):
            fusebench_check(mine, function)
        """,
    )
    monkeypatch.setenv("PYTHONPATH", str(workloads.ROOT))
    result = pytester.runpytest_subprocess("-p", "fusebench_pytest", timeout=120)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["momentum*float32*WRONG*momentum, *instead of*", "*replay momentum shape:*float32 mine*"]
    )
