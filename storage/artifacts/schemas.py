"""The row types: what a record, a decision, a metric and a verdict look like on disk.

A column is added and documented, never reused for another meaning.
"""

import pyarrow as pa

HUMAN, SYNTHETIC = "human", "synthetic"

_TEXT = [("id", pa.string()), ("text", pa.string()), ("origin", pa.string()), ("source_generation", pa.int32())]

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
"""The turns of a conversation."""

HUMAN_RECORDS = pa.schema(
    [
        *_TEXT,
        ("source", pa.string()),
        ("split_group", pa.string()),
        ("license", pa.string()),
        ("text_hash", pa.string()),
        ("document_id", pa.string()),
        ("messages", MESSAGES),
    ]
)
"""A human record, in the reserve or held out; `document_id` is its id where it came from, `messages` the conversation it renders."""

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
"""The tail report that steers a generation: how many human records and how many survivors of the generation before are about a
topic, and its share of the prompts; `words` are said there more than elsewhere, `human_ids` are its human records."""

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
"""A document that ingest did not take in, with the stage and the reason."""

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
    ]
)
"""A synthetic record before curation.

`sum_logprob` in nats under the model at temperature 1, null where a server does not say; `model_fingerprint` is the fingerprint of
the model that spoke, or what a server says its teacher is; `teacher` the name by which the recipe asked for it, null where it
was the generation's own; `prompt_id` the number of the prompt, the same for all answers to it; `finish_reason` is `length` where the text was cut, `invalid_json`
where it breaks the schema it was asked for."""

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
"""One stage's word on one record: the number it acted on is `score`, the sketch's estimate `estimated_jaccard`."""

FILTER_RATE_ALERTS = pa.list_(
    pa.struct(
        [
            *(("source", pa.string()), ("filter", pa.string()), ("dropped", pa.int64()), ("num_seen", pa.int64())),
            *(("baseline_rate", pa.float64()), ("reason", pa.string())),
        ]
    )
)
"""Sieves that dropped more of a source than usual; `baseline_rate` is the share that was to be expected."""

CORPUS = pa.schema([*_TEXT, ("source", pa.string()), ("text_hash", pa.string()), ("weight", pa.float64())])
"""A record that one model is trained on."""

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
"""What the corpus records of one origin share with the held-out set or one evaluation set: how many were compared
with all of it, how many overlap, the largest Jaccard similarity and whose it is, the longest run of words quoted."""

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
"""A record that overlaps an evaluation set it did not know of; `found_in` is `human_train`, `candidates` or `corpus`."""

_PAIR = ("prompt", "chosen", "rejected", "chosen_id", "rejected_id", "origin")
PAIRS = pa.schema([*((name, pa.string()) for name in _PAIR), ("margin", pa.float64())])
"""Two answers to a prompt, of which a model learned to prefer the first; one record where a person wrote both.

`margin` is how far apart they are in what they were chosen by, null where a person chose."""

EVAL_SAMPLES = pa.schema([("prompt", pa.string()), ("text", pa.string()), ("seed", pa.int64())])
"""What a model says when it is measured; never trained on."""

SCORES = pa.schema(
    [
        ("subject", pa.string()),
        ("id", pa.string()),
        ("model_generation", pa.int32()),
        ("tokens", pa.int64()),
        ("nll", pa.float64()),
    ]
)
"""Negative log-likelihood of one record of `human_heldout` or of a sample of `candidates`, under the model of generation `model_generation`."""

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
"""A named number about `human`, `candidates`, `corpus` or `model`; `low` and `high` bound it where known."""

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
"""What the gate said about one limit; `first_generation` is the first generation of those in a row that broke it."""

FORECAST = pa.schema([("metric", pa.string()), ("value", pa.float64()), ("low", pa.float64()), ("high", pa.float64())])
"""What was to be expected of a metric of this generation's model, by mixing and sampling alone; the least and most of five courses."""

COLLAPSE_TESTS = pa.schema(
    [("test", pa.string()), ("result", pa.string()), ("evidence", pa.string()), ("first_generation", pa.int32())]
)
"""Whether there is collapse by one meaning of the word, as far as this generation tells."""

TRAINING = pa.schema(
    [
        ("step", pa.int32()),
        ("loss", pa.float64()),
        ("learning_rate", pa.float64()),
        ("tokens_per_second", pa.float64()),
        ("heldout_loss", pa.float64()),
    ]
)
"""The log of one training; `heldout_loss` where it was measured, `tokens_per_second` of the machine it was made on."""


def embeddings_schema(dimensions: int) -> pa.Schema:
    """Vectors of length 1, of the candidates that the sieves of meaning looked at."""
    return pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float16(), dimensions))])


def index_schema(values: int, bands: int) -> pa.Schema:
    """Sketches of records that stay: halves of the exact key, lower 16 bits of `values` signature values, `bands` band hashes."""
    columns = {
        "id": pa.string(),
        "text_hash": pa.string(),
        "source_generation": pa.int32(),
        "high": pa.uint64(),
        "low": pa.uint64(),
    }
    columns["signature"] = pa.binary(2 * values)
    return pa.schema([*columns.items(), *((f"band_{band}", pa.uint64()) for band in range(bands))])
