from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.prompts.plan import PromptSettings, PromptSpec, plan_prompts
from curation.selection.apportionment import quotas_by_source
from curation.selection.topics import TopicModel, TopicSteeringSettings

RESERVE = ["The old river runs east", "A quiet garden", "Seven letters came home late"]


def test_blank_asks_for_as_many_candidates_from_nothing() -> None:
    assert plan_prompts(PromptSettings(prompts_per_human_record=2), RESERVE, seed=0) == [PromptSpec("", -1)] * 6


def test_an_opening_is_the_first_words_of_its_record() -> None:
    asked = plan_prompts(PromptSettings(template_name="prefix", prefix_words=2), RESERVE, seed=0)
    assert sorted((asking.human_row, asking.text) for asking in asked) == [
        (0, "The old"),
        (1, "A quiet"),
        (2, "Seven letters"),
    ]


def test_a_record_shorter_than_an_opening_gives_all_it_has() -> None:
    asked = plan_prompts(PromptSettings(template_name="prefix", prefix_words=4), RESERVE, seed=0)
    assert {asking.human_row: asking.text for asking in asked}[1] == "A quiet garden"


def test_an_opening_of_a_script_without_spaces_is_its_first_signs() -> None:
    reserve = ["雨が降っている。窓の外は暗い。", "天气很好，我们走吧。"]
    asked = plan_prompts(PromptSettings(template_name="prefix", prefix_words=4), reserve, seed=0)
    assert {asking.human_row: asking.text for asking in asked} == {0: "雨が降っ", 1: "天气很好"}


@given(st.integers(1, 40), st.floats(0.05, 4), st.integers(0, 20))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_no_record_is_asked_more_than_once_more_often_than_another(records: int, each: float, seed: int) -> None:
    reserve = [f"record {number} says this" for number in range(records)]
    asked = plan_prompts(
        PromptSettings(template_name="prefix", prompts_per_human_record=each, max_prompts_per_record=4), reserve, seed
    )
    times = Counter(asking.human_row for asking in asked)
    counts = [times[row] for row in range(records)]
    assert len(asked) == max(1, round(each * records)) == sum(counts)
    assert max(counts) - min(counts) <= 1
    assert all(asking.text == reserve[asking.human_row] for asking in asked)


