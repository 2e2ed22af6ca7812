from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pytest

from curation.prompts.plan import PromptSettings
from curation.selection.topics import TopicSteeringSettings
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import CANDIDATES, DECISIONS
from tasks.backends import Sampling
from tasks.context import CuratedCandidates
from tasks.generation.prompt_plan import PromptPlan, as_table, build_prompt_plan, read_topics, topic_coverage
from tests.conftest import TINY, human_texts
from tests.tasks.conftest import PublishCandidates, StartedRun

_TWO = Sampling(teachers=("self", "wise"))
_OPENING = PromptSettings(template_name="prefix")


def _human(started: StartedRun) -> pa.Table:
    return read_table(started.human.train.folder, ["id", "text", "source", "messages", "tools"])


def _plan(
    started: StartedRun, prompts: PromptSettings, sampling: Sampling, synthetic: Sequence[CuratedCandidates] = ()
) -> PromptPlan:
    recipe = TINY.model_copy(update={"prompts": prompts, "generate": sampling, "seed": 7})
    return build_prompt_plan(recipe, started.attempt(1), _human(started), synthetic, None)


@pytest.fixture
def started(start_run: Callable[[str], StartedRun]) -> StartedRun:
    return start_run("tiny")


def test_every_prompt_has_as_many_candidates_as_answers_side_by_side(started: StartedRun) -> None:
    planned = _plan(started, _OPENING.model_copy(update={"completions_per_prompt": 3}), Sampling())
    count = _human(started).num_rows
    assert planned.assignments == [(number, "") for number in range(count) for _ in range(3)]
    assert len(planned.specs) == count


def test_fixed_teachers_are_asked_alike_and_each_stands_together(started: StartedRun) -> None:
    planned = _plan(started, _OPENING, _TWO)
    names = [name for _, name in planned.assignments]
    assert abs(names.count("") - names.count("wise")) <= 1
    assert names == sorted(names)
    assert sorted(number for number, _ in planned.assignments) == list(range(len(planned.specs)))
    assert planned == _plan(started, _OPENING, _TWO)


def test_a_route_decides_by_source_or_attribute_and_the_rest_is_dealt(started: StartedRun) -> None:
    by_source = _TWO.model_copy(update={"teacher_map": (("letters.jsonl", "wise"),)})
    assert {name for _, name in _plan(started, _OPENING, by_source).assignments} == {"wise"}
    grid = PromptSettings.model_validate(
        {"template_name": "template", "template": "A {tone}", "attributes": {"tone": ["old", "new", "odd"]}}
    )
    planned = _plan(started, grid, _TWO.model_copy(update={"teacher_map": (("old", "self"), ("odd", "wise"))}))
    assigned = Counter((planned.specs[number].attributes["tone"], name) for number, name in planned.assignments)
    assert {name for tone, name in assigned if tone == "old"} == {""}
    assert {name for tone, name in assigned if tone == "odd"} == {"wise"}
    assert abs(assigned["new", ""] - assigned["new", "wise"]) <= 1


def test_arbitrage_by_reward_asks_everybody(started: StartedRun) -> None:
    planned = _plan(started, _OPENING, _TWO.model_copy(update={"teacher_routing": "reward"}))
    assert Counter(planned.assignments) == {
        (number, name): 1 for number in range(len(planned.specs)) for name in ("", "wise")
    }


def test_prompts_are_routed_by_what_best_of_found_teachers_worth(started: StartedRun) -> None:
    routed = _TWO.model_copy(update={"teacher_routing": "routed"})
    first = [name for _, name in _plan(started, _OPENING, routed).assignments]
    assert abs(first.count("") - first.count("wise")) <= 1
    rows = [
        {"id": f"g001-{place:07d}", "text": "x", "source": "letters.jsonl", "attributes": [], "prompt_id": place}
        | {"teacher": "wise" if place % 2 else None}
        for place in range(40)
    ]
    judged = [
        {"id": row["id"], "filter": "best_of", "kept": True, "score": 9.0 if row["teacher"] else 1.0} for row in rows
    ]
    made, decided = (started.attempt(1).artifact(name, {}) for name in ("candidates", "decisions"))
    for artifact, content, schema in ((made, rows, CANDIDATES), (decided, judged, DECISIONS)):
        with artifact.draft() as draft:
            draft.write_part(pa.Table.from_pylist(content, schema=schema))
    again = [
        name
        for _, name in _plan(
            started, _OPENING, routed, [CuratedCandidates(candidates=made, decisions=decided)]
        ).assignments
    ]
    assert again.count("wise") > 0.95 * len(again)


def test_a_tail_report_counts_the_last_survivors_and_is_read_as_it_was_stored(
    started: StartedRun, publish_candidates: PublishCandidates
) -> None:
    human, settings = _human(started), TopicSteeringSettings(num_topics=4, encoder="hashing")
    texts = human_texts(30, seed=9)
    pool = [publish_candidates(started.attempt(1), texts, dropped=range(10))]
    topics = topic_coverage(settings, human, pool)
    assert topics.synthetic_count.sum() == 20
    assert topics.human_count.sum() == human.num_rows
    assert topic_coverage(settings, human, []).synthetic_count.sum() == 0
    stored = Artifact(started.attempt(2).folder / "topics", {})
    with stored.draft() as draft:
        draft.write_part(as_table(topics, human))
    again = read_topics(stored, human)
    assert np.array_equal(again.assignment, topics.assignment)
    assert np.array_equal(again.prompt_share, topics.prompt_share)
    assert again.top_words == list(topics.top_words)
