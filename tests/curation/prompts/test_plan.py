"""Prompt plans, and the sampling of the records that they use."""

from collections import Counter
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.prompts.plan import PromptSettings, PromptSources, PromptSpec, plan_prompts
from curation.prompts.record_sampling import cycle_shuffled, sample_by_source, sample_by_topic, sample_uniform
from curation.selection.apportionment import quotas_by_source
from curation.selection.routing import assign_by_thompson_sampling
from curation.selection.topics import TopicModel, TopicSteeringSettings
from heirloom.chat import Conversation, Message, render_chat, to_messages
from heirloom.errors import HeirloomError


def _plan(settings: PromptSettings, records: list[str], seed: int, **more: Any) -> list[PromptSpec]:
    return plan_prompts(settings, PromptSources(records=records, **more), seed)


RECORDS = ["The old river runs east", "A quiet garden", "Seven letters came home late"]


def test_unconditional_prompts_are_empty() -> None:
    assert _plan(PromptSettings(prompts_per_human_record=2), RECORDS, seed=0) == [PromptSpec("", -1)] * 6


def test_a_prefix_is_the_first_words_of_its_record() -> None:
    specs = _plan(PromptSettings(template_name="prefix", prefix_words=2), RECORDS, seed=0)
    assert sorted((spec.human_row, spec.text) for spec in specs) == [
        (0, "The old"),
        (1, "A quiet"),
        (2, "Seven letters"),
    ]


def test_the_prefix_of_a_short_record_is_the_whole_record() -> None:
    specs = _plan(PromptSettings(template_name="prefix", prefix_words=4), RECORDS, seed=0)
    assert {spec.human_row: spec.text for spec in specs}[1] == "A quiet garden"


def test_a_prefix_in_a_script_without_spaces_is_its_first_words() -> None:
    records = ["雨が降っている。窓の外は暗い。", "天气很好，我们走吧。"]
    specs = _plan(PromptSettings(template_name="prefix", prefix_words=4), records, seed=0)
    assert {spec.human_row: spec.text for spec in specs} == {0: "雨が降って", 1: "天气很好，我们走"}


@given(st.integers(1, 40), st.floats(0.05, 4), st.integers(0, 20))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_numbers_of_prompts_per_record_differ_by_at_most_one(num_records: int, each: float, seed: int) -> None:
    records = [f"record {number} has this" for number in range(num_records)]
    specs = _plan(
        PromptSettings(template_name="prefix", prompts_per_human_record=each, max_prompts_per_record=4), records, seed
    )
    times = Counter(spec.human_row for spec in specs)
    counts = [times[row] for row in range(num_records)]
    assert len(specs) == max(1, round(each * num_records)) == sum(counts)
    assert max(counts) - min(counts) <= 1
    assert all(spec.text == records[spec.human_row] for spec in specs)


