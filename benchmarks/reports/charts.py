"""The page's charts as SVG: throughput over batch, and the roofline with every kernel on it.

A path carries the numbers of its points' rows in the page's table (`data-i`, or that of its chart),
from where their figures are read. Colours, markers and dashes are the style sheet's, by
the class of a column, so that both themes have theirs.
"""

import math
from dataclasses import dataclass
from html import escape

from . import formats, roofline

SMALL, LARGE = (480, 300), (720, 480)  # of the viewBox
LEFT, RIGHT, BOTTOM, TOP = 80, 30, 36, 14
LETTER = 12  # the width of one, at most
ROOM = 4  # the factor above the highest ceiling in which its label stands


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis over whole decades, from one pixel to another."""

    first: int
    last: int
    start: int
    stop: int

    @classmethod
    def over(cls, values, start, stop):
        first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return cls(first, max(last, first + 1), start, stop)

    def place(self, value):
        share = (math.log10(value) - self.first) / (self.last - self.first)
        return round(self.start + share * (self.stop - self.start))

    def value(self, pixel):
        """What stands at a place."""
        share = (pixel - self.start) / (self.stop - self.start)
        return 10 ** (self.first + share * (self.last - self.first))

    @property
    def decades(self):
        return [10.0**power for power in range(self.first, self.last + 1)]

    @property
    def named(self):
        """The decades that have a number where there is little room."""
        every = 3 if len(self.decades) > 5 else 1
        return [v for v in self.decades if round(math.log10(v)) % every == 0]


@dataclass(frozen=True)
class Share:
    """An axis from 0 to 1, from one pixel to another."""

    start: int
    stop: int
    decades = named = (0, 0.25, 0.5, 0.75, 1)

    def place(self, value):
        return round(self.start + value * (self.stop - self.start))


def columns_by_class(shown):
    """{class: column}: which device it is, and which of its kind."""
    kinds = {"cpu": shown.cpus, "other": shown.others, "gpu": shown.gpus}
    return {f"{kind}{n}": column for kind, found in kinds.items() for n, column in enumerate(found)}


def throughput(shown, rows, number):
    """(what its charts share, [(title, chart)]) of a function: a chart a variant, layer and dtype.

    rows: {cell: row}. All charts of a function have the same axes, drawn once, and show rows a
    second; the dashed lines are what each device's roof allows.
    """
    series, lines = columns_by_class(shown), {}
    names = {column.label: name for name, column in series.items()}
    firsts = [columns[0] for _, columns in shown.devices]
    for cell in rows:
        chart = lines.setdefault((cell.variant, cell.layer, cell.dtype), {})
        roofs = [(f"roof {names[c.label]}", c.roof(cell)) for c in firsts]
        found = [(name, roof.seconds(cell)) for name, roof in roofs if roof]
        found += [(name, column.seconds(cell)) for name, column in series.items()]
        for name, seconds in found:
            if seconds:
                chart.setdefault(name, []).append((cell, formats.rows(cell) / seconds))
    every = [p for chart in lines.values() for points in chart.values() for p in points]
    if not every:
        return "", []
    x, y = axes([cell.batch for cell, _ in every], [rate for _, rate in every], SMALL)
    charts = []
    for kernel, chart in lines.items():
        kept = spans(sorted({rows[cell] for points in chart.values() for cell, _ in points}))
        paths = "".join(_path(x, y, name, points, rows, kept) for name, points in chart.items())
        title = " ".join(filter(None, kernel)).removesuffix(" float32")
        charts.append((title, svg(SMALL, f'<use href="#f{number}"/>{paths}', kept)))
    return f'<g id="f{number}">{frame(x, y, SMALL)}</g>', charts


def _path(x, y, name, points, rows, kept):
    """A line through (cell, rate), with its rows where these are not `kept`, the chart's."""
    ordered = sorted(points, key=lambda point: point[0].batch)
    places = " ".join(f"{x.place(cell.batch)} {y.place(rate)}" for cell, rate in ordered)
    numbers = spans([rows[cell] for cell, _ in ordered])
    asked = "" if numbers == kept or name.startswith("roof") else f' data-i="{numbers}"'
    return f'<path class="{name}" d="M{places}"{asked}/>'


