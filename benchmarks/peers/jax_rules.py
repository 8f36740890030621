"""The update rules of optax that have our form, by the names of their settings and states.

Others of its rules differ from ours: adagrad and radam in where eps stands, amsgrad in what it
takes the largest of, nadam in its momentum, rprop in when a step is taken.
"""

import functools

import numpy as np

from .given import settings_of

# A rule -> (its factory, what makes it this one, its states by ours).
_FACTORIES = {
    "nesterov": ("sgd", {"nesterov": True}, {"velocity": "trace"}),
    "rmsprop": ("rmsprop", {"eps_in_sqrt": False}, {"mean_square": "nu"}),
    "centered_rmsprop": (
        *("rmsprop", {"eps_in_sqrt": False, "centered": True}),
        {"mean_square": "nu", "mean": "mu", "velocity": "trace"},
    ),
    "adamw": ("adamw", {}, {"mean": "mu", "variance": "nu"}),
    "adadelta": ("adadelta", {}, {"mean_square": "e_g", "mean_square_change": "e_x"}),
    "adamax": ("adamax", {}, {"mean": "mu", "infinity_norm": "nu"}),
    "lion": ("lion", {}, {"mean": "mu"}),
}
_SETTINGS = {"lr": "learning_rate", "beta1": "b1", "beta2": "b2", "beta": "momentum"}


def bound(operation, inputs, place, finish):
    """(call, results) of one jax.jit of update and application, parameters and state donated.

    finish(arrays) waits for them. Raises NotImplementedError where optax has no such rule. Its
    velocity is v / lr, and behind the rate -lr v.
    """
    import jax
    import optax

    if operation.name not in _FACTORIES:
        raise NotImplementedError(f"optax has no {operation.name} of this form")
    factory, given, states = _FACTORIES[operation.name]
    settings = settings_of(operation, inputs)
    names = _SETTINGS | {"rho": "decay" if factory == "rmsprop" else "rho"}
    rule = getattr(optax, factory)(**given, **{names.get(k, k): v for k, v in settings.items()})
    scales = {"nesterov": 1 / settings["lr"], "centered_rmsprop": -settings["lr"]}
    scales = {"velocity": scales.get(operation.name)}

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(param, state, grad):
        change, state = rule.update(grad, state, param)
        return optax.apply_updates(param, change), state

    def put(name):
        return jax.device_put(np.array(inputs[name] * np.float32(scales.get(name, 1))), place)

    param, grad = put("param"), put("grad")
    begun = {theirs: put(ours) for ours, theirs in states.items()}
    if "step" in inputs:
        begun["count"] = jax.numpy.int32(inputs["step"] - 1)
    now = [param, optax.tree_utils.tree_set(rule.init(param), **begun)]

    def call():
        now[:] = step(*now, grad)
        finish(now[:1])

    def results():
        kept = (optax.tree_utils.tree_get(now[1], theirs) for theirs in states.values())
        scaled = (
            np.array(a) / np.float32(scales.get(o, 1)) for o, a in zip(states, kept, strict=True)
        )
        return np.array(now[0]), *scaled

    return call, results
