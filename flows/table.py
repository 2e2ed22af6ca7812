"""What a table in the terminal looks like."""

from collections.abc import Collection

from rich.table import Table


def table(*columns: str, numbers: Collection[str] = (), gap: int = 2) -> Table:
    """An empty one without lines. Numbers stand to the right and are never cut; words are folded where a line has no room."""
    made = Table(header_style="dim", box=None, padding=(0, gap, 0, 0), pad_edge=False)
    for name in columns:
        number = name in numbers
        made.add_column(name, justify="right" if number else "left", no_wrap=number, overflow="fold")
    return made
