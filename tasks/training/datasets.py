"""Build training datasets from a corpus: whole texts, responses with their prompts, or preference pairs."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from curation.selection.preferences import PreferenceScore, annotated_pair, best_vs_worst_pairs, preference_scores
from heirloom.chat import Message, from_json, render_prompt, render_response, to_json
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import HUMAN, PAIRS, SYNTHETIC
from storage.runs.run import Attempt
from storage.runs.status import rejected_by_review
from tasks.backends import PreferencePair, Text, TrainingCorpus, TransformerTraining
from tasks.backends.types import ChatPair, record_text
from tasks.context import CuratedCandidates


def lm_dataset(corpus: Artifact) -> TrainingCorpus:
    """Build a dataset of the whole text, or the whole conversation, of every record."""
    return _by_origin(corpus, lambda row: record_text(row, whole=True))


def sft_dataset(corpus: Artifact, synthetic: Sequence[CuratedCandidates]) -> TrainingCorpus:
    """Build a dataset of responses with their prompts: of conversations, and of candidates that had a prompt.

    Raises:
        HeirloomError: no record of the corpus has a response to a prompt.
    """
    prompts = _prompts_by_id(synthetic)
    dataset = _by_origin(corpus, lambda row: _response(row, prompts.get(row["id"], "")))
    if all(isinstance(text, str) for text in (*dataset.human, *dataset.synthetic)):
        raise HeirloomError(
            'train.objective is "sft", and no record of the corpus is a conversation or has a prompt. '
            'Ingest conversations, choose a `prompts.template_name` with prompts, or set train.objective = "lm".'
        )
    return dataset


def eval_dataset(heldout: Artifact, objective: str) -> list[Text]:
    """Build the dataset to evaluate on during training: held-out records in the form that the objective trains on."""
    rows = read_table(heldout.folder, ["text", "messages", "tools"]).to_pylist()
    return [record_text(row, whole=objective != "sft") for row in rows]


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
            prompt=row["prompt"],
            chosen=row["chosen"],
            rejected=row["rejected"],
            human=row["origin"] == HUMAN,
            weight=weight_of[row["chosen_id"]],
            chat=_chat_pair(row),
        )
        for row in read_table(pairs.folder).to_pylist()
    ]
    return TrainingCorpus([], [], preferences=preferences)


def _chat_pair(row: dict[str, Any]) -> ChatPair | None:
    prompt = from_json(row["prompt_messages"], row["tools"])
    if not prompt:
        return None
    return ChatPair(prompt, json.loads(row["chosen_message"]), json.loads(row["rejected_message"]))


def _by_origin(corpus: Artifact, text_of: Callable[[dict[str, Any]], Text]) -> TrainingCorpus:
    texts: dict[str, list[Text]] = {HUMAN: [], SYNTHETIC: []}
    weights: dict[str, list[float]] = {HUMAN: [], SYNTHETIC: []}
    columns = ["id", "text", "origin", "weight", "messages", "tools"]
    for row in read_table(corpus.folder, columns).to_pylist():
        texts[row["origin"]].append(text_of(row))
        weights[row["origin"]].append(row["weight"])
    return TrainingCorpus(texts[HUMAN], texts[SYNTHETIC], weights[HUMAN], weights[SYNTHETIC])


def _response(row: dict[str, Any], prompt: str) -> Text:
    """Return the conversation of a record, or its response with its prompt; its whole text if it has none."""
    text = record_text(row, whole=False)
    return (prompt, text.removeprefix(prompt)) if isinstance(text, str) and prompt else text


def _prompts_by_id(synthetic: Sequence[CuratedCandidates]) -> dict[str, str]:
    tables = [read_table(curated.candidates.folder, ["id", "prompt"]) for curated in synthetic]
    return {row["id"]: row["prompt"] for table in tables for row in table.to_pylist()}


def _annotated_pairs(corpus_ids: set[str], human_train: Artifact) -> list[dict[str, Any]]:
    rows = []
    for row in read_table(human_train.folder, ["id", "messages", "tools"]).to_pylist():
        conversation = from_json(row["messages"], row["tools"])
        if conversation and row["id"] in corpus_ids and (pair := annotated_pair(conversation.messages)):
            prompt, chosen, rejected = pair
            rows.append(
                {
                    "prompt": render_prompt(prompt),
                    "chosen": render_response(chosen),
                    "rejected": render_response(rejected),
                    "chosen_id": row["id"],
                    "rejected_id": row["id"],
                    "origin": HUMAN,
                    **_chat_columns(prompt, chosen, rejected, row["tools"]),
                }
            )
    return rows


def _chat_columns(
    prompt: Sequence[Message], chosen: Message, rejected: Message, tools: str | None
) -> dict[str, str | None]:
    return {
        "prompt_messages": to_json(prompt),
        "chosen_message": json.dumps(chosen, ensure_ascii=False),
        "rejected_message": json.dumps(rejected, ensure_ascii=False),
        "tools": tools,
    }


def _ranked_pairs(
    corpus_ids: set[str], rejected: set[str], candidates: Artifact, preference_score: PreferenceScore
) -> list[dict[str, Any]]:
    columns = ["id", "text", "prompt", "sum_logprob", "completion_tokens", "messages", "tools"]
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
            **_ranked_chat_columns(rows[pair.chosen], rows[pair.rejected]),
        }
        for pair in pairs
    ]


def _ranked_chat_columns(chosen: dict[str, Any], rejected: dict[str, Any]) -> dict[str, str | None]:
    better, worse = from_json(chosen["messages"]), from_json(rejected["messages"])
    if not better or not worse or better.messages[:-1] != worse.messages[:-1]:
        return {}
    return _chat_columns(better.messages[:-1], better.messages[-1], worse.messages[-1], chosen["tools"])
