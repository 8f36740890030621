"""Ten layers: what skips and normalisation do to gradients, and what such a network learns."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST_NATIVE, SIMULATED, backend_or_skip
from network_cases import make, put

import reference
from benchmarks.suites import workloads

DEEP = {"sizes": (64, *[128] * 10, 10), "activations": "sigmoid", "batch": 64, "dtype": "float32"}


@pytest.fixture(scope="module", params=[*FAST_NATIVE, SIMULATED[2]])
def fast_backend(request):
    return backend_or_skip(request.param)


def fallen(backend, rows=slice(64), **options):
    """How many times smaller the first layer's gradient is than the tenth's, at the start: by the
    norms of the gradients of weights.
    """
    network, data = make(backend, DEEP, **options), workloads.training("digits")
    network.step(*put(backend, *(np.ascontiguousarray(array[rows]) for array in data)))
    first, *_, last, _ = network.gradients[:, 0]
    return last / first


@pytest.mark.parametrize("normalization", [None, "batch_norm"])
def test_skips_keep_the_gradient_of_deep_layers(fast_backend, normalization):
    options = {"normalization": normalization, "seed": 3}
    assert 0.1 < fallen(fast_backend, residual=True, **options) < 10
    if normalization is None:  # it alone does as much
        assert fallen(fast_backend, residual=False, **options) > 1000


def test_skips_keep_it_whatever_the_seed_and_the_rows():
    for seed in range(8):
        rows = slice(64 * seed, 64 * (seed + 1))
        assert 0.1 < fallen(reference, rows, residual=True, seed=seed) < 10


def code_of_readme(before):
    """(its code behind these words, the text behind that)."""
    text = (Path(__file__).resolve().parents[2] / "kernels" / "README.md").read_text()
    ((code, behind),) = re.findall(rf"{before}:\n\n((?:    .*\n|\n)+)((?:.*\n)+)", text)
    return textwrap.dedent(code), behind


def test_norms_of_the_readme_are_those_of_its_script(capsys):
    code, behind = code_of_readme("first gradients of the ten layers' weights")
    exec(code, {})
    printed = [list(map(float, line.split()[2:])) for line in capsys.readouterr().out.splitlines()]
    rows = [line.strip("| ").split(" | ") for line in behind.splitlines()[2:6]]
    assert [name for name, *_ in rows] == ["neither", "batch norm", "skips", "both"]
    for (_, *shown), norms in zip(rows, printed, strict=True):
        np.testing.assert_allclose(np.float64(shown), norms, rtol=0.06)


@pytest.mark.slow
def test_the_deep_network_of_the_readme_reaches_98_and_a_half_percent():
    code, _ = code_of_readme("Ten layers on augmented digits")
    assert len(code.strip().splitlines()) <= 25
    names = {}
    exec(code, names)
    assert names["accuracy"] >= 0.985
