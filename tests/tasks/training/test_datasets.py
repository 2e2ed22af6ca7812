from collections.abc import Callable

import pyarrow as pa
import pytest

from heirloom.chat import Conversation, Message, render_chat, to_json, to_messages
from storage.artifacts.artifact import Artifact, read_manifest, read_table
from storage.artifacts.ids import human_id
from storage.artifacts.schemas import CANDIDATES, CORPUS, DECISIONS, HUMAN_RECORDS
from storage.runs.run import Attempt
from tasks.backends import TransformerTraining
from tasks.backends.types import ChatPair, ChatText
from tasks.context import CuratedCandidates
from tasks.training.datasets import build_preference_pairs, dpo_dataset, eval_dataset, lm_dataset, sft_dataset
from tests.tasks.conftest import StartedRun

_TALK: list[Message] = to_messages("What is rain?", "Water.")
_JUDGED: list[Message] = [*to_messages("What is snow?", "Ice."), {"role": "rejected", "content": "Sand."}]


def _chat(messages: list[Message], *, whole: bool = False) -> ChatText:
    return ChatText(Conversation(messages=messages, tools=[]), whole)


def _published(attempt: Attempt, name: str, rows: list[dict], schema: pa.Schema) -> Artifact:
    artifact = attempt.artifact(name, {"by": "hand"})
    with artifact.draft() as draft:
        draft.write_part(pa.Table.from_pylist(rows, schema=schema))
    return artifact


@pytest.fixture
def scene(start_run: Callable[[str], StartedRun]) -> tuple[Attempt, Artifact, Artifact, CuratedCandidates]:
    """A corpus of two conversations, a plain text, and what models answered to prompts; one answer was dropped."""
    attempt = start_run("tiny").attempt(7)
    human = [
        {"id": human_id(text), "text": text, "origin": "human", "messages": to_json(turns or []), "license": "MIT"}
        for text, turns in ((render_chat(_TALK), _TALK), (render_chat(_JUDGED), _JUDGED), ("A plain text.", None))
    ]
    responses = [
        ("Say it: ", "one"),
        ("Say it: ", "three words here"),
        ("Say it: ", "two words"),
        ("", "### user\na\n\n### assistant\nb"),
    ]
    made = [
        {
            "id": f"g007-{place}",
            "text": prompt + text,
            "prompt": prompt,
            "origin": "synthetic",
            "sum_logprob": -place - 1.0,
            "completion_tokens": 1,
            "messages": to_json(to_messages("a", "b")) if text.startswith("###") else None,
        }
        for place, (prompt, text) in enumerate(responses)
    ]
    kept = [row for row in made if row["id"] != "g007-0"]
    reserve = _published(attempt, "human_train", human, HUMAN_RECORDS)
    corpus = _published(attempt, "corpus", [{**row, "weight": 0.5} for row in (*human, *kept)], CORPUS)
    candidates = _published(attempt, "candidates", made, CANDIDATES)
    decisions = _published(attempt, "decisions", [], DECISIONS)
    return attempt, corpus, reserve, CuratedCandidates(candidates=candidates, decisions=decisions)


def test_every_text_is_learned_whole_with_its_weight(scene: tuple) -> None:
    _, corpus, _, _ = scene
    found = lm_dataset(corpus)
    assert found.human[2] == "A plain text."
    assert (len(found.human), len(found.synthetic)) == (3, 3)
    assert set(found.human_weights) | set(found.synthetic_weights) == {0.5}


def test_responses_come_from_conversations_prompts_and_what_a_model_wrote_of_both(scene: tuple) -> None:
    _, corpus, _, curated = scene
    found = sft_dataset(corpus, [curated])
    assert found.human == [_chat(_TALK), _chat(_JUDGED[:-1]), "A plain text."]
    assert found.synthetic == [
        ("Say it: ", "three words here"),
        ("Say it: ", "two words"),
        _chat(to_messages("a", "b")),
    ]


