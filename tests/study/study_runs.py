"""Runs made up for tests of what is said of them."""

from benchmarks.study import figures, grid, training

MACHINE = {"cpu": "a processor", "num_cpu": "2", "os": "Linux"}


def record(
    method,
    *,
    steps=100,
    step_seconds=1e-6,
    accuracy=0.9,
    diverged=None,
    dead=(0.0, 0.0),
    gradients=(1.0, 2.0, 4.0),
    validation=(1.0, 0.5, 0.4),
    backend="numba",
    **fields,
):
    """The record of a run of two epochs of ten steps; `steps` is None where it is never there."""
    beta = 0.9 if grid.METHODS[method].betas else None
    given = {"data": "moons-0.2", "hidden": (32, 16), "activation": "relu"}
    given |= {"regularisation": "none", "beta": beta, "rate": 0.01, "batch": 32, "seed": 0}
    setting = grid.Setting(method=method, **{**given, **fields})
    training_loss = [loss / 2 for loss in validation]
    reached = dict.fromkeys(training.REACHED, accuracy)
    gone = diverged is not None
    return {
        "setting": setting.fields,
        "backend": backend,
        "steps_an_epoch": 10,
        "diverged": diverged,
        "best": 1,
        "reached": None if gone else reached,
        "target_steps": None if gone else steps,
        "signals": {"rising_validation": 7, "growing_gap": None, "plateau": None},
        "curves": {
            "training_loss": training_loss,
            "validation_loss": list(validation),
            "gradients": [list(gradients)] * 3,
            "dead": [list(dead)] * 3,
            "sparse_activations": [[0.5, 0.25]] * 3,
        },
        "seconds": [9 * step_seconds, 10 * step_seconds, 11 * step_seconds],
        "digest": "d",
        "map": "0123456789" * 168 + "9" if len(gradients) == 3 and not gone else None,
        "machine": MACHINE,
        "finished": "2026-01-02T03:04:05",
    }


def run(*arguments, **more):
    return figures.runs([record(*arguments, **more)])[0]


def seeds(method, steps, **more):
    """A run for every one of these steps to the target."""
    return [run(method, steps=count, seed=seed, **more) for seed, count in enumerate(steps)]


def study():
    """Three methods at two rates, three seeds; sgd never at the lower rate, rmsprop diverges."""
    return [
        *seeds("minibatch_sgd", [300, 200, 400], rate=0.1),
        *seeds("minibatch_sgd", [None, None, 900]),
        *seeds("adam", [40, 60, 50], step_seconds=2e-6, accuracy=0.95),
        *seeds("adam", [400, 410, 420], rate=0.1, step_seconds=2e-6),
        *seeds("rmsprop", [100, 120, 500], step_seconds=4e-6),
        *seeds("rmsprop", [1, 1, 1], rate=0.1, diverged=2),
        *[run("adam", activation="elu", seed=seed, accuracy=0.97) for seed in range(3)],
    ]
