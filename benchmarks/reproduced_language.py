"""Loops of small transformers beside what was published of large ones: restarts from a base, and models trained from scratch.

`python -m benchmarks.reproduced_language cut FILE --tokenizer NAME --out BLOCKS` cuts a text into blocks of 64 tokens.
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import WORK, Figure, short
from curation.splitting import IngestSettings
from curation.text import passages
from flows.compare import compare
from flows.recipe import Recipe, Site, load_recipe
from storage.catalog import open_catalog
from storage.docstrings import docstrings
from storage.sources import DOCSTRINGS
from tasks.backends import Corpus, Resources, TransformerTraining
from tasks.backends.pool import Backends
from tasks.coat import without_coat
from tasks.ingest import ingest

_STORE = WORK / "reproductions" / "language"
_BASE = TransformerTraining(context=132, human_only_steps=600)
_BLOCK = 64
_SETTINGS: dict[str, list[str]] = {
    "none": [],
    "tenth": ["mix.shares=[[0.9, 0, 0.1]]"],
    "penalty": ["generate.repetition_penalty=2.0"],
}
"""Settings of the recipe `recursive`: no original data, a tenth of it, and none with repetition held down."""


def recursive(*, seeds: Sequence[int] = (0, 1, 2), generations: int = 5, blocks: int = 320) -> Iterator[Figure]:
    """Shumailov et al. 2024: a base model tuned on blocks of text, then on what the last one wrote, from the base each time."""
    base = _tuned_from(blocks)
    site = Site(store=_STORE, resources=Resources(trainers=2))
    runs = {
        name: [load_recipe("recursive", _recursive(name, seed, base, generations, more)) for seed in seeds]
        for name, more in _SETTINGS.items()
    }
    with without_coat():
        for seed in range(len(seeds)):
            compare([recipes[seed] for recipes in runs.values()], site, f"recursive-{seed}")
    ends = {name: [_perplexities(recipe) for recipe in recipes] for name, recipes in runs.items()}
    yield from _lost(_zero_shot(base), ends)
    yield from _surprise([recipe.name for recipe in runs["none"]], generations)
    repeated = [_metric(recipe.name, "candidates", "repetition") for recipe in runs["none"]]
    grown = min(one[generations] / max(1e-9, _human_repetition(recipe.name)) for one, recipe in zip(repeated, runs["none"], strict=True))
    yield Figure("words in runs that were said before, last generation over human text, least of seeds", short(grown), "ratio", "> 1: outputs become repetitive", grown > 1)


def cut(text: str, tokenizer: Any, size: int) -> list[str]:  # noqa: ANN401
    """Blocks of so many tokens, in order; what is left at the end is not one."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [tokenizer.decode(ids[start : start + size]) for start in range(0, len(ids) - size + 1, size)]


def _recursive(name: str, seed: int, base: Path, generations: int, more: list[str]) -> list[str]:
    return [
        f'name="recursive-{name}-{seed}"',
        f"seed={seed}",
        f"generations={generations}",
        f'train.base="{base}"',
        *more,
    ]


def _tuned_from(blocks: int) -> Path:
    """A base that knows the standard library's docstrings, and blocks of the language reference, which it does not, to be tuned on."""
    folder = _STORE / "base"
    library = [(text, source) for text, source in docstrings() if not source.startswith("topics/")]
    if not (folder / "probe.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        texts = list(dict.fromkeys(piece for text, _ in library for piece in passages(text, 80, 360)))
        backends = Backends(Resources(threads=2), _STORE / "logs")
        backends.trainer(_BASE).train(Corpus(texts, []), [], None, folder, 0, _untold)
        backends.close()
    from tasks.backends.beginning import read_tokenizer

    spelling, file = read_tokenizer(folder), _STORE / "blocks.jsonl"
    rows = [
        {"text": block, "source": source}
        for text, source in docstrings()
        if source.startswith("topics/")
        for block in cut(text, spelling, _BLOCK)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = IngestSettings(
        source_column="source", split_by="source", heldout_fraction=0.3, reserve_records=blocks, heldout_records=200, repeats="exact"
    )
    with without_coat():
        ingest(_STORE, "blocks", [str(file)], settings)
    return folder


def _untold(*_: int) -> None:
    """Nobody listens."""
