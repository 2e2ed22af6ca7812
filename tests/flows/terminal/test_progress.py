"""Progress of runs on a terminal and elsewhere."""

import io

from rich.console import Console

from flows.terminal.progress import ProgressPanel
from tasks.orchestration.progress import progress


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
