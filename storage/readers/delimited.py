"""Parse rows of CSV and TSV, one at a time: a broken row is rejected with its reason, and the rows around it are read.

Python's `csv` in strict mode does the parsing. This module adds what to do with a record that it refuses:

- An open quote makes a parser read on until it finds another one. Only the line with the open quote is rejected, and
  parsing continues at the line after it.
- Most writers of TSV do not quote, so in a `.tsv` file a quote is part of the text unless the record is quoted
  completely, as `csv.writer` does. A file whose header is quoted is quoted.
"""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from storage.readers.base import TOO_LONG

LONG_LINE = "\ud800"
"""Placeholder of a line that is too long; decoding with `surrogateescape` never yields this character."""

OPEN_QUOTE = "not CSV: a quote is not closed"
TEXT_AFTER_QUOTE = "not CSV: text after a closing quote"
CARRIAGE_RETURN = "not CSV: a carriage return outside quotes"
MORE_CELLS = "more cells than the header"
FEWER_CELLS = "fewer cells than the header"


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """Characters of a delimited format."""

    delimiter: str = ","
    quote: str = '"'
    """Empty: no quoting."""
    escape: str | None = None
    literal_quotes: bool = False
    """Read a record that is not quoted completely without any quoting, instead of rejecting it."""

    def reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Return a strict `csv.reader`."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            escapechar=self.escape,
            quotechar=self.quote or '"',
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            strict=True,
        )

    def split(self, line: str) -> list[str]:
        """Return the cells of a line read without quoting."""
        return line.rstrip("\r\n").split(self.delimiter)

    def num_quotes(self, line: str) -> int:
        """Return the number of quotes that are not escaped."""
        if not self.quote:
            return 0
        return line.count(self.quote) - (line.count(self.escape + self.quote) if self.escape else 0)

    def well_formed(self) -> re.Pattern[str]:
        """Return a pattern of records in which quotes only enclose whole cells."""
        if not self.quote:
            return re.compile(".*", re.DOTALL)
        quote, delimiter = re.escape(self.quote), re.escape(self.delimiter)
        cell = f"(?:{quote}(?:[^{quote}]|{quote}{quote})*{quote}|[^{quote}{delimiter}\r\n]*)"
        return re.compile(f"{cell}(?:{delimiter}{cell})*[\r\n]*")

    def quotes_every_cell(self, record: str) -> bool:
        """Return whether each cell of a record is enclosed in quotes."""
        quote = re.escape(self.quote)
        cell = f"{quote}(?:[^{quote}]|{quote}{quote})*{quote}"
        return (
            bool(self.quote)
            and re.fullmatch(f"{cell}(?:{re.escape(self.delimiter)}{cell})*[\r\n]*", record) is not None
        )


class RowParser:
    """Iterate over the rows of a file, as lists of cells, or as the reason why a row cannot be read.

    Args:
        open_lines: returns the lines of the file from its beginning, with their ends.
        dialect: characters of the format.
    """

    def __init__(self, open_lines: Callable[[], Iterator[str]], dialect: Dialect) -> None:
        self.num_cells: int | None = None
        """Number of cells of every row; None until the header has been read."""
        self._open_lines, self._dialect = open_lines, dialect
        self._lines = open_lines()
        self._returned = deque[str]()
        self._record: list[str] = []
        self._num_lines = 0
        self._after_error = False
        self._well_formed = dialect.well_formed()

    def __iter__(self) -> Iterator[list[str] | str]:
        """Yield rows; empty lines are skipped."""
        reader = self._dialect.reader(self._feed())
        while True:
            self._record.clear()
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield self._recover(str(error))
                reader = self._dialect.reader(self._feed())
                continue
            if any(LONG_LINE in cell for cell in row):
                yield TOO_LONG
            elif row:
                yield self._check(row)

    def _feed(self) -> Iterator[str]:
        record, returned = self._record, self._returned
        while True:
            if returned:
                line = returned.popleft()
            else:
                next_line = next(self._lines, None)
                if next_line is None:
                    return
                line = next_line
            self._num_lines += 1
            record.append(line)
            yield line

    def _check(self, row: list[str]) -> list[str] | str:
        if self.num_cells is None:
            if self._dialect.literal_quotes and self._dialect.quotes_every_cell("".join(self._record)):
                self._dialect = replace(self._dialect, literal_quotes=False)
            return row
        if self._dialect.literal_quotes and self._is_literal(row):
            row = self._first_line()
        if len(row) != self.num_cells:
            return MORE_CELLS if len(row) > self.num_cells else FEWER_CELLS
        if self._after_error:
            # The line may be the rest of the cell that was refused.
            self._after_error = False
            is_literal_line = self._dialect.literal_quotes and len(self._record) == 1
            if not is_literal_line and not self._well_formed.fullmatch("".join(self._record)):
                return TEXT_AFTER_QUOTE
        return row

    def _is_literal(self, row: list[str]) -> bool:
        """Return whether the lines of a record are rows of their own, so that its quotes do not enclose cells."""
        if len(self._record) > 1:
            return self.num_cells != 1 and all(
                len(self._dialect.split(line)) == self.num_cells for line in self._record
            )
        return len(row) != self.num_cells and len(self._dialect.split(self._record[0])) == self.num_cells

    def _recover(self, error: str) -> list[str] | str:
        """Return the reason for rejecting the current record, and continue after the line that is broken."""
        long_lines = [number for number, line in enumerate(self._record) if LONG_LINE in line]
        if long_lines:
            self._give_back(long_lines[0] + 1)
            return TOO_LONG
        if "limit" in error:
            return self._skip_record()
        if self._dialect.literal_quotes and self.num_cells is not None and "new-line" not in error:
            return self._check(self._first_line())
        self._give_back(1)
        self._after_error = True
        if "new-line" in error:
            return CARRIAGE_RETURN
        return OPEN_QUOTE if "unexpected end" in error else TEXT_AFTER_QUOTE

    def _first_line(self) -> list[str]:
        self._give_back(1)
        return self._dialect.split(self._record[0])

    def _give_back(self, num_consumed: int) -> None:
        """Parse the lines of the current record again, except the first ones."""
        rest = self._record[num_consumed:]
        self._returned.extendleft(reversed(rest))
        self._num_lines -= len(rest)
        del self._record[num_consumed:]

    def _skip_record(self) -> str:
        """Skip a record that is too long up to its closing quote; if it has none, only its first line is broken."""
        first_line = self._num_lines - len(self._record)
        is_open = sum(map(self._dialect.num_quotes, self._record)) % 2
        lines = self._feed()
        while is_open:
            line = next(lines, None)
            self._record.clear()
            if line is None:
                self._num_lines = first_line + 1
                self._lines = islice(self._open_lines(), self._num_lines, None)
                self._after_error = True
                return OPEN_QUOTE
            is_open ^= self._dialect.num_quotes(line) % 2
        return TOO_LONG
