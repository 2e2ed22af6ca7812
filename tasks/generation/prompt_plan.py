"""Plan the prompts of an attempt: their texts and order, the completions of each, and the teacher of each completion.

The plan is a function of the settings, the seed, the human records and the stored candidates of earlier generations.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.embeddings.encoders import load_encoder
from curation.prompts.plan import PromptSettings, PromptSources, PromptSpec, plan_prompts
from curation.prompts.templates import AttributeCell
from curation.selection.routing import TeacherRewards, assign_by_thompson_sampling, assign_round_robin
from curation.selection.topics import TopicModel, TopicSteeringSettings, find_topics
from heirloom.chat import from_json
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import CANDIDATES, TOPICS
from storage.runs.run import Attempt
from tasks.backends import SELF_TEACHER, Sampling
from tasks.context import CuratedCandidates, StageRecipe, attempt_seed

_CHAT = ("messages", "tools")
_COLUMNS = ("id", "text", "source", "attributes", "prompt_id")


class Assignment(NamedTuple):
    """The prompt of one candidate, and the teacher that answers it."""

    prompt_number: int
    teacher: str
    """Empty for the generation's own model."""


@dataclass(frozen=True)
class PromptPlan:
    """Prompts of one attempt, and the candidates to generate from them."""

    specs: Sequence[PromptSpec]
    assignments: Sequence[Assignment]
    """One for each candidate, those of one teacher together."""
    human_rows: pa.Table
    survivor_rows: pa.Table
    """Survivors of the last generation."""


def build_prompt_plan(
    recipe: StageRecipe,
    attempt: Attempt,
    human: pa.Table,
    synthetic: Sequence[CuratedCandidates],
    topics: TopicModel | None,
) -> PromptPlan:
    """Plan the prompts of one attempt.

    Args:
        recipe: its sections `[prompts]` and `[generate]`, and its seed.
        attempt: generation and number seed the plan; nothing is read from its folder.
        human: records that may be prompted from.
        synthetic: candidates and decisions of the generations so far, oldest first.
        topics: topics to steer towards, if the recipe steers.

    Raises:
        HeirloomError: the settings need more records to prompt from than there are.
    """
    prompts, sampling = recipe.prompts, recipe.generate
    survivors, answered_cells = _last_survivors(prompts, synthetic)
    sources = PromptSources(
        records=human["text"].to_pylist(),
        conversations=[from_json(*pair) for pair in zip(*(human[name].to_pylist() for name in _CHAT), strict=True)],
        record_sources=human["source"].to_pylist(),
        survivors=survivors["text"].to_pylist(),
        delivered=answered_cells,
        topics=topics,
    )
    specs = plan_prompts(prompts, sources, attempt_seed(recipe.seed, attempt, "prompts"))
    teachers = _assign_teachers(specs, sampling, human, synthetic, attempt_seed(recipe.seed, attempt, "teachers"))
    assignments = [
        Assignment(number, teacher)
        for number, teachers_of_prompt in enumerate(teachers)
        for teacher in teachers_of_prompt
        for _ in range(prompts.completions_per_prompt)
    ]
    assignments.sort(key=lambda assignment: sampling.model_names.index(assignment.teacher))
    return PromptPlan(specs, assignments, human, survivors)


def topic_coverage(
    settings: TopicSteeringSettings, human: pa.Table, synthetic: Sequence[CuratedCandidates]
) -> TopicModel:
    """Find the topics of the human records, and count the survivors of the last generation in each."""
    encoder, human_texts = load_encoder(settings.encoder), human["text"].to_pylist()
    synthetic_texts = synthetic[-1].survivors(["text"])["text"].to_pylist() if synthetic else []
    synthetic_vectors = encoder.encode(synthetic_texts) if synthetic_texts else np.zeros((0, 0), np.float32)
    return find_topics(human_texts, encoder.encode(human_texts), synthetic_vectors, settings.num_topics)


def as_table(topics: TopicModel, human: pa.Table) -> pa.Table:
    """Convert topics to the rows of the artifact `topics`."""
    human_ids = defaultdict(list)
    for record_id, topic in zip(human["id"].to_pylist(), topics.assignment.tolist(), strict=True):
        human_ids[topic].append(record_id)
    rows = [
        {
            "topic": topic,
            "words": list(words),
            "human_count": int(topics.human_count[topic]),
            "synthetic_count": int(topics.synthetic_count[topic]),
            "prompt_share": float(topics.prompt_share[topic]),
            "human_ids": human_ids[topic],
        }
        for topic, words in enumerate(topics.top_words)
    ]
    return pa.Table.from_pylist(rows, schema=TOPICS)


