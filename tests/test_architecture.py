"""Who may import whom, read off the source."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import kernels

ROOT = Path(__file__).resolve().parents[1]
OURS = {"reference", "kernels", "benchmarks", "tests", "run"}


def imported(path, nodes=None):
    """The dotted names of all modules that a file imports, those of relative imports resolved.

    nodes: where to look for the imports; everywhere in the file unless given.
    """
    package = path.relative_to(ROOT).parent.parts
    for node in nodes or ast.walk(ast.parse(path.read_text())):
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
        ("kernels/arguments.py", ("kernels",)),
        ("kernels/network", ("kernels",)),
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


def test_no_circles():
    """Among the imports that a module makes when it is imported itself."""
    folders = ("reference", "kernels", "benchmarks")
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in paths}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    needs = {}
    for name, path in modules.items():
        found = set(imported(path, ast.parse(path.read_text()).body))
        needs[name] = found & set(modules) - within(name)
    try:
        tuple(TopologicalSorter(needs).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def within(name):
    """A module and the packages that it is in, which "from . import x" names as well."""
    parts = name.split(".")
    return {".".join(parts[: k + 1]) for k in range(len(parts))}


def test_runner_needs_the_standard_library_only():
    for name in imported(ROOT / "run.py"):
        assert name.split(".")[0] in sys.stdlib_module_names, name


# --- nothing outside a backend's folder branches on which backend it is --------------------------


def test_nothing_outside_a_backend_asks_which_one_it_is():
    """No comparison with a backend's name, be it spelt out or bound to a name of its own.

    To look something up in a dictionary by the name, or to load the backend, is no question.
    """
    paths = [*ROOT.glob("reference/*.py"), *ROOT.glob("kernels/*.py")]
    paths += ROOT.glob("kernels/network/*.py")
    paths += [*ROOT.glob("benchmarks/**/*.py"), ROOT / "run.py"]
    trees = {path: ast.parse(path.read_text()) for path in paths}
    constants = set().union(*(bound(tree.body, set()) for tree in trees.values()))
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path, tree in trees.items()
        for node in questions(tree, constants)
    ]
    assert found == []


def questions(tree, constants):
    """The nodes that ask for a backend's name; `constants` stand for one in any file."""
    known = constants | bound(ast.walk(tree), constants)
    for node in ast.walk(tree):
        match node:
            case ast.Compare(comparators=[ast.Attribute(value=ast.Name(id="sys"))]):
                continue  # whether a package is imported
            case ast.Compare(left=left, comparators=others):
                asked = [left, *others]
            case ast.MatchValue(value=value):
                asked = [value]
            case ast.BinOp(left=left, op=ast.Sub() | ast.BitAnd(), right=right):
                asked = [left, right]  # of sets
            case ast.Call(func=ast.Attribute(attr="startswith" | "endswith"), args=asked):
                pass
            case _:
                continue
        if any(is_backend(each, known) for each in asked):
            yield node


def bound(nodes, constants):
    """The names that these nodes bind to a backend's name, or to a collection with one."""
    found, before = set(), None
    nodes = list(nodes)
    while found != before:
        before = set(found)
        for node in nodes:
            match node:
                case ast.Assign(targets=targets, value=value):
                    pass
                case (
                    ast.AnnAssign(target=target, value=value)
                    | ast.NamedExpr(target=target, value=value)
                ):
                    targets = [target]
                case ast.ImportFrom(names=aliases):
                    found |= {a.asname for a in aliases if a.asname and a.name in constants}
                    continue
                case _:
                    continue
            if is_backend(value, found | constants):
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def is_backend(node, known):
    """Whether an expression is a backend's name, or a tuple, list or set with one."""
    match node:
        case ast.Constant(value=str(value)):
            return value in kernels.BACKENDS
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in known
        case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
            return any(is_backend(element, known) for element in elements)
        case ast.Starred(value=value):
            return is_backend(value, known)
    return False


@pytest.mark.parametrize(
    "source",
    [
        'backend == "cupy"',
        'GPU = "cupy"\nb != GPU',
        'GPU = "cupy"\nb not in (BASELINE, GPU)',
        'OURS = ("numba", "other")\nb in OURS',
        'FIRST = "numpy"\nSECOND = FIRST\nb == SECOND',
        "b == report.GPU",
        "from .report import GPU as CARD\nb == CARD",
        'match b:\n    case "numba": pass',
        'if b.startswith("cupy"): pass',
        'ours - {"cupy"}',
        'def f(b):\n    ours = "numba"\n    return b == ours',
    ],
)
def test_a_question_is_seen(source):
    assert list(questions(ast.parse(source), {"GPU"}))


@pytest.mark.parametrize(
    "source",
    [
        'kernels.load("cupy")',
        'BACKENDS = {"numpy": "reference"}\nname in BACKENDS',
        '"numba" in sys.modules',
        'SHARES = (("numba",), ())',
        'seconds.get("numba")',
    ],
)
def test_what_is_no_question_is_let_alone(source):
    assert not list(questions(ast.parse(source), set()))
