"""Fine-tune a base model repeatedly on the previous model's output: Shumailov et al. 2024 at the size of two cores."""

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import WORK, Figure, short
from benchmarks.reproductions.data_preparation import cut
from curation.passages import split_passages
from curation.splitting import DedupSettings, IngestSettings
from flows.compare import compare
from flows.config.loading import load_recipe
from flows.config.recipe import Recipe
from flows.config.site import Site
from storage.artifacts.artifact import read_table
from storage.query.catalog import open_catalog
from storage.readers.python_docs import iter_docstrings
from tasks.backends import Resources, TrainingCorpus, TrainJob, TransformerTraining
from tasks.backends.registry import Backends
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect
from tests.support.progress import ignore_progress

_STORE = WORK / "reproductions" / "language"
_BASE = TransformerTraining(
    hidden_size=64,
    num_attention_heads=2,
    vocab_size=1024,
    context_length=132,
    generation_0_max_steps=500,
    precision="float32",
)
_BLOCK = 64
_SETTINGS: dict[str, list[str]] = {
    "none": [],
    "tenth": ["mix.mixture_weights=[[0.9, 0, 0.1]]", "train.num_epochs=10"],
    "half": ["mix.mixture_weights=[[0.5, 0, 0.5]]", "train.num_epochs=10"],
    "penalty": ["generate.repetition_penalty=2.0"],
}
"""Settings of the recipe `recursive`."""
_LABELS = {
    "none": "no original data",
    "tenth": "a tenth of original data",
    "half": "half of original data",
    "penalty": "no original data, repetition penalty 2.0",
}


def recursive(*, seeds: Sequence[int] = (0, 1, 2), generations: int = 4, blocks: int = 256) -> Iterator[Figure]:
    """Shumailov et al. 2024: a base model tuned on text, then on the last one's output, from the base each time."""
    base = _tuned_from(blocks)
    site = Site(store=_STORE, resources=Resources(num_train_workers=2))
    runs = {
        name: [load_recipe("recursive", _recursive(name, seed, base, generations, more)) for seed in seeds]
        for name, more in _SETTINGS.items()
    }
    with without_prefect():
        for seed in range(len(seeds)):
            compare([recipes[seed] for recipes in runs.values()], site, f"recursive-{seed}")
    ends = {name: [_perplexities(recipe.name) for recipe in recipes] for name, recipes in runs.items()}
    yield from _lost(_zero_shot(base, runs["none"][0]), ends)
    yield from _surprise([recipe.name for recipe in runs["none"]], generations)
    yield from _repeated([recipe.name for recipe in runs["none"]], generations)


def _recursive(name: str, seed: int, base: Path, generations: int, more: list[str]) -> list[str]:
    return [
        f'name="recursive-{name}-{seed}"',
        f"seed={seed}",
        f"num_generations={generations}",
        f'train.base_model="{base}"',
        'train.precision="float32"',
        *more,
    ]


