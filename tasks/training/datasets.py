"""What a corpus gives to learn: its texts, the responses in them, or pairs of which one is preferred."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from curation.chat import parse_chat_text, responses_with_context
from curation.selection.preferences import annotated_pair, best_vs_worst_pairs, preference_scores
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import HUMAN, PAIRS, SYNTHETIC
from storage.runs.run import Attempt
from storage.runs.status import rejected_by_review
from tasks.backends import PreferencePair, Text, TrainingCorpus, TransformerTraining

CandidateHistory = Sequence[tuple[Artifact, Artifact]]
"""Candidates and decisions of every generation so far, oldest first."""


def lm_dataset(corpus: Artifact) -> TrainingCorpus:
    """Every text of a corpus, to be learned whole."""
    return _by_origin(corpus, lambda row: [row["text"]])


def sft_dataset(corpus: Artifact, human_train: Artifact, history: CandidateHistory) -> TrainingCorpus:
    """Every response in a corpus with its prompt: of conversations, and of candidates that were asked for by a prompt.

    Raises:
        HeirloomError: there is none.
    """
    turns, prompts = _turns(human_train), _prompts(history)
    found = _by_origin(corpus, lambda row: _pieces(row, turns.get(row["id"]), prompts.get(row["id"], "")))
    if not any(isinstance(text, tuple) for text in (*found.human, *found.synthetic)):
        raise HeirloomError(
            "train.objective is 'sft', and no record of the corpus is a conversation or has a prompt; "
            "ingest conversations, ask with prompts, or set train.objective = 'text'"
        )
    return found


def eval_dataset(heldout: Artifact, objective: str) -> list[Text]:
    """The held-out texts, in the shape of what is learned."""
    rows = read_table(heldout.folder, ["text", "messages"]).to_pylist()
    return [
        piece for row in rows for piece in (_pieces(row, row["messages"], "") if objective == "sft" else [row["text"]])
    ]


def build_preference_pairs(
    attempt: Attempt, corpus: Artifact, human_train: Artifact, history: CandidateHistory, settings: TransformerTraining
) -> Artifact:
    """Publish the pairs that DPO learns from; what a person has rejected in a review is on neither side of one.

    Raises:
        HeirloomError: there is none.
    """
    asked = {"pairs": settings.preference_source, "by": settings.preference_score}
    newest = {"candidates": history[-1][0]} if settings.preference_source != "human" else {}
    pairs = attempt.artifact("pairs", asked, corpus=corpus, human_train=human_train, **newest)
    if pairs.exists():
        return pairs
    barred = {*rejected_by_review(attempt)}
    there = set(read_table(corpus.folder, ["id"])["id"].to_pylist()) - barred
    rows = (
        _marked(there, human_train)
        if settings.preference_source == "human"
        else _ranked(there, barred, history[-1][0], settings)
    )
    if not rows:
        raise HeirloomError(
            "no human record of the corpus is a conversation that ends in an answer and a turn of role `rejected`; "
            "ingest some, or set train.preference_source = 'best-of-k'"
            if settings.preference_source == "human"
            else "no prompt has two different answers, one of them kept; ask each record more often "
            "(prompts.completions_per_prompt, or prompts.max_prompts_per_record) by a program that prompts"
        )
    with pairs.draft() as draft:
        draft.write_part(pa.Table.from_pylist(rows, schema=PAIRS))
    return pairs


def dpo_dataset(pairs: Artifact, corpus: Artifact) -> TrainingCorpus:
    """The pairs as a trainer takes them, each with the weight of its better answer."""
    weights = dict(zip(*read_table(corpus.folder, ["id", "weight"]).to_pydict().values(), strict=True))
    return TrainingCorpus(
        [],
        [],
        preferences=[
            PreferencePair(
                row["prompt"], row["chosen"], row["rejected"], row["origin"] == HUMAN, weights[row["chosen_id"]]
            )
            for row in read_table(pairs.folder).to_pylist()
        ],
    )


def _by_origin(corpus: Artifact, pieces: Any) -> TrainingCorpus:  # noqa: ANN401  (from a row to its texts)
    texts: dict[str, list[Text]] = {HUMAN: [], SYNTHETIC: []}
    weights: dict[str, list[float]] = {HUMAN: [], SYNTHETIC: []}
    for row in read_table(corpus.folder, ["id", "text", "origin", "weight"]).to_pylist():
        found = pieces(row)
        texts[row["origin"]] += found
        weights[row["origin"]] += [row["weight"]] * len(found)
    return TrainingCorpus(texts[HUMAN], texts[SYNTHETIC], weights[HUMAN], weights[SYNTHETIC])


def _pieces(row: dict[str, Any], turns: Any, prompt: str) -> list[Text]:  # noqa: ANN401
    """The responses of one record with their prompts; its whole text where it has none."""
    text = row["text"]
    if not turns and text.startswith("### "):
        # A model that learned conversations writes whole ones.
        try:
            turns = parse_chat_text(text)
        except ValueError:
            turns = None
    if found := responses_with_context(turns or []):
        return list(found)
    return [(prompt, text.removeprefix(prompt))] if prompt else [text]


def _turns(reserve: Artifact) -> dict[str, Any]:
    rows = read_table(reserve.folder, ["id", "messages"]).to_pylist()
    return {row["id"]: row["messages"] for row in rows if row["messages"]}


def _prompts(pool: CandidateHistory) -> dict[str, str]:
    tables = [read_table(made.folder, ["id", "prompt"]) for made, _ in pool]
    return {row["id"]: row["prompt"] for table in tables for row in table.to_pylist()}


def _marked(there: set[str], reserve: Artifact) -> list[dict[str, Any]]:
    rows = []
    for identity, turns in _turns(reserve).items():
        if identity in there and (found := annotated_pair(turns)):
            said = dict(zip(("prompt", "chosen", "rejected"), found, strict=True))
            rows.append({**said, "chosen_id": identity, "rejected_id": identity, "origin": HUMAN})
    return rows


def _ranked(
    there: set[str], barred: set[str], candidates: Artifact, settings: TransformerTraining
) -> list[dict[str, Any]]:
    names = ["id", "text", "prompt", "sum_logprob", "completion_tokens"]
    rows = read_table(candidates.folder, names).to_pylist()
    made = [row for row in rows if row["prompt"] and row["id"] not in barred]
    said = [row["text"].removeprefix(row["prompt"]) for row in made]
    nats = [-(row["sum_logprob"] or float("nan")) / max(1, row["completion_tokens"]) for row in made]
    kept = [row["id"] in there for row in made]
    pairs = best_vs_worst_pairs(
        [row["prompt"] for row in made], said, kept, preference_scores(settings.preference_score, said, nats)
    )
    return [
        {
            "prompt": made[pair.chosen]["prompt"],
            "chosen": said[pair.chosen],
            "rejected": said[pair.rejected],
            "chosen_id": made[pair.chosen]["id"],
            "rejected_id": made[pair.rejected]["id"],
            "origin": SYNTHETIC,
            "margin": pair.margin,
        }
        for pair in pairs
    ]
