import base64
import html
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from curation.splitting import IngestSettings
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from heirloom.errors import HeirloomError
from heirloom.markdown import escape_markdown, markdown_code
from storage.runs.run import Run
from tasks.backends import Resources
from tasks.backends.registry import Backends
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect
from tasks.reporting.report import report
from tasks.reporting.templating import _environment, format_cell, format_change, render
from tests.conftest import TINY, human_texts

_TABLES = (
    "Outcome",
    "Continuations of the showcase prompt",
    "Dropped records",
    "Human fraction",
    "Runs",
)


@pytest.fixture(scope="module")
def reported(backends: Backends, resources: Resources, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A store with an anchor run of two generations, and one on human text alone."""
    folder = tmp_path_factory.mktemp("reported")
    letters = folder / "letters.jsonl"
    letters.write_text("".join(json.dumps({"text": text}) + "\n" for text in human_texts(160)))
    site = Site(store=folder / "store", resources=resources)
    with without_prefect():
        ingest(site.store, "letters", [str(letters)], IngestSettings())
        evolve(TINY.model_copy(update={"name": "anchored", "num_generations": 2}), site)
        evolve(TINY.model_copy(update={"name": "human-only", "num_generations": 0}), site)
    return site


@pytest.fixture
def two_runs(reported: Site) -> Iterator[Site]:
    """The same store, without the reports of other tests."""
    yield reported
    shutil.rmtree(reported.store / "reports", ignore_errors=True)


def _section(page: str, title: str) -> str:
    return page.split(f"## {title}")[1].split("## ", maxsplit=1)[0]


def test_a_report_has_its_plots_and_tables(two_runs: Site) -> None:
    folder = report(two_runs.store, ["human-only", "anchored"], "both")
    assert folder == two_runs.store / "reports" / "both"
    page = (folder / "report.md").read_text()
    assert page.startswith("# both\n")
    assert (folder / "collapse.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "perplexity_histogram.png").read_bytes().startswith(b"\x89PNG")
    assert "](perplexity_histogram.png)" in _section(
        page, "Perplexity of each generation's texts under the generation-0 model"
    )
    for title in _TABLES:
        assert "\n|" in _section(page, title), title
    for run in ("anchored", "human-only"):
        assert f"| {run} |" in _section(page, "Outcome")
    assert "No filter dropped more of a source than usual." in _section(page, "Dropped records")
    assert "| 2 |" in _section(page, "Continuations of the showcase prompt")
    assert "The old" in _section(page, "Continuations of the showcase prompt")


def test_the_html_page_is_self_contained(two_runs: Site) -> None:
    folder = report(two_runs.store, ["human-only", "anchored"], "both")
    page = (folder / "report.html").read_text()
    picture = base64.b64encode((folder / "collapse.png").read_bytes()).decode()
    assert f'src="data:image/png;base64,{picture}"' in page
    assert "collapse.png" not in page
    assert page.count("<table>") >= len(_TABLES)
    assert page.count("<table>") == page.count("</table>")
    for outside in ("http://", "https://", "<script", "<link"):
        assert outside not in page


def test_a_report_on_one_run_does_not_mention_others(two_runs: Site) -> None:
    page = (report(two_runs.store, ["anchored"], "one") / "report.md").read_text()
    assert "anchored" in page
    assert "human-only" not in page


def test_runs_are_plotted_in_the_given_order(two_runs: Site) -> None:
    names = ["human-only", "anchored"]
    first, same = (report(two_runs.store, names, name) / "collapse.png" for name in ("first", "same"))
    reversed_order = report(two_runs.store, names[::-1], "reversed") / "collapse.png"
    assert first.read_bytes() == same.read_bytes()
    assert first.read_bytes() != reversed_order.read_bytes()


def test_a_report_can_be_written_again(two_runs: Site) -> None:
    page = (report(two_runs.store, ["anchored"], "one") / "report.md").read_text()
    assert (report(two_runs.store, ["anchored"], "one") / "report.md").read_text() == page


def test_a_run_without_metrics_is_refused(ingested: Site) -> None:
    run = Run(ingested.store, "started")
    recipe = {"description": "", "dataset": "letters", "mix": {"policy": "anchor"}, "train": {"backend": "ngram"}}
    run.initialize({**recipe, "generate": {"sampler": "ngram"}, "num_generations": 1, "seed": 0}, set(), {})
    with pytest.raises(HeirloomError, match="no generation of started has metrics"):
        report(ingested.store, ["started"], "started")
    assert not (ingested.store / "reports").exists()


def test_a_missing_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HeirloomError):
        report(tmp_path / "nowhere", ["tiny"], "nothing")


_HOSTILE = "a | b\n\n# c <script>alert(1)</script> `d` ![x](http://x) *e* _f_ my_name &lt; ~~g~~"


def test_a_text_of_a_record_cannot_add_markup_to_a_page() -> None:
    page = render("table.md.j2") + render("review_summary.md.j2", **_review(_HOSTILE))
    assert "\\<script\\>" in page
    body = MarkdownIt("commonmark").enable("table").render(page)
    for tag in ("<script", "<img", "<a ", "<em>", "<h1>", "<del>"):
        assert tag not in body
    text = " ".join(html.unescape(body).split())
    assert " ".join(_HOSTILE.split()) in text


def _review(text: str) -> dict[str, object]:
    return {
        "attempt": "run · generation 1",
        "action": "warn",
        "reasons": text,
        "limits": [],
        "samples": [{"id": "g001-0000001", "text": "short"}],
        "page_key": "run-generation",
        "corpus_command": "heirloom sql",
    }


def test_a_text_of_a_record_cannot_break_a_table() -> None:
    table = '{% from "table.md.j2" import table %}{{ table(["run", "text"], [["r", text], ["s", None]]) }}'
    page = _environment(markdown=True).from_string(table).render(text=_HOSTILE)
    body = MarkdownIt("commonmark").enable("table").render(page)
    assert body.count("<tr>") == 3
    assert body.count("<td>") == 4
    assert "<script" not in body


def test_values_are_escaped_for_html() -> None:
    page = render("report.html.j2", title="<script>", body="<b>")
    assert "<title>&lt;script&gt;</title>" in page
    assert "&lt;b&gt;" in page


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("# heading", "\\# heading"),
        ("- item", "\\- item"),
        ("12. item", "12\\. item"),
        ("vocabulary_size is -3", "vocabulary_size is -3"),
        ("-3.5", "-3.5"),
        (None, ""),
    ],
)
def test_a_value_cannot_start_a_block(value: object, escaped: str) -> None:
    assert escape_markdown(value) == escaped


def test_a_code_span_cannot_be_ended_by_its_text() -> None:
    assert markdown_code("a") == "`a`"
    assert markdown_code("a `b` c") == "`` a `b` c ``"


def test_a_cell_is_short() -> None:
    assert format_cell(0.123456) == "0.123"
    assert len(format_cell("long " * 100)) == 181


def test_a_change_has_the_first_and_the_last_value() -> None:
    assert format_change(147.2, 14957.4, ",.0f") == "147 → 14,957"
    assert format_change(0.5, 0.25, ".2f") == "0.50 → 0.25"
    assert format_change(None, 0.25, ".2f") == "n/a → 0.25"


@pytest.mark.processes
def test_a_violation_that_loss_does_not_show_is_listed(ingested: Site, recipe: Recipe) -> None:
    limits = [{"metric": "perplexity", "at_most": 100.0}, {"metric": "vocabulary_size", "at_least": 5.0}]
    watched = Recipe.model_validate(recipe.model_dump() | {"num_generations": 1, "gate": {"limits": limits}})
    with without_prefect():
        evolve(watched, ingested)
        evolve(recipe.model_copy(update={"name": "unwatched", "num_generations": 1}), ingested)
    folder = report(ingested.store, ["tiny", "unwatched"], "both")
    page = (folder / "report.md").read_text()
    (sentence,) = [line for line in page.splitlines() if "violates no limit on held-out loss" in line]
    assert sentence.startswith("- **tiny**") and "vocabulary_size of the model is" in sentence
    assert "lost_tails" in _section(page, "Collapse tests")
    assert (folder / "forecast.png").exists()
    assert "forecast.png" not in (folder / "report.html").read_text()
    # In the given order, which is not that of the alphabet here.
    report(ingested.store, ["unwatched", "tiny"], "turned")
    turned = (ingested.store / "reports" / "turned" / "report.md").read_text()
    assert "| generation | unwatched | tiny |" in _section(turned, "Continuations of the showcase prompt")
    assert "| generation | tiny | unwatched |" in _section(page, "Continuations of the showcase prompt")
