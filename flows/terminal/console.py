"""What a table in the terminal looks like."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table


def table(*columns: str, numbers: Collection[str] = (), gap: int = 2) -> Table:
    """An empty one without lines. Numbers stand to the right and are never cut; words are folded where a line has no room."""
    made = Table(header_style="dim", box=None, padding=(0, gap, 0, 0), pad_edge=False)
    for name in columns:
        number = name in numbers
        made.add_column(name, justify="right" if number else "left", no_wrap=number, overflow="fold")
    return made


console = Console(highlight=False)


_PATIENCE = 2
"""Seconds that a command may be silent."""


def format_bytes(count: int) -> str:
    """Bytes in a unit that a person reads."""
    value, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and units[1:]:
        value, units = value / 1024, units[1:]
    return f"{value:,.0f} {units[0]}" if units[0] == "bytes" else f"{value:,.1f} {units[0]}"


@contextmanager
def progress_counter(console: Console, verb: str, noun: str) -> Iterator[Callable[[int, int], None]]:
    """A line that counts up, once something has taken two seconds; a line every ten where nothing is drawn."""
    said = begun = time.monotonic()
    with console.status("") as status:
        status.stop()

        def told(done: int, of: int) -> None:
            nonlocal said
            line = f"{verb} {done:,} of {of:,} {noun}"
            if console.is_terminal and time.monotonic() - begun > _PATIENCE:
                status.update(line)
                status.start()
            elif not console.is_terminal and time.monotonic() - said > 5 * _PATIENCE:
                said = time.monotonic()
                console.print(line)

        yield told
