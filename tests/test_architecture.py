"""Who may import whom, read off the source."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = {"reference", "kernels", "benchmarks", "tests", "run"}


def imported(path):
    """The dotted names of all modules that a file imports, those of relative imports resolved."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*base, *filter(None, [node.module])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def ours(folder):
    """(file, imported module) for every import of our own packages below a folder or in a file."""
    paths = [ROOT / folder] if folder.endswith(".py") else sorted((ROOT / folder).rglob("*.py"))
    assert paths, folder
    return [(p, name) for p in paths for name in imported(p) if name.split(".")[0] in OURS]


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        ("reference", ("reference",)),
        ("kernels/numba_cpu", ("kernels",)),
        ("kernels/cupy_gpu", ("kernels",)),
        ("kernels/__init__.py", ("kernels",)),
        ("kernels/interface.py", ()),
        ("kernels/networks.py", ("kernels",)),
        ("benchmarks", ("reference", "kernels", "benchmarks")),
        ("run.py", ()),
    ],
)
def test_walls(room, allowed):
    for path, name in ours(room):
        message = f"{path.relative_to(ROOT)} imports {name}"
        assert name.startswith(tuple(allowed)) if allowed else False, message
        if room.startswith("kernels/"):
            others = {"kernels.numba_cpu", "kernels.cupy_gpu"} - {room.replace("/", ".")}
            assert not name.startswith(tuple(others)), message


def test_runner_needs_the_standard_library_only():
    for name in imported(ROOT / "run.py"):
        assert name.split(".")[0] in sys.stdlib_module_names, name


def test_nothing_outside_a_backend_asks_which_one_it_is():
    """No comparison with a backend's name in the reference or in the kernels' shared files."""
    shared = [ROOT / "kernels" / name for name in ("interface.py", "networks.py")]
    for path in [*ROOT.glob("reference/*.py"), *shared]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                values = [c.value for c in ast.walk(node) if isinstance(c, ast.Constant)]
                assert not {"numpy", "numba", "cupy"} & set(map(str, values)), path