def rooflines(shown, rows):
    """[(title, chart, how many cells are not on it, its ceilings as text)], one for every device
    and dtype with a roof.

    A cell is a point: operations a byte, operations a second. One without operations has no place.
    """
    found, series = [], columns_by_class(shown)
    for device, columns in shown.devices:
        for (run, dtype), roof in columns[0].roofs.items():
            if run is not columns[0].run:
                continue
            points, absent = {}, 0
            for name, column in series.items():
                for cell in rows if column in columns else ():
                    seconds = column.seconds(cell) if cell.dtype == dtype else None
                    flops, size = roofline.work(cell) if seconds else (0, 0)
                    absent += seconds is not None and not flops
                    if flops:
                        points.setdefault(name, []).append((flops / size, flops / seconds, cell))
            if points:
                chart = _roofline(roof, points, rows)
                found.append((f"{device}, {dtype}", chart, absent, ceilings(roof)))
    return found


def ceilings(roof):
    """What bounds the kernels, in words: arithmetic, and the slowest and the fastest stream."""
    found = [f"{formats.scaled(roof.arithmetic[0])}FLOP/s"]
    if roof.tf32:
        found.append(f"{formats.scaled(roof.tf32[0])}FLOP/s in TF32")
    rates = [rate for _, rate in roof.levels()]
    streams = [f"{formats.scaled(rate)}B/s" for rate in dict.fromkeys((min(rates), max(rates)))]
    return ", ".join([*found, " to ".join(streams)])


def _roofline(roof, points, rows):
    """Labels stand above the highest ceilings, where no point is."""
    every = [point for found in points.values() for point in found]
    arithmetic = [rate for rate, _ in filter(None, (roof.arithmetic, roof.tf32))]
    bandwidths = [rate for _, rate in roof.levels()]
    top, fastest = max(arithmetic), max(bandwidths)
    intensities = [intensity for intensity, *_ in every] + [2 * top / min(bandwidths)]
    x, y = axes(intensities, [rate for _, rate, _ in every] + [ROOM * top], LARGE)
    left, right, lowest = x.decades[0], x.decades[-1], y.decades[0]
    lines = []
    for bandwidth in bandwidths:
        start, stop = max(left, lowest / bandwidth), top / bandwidth
        lines.append(_line(x, y, (start, bandwidth * start), (stop, top)))
    lines += [_line(x, y, (rate / fastest, rate), (right, rate)) for rate in arithmetic]
    texts = [_label(x.place(right) - 4, y.place(top), f"{formats.scaled(top)}FLOP/s")]
    stream = f"{formats.scaled(fastest)}B/s"
    middle = math.sqrt(max(left, lowest / fastest) * top / fastest)  # of its line, as it is drawn
    end = max(x.place(middle), LEFT + 8 + LETTER * len(stream))
    texts.append(_label(end, y.place(min(top, fastest * x.value(end))), stream))
    dots = []
    for name, found in points.items():
        places = " ".join(f"{x.place(i)} {y.place(r)}" for i, r, _ in found)
        numbers = spans([rows[cell] for *_, cell in found])
        dots.append(f'<path class="{name} dots" d="M{places}" data-i="{numbers}"/>')
    return svg(LARGE, frame(x, y, LARGE) + "".join(lines + dots + texts))


def axes(horizontal, vertical, size):
    width, height = size
    x = Axis.over(horizontal, LEFT, width - RIGHT)
    return x, Axis.over(vertical, height - BOTTOM, TOP)


def frame(x, y, size):
    """Lines at every decade, numbers at every one or third."""
    width, height = size
    across = "".join(f"M{x.place(v)} {TOP}V{height - BOTTOM}" for v in x.decades)
    along = "".join(f"M{LEFT} {y.place(v)}H{width - RIGHT}" for v in y.decades)
    texts = [text_at(x.place(v), height - 10, tick(v), "middle") for v in x.decades]
    texts += [text_at(LEFT - 8, y.place(v) + 7, tick(v), "end") for v in y.named]
    return f'<path class="grid" d="{across}{along}"/>{"".join(texts)}'


def tick(value):
    """A power of ten with its prefix."""
    for prefix, scale in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:g} {prefix}"
    return f"{value:g}"


def _line(x, y, start, stop):
    (x1, y1), (x2, y2) = ((x.place(a), y.place(b)) for a, b in (start, stop))
    return f'<path class="ceiling" d="M{x1} {y1}L{x2} {y2}"/>'


def text_at(x, y, text, anchor):
    return f'<text x="{x}" y="{y}" class="{anchor}">{escape(text)}</text>'


def _label(end, line, text):
    """A text that ends there, above a line."""
    return text_at(end, line - 8, text, "end label")


def svg(size, body, rows=""):
    return '<svg class=plot viewBox="0 0 {} {}" data-i="{}">{}</svg>'.format(*size, rows, body)


def spans(numbers):
    """Numbers as text, those that follow one another as 3-7."""
    found = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return " ".join(f"{a}-{b}" if a != b else f"{a}" for a, b in found)