def test_the_order_depends_on_the_seed_only() -> None:
    records = [f"record {number}" for number in range(50)]
    prompt_settings = PromptSettings(template_name="prefix", prompts_per_human_record=2, max_prompts_per_record=2)
    first, again, other = (_plan(prompt_settings, records, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first[:50] != first[50:]


def test_a_record_is_prompted_from_twice_only_where_that_is_allowed() -> None:
    prompt_settings = PromptSettings(template_name="prefix", prompts_per_human_record=2)
    with pytest.raises(ValueError, match="requires 6 prompts from human training records, but only 3 are available"):
        _plan(prompt_settings, RECORDS, seed=0)
    assert len(_plan(prompt_settings.model_copy(update={"max_prompts_per_record": 2}), RECORDS, seed=0)) == 6


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.floats(0.05, 2.5), st.integers(1, 3), st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_quotas_of_prompts_are_exact_or_refused_by_name(
    sources: list[str], each: float, rounds: int, data: st.DataObject
) -> None:
    parts = data.draw(st.lists(st.integers(1, 9), min_size=3, max_size=3))
    shares = data.draw(
        st.sampled_from(["proportional", {s: p / sum(parts) for s, p in zip("abc", parts, strict=True)}])
    )
    records = [f"record {number}" for number in range(len(sources))]
    prompt_settings = PromptSettings.model_validate(
        {
            "template_name": "prefix",
            "prompts_per_human_record": each,
            "max_prompts_per_record": rounds,
            "source_shares": shares,
        }
    )
    wanted = quotas_by_source(max(1, round(each * len(sources))), prompt_settings.source_shares, sources)
    there = Counter(sources)
    short = [source for source, count in wanted.items() if count > rounds * there[source]]
    if short:
        named = (
            f"requires {wanted[short[0]]} prompts from records of source {short[0]}.*only {rounds * there[short[0]]} "
            "are"
        )
        with pytest.raises(ValueError, match=named):
            _plan(prompt_settings, records, 5, record_sources=sources)
        return
    specs = _plan(prompt_settings, records, 5, record_sources=sources)
    assert Counter(sources[spec.human_row] for spec in specs) == Counter(wanted)
    times = Counter(spec.human_row for spec in specs)
    assert max(times.values()) <= rounds
    for source in there:
        counts = [times[row] for row, name in enumerate(sources) if name == source]
        assert max(counts) - min(counts) <= 1
    assert specs == _plan(prompt_settings, records, 5, record_sources=sources)


def test_there_is_at_least_one_prompt() -> None:
    assert len(_plan(PromptSettings(prompts_per_human_record=0.01), RECORDS, seed=0)) == 1


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
    fields = {"template_name": "template", "template": "A {tone} text about a {subject}.", "attributes": GRID}
    return PromptSettings.model_validate(fields | more)


def test_grid_cells_have_exact_quotas_in_an_order_by_seed() -> None:
    specs, again, other = (_plan(_template(prompts_per_human_record=4), RECORDS, seed) for seed in (1, 1, 2))
    assert Counter(spec.text for spec in specs) == {
        f"A {tone} text about a {subject}.": 2 for subject in GRID["subject"] for tone in GRID["tone"]
    }
    assert specs == again != other
    assert all(spec.text == f"A {spec.attributes['tone']} text about a {spec.attributes['subject']}." for spec in specs)


def test_cells_with_too_few_survivors_are_prompted_first() -> None:
    delivered = {
        ("river", "plain"): 9,
        ("river", "odd"): 9,
        ("garden", "plain"): 9,
        ("garden", "odd"): 9,
        ("letter", "odd"): 9,
    }
    specs = _plan(_template(prompts_per_human_record=2), RECORDS, 1, delivered=delivered)
    assert {spec.text for spec in specs} == {"A plain text about a letter."}


def test_a_template_is_filled_from_records_and_names_their_rows() -> None:
    prompt_settings = PromptSettings(template_name="rephrase")
    specs = _plan(prompt_settings, RECORDS, 1)
    assert sorted(spec.human_row for spec in specs) == [0, 1, 2]
    assert all(RECORDS[spec.human_row] in spec.text for spec in specs)
    assert prompt_settings.resolved_output_format == "completion"
    assert prompt_settings.needs_records


def test_evolve_uses_survivors_and_records_before_there_are_any() -> None:
    prompt_settings = PromptSettings(template_name="evolve")
    assert [spec.human_row >= 0 for spec in _plan(prompt_settings, RECORDS, 1)] == [True] * 3
    specs = _plan(prompt_settings, RECORDS, 1, survivors=["survivor one", "survivor two"])
    assert [spec.human_row for spec in specs] == [-1] * 3
    assert sorted(spec.survivor_row for spec in specs)[:2] in ([0, 0], [0, 1])
    assert all(["survivor one", "survivor two"][spec.survivor_row] in spec.text for spec in specs)
    assert prompt_settings.needs_survivors


def test_prefix_words_are_segmented_in_a_script_without_spaces() -> None:
    (specs,) = _plan(PromptSettings(template_name="prefix", prefix_words=3), ["今日は良い天気です"], 0)
    assert specs.text == "今日は良い"


def numbered(records: list[str], count: int, seed: int) -> list[tuple[str, dict[str, str]]]:
    return [
        (f"number {place}, after {len(records)} records, seed {seed}", {"place": str(place)}) for place in range(count)
    ]


def too_few(records: list[str], count: int, seed: int) -> list[str]:
    return records[: count - 1 + 0 * seed]


def test_a_user_function_returns_prompts_with_attributes() -> None:
    specs = _plan(PromptSettings(template_name="tests.curation.prompts.test_plan:numbered"), RECORDS, 7)
    assert [spec.text for spec in specs][:1] == ["number 0, after 3 records, seed 7"]
    assert [spec.attributes for spec in specs] == [{"place": "0"}, {"place": "1"}, {"place": "2"}]
    with pytest.raises(ValueError, match="nowhere in `nowhere:there` cannot be imported"):
        _plan(PromptSettings(template_name="nowhere:there"), RECORDS, 7)
    with pytest.raises(ValueError, match="returned 2 prompts; it must return exactly the 3"):
        _plan(PromptSettings(template_name="tests.curation.prompts.test_plan:too_few"), RECORDS, 7)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"template_name": "template"}, "The template is empty"),
        (
            {"template_name": "rephrase", "template": "x {record}"},
            "`template` is used with `template_name = 'template'` only",
        ),
        ({"template_name": "prefix", "attributes": {"a": ["b"]}}, "`attributes` need a template"),
        (
            {"template_name": "template", "template": "{a}", "attributes": {"a": ["b"]}, "max_prompts_per_record": 2},
            "need prompts made from human records",
        ),
        (
            {
                "template_name": "template",
                "template": "{a}",
                "attributes": {"a": ["b"]},
                "attribute_weights": {"c": {}},
            },
            "which is not in `attributes`",
        ),
        ({"template_name": "persona"}, "Unknown placeholder {persona}"),
        ({"template_name": ":there"}, "`:there` is not a reference to a prompt template"),
        (
            {"template_name": "unconditional", "topic_steering": {"num_topics": 3}},
            "need prompts made from human records",
        ),
        (
            {"template_name": "prefix", "topic_steering": {"num_topics": 3}, "source_shares": "proportional"},
            "excludes `source_shares`",
        ),
        ({"template_name": "prefix", "completions_per_prompt": 0}, "greater than or equal to 1"),
        ({"template_name": "poem"}, "there is no prompt template `poem`"),
    ],
)
def test_settings_that_do_not_fit_the_template_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("{", r"\{").replace("}", r"\}")):
        PromptSettings.model_validate(wrong)


