"""A reader of pages for tests: that tags are closed, their tables, and the addresses they name."""

import itertools
from html.parser import HTMLParser

from benchmarks.reports import page

VOID = {"meta", "link", "input", "br"}
CLOSED = {"td", "th", "tr", "dt", "dd", "option", "p"}  # by what comes next


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
