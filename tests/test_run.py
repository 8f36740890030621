"""run.py: what it says when it cannot go on, and how it chooses CuPy."""

import builtins
import configparser
import ctypes
import importlib.util
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
    said = problem(capsys, run, "test", "--no-gpu")
    assert said == "error: no network: pip cannot reach the package index"
    assert not Path(run.STAMP).exists()


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
def installed(monkeypatch, run):
    """Records what would have been installed."""
    asked = []

    def create(folder, clear, with_pip):
        python = Path(run.PYTHON)
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text("")
        python.chmod(0o755)
        Path(run.STAMP).unlink(missing_ok=True)

    import venv

    monkeypatch.setattr(venv, "create", create)
    monkeypatch.setattr(run, "pip", asked.append)
    return asked


def test_installs_once_for_every_content_of_the_settings(run, installed):
    run.install(["test"])
    run.install(["test"])
    assert installed == [f"{run.ROOT}[test]"]
    run.install(["test", "gpu13"])
    assert installed[1:] == [f"{run.ROOT}[test,gpu13]"]
    with (Path(run.ROOT) / "setup.cfg").open("a") as file:
        file.write("# changed\n")
    run.install(["test", "gpu13"])
    assert len(installed) == 3


def test_interrupted_installation_counts_for_nothing(monkeypatch, capsys, run, installed):
    def interrupted(requirement):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "pip", interrupted)
        assert run.main(["test"]) == 130
    assert "the next call installs anew" in capsys.readouterr().err
    run.install(["test", "gpu13"])
    assert len(installed) == 1


def test_passes_the_other_arguments_on(monkeypatch, run, installed):
    executed = []
    monkeypatch.setattr(run.os, "execv", lambda path, command: executed.append(command[1:]))
    monkeypatch.setattr(run, "check_checkout", lambda: None)
    monkeypatch.setattr(run, "driver_version", lambda: 12)
    run.main(["test", "-k", "dense"])
    run.main(["bench", "--no-gpu", "--only", "dense"])
    assert executed == [
        ["-m", "pytest", "-k", "dense"],
        ["-m", "benchmarks", "run", "--only", "dense"],
    ]
    assert installed == [f"{run.ROOT}[test,gpu12]", f"{run.ROOT}[test]"]


def test_unknown_command_prints_the_usage():
    answer = subprocess.run([sys.executable, RUN, "dance"], capture_output=True, text=True)
    assert answer.returncode == 2
    assert "python3 run.py bench" in answer.stdout