def test_the_record_depends_on_template_and_output_format() -> None:
    assert PromptSettings().to_record(PromptSpec("The old"), " river") == ("The old river", None)
    assert PromptSettings(template_name="rephrase").to_record(PromptSpec("Say it"), " a river\n") == ("a river", None)
    (spec,) = _plan(PromptSettings(template_name="distill"), ["What is rain?"], 0)
    text, conversation = PromptSettings(template_name="distill").to_record(spec, " Water.")
    assert text == "### user\nWhat is rain?\n\n### assistant\nWater."
    assert conversation == Conversation(messages=to_messages("What is rain?", "Water."))
    distill = PromptSettings(template_name="distill", output_format="completion")
    assert distill.to_record(PromptSpec("What?"), "That.") == ("That.", None)


def test_a_text_in_which_a_model_wrote_a_whole_conversation_is_stored_as_one() -> None:
    text, conversation = PromptSettings().to_record(PromptSpec(""), "### user\nWhy?\n\n### assistant\nSo.")
    assert (text, conversation) == (
        "### user\nWhy?\n\n### assistant\nSo.",
        Conversation(messages=to_messages("Why?", "So."), tools=[]),
    )
    assert PromptSettings().to_record(PromptSpec(""), "### user\nWhy?")[1] is None


_TALK: list[Message] = [
    {"role": "system", "content": "Be brief."},
    *to_messages("What is rain?", "Water."),
    *to_messages("And snow?", "Ice."),
]


def test_distill_prompts_are_a_conversation_up_to_its_last_question() -> None:
    records, tools = [render_chat(_TALK), "Name a river."], [{"type": "function", "function": {"name": "look"}}]
    conversations = [Conversation(messages=_TALK, tools=tools), None]
    specs = _plan(PromptSettings(template_name="distill"), records, 0, conversations=conversations)
    prompts = {spec.human_row: spec for spec in specs}
    assert prompts[0].conversation == Conversation(messages=_TALK[:-1], tools=tools)
    assert prompts[0].text + "Ice." == render_chat(_TALK)
    assert prompts[1].conversation == Conversation(messages=[{"role": "user", "content": "Name a river."}])


