"""The row types: what a record, a decision, a metric and a verdict look like on disk.

A column is added and documented, never reused for another meaning.
"""

import pyarrow as pa

HUMAN, SYNTHETIC = "human", "synthetic"

_TEXT = [("id", pa.string()), ("text", pa.string()), ("origin", pa.string()), ("born", pa.int32())]

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
"""The turns of a conversation."""

RESERVE = pa.schema(
    [
        *_TEXT,
        ("source", pa.string()),
        ("group", pa.string()),
        ("licence", pa.string()),
        ("digest", pa.string()),
        ("document", pa.string()),
        ("messages", MESSAGES),
    ]
)
"""A human record, in the reserve or held out; `document` is its id where it came from, `messages` the conversation it renders."""

TOPICS = pa.schema(
    [
        ("topic", pa.int32()),
        ("words", pa.list_(pa.string())),
        ("human", pa.int64()),
        ("said", pa.int64()),
        ("share", pa.float64()),
        ("members", pa.list_(pa.string())),
    ]
)
"""The tail report that steers a generation: how many human records and how many survivors of the generation before are about a
topic, and its share of the prompts; `words` are said there more than elsewhere, `members` are its human records."""

SET_ASIDE = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("place", pa.int64()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("keeper", pa.string()),
        ("evidence", pa.float64()),
        ("document", pa.string()),
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
        ("digest", pa.string()),
        ("prompt", pa.string()),
        ("program", pa.string()),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("parameters", _PARAMETERS),
        ("model", pa.string()),
        ("teacher", pa.string()),
        ("asking", pa.int32()),
        ("seed", pa.int64()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("log_probability", pa.float64()),
    ]
)
"""A synthetic record before curation.

`log_probability` in nats under the model at temperature 1, null where a server does not say; `model` is the fingerprint of
the model that spoke, or what a server says its teacher is; `teacher` the name by which the recipe asked for it, null where it
was the generation's own; `asking` the number of the prompt, the same for all answers to it; `finish_reason` is `length` where the text was cut, `invalid`
where it breaks the schema it was asked for."""

DECISIONS = pa.schema(
    [
        ("id", pa.string()),
        ("stage", pa.string()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
        ("keeper", pa.string()),
        ("keeper_generation", pa.int32()),
        ("evidence", pa.float64()),
        ("estimate", pa.float64()),
    ]
)
"""One stage's word on one record: the number it acted on is `evidence`, the sketch's estimate `estimate`."""

HEAVY_TOLLS = pa.list_(
    pa.struct(
        [
            *(("source", pa.string()), ("stage", pa.string()), ("dropped", pa.int64()), ("looked_at", pa.int64())),
            *(("usual", pa.float64()), ("reason", pa.string())),
        ]
    )
)
"""Sieves that dropped more of a source than usual; `usual` is the share that was to be expected."""

CORPUS = pa.schema([*_TEXT, ("source", pa.string()), ("digest", pa.string()), ("weight", pa.float64())])
"""A record that one model is trained on."""

CONTAMINATION = pa.schema(
    [
        ("withheld", pa.string()),
        ("origin", pa.string()),
        ("compared", pa.int64()),
        ("overlapping", pa.int64()),
        ("similarity", pa.float64()),
        ("id", pa.string()),
        ("keeper", pa.string()),
        ("shared_words", pa.int64()),
    ]
)
"""What the corpus records of one origin share with the held-out set or one evaluation set: how many were compared
with all of it, how many overlap, the largest Jaccard similarity and whose it is, the longest run of words quoted."""

MET = pa.schema(
    [
        ("place", pa.string()),
        ("run", pa.string()),
        ("generation", pa.int32()),
        ("attempt", pa.int32()),
        ("snapshot", pa.int32()),
        ("id", pa.string()),
        ("origin", pa.string()),
        ("keeper", pa.string()),
        ("similarity", pa.float64()),
        ("shared_words", pa.int64()),
    ]
)
"""A record that overlaps an evaluation set it did not know of; `place` is `reserve`, `candidates` or `corpus`."""

_PAIR = ("prompt", "chosen", "rejected", "chosen_id", "rejected_id", "origin")
PAIRS = pa.schema([*((name, pa.string()) for name in _PAIR), ("margin", pa.float64())])
"""Two answers to a prompt, of which a model learned to prefer the first; one record where a person wrote both.

`margin` is how far apart they are in what they were chosen by, null where a person chose."""

VOICE = pa.schema([("prompt", pa.string()), ("text", pa.string()), ("seed", pa.int64())])
"""What a model says when it is measured; never trained on."""

SCORES = pa.schema(
    [
        ("subject", pa.string()),
        ("id", pa.string()),
        ("by", pa.int32()),
        ("tokens", pa.int64()),
        ("nats", pa.float64()),
    ]
)
"""Negative log-likelihood of one record of `heldout` or of a sample of `candidates`, under the model of generation `by`."""

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

VERDICTS = pa.schema(
    [
        ("action", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("limit", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("reason", pa.string()),
        ("subject", pa.string()),
        ("since", pa.int32()),
    ]
)
"""What the gate said about one limit; `since` is the first generation of those in a row that broke it."""

FORECAST = pa.schema([("metric", pa.string()), ("value", pa.float64()), ("low", pa.float64()), ("high", pa.float64())])
"""What was to be expected of a metric of this generation's model, by mixing and sampling alone; the least and most of five courses."""

PROFILE = pa.schema(
    [("definition", pa.string()), ("state", pa.string()), ("evidence", pa.string()), ("since", pa.int32())]
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


def embeddings(dimensions: int) -> pa.Schema:
    """Vectors of length 1, of the candidates that the sieves of meaning looked at."""
    return pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float16(), dimensions))])


def index(values: int, bands: int) -> pa.Schema:
    """Sketches of records that stay: halves of the exact key, lower 16 bits of `values` signature values, `bands` band hashes."""
    columns = {"id": pa.string(), "digest": pa.string(), "born": pa.int32(), "high": pa.uint64(), "low": pa.uint64()}
    columns["signature"] = pa.binary(2 * values)
    return pa.schema([*columns.items(), *((f"band_{band}", pa.uint64()) for band in range(bands))])
