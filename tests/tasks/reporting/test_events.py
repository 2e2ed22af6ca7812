"""What a server is told of a generation: a page that a person can read, told once, and never in the way of the run."""

from pathlib import Path

import pytest
from prefect import flow, get_client
from prefect.context import FlowRunContext

from storage.runs.run import Attempt, Run
from storage.runs.status import attempt_summaries
from tasks.reporting.events import emit_generation_event, tag_flow_run
from tasks.reporting.review_page import generation_page, review_summary, sparkline


def test_a_page_tells_metrics_drops_words_and_cost(ripe: Path) -> None:
    run = Run(ripe, "tiny")
    told = generation_page(
        Attempt(run, 3), "warn", "perplexity is 9, above 1.5 x generation 0's 5", attempt_summaries(run)
    )
    assert told.startswith("# tiny · generation 3: warn\n\nperplexity is 9")
    for title in ("## Metrics", "## Kept and dropped", "## What it says", "## What it cost"):
        assert title in told
    (perplexity,) = [line for line in told.splitlines() if line.startswith("| perplexity |")]
    assert len([float(cell) for cell in perplexity.replace(",", "").split("|")[2:5]]) == 3
    assert "| kept |" in told
    assert "xychart-beta" in told
    assert len([line for line in told.splitlines() if line.startswith("> ")]) == 3
    assert "| corpus |" in told


def test_what_was_kept_and_dropped_adds_up_to_the_candidates(ripe: Path) -> None:
    run = Run(ripe, "tiny")
    told = generation_page(Attempt(run, 2), "go", "", attempt_summaries(run))
    table = told.split("## Kept and dropped")[1].split("##")[0]
    cells = [line.split("|")[3].strip() for line in table.splitlines() if line.startswith("| ")]
    counts = [int(cell) for cell in cells if cell.isdigit()]
    (turn,) = [one for one in attempt_summaries(run) if one.generation == 2]
    assert sum(counts) == turn.candidates


def test_generation_0_has_a_page_though_nobody_spoke(ripe: Path) -> None:
    told = generation_page(Attempt(Run(ripe, "tiny"), 0), "go", "", attempt_summaries(Run(ripe, "tiny"))[:1])
    assert "Nothing was dropped." in told
    assert "mermaid" not in told


def test_a_line_of_bars_runs_from_the_lowest_to_the_highest() -> None:
    assert sparkline([1, 2, 3]) == "▁▅█"
    assert sparkline([2, 2]) == "▁▁"
    assert sparkline([float("nan"), 1.0, float("inf")]) == "▁"
    assert sparkline([]) == ""


def test_without_a_server_nobody_is_told_and_nothing_fails(ripe: Path) -> None:
    before = sorted(path.name for path in (ripe / "runs/tiny").iterdir())
    emit_generation_event(Attempt(Run(ripe, "tiny"), 3), "go")
    assert sorted(path.name for path in (ripe / "runs/tiny").iterdir()) == before


def test_whoever_reviews_sees_limits_and_texts_that_can_be_rejected_by_id(ripe: Path) -> None:
    told = review_summary(Attempt(Run(ripe, "tiny"), 3), "warn", "perplexity is 9")
    assert told.startswith("**tiny · generation 3: warn** · perplexity is 9")
    assert "- perplexity: " in told and " the limit of " in told
    assert len([line for line in told.splitlines() if line.startswith("- `g003-")]) == 4


@pytest.mark.usefixtures("prefect")
def test_a_flow_run_is_tagged_and_a_tag_of_the_same_kind_is_replaced() -> None:
    @flow
    def labelled() -> list[str]:
        tag_flow_run(policy="anchor", verdict="go")
        tag_flow_run(verdict="warn")
        context = FlowRunContext.get()
        assert context and context.flow_run
        with get_client(sync_client=True) as client:
            return list(client.read_flow_run(context.flow_run.id).tags)

    assert sorted(labelled()) == ["policy:anchor", "verdict:warn"]