def test_the_seed_alone_decides_the_order() -> None:
    reserve = [f"record {number}" for number in range(50)]
    chosen = PromptSettings(template_name="prefix", prompts_per_human_record=2, max_prompts_per_record=2)
    first, again, other = (plan_prompts(chosen, reserve, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first[:50] != first[50:]


def test_a_record_is_asked_twice_only_where_that_was_allowed() -> None:
    chosen = PromptSettings(template_name="prefix", prompts_per_human_record=2)
    with pytest.raises(ValueError, match="asks for 6 prompts from reserve records, and there are 3; lower"):
        plan_prompts(chosen, RESERVE, seed=0)
    assert len(plan_prompts(chosen.model_copy(update={"max_prompts_per_record": 2}), RESERVE, seed=0)) == 6


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.floats(0.05, 2.5), st.integers(1, 3), st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_quotas_of_prompts_are_exact_or_refused_by_name(
    sources: list[str], each: float, rounds: int, data: st.DataObject
) -> None:
    parts = data.draw(st.lists(st.integers(1, 9), min_size=3, max_size=3))
    shares = data.draw(st.sampled_from(["as-reserve", {s: p / sum(parts) for s, p in zip("abc", parts, strict=True)}]))
    reserve = [f"record {number}" for number in range(len(sources))]
    chosen = PromptSettings.model_validate(
        {
            "template_name": "prefix",
            "prompts_per_human_record": each,
            "max_prompts_per_record": rounds,
            "source_shares": shares,
        }
    )
    wanted = quotas_by_source(max(1, round(each * len(sources))), chosen.source_shares, sources)
    there = Counter(sources)
    short = [source for source, count in wanted.items() if count > rounds * there[source]]
    if short:
        named = f"asks for {wanted[short[0]]} prompts from records of source {short[0]}.*there are {rounds * there[short[0]]};"
        with pytest.raises(ValueError, match=named):
            plan_prompts(chosen, reserve, 5, sources)
        return
    asked = plan_prompts(chosen, reserve, 5, sources)
    assert Counter(sources[asking.human_row] for asking in asked) == Counter(wanted)
    times = Counter(asking.human_row for asking in asked)
    assert max(times.values()) <= rounds
    for source in there:
        counts = [times[row] for row, name in enumerate(sources) if name == source]
        assert max(counts) - min(counts) <= 1
    assert asked == plan_prompts(chosen, reserve, 5, sources)


def test_there_is_always_one_candidate() -> None:
    assert len(plan_prompts(PromptSettings(prompts_per_human_record=0.01), RESERVE, seed=0)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"template_name": "question"},
        {"prefix_words": 0},
        {"prompts_per_human_record": 0},
        {"count": 5},
        {"max_prompts_per_record": 2},
        {"source_shares": {"a": 1.0}},
        {"template_name": "prefix", "source_shares": {"a": 0.5, "b": 0.4}},
        {"template_name": "prefix", "source_shares": {"a": 1.5, "b": -0.5}},
        {"template_name": "prefix", "source_shares": "as the moon"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PromptSettings.model_validate(wrong)


GRID = {"subject": ["river", "garden", "letter"], "tone": ["plain", "odd"]}


def _template(**more: object) -> PromptSettings:
    told = {"template_name": "template", "template": "A {tone} text about a {subject}.", "attributes": GRID}
    return PromptSettings.model_validate(told | more)


def test_a_grid_is_asked_for_to_the_prompt_in_an_order_that_the_seed_decides() -> None:
    asked, again, other = (plan_prompts(_template(prompts_per_human_record=4), RESERVE, seed) for seed in (1, 1, 2))
    assert Counter(asking.text for asking in asked) == {
        f"A {tone} text about a {subject}.": 2 for subject in GRID["subject"] for tone in GRID["tone"]
    }
    assert asked == again != other
    assert all(
        asking.text == f"A {asking.attributes['tone']} text about a {asking.attributes['subject']}." for asking in asked
    )


def test_what_was_delivered_short_is_asked_for_first() -> None:
    delivered = {
        ("river", "plain"): 9,
        ("river", "odd"): 9,
        ("garden", "plain"): 9,
        ("garden", "odd"): 9,
        ("letter", "odd"): 9,
    }
    asked = plan_prompts(_template(prompts_per_human_record=2), RESERVE, 1, delivered=delivered)
    assert {asking.text for asking in asked} == {"A plain text about a letter."}


def test_a_template_takes_records_and_says_which() -> None:
    chosen = PromptSettings(template_name="rephrase")
    asked = plan_prompts(chosen, RESERVE, 1)
    assert sorted(asking.human_row for asking in asked) == [0, 1, 2]
    assert all(RESERVE[asking.human_row] in asking.text for asking in asked)
    assert chosen.resolved_output_format == "completion"
    assert chosen.needs_records


def test_evolution_builds_on_survivors_and_on_records_before_there_are_any() -> None:
    chosen = PromptSettings(template_name="evolve")
    assert [asking.human_row >= 0 for asking in plan_prompts(chosen, RESERVE, 1)] == [True] * 3
    asked = plan_prompts(chosen, RESERVE, 1, survivors=["one said", "two said"])
    assert [asking.human_row for asking in asked] == [-1] * 3
    assert sorted(asking.survivor_row for asking in asked)[:2] in ([0, 0], [0, 1])
    assert all(["one said", "two said"][asking.survivor_row] in asking.text for asking in asked)
    assert chosen.needs_survivors


def test_an_opening_in_a_script_without_spaces_is_so_many_signs() -> None:
    (asked,) = plan_prompts(PromptSettings(template_name="prefix", prefix_words=3), ["今日は良い天気です"], 0)
    assert asked.text == "今日は"


def numbered(records: list[str], count: int, seed: int) -> list[tuple[str, dict[str, str]]]:
    return [
        (f"number {place}, after {len(records)} records, seed {seed}", {"place": str(place)}) for place in range(count)
    ]


def too_few(records: list[str], count: int, seed: int) -> list[str]:
    return records[: count - 1 + 0 * seed]


def test_a_program_of_ones_own_gives_prompts_with_attributes() -> None:
    asked = plan_prompts(PromptSettings(template_name="tests.curation.prompts.test_plan:numbered"), RESERVE, 7)
    assert [asking.text for asking in asked][:1] == ["number 0, after 3 records, seed 7"]
    assert [asking.attributes for asking in asked] == [{"place": "0"}, {"place": "1"}, {"place": "2"}]
    with pytest.raises(ValueError, match="was asked for 3 prompts and gave 2"):
        plan_prompts(PromptSettings(template_name="tests.curation.prompts.test_plan:too_few"), RESERVE, 7)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"template_name": "template"}, "a template needs text"),
        ({"template_name": "rephrase", "template": "x {record}"}, "template belongs to template_name 'template'"),
        ({"template_name": "prefix", "attributes": {"a": ["b"]}}, "attributes belong to a template"),
        (
            {"template_name": "template", "template": "{a}", "attributes": {"a": ["b"]}, "max_prompts_per_record": 2},
            "take records",
        ),
        (
            {
                "template_name": "template",
                "template": "{a}",
                "attributes": {"a": ["b"]},
                "attribute_weights": {"c": {}},
            },
            "no attribute",
        ),
        ({"template_name": "persona"}, "nobody fills the slot {persona}"),
        ({"template_name": "nowhere:there"}, "names no function"),
        ({"template_name": "unconditional", "topic_steering": {"num_topics": 3}}, "take records"),
        (
            {"template_name": "prefix", "topic_steering": {"num_topics": 3}, "source_shares": "as-reserve"},
            "leave out source_shares",
        ),
        ({"template_name": "prefix", "completions_per_prompt": 0}, "greater than or equal to 1"),
        ({"template_name": "poem"}, "there is no template_name 'poem'"),
    ],
)
def test_a_program_that_does_not_fit_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said.replace("{", r"\{").replace("}", r"\}")):
        PromptSettings.model_validate(wrong)


