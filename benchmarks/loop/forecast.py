"""Compare forecast and measured vocabulary of every policy, generation by generation.

Pieces are runs, remembered in `forecast` of the work folder; an interrupted benchmark goes on where it stood. On the
n-gram backend the model learns its corpus nearly as it is; on the transformer it does not, and docs/forecast.md
explains the differences.
"""

from benchmarks.figures import WORK, Figure, short
from curation.splitting import IngestSettings
from flows.config.loading import load_recipe
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES
from storage.readers.discovery import PYTHON_DOCS
from tasks.backends import Resources
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect

_STORE = WORK / "forecast"
_POLICIES = ("replace", "accumulate-subsample", "fixed-fraction", "accumulate", "anchor")
_GENERATIONS = 4
_WITHIN = 0.05


def measure() -> list[Figure]:
    """Run what is not finished, then compare."""
    site = Site(store=_STORE, resources=Resources(num_train_workers=2, num_sample_workers=2))
    settings = IngestSettings(
        passage_length_chars=(80, 360), split_by="source", max_train_records=600, max_heldout_records=200
    )
    with without_prefect():
        ingest(_STORE, "docs", [PYTHON_DOCS], settings)
        for backend in ("ngram", "transformer"):
            for policy in _POLICIES:
                evolve(_recipe(backend, policy), site)
    return [figure for backend in ("ngram", "transformer") for figure in _figures(backend)]


def _recipe(backend: str, policy: str) -> Recipe:
    base = "ngram" if backend == "ngram" else "accumulate"
    changes = ['dataset="docs"', f'name="{backend}-{policy}"', f"num_generations={_GENERATIONS}", "curate.filters=[]"]
    changes += ["evaluate.num_sources=0", "prompts.prompts_per_human_record=1"]
    values = load_recipe(base, changes).model_dump()
    share = {"human_fraction": 0.3} if policy == "fixed-fraction" else {}
    return Recipe.model_validate({**values, "mix": {"policy": policy, **share}})


def _figures(backend: str) -> list[Figure]:
    names = [f"{backend}-{policy}" for policy in _POLICIES]
    rows = open_catalog(_STORE, names).sql(QUERIES["forecast_vs_measured"]).fetchall()
    found = []
    for name in names:
        pairs = {(place, metric): (predicted, seen) for run, place, metric, predicted, seen in rows if run == name}
        off = max(
            abs(predicted - seen) for (_, metric), (predicted, seen) in pairs.items() if metric == "type_coverage"
        )
        # Less what the model of human text alone is off by: what is left is the course, and not the model.
        first_predicted, first_seen = pairs[0, "type_coverage"]
        course = max(
            abs(predicted - seen - (first_predicted - first_seen))
            for (_, metric), (predicted, seen) in pairs.items()
            if metric == "type_coverage"
        )
        found.append(Figure(f"{name}: type coverage, largest distance from forecast", short(off), "share"))
        found.append(
            Figure(
                f"{name}: type coverage, largest distance beyond that of generation 0",
                short(course),
                "share",
                f"<= {_WITHIN}",
                course <= _WITHIN,
            )
        )
    return found
