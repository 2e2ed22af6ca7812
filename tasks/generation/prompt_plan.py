"""What a generation is asked, planned from what is stored: prompts in order, how often each is answered, and by whom.

The plan follows from the settings, the seed, the reserve and what earlier generations left; nothing is drawn twice.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.embeddings.encoders import open_encoder
from curation.prompts.plan import Asking, PromptSettings, plan_prompts
from curation.prompts.templates import Cell
from curation.selection.routing import Earned, dealt, routed
from curation.selection.topics import SteerSettings, Topics, find_topics
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.ids import seed_of
from storage.artifacts.schemas import CANDIDATES, TOPICS
from storage.artifacts.survivors import read_survivors
from tasks.backends import OWN, Sampling

Pool = Sequence[tuple[Artifact, Artifact]]
"""Candidates and decisions of every generation so far, oldest first."""

_COLUMNS = ("id", "text", "source", "attributes", "asking")


@dataclass(frozen=True)
class Planned:
    """Prompts, and the candidates that they make."""

    asked: Sequence[Asking]
    turns: Sequence[tuple[int, str]]
    """Of each candidate the number of its prompt and the teacher's name, empty for the generation's own model; those of one
    teacher stand together."""
    human: pa.Table
    earlier: pa.Table
    """Survivors of the last generation."""


def plan(
    prompts: PromptSettings,
    sampling: Sampling,
    human: pa.Table,
    pool: Pool,
    topics: Topics | None,
    place: tuple[int, int, int],
) -> Planned:
    """The plan for (seed of the run, generation, attempt); `human` are the records that may be prompted from.

    Raises:
        ValueError: more prompts from records are asked for than there are.
    """
    earlier, delivered = _survived(prompts, pool)
    texts, sources = human["text"].to_pylist(), human["source"].to_pylist()
    seed, *where = place
    dice = seed_of(seed, "prompts", *where)
    asked = plan_prompts(prompts, texts, dice, sources, earlier["text"].to_pylist(), delivered, topics)
    teachers = _teachers(asked, sampling, human, pool, seed_of(seed, "teachers", *where))
    turns = [(number, name) for number, names in enumerate(teachers) for name in names for _ in range(prompts.answers)]
    turns.sort(key=lambda turn: sampling.speakers.index(turn[1]))
    return Planned(asked, turns, human, earlier)


def tail_report(settings: SteerSettings, human: pa.Table, pool: Pool) -> Topics:
    """Which topics the human records have, and how much the survivors of the last generation say about each."""
    encoder, texts = open_encoder(settings.encoder), human["text"].to_pylist()
    last = [read_survivors(made.folder, decided.folder)["text"].to_pylist() for made, decided in pool[-1:]]
    said = encoder.encode(last[0]) if last and last[0] else np.zeros((0, 0), np.float32)
    return find_topics(texts, encoder.encode(texts), said, settings.topics)


def as_table(topics: Topics, human: pa.Table) -> pa.Table:
    """The tail report as it is stored."""
    members = defaultdict(list)
    for identity, topic in zip(human["id"].to_pylist(), topics.of_human.tolist(), strict=True):
        members[topic].append(identity)
    rows = [
        {"topic": topic, "words": list(telling), "human": of, "said": said, "share": share, "members": members[topic]}
        for topic, (telling, of, said, share) in enumerate(
            zip(topics.words, topics.human.tolist(), topics.said.tolist(), topics.shares.tolist(), strict=True)
        )
    ]
    return pa.Table.from_pylist(rows, schema=TOPICS)


def read_topics(folder: Artifact, human: pa.Table) -> Topics:
    """The tail report as it was stored."""
    table = read_table(folder.folder)
    of = {identity: row["topic"] for row in table.to_pylist() for identity in row["members"]}
    human_counts, said, shares = (table[name].to_numpy() for name in ("human", "said", "share"))
    of_human = np.array([of[identity] for identity in human["id"].to_pylist()], np.int64)
    return Topics(of_human, human_counts, said, shares, [tuple(one) for one in table["words"].to_pylist()])


def _survived(prompts: PromptSettings, pool: Pool) -> tuple[pa.Table, Counter[Cell]]:
    """Survivors of the last generation, and how many prompts of each cell of the grid were ever answered by one."""
    nobody = pa.schema([CANDIDATES.field(name) for name in _COLUMNS]).empty_table()
    if not prompts.builds_on_survivors:
        return nobody, Counter()
    tables = [read_survivors(made.folder, decided.folder).select(_COLUMNS) for made, decided in pool]
    # By hand-made or older candidates the number of the prompt is not told: each is one of its own.
    answered = {
        (turn, row["asking"] if row["asking"] is not None else row["id"]): prompts.cell(dict(row["attributes"] or ()))
        for turn, table in enumerate(tables)
        for row in table.select(["id", "attributes", "asking"]).to_pylist()
    }
    return (tables or [nobody])[-1], Counter(answered.values())


def _teachers(
    asked: Sequence[Asking], sampling: Sampling, human: pa.Table, pool: Pool, seed: int
) -> list[tuple[str, ...]]:
    """Who answers each prompt."""
    everybody = sampling.speakers
    if len(everybody) == 1 or sampling.arbitrage == "reward":
        return [everybody] * len(asked)
    sources = human["source"].to_pylist()
    about = [(sources[one.parent] if one.parent >= 0 else "", one.attributes) for one in asked]
    if sampling.arbitrage == "routed":
        strata = [_stratum(*one) for one in about]
        return [(name,) for name in routed(strata, everybody, _earned(pool), seed)]
    route = {key: "" if name == OWN else name for key, name in sampling.route}
    fixed = [
        next((route[key] for key in (source, *attributes.values()) if key in route), None)
        for source, attributes in about
    ]
    rest = iter(dealt(fixed.count(None), everybody, seed))
    return [(next(rest) if name is None else name,) for name in fixed]


def _stratum(source: str, attributes: Mapping[str, str]) -> str:
    """What teachers are told apart by: the attributes of a prompt, or where it has none the source of its record."""
    return " · ".join(attributes.values()) or source


def _earned(pool: Pool) -> Earned:
    """What the sieve best_of found each teacher's answers to be worth, by stratum."""
    earned = defaultdict(list)
    for made, decided in pool:
        decisions = read_table(decided.folder, ["id", "stage", "evidence"])
        judged = decisions.filter(pc.equal(decisions["stage"], "best_of"))
        worth = dict(zip(judged["id"].to_pylist(), judged["evidence"].to_pylist(), strict=True))
        for row in read_table(made.folder, ["id", "source", "attributes", "teacher"]).to_pylist():
            if worth.get(row["id"]) is not None:
                earned[_stratum(row["source"], dict(row["attributes"])), row["teacher"] or ""].append(worth[row["id"]])
    return earned
