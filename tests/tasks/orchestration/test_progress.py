import logging
import time
from collections.abc import Iterator

import pytest

from tasks.orchestration.progress import logger, progress, progress_logger


class _RecordList(logging.Handler):
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


def _record_to(log: logging.Logger) -> Iterator[_RecordList]:
    handler, level = _RecordList(), log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield handler
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.fixture
def progress_records() -> Iterator[_RecordList]:
    yield from _record_to(progress_logger)


@pytest.fixture
def log_records() -> Iterator[_RecordList]:
    yield from _record_to(logger)


def _steps(handler: _RecordList) -> list[tuple[int, int]]:
    return [(record.progress["done"], record.progress["total"]) for record in handler.records]


def test_a_stage_logs_its_start_and_its_end(
    clock: _Clock, progress_records: _RecordList, log_records: _RecordList
) -> None:
    with progress("anchor · generation 2", "train"):
        clock.now += 7
    start, end = progress_records.records
    assert start.progress == {"subject": "anchor · generation 2", "stage": "train", "done": 0, "total": 0}
    assert end.progress["finished"] is True
    assert end.progress["seconds"] == 7
    assert [record.getMessage() for record in log_records.records] == ["anchor · generation 2 · train took 7.0 s"]


def test_progress_is_logged_at_most_twice_a_second(clock: _Clock, progress_records: _RecordList) -> None:
    with progress("anchor", "train") as report:
        for done in range(1, 41):
            clock.now += 0.125
            report(done, 40)
    assert _steps(progress_records)[1:-1] == [(done, 40) for done in range(4, 41, 4)]


def test_the_readable_log_has_at_most_one_record_in_ten_seconds(clock: _Clock, log_records: _RecordList) -> None:
    with progress("anchor", "train") as report:
        for done in range(1, 26):
            clock.now += 1
            report(done, 25)
    assert [record.getMessage() for record in log_records.records] == [
        "anchor · train 10 of 25, 15 s left",
        "anchor · train 20 of 25, 5 s left",
        "anchor · train took 25.0 s",
    ]


def test_a_stage_that_raises_has_no_end_record(progress_records: _RecordList, log_records: _RecordList) -> None:
    def fail() -> None:
        with progress("anchor", "train"):
            raise RuntimeError("out")

    with pytest.raises(RuntimeError, match="out"):
        fail()
    assert log_records.records == []
    assert [record.progress.get("finished") for record in progress_records.records] == [None]


def test_the_time_left_is_finite_when_nothing_is_done(clock: _Clock, progress_records: _RecordList) -> None:
    with progress("anchor", "train") as report:
        clock.now += 2
        report(0, 100)
    assert progress_records.records[1].getMessage() == "anchor · train 0 of 100, 200 s left"


def test_the_time_left_is_estimated_from_items_of_this_process(clock: _Clock, progress_records: _RecordList) -> None:
    with progress("anchor", "generate") as report:
        clock.now += 2
        report(60, 100, "60 texts", 50)
    assert progress_records.records[1].getMessage() == "anchor · generate 60 texts, 8 s left"
    assert progress_records.records[1].progress["text"] == "60 texts"
