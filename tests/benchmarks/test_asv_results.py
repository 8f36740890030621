"""asv's result file as we write it, against asv's own."""

import itertools
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from asv.results import Results
from asv.runner import BenchmarkResult

from benchmarks.running import asv_results

AXES = [["relu", "tanh"], [1, 16, 128], ["cupy"]]
HARDWARE = {"machine": "lab", "cpu": "EPYC", "gpu": "Card", "version": 1}
HEAD = {"numpy": "2.4.6"}, "abcdef12" * 5
ENVIRONMENT = "3.11", "session-py3.11-card", {"GPU": "Card"}
NAMES = "bench_dense.dense_forward.time_call", "bench_losses.softmax.time_call", "all skipped"


def some(count):
    """Cells by their values: timed `count` times, one failed, one skipped."""
    rng = np.random.default_rng(count)
    cells = {
        values: (0.0, rng.lognormal(-10, 1, count).tolist(), int(rng.integers(1, 100)))
        for values in itertools.product(*AXES)
    }
    cells["relu", 1, "cupy"], cells["tanh", 16, "cupy"] = (None, None, None), (math.nan, None, None)
    return cells


@pytest.mark.parametrize("count", [8, 9, 15, 20, 31])
def test_it_is_what_asv_writes(count, tmp_path):
    """To the last character, as many times as asv's interval does not assume a distribution."""
    now, cells = datetime.now(UTC), some(count)
    nothing = [dict.fromkeys(cells, (value, None, None)) for value in (None, math.nan)]
    benchmarks = dict(zip(NAMES, (cells, *nothing), strict=True))
    date = round(1000 * now.timestamp())
    theirs = Results(HARDWARE, *HEAD, date, *ENVIRONMENT)
    params = [list(map(repr, values)) for values in AXES]
    for name, found in benchmarks.items():
        values, samples, numbers = zip(*found.values(), strict=True)
        outcome = BenchmarkResult(list(values), samples, numbers, 0, "", None)
        theirs.add_result({"name": name, "version": "1", "params": params}, outcome, now)
    theirs.save(str(tmp_path))

    rows = {
        name: asv_results.row("1", AXES, found, now.timestamp())
        for name, found in benchmarks.items()
    }
    ours = asv_results.document(HARDWARE, *HEAD, now.timestamp(), *ENVIRONMENT, rows)
    path = tmp_path / "lab" / "abcdef12-session-py3.11-card.json"
    assert ours == path.read_text()


def test_asv_reads_it(tmp_path):
    (tmp_path / "lab").mkdir()
    path, cells = tmp_path / "lab" / "abcdef12-session-py3.11-card.json", some(15)
    rows = {NAMES[0]: asv_results.row("1", AXES, cells, 1.5)}
    path.write_text(asv_results.document(HARDWARE, *HEAD, 1.0, *ENVIRONMENT, rows))
    loaded = Results.load(str(path), machine_name="lab")
    params = loaded.get_result_params(NAMES[0])
    values = loaded.get_result_value(NAMES[0], params)
    assert values[0] is None
    assert math.isnan(values[4])
    assert values[1] == np.median(cells["relu", 16, "cupy"][1])
    assert loaded.get_result_stats(NAMES[0], params)[1]["repeat"] == 15
    assert (loaded.date, loaded.started_at[NAMES[0]]) == (1000, 1500)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_few_samples_give_their_range(count):
    """Fewer than 8 cannot tell where the median lies with 99 % certainty."""
    samples = np.random.default_rng(count).random(count).tolist()
    assert asv_results._interval(samples) == (min(samples), max(samples))