def test_openings_and_questions_of_a_conversation_are_those_of_its_first_user() -> None:
    settings = PromptSettings(template_name="template", template="{opening} / {question}", prefix_words=2)
    conversations = [Conversation(messages=_TALK)]
    (spec,) = _plan(settings, [render_chat(_TALK)], 0, conversations=conversations)
    assert (spec.text, spec.conversation) == ("What is / What is rain?", None)


def test_reasoning_and_calls_of_a_response_become_fields_of_its_message() -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    conversation = Conversation(messages=_TALK[:2], tools=tools)
    spec = PromptSpec("", conversation=conversation)
    completion = 'Wait.\n<tool_call>\n{"name": "look", "arguments": {"at": "sky"}}\n</tool_call>'
    _, record = PromptSettings(template_name="distill").to_record(spec, completion, "Rain?\n")
    assert record is not None
    assert record.messages[-1] == {
        "role": "assistant",
        "content": "Wait.",
        "reasoning": "Rain?",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": {"at": "sky"}}}],
    }
    assert record.tools == tools


def test_prompts_follow_topic_shares_and_name_their_topic() -> None:
    topics = TopicModel(
        np.array([0, 0, 1]), np.array([2, 1]), np.array([4, 0]), np.array([0.25, 0.75]), [("a",), ("b",)]
    )
    prompt_settings = PromptSettings(
        template_name="prefix",
        prompts_per_human_record=4 / 3,
        max_prompts_per_record=3,
        topic_steering=TopicSteeringSettings(num_topics=2),
    )
    specs = _plan(prompt_settings, RECORDS, 0, topics=topics)
    assert Counter(spec.attributes["topic"] for spec in specs) == {"0": 1, "1": 3}
    assert all(str(topics.assignment[spec.human_row]) == spec.attributes["topic"] for spec in specs)
    assert specs == _plan(prompt_settings, RECORDS, 0, topics=topics)
    assert prompt_settings.needs_survivors


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_every_record_is_asked_before_one_is_asked_again() -> None:
    rows = sample_uniform(_rng(), 5, 8, rounds=2)
    assert sorted(rows[:5].tolist()) == [0, 1, 2, 3, 4]
    assert set(Counter(rows.tolist()).values()) == {1, 2}
    assert cycle_shuffled(_rng(), np.arange(0), 0).tolist() == []


def test_sources_get_their_shares() -> None:
    rows = sample_by_source(_rng(), ["a", "b", "a", "b"], {"a": 0.25, "b": 0.75}, 4, rounds=2)
    assert Counter("ab"[row % 2] for row in rows.tolist()) == {"a": 1, "b": 3}


def _topics(shares: list[float]) -> TopicModel:
    of_human, words = np.array([0, 0, 0, 0, 1, 1]), [("a",), ("b",)]
    return TopicModel(of_human, np.array([4, 2]), np.array([0, 0]), np.array(shares), words)


def test_topics_get_their_shares_as_far_as_there_is_room() -> None:
    by_share = sample_by_topic(_rng(), _topics([0.5, 0.5]), 4, rounds=1)
    assert Counter((by_share >= 4).tolist()) == {False: 2, True: 2}
    full = sample_by_topic(_rng(), _topics([0.0, 1.0]), 4, rounds=1)
    assert Counter((full >= 4).tolist()) == {False: 2, True: 2}
    again = sample_by_topic(_rng(), _topics([0.0, 1.0]), 4, rounds=2)
    assert Counter(again.tolist()) == {4: 2, 5: 2}


@pytest.mark.parametrize("rounds", [1, 2])
def test_more_than_the_rounds_allow_is_refused(rounds: int) -> None:
    with pytest.raises(
        ValueError, match=rf"requires {rounds * 6 + 1} prompts from human training records.*only {rounds * 6} are"
    ):
        sample_by_topic(_rng(), _topics([0.5, 0.5]), rounds * 6 + 1, rounds)


def test_a_prompt_template_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def ask(records, count, seed):\n    return [f'{seed}: {record}?' for record in records[:count]]\n")
    specs = _plan(PromptSettings(template_name=f"{file}:ask"), RECORDS, seed=3)
    assert [spec.text for spec in specs] == [f"3: {record}?" for record in RECORDS]


_CHAT = Conversation(
    messages=[
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who wrote?"},
        {"role": "assistant", "content": "Ines."},
    ],
    tools=[{"type": "function", "function": {"name": "search", "parameters": {}}}],
)


