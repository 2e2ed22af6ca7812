import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from heirloom.chat import Conversation, Message, Tool
from heirloom.errors import HeirloomError
from tasks.backends.models.chat_template import CHATML as SHIPPED
from tasks.backends.models.chat_template import ChatTemplate, TokenRow, encode_prompts, end_plain_response
from tasks.backends.training.tokenizer import train_bpe_tokenizer
from tasks.backends.types import Completion, Prompt
from tests.support.chat_templates import (
    CHATML,
    CHATML_WITH_MARKS,
    GEMMA,
    LLAMA_3,
    MISTRAL,
    QWEN_3,
    small_tokenizer,
)

_TEMPLATES = {
    "chatml": CHATML,
    "chatml-with-marks": CHATML_WITH_MARKS,
    "llama-3": LLAMA_3,
    "qwen-3": QWEN_3,
    "gemma": GEMMA,
    "mistral": MISTRAL,
}
_KNOWN_TO_TRL = ("chatml-with-marks", "llama-3", "qwen-3", "gemma")
"""Templates of which TRL itself makes a loss mask of responses."""


def _turns(*contents: str) -> list[Message]:
    roles = ("user", "assistant")
    return [{"role": roles[place % 2], "content": content} for place, content in enumerate(contents)]


_LONG = _turns("What is rain?", "Water that falls.", "  And snow?\n", "It is ice,\n\nünd fällt. 雪", "Why?", "Cold.")
_SYSTEM: list[Message] = [{"role": "system", "content": "Be brief."}, *_LONG]
_TOOLS: list[Tool] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
_CALLING: list[Message] = [
    {"role": "user", "content": "Weather in Bern?"},
    {
        "role": "assistant",
        "content": "Let me look.",
        "reasoning": "I need the tool.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}
        ],
    },
    {"role": "tool", "content": "4 degrees", "tool_call_id": "c1"},
    {"role": "assistant", "content": "Cold.", "reasoning": "4 degrees is cold."},
]


def _for_trl(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages with the name that templates have for reasoning."""
    renamed = [dict(message) for message in messages]
    for message in renamed:
        if "reasoning" in message:
            message["reasoning_content"] = message.pop("reasoning")
    return renamed


def _tiny(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size))


def _sft_rows(tokenizer: PreTrainedTokenizerFast, rows: list[dict[str, Any]], folder: Path, **settings: Any) -> list:
    """Token ids and labels of the rows as TRL's SFTTrainer prepares them."""
    arguments = SFTConfig(output_dir=str(folder), report_to=[], use_cpu=True, max_length=None, **settings)
    dataset = Dataset.from_list(rows, on_mixed_types="use_json")
    trainer = SFTTrainer(_tiny(tokenizer), arguments, train_dataset=dataset, processing_class=tokenizer)
    return [(row["input_ids"], row["labels"]) for row in trainer.train_dataset]


def _labels(row: TokenRow) -> tuple[list[int], list[int]]:
    return row.ids, [token if counted else -100 for token, counted in zip(row.ids, row.mask, strict=True)]


@pytest.mark.parametrize("name", _KNOWN_TO_TRL)
def test_token_ids_and_loss_masks_of_responses_equal_trls(name: str, tmp_path: Path) -> None:
    tokenizer = small_tokenizer(_TEMPLATES[name])
    conversations = [_LONG, _LONG[:2], *([_SYSTEM] if name != "gemma" else [])]
    found = _sft_rows(
        copy.deepcopy(tokenizer), [{"messages": each} for each in conversations], tmp_path, assistant_only_loss=True
    )
    template = ChatTemplate(tokenizer)
    for messages, expected in zip(conversations, found, strict=True):
        (row,) = template.encode(Conversation(messages=messages), whole=False)
        assert _labels(row) == expected
    assert any(label != -100 for _, labels in found for label in labels)


def test_tools_calls_and_reasoning_of_a_thinking_model_are_tokenized_as_by_trl(tmp_path: Path) -> None:
    tokenizer = small_tokenizer(QWEN_3)
    rows = [{"messages": _for_trl(_CALLING), "tools": _TOOLS}]
    (expected,) = _sft_rows(copy.deepcopy(tokenizer), rows, tmp_path, assistant_only_loss=True)
    conversation = Conversation(messages=_CALLING, tools=_TOOLS)
    (row,) = ChatTemplate(tokenizer).encode(conversation, whole=False)
    assert _labels(row) == expected
    trained = tokenizer.decode([token for token, counted in zip(row.ids, row.mask, strict=True) if counted])
    assert "<think>\nI need the tool.\n</think>" in trained
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}' in trained
    assert "4 degrees<" not in trained


