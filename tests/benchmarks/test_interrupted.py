"""Sessions on the simulated GPU that are struck at every stage: what was measured is kept."""

import dataclasses
import json
import signal

import pytest
import rehearse_record
from conftest import ON_CUPY_ARRAYS, backend_or_skip
from rehearse_record import CARD, LAYER

from benchmarks import __main__ as command
from benchmarks.peers import contenders, rows
from benchmarks.reports import results
from benchmarks.running import crossings, journal, record, session, stages


@pytest.fixture
def card(monkeypatch, tmp_path):
    """The simulated GPU, a small grid and short measurements; a library beside it at two cells."""
    for module, name, value in (*rehearse_record.quickly(), *rehearse_record.small()):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(results, "RECORDED", tmp_path)
    chosen = ("network_step moons-2-32-16-2 16", f"dense_forward[relu] {LAYER} 1")
    cells = [cell for cell in rows.core() if f"{cell[0]} {cell[1].name} {cell[2]}" in chosen]
    monkeypatch.setattr(rows, "core", lambda: cells)
    monkeypatch.setattr(stages, "LAYERS", (LAYER,))
    monkeypatch.setattr(contenders, "available", available)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    yield backend_or_skip(ON_CUPY_ARRAYS)
    signal.signal(signal.SIGINT, before)


def available(ours, device):
    library = contenders.Contender("torch", lambda operation, inputs: lambda: None)
    return [*(contenders._ours(*item) for item in ours.items()), library], []


def go(card):
    return record.record(module=card, card=lambda: CARD)


def kept(folder):
    """The session, as it lies on the disk, and asv's file as the report reads it."""
    (path,) = folder.glob("*/*.session")
    return json.loads(path.read_text()), results.read(path.with_suffix(".json"))


def keys(found):
    return [entry["key"] for kind in session.KINDS for entry in found[kind]]


def fail():
    raise OSError("planted")


def terminate():
    signal.raise_signal(signal.SIGTERM)  # in this thread, so at once


def interrupt():
    signal.raise_signal(signal.SIGINT)


# Where a session is struck, by what, and what comes of it: a word of the entry, or an exception.
STEP = "network_step moons-2-32-16-2 float32"
STRIKES = {
    f"{STEP} 16": (fail, journal.FAILED),
    f"{STEP} 32": (terminate, KeyboardInterrupt),
    "product 32x32 float32 32": (fail, journal.FAILED),
    "triad 64 float32": (interrupt, KeyboardInterrupt),
    "beside network_step moons-2-32-16-2 16": (fail, journal.FAILED),
    f"activation_forward relu {LAYER} float32 16": (terminate, KeyboardInterrupt),
    f"adam {LAYER} float32": (fail, journal.FAILED),
    "both ways of 32x64x32": (fail, journal.FAILED),
    "both ways of 32x256x32": (interrupt, KeyboardInterrupt),
    f"beside dense_forward[relu] {LAYER} 1": (terminate, KeyboardInterrupt),
    "borders of softmax, float32": (fail, journal.FAILED),
    "borders of adam, float64": (interrupt, KeyboardInterrupt),
}


@pytest.mark.slow
def test_struck_at_every_stage_it_is_finished_at_last(capsys, card, monkeypatch, tmp_path):
    """Once in every place; every call goes on where the one before it was ended."""
    strikes, measured, entry_of = dict(STRIKES), [], record._entry

    def struck(task, session):
        strike, _ = strikes.pop(task.key, (None, None))

        def work():
            if strike:
                strike()
            measured.append(task.key)
            return task.work()

        return entry_of(dataclasses.replace(task, work=work), session)

    monkeypatch.setattr(record, "_entry", struck)
    interruptions = [what for _, what in STRIKES.values() if what is KeyboardInterrupt]
    for _ in interruptions:
        with pytest.raises(KeyboardInterrupt):
            go(card)
        assert "not finished; what was measured is kept in" in capsys.readouterr().out
        found, run = kept(tmp_path)
        assert not found["finished"]
        assert set(measured) <= set(keys(found))
        correct = [e for e in found["cells"] if e["verdict"] == journal.CORRECT]
        assert len(run.times) == len(correct)
    go(card)
    found, run = kept(tmp_path)
    assert not strikes
    assert found["finished"]
    assert found["died"] == {}  # no process has
    assert len(measured) == len(set(measured))  # nothing was measured twice
    assert len(keys(found)) == len(set(keys(found)))
    failing = {key for key, (_, what) in STRIKES.items() if what == journal.FAILED}
    for kind in session.KINDS:
        for entry in found[kind]:
            planted = f"{journal.FAILED}: OSError: planted"
            assert entry["verdict"] == (planted if entry["key"] in failing else journal.CORRECT)
    said = capsys.readouterr().out
    assert f"beside network_step moons-2-32-16-2 16: {journal.FAILED}: OSError: planted" in said
    with pytest.raises(ValueError, match=r"the session .* is finished: commit, move or remove it"):
        go(card)


def test_a_library_that_cannot_be_imported_costs_its_columns_alone(card, monkeypatch, tmp_path):
    monkeypatch.setattr(contenders, "available", lambda ours, device: fail())
    without = stages.training_steps, stages.steps_beside, stages.operations_beside, stages.ceilings
    monkeypatch.setattr(record, "STAGES", without)
    go(card)
    found, _ = kept(tmp_path)
    assert found["missing"] == [f"{n}_beside: OSError: planted" for n in ("steps", "operations")]
    assert found["peers"] == []
    assert {entry["verdict"] for entry in found["cells"]} == {journal.CORRECT}


