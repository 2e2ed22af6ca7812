"""What is drawn while a run goes on."""

import io

from rich.console import Console

from flows.terminal.progress import ProgressPanel
from tasks.orchestration.progress import progress


def test_where_nothing_is_drawn_each_finished_stage_is_a_line() -> None:
    out = io.StringIO()
    with ProgressPanel(Console(file=out, width=120), {"anchor": 2}) as panel:
        with progress("anchor · generation 1", "train") as told:
            told(1, 2)
        with progress("anchor · generation 1", "evaluate"):
            pass
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert "anchor · generation 1 · train took" in lines[0]
    assert set(panel.seconds) == {"train", "evaluate"}


def test_a_warning_is_said_even_where_nothing_is_drawn() -> None:
    from tasks.orchestration.progress import logger

    out = io.StringIO()
    with ProgressPanel(Console(file=out, width=120), {}):
        logger.warning("%s · %s", "anchor · generation 1", "perplexity is [high]")
    assert "warning anchor · generation 1 · perplexity is [high]" in out.getvalue()


def test_a_terminal_gets_one_row_a_run_that_says_how_far_it_is() -> None:
    out = io.StringIO()
    console = Console(file=out, width=140, force_terminal=True)
    with ProgressPanel(console, {"naive": 5, "guarded": 5}):
        for run in ("naive", "guarded"):
            with progress(f"{run} · generation 2", "train"):
                pass
    assert "naive · generation 2 of 5" in out.getvalue()
    assert "guarded · generation 2 of 5" in out.getvalue()


def test_a_terminal_says_that_a_run_is_beginning_until_there_is_more_to_say() -> None:
    console = Console(file=io.StringIO(), width=140, force_terminal=True)
    with ProgressPanel(console, {"anchor": 2}) as panel:
        assert "beginning" in _drawn(panel)
        with progress("anchor · generation 1", "train"):
            pass
        assert "beginning" not in _drawn(panel)
        assert "anchor · generation 1 of 2" in _drawn(panel)


def _drawn(panel: ProgressPanel) -> str:
    out = io.StringIO()
    Console(file=out, width=140).print(panel._progress.get_renderable())
    return out.getvalue()


def test_after_the_block_nothing_is_listened_to() -> None:
    out = io.StringIO()
    with ProgressPanel(Console(file=out), {}):
        pass
    with progress("anchor · generation 1", "train"):
        pass
    assert out.getvalue() == ""
