import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.splitting import IngestSettings
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from storage.runs.run import Run
from tasks.backends import Resources
from tasks.backends.registry import Backends
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect
from tasks.reporting.report import _cell, arrow, report
from tests.conftest import TINY, human_texts

_TABLES = (
    "Where it ended",
    "One opening, continued by every generation",
    "What was dropped, and why",
    "How much was human",
    "The runs",
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


def test_a_report_has_its_pictures_and_tables(two_runs: Site) -> None:
    folder = report(two_runs.store, ["human-only", "anchored"], "both")
    assert folder == two_runs.store / "reports" / "both"
    page = (folder / "report.md").read_text()
    assert page.startswith("# both\n")
    assert (folder / "collapse.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "surprise.png").read_bytes().startswith(b"\x89PNG")
    assert "](surprise.png)" in _section(page, "How likely each generation's words are to generation 0")
    for title in _TABLES:
        assert "\n|" in _section(page, title), title
    for run in ("anchored", "human-only"):
        assert f"| {run} |" in _section(page, "Where it ended")
    assert "No sieve dropped more of a source than is usual." in _section(page, "What was dropped, and why")
    assert "| 2 |" in _section(page, "One opening, continued by every generation")
    assert "The old" in _section(page, "One opening, continued by every generation")


def test_the_html_page_stands_alone(two_runs: Site) -> None:
    folder = report(two_runs.store, ["human-only", "anchored"], "both")
    html = (folder / "report.html").read_text()
    picture = base64.b64encode((folder / "collapse.png").read_bytes()).decode()
    assert f'src="data:image/png;base64,{picture}"' in html
    assert "collapse.png" not in html
    assert html.count("<table>") >= len(_TABLES)
    assert html.count("<table>") == html.count("</table>")
    for outside in ("http://", "https://", "<script", "<link"):
        assert outside not in html


def test_a_report_on_one_run_says_nothing_of_others(two_runs: Site) -> None:
    page = (report(two_runs.store, ["anchored"], "one") / "report.md").read_text()
    assert "anchored" in page
    assert "human-only" not in page


def test_runs_are_drawn_in_the_order_they_were_named(two_runs: Site) -> None:
    names = ["human-only", "anchored"]
    one, same = (report(two_runs.store, names, name) / "collapse.png" for name in ("one", "same"))
    other = report(two_runs.store, names[::-1], "other") / "collapse.png"
    assert one.read_bytes() == same.read_bytes()
    assert one.read_bytes() != other.read_bytes()


def test_a_report_can_be_written_again(two_runs: Site) -> None:
    once = (report(two_runs.store, ["anchored"], "one") / "report.md").read_text()
    assert (report(two_runs.store, ["anchored"], "one") / "report.md").read_text() == once


def test_nothing_to_report_on_is_an_error(ingested: Site) -> None:
    run = Run(ingested.store, "begun")
    described = {"description": "", "dataset": "letters", "mix": {"policy": "anchor"}, "train": {"backend": "ngram"}}
    run.initialize({**described, "generate": {"sampler": "ngram"}, "num_generations": 1, "seed": 0}, set(), {})
    with pytest.raises(ValueError, match="nothing to report on begun: no generation has been measured yet"):
        report(ingested.store, ["begun"], "begun")
    assert not (ingested.store / "reports").exists()


def test_no_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no store at"):
        report(tmp_path / "nowhere", ["tiny"], "nothing")


def test_what_a_model_says_cannot_break_the_table_or_the_page() -> None:
    assert _cell("a | b\n\nc <script>x</script> `d`") == "a \\| b c &lt;script>x&lt;/script> \\`d\\`"
    assert _cell(None) == ""
    assert _cell(0.123456) == "0.123"
    assert len(_cell("long " * 100)) == 181


def test_an_arrow_runs_from_the_first_number_to_the_last() -> None:
    assert arrow(147.2, 14957.4, 0) == "147 → 14,957"
    assert arrow(0.5, 0.25, 2) == "0.50 → 0.25"


def test_what_loss_alone_would_miss_is_said_in_a_sentence(ingested: Site, recipe: Recipe) -> None:
    limits = [{"metric": "perplexity", "at_most": 100.0}, {"metric": "vocabulary_size", "at_least": 5.0}]
    watched = Recipe.model_validate(recipe.model_dump() | {"num_generations": 1, "gate": {"limits": limits}})
    with without_prefect():
        evolve(watched, ingested)
        evolve(recipe.model_copy(update={"name": "unwatched", "num_generations": 1}), ingested)
    folder = report(ingested.store, ["tiny", "unwatched"], "both")
    page = (folder / "report.md").read_text()
    (sentence,) = [line for line in page.splitlines() if "would pass by held-out loss alone" in line]
    assert sentence.startswith("- **tiny**") and "vocabulary_size of the model is" in sentence
    assert "lost_tails" in _section(page, "Collapse, by each meaning of the word")
    assert (folder / "forecast.png").exists()
    assert "forecast.png" not in (folder / "report.html").read_text()
