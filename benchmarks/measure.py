"""What measuring costs beside generating, and the case that perplexity alone misses.

Cost: seconds of the two stages of one generation of 10,000 candidates, on a machine that does nothing else. The case: accumulating words said at
temperature 0.7 by a tiny transformer keeps held-out loss near that of the model of human text, while hardly a rare word is said any more. Runs are kept in
`measure` of the work folder, so that an interrupted benchmark goes on.
"""

from benchmarks.figures import WORK, Figure, short
from curation.splitting import IngestSettings
from flows.evolve import evolve
from flows.recipe import Recipe, Site, load_recipe
from storage.artifact import read_manifest
from storage.catalog import open_catalog
from storage.run import Attempt, Run
from storage.sources import DOCSTRINGS
from tasks.backends import Resources
from tasks.coat import without_coat
from tasks.ingest import ingest
from tasks.report import report

_STORE = WORK / "measure"
_CANDIDATES = 10_000
_PASSAGES = 1000
_MOST = 0.15


def measure() -> list[Figure]:
    """Run what is not finished, then read the figures from the store."""
    site = Site(store=_STORE, resources=Resources())
    settings = IngestSettings(
        passage_characters=(80, 360), split_by="source", reserve_records=_PASSAGES, heldout_records=_PASSAGES // 4
    )
    with without_coat():
        ingest(_STORE, "docs", [DOCSTRINGS], settings)
        evolve(_cold(), site)
        evolve(_wide(), site)
        page = (report(_STORE, ["cold"], "cold") / "report.md").read_text()
    return [*_case("would pass by held-out loss alone" in page), *_cost()]


def _cold() -> Recipe:
    return load_recipe("accumulate", ['name="cold"', 'human="docs"', "generate.temperature=0.7", "generations=4"])


def _wide() -> Recipe:
    changes = [
        'name="wide"',
        'human="docs"',
        "generations=1",
        f"prompts.candidates_per_human_record={_CANDIDATES / _PASSAGES}",
    ]
    return load_recipe("accumulate", changes)


def _case(said: bool) -> list[Figure]:
    question = """select metric, arg_max(value, generation) / arg_min(value, generation) from metrics
        where run = 'cold' and subject = 'model' and source = 'all' group by metric"""
    last = dict(open_catalog(_STORE, ["cold"]).sql(question).fetchall())
    alarmed = "select distinct metric from verdicts where run = 'cold' and action <> 'go'"
    metrics = {metric for (metric,) in open_catalog(_STORE, ["cold"]).sql(alarmed).fetchall()}
    early = "rare_word_coverage" in metrics and "perplexity" not in metrics
    return [
        Figure("accumulate at 0.7: held-out perplexity, last over first", short(last["perplexity"]), "ratio"),
        Figure("accumulate at 0.7: rare-word coverage, last over first", short(last["rare_word_coverage"]), "ratio"),
        Figure("accumulate at 0.7: early signs alarm, held-out loss does not", str(early), "", "True", early),
        Figure("accumulate at 0.7: the report says so in a sentence", str(said), "", "True", said),
    ]


def _cost() -> list[Figure]:
    folder = Attempt(Run(_STORE, "wide"), 1).folder
    seconds = {
        name: manifest["finished"] - manifest["started"]
        for name in ("candidates", "voice", "metrics")
        for manifest in [read_manifest(folder / name)]
    }
    share = seconds["metrics"] / seconds["candidates"]
    rows = read_manifest(folder / "candidates")["rows"]
    return [
        Figure("candidates of the generation that was measured", rows, "records"),
        Figure("generating it", short(seconds["candidates"]), "s"),
        Figure("measuring it", short(seconds["metrics"]), "s"),
        Figure("listening to its voice", short(seconds["voice"]), "s"),
        Figure("measuring over generating", short(share), "ratio", f"<= {_MOST}", share <= _MOST),
    ]