@pytest.mark.parametrize("name", _TEMPLATES)
def test_the_last_response_has_the_ids_and_the_mask_of_trls_prompt_and_completion(name: str, tmp_path: Path) -> None:
    tokenizer = small_tokenizer(_TEMPLATES[name])
    rows = [{"prompt": _LONG[:-1], "completion": _LONG[-1:]}, {"prompt": _LONG[:1], "completion": _LONG[1:2]}]
    long, short = _sft_rows(copy.deepcopy(tokenizer), rows, tmp_path, completion_only_loss=True)
    template = ChatTemplate(tokenizer)
    (row,) = template.encode(Conversation(messages=_LONG[:2]), whole=False)
    # TRL's version of Qwen 3 also trains the empty reasoning, and that of Mistral and ChatML is not known to it.
    assert row.ids == short[0]
    if name != "chatml-with-marks":
        assert _labels(row) == short
    prompt = template.encode_prompt(Conversation(messages=_LONG[:-1]))
    assert prompt == tokenizer.apply_chat_template(_LONG[:-1], add_generation_prompt=True)["input_ids"]
    assert long[0][: len(prompt)] == prompt


@pytest.mark.parametrize("name", ["chatml", "mistral"])
def test_without_marks_every_response_has_the_span_that_trl_gives_it_as_a_completion(name: str, tmp_path: Path) -> None:
    tokenizer = small_tokenizer(_TEMPLATES[name])
    places = (1, 3, 5)
    rows = [{"prompt": _LONG[:place], "completion": _LONG[place : place + 1]} for place in places]
    completions = _sft_rows(copy.deepcopy(tokenizer), rows, tmp_path, completion_only_loss=True)
    (row,) = ChatTemplate(tokenizer).encode(Conversation(messages=_LONG), whole=False)
    (expected,) = _sft_rows(copy.deepcopy(tokenizer), [{"messages": _LONG}], tmp_path)
    assert row.ids == expected[0]
    counted = [False] * len(row.ids)
    for _, labels in completions:
        for place, label in enumerate(labels):
            counted[place] |= label != -100
    assert row.mask == counted


@pytest.mark.parametrize("name", _TEMPLATES)
def test_a_whole_conversation_has_the_ids_that_trl_trains_without_a_mask(name: str, tmp_path: Path) -> None:
    tokenizer = small_tokenizer(_TEMPLATES[name])
    (expected,) = _sft_rows(copy.deepcopy(tokenizer), [{"messages": _LONG}], tmp_path)
    (row,) = ChatTemplate(tokenizer).encode(Conversation(messages=_LONG), whole=True)
    assert _labels(row) == expected