def _user_specs(tmp_path: Path, code: str, **more: Any) -> list[PromptSpec]:
    file = tmp_path / "mine.py"
    file.write_text(code)
    return _plan(PromptSettings(template_name=f"{file}:ask", **more), RECORDS, 3, conversations=[_CHAT, None, None])


def test_a_function_with_such_a_parameter_gets_the_conversations_of_records(tmp_path: Path) -> None:
    code = (
        "def ask(records, count, seed, conversations):\n"
        "    asked = {**conversations[0], 'messages': conversations[0]['messages'][:-1]}\n"
        "    return [asked, (asked['messages'], {'tone': 'odd'}), str(conversations[1:])]\n"
    )
    with_tools, plain, text = _user_specs(tmp_path, code)
    assert with_tools.conversation == Conversation(messages=_CHAT.messages[:-1], tools=_CHAT.tools)
    assert with_tools.text == "### system\nBe brief.\n\n### user\nWho wrote?\n\n### assistant\n"
    assert plain.conversation == Conversation(messages=_CHAT.messages[:-1], tools=[])
    assert plain.attributes == {"tone": "odd"}
    assert (text.text, text.conversation) == ("[None, None]", None)


def test_messages_of_a_function_are_stored_with_the_response(tmp_path: Path) -> None:
    code = "def ask(records, count, seed):\n    return [[{'role': 'user', 'content': each}] for each in records]\n"
    specs = _user_specs(tmp_path, code, output_format="chat")
    text, conversation = PromptSettings(template_name="mine.py:ask", output_format="chat").to_record(specs[1], "Yes.")
    assert text == "### user\nA quiet garden\n\n### assistant\nYes."
    assert conversation
    assert [message["role"] for message in conversation.messages] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("None", "returned a NoneType as a prompt; return a text, a list of messages"),
        ("3", "returned a int as a prompt"),
        ("['a text']", "messages that cannot be a prompt: "),
        ("[]", "messages that cannot be a prompt: no message of a user"),
        ("[{'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': 'b'}]", "neither a user's nor a tool's"),
        ("('a text', 'formal')", "returned attributes that are a str"),
        ("('a', 'text', 'more')", "returned a tuple as a prompt"),
    ],
)
def test_a_function_that_returns_something_else_is_refused(tmp_path: Path, prompt: str, reason: str) -> None:
    with pytest.raises(HeirloomError, match=reason):
        _user_specs(tmp_path, f"def ask(records, count, seed):\n    return [{prompt}] * count\n")


def _plan_seconds(kind: str, count: int) -> float:
    """Measure the processor time of a plan with `count` records, and as many personas, sources or topics."""
    names = [f"name {number}" for number in range(count)]
    prompt_settings, more = PromptSettings(template_name="rephrase"), {}
    if kind == "personas":
        prompt_settings = PromptSettings(template_name="persona", attributes={"persona": tuple(names)})
    elif kind == "sources":
        prompt_settings = PromptSettings(template_name="rephrase", source_shares="proportional")
        more = {"record_sources": names}
    elif kind == "topics":
        each = np.ones(count, np.int64)
        more = {"topics": TopicModel(np.arange(count), each, each, each / count, [("word",)] * count)}
    started = process_time()
    specs = _plan(prompt_settings, [f"record {name} has this" for name in names], 0, **more)
    assert len({spec.human_row for spec in specs}) == count
    return process_time() - started


@pytest.mark.parametrize("kind", ["records", "personas", "sources", "topics"])
def test_the_time_of_a_plan_is_linear_in_its_size(kind: str) -> None:
    _plan_seconds(kind, 100)
    small = min(_plan_seconds(kind, 2_000) for _ in range(3))
    assert _plan_seconds(kind, 20_000) < 30 * small


def test_teachers_are_assigned_in_linear_time() -> None:
    def seconds(count: int) -> float:
        strata = [f"stratum {number}" for number in range(count)]
        rewards = {(stratum, name): [0.5, float(name == "b")] for stratum in strata for name in "ab"}
        started = process_time()
        assert set(assign_by_thompson_sampling(strata, "ab", rewards, 0)) == set("ab")
        return process_time() - started

    assert seconds(20_000) < 30 * min(seconds(2_000) for _ in range(3))
