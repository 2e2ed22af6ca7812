"""Create the stores that queries are measured on with DuckDB.

Ten generations of 100,000 records, and many small runs.
"""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from storage.artifacts import schemas as records
from storage.artifacts.artifact import Artifact
from storage.datasets.snapshots import human_folder
from storage.runs.run import Attempt, Run

RECORDS, GENERATIONS = 100_000, 10
_STAGES = ("empty", "exact", "decontamination", "human_overlap", "minhash", "semantic", "diversity")
_RECIPE = {
    "description": "what does asking cost?",
    "dataset": "letters",
    "mix": {"policy": "fixed-fraction"},
    "train": {"backend": "ngram"},
    "generate": {"sampler": "ngram"},
    "curate": {"filters": _STAGES},
    "num_generations": GENERATIONS,
    "seed": 0,
}
_TEXT = "repeat(md5(i::varchar) || ' the quick brown fox ', 3 + i % 11) as text"
_HUMAN_ID = "'h-' || left(md5({}::varchar), 16)"
_SMALL = {
    "candidates": records.CANDIDATES,
    "decisions": records.DECISIONS,
    "corpus": records.CORPUS,
    "model": records.TRAINING,
    "metrics": records.METRICS,
    "eval_samples": records.EVAL_SAMPLES,
    "verdict": records.GATE_RESULTS,
}


def build_big(root: Path) -> None:
    """One run of ten generations, with 40,000 human records."""
    for side, first, last in (("human_train", 0, 30_000), ("human_heldout", 30_000, 40_000)):
        _publish(
            Artifact(human_folder(root, "letters", 1) / side, {}),
            records.HUMAN_RECORDS,
            f"""select {_HUMAN_ID.format("i")} as id, {_TEXT}, 'human' as origin, 0 as source_generation,
            'letters.jsonl' as source, '' as split_group, 'CC0-1.0' as license, md5(i::varchar) as text_hash
            from range({first}, {last}) t(i)""",
        )
    run = Run(root, "big")
    run.initialize(_RECIPE, set(), {})
    for generation in range(1, GENERATIONS + 1):
        _live_through(Attempt(run, generation))


def build_many(root: Path) -> None:
    """Ten runs of twenty generations, with nothing in them."""
    for number in range(10):
        run = Run(root, f"run-{number}")
        run.initialize(_RECIPE, set(), {})
        for generation in range(20):
            attempt = Attempt(run, generation)
            run.append("started", generation, 1, snapshot=1)
            for name, schema in _SMALL.items():
                with attempt.artifact(name, {}).draft() as draft:
                    draft.write_part(schema.empty_table())


def _live_through(attempt: Attempt) -> None:
    """One generation: every candidate prompted by a human record, 3 in 100 dropped by each filter, 30 in 100 human."""
    born = attempt.generation
    attempt.run.append("started", born, 1, snapshot=1)
    synthetic = f"printf('g{born:03d}-%07d', i)"
    parent = f"hash(i + {born}) % 30000"
    candidates = _publish(
        attempt.artifact("candidates", {}),
        records.CANDIDATES,
        f"""select {synthetic} as id, {_TEXT}, 'synthetic' as origin, {born} as source_generation,
        [{_HUMAN_ID.format(f"({parent})")}] as parents, 'letters.jsonl' as source,
        md5((i * 11 + {born})::varchar) as text_hash, left(md5(({parent})::varchar), 8) as prompt,
        'prefix' as prompt_template,
        {{'temperature': 1.0, 'top_p': 1.0, 'top_k': 0, 'min_p': 0.0, 'max_tokens': 64}} as parameters,
        'abc' as model_fingerprint, (hash(i) % 1000000007)::bigint as seed, 'stop' as finish_reason, 8 as prompt_tokens,
        (hash(i) % 60)::int as completion_tokens, -random() * 100 as sum_logprob from range({RECORDS}) t(i)""",
        generated_tokens=30 * RECORDS,
    )
    decisions = _publish(attempt.artifact("decisions", {}, candidates=candidates), records.DECISIONS, *_decided(born))
    _publish(
        attempt.artifact("corpus", {}, decisions=decisions),
        records.CORPUS,
        f"""select * from (select {_HUMAN_ID.format("i")} as id, {_TEXT}, 'human' as origin, 0 as source_generation,
        'letters.jsonl' as source, md5(i::varchar) as text_hash, 1.0 as weight
        from range({RECORDS * 3 // 10}) t(i) union all
        select {synthetic}, {_TEXT}, 'synthetic', {born}, 'letters.jsonl', md5((i * 11 + {born})::varchar), 1.0
        from range({RECORDS * 7 // 10}) t(i))""",
        corpus=RECORDS,
        human_fraction=0.3,
    )
    attempt.run.append("accepted", born, 1)


def _decided(born: int) -> Iterator[str]:
    """One query per filter, whose part has dropped records first."""
    for at, stage in enumerate(_STAGES):
        kept = [f"hash(i * 7 + {before} + {born}) % 100 >= 3" for before in range(at + 1)]
        alive = f"where {' and '.join(kept[:-1])}" if at else ""
        yield f"""select printf('g{born:03d}-%07d', i) as id, '{stage}' as filter, kept,
            if(kept, '', 'duplicate') as reason, if(kept, null, other) as duplicate_of,
            if(kept, null, {born}) as duplicate_of_generation, random() as score, random() as estimated_jaccard
            from (select i, {kept[-1]} as kept, printf('g{born:03d}-%07d', hash(i) % {RECORDS}) as other
                  from range({RECORDS}) t(i) {alive}) order by kept, i"""


def _publish(artifact: Artifact, schema: pa.Schema, *questions: str, **facts: object) -> Artifact:
    with artifact.draft() as draft:
        for number, question in enumerate(questions):
            made = duckdb.sql(question).to_arrow_table()
            for lacking in [one for one in schema if one.name not in made.column_names]:
                made = made.append_column(lacking, pa.nulls(made.num_rows, lacking.type))
            draft.write_part(made.select(schema.names).cast(schema), number)
        draft.facts = dict(facts)
    return artifact
