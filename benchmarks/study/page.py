"""The study as one page of HTML, which asks nothing of any other place: `study --html FILE`."""

import math

from ..reports.page import CLEAR, EVEN, LARGE, template
from . import data, drawing, figures, grid, report

LAST = 100  # of the profiles: times the least


def render(runs):
    """The page of these runs, as text."""
    names = [name for name in grid.METHODS if any(run.setting.method == name for run in runs)]
    classes = {name: f"m{number}" for number, name in enumerate(names)}
    problems = figures.compared(runs)
    planes = {p: methods for p, methods in problems.items() if _is_plane(p)}
    sets = dict.fromkeys(setting.data for _, setting in planes)
    return template("study.html").render(
        head=report.head(runs),
        methods=list(classes.items()),
        trades=[(report.problem_name(p), trade(m, classes)) for p, m in problems.items()],
        curves=[
            (title, chart) for p, m in problems.items() for title, chart in losses(p, m, classes)
        ],
        planes=[(report.problem_name(p), list(maps(m))) for p, m in planes.items()],
        points=[drawing.held_out(data.rows(name), f"rows-{name}") for name in sets],
        heats=[(report.problem_name(p), heats(m)) for p, m in problems.items()],
        gradients=gradients(runs),
        profiles=list(profiles(runs, classes)),
        tables=report.tables(runs),
    )


def _is_plane(problem):
    return problem[1].data.startswith(("moons", "circles"))


def trade(methods, classes):
    """Steps and us a step of every setting; each method's best one first."""
    points = {}
    for method, of_method in methods.items():
        best = figures.best(of_method)
        ordered = sorted(of_method, key=lambda cell: cell is not best)
        found = [(c.steps, 1e6 * c.median(lambda run: run.step_seconds)) for c in ordered]
        points[classes[method]] = [(s, t) for s, t in found if 0 < s < math.inf]
    return drawing.trade(points)


def losses(problem, methods, classes):
    """(title, chart) of both losses over steps, each method in its best setting, its first seed."""
    for kind in ("training", "validation"):
        series = {}
        for method, of_method in methods.items():
            run = figures.best(of_method).runs[0]
            series[classes[method]] = over_steps(run, run.record["curves"][f"{kind}_loss"])
        yield f"{kind} loss: {report.problem_name(problem)}", drawing.curves(series)


def over_steps(run, values):
    """[(steps, value)] of a curve."""
    return [(epoch * run.record["steps_an_epoch"], value) for epoch, value in enumerate(values)]


def maps(methods):
    """(title, map) of each method's best setting, its first seed."""
    for method, of_method in methods.items():
        run = figures.best(of_method).runs[0]
        if run.record["map"]:
            accuracy = report.percent(run.reached("validation_accuracy"))
            points = f"rows-{run.setting.data}"
            yield f"{method}, {accuracy}", drawing.plane(run.record["map"], points)


def heats(methods):
    """(batches, [(method, [(rate, [(class, text)])])]): time to the target by rate and batch."""
    known = {cell.setting.batch for of_method in methods.values() for cell in of_method}
    batches = [batch for batch in grid.BATCHES if batch in known]
    return batches, [(method, heat(of_method, batches)) for method, of_method in methods.items()]


def heat(of_method, batches):
    """[(rate, [(class, text)])] of a method; of several momenta the best one."""
    best = figures.best(of_method)
    groups = figures.grouped(of_method, lambda cell: (cell.setting.rate, cell.setting.batch))
    found = {key: figures.best(cells) for key, cells in groups.items()}
    rates = sorted({rate for rate, _ in found})
    return [(f"{rate:g}", [shade(found.get((rate, b)), best) for b in batches]) for rate in rates]


def shade(cell, best):
    """(class, text) of a cell of the heat map, by how many times longer than the best it takes."""
    text = report.times(cell, best)
    if cell is None or not math.isfinite(cell.seconds):
        return ("bad" if text == "diverges" else "none"), text
    limits = EVEN, CLEAR, LARGE
    return f"c{sum(cell.seconds / best.seconds < limit for limit in limits)}", report.seconds(
        cell.seconds
    )


def gradients(runs):
    """[(title, chart)]: the norms of the layers' gradients over steps, a chart for an activation.

    Of each data set that setting which was run with the most activations, and is the most accurate.
    """
    found = []
    alike = figures.grouped(runs, lambda run: (run.backend, run.setting.without("activation")))
    by_data = figures.grouped(alike.values(), lambda of_one: of_one[0].setting.data)
    for groups in by_data.values():
        most = max(map(len, groups))
        if most > 1:
            chosen = max((g for g in groups if len(g) == most), key=_accuracy)
            found += map(_by_layer, chosen)
    return found


def _accuracy(runs):
    return min(run.reached("validation_accuracy") or 0 for run in runs)


def _by_layer(run):
    layers = zip(*run.record["curves"]["gradients"], strict=True)
    series = {f"l{layer}": over_steps(run, norms) for layer, norms in enumerate(layers)}
    return str(run.setting), drawing.curves(series)


def profiles(runs, classes):
    """(title, chart) of steps and time, in the best setting and at any rate."""
    for backend, of_one in figures.grouped(runs, lambda run: run.backend).items():
        for title, instances in (("best setting", figures.tuned), ("any rate", figures.untuned)):
            for name, of in (("steps", lambda run: run.steps), ("time", lambda run: run.seconds)):
                found = figures.profiles(instances(of_one, of))
                drawn = {classes[method]: profile for method, profile in found.items()}
                yield f"{name}, {title}, {backend}", drawing.steps_of(drawn, LAST)
