"""Draws time against batch size, every backend beside the least time that the roof allows."""

from pathlib import Path

from . import results, roofline
from .columns import columns


def draw(folder, machine=None):
    """A picture for every function, variant and dtype, a panel a layer; returns the paths."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    run = results.newest(machine)
    if run is None:
        raise ValueError("there are no results yet: run python3 run.py bench")
    cpus, gpus, _ = columns(run, results.recorded())
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    groups = {}
    for cell in dict.fromkeys(cell for cell, _ in run.times):
        if cell.batch and (cell.function, cell.variant) in roofline.OPERATIONS:
            group = groups.setdefault((cell.function, cell.variant, cell.dtype), {})
            group.setdefault(cell.layer, []).append(cell)
    paths = []
    for names, layers in groups.items():
        figure, panels = pyplot.subplots(
            1, len(layers), figsize=(4 * len(layers), 3.5), squeeze=False, layout="constrained"
        )
        for panel, (layer, cells) in zip(panels[0], layers.items(), strict=True):
            cells.sort(key=lambda cell: cell.batch)
            for column in [*cpus, *gpus]:
                points = [(c.batch, column.seconds(c)) for c in cells if column.seconds(c)]
                if points:
                    panel.plot(*zip(*points, strict=True), "o-", label=column.label)
            for column in [*cpus[:1], *gpus]:
                roof = column.roofs.get((column.run, names[2]))
                if roof:
                    device = "CPU" if column in cpus else column.label
                    floor = [roof.seconds(cell) for cell in cells]
                    if None not in floor:
                        panel.plot([c.batch for c in cells], floor, "--", label=f"roof, {device}")
            panel.set(xscale="log", yscale="log", title=layer, xlabel="batch")
        panels[0][0].set_ylabel("median time [s]")
        panels[0][-1].legend()
        figure.suptitle(" ".join(filter(None, names)))
        paths.append(folder / f"{'-'.join(filter(None, names))}.png")
        figure.savefig(paths[-1], dpi=120)
        pyplot.close(figure)
    return paths
