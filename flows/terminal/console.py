"""The console, and tables, sizes, counters and warnings as several commands print them."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from heirloom.escaping import visible

_QUIET_SECONDS = 2
"""Seconds before a counter appears; one that is done earlier prints nothing."""
_LINE_SECONDS = 10
"""Seconds between two lines of a counter if the output is not a terminal."""


class _Console(Console):
    """A console that leaves a broken pipe to the command line, and whose texts cannot control the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of a renderable; control characters in texts are shown as escapes."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))

    def on_broken_pipe(self) -> None:
        """Raise the error; Rich would exit with code 1."""
        raise BrokenPipeError


console = _Console(highlight=False)


def table(*columns: str, numbers: Collection[str] = (), gap: int = 2) -> Table:
    """Return an empty table without rules.

    Args:
        columns: headings.
        numbers: columns that are aligned to the right and never wrapped; all others wrap if the line is too short.
        gap: spaces between columns.
    """
    empty = Table(header_style="dim", box=None, padding=(0, gap, 0, 0), pad_edge=False)
    for name in columns:
        is_number = name in numbers
        empty.add_column(name, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    return empty


def format_bytes(count: int) -> str:
    """Format a number of bytes in the largest unit that leaves a value of at least 1."""
    if count < 1024:
        return f"{count:,} bytes"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:,.1f} {unit}"
    return f"{value / 1024:,.1f} TiB"


def format_seconds(seconds: float) -> str:
    """Format a time in the two largest units that it fills: `45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    whole = round(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    first = next((place for place, (_, size) in enumerate(units) if whole >= size), len(units) - 1)
    parts: list[str] = []
    for name, size in units[first : first + 2]:
        count, whole = divmod(whole, size)
        if count or not parts:
            parts.append(f"{count:,} {name}")
    return " ".join(parts)


def warn_of_ignored_differences(console: Console, count: int, setting: str) -> None:
    """Print how many near-duplicates differ only in what prose does without and code does not, if there are any."""
    if count:
        console.print(
            f"[yellow]warning[/] {count:,} near-duplicates have a similarity of 1: they differ from the text that is "
            "kept in nothing but case, punctuation, white space, or repeated parts. For code, where these count: "
            f"--set {setting}=code",
            soft_wrap=True,
        )


@contextmanager
def progress_counter(console: Console, verb: str, noun: str) -> Iterator[Callable[[int, int], None]]:
    """Show `verb DONE of TOTAL noun`, on a terminal as one line that is updated, elsewhere as a line now and then."""
    started = last_line = time.monotonic()
    with console.status("") as status:
        status.stop()

        def report(done: int, total: int) -> None:
            nonlocal last_line
            line = f"{verb} {done:,} of {total:,} {noun}"
            now = time.monotonic()
            if console.is_terminal and now - started > _QUIET_SECONDS:
                status.update(line)
                status.start()
            elif not console.is_terminal and now - last_line > _LINE_SECONDS:
                last_line = now
                console.print(line)

        yield report
