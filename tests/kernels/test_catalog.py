"""The catalogue against every list that cannot be derived from it."""

import inspect
import re
from pathlib import Path

import pytest

import reference
from kernels import catalog
from reference import activations, element_losses, network

CUDA = Path(__file__).resolve().parents[2] / "kernels" / "cupy_gpu" / "include"


def test_ids_count_from_zero():
    for kind in (catalog.ACTIVATIONS, catalog.RULES, catalog.ELEMENT_LOSSES):
        ids = {entry.id for entry in kind.values()}
        assert ids == set(range(len(ids)))
    assert list(catalog.LOSSES.values()) == list(range(len(catalog.LOSSES)))


def test_activations_are_the_references():
    assert tuple(catalog.ACTIVATIONS) == tuple(activations.ACTIVATIONS)
    for name, declared in catalog.ACTIVATIONS.items():
        theirs = activations.ACTIVATIONS[name]
        assert declared.saves_input == theirs.saves_input, name
        assert declared.weight_gain == theirs.weight_gain, name
        alpha = declared.alpha.default if declared.alpha else None
        pair = declared.pair and tuple(number.default for number in declared.pair)
        assert (pair or alpha) == theirs.alpha, name


def test_initial_weights_are_the_references():
    """The variance of many weights before each activation."""
    for name, declared in catalog.ACTIVATIONS.items():
        if name == "rectifier":
            continue
        drawn = network.initial((300, 200, 2), (name, "identity"), "float64", 0)["layer0.weight"]
        gain = declared.weight_gain
        variance = gain / 300 if gain else 2 / 500
        assert drawn.var() == pytest.approx(variance, rel=0.03), name


def test_losses_and_rules_are_the_references():
    assert list(catalog.LOSSES) == list(network.LOSSES)
    assert list(catalog.ELEMENT_LOSSES) == element_losses.__all__
    assert {name: rule.states for name, rule in catalog.RULES.items()} == network.STATES


def test_initializers_are_the_references():
    """Names, scales and defaults."""
    theirs = reference.initializers
    assert tuple(catalog.INITIALIZERS) == theirs.INITIALIZERS
    for name, declared in catalog.INITIALIZERS.items():
        assert (declared.scale is None) == (declared.value is not None), name
        if name in theirs.SCALES:
            assert declared.scale(35, 9) == theirs.SCALES[name](35, 9), name
            law = catalog.NORMAL if name.endswith("normal") else catalog.UNIFORM
            assert declared.distribution == law, name
    assert catalog.INITIALIZERS["sparse_normal"].value.default == theirs.CONNECTIONS


def test_layers_of_dropout_have_the_upper_half_of_the_streams():
    assert catalog.FIRST_DROPOUT == reference.dropout.FIRST_STREAM
    assert catalog.FIRST_DROPOUT + catalog.LAYERS == catalog.STREAMS


@pytest.mark.parametrize("name", catalog.RULES)
def test_signatures_of_rules(name):
    """Parameters, gradients, states, the step where the rule counts; then its settings."""
    rule, parameters = catalog.RULES[name], inspect.signature(getattr(reference, name)).parameters
    counted = ["step"] if rule.counts else []
    assert list(parameters) == ["param", "grad", *rule.states, *counted, *rule.settings]
    for setting, number in list(rule.settings.items())[1:]:  # a network has no default rate
        assert parameters[setting].default == number.default, setting


@pytest.mark.parametrize("name", catalog.ELEMENT_LOSSES)
def test_signatures_of_losses_of_elements(name):
    """Arrays, the number where there is one, reduction, out; gradients of all but the target."""
    declared = catalog.ELEMENT_LOSSES[name]
    parameters = inspect.signature(getattr(reference, name)).parameters
    setting, number = declared.setting or (None, None)
    named = [*declared.arrays, *[setting] * bool(setting), "reduction", "out"]
    assert list(parameters) == named
    if setting:
        assert parameters[setting].default == number.default
    (operation,) = (o for o in reference.FAMILIES["losses"] if o.name == name)
    gradients = [f"d{array}" for array in declared.arrays if array != "target"]
    assert [result.name for result in operation.results] == ["loss", *gradients]
    assert declared.may_replace == [
        (f"out[{k}]", gradient[1:]) for k, gradient in enumerate(gradients, 1)
    ]


def enum(file, name):
    text = (CUDA / file).read_text()
    (names,) = re.findall(rf"enum {name} {{([^}}]*)}}", text)
    return re.sub(r"\s", "", names).split(",")


def cases(file, function):
    """The names that a switch of this function tells apart."""
    text = (CUDA / file).read_text()
    body = text[text.index(f"void {function}(") :]
    return re.findall(r"case (\w+):", body[: body.index("default: __trap();")])


def test_cuda_has_the_same_ids():
    """Ids of activations are constants of the catalogue; of losses and rules, their names'."""
    ways = enum("activations.cuh", "Activation")
    assert [getattr(catalog, name) for name in ways] == list(range(len(ways)))
    assert {a.id for a in catalog.ACTIVATIONS.values()} <= set(range(len(ways)))
    assert sorted(cases("activations.cuh", "with_activation")) == sorted(ways)
    elements = enum("element_losses.cuh", "ElementLoss")
    assert [getattr(catalog, name) for name in elements] == list(range(len(elements)))
    assert cases("element_losses.cuh", "with_element_loss") == elements
    rules = sorted(catalog.RULES, key=lambda name: catalog.RULES[name].id)
    assert enum("rules.cuh", "Rule") == [name.upper() for name in rules]
    assert cases("rules.cuh", "with_rule") == enum("rules.cuh", "Rule")
    assert enum("network.cuh", "Loss") == [name.upper() for name in catalog.LOSSES]


def test_cuda_has_room_for_every_rule():
    from kernels.cupy_gpu import optimizers

    text = (CUDA / "rules.cuh").read_text()
    most = re.search(r"MOST_STATES = (\d+), MOST_SCALARS = (\d+);", text).groups()
    assert tuple(map(int, most)) == (optimizers.MOST_STATES, optimizers.MOST_SCALARS)
    for rule in catalog.RULES.values():
        settings = (number.default or 0.5 for number in rule.settings.values())
        assert len(rule.scalars(1, *settings)) <= optimizers.MOST_SCALARS
        assert len(rule.states) <= optimizers.MOST_STATES


def test_numba_has_a_function_for_every_id():
    from kernels.numba_cpu import activation_rows, element_loss_parts, optimizers

    for kind, tables in (
        (catalog.ACTIVATIONS, (activation_rows.activations, activation_rows.derivatives)),
        (catalog.RULES, (optimizers.parts, optimizers.counts)),
        (catalog.ELEMENT_LOSSES, (element_loss_parts.losses,)),
    ):
        for table in tables:
            more = {catalog.SCALED_ELU} if kind is catalog.ACTIVATIONS else set()
            assert set(table.functions) == {entry.id for entry in kind.values()} | more
