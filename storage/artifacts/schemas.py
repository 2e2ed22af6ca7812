"""Schemas of the tables in the store.

New columns are added and documented; a column is never reused for another meaning.
"""

import pyarrow as pa

HUMAN, SYNTHETIC = "human", "synthetic"

_TEXT = [("id", pa.string()), ("text", pa.string()), ("origin", pa.string()), ("source_generation", pa.int32())]

CONVERSATION = [("messages", pa.string()), ("tools", pa.string())]
"""Columns of a record that is a conversation, null for any other: its messages, and the tools that they may call, as
JSON. No nested type: arguments of tools have other fields in every record, which a nested type would fill with nulls.
`text` is the conversation rendered as text."""

HUMAN_RECORDS = pa.schema(
    [
        *_TEXT,
        ("source", pa.string()),
        ("split_group", pa.string()),
        ("license", pa.string()),
        ("text_hash", pa.string()),
        ("document_id", pa.string()),
        *CONVERSATION,
        ("checks", pa.string()),
    ]
)
"""A human record, for training or held out.

`document_id` is its id in the source; `messages` and `tools` are the conversation that `text` renders, as JSON, if it
is one. `checks` is the check of an answer to it, as JSON, null for none."""

TOPICS = pa.schema(
    [
        ("topic", pa.int32()),
        ("words", pa.list_(pa.string())),
        ("human_count", pa.int64()),
        ("synthetic_count", pa.int64()),
        ("prompt_share", pa.float64()),
        ("human_ids", pa.list_(pa.string())),
    ]
)
"""Topic steering of a generation: the human records and the survivors of the previous generation about each topic, and
the topic's share of the prompts. `words` are more frequent in the topic than elsewhere; `human_ids` are its human
records."""

REJECTED_DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("row_number", pa.int64()),
        ("filter", pa.string()),
        ("reason", pa.string()),
        ("duplicate_of", pa.string()),
        ("score", pa.float64()),
        ("document_id", pa.string()),
    ]
)
"""A document that was rejected at ingest, with the filter and the reason."""

_PARAMETERS = pa.struct(
    [
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("top_k", pa.int32()),
        ("min_p", pa.float64()),
        ("presence_penalty", pa.float64()),
        ("frequency_penalty", pa.float64()),
        ("repetition_penalty", pa.float64()),
        ("max_tokens", pa.int32()),
        ("min_tokens", pa.int32()),
        ("beam_width", pa.int32()),
    ]
)

