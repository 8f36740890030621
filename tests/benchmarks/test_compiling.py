"""The time to compile: a family is compiled in a process of its own, and what that says."""

from benchmarks import __main__ as command
from benchmarks.running import compiling


def test_a_family_takes_time_and_the_table_says_how_long(capsys):
    assert command.main(["compile", "--only", "gradients"]) == 0
    said = capsys.readouterr()
    assert said.err == "1/1 gradients\n"
    _, _, row, together, at_once = (line.split() for line in said.out.splitlines())
    assert row[0] == "gradients"
    assert together == ["together", *row[1:]]
    assert int(row[1]) > 0
    assert at_once[:2] == ["compiled", "in"]
    assert int(at_once[2]) >= int(row[1])
    assert at_once[-3:] == ["1", "at", "once"]


def test_an_unknown_family_is_named(capsys):
    assert command.main(["compile", "--only", "convolutions"]) == 2
    assert capsys.readouterr().err.startswith("error: --only: no convolutions, but activations, ")


def test_a_process_that_fails_is_told(capsys, monkeypatch):
    monkeypatch.setattr(compiling, "KNOWN", ("nothing",))
    assert command.main(["compile"]) == 2
    assert "error: nothing was not compiled: KeyError: 'nothing'" in capsys.readouterr().err
