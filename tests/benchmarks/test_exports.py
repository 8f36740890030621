"""The exports, and the command that writes them and the page."""

import csv
import io
import json
import re
import subprocess
import sys

import pytest
from pages import LAYER, house_of_runs

from benchmarks import __main__ as command
from benchmarks.reports import exports, report
from benchmarks.suites.workloads import ROOT


def test_csv_and_json_say_the_same(house):
    shown = house_of_runs(house)
    rows = list(csv.DictReader(io.StringIO(exports.as_csv(shown))))
    cells = json.loads(exports.as_json(shown))["cells"]
    assert len(rows) == len(cells) * len(shown.columns)
    by_name = {(r["function"], r["variant"], r["batch_name"], r["label"]): r for r in rows}
    for cell in cells:
        for label, found in cell["results"].items():
            row = by_name[cell["function"], cell["variant"], cell["batch_name"], label]
            for name, value in found.items():
                assert row[name] == ("" if value is None else str(value))
    assert {row["specification"] for row in rows if row["seconds"]} == {"1"}


def test_markdown_is_the_report_in_tables(house):
    shown = house_of_runs(house)
    text, plain = exports.as_markdown(shown), report.text(shown)
    assert "### dense_forward, float32" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    for line in plain.splitlines():
        if LAYER in line and "wrong" not in line and "replay" not in line:
            assert line.split() in [row.replace("|", " ").split() for row in tables]


@pytest.mark.parametrize("form", exports.FORMS)
def test_the_command_writes_and_prints(house, capsys, form):
    house_of_runs(house)
    assert command.main(["report", f"--{form}", str(house / "found")]) == 0
    assert capsys.readouterr().out.strip() == str(house / "found")
    assert command.main(["report", f"--{form}", "-"]) == 0
    assert capsys.readouterr().out == (house / "found").read_text()


def test_every_form_has_its_option():
    assert list(command.EXPORTS) == list(exports.FORMS)


def said(capsys, *arguments):
    with pytest.raises(SystemExit):
        command.main([*arguments, "--help"])
    return capsys.readouterr().out


def test_the_help_of_every_command_has_an_example(capsys):
    first = said(capsys)
    assert "example: python -m benchmarks run" in first
    names = re.search(r"{([\w,]+)}", first)[1].split(",")
    assert {"run", "report", "peers"} <= set(names)
    for name in names:
        assert f"example: python -m benchmarks {name}" in said(capsys, name)


def test_the_help_of_both_commands_has_an_example():
    command = [sys.executable, str(ROOT / "run.py"), "--help"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "example: python3 run.py bench" in found