@pytest.mark.parametrize("name", _TEMPLATES)
def test_preference_pairs_have_the_ids_of_trls_dpo(name: str, tmp_path: Path) -> None:
    tokenizer = small_tokenizer(_TEMPLATES[name])
    chosen, rejected = _turns("", "Water that falls.")[1:], _turns("", "Sand.")[1:]
    rows = [{"prompt": _LONG[:1], "chosen": chosen, "rejected": rejected}]
    arguments = DPOConfig(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    trainer = DPOTrainer(
        _tiny(tokenizer),
        _tiny(tokenizer),
        arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=copy.deepcopy(tokenizer),
    )
    (expected,) = list(trainer.train_dataset)
    pair = ChatTemplate(tokenizer).encode_pair(Conversation(messages=_LONG[:1]), chosen[0], rejected[0])
    assert (pair.prompt, pair.chosen, pair.rejected) == (
        expected["prompt_ids"],
        expected["chosen_ids"],
        expected["rejected_ids"],
    )


@pytest.mark.parametrize("name", _TEMPLATES)
def test_names_of_special_tokens_in_a_text_do_not_become_special_tokens(name: str) -> None:
    tokenizer = small_tokenizer(_TEMPLATES[name])
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    plain, hostile = _turns("Hi", "So."), _turns(f"Hi{tokenizer.eos_token}{tokenizer.pad_token}", "So.")
    template = ChatTemplate(tokenizer)
    rows = [template.encode(Conversation(messages=each), whole=False)[0] for each in (plain, hostile)]
    marks = [[token for token in row.ids if token in special] for row in rows]
    assert marks[0] == marks[1]
    assert f"Hi{tokenizer.eos_token}{tokenizer.pad_token}" in tokenizer.decode(rows[1].ids)
    trained = [[token for token, counted in zip(row.ids, row.mask, strict=True) if counted] for row in rows]
    assert trained[0] == trained[1]


def test_the_shipped_template_writes_every_field_and_ends_each_turn_with_the_end_token(tmp_path: Path) -> None:
    tokenizer = train_bpe_tokenizer(["user assistant What is rain?"] * 9, 300, 512)
    tokenizer.chat_template = SHIPPED
    tokenizer.save_pretrained(tmp_path)
    saved = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    template = ChatTemplate(saved)
    assert template.end_of_turn_id is None
    conversation = Conversation(messages=[{"role": "system", "content": "Be brief."}, *_CALLING], tools=_TOOLS)
    assert template.unwritten_fields(conversation) == set()
    (row,) = template.encode(conversation, whole=False)
    text = saved.decode(row.ids)
    assert text.startswith("<begin>system\nBe brief.\n\n# Tools\n{")
    assert text.endswith("<begin>assistant\n<think>\n4 degrees is cold.\n</think>\n\nCold.<end>\n")
    trained = saved.decode([token for token, counted in zip(row.ids, row.mask, strict=True) if counted])
    assert trained == (
        "<think>\nI need the tool.\n</think>\n\nLet me look.\n<tool_call>\n"
        '{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call><end>'
        "<think>\n4 degrees is cold.\n</think>\n\nCold.<end>"
    )
    assert trained.count("<end>") == [token for token in row.ids if row.ids].count(saved.eos_token_id) - 3


def test_fields_that_a_template_does_not_write_are_named() -> None:
    conversation = Conversation(messages=_CALLING, tools=_TOOLS)
    assert ChatTemplate(small_tokenizer(LLAMA_3)).unwritten_fields(conversation) == {
        "reasoning",
        "tool_calls",
        "tools",
    }
    assert ChatTemplate(small_tokenizer(QWEN_3)).unwritten_fields(conversation) == set()


def test_messages_that_a_template_refuses_are_an_error_of_the_user() -> None:
    with pytest.raises(HeirloomError, match="The chat template refuses the messages: System role not supported"):
        ChatTemplate(small_tokenizer(GEMMA)).encode(Conversation(messages=_SYSTEM), whole=False)


@pytest.mark.parametrize(("name", "end"), [("gemma", "<end_of_turn>"), ("llama-3", None), ("mistral", None)])
def test_the_token_that_ends_a_turn_is_found_where_it_is_not_the_end_token(name: str, end: str | None) -> None:
    tokenizer = small_tokenizer(_TEMPLATES[name])
    expected = tokenizer.convert_tokens_to_ids(end) if end else None
    assert ChatTemplate(tokenizer).end_of_turn_id == expected


def test_a_template_that_writes_earlier_responses_otherwise_gets_a_row_for_each_response() -> None:
    # Without marks, and changed, so that TRL does not know it.
    tokenizer = small_tokenizer(QWEN_3)
    tokenizer.chat_template = QWEN_3.replace("# Tools", "# Functions")
    template = ChatTemplate(tokenizer)
    messages: list[Message] = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1", "reasoning": "first"},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "2", "reasoning": "second"},
    ]
    rows = template.encode(Conversation(messages=messages), whole=False)
    trained = [tokenizer.decode([t for t, counted in zip(row.ids, row.mask, strict=True) if counted]) for row in rows]
    assert trained == [
        "<think>\nfirst\n</think>\n\n1<|im_end|>\n",
        "<think>\nsecond\n</think>\n\n2<|im_end|>\n",
    ]
    assert rows[1].ids[: rows[1].mask.index(True)] == template.encode_prompt(Conversation(messages=messages[:3]))


def test_prompts_of_messages_are_cut_after_their_first_token_and_texts_at_their_end() -> None:
    tokenizer = small_tokenizer(LLAMA_3)
    prompts = [
        Prompt("What is rain?", 0),
        Prompt("### user\nWhat is rain?", 0, Conversation(messages=_turns("What is rain?"))),
    ]
    encoded = encode_prompts(tokenizer, prompts)
    assert (encoded.has_template, encoded.in_chat, encoded.stop_ids) == (True, [False, True], [])
    assert encoded.ids[0][0] == tokenizer.bos_token_id
    text, messages = encoded.fit(6)
    assert text.ids == encoded.ids[0][:5]
    assert messages.ids == [encoded.ids[1][0], *encoded.ids[1][-4:]]
    assert [each.num_cut for each in (text, messages)] == [len(ids) - 5 for ids in encoded.ids]
    assert [each.num_cut for each in encoded.fit(100)] == [0, 0]


def test_a_model_without_a_template_is_given_plain_text_and_ends_at_the_next_header() -> None:
    tokenizer = small_tokenizer(LLAMA_3)
    tokenizer.chat_template = None
    conversation = Conversation(messages=_turns("What is rain?"))
    prompt = Prompt("### user\nWhat is rain?\n\n### assistant\n", 0, conversation)
    encoded = encode_prompts(tokenizer, [prompt])
    assert not encoded.has_template
    assert tokenizer.decode(encoded.ids[0][1:]) == prompt.text
    completion = Completion("Water.\n\n\\### Not a header\n\n### user\nMore?", "length", 1, 9, None)
    assert end_plain_response(prompt, completion).text == "Water.\n\n### Not a header"
    (row,) = ChatTemplate(tokenizer).encode(Conversation(messages=_LONG[:2]), whole=False)
    trained = tokenizer.decode([token for token, counted in zip(row.ids, row.mask, strict=True) if counted])
    assert trained == "Water that falls.<|eot_id|>"
