"""Conversations through the loop: ingested, trained on, prompted from, generated and exported."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="SFT needs TRL")

import datasets

from curation.splitting import IngestSettings
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from heirloom.chat import Message, parse_conversation
from storage.export.corpus import export_corpus
from storage.query.catalog import open_catalog
from tasks.backends.models.chat_template import CHATML, ChatTemplate
from tasks.backends.models.loading import load_tokenizer
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect
from tests.conftest import human_texts

_RECIPE = Recipe.model_validate(
    {
        "name": "chat",
        "dataset": "chats",
        "num_generations": 1,
        "prompts": {"template_name": "distill"},
        "generate": {"sampler": "transformers", "max_tokens": 12},
        "curate": {"filters": ["empty"], "encoder": "hashing"},
        "mix": {"policy": "accumulate"},
        "train": {
            "backend": "transformer",
            "objective": "sft",
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "vocab_size": 400,
            "context_length": 512,
            "batch_size": 4,
            "packing": False,
            "max_steps": 4,
            "generation_0_max_steps": 4,
        },
        "evaluate": {"num_samples": 10},
    }
)
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "count",
            "description": "Count words.",
            "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        },
    }
]


def _calling(number: int, text: str) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "You count words."},
        {"role": "user", "content": f"Count the words of: {text}", "name": "Ada"},
        {
            "role": "assistant",
            "content": None,
            "reasoning": f"I count: {text}",
            "tool_calls": [
                {"id": f"c{number}", "type": "function", "function": {"name": "count", "arguments": {"text": text}}}
            ],
        },
        {"role": "tool", "content": str(len(text.split())), "tool_call_id": f"c{number}", "name": "count"},
        {"role": "assistant", "content": f"It has {len(text.split())}.", "reasoning": "The tool knows."},
    ]
    return {"messages": messages, "tools": _TOOLS}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """A store with one generation of tool-calling conversations with reasoning, and these by their first question."""
    folder = tmp_path_factory.mktemp("chat")
    rows = [_calling(number, text) for number, text in enumerate(human_texts(60))]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = folder / "store"
    settings = IngestSettings.model_validate({"dedup": {"method": "exact"}})
    ingest(store, "chats", [str(folder / "chats.jsonl")], settings)
    with without_prefect():
        evolve(_RECIPE, Site(store=store))
    return store, {row["messages"][1]["content"]: row for row in rows}


def _renamed(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"reasoning" if name == "reasoning_content" else name: value for name, value in message.items()}
        for message in messages
    ]


@pytest.mark.parametrize("kind", ["hf", "jsonl"])
def test_tool_calls_and_reasoning_come_out_of_the_loop_field_by_field(
    kind: str, finished: tuple[Path, dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    store, rows = finished
    folder = export_corpus(store, "chat", None, kind, tmp_path / "out")
    reader, suffix = ("parquet", "parquet") if kind == "hf" else ("json", "jsonl")
    files = [str(path) for path in folder.rglob(f"*.{suffix}")]
    exported = datasets.load_dataset(reader, data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    origins = set()
    for row in exported:
        messages, source = _renamed(row["messages"]), rows[row["messages"][1]["content"]]
        origins.add(row["origin"])
        assert row["tools"] == source["tools"]
        if row["origin"] == "human":
            assert messages == source["messages"]
        else:
            # The prompt is the human conversation up to its last question, and the response is the model's.
            assert messages[:-1] == source["messages"][:2]
            assert messages[-1]["role"] == "assistant"
    assert origins == {"human", "synthetic"}


def test_a_model_from_scratch_has_the_shipped_template_and_is_reported_with_it(
    finished: tuple[Path, dict[str, dict[str, Any]]],
) -> None:
    store, rows = finished
    (model,) = (store / "runs" / "chat").glob("generation=1/attempt=1/model")
    tokenizer = load_tokenizer(model)
    assert tokenizer.chat_template == CHATML
    facts = json.loads((model / "_manifest.json").read_text())["facts"]["chat"]
    assert facts["has_template"]
    assert facts["unwritten_fields"] == {}
    assert facts["num_conversations"] > len(rows) / 2
    conversation = parse_conversation(next(iter(rows.values()))["messages"], _TOOLS)
    assert not isinstance(conversation, str)
    (row,) = ChatTemplate(tokenizer).encode(conversation, whole=False)
    trained = tokenizer.decode([token for token, counted in zip(row.ids, row.mask, strict=True) if counted])
    assert trained.count("<think>") == 2
    assert trained.count('<tool_call>\n{"name": "count", "arguments": {"text":') == 1
    assert "You count words." not in trained


def test_candidates_are_conversations_whose_prompts_are_messages(
    finished: tuple[Path, dict[str, dict[str, Any]]],
) -> None:
    store, _ = finished
    rows = open_catalog(store, ["chat"]).sql("select * from candidates").to_arrow_table().to_pylist()
    assert rows
    for row in rows:
        messages: list[Message] = json.loads(row["messages"])
        assert [message["role"] for message in messages] == ["system", "user", "assistant"]
        assert row["text"].startswith(row["prompt"])
        assert row["prompt"].startswith("### system\nYou count words.\n\n### user\nCount the words of:")
