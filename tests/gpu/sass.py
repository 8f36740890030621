"""The machine code of the CUDA kernels, and what happens between the barriers of a product.

NVRTC compiles without a GPU, nvdisasm prints the instructions. A product by tiles goes round a
loop: a panel is put to shared memory, a barrier, the next panel is fetched, the present one
multiplied, a barrier. The fetching takes no time where no instruction between the two barriers,
before the first read of shared memory, reads a register that is still on its way from global
memory: it would wait there.
"""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cache

from cuda.pathfinder import find_nvidia_binary_utility
from cupy.cuda import nvrtc

from kernels.cupy_gpu.runtime import resources, table

LINE = re.compile(r"\s*/\*([0-9a-f]+)\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z0-9_.]+)\s*([^;]*);")
WIDTHS = {"32": 1, "64": 2, "128": 4}


@dataclass
class Instruction:
    """One line of the listing; `follow` are the numbers of those that may come after it."""

    predicate: str
    opcode: str
    operands: str
    follow: list = field(default_factory=list)

    @property
    def name(self):
        return self.opcode.partition(".")[0]

    @property
    def written(self):
        """The first registers of an instruction that has a result are those it writes."""
        first = re.match(r"R(\d+)\b", self.operands)
        if not first or self.name in ("STS", "STG", "BAR"):
            return set()
        widths = [WIDTHS[part] for part in self.opcode.split(".") if part in WIDTHS]
        return set(range(int(first[1]), int(first[1]) + max(widths, default=1)))

    @property
    def read(self):
        others = self.operands if not self.written else self.operands.partition(",")[2]
        return {int(number) for number in re.findall(r"\bR(\d+)\b", others)}


def nvdisasm():
    """The disassembler: from the package nvidia-cuda-nvdisasm or a CUDA toolkit, or None."""
    return find_nvidia_binary_utility("nvdisasm") or shutil.which("nvdisasm")


@cache
def of_file(file, dtype, architecture):
    """{kernel: its instructions} of a .cu file."""
    program, _ = resources.compiled(file, dtype, architecture)
    return parse(disassembled(program))


def of_text(text, dtype, architecture):
    """The same of a text."""
    target, options = f"sm_{architecture}", table.options(dtype)
    program, _ = resources.compile_text(text, target, options)
    return parse(disassembled(program))


def disassembled(program):
    """What nvdisasm prints."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(nvrtc.getCUBIN(program) + b"\0")  # CuPy drops the last byte
        file.flush()
        command = [nvdisasm(), "-c", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def parse(printed):
    """{kernel: its instructions} of what nvdisasm printed."""
    found = {}
    for name, text in re.findall(
        r"^\.text\.(\w+):\n(.*?)(?=^\s*\.section|\Z)", printed, re.M | re.S
    ):
        code, labels, regions = [], {}, {}
        for line in text.splitlines():
            if label := re.match(r"(\.L_x_\w+):", line):
                labels[label[1]] = len(code)
            elif (parts := LINE.match(line)) and parts[3] != "NOP":
                code.append(Instruction(parts[2] or "", parts[3], parts[4].strip()))
        for number, one in enumerate(code):
            target = re.search(r"`\((\.L_x_\w+)\)", one.operands)
            if one.name == "BSSY":  # where BSYNC of the same register goes
                regions[one.operands.partition(",")[0]] = labels[target[1]]
            goes_on = bool(one.predicate) or one.name not in ("BRA", "EXIT", "RET")
            one.follow = [number + 1] if goes_on and number + 1 < len(code) else []
            if one.name == "BRA" and target:
                one.follow.append(labels[target[1]])
            if one.name == "BSYNC":
                one.follow.append(regions[one.operands])
        found[name] = code
    return found


def multiplication(code):
    """Where a product is taken: (the barrier before it, the instructions before the first read of
    shared memory on every way there, those from it on), up to the next barrier. Of all stretches
    between barriers it is the one that reads the most of shared memory.
    """
    stretches = []
    for number, one in enumerate(code):
        if one.name == "BAR":
            before = reached(code, one.follow, ("BAR", "STS", "LDS", "EXIT"))
            starts = {n for n in before if code[n].name == "LDS"}
            after = reached(code, starts, ("BAR", "EXIT"))
            stretches.append((count(code, after, "LDS"), number, before - starts, after))
    return max(stretches)[1:]


def count(code, numbers, *names):
    """How many of these instructions have one of the names."""
    return sum(code[number].name in names for number in numbers)


def reached(code, starts, stops):
    """The numbers of all instructions on the ways from `starts` to the first of `stops`."""
    seen, open_ends = set(), list(starts)
    while open_ends:
        number = open_ends.pop()
        if number not in seen:
            seen.add(number)
            if code[number].name not in stops or number in starts:
                open_ends += code[number].follow
    return seen


def waits(code, barrier, before):
    """Instructions among `before` that read a register which a load there is still to bring."""
    arriving, found = {}, set()  # by instruction: the registers that may be on their way
    open_ends = [(number, set()) for number in code[barrier].follow]
    while open_ends:
        number, coming = open_ends.pop()
        known = arriving.get(number)
        if number not in before or (known is not None and coming <= known):
            continue
        coming = arriving[number] = coming | (known or set())
        one = code[number]
        if one.read & coming:
            found.add(f"{one.opcode} {one.operands}")
        if one.name == "LDG":
            coming = coming | one.written
        elif not one.predicate:
            coming = coming - one.written
        open_ends += [(following, coming) for following in one.follow]
    return found
