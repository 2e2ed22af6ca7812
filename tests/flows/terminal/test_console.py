"""Tables as they stand in terminals of several widths."""

from rich.console import Console

from flows.terminal.console import table


def _printed(width: int) -> list[str]:
    told = table("run", "stands", "size", numbers=("size",))
    told.add_row("guarded", "being written by process 16055", "6.1 MiB")
    told.add_row("naive", "finished", "24.7 MiB")
    console = Console(record=True, width=width)
    console.print(told)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_table_has_a_line_a_row_where_there_is_room() -> None:
    assert _printed(80) == [
        "run      stands                              size",
        "guarded  being written by process 16055   6.1 MiB",
        "naive    finished                        24.7 MiB",
    ]


def test_where_there_is_none_words_are_folded_and_a_number_is_whole() -> None:
    lines = _printed(30)
    assert len(lines) > 3 and max(map(len, lines)) <= 30
    assert sum("6.1 MiB" in line for line in lines) == sum("24.7 MiB" in line for line in lines) == 1
    assert "".join("".join(line[9:19] for line in lines[1:5]).split()) == "beingwrittenbyprocess16055"
