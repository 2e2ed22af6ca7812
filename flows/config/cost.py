"""Estimate the tokens, time and price of a run before it begins."""

import statistics
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from flows.config.recipe import Recipe
from flows.config.site import Site
from storage.artifacts.artifact import iter_tables, read_manifest
from storage.runs.run import runs
from storage.runs.status import attempt_summaries
from tasks.backends import TransformerTraining

_TOKENS_PER_WORD = 1.5
_LENGTH_SAMPLE = 2000
"""Number of human texts whose mean length estimates the length of candidates."""
_MODEL_KEYS = {
    *("backend", "base_model", "lora_rank", "hidden_size", "num_hidden_layers"),
    *("num_components", "latent_size", "order"),
}
"""Keys of `[train]` that determine the time per token."""


@dataclass(frozen=True, kw_only=True)
class RunCost:
    """What a run costs from its beginning to its last generation, if no filter drops a candidate."""

    generated_tokens: int
    trained_tokens: int
    seconds: float | None
    """At the median speed of the store's generations with such a model; None if there is none."""
    num_rates: int
    """Number of generations whose speed was measured."""
    price: float | None
    """In the currency of the site's prices; None if the site has no prices, or needs a time that is unknown."""


def estimate_cost(recipe: Recipe, site: Site, human_train: Path) -> RunCost:
    """Estimate tokens from the length of human texts, and time from the finished runs of the store.

    Args:
        recipe: recipe with every `auto` replaced.
        site: store with earlier runs, and prices.
        human_train: folder of the human training split.
    """
    num_records = read_manifest(human_train)["rows"]
    prompts = recipe.prompts
    num_answers = round(num_records * prompts.prompts_per_human_record) * prompts.completions_per_prompt
    texts = (text for part in iter_tables(human_train, ["text"]) for text in part["text"].to_pylist())
    words_per_text = statistics.mean(len(text.split()) for text in islice(texts, _LENGTH_SAMPLE))
    tokens_per_text = min(recipe.generate.max_tokens, _TOKENS_PER_WORD * words_per_text)
    generated = round(num_answers * tokens_per_text) * recipe.num_generations
    trained = _training_tokens(recipe, num_records, words_per_text)
    rates = _seconds_per_token(recipe, site.store)
    seconds = (generated + trained) * statistics.median(rates) if rates else None
    return RunCost(
        generated_tokens=generated,
        trained_tokens=trained,
        seconds=seconds,
        num_rates=len(rates),
        price=site.resources.price(generated, seconds),
    )


def _seconds_per_token(recipe: Recipe, store: Path) -> list[float]:
    """Return the rate of every finished attempt in the store that has trained a model of the same size."""
    model = recipe.train.model_dump(include=_MODEL_KEYS)
    return [
        attempt.work_seconds / attempt.tokens
        for run in runs(store)
        if model.items() <= run.recipe()["train"].items()
        for attempt in attempt_summaries(run)
        if attempt.tokens and attempt.verdict
    ]


def _training_tokens(recipe: Recipe, num_records: int, words_per_text: float) -> int:
    """Return the number of tokens that all trainings see together, if no filter drops a candidate."""
    train = recipe.train
    num_epochs = 1.0
    if isinstance(train, TransformerTraining):
        if train.max_tokens:
            return train.max_tokens * (recipe.num_generations + 1)
        if not train.num_epochs:
            steps = train.generation_0_max_steps + train.max_steps * recipe.num_generations
            # Without a length of its own a training has that of the base model, which records hardly ever fill.
            row_tokens = train.context_length or round(words_per_text * _TOKENS_PER_WORD)
            return steps * train.batch_size * row_tokens
        num_epochs = train.num_epochs
    num_seen = num_records + sum(
        _corpus_size(recipe, num_records, generation) for generation in range(1, recipe.num_generations + 1)
    )
    return round(num_epochs * num_seen * words_per_text * _TOKENS_PER_WORD)


def _corpus_size(recipe: Recipe, num_records: int, generation: int) -> float:
    """Return the number of records in the corpus of a generation."""
    num_candidates = num_records * recipe.prompts.prompts_per_human_record
    match recipe.mix.policy:
        case "replace":
            return num_candidates
        case "accumulate":
            return num_records + generation * num_candidates
        case "anchor":
            return num_records + num_candidates
        case _:
            return recipe.mix.num_records or num_records