def read_topics(artifact: Artifact, human: pa.Table) -> TopicModel:
    """Read topics from the artifact `topics`; `human` are the records that they were found in."""
    table = read_table(artifact.folder)
    topic_of = {record_id: row["topic"] for row in table.to_pylist() for record_id in row["human_ids"]}
    return TopicModel(
        np.array([topic_of[record_id] for record_id in human["id"].to_pylist()], np.int64),
        table["human_count"].to_numpy(),
        table["synthetic_count"].to_numpy(),
        table["prompt_share"].to_numpy(),
        [tuple(words) for words in table["words"].to_pylist()],
    )


def _last_survivors(
    prompts: PromptSettings, synthetic: Sequence[CuratedCandidates]
) -> tuple[pa.Table, Counter[AttributeCell]]:
    """Read the survivors of the last generation, and count the answered prompts of each attribute cell."""
    no_records = pa.schema([CANDIDATES.field(name) for name in _COLUMNS]).empty_table()
    if not prompts.needs_survivors:
        return no_records, Counter()
    tables = [curated.survivors(_COLUMNS) for curated in synthetic]
    cell_of_prompt: dict[tuple[int, int | str], AttributeCell] = {}
    for generation, table in enumerate(tables):
        for row in table.select(["id", "attributes", "prompt_id"]).to_pylist():
            # Candidates without a prompt number count as one prompt each.
            prompt = row["id"] if row["prompt_id"] is None else row["prompt_id"]
            cell_of_prompt[generation, prompt] = prompts.attribute_cell(dict(row["attributes"] or ()))
    return tables[-1] if tables else no_records, Counter(cell_of_prompt.values())


def _assign_teachers(
    specs: Sequence[PromptSpec],
    sampling: Sampling,
    human: pa.Table,
    synthetic: Sequence[CuratedCandidates],
    seed: int,
) -> list[tuple[str, ...]]:
    """Choose the teachers that answer each prompt, by `generate.teacher_routing`."""
    teachers = sampling.model_names
    if len(teachers) == 1 or sampling.teacher_routing == "reward":
        return [teachers] * len(specs)
    sources = human["source"].to_pylist()
    source_of_prompt = [sources[spec.human_row] if spec.human_row >= 0 else "" for spec in specs]
    if sampling.teacher_routing == "routed":
        strata = [_stratum(source, spec.attributes) for source, spec in zip(source_of_prompt, specs, strict=True)]
        routed = assign_by_thompson_sampling(strata, teachers, _read_rewards(synthetic), seed)
        return [(teacher,) for teacher in routed]
    teacher_by_key = {key: "" if name == SELF_TEACHER else name for key, name in sampling.teacher_map}
    mapped: list[str | None] = []
    for source, spec in zip(source_of_prompt, specs, strict=True):
        keys = [key for key in (source, *spec.attributes.values()) if key in teacher_by_key]
        mapped.append(teacher_by_key[keys[0]] if keys else None)
    unmapped = iter(assign_round_robin(mapped.count(None), teachers, seed))
    return [(next(unmapped) if teacher is None else teacher,) for teacher in mapped]


def _stratum(source: str, attributes: Mapping[str, str]) -> str:
    """Return the group in which rewards of teachers are compared: a prompt's attributes, else its record's source."""
    return " · ".join(attributes.values()) or source


def _read_rewards(synthetic: Sequence[CuratedCandidates]) -> TeacherRewards:
    """Read the scores that the filter best_of gave each teacher's completions, by stratum."""
    rewards = defaultdict(list)
    for curated in synthetic:
        decisions = read_table(curated.decisions.folder, ["id", "filter", "score"])
        best_of = decisions.filter(pc.equal(decisions["filter"], "best_of"))
        scores = dict(zip(best_of["id"].to_pylist(), best_of["score"].to_pylist(), strict=True))
        columns = ["id", "source", "attributes", "teacher"]
        for row in read_table(curated.candidates.folder, columns).to_pylist():
            score = scores.get(row["id"])
            if score is not None:
                rewards[_stratum(row["source"], dict(row["attributes"])), row["teacher"] or ""].append(score)
    return rewards