def _tuned_from(blocks: int) -> Path:
    """A base that knows the standard library's docstrings, and blocks of the language reference to tune it on."""
    folder = _STORE / "base"
    library = [(text, source) for text, source in iter_docstrings() if not source.startswith("topics/")]
    if not (folder / "probe.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        texts = list(dict.fromkeys(piece for text, _ in library for piece in split_passages(text, 80, 360).texts))
        backends = Backends(Resources(), _STORE / "logs")
        job = TrainJob(settings=_BASE, corpus=TrainingCorpus(texts, []), folder=folder, seed=0)
        backends.trainer().train(job, ignore_progress)
        backends.close()
    from tasks.backends.models.loading import load_tokenizer

    spelling, file = load_tokenizer(folder), _STORE / "blocks.jsonl"
    rows = [
        {"text": block, "source": source}
        for text, source in iter_docstrings()
        if source.startswith("topics/")
        for block in cut(" ".join(text.split()), spelling, _BLOCK)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = IngestSettings(
        source_column="source",
        split_by="source",
        heldout_fraction=0.3,
        max_train_records=blocks,
        max_heldout_records=200,
        dedup=DedupSettings(method="exact"),
    )
    with without_prefect():
        ingest(_STORE, "blocks", [str(file)], settings)
    return folder


def _perplexities(run: str) -> dict[int, float]:
    asked = """select generation, value from metrics
        where subject = 'model' and metric = 'perplexity' and source = 'all' order by generation"""
    return dict(open_catalog(_STORE, [run]).sql(asked).fetchall())


def _zero_shot(base: Path, recipe: Recipe) -> float:
    """Held-out perplexity of the base before it is tuned."""
    (heldout,) = (_STORE / "human" / "blocks").glob("snapshot=1/human_heldout")
    backends = Backends(Resources(), _STORE / "logs")
    scores = backends.scorer(recipe.train).score(
        base, read_table(heldout, ["text"])["text"].to_pylist(), (1.0,), ignore_progress
    )
    backends.close()
    return math.exp(sum(one.nll[0] for one in scores) / sum(one.tokens for one in scores))


def _lost(zero_shot: float, ends: dict[str, list[dict[int, float]]]) -> Iterator[Figure]:
    first = statistics.mean(one[0] for one in ends["none"])
    yield Figure(
        "base model before and after fine-tuning on human text: held-out perplexity",
        f"{zero_shot:.1f} to {first:.1f}",
        "",
        "115 to 34: falls",
        zero_shot > first,
    )
    for name, seeds in ends.items():
        path = [statistics.mean(seed[turn] for seed in seeds) for turn in sorted(seeds[0])]
        yield Figure(
            f"{_LABELS[name]}: held-out perplexity by generation, mean of seeds",
            " ".join(f"{one:.1f}" for one in path),
            "",
        )
    last = max(ends["none"][0])
    rises = {name: [seed[last] / seed[0] - 1 for seed in seeds] for name, seeds in ends.items()}
    yield Figure(
        "no original data: rise of perplexity over generation 0, minimum over seeds",
        short(100 * min(rises["none"])),
        "%",
        "+59 to +82 %: rises",
        min(rises["none"]) > 0,
    )
    for name, published in (("tenth", "only minor degradation: < 0.5"), ("half", "how much it takes here: < 0.5")):
        shares = [kept / none for kept, none in zip(rises[name], rises["none"], strict=True)]
        yield Figure(
            f"{_LABELS[name]}: its rise over that without, maximum over seeds",
            short(max(shares)),
            "share",
            published,
            max(shares) < 0.5,
        )
    worse = [penalty[last] / none[last] for penalty, none in zip(ends["penalty"], ends["none"], strict=True)]
    yield Figure(
        "repetition penalty 2.0: perplexity, last generation / without penalty, minimum over seeds",
        short(min(worse)),
        "ratio",
        "about 2: doubles",
        min(worse) >= 1.5,
    )
    yield Figure(
        "repetition penalty 2.0: rise over generation 0, minimum over seeds",
        short(100 * min(rises["penalty"])),
        "%",
        "> 0: no cure",
        min(rises["penalty"]) > 0,
    )


def _surprise(runs: Sequence[str], last: int) -> Iterator[Figure]:
    """Perplexity of samples under generation 0's model, beside held-out human text."""
    likely, tails = [], []
    for run in runs:
        asked = """select subject, generation, quantile_cont(exp(nll / tokens), [0.5, 0.99]) from scores
            where subject = 'candidates' or generation = 0 group by all"""
        found = {
            (subject, turn): numbers for subject, turn, numbers in open_catalog(_STORE, [run]).sql(asked).fetchall()
        }
        likely.append(found["candidates", last][0] / found["human_heldout", 0][0])
        tails.append(found["candidates", last][1] / found["candidates", 1][1])
    yield Figure(
        "median perplexity under generation 0's model, samples of the last generation / human text, maximum over seeds",
        short(max(likely)),
        "ratio",
        "< 1: probability mass moves to likely text",
        max(likely) < 1,
    )
    yield Figure(
        "99th percentile of the same perplexity, last / first generation, minimum over seeds",
        short(min(tails)),
        "ratio",
        "> 1: a longer tail of unlikely text",
        min(tails) > 1,
    )


def _repeated(runs: Sequence[str], last: int) -> Iterator[Figure]:
    """Share of repeated 4-grams, in samples of equal size."""
    found = []
    for run in runs:
        asked = """select value from metrics where source = 'all' and metric = 'repetition' and generation = $1
            and subject in ('candidates', 'human') order by subject"""
        (generated,), (human,) = open_catalog(_STORE, [run]).execute(asked, [last]).fetchall()
        found.append((generated, human))
    least, human = min(generated for generated, _ in found), max(human for _, human in found)
    yield Figure("repeated 4-grams: human text", short(human), "share")
    yield Figure(
        "repeated 4-grams: samples of the last generation, minimum over seeds",
        short(least),
        "share",
        "more: outputs become repetitive",
        all(generated > there for generated, there in found),
    )
