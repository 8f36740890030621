"""What pip installs works from any folder: all files are in the wheel, what is found is kept where
it is called, what is compiled in the user's cache.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("reference", "kernels", "benchmarks")
MORE = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "fusebench_pytest.py")
UNPACKED = {"benchmarks/edit/quick.py"}  # of a checkout alone

pytestmark = pytest.mark.slow


def said(*command, **more):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built without network, by the setuptools that virtualenv carries."""
    folder = tmp_path_factory.mktemp("built")
    for name in ROOMS:
        shutil.copytree(ROOT / name, folder / "source" / name)
    for name in MORE:
        shutil.copy(ROOT / name, folder / "source")
    bundled = ("--setuptools", "bundle", "--no-download")
    said(sys.executable, "-m", "virtualenv", *bundled, folder / "tools")
    python = folder / "tools" / ("Scripts" if os.name == "nt" else "bin") / "python"
    offline = ("--no-deps", "--no-index")
    pip = (python, "-m", "pip")
    said(*pip, "wheel", *offline, "--no-build-isolation", "-w", folder, folder / "source")
    (path,) = folder.glob("*.whl")
    said(*pip, "install", *offline, "--target", folder / "installed", path)
    return path


@pytest.fixture
def called(wheel, tmp_path):
    """called(...): what `python -m benchmarks ...` says in an empty folder."""
    here = tmp_path / "here"
    here.mkdir()
    environment = {name: v for name, v in os.environ.items() if not name.startswith("FUSEBENCH")}
    environment |= {
        "PYTHONPATH": str(wheel.parent / "installed"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "HOME": str(tmp_path),  # asv keeps the names of machines there
    }
    environment.pop("NUMBA_CACHE_DIR", None)

    def call(*arguments):
        return said(sys.executable, "-m", "benchmarks", *arguments, cwd=here, env=environment)

    return call


def test_every_file_is_in_the_wheel(wheel):
    there = set(zipfile.ZipFile(wheel).namelist())
    files = {p.relative_to(ROOT) for room in ROOMS for p in (ROOT / room).rglob("*.*")}
    ours = {str(path) for path in files if "__pycache__" not in path.parts}
    assert ours - there == UNPACKED
    assert "fusebench_pytest.py" in there


def test_a_check_from_another_folder(called, tmp_path):
    file = shutil.copy(ROOT / "examples" / "numpy_kernels.py", tmp_path)
    text = called("check", file, "--only", "adam")
    assert "2 pass, 0 do not" in text
    assert list((tmp_path / "here").iterdir()) == []
    assert "example: " in called("check", "--help")


def test_a_run_from_another_folder(called, tmp_path):
    """A few cells, and the ceilings; then its report."""
    text = called("run", "--only", "clip_by_value")
    kept = tmp_path / "here" / ".asv"
    assert f"what is found is kept in {kept}" in text
    assert list(kept.glob("journal/*.jsonl"))
    assert [path.name for path in (tmp_path / "here").iterdir()] == [".asv"]
    report = called("report")
    assert "fusebench, commit v0.1.0" in report
    assert "clip_by_value" in report
    assert list((tmp_path / "cache" / "fusebench").glob("fusebench-numba-*"))
