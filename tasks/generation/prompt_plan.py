"""What a generation is asked, planned from what is stored: prompts in order, how often each is answered, and by whom.

The plan follows from the settings, the seed, the reserve and what earlier generations left; nothing is drawn twice.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.embeddings.encoders import load_encoder
from curation.prompts.plan import PromptSettings, PromptSources, PromptSpec, plan_prompts
from curation.prompts.templates import AttributeCell
from curation.selection.routing import TeacherRewards, assign_by_thompson_sampling, assign_round_robin
from curation.selection.topics import TopicModel, TopicSteeringSettings, find_topics
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.ids import derive_seed
from storage.artifacts.schemas import CANDIDATES, TOPICS
from storage.artifacts.survivors import read_survivors
from tasks.backends import SELF_TEACHER, Sampling

CandidateHistory = Sequence[tuple[Artifact, Artifact]]
"""Candidates and decisions of every generation so far, oldest first."""

_COLUMNS = ("id", "text", "source", "attributes", "prompt_id")


@dataclass(frozen=True)
class PromptPlan:
    """Prompts, and the candidates that they make."""

    specs: Sequence[PromptSpec]
    assignments: Sequence[tuple[int, str]]
    """Of each candidate the number of its prompt and the teacher's name, empty for the generation's own model; those of one
    teacher stand together."""
    human_rows: pa.Table
    survivor_rows: pa.Table
    """Survivors of the last generation."""


def build_prompt_plan(
    prompts: PromptSettings,
    sampling: Sampling,
    human: pa.Table,
    history: CandidateHistory,
    topics: TopicModel | None,
    seed_scope: tuple[int, int, int],
) -> PromptPlan:
    """The plan for (seed of the run, generation, attempt); `human` are the records that may be prompted from.

    Raises:
        HeirloomError: more prompts from records are asked for than there are.
    """
    earlier, delivered = _survived(prompts, history)
    texts, sources = human["text"].to_pylist(), human["source"].to_pylist()
    seed, *where = seed_scope
    dice = derive_seed(seed, "prompts", *where)
    prompt_sources = PromptSources(
        records=texts,
        record_sources=sources,
        survivors=earlier["text"].to_pylist(),
        delivered=delivered,
        topics=topics,
    )
    asked = plan_prompts(prompts, prompt_sources, dice)
    teachers = _teachers(asked, sampling, human, history, derive_seed(seed, "teachers", *where))
    turns = [
        (number, name)
        for number, names in enumerate(teachers)
        for name in names
        for _ in range(prompts.completions_per_prompt)
    ]
    turns.sort(key=lambda turn: sampling.model_names.index(turn[1]))
    return PromptPlan(asked, turns, human, earlier)


def topic_coverage(settings: TopicSteeringSettings, human: pa.Table, history: CandidateHistory) -> TopicModel:
    """Which topics the human records have, and how much the survivors of the last generation say about each."""
    encoder, texts = load_encoder(settings.encoder), human["text"].to_pylist()
    last = [read_survivors(made.folder, decided.folder)["text"].to_pylist() for made, decided in history[-1:]]
    said = encoder.encode(last[0]) if last and last[0] else np.zeros((0, 0), np.float32)
    return find_topics(texts, encoder.encode(texts), said, settings.num_topics)


def as_table(topics: TopicModel, human: pa.Table) -> pa.Table:
    """The tail report as it is stored."""
    members = defaultdict(list)
    for identity, topic in zip(human["id"].to_pylist(), topics.assignment.tolist(), strict=True):
        members[topic].append(identity)
    rows = [
        {
            "topic": topic,
            "words": list(telling),
            "human_count": of,
            "synthetic_count": said,
            "prompt_share": share,
            "human_ids": members[topic],
        }
        for topic, (telling, of, said, share) in enumerate(
            zip(
                topics.top_words,
                topics.human_count.tolist(),
                topics.synthetic_count.tolist(),
                topics.prompt_share.tolist(),
                strict=True,
            )
        )
    ]
    return pa.Table.from_pylist(rows, schema=TOPICS)


def read_topics(folder: Artifact, human: pa.Table) -> TopicModel:
    """The tail report as it was stored."""
    table = read_table(folder.folder)
    of = {identity: row["topic"] for row in table.to_pylist() for identity in row["human_ids"]}
    human_counts, said, shares = (table[name].to_numpy() for name in ("human_count", "synthetic_count", "prompt_share"))
    of_human = np.array([of[identity] for identity in human["id"].to_pylist()], np.int64)
    return TopicModel(of_human, human_counts, said, shares, [tuple(one) for one in table["words"].to_pylist()])


def _survived(prompts: PromptSettings, pool: CandidateHistory) -> tuple[pa.Table, Counter[AttributeCell]]:
    """Survivors of the last generation, and how many prompts of each cell of the grid were ever answered by one."""
    nobody = pa.schema([CANDIDATES.field(name) for name in _COLUMNS]).empty_table()
    if not prompts.needs_survivors:
        return nobody, Counter()
    tables = [read_survivors(made.folder, decided.folder).select(_COLUMNS) for made, decided in pool]
    # By hand-made or older candidates the number of the prompt is not told: each is one of its own.
    answered = {
        (turn, row["prompt_id"] if row["prompt_id"] is not None else row["id"]): prompts.attribute_cell(
            dict(row["attributes"] or ())
        )
        for turn, table in enumerate(tables)
        for row in table.select(["id", "attributes", "prompt_id"]).to_pylist()
    }
    return (tables or [nobody])[-1], Counter(answered.values())


def _teachers(
    asked: Sequence[PromptSpec], sampling: Sampling, human: pa.Table, pool: CandidateHistory, seed: int
) -> list[tuple[str, ...]]:
    """Who answers each prompt."""
    everybody = sampling.model_names
    if len(everybody) == 1 or sampling.teacher_routing == "reward":
        return [everybody] * len(asked)
    sources = human["source"].to_pylist()
    about = [(sources[one.human_row] if one.human_row >= 0 else "", one.attributes) for one in asked]
    if sampling.teacher_routing == "routed":
        strata = [_stratum(*one) for one in about]
        return [(name,) for name in assign_by_thompson_sampling(strata, everybody, _earned(pool), seed)]
    route = {key: "" if name == SELF_TEACHER else name for key, name in sampling.teacher_map}
    fixed = [
        next((route[key] for key in (source, *attributes.values()) if key in route), None)
        for source, attributes in about
    ]
    rest = iter(assign_round_robin(fixed.count(None), everybody, seed))
    return [(next(rest) if name is None else name,) for name in fixed]


def _stratum(source: str, attributes: Mapping[str, str]) -> str:
    """What teachers are told apart by: the attributes of a prompt, or where it has none the source of its record."""
    return " · ".join(attributes.values()) or source


def _earned(pool: CandidateHistory) -> TeacherRewards:
    """What the sieve best_of found each teacher's answers to be worth, by stratum."""
    earned = defaultdict(list)
    for made, decided in pool:
        decisions = read_table(decided.folder, ["id", "filter", "score"])
        judged = decisions.filter(pc.equal(decisions["filter"], "best_of"))
        worth = dict(zip(judged["id"].to_pylist(), judged["score"].to_pylist(), strict=True))
        for row in read_table(made.folder, ["id", "source", "attributes", "teacher"]).to_pylist():
            if worth.get(row["id"]) is not None:
                earned[_stratum(row["source"], dict(row["attributes"])), row["teacher"] or ""].append(worth[row["id"]])
    return earned
