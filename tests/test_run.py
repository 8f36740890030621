"""run.py: what it says when it cannot go on, and how it chooses CuPy."""

import builtins
import configparser
import ctypes
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlunsplit

import pytest

RUN = Path(__file__).resolve().parents[1] / "run.py"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """run.py as a module, in an empty folder with setup.cfg and pyproject.toml."""
    spec = importlib.util.spec_from_file_location("run", RUN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("setup.cfg", "pyproject.toml"):
        (tmp_path / name).write_bytes(RUN.with_name(name).read_bytes())
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    monkeypatch.setattr(module, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(module, "PYTHON", str(tmp_path / ".venv/bin/python"))
    monkeypatch.setattr(module, "STAMP", str(tmp_path / ".venv/installed"))
    return module


def problem(capsys, run, *arguments):
    """The one line on stderr with which run.py gives up."""
    assert run.main(list(arguments)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_old_python(run):
    run.check_python((3, 11, 0))
    with pytest.raises(run.Problem, match=r"^Python 3.11 or newer is needed, this is 3.9$"):
        run.check_python((3, 9, 2))


def test_old_python_can_read_it():
    """The error needs the file to be read by the Python that it is about."""
    import ast

    ast.parse(RUN.read_text(), feature_version=(3, 7))


def test_no_git_checkout(capsys, run):
    said = problem(capsys, run, "bench")
    assert "is not a git checkout, get it with git clone" in said


def test_no_git(capsys, monkeypatch, run):
    monkeypatch.setenv("PATH", "")
    assert problem(capsys, run, "bench") == (
        "error: git is not installed (Debian, Ubuntu: apt install git)"
    )


def test_no_venv_module(capsys, monkeypatch, run):
    real = builtins.__import__

    def without_ensurepip(name, *more):
        if name == "ensurepip":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without_ensurepip)
    assert problem(capsys, run, "test") == (
        "error: Python's venv module is missing (Debian, Ubuntu: apt install python3-venv)"
    )


def test_no_network(capsys, monkeypatch, run):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    with socket.create_server(("localhost", 0)) as server:  # closed again: nobody listens there
        nobody = urlunsplit(("http", f"localhost:{server.getsockname()[1]}", "", "", ""))
    monkeypatch.setenv("PIP_INDEX_URL", nobody)
    assert not run.usable()
    said = problem(capsys, run, "test", "--no-gpu")
    assert said == "error: no network: pip cannot reach the package index"
    assert not Path(run.STAMP).exists()
    assert run.usable()
    for folder in Path(run.VENV).glob("lib/*/site-packages/pip/_internal/resolution"):
        shutil.rmtree(folder)
    assert not run.usable()


def fake_driver(version, code=0):
    class Driver:
        @staticmethod
        def cuDriverGetVersion(pointer):
            pointer._obj.value = version
            return code

    return lambda name: Driver()


def no_driver(name):
    raise OSError(f"{name}: cannot open shared object file")


def test_cuda_version_of_the_driver(run):
    assert run.driver_version(fake_driver(12040)) == 12
    assert run.driver_version(fake_driver(13000)) == 13
    assert run.driver_version(fake_driver(13000, code=34)) is None
    assert run.driver_version(no_driver) is None
    with pytest.raises(OSError, match="nowhere"):
        ctypes.CDLL("libnowhere.so")  # what the fake stands for


def test_choice_of_cupy(run):
    """With what it needs of the CUDA toolkit: to run, or without a driver to compile."""
    settings = configparser.ConfigParser()
    settings.read(RUN.with_name("setup.cfg"))
    extras = settings["options.extras_require"]
    chosen = {version: run.cupy_extra(version) for version in (12, 13, 14, None)}
    assert list(chosen.values()) == ["gpu12", "gpu13", "gpu13", "compile"]
    for version, extra in chosen.items():
        parts = "nvrtc" if version is None else "cublas,cudart,nvrtc"
        assert f"cupy-cuda{min(version or 13, 13)}x" in extras[extra]
        assert f"cuda-toolkit[{parts}]" in extras[extra]
    with pytest.raises(run.Problem, match="supports CUDA 11, CuPy needs 12"):
        run.cupy_extra(11)


@pytest.fixture
def asked(monkeypatch, run):
    """What pip would have been asked for; environments hold a script in the place of Python."""
    calls = []

    def create(folder, clear, with_pip):
        assert with_pip
        if clear:
            shutil.rmtree(folder, ignore_errors=True)
        python_is(run, f"echo {sys.version_info[0]} {sys.version_info[1]}")
        calls.append("created")

    import venv

    monkeypatch.setattr(venv, "create", create)
    monkeypatch.setattr(run, "pip", lambda *what, begun=None: calls.append(" ".join(what)))
    return calls


def python_is(run, script):
    """What stands in .venv in the place of Python."""
    python = Path(run.PYTHON)
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)


def installs(run, extras, again=False):
    """The call of pip that installs these extras."""
    options = "--retries 2 --progress-bar off" + (" --force-reinstall" if again else "")
    return f"install {options} --editable {run.ROOT}[{extras}]"


def edit(run):
    with (Path(run.ROOT) / "setup.cfg").open("a") as file:
        file.write("# changed\n")


def test_installs_once_for_every_content_of_the_settings(run, asked):
    run.install({"test"})
    run.install({"test"})
    assert asked == ["created", installs(run, "test")]
    run.install({"test", "gpu13"})
    run.install({"test", "gpu13"})
    assert asked[2:] == [installs(run, "gpu13,test")]
    edit(run)
    run.install({"test", "gpu13"})
    assert asked[3:] == [installs(run, "gpu13,test")]


def test_what_the_user_has_installed_stays(run, asked):
    """PyTorch, say, where an edit of setup.cfg or --no-gpu used to begin with nothing."""
    run.install({"test"})
    torch = Path(run.VENV) / "lib" / "torch"
    torch.mkdir(parents=True)
    run.install({"test", "gpu13"})
    run.install({"test"})  # --no-gpu
    edit(run)
    run.install({"test"})
    assert asked[1:] == [
        installs(run, "test"),
        installs(run, "gpu13,test"),
        installs(run, "gpu13,test"),  # CuPy, which stays, is as setup.cfg says it, too
    ]
    assert torch.is_dir()


def test_another_cupy_takes_the_place_of_the_one_that_is_there(run, asked):
    run.install({"test", "compile"})
    run.install({"test", "gpu13"})  # the same CuPy
    assert asked[2:] == [installs(run, "gpu13,test")]
    run.install({"test", "gpu12"})
    run.install({"test", "gpu12"})
    assert asked[3:] == ["uninstall --yes cupy-cuda13x", installs(run, "gpu12,test")]


@pytest.mark.parametrize("python", ["exit 1", "echo 3 9", None])
def test_an_environment_that_does_not_work_is_made_anew(run, asked, python):
    """One that is broken, one of another Python, one without."""
    run.install({"test", "gpu13"})
    edit(run)
    if python:
        python_is(run, python)
    else:
        Path(run.PYTHON).unlink()
    run.install({"test"})
    assert asked[2:] == ["created", installs(run, "test")]


@pytest.mark.parametrize("writing", [False, True])
def test_interrupted_installation_counts_for_nothing(monkeypatch, capsys, run, asked, writing):
    """What pip had begun to write it writes again, but not what it had still been looking for."""

    def interrupted(*arguments, begun=None):
        if writing:
            begun()
        raise KeyboardInterrupt

    run.install({"test"})
    with monkeypatch.context() as patch:
        patch.setattr(run, "pip", interrupted)
        patch.setattr(run, "driver_version", lambda: 12)
        assert run.main(["test"]) == 130
    assert "the next call goes on with the installation" in capsys.readouterr().err
    run.install({"test", "gpu12"})
    run.install({"test", "gpu12"})
    assert asked[2:] == [installs(run, "gpu12,test", again=writing)]


def test_pip_says_when_it_begins_to_write(run):
    heard = []
    python_is(run, "echo Collecting numpy; echo Installing collected packages: numpy")
    run.pip("install", begun=lambda: heard.append("begun"))
    assert heard == ["begun"]
    python_is(run, "echo Collecting numpy; echo ERROR: no such; exit 1")
    with pytest.raises(run.Problem, match="pip could not install fusebench: ERROR: no such"):
        run.pip("install", begun=lambda: heard.append("begun"))
    assert heard == ["begun"]


def test_passes_the_other_arguments_on(monkeypatch, run, asked):
    executed = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(run.os, "execv", lambda path, command: executed.append(command[1:]))
    monkeypatch.setattr(run, "check_checkout", lambda: None)
    monkeypatch.setattr(run, "driver_version", lambda: 12)
    for name in run.KEEPING:
        monkeypatch.setenv(name, "before")
    run.main(["bench"])
    assert {os.environ[name] for name in run.KEEPING} == {"before"}
    run.main(["test", "-k", "dense"])
    assert os.environ.items() >= run.KEEPING.items()
    run.main(["test", "--all"])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    run.main(["bench", "--no-gpu", "--only", "dense"])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert executed == [
        ["-m", "benchmarks", "run"],
        ["-m", "pytest", "-k", "dense"],
        ["-m", "pytest", *run.SINGLY, "--all"],
        ["-m", "benchmarks", "run", "--only", "dense"],
    ]
    assert asked == ["created", installs(run, "gpu12,test")]


def test_unknown_command_prints_the_usage():
    answer = subprocess.run([sys.executable, RUN, "dance"], capture_output=True, text=True)
    assert answer.returncode == 2
    assert "python3 run.py bench" in answer.stdout


def test_each_half_of_the_tests_is_one_process_s(run):
    """What Numba compiles is one's: two would compile it twice."""
    files = "tests/kernels/test_catalog.py", "tests/gpu/test_cuda_limits.py"
    command = [
        sys.executable,
        "-m",
        "pytest",
        *run.HALVES,
        "-v",
        *files,
        "-k",
        "signatures or limit",
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    done = subprocess.run(command, cwd=RUN.parent, env=environment, capture_output=True, text=True)
    took = set(re.findall(r"\[(gw\d)\].* tests/(\w+)/", done.stdout))
    assert {room for _, room in took} == {"kernels", "gpu"}, done.stdout
    assert len(took) == len({process for process, _ in took}) == 2, done.stdout
