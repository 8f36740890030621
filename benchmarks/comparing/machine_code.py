"""Which functions have the same machine code on both sides.

Equal source, by the same compiler on the same processor, is equal machine code. Source is what a
function's module and all that it imports of `kernels` say, without comments and docstrings. So a
function that differs may still be the same in machine code, but none that is called the same is
another. Packages that only gather what lies in them, as kernels.numba_cpu does, are no part of it.
"""

import ast
import functools
import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PACKAGE = "kernels"


def is_ours(module):
    """Whether a backend's functions are kernels of ours, which differ from side to side."""
    return module.__name__.partition(".")[0] == PACKAGE


@functools.cache
def digest(module, function):
    """A hash of the source of a function or module; empty where it is that of head on both."""
    if not is_ours(module):
        return ""
    call, inner = getattr(module, function, None), f"{module.__name__}."
    if isinstance(call, ModuleType):  # network
        homes = {call.__name__}
    else:
        homes = {
            name
            for name, part in sys.modules.items()
            if call and name.startswith(inner) and any(v is call for v in vars(part).values())
        } or {module.__name__}  # which imports all that there is
    found, waiting = set(), homes
    while waiting:
        found |= waiting
        waiting = set().union(*(_imports(name) for name in waiting)) - found
    texts = "".join(f"{name}\n{_source(name)}\n" for name in sorted(found))
    return hashlib.sha256(texts.encode()).hexdigest()


def _path(name):
    try:
        origin = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(origin.origin) if origin and origin.origin else None


@functools.cache
def _imports(name):
    """The modules of the package that a module imports, wherever in its file."""
    path = _path(name)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            inner = {f"{base}.{alias.name}" for alias in node.names}
            modules = {each for each in inner if base.startswith(PACKAGE) and _path(each)}
            found |= modules | ({base} if modules != inner else set())
    return {each for each in found if each.split(".")[0] == PACKAGE and _path(each)}


@functools.cache
def _source(name):
    """The text of a module, without what does not count."""
    tree = ast.parse(_path(name).read_text())
    for node in ast.walk(tree):
        match node:
            case (
                ast.Module(body=[ast.Expr(value=ast.Constant(value=str())), *rest])
                | ast.FunctionDef(body=[ast.Expr(value=ast.Constant(value=str())), *rest])
                | ast.ClassDef(body=[ast.Expr(value=ast.Constant(value=str())), *rest])
            ):
                node.body = rest
    return ast.dump(tree)
