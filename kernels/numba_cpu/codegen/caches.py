"""Sizes of the host's data caches: what the blocks of the matrix product are cut to."""

import platform
import subprocess
from pathlib import Path

_LINUX = Path("/sys/devices/system/cpu/cpu0/cache")


def _index(level):
    """Where Linux describes the data cache of a level."""
    for index in _LINUX.glob("index*"):
        is_level = (index / "level").read_text().strip() == str(level)
        if is_level and (index / "type").read_text().strip() != "Instruction":
            return index
    raise OSError(f"no cache of level {level} is described in {_LINUX}")


def _linux(level):
    """A level's bytes over the number of processors that share it."""
    index = _index(level)
    size = int((index / "size").read_text().strip().removesuffix("K")) * 1024
    sharers = int((index / "shared_cpu_map").read_text().replace(",", ""), 16)
    return size // max(1, sharers.bit_count())


def _darwin(level):
    name = f"hw.perflevel0.l{level}{'d' if level == 1 else ''}cachesize"
    return int(subprocess.run(["sysctl", "-n", name], check=True, capture_output=True).stdout)


def share(level, fallback):
    """Bytes of one thread's share of a data cache; the fallback where the system does not say."""
    try:
        return {"Linux": _linux, "Darwin": _darwin}[platform.system()](level)
    except (KeyError, OSError, ValueError, subprocess.SubprocessError):
        return fallback


def ways(level, fallback):
    """The lines of a set of a data cache; the fallback where the system does not say."""
    try:
        return int((_index(level) / "ways_of_associativity").read_text()) or fallback
    except (OSError, ValueError):
        return fallback


L1 = share(1, 32 << 10)
L2 = share(2, 512 << 10)
L3 = share(3, 2 << 20)
L2_WAYS = ways(2, 8)
