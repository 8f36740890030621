"""A run made up for tests of the page, and a reader of the page."""

import itertools
from html.parser import HTMLParser

from journals import begin, note, note_roofs, record

from benchmarks.reports import columns, page, results

LAYER = "mnist-784x512"
CPU_STEPS = {16: 20, 128: 128}  # microseconds by batch
HOSTILE = "<img src=x onerror=alert(1)>"
VOID = {"meta", "link", "input", "br"}
CLOSED = {"td", "th", "tr", "dt", "dd", "option", "p"}  # by what comes next


def house_of_runs(folder, gpu_specification="1"):
    """A run with a wrong cell and one that was not measured, a recorded card; and the view."""
    begin()
    note_roofs()
    one, many = ("relu", LAYER, "float32", 1), ("relu", LAYER, "float32", 128)
    broken = ("tanh", LAYER, "float32", 1)
    times = {
        (*one, "numpy"): 60e-6,
        (*one, "numba"): 20e-6,
        (*many, "numpy"): 3e-3,
        (*many, "numba"): 1e-3,
        (*broken, "numba"): ("WRONG", f"3 of 4 wrong {HOSTILE}"),
        (*broken, "numpy"): 61e-6,
    }
    note("dense_forward", times)
    name = "digits-64-128-64-32-10"
    note("network_step", {(name, "float32", b, "numba"): us * 1e-6 for b, us in CPU_STEPS.items()})
    steps = {(name, "float32", b, "cupy"): 40e-6 for b in (16, 128)}
    path = record(
        "h100",
        dense_forward={(*one, "cupy"): 40e-6, (*many, "cupy"): 50e-6},
        product={("2048x2048", "float32", 2048, "cupy"): 2 * 2048**3 / 40e12},
        triad={("16777216", "float32", "cupy"): 3 * 4 * 16777216 / 2e12},
        network_step=steps,
        network_transfer=dict.fromkeys(steps, 60e-6),
    )
    path.write_text(path.read_text().replace('"1", 17', f'"{gpu_specification}", 17'))
    assert results.newest(), folder
    return columns.view()


def rendered(*arguments, **more):
    return page.render(house_of_runs(*arguments, **more))


class Reader(HTMLParser):
    """tables: rows of cells, each (text, attributes); addresses: whatever names another place."""

    ADDRESSES = ("src", "href", "action", "data", "poster", "srcset", "xlink:href")

    def __init__(self, text):
        super().__init__()
        self.tables, self.addresses, self.open, self.tags = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for name, v in attributes if name in self.ADDRESSES]
        if tag not in VOID | CLOSED:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(["", dict(attributes)])

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for name, v in attributes if name in self.ADDRESSES]

    def handle_endtag(self, tag):
        if tag not in CLOSED:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "table" in self.open and "caption" not in self.open and any(self.tables[-1]):
            row = self.tables[-1][-1]
            if row:
                row[-1][0] += data

    @property
    def cells(self):
        """(headers, rows) of the table of all cells, as texts; the last table of the page."""
        _, heads, *rows = self.tables[-1]
        found = [_texts(row) for row in rows]
        for above, row in itertools.pairwise(found):
            row[:] = [above[k] if text == page.DITTO else text for k, text in enumerate(row)]
        return [_texts(heads), found]

    @property
    def maps(self):
        """{kernel: its cells' texts} of all maps."""
        return {row[0][0].strip(): _texts(row[1:]) for t in self.tables[:-1] for row in t[1:]}


def _texts(row):
    return [text.strip() for text, _ in row]