def test_what_becomes_the_record_is_told_by_program_and_setting() -> None:
    assert PromptSettings().to_record("The old", " river") == "The old river"
    assert PromptSettings(template_name="rephrase").to_record("Say it", " a river\n") == "a river"
    conversation = PromptSettings(template_name="distill").to_record("What is rain?", " Water.")
    assert conversation == "### user\nWhat is rain?\n\n### assistant\nWater."
    assert PromptSettings(template_name="distill", output_format="completion").to_record("What?", "That.") == "That."


def test_distillation_asks_what_the_first_speaker_of_a_record_asked() -> None:
    told = ["### user\nWhat is rain?\n\n### assistant\nWater.", "Name a river."]
    asked = plan_prompts(PromptSettings(template_name="distill"), told, 0)
    assert {asking.human_row: asking.text for asking in asked} == {0: "What is rain?", 1: "Name a river."}


def test_prompts_are_steered_to_topics_and_say_which() -> None:
    topics = TopicModel(
        np.array([0, 0, 1]), np.array([2, 1]), np.array([4, 0]), np.array([0.25, 0.75]), [("a",), ("b",)]
    )
    chosen = PromptSettings(
        template_name="prefix",
        prompts_per_human_record=4 / 3,
        max_prompts_per_record=3,
        topic_steering=TopicSteeringSettings(num_topics=2),
    )
    asked = plan_prompts(chosen, RESERVE, 0, topics=topics)
    assert Counter(asking.attributes["topic"] for asking in asked) == {"0": 1, "1": 3}
    assert all(str(topics.assignment[asking.human_row]) == asking.attributes["topic"] for asking in asked)
    assert asked == plan_prompts(chosen, RESERVE, 0, topics=topics)
    assert chosen.needs_survivors
