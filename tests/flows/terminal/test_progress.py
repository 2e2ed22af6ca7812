"""Progress of runs on a terminal and elsewhere."""

import io

import pytest
from rich.console import Console

from flows.terminal.progress import ProgressPanel, RunClock, format_left
from tasks.orchestration.progress import ProgressReport, log_showcase, progress


def test_without_a_terminal_each_finished_stage_is_a_line() -> None:
    out = io.StringIO()
    with ProgressPanel(Console(file=out, width=120), {"anchor": 2}) as panel:
        with progress("anchor · generation 1", "train") as report:
            report(1, 2)
        with progress("anchor · generation 1", "evaluate"):
            pass
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert "anchor · generation 1 · train took" in lines[0]
    assert set(panel.seconds) == {"train", "evaluate"}


def test_a_warning_is_printed_without_a_terminal() -> None:
    from tasks.orchestration.progress import logger

    out = io.StringIO()
    with ProgressPanel(Console(file=out, width=120), {}):
        logger.warning("%s · %s", "anchor · generation 1", "perplexity is [high]")
    assert "warning anchor · generation 1 · perplexity is [high]" in out.getvalue()


def test_a_terminal_shows_one_bar_per_run_with_its_generation() -> None:
    out = io.StringIO()
    console = Console(file=out, width=140, force_terminal=True)
    with ProgressPanel(console, {"naive": 5, "guarded": 5}):
        for run in ("naive", "guarded"):
            with progress(f"{run} · generation 2", "train"):
                pass
    assert "naive · generation 2 of 5" in out.getvalue()
    assert "guarded · generation 2 of 5" in out.getvalue()


def test_a_terminal_shows_that_a_run_is_starting_until_its_first_stage() -> None:
    console = Console(file=io.StringIO(), width=140, force_terminal=True)
    with ProgressPanel(console, {"anchor": 2}) as panel:
        assert "starting" in _rendered(panel)
        with progress("anchor · generation 1", "train"):
            pass
        assert "starting" not in _rendered(panel)
        assert "anchor · generation 1 of 2" in _rendered(panel)


def _rendered(panel: ProgressPanel) -> str:
    out = io.StringIO()
    Console(file=out, width=140).print(panel._progress.get_renderable())
    return out.getvalue()


def test_records_after_the_block_are_ignored() -> None:
    out = io.StringIO()
    with ProgressPanel(Console(file=out), {}):
        pass
    with progress("anchor · generation 1", "train"):
        pass
    assert out.getvalue() == ""


def test_answers_to_the_showcase_prompt_are_printed_only_where_they_are_asked_for() -> None:
    for shows_answers in (True, False):
        out = io.StringIO()
        with ProgressPanel(Console(file=out, width=120), {"naive": 2}, shows_answers=shows_answers):
            log_showcase("naive · generation 1", "A program", "A program\nis [red] " + "long " * 200)
        assert ("naive · generation 1 A program is [red] long" in out.getvalue()) == shows_answers
        assert len(out.getvalue()) < 600


def _finished(stage: str, seconds: float) -> ProgressReport:
    return ProgressReport(subject="naive", stage=stage, done=1, total=1, finished=True, seconds=seconds)


def test_the_time_left_follows_from_the_seconds_of_finished_stages() -> None:
    clock = RunClock(last_generation=2)
    seconds = {"generate": 10, "curate": 1, "mix": 0, "train": 50, "sample_for_eval": 5, "evaluate": 4}
    lefts = [clock.update(1, _finished(stage, spent)) for stage, spent in seconds.items()]
    # Of generation 1 nothing is left, and generation 2 takes as long.
    assert lefts[-1] == pytest.approx(70)
    assert clock.update(2, _finished("generate", 10)) == pytest.approx(60)
    assert clock.update(2, _finished("evaluate", 4)) == pytest.approx(0)


def test_a_stage_that_was_not_seen_yet_is_estimated_by_its_usual_share() -> None:
    clock = RunClock(last_generation=0)
    # Training takes half of a generation, what follows it 13 %.
    assert clock.update(0, _finished("train", 50)) == pytest.approx(13)


def test_there_is_no_estimate_before_a_long_stage_has_begun() -> None:
    clock = RunClock(last_generation=0)
    for stage in ("ingest", "curate", "mix"):
        assert clock.update(0, _finished(stage, 0.1)) is None
    assert clock.update(0, ProgressReport(subject="naive", stage="train", done=0, total=0)) is None
    assert format_left(None) == ""


@pytest.mark.parametrize(("seconds", "words"), [(3.4, "3 s left"), (89, "89 s left"), (90, "2 min left")])
def test_the_time_left_is_in_seconds_and_then_in_minutes(seconds: float, words: str) -> None:
    assert format_left(seconds) == words
