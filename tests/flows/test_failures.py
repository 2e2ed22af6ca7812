"""What a failure leaves in the store, in the log and in the state of the run."""

import logging
from pathlib import Path

import pytest

from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from flows.failures import expected_sentence, recorded_failure, sentence, shorten_tracebacks
from heirloom.errors import HeirloomError
from storage.runs.failure import FAILURE_LOG, last_failure
from storage.runs.run import Run
from storage.runs.status import run_status
from tasks.orchestration.prefect import without_prefect


def _failing(run: Run, error: Exception) -> None:
    with pytest.raises(type(error)), recorded_failure(run):
        raise error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (HeirloomError("There is no dataset 'x'."), "There is no dataset 'x'."),
        (OSError(28, "No space left on device", "/store/part"), "No space left on device: /store/part"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (KeyError("a bug"), ""),
    ],
)
def test_errors_of_users_and_of_the_machine_are_one_sentence(error: Exception, expected: str) -> None:
    assert expected_sentence(error) == expected


def test_a_bug_is_one_sentence_with_its_type_and_its_traceback_is_in_the_log_of_the_store(tmp_path: Path) -> None:
    run = Run(tmp_path, "tiny")
    run.folder.mkdir(parents=True)
    _failing(run, ZeroDivisionError("division\nby zero"))
    failure = last_failure(run)
    assert failure and failure.reason == "ZeroDivisionError: division by zero"
    log = (tmp_path / "logs" / FAILURE_LOG).read_text()
    assert " tiny\nTraceback (most recent call last)" in log and "in _failing" in log


@pytest.mark.processes
def test_a_run_that_failed_shows_why_until_it_is_resumed(
    ingested: Site, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "/a/full/disk")

    with monkeypatch.context() as patch, without_prefect():
        patch.setattr("flows.evolve.train", fail)
        with pytest.raises(OSError, match="No space left"):
            evolve(recipe, ingested)
    run = Run(ingested.store, "tiny")
    status = run_status(run)
    assert (status.kind, status.summary) == ("failed", "failed in generation 0")
    assert status.reason == "No space left on device: /a/full/disk"
    with without_prefect():
        evolve(recipe, ingested)
    assert run_status(run).kind == "finished" and last_failure(run) is None


def test_a_record_of_a_failure_that_cannot_be_read_is_no_failure(tmp_path: Path) -> None:
    run = Run(tmp_path, "tiny")
    run.folder.mkdir(parents=True)
    for content in ("", "null", "[1]", '{"reason": "x"}', "{"):
        (run.folder / "failure.json").write_text(content)
        assert last_failure(run) is None


def test_prefect_logs_a_sentence_in_place_of_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    shorten_tracebacks()
    shorten_tracebacks()
    logger = logging.getLogger("prefect.flow_runs")
    logger.addHandler(caplog.handler)
    try:
        try:
            raise HeirloomError("There is no dataset 'x'.")
        except HeirloomError:
            logger.exception("Encountered exception during execution")
    finally:
        logger.removeHandler(caplog.handler)
    messages = {record.getMessage() for record in caplog.records}
    assert messages == {"Failed: There is no dataset 'x'."}
    assert all(record.exc_info is None for record in caplog.records)
    assert sentence(HeirloomError("x")) == "x"
