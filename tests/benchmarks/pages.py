"""A run made up for tests of the page."""

from journals import begin, note, note_roofs, record

from benchmarks.reports import columns, page, results

LAYER = "mnist-784x512"
CPU_STEPS = {16: 20, 128: 128}  # microseconds by batch
HOSTILE = "<img src=x onerror=alert(1)>"


def house_of_runs(folder, gpu_specification="1"):
    """A run with a wrong cell and one that was not measured, a recorded card; and the view."""
    begin()
    note_roofs()
    one, many = ("relu", LAYER, "float32", 1), ("relu", LAYER, "float32", 128)
    broken = ("tanh", LAYER, "float32", 1)
    times = {
        (*one, "numpy"): 60e-6,
        (*one, "numba"): 20e-6,
        (*many, "numpy"): 3e-3,
        (*many, "numba"): 1e-3,
        (*broken, "numba"): ("WRONG", f"3 of 4 wrong {HOSTILE}"),
        (*broken, "numpy"): 61e-6,
    }
    note("dense_forward", times)
    name = "digits-64-128-64-32-10"
    note("network_step", {(name, "float32", b, "numba"): us * 1e-6 for b, us in CPU_STEPS.items()})
    steps = {(name, "float32", b, "cupy"): 40e-6 for b in (16, 128)}
    path = record(
        "h100",
        dense_forward={(*one, "cupy"): 40e-6, (*many, "cupy"): 50e-6},
        product={("2048x2048", "float32", 2048, "cupy"): 2 * 2048**3 / 40e12},
        triad={("16777216", "float32", "cupy"): 3 * 4 * 16777216 / 2e12},
        network_step=steps,
        network_transfer=dict.fromkeys(steps, 60e-6),
    )
    path.write_text(path.read_text().replace('"1", 17', f'"{gpu_specification}", 17'))
    assert results.newest(), folder
    return columns.view()


def rendered(*arguments, **more):
    return page.render(house_of_runs(*arguments, **more))
