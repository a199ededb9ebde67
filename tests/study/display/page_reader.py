"""Reads what tests look at in a page."""

import json
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """Headings, cells by table and by the name it is saved under, plots, summaries, and all that is loaded."""

    def __init__(self, html: str):
        super().__init__()
        self.headings: list[str] = []
        self.tables: list[list[str]] = []
        self.named: dict[str, list[str]] = {}
        self.plots: list[dict[str, Any]] = []
        self.loaded: list[str] = []
        self.details: list[str] = []
        self._open: list[str] = []
        self._goes_on = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = dict(attrs)
        self._goes_on = tag == "wbr"
        if tag not in ("meta", "link", "img", "br", "wbr", "polyline"):
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        if values.get("data-csv"):
            self.named[str(values["data-csv"]).removesuffix(".csv")] = self.tables[-1]
        self.loaded += [values[key] for key in ("src", "href", "srcset", "data") if values.get(key)]

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["script"] and data.startswith('{"data":'):
            self.plots.append(json.loads(data))
        elif self._goes_on:
            self.tables[-1][-1] += data
            self._goes_on = False
        elif "table" in self._open and data.strip():
            self.tables[-1].append(data.strip())
        elif self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)
        elif self._open and self._open[-1] == "summary":
            self.details.append(data)