CANDIDATES = pa.schema(
    [
        *_TEXT,
        ("parents", pa.list_(pa.string())),
        ("source", pa.string()),
        ("text_hash", pa.string()),
        ("prompt", pa.string()),
        ("prompt_template", pa.string()),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("parameters", _PARAMETERS),
        ("model_fingerprint", pa.string()),
        ("teacher", pa.string()),
        ("prompt_id", pa.int32()),
        ("seed", pa.int64()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("sum_logprob", pa.float64()),
        ("reasoning", pa.string()),
        ("reasoning_tokens", pa.int32()),
        ("num_retries", pa.int32()),
        *CONVERSATION,
        ("num_cut_tokens", pa.int32()),
    ]
)
"""A synthetic record before curation.

`sum_logprob` is in nats under the model at temperature 1, null if a server does not return it. `model_fingerprint` is
the fingerprint of the model that generated the text, or the model name that a server returns for a teacher. `teacher`
is the name of the teacher in the recipe, null for the generation's own model. `prompt_id` is the number of the prompt,
equal for all completions of it. `reasoning` is what a thinking model generated before its response, and
`reasoning_tokens` how many of the `completion_tokens` it has, if known. `finish_reason` is `length` if the text was
truncated, `invalid_json` if it violates the requested JSON schema. `num_cut_tokens` is the number of tokens cut from a
prompt that did not fit into the model's context; `prompt_tokens` counts those that were left. `num_retries` is the
number of completions before this one that violated the JSON schema."""

DECISIONS = pa.schema(
    [
        ("id", pa.string()),
        ("filter", pa.string()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
        ("duplicate_of", pa.string()),
        ("duplicate_of_generation", pa.int32()),
        ("score", pa.float64()),
        ("estimated_jaccard", pa.float64()),
    ]
)
"""Decision of one filter on one record; `score` is the number that it is based on, `estimated_jaccard` the estimate
from MinHash sketches."""

CHECK_RESULTS = pa.schema(
    [
        ("id", pa.string()),
        ("problem", pa.string()),
        ("kind", pa.string()),
        ("passed", pa.bool_()),
        ("outcome", pa.string()),
        ("detail", pa.string()),
        ("answer", pa.string()),
        ("stdout", pa.string()),
        ("stderr", pa.string()),
        ("return_code", pa.int32()),
        ("seconds", pa.float64()),
    ]
)
"""Result of the check of one candidate.

`problem` is the human record that the candidate answers and whose check was applied; `kind` is that of the check.
`outcome` is `passed`, `failed` (another result than expected), `error` (the answer cannot be executed), `timeout` or
`output` (it reached a limit), or `no_check`; `detail` is the reason. `answer` is the judged part of the text, and the
rest is what its execution printed and returned; each is cut to 4,000 characters."""

FILTER_RATE_ALERTS = pa.list_(
    pa.struct(
        [
            *(("source", pa.string()), ("filter", pa.string()), ("dropped", pa.int64()), ("num_seen", pa.int64())),
            *(("baseline_rate", pa.float64()), ("reason", pa.string())),
        ]
    )
)
"""Filters that dropped more of a source than usual; `baseline_rate` is the expected drop rate."""

CORPUS = pa.schema(
    [*_TEXT, ("source", pa.string()), ("text_hash", pa.string()), ("weight", pa.float64()), *CONVERSATION]
)
"""A record of the training corpus of one model."""

CONTAMINATION_REPORT = pa.schema(
    [
        ("eval_set", pa.string()),
        ("origin", pa.string()),
        ("num_compared", pa.int64()),
        ("num_overlapping", pa.int64()),
        ("max_jaccard", pa.float64()),
        ("id", pa.string()),
        ("duplicate_of", pa.string()),
        ("shared_run_words", pa.int64()),
    ]
)
"""Overlap of the corpus records of one origin with the held-out set or one eval set: records compared, records that
overlap, the largest Jaccard similarity with the ids of its pair, and the longest shared run of words."""

EVAL_EXPOSURES = pa.schema(
    [
        ("found_in", pa.string()),
        ("run", pa.string()),
        ("generation", pa.int32()),
        ("attempt", pa.int32()),
        ("snapshot", pa.int32()),
        ("id", pa.string()),
        ("origin", pa.string()),
        ("duplicate_of", pa.string()),
        ("similarity", pa.float64()),
        ("shared_run_words", pa.int64()),
    ]
)
"""A record older than an eval set that overlaps it; `found_in` is `human_train`, `candidates` or `corpus`."""

_PAIR = ("prompt", "chosen", "rejected", "chosen_id", "rejected_id", "origin")
_CHAT_PAIR = ("prompt_messages", "chosen_message", "rejected_message", "tools")
PAIRS = pa.schema(
    [*((name, pa.string()) for name in _PAIR), ("margin", pa.float64()), *((name, pa.string()) for name in _CHAT_PAIR)]
)
"""A preference pair: two completions of a prompt, of which the model is trained to prefer `chosen`.

`prompt_messages`, `chosen_message`, `rejected_message` and `tools` are the pair as JSON, if it is of a conversation.
`margin` is the difference of their scores, null if the pair comes from human data."""

EVAL_SAMPLES = pa.schema(
    [
        ("prompt", pa.string()),
        ("text", pa.string()),
        ("seed", pa.int64()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("sum_logprob", pa.float64()),
    ]
)
"""A completion sampled for evaluation. With `evaluate.sizing = "proportional"` it can be a candidate of the next
generation, too; otherwise no model is trained on it."""

SCORES = pa.schema(
    [
        ("subject", pa.string()),
        ("id", pa.string()),
        ("model_generation", pa.int32()),
        ("tokens", pa.int64()),
        ("nll", pa.float64()),
    ]
)
"""Negative log-likelihood in nats of one record of `human_heldout` or of a sample of `candidates`, under the model of
generation `model_generation`."""

METRICS = pa.schema(
    [
        ("subject", pa.string()),
        ("metric", pa.string()),
        ("source", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("sample_size", pa.int64()),
    ]
)
"""A metric of `human`, `candidates`, `corpus` or `model`; `low` and `high` bound its confidence interval if known."""

GATE_RESULTS = pa.schema(
    [
        ("action", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("limit", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("reason", pa.string()),
        ("subject", pa.string()),
        ("first_generation", pa.int32()),
    ]
)
"""Result of the gate for one limit; `first_generation` is the first of the consecutive generations that exceeded it."""

FORECAST = pa.schema([("metric", pa.string()), ("value", pa.float64()), ("low", pa.float64()), ("high", pa.float64())])
"""Forecast of a metric of this generation's model from mixing and sampling alone; `low` and `high` are the extremes of
five simulations."""

COLLAPSE_TESTS = pa.schema(
    [("test", pa.string()), ("result", pa.string()), ("evidence", pa.string()), ("first_generation", pa.int32())]
)
"""Result of one collapse test, with the data up to this generation."""

TRAINING = pa.schema(
    [
        ("step", pa.int32()),
        ("loss", pa.float64()),
        ("learning_rate", pa.float64()),
        ("tokens_per_second", pa.float64()),
        ("heldout_loss", pa.float64()),
    ]
)
"""Log of one training; `heldout_loss` is null at steps without an evaluation."""


def embeddings_schema(dimensions: int) -> pa.Schema:
    """Return the schema of unit-length embeddings of the candidates that semantic filters compared."""
    return pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float16(), dimensions))])


def index_schema(values: int, bands: int) -> pa.Schema:
    """Return the schema of an index of sketches.

    Columns: the two halves of the exact key, the lower 16 bits of `values` signature values, and `bands` band hashes.
    """
    columns = {
        "id": pa.string(),
        "text_hash": pa.string(),
        "source_generation": pa.int32(),
        "high": pa.uint64(),
        "low": pa.uint64(),
    }
    columns["signature"] = pa.binary(2 * values)
    return pa.schema([*columns.items(), *((f"band_{band}", pa.uint64()) for band in range(bands))])
