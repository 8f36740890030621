"""A session on a machine that has numpy, numba and cupy alone: no asv, no network, no git."""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest
import rehearse_record
from journals import begin, note

from benchmarks.reports import report, results
from benchmarks.running import journal, pack, session
from benchmarks.suites import workloads

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("numpy", "numba", "llvmlite", "cuda-pathfinder")
COMPILER = ("g++", "as", "ld")  # of the simulated card


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """The folder of another machine: what was packed here, and a bare Python in `python`."""
    folder = tmp_path_factory.mktemp("there")
    with tarfile.open(packed(tmp_path_factory.mktemp("here"))) as archive:
        archive.extractall(folder, filter="data")
    checkout = folder / pack.FOLDER
    built = ROOT / ".cache" / "simulator"  # compiling the kernels takes ten seconds
    if built.is_dir():
        (checkout / ".cache").mkdir(exist_ok=True)
        (checkout / ".cache" / "simulator").symlink_to(built)
    bare_python(checkout / "python")
    return checkout


def packed(folder):
    """What `pack` makes of a checkout of this working tree."""
    rooms = "reference", "kernels", "benchmarks", "tests"
    for room in rooms:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", *rooms], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workloads, "ROOT", folder)
        return pack.write(folder)


def bare_python(folder):
    """A virtual environment of links to the packages that are needed."""
    cupy = importlib.metadata.packages_distributions().get("cupy")
    if not cupy:
        pytest.skip("CuPy is not installed (--no-gpu)")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in (*NEEDED, *cupy):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            target = distribution.locate_file(top)
            if not (site / top).exists():
                (site / top).symlink_to(target)
    tools = folder / "tools"
    tools.mkdir()
    for tool in COMPILER:
        if not shutil.which(tool):
            pytest.skip(f"{tool} is missing (Debian, Ubuntu: apt install g++)")
        (tools / tool).symlink_to(shutil.which(tool))


def run(there, *arguments):
    """The finished process of the bare Python, in the folder that was unpacked."""
    environment = {"PATH": str(there / "python" / "tools"), "HOME": str(there)}
    environment |= {"PYTHONPATH": str(there), "LANG": "C.UTF-8"}
    command = [there / "python" / "bin" / "python", *arguments]
    return subprocess.run(command, cwd=there, env=environment, capture_output=True, text=True)


def rehearse(there, *arguments):
    return run(there, "tests/benchmarks/rehearse_record.py", *arguments)


@pytest.fixture
def elsewhere(there, monkeypatch):
    """The same, without results of another test; this process reads those of that machine."""
    shutil.rmtree(there / "results", ignore_errors=True)
    monkeypatch.setattr(results, "RECORDED", there / "results")
    monkeypatch.setattr(journal, "FOLDER", there / "journal")
    monkeypatch.setenv(journal.VARIABLE, "")
    return there


def reported():
    """The report of this machine, on which next to nothing was timed."""
    begin()
    note("sgd", {(rehearse_record.LAYER, "float32", "numpy"): 1e-6})
    return report.render()


def kept(there):
    (path,) = there.glob("results/fake-card-1/*.session")
    return json.loads(path.read_text()), results.read(path.with_suffix(".json"))


def test_it_is_bare(there):
    code = """
import importlib.util, shutil
names = "asv asv_runner tabulate threadpoolctl sklearn mlxtend matplotlib pytest scipy".split()
print([name for name in names if importlib.util.find_spec(name)], shutil.which("git"))
"""
    assert run(there, "-c", code).stdout == "[] None\n"


def test_without_a_card_one_line_says_so(there):
    done = run(there, "-m", "benchmarks", "record")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: backend cupy: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_small_session(elsewhere):
    """It writes what the reports read, in the name of the commit that was packed."""
    done = rehearse(elsewhere, "small")
    assert done.returncode == 0, done.stderr
    assert "no table without tabulate: python -m benchmarks report --machine NAME" in done.stdout
    found, run = kept(elsewhere)
    assert found["finished"]
    assert run.commit == (elsewhere / "COMMIT").read_text().strip()
    for kind in session.KINDS:
        assert {entry["verdict"] for entry in found[kind]} <= {journal.CORRECT}, kind
    assert found["cells"]
    assert found["crossings"]
    assert found["borders"]
    assert [line.partition(":")[0] for line in found["missing"]] == [
        "torch, torch.compile, oneDNN",
        "jax.jit",
    ]
    assert "cupy fake-card-1" in reported()


@pytest.mark.slow
def test_what_kills_or_stops_the_process_again_and_again_is_left_out(elsewhere):
    """Twice it is tried; the measurements before it are kept, and those after it are made."""
    for fault in ("kill", "hang"):
        done = rehearse(elsewhere, "small", fault)
        assert done.returncode == (-signal.SIGKILL if fault == "kill" else 1), done.stderr
    assert "Timeout (0:00:05)!" in done.stderr
    adam = f"adam {rehearse_record.LAYER} float32"
    keys = {entry["key"] for entry in kept(elsewhere)[0]["cells"]}
    assert adam not in keys
    assert any(key.startswith("network_step") for key in keys)
    assert rehearse(elsewhere, "small").returncode == 0
    found, _ = kept(elsewhere)
    assert found["finished"]
    (entry,) = (entry for entry in found["cells"] if entry["key"] == adam)
    assert entry["verdict"] == f"{journal.FAILED}: the process died in it 2 times"


@pytest.mark.slow
def test_the_whole_session(elsewhere, figures):
    """All that is recorded on a card; the report shows its columns."""
    done = rehearse(elsewhere, "whole")
    assert done.returncode == 0, done.stderr
    found, run = kept(elsewhere)
    assert found["finished"]
    figures.append(f"A whole session took {re.search(r'[0-9]+ s of the CPU', done.stdout)[0]}")
    assert len(run.times) > 300
    assert {entry["verdict"] for entry in found["cells"]} == {journal.CORRECT}
    assert "cupy fake-card-1" in reported()


def test_only_a_commit_is_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(workloads, "ROOT", tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(RuntimeError, match="not a git repository"):
        pack.write(tmp_path)
    (tmp_path / "a.py").write_text("")
    for command in (["init", "-q"], ["add", "a.py"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "a.py").write_text("changed")
    with pytest.raises(RuntimeError, match=r"is the last commit: commit a\.py first"):
        pack.write(tmp_path)
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
    with pytest.raises(RuntimeError, match="git is not installed"):
        pack.write(tmp_path)
