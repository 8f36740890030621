"""Numbers as the reports print them."""

from .. import bench_network
from ..suites import workloads


def number(value):
    """Three significant digits without an exponent."""
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}"


def scaled(value):
    """A large number with its prefix."""
    for prefix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{number(value / scale)} {prefix}"
    return f"{number(value)} "


def duration(seconds):
    """A time with its unit; a dash where there is none."""
    if seconds is None:
        return "-"
    for unit, scale in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{number(seconds / scale)} {unit}"
    return f"{number(seconds / 1e-9)} ns"


def percent(share):
    """With one decimal below ten percent; empty where there is none."""
    return "" if share is None else f"{share:.{0 if share >= 0.1 else 1}%}"


def ratio(slow, fast):
    """slow / fast, as text; empty where one of them is missing."""
    return "" if slow is None or fast is None else number(slow / fast)


def size(count):
    """Bytes with their unit."""
    return f"{count / 2**20:.0f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def memory(hardware):
    """A machine's memory."""
    return f"{int(hardware['ram']) / 2**30:.0f} GiB" if hardware.get("ram") else "memory unknown"


def edits(edited):
    """What is said after a commit."""
    return " with uncommitted changes" if edited else ""


def streams(roof):
    """The bandwidth of each memory, by the bytes of the arrays that reach it."""
    each = [f"{number(rate / 1e9)} up to {size(count)}" for count, rate in roof.levels()]
    return f"GB/s: {', '.join(each)}"


def batch_name(cell):
    """The batch size as reports print it."""
    if cell.batch is None:
        return ""
    workload = cell.layer.partition("-")[0]
    return "full" if cell.batch == workloads.full(workload) else str(cell.batch)


def rows(cell):
    """The rows that a call goes over; None where the operation does not know a batch."""
    is_epoch = cell.function == bench_network.EPOCH
    return workloads.full(cell.layer.partition("-")[0]) if is_epoch else cell.batch


def samples(cell, seconds):
    """Rows that a network was trained on in a second, as text."""
    return "" if seconds is None else scaled(rows(cell) / seconds)


def against_roof(roof, cell, seconds):
    """The rate by the ceiling that binds, and the share of that ceiling, as text."""
    if seconds is None or roof is None:
        return "", ""
    rate, unit, share = roof.rate(cell, seconds)
    return scaled(rate) + unit, percent(share)
