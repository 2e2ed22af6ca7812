"""Build training datasets from a corpus: whole texts, responses with their prompts, or preference pairs."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from curation.chat import Message, from_json, parse_chat_text, responses_with_context
from curation.selection.preferences import PreferenceScore, annotated_pair, best_vs_worst_pairs, preference_scores
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import HUMAN, PAIRS, SYNTHETIC
from storage.runs.run import Attempt
from storage.runs.status import rejected_by_review
from tasks.backends import PreferencePair, Text, TrainingCorpus, TransformerTraining
from tasks.context import CuratedCandidates


def lm_dataset(corpus: Artifact) -> TrainingCorpus:
    """Build a dataset of the whole text of every record."""
    return _by_origin(corpus, lambda row: [row["text"]])


def sft_dataset(corpus: Artifact, human_train: Artifact, synthetic: Sequence[CuratedCandidates]) -> TrainingCorpus:
    """Build a dataset of responses with their prompts: of human conversations, and of candidates that had a prompt.

    Raises:
        HeirloomError: no record of the corpus has a response to a prompt.
    """
    messages, prompts = _messages_by_id(human_train), _prompts_by_id(synthetic)
    dataset = _by_origin(corpus, lambda row: _responses(row, messages.get(row["id"]), prompts.get(row["id"], "")))
    if not any(isinstance(text, tuple) for text in (*dataset.human, *dataset.synthetic)):
        raise HeirloomError(
            'train.objective is "sft", and no record of the corpus is a conversation or has a prompt. '
            'Ingest conversations, choose a `prompts.template_name` with prompts, or set train.objective = "lm".'
        )
    return dataset


def eval_dataset(heldout: Artifact, objective: str) -> list[Text]:
    """Build the dataset to evaluate on during training: held-out records in the form that the objective trains on."""
    rows = read_table(heldout.folder, ["text", "messages"]).to_pylist()
    if objective != "sft":
        return [row["text"] for row in rows]
    return [text for row in rows for text in _responses(row, _messages(row), "")]


def build_preference_pairs(
    attempt: Attempt,
    corpus: Artifact,
    human_train: Artifact,
    candidates: Artifact | None,
    settings: TransformerTraining,
) -> Artifact:
    """Publish the preference pairs for DPO; records that a review rejected are on neither side of a pair.

    Args:
        attempt: where to publish, and whose run's reviews apply.
        corpus: the chosen side of a pair must be in it.
        human_train: conversations with annotated pairs, for `preference_source = "human"`.
        candidates: candidates of this attempt, for every other source.
        settings: `preference_source` and `preference_score` of `[train]`.

    Raises:
        HeirloomError: there is no pair.
    """
    identity = {"pairs": settings.preference_source, "by": settings.preference_score}
    parents = {"corpus": corpus, "human_train": human_train}
    if settings.preference_source != "human":
        if candidates is None:
            raise ValueError(f"preference_source {settings.preference_source!r} needs candidates")
        parents["candidates"] = candidates
    pairs = attempt.artifact("pairs", identity, **parents)
    if pairs.exists():
        return pairs
    rejected = {*rejected_by_review(attempt)}
    corpus_ids = set(read_table(corpus.folder, ["id"])["id"].to_pylist()) - rejected
    if settings.preference_source == "human" or candidates is None:
        rows = _annotated_pairs(corpus_ids, human_train)
        remedy = (
            "No human record of the corpus is a conversation that ends in a response and a message of role `rejected`. "
            'Ingest such records, or set train.preference_source = "best-of-k".'
        )
    else:
        rows = _ranked_pairs(corpus_ids, rejected, candidates, settings.preference_score)
        remedy = (
            "No prompt has two different completions of which one was kept. Raise prompts.completions_per_prompt or "
            "prompts.max_prompts_per_record, and choose a `prompts.template_name` with prompts."
        )
    if not rows:
        raise HeirloomError(remedy)
    with pairs.draft() as draft:
        draft.write_part(pa.Table.from_pylist(rows, schema=PAIRS))
    return pairs


def dpo_dataset(pairs: Artifact, corpus: Artifact) -> TrainingCorpus:
    """Build a dataset of preference pairs, each with the corpus weight of its chosen record."""
    weight_of = dict(zip(*read_table(corpus.folder, ["id", "weight"]).to_pydict().values(), strict=True))
    preferences = [
        PreferencePair(
            row["prompt"], row["chosen"], row["rejected"], row["origin"] == HUMAN, weight_of[row["chosen_id"]]
        )
        for row in read_table(pairs.folder).to_pylist()
    ]
    return TrainingCorpus([], [], preferences=preferences)


def _by_origin(corpus: Artifact, texts_of: Callable[[dict[str, Any]], list[Text]]) -> TrainingCorpus:
    texts: dict[str, list[Text]] = {HUMAN: [], SYNTHETIC: []}
    weights: dict[str, list[float]] = {HUMAN: [], SYNTHETIC: []}
    for row in read_table(corpus.folder, ["id", "text", "origin", "weight"]).to_pylist():
        texts_of_row = texts_of(row)
        texts[row["origin"]] += texts_of_row
        weights[row["origin"]] += [row["weight"]] * len(texts_of_row)
    return TrainingCorpus(texts[HUMAN], texts[SYNTHETIC], weights[HUMAN], weights[SYNTHETIC])


def _responses(row: dict[str, Any], messages: Sequence[Message] | None, prompt: str) -> list[Text]:
    """Return the responses of one record with their prompts; its whole text if it has none."""
    text = row["text"]
    if not messages and text.startswith("### "):
        # A model that was trained on conversations generates whole conversations as text.
        try:
            messages = parse_chat_text(text)
        except ValueError:
            messages = None
    if responses := responses_with_context(messages or []):
        return list(responses)
    return [(prompt, text.removeprefix(prompt))] if prompt else [text]


def _messages_by_id(human_train: Artifact) -> dict[str, Sequence[Message]]:
    rows = read_table(human_train.folder, ["id", "messages"]).to_pylist()
    return {row["id"]: messages for row in rows if (messages := _messages(row))}


def _messages(row: dict[str, Any]) -> Sequence[Message] | None:
    conversation = from_json(row["messages"])
    return conversation.messages if conversation else None


def _prompts_by_id(synthetic: Sequence[CuratedCandidates]) -> dict[str, str]:
    tables = [read_table(curated.candidates.folder, ["id", "prompt"]) for curated in synthetic]
    return {row["id"]: row["prompt"] for table in tables for row in table.to_pylist()}


def _annotated_pairs(corpus_ids: set[str], human_train: Artifact) -> list[dict[str, Any]]:
    rows = []
    for record_id, messages in _messages_by_id(human_train).items():
        if record_id in corpus_ids and (pair := annotated_pair(messages)):
            prompt, chosen, rejected = pair
            rows.append(
                {
                    "prompt": prompt,
                    "chosen": chosen,
                    "rejected": rejected,
                    "chosen_id": record_id,
                    "rejected_id": record_id,
                    "origin": HUMAN,
                }
            )
    return rows


def _ranked_pairs(
    corpus_ids: set[str], rejected: set[str], candidates: Artifact, preference_score: PreferenceScore
) -> list[dict[str, Any]]:
    columns = ["id", "text", "prompt", "sum_logprob", "completion_tokens"]
    rows = [
        row for row in read_table(candidates.folder, columns).to_pylist() if row["prompt"] and row["id"] not in rejected
    ]
    completions = [row["text"].removeprefix(row["prompt"]) for row in rows]
    nll_per_token = [-(row["sum_logprob"] or float("nan")) / max(1, row["completion_tokens"]) for row in rows]
    pairs = best_vs_worst_pairs(
        [row["prompt"] for row in rows],
        completions,
        [row["id"] in corpus_ids for row in rows],
        preference_scores(preference_score, completions, nll_per_token),
    )
    return [
        {
            "prompt": rows[pair.chosen]["prompt"],
            "chosen": completions[pair.chosen],
            "rejected": completions[pair.rejected],
            "chosen_id": rows[pair.chosen]["id"],
            "rejected_id": rows[pair.rejected]["id"],
            "origin": SYNTHETIC,
            "margin": pair.margin,
        }
        for pair in pairs
    ]