def test_a_full_disk_costs_nothing_that_fits_later(capsys, card, monkeypatch, tmp_path):
    replace, times = session._replace, iter([True] * 40)

    def full(path, text):
        if next(times, False):
            raise OSError(28, "No space left on device")
        replace(path, text)

    monkeypatch.setattr(record, "STAGES", (stages.training_steps, stages.operations))
    opened = session.Session.__init__

    def then_full(self, *arguments):
        opened(self, *arguments)
        monkeypatch.setattr(session, "_replace", full)

    monkeypatch.setattr(session.Session, "__init__", then_full)
    go(card)
    said = capsys.readouterr()
    assert "not saved, tried again after the next: [Errno 28] No space left" in said.err
    found, run = kept(tmp_path)
    assert len(found["cells"]) == len(run.times) > 40


def test_a_disk_that_stays_full_is_an_error(capsys, card, monkeypatch):
    monkeypatch.setattr(record, "STAGES", (stages.training_steps,))
    monkeypatch.setattr(session.Session, "save", lambda self: fail())
    monkeypatch.setattr(record.kernels, "load", lambda name: card)
    monkeypatch.setattr(record.record, "__defaults__", (None, None, lambda: CARD))
    assert command.main(["record"]) == 2
    said = capsys.readouterr()
    assert said.err.endswith("error: planted\n")
    assert "nothing could be kept" in said.out


def test_what_cannot_be_kept_is_a_failure_of_its_own(card, monkeypatch, tmp_path):
    """One entry that JSON does not take leaves the others."""
    monkeypatch.setattr(record, "STAGES", (stages.training_steps,))
    timed = stages._timed
    monkeypatch.setattr(stages, "_timed", lambda *given: timed(*given) | {"number": object()})
    go(card)
    verdicts = {entry["verdict"] for entry in kept(tmp_path)[0]["cells"]}
    assert verdicts == {
        f"{journal.FAILED}: TypeError: Object of type object is not JSON serializable"
    }


def test_a_card_that_no_longer_answers_ends_the_process_not_the_session(
    card, monkeypatch, tmp_path
):
    """As after an illegal address: every call fails from then on, in this process alone."""
    lost, real = [], card.synchronize

    def broken(*_, **__):
        lost.append(True)
        raise RuntimeError("cudaErrorIllegalAddress")

    def synchronize():
        if lost:
            raise RuntimeError("cudaErrorIllegalAddress")
        real()

    monkeypatch.setattr(card, "sgd", broken)
    monkeypatch.setattr(card, "synchronize", synchronize)
    with pytest.raises(record.Lost, match=r"no longer answers .*IllegalAddress.*: call again"):
        go(card)
    monkeypatch.undo()
    found = json.loads(next(tmp_path.glob("*/*.session")).read_text())
    failed = [entry for entry in found["cells"] if entry["verdict"].startswith(journal.FAILED)]
    assert [entry["key"] for entry in failed] == ["triad 64 float32"]


def test_when_time_is_over_a_later_call_goes_on(capsys, card, monkeypatch, tmp_path):
    monkeypatch.setattr(record, "STAGES", (stages.training_steps, stages.ceilings))
    monkeypatch.setattr(record, "BUDGET", -1)
    go(card)
    assert "not finished; what was measured is kept in" in capsys.readouterr().out
    assert kept(tmp_path)[0]["cells"] == []
    monkeypatch.setattr(record, "BUDGET", 100)
    go(card)
    found, run = kept(tmp_path)
    assert found["finished"]
    assert len(run.times) == 8
    assert len(found["clocks"]) == 4


def test_other_code_does_not_go_on(card, monkeypatch):
    monkeypatch.setattr(record, "STAGES", (stages.ceilings,))
    monkeypatch.setattr(record, "BUDGET", -1)
    go(card)
    monkeypatch.setattr(journal, "code", lambda: "another")
    with pytest.raises(ValueError, match=r"was begun by other code: commit, move or remove it"):
        go(card)


def test_limits_are_those_that_lose_least():
    def rung(sizes, small, large):
        return {"sizes": sizes, "seconds": [small, large]}

    flops, depth = crossings.PRODUCTS
    entries = [
        rung({flops: 10, depth: 4}, 1.0, 2.0),
        rung({flops: 20, depth: 4}, 1.9, 2.0),
        rung({flops: 20, depth: 8}, 3.0, 2.0),  # deep: the other way from here on
        rung({flops: 40, depth: 4}, 4.0, 2.0),
        rung({"most_captured": 5}, 2.0, 1.0),  # never worth it
        rung({"most_captured": 9}, 3.0, 1.0),
        rung({"most_products": 7}, 1.0, 9.0),  # always
        rung({"block_threads": 7}, 1.0, 2.0),
        rung({"block_threads": 9}, 3.0, 1.0),  # more threads gain more here than they lose there
        {"sizes": {"most_products": 3}, "seconds": None},  # failed
    ]
    expected = {flops: 20, depth: 4, "most_captured": 0, "most_products": 7}
    expected["block_threads"] = 512
    assert crossings.measured(entries) == expected
