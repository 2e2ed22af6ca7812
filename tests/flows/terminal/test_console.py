"""Tables in terminals of several widths, sizes and counters."""

import pytest
from rich.console import Console

from flows.terminal.console import format_bytes, format_seconds, progress_counter, table


def _printed(width: int) -> list[str]:
    rows = table("run", "state", "size", numbers=("size",))
    rows.add_row("guarded", "being written by process 16055", "6.1 MiB")
    rows.add_row("naive", "finished", "24.7 MiB")
    console = Console(record=True, width=width)
    console.print(rows)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_table_has_one_line_per_row_if_it_fits() -> None:
    assert _printed(80) == [
        "run      state                               size",
        "guarded  being written by process 16055   6.1 MiB",
        "naive    finished                        24.7 MiB",
    ]


def test_in_a_narrow_terminal_text_wraps_and_numbers_do_not() -> None:
    lines = _printed(30)
    assert len(lines) > 3 and max(map(len, lines)) <= 30
    assert sum("6.1 MiB" in line for line in lines) == sum("24.7 MiB" in line for line in lines) == 1
    assert "".join("".join(line[9:19] for line in lines[1:5]).split()) == "beingwrittenbyprocess16055"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1024, "1.0 KiB"), (1536 * 1024, "1.5 MiB"), (2**50, "1,024.0 TiB")],
)
def test_bytes_are_formatted_in_the_largest_unit(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_a_short_task_prints_no_counter() -> None:
    console = Console(record=True, width=100)
    with progress_counter(console, "verified", "artifacts") as report:
        report(1, 2)
    assert console.export_text().strip() == ""


def test_a_long_task_prints_a_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.terminal.console._LINE_SECONDS", -1)
    console = Console(record=True, width=100)
    with progress_counter(console, "verified", "artifacts") as report:
        report(1, 2)
    assert "verified 1 of 2 artifacts" in console.export_text()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (200, "3 min 20 s"), (7_500, "2 h 5 min"), (276_000, "3 d 4 h")],
)
def test_a_time_is_shown_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
