from pathlib import Path

import pytest
from prefect import flow, get_client
from prefect.context import FlowRunContext

from storage.runs.run import Attempt, Run
from storage.runs.status import attempt_summaries
from tasks.reporting.events import emit_generation_event, tag_flow_run
from tasks.reporting.review_page import generation_page, review_summary, sparkline


def test_a_page_has_metrics_dropped_records_samples_and_cost(finished_store: Path) -> None:
    run = Run(finished_store, "tiny")
    page = generation_page(
        Attempt(run, 3), "warn", "perplexity is 9, above 1.5 x generation 0's 5", attempt_summaries(run)
    )
    assert page.startswith("# tiny · generation 3: warn\n\nperplexity is 9")
    titles = ("## Gate", "## Kept and dropped", "## Samples", "## All metrics", "## Cost")
    assert [line for line in page.splitlines() if line.startswith("## ")] == list(titles)
    metrics = page.split("## All metrics")[1]
    (perplexity,) = [line for line in metrics.splitlines() if line.startswith("| perplexity |")]
    assert len([float(cell) for cell in perplexity.replace(",", "").split("|")[2:5]]) == 3
    assert "| kept |" in page
    assert "mermaid" not in page  # Prefect's current interface shows its source
    (curve,) = [line for line in page.splitlines() if line.startswith("Held-out perplexity by generation:")]
    assert curve.count(" → ") == 3
    (gate,) = [line for line in page.split("## All metrics")[0].splitlines() if "| perplexity |" in line]
    assert "at most" in gate and gate.split("|")[4].strip() in ("within", "BEYOND")
    assert len([line for line in page.splitlines() if line.startswith("> ")]) == 3
    assert "| corpus |" in page


def test_kept_and_dropped_records_add_up_to_the_candidates(finished_store: Path) -> None:
    run = Run(finished_store, "tiny")
    page = generation_page(Attempt(run, 2), "go", "", attempt_summaries(run))
    table = page.split("## Kept and dropped")[1].split("##")[0]
    cells = [line.split("|")[3].strip() for line in table.splitlines() if line.startswith("| ")]
    counts = [int(cell) for cell in cells if cell.isdigit()]
    (summary,) = [summary for summary in attempt_summaries(run) if summary.generation == 2]
    assert sum(counts) == summary.candidates


def test_generation_0_has_a_page_without_candidates(finished_store: Path) -> None:
    page = generation_page(
        Attempt(Run(finished_store, "tiny"), 0), "go", "", attempt_summaries(Run(finished_store, "tiny"))[:1]
    )
    assert "No record was dropped." in page
    assert "mermaid" not in page


def test_a_sparkline_spans_the_lowest_and_the_highest_value() -> None:
    assert sparkline([1, 2, 3]) == "▁▅█"
    assert sparkline([2, 2]) == "▁▁"
    assert sparkline([float("nan"), 1.0, float("inf")]) == "▁"
    assert sparkline([]) == ""


def test_without_a_server_nothing_is_announced_and_nothing_fails(finished_store: Path) -> None:
    before = sorted(path.name for path in (finished_store / "runs/tiny").iterdir())
    emit_generation_event(Attempt(Run(finished_store, "tiny"), 3), "go")
    assert sorted(path.name for path in (finished_store / "runs/tiny").iterdir()) == before


def test_a_review_summary_has_limits_and_samples_with_ids(finished_store: Path) -> None:
    page = review_summary(Attempt(Run(finished_store, "tiny"), 3), "warn", "perplexity is 9")
    assert page.startswith("**tiny · generation 3: warn** · perplexity is 9")
    assert "- perplexity: " in page and " the limit of " in page
    assert len([line for line in page.splitlines() if line.startswith("- `g003-")]) == 4


@pytest.mark.usefixtures("prefect_server")
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
