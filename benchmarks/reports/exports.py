"""The figures of a run for other programs: JSON and CSV in full precision, in seconds, bytes a
second and FLOP/s; Markdown as the report prints them.
"""

import csv
import io
import json
import sys
from pathlib import Path

from . import figures, page, report

NAMES = ("function", "variant", "layer", "dtype", "batch", "batch_name")
SOURCES = ("label", "backend", "device", "name", "machine", "date", "commit", "edited")


def as_json(shown):
    """All columns with their sources, and all cells with their figures by the column's label."""
    columns = [figures.source(shown, column) for column in shown.columns]
    cells = [
        {
            **figures.named(cell),
            "results": {c.label: figures.figures(shown, cell, c) for c in shown.columns},
        }
        for cell in shown.cells
    ]
    document = {"format": figures.FORMAT, "columns": columns, "missing": shown.missing}
    return json.dumps({**document, "cells": cells}, indent=1) + "\n"


def as_csv(shown):
    """A row for every cell and column; what is not known is empty."""
    sources = [(column, figures.source(shown, column)) for column in shown.columns]
    rows = []
    for cell in shown.cells:
        for column, source in sources:
            specification = column.run.specifications.get(cell.function, "")
            row = {**figures.named(cell), **{name: source[name] for name in SOURCES}}
            row |= {"specification": specification, **figures.figures(shown, cell, column)}
            rows.append(row)
    text = io.StringIO()
    header = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(shown):
    """The report, its tables as GitHub's."""
    return report.text(shown, markdown=True) + "\n"


FORMS = {"html": page.render, "json": as_json, "csv": as_csv, "markdown": as_markdown}


def write(wanted, shown):
    """Writes the forms of a view: {form: the path of a file, or - for the standard output}."""
    for form, path in wanted.items():
        text = FORMS[form](shown)
        if path == "-":
            sys.stdout.write(text)
        else:
            Path(path).write_text(text, encoding="utf-8")
            print(path)