def test_a_corpus_without_a_response_is_refused(start_run: Callable[[str], StartedRun]) -> None:
    started = start_run("tiny")
    with pytest.raises(ValueError, match="no record of the corpus is a conversation or has a prompt"):
        sft_dataset(started.corpus, [])


def test_held_out_texts_have_the_shape_of_what_is_learned(scene: tuple) -> None:
    _, _, reserve, _ = scene
    assert eval_dataset(reserve, "lm")[0] == _chat(_TALK, whole=True)
    assert eval_dataset(reserve, "sft")[0] == _chat(_TALK)


def _dpo(**more: object) -> TransformerTraining:
    asked = {"objective": "dpo", "init_from": "base", "optimizer": "adamw", "learning_rate": 0.001, **more}
    return TransformerTraining.model_validate(asked)


def test_pairs_are_those_that_people_marked(scene: tuple) -> None:
    attempt, corpus, reserve, curated = scene
    pairs = build_preference_pairs(attempt, corpus, reserve, curated.candidates, _dpo())
    (row,) = read_table(pairs.folder).to_pylist()
    assert (row["prompt"], row["chosen"], row["rejected"]) == (
        "### user\nWhat is snow?\n\n### assistant\n",
        "Ice.",
        "Sand.",
    )
    (learned,) = dpo_dataset(pairs, corpus).preferences
    assert (learned.human, learned.weight) == (True, 0.5)
    assert learned.chat == ChatPair(
        Conversation(messages=_JUDGED[:1], tools=[]),
        {"role": "assistant", "content": "Ice."},
        {"role": "assistant", "content": "Sand."},
    )
    assert build_preference_pairs(attempt, corpus, reserve, curated.candidates, _dpo()) == pairs


def test_the_best_kept_answer_is_set_against_the_worst_of_all(scene: tuple) -> None:
    attempt, corpus, reserve, curated = scene
    pairs = build_preference_pairs(
        attempt, corpus, reserve, curated.candidates, _dpo(preference_source="best-of-k", preference_score="length")
    )
    (row,) = read_table(pairs.folder).to_pylist()
    assert (row["chosen"], row["rejected"], row["margin"]) == ("three words here", "one", 2.0)
    assert (row["chosen_id"], row["rejected_id"], row["origin"]) == ("g007-1", "g007-0", "synthetic")
    assert "candidates" in read_manifest(pairs.folder)["parents"]


@pytest.mark.parametrize(("rejected", "worst"), [("g007-0", "g007-2"), ("g007-1", "g007-0")])
def test_what_a_person_rejected_is_on_neither_side_of_a_pair(scene: tuple, rejected: str, worst: str) -> None:
    attempt, corpus, reserve, curated = scene
    attempt.run.append("reviewed", 6, 1, decision="accept", rejected_ids=[rejected, human_id(render_chat(_JUDGED))])
    pairs = build_preference_pairs(
        attempt, corpus, reserve, curated.candidates, _dpo(preference_source="best-of-k", preference_score="length")
    )
    (row,) = read_table(pairs.folder).to_pylist()
    assert row["rejected_id"] == worst
    assert rejected not in (row["chosen_id"], row["rejected_id"])
    with pytest.raises(ValueError, match="a message of role `rejected`"):
        build_preference_pairs(Attempt(attempt.run, 8), corpus, reserve, None, _dpo())


def test_a_corpus_without_pairs_is_refused_and_leaves_nothing(
    start_run: Callable[[str], StartedRun], scene: tuple
) -> None:
    started = start_run("other")
    with pytest.raises(ValueError, match="a message of role `rejected`"):
        build_preference_pairs(started.attempt(1), started.corpus, started.human.train, None, _dpo())
    with pytest.raises(ValueError, match="No prompt has two different completions"):
        build_preference_pairs(
            started.attempt(1),
            started.corpus,
            started.human.train,
            scene[3].candidates,
            _dpo(preference_source="best-of-k"),
        )
    assert not (started.attempt(1).folder / "pairs").exists()
