import logging
import time
from collections.abc import Iterator

import pytest

from tasks.orchestration.progress import logger, progress, progress_logger


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def _listening(to: logging.Logger) -> Iterator[_Heard]:
    heard, level = _Heard(), to.level
    to.addHandler(heard)
    to.setLevel(logging.DEBUG)
    yield heard
    to.removeHandler(heard)
    to.setLevel(level)


@pytest.fixture
def drawn() -> Iterator[_Heard]:
    yield from _listening(progress_logger)


@pytest.fixture
def read() -> Iterator[_Heard]:
    yield from _listening(logger)


def _steps(heard: _Heard) -> list[tuple[int, int]]:
    return [(record.progress["done"], record.progress["of"]) for record in heard.records]


def test_a_stage_says_that_it_begins_and_that_it_has_ended(clock: _Clock, drawn: _Heard, read: _Heard) -> None:
    with progress("anchor · generation 2", "train"):
        clock.now += 7
    begun, ended = drawn.records
    assert begun.progress == {"subject": "anchor · generation 2", "stage": "train", "done": 0, "of": 0}
    assert ended.progress["finished"] is True
    assert ended.progress["seconds"] == 7
    assert [record.getMessage() for record in read.records] == ["anchor · generation 2 · train took 7.0 s"]


def test_what_is_drawn_comes_at_most_twice_a_second(clock: _Clock, drawn: _Heard) -> None:
    with progress("anchor", "train") as told:
        for done in range(1, 41):
            clock.now += 0.125
            told(done, 40)
    assert _steps(drawn)[1:-1] == [(done, 40) for done in range(4, 41, 4)]


def test_what_is_read_comes_at_most_every_ten_seconds(clock: _Clock, read: _Heard) -> None:
    with progress("anchor", "train") as told:
        for done in range(1, 26):
            clock.now += 1
            told(done, 25)
    assert [record.getMessage() for record in read.records] == [
        "anchor · train 10 of 25, 15 s left",
        "anchor · train 20 of 25, 5 s left",
        "anchor · train took 25.0 s",
    ]


def test_a_stage_that_fails_does_not_say_that_it_took_so_long(drawn: _Heard, read: _Heard) -> None:
    def fail() -> None:
        with progress("anchor", "train"):
            raise RuntimeError("out")

    with pytest.raises(RuntimeError, match="out"):
        fail()
    assert read.records == []
    assert [record.progress.get("finished") for record in drawn.records] == [None]


def test_nothing_done_yet_leaves_a_number_all_the_same(clock: _Clock, drawn: _Heard) -> None:
    with progress("anchor", "train") as told:
        clock.now += 2
        told(0, 100)
    assert drawn.records[1].getMessage() == "anchor · train 0 of 100, 200 s left"
