"""The charts of the study's page as SVG, by the report's axes and frames.

Colours and dashes are the style sheet's, by the class of a method, a layer or a tenth.
"""

import itertools
import math

from ..reports import charts
from . import training

SIZE = charts.SMALL
PLANE = 40 * 8  # pixels a side of a map of the plane, of which a point has 8


def curves(series, size=SIZE):
    """Lines by class on logarithmic axes: {class: [(x, y)]}; what is not above 0 has no place."""
    series = {
        name: [(x, y) for x, y in points if x > 0 and y and y > 0]
        for name, points in series.items()
    }
    every = list(itertools.chain(*series.values()))
    if not every:
        return ""
    x, y = charts.axes([a for a, _ in every], [b for _, b in every], size)
    lines = "".join(path(name, x, y, points) for name, points in series.items() if points)
    return charts.svg(size, charts.frame(x, y, size) + lines)


def path(name, x, y, points):
    """A line through points; one of many that lie on one pixel is enough."""
    places = dict.fromkeys(f"{x.place(a)} {y.place(b)}" for a, b in points)
    return f'<path class="{name}" d="M{" ".join(places)}"/>'


def steps_of(profiles, last, size=SIZE):
    """Performance profiles, {class: [(t, share)]}, as steps up to t = last."""
    x = charts.Axis.over([1, last], charts.LEFT, size[0] - charts.RIGHT)
    y = charts.Share(size[1] - charts.BOTTOM, charts.TOP)
    lines = []
    for name, found in profiles.items():
        share = max((s for t, s in found if t <= 1), default=0)
        d = f"M{x.place(1)} {y.place(share)}"
        for t, after in found:
            if 1 < t <= last:
                d += f"H{x.place(t)}V{y.place(after)}"
        lines.append(f'<path class="{name}" d="{d}H{x.place(last)}"/>')
    return charts.svg(size, charts.frame(x, y, size) + "".join(lines))


def trade(points, size=SIZE):
    """Steps to the target against time a step: {class: [(steps, time)]}, the first the best.

    Along a dashed line the time to the target is the same.
    """
    every = list(itertools.chain(*points.values()))
    if not every:
        return ""
    x, y = charts.axes([s for s, _ in every], [t for _, t in every], size)
    (left, right), (low, high) = ((a.decades[0], a.decades[-1]) for a in (x, y))
    lines = []
    for power in range(round(math.log10(left * low)) + 1, round(math.log10(right * high))):
        product = 10.0**power
        start, stop = max(left, product / high), min(right, product / low)
        ends = ((start, product / start), (stop, product / stop))
        lines.append(path("equal", x, y, ends))
    dots = []
    for name, found in points.items():
        for place, (steps, time) in enumerate(found):
            at = f'cx="{x.place(steps)}" cy="{y.place(time)}"'
            dots.append(f'<circle class="{name}" {at} r="{3 if place else 9}"/>')
    return charts.svg(size, charts.frame(x, y, size) + "".join(lines + dots))


def plane(digits, points):
    """The map of a run, each tenth of the probability a shade, and the id of points on it."""
    across = training.ACROSS
    shades = {}
    for row in range(across):
        line, column = digits[row * across : (row + 1) * across], 0
        for digit, same in itertools.groupby(line):
            width = len(list(same))
            top = PLANE - 8 * row - 4
            shades.setdefault(digit, []).append(
                f"M{8 * column - 4} {top}h{8 * width}v8h-{8 * width}z"
            )
            column += width
    filled = "".join(f'<path class="p{digit}" d="{"".join(d)}"/>' for digit, d in shades.items())
    return charts.svg((PLANE, PLANE), f'{filled}<use href="#{points}"/>')


def held_out(rows, name):
    """The held-out points of a data set, to be used by its maps."""
    dots = []
    for (a, b), label in zip(rows.held_x, rows.held_labels, strict=True):
        x, y = ((float(v) / training.EDGE + 1) / 2 * PLANE for v in (a, b))
        dots.append(f'<circle class="k{label}" cx="{x:.0f}" cy="{PLANE - y:.0f}" r="3"/>')
    return f'<g id="{name}">{"".join(dots)}</g>'
