"""Which way the GPU takes up to which size: by another card, by its own session, or forced."""

import contextlib
import dataclasses
import json

import pytest
from conftest import SIMULATED, backend_or_skip

from benchmarks.reports import results
from benchmarks.running import crossings


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """The simulated GPU, where no session has kept anything."""
    backend = backend_or_skip(SIMULATED[0])
    monkeypatch.setattr(backend.runtime.limits, "RECORDED", tmp_path)
    backend.runtime.limits.of_card.cache_clear()
    yield backend
    backend.runtime.limits.of_card.cache_clear()


def keep(folder, card, **sizes):
    """As a session does on whose card the way for small work was the faster one up to these."""
    folder.mkdir()
    entries = [{"sizes": {name: size}, "seconds": [1.0, 2.0]} for name, size in sizes.items()]
    crossings.keep(folder, card, entries)


def test_limits_are_those_of_another_card_where_nothing_was_measured(gpu):
    assert gpu.runtime.limits.current() == gpu.runtime.limits.Limits()
    assert gpu.runtime.limits.current().origin == "of another card, an H200"


def test_what_a_session_kept_of_this_card_holds(gpu, tmp_path):
    """What was not measured stays as it was."""
    keep(tmp_path / "other-machine", "another card", most_captured=7, most_products=7)
    keep(tmp_path / "this-machine", gpu.device.name(), most_captured=5, most_products=3)
    expected = gpu.runtime.limits.Limits(
        most_captured=5, most_products=3, origin=f"measured: this-machine/{crossings.LIMITS}"
    )
    assert gpu.runtime.limits.current() == expected
    with gpu.runtime.limits.forced(most_captured=0):
        forced = dataclasses.replace(expected, most_captured=0, origin="forced")
        assert gpu.runtime.limits.current() == forced


def test_a_limit_of_another_version_is_left_alone(gpu, tmp_path):
    (tmp_path / "machine").mkdir()
    limits = {gpu.device.name(): {"most_flops": 5, "most_colours": 3}}
    (tmp_path / "machine" / gpu.runtime.limits.FILE).write_text(json.dumps(limits))
    assert gpu.runtime.limits.current().most_flops == 5


def test_forced_limits_end_with_their_block(gpu):
    before = gpu.runtime.limits.current()
    with gpu.runtime.limits.forced(most_flops=0):
        with gpu.runtime.limits.forced(most_depth=7):
            assert (
                gpu.runtime.limits.current().most_flops,
                gpu.runtime.limits.current().most_depth,
            ) == (0, 7)
        assert gpu.runtime.limits.current().most_depth == before.most_depth
    assert gpu.runtime.limits.current() is before
    with contextlib.suppress(OSError), gpu.runtime.limits.forced(most_flops=0):
        raise OSError
    assert gpu.runtime.limits.current() is before


def test_both_sides_name_the_same_file_and_limits(gpu):
    names = {field.name for field in dataclasses.fields(gpu.runtime.limits.Limits)}
    assert gpu.runtime.limits.FILE == crossings.LIMITS
    assert {name for rung in crossings.ladders() for name in rung.sizes} < names


def test_without_others_the_limits_are_those_that_were_recorded():
    kept = json.loads((results.RECORDED / "nvidia-h200" / crossings.LIMITS).read_text())
    written = dataclasses.asdict(backend_or_skip(SIMULATED[0]).runtime.limits.Limits())
    assert written | kept["NVIDIA H200"] == written
