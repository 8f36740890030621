"""What the README of the house and those of its rooms say of files, commands and limits."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.running import journal
from reference import FAMILIES

ROOT = Path(__file__).resolve().parents[1]
ROOMS_WITH_ONE = ("kernels", "benchmarks", "results", "tests")
READMES = [
    ROOT / "README.md",
    *(path for room in ROOMS_WITH_ONE for path in (ROOT / room).rglob("README.md")),
]
TEXT = "\n".join(path.read_text() for path in READMES)
CODE = [*re.findall(r"`([^`\n]+)`", TEXT), *(x for x in TEXT.splitlines() if x[:4] == "    ")]
ROOMS = ("reference", "kernels", "benchmarks", "tests", r"run\.py", r"setup\.cfg")


def paths():
    """Every path into the house, with every family in the place of <family>."""
    for word in {word.strip(",;:()") for code in CODE for word in code.split()}:
        if re.fullmatch(rf"({'|'.join(ROOMS)})(/[\w.<>/-]*)?", word):
            families = FAMILIES if "<family>" in word else [""]
            yield from (word.replace("<family>", family) for family in families)


def test_every_file_that_is_named_is_there():
    found = sorted(paths())
    assert {"run.py", "benchmarks/edit/quick.py", "kernels/cupy_gpu/losses.py"} <= set(found)
    assert [path for path in found if not (ROOT / path).exists()] == []


def test_every_command_that_is_named_exists():
    names = {name for code in CODE for name in re.findall(r"-m benchmarks (\w+)", code)}
    names |= {name for code in CODE for name in re.findall(r"-m benchmarks\.(\w+)", code)}
    command = [sys.executable, "-m", "benchmarks", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout
    known = re.search(r"{([\w,]+)}", said)[1].split(",")
    assert {"report", "record", "peers"} <= names <= set(known)


def test_the_limits_of_a_cell():
    checked, timed = journal.LIMITS.values()
    said = f"took more than {checked} s to be compiled and checked, or {timed} s to be timed"
    assert said in TEXT


@pytest.mark.parametrize(
    ("column", "kind", "example", "family"),
    [
        (0, "a function", "sparse_categorical_cross_entropy", "losses"),
        (1, "an activation", "silu", "activations"),
        (2, "an update rule", "rmsprop", "optimizers"),
    ],
)
def test_all_files_that_an_addition_needs_are_named(column, kind, example, family):
    """Wherever one that is there is named in the code, README says so, and says how many."""
    header, listed = needed(column, family)
    assert header == f"{kind} ({len(listed)} files)" or header == f"{kind} ({len(listed)})"
    assert all((ROOT / path).is_file() for path in listed)
    sources = [p for room in ("reference", "kernels") for p in (ROOT / room).rglob("*.*")]
    sources = [p for p in sources if p.suffix in (".py", ".cu", ".cuh", ".h", ".cpp")]
    word = re.compile(rf"\b{example}\b", re.IGNORECASE)
    naming = {str(p.relative_to(ROOT)) for p in sources if word.search(p.read_text())}
    assert naming <= listed


def needed(column, family):
    """(the head of the column, the files below it) of the table of what has to be written."""
    (table,) = re.findall(r"\n(\| \| a function .*?)\n\n", TEXT, re.DOTALL)
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    files = set()
    for room, *cells in rows[2:]:
        folder = room.strip("`") if "`" in room else ""
        names = re.findall(r"`([^`]+)`", cells[column].replace("<family>", family))
        files |= {folder + name for name in names}
    return rows[0][1 + column], files


def test_every_link_leads_to_a_file():
    links = [
        (path, link) for path in READMES for link in re.findall(r"\]\(([^)#]+)", path.read_text())
    ]
    inside = [(path, link) for path, link in links if "://" not in link]
    assert len(inside) > 8
    assert [link for path, link in inside if not (path.parent / link).exists()] == []
