"""Export one corpus as a folder: its records, a dataset card, and Croissant metadata.

The folder appears complete or not at all.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import pyarrow as pa

from heirloom.commands import suggest
from heirloom.errors import HeirloomError, did_you_mean
from storage.artifacts.parquet_io import write_parquet
from storage.export.conversations import from_json_columns, with_conversations
from storage.export.croissant import croissant
from storage.export.dataset_card import ExportedCorpus, dataset_card
from storage.files import atomic_folder, sha256_of
from storage.query.catalog import open_catalog
from storage.runs.run import Run

if TYPE_CHECKING:
    import duckdb

ExportFormat = Literal["hf", "jsonl", "parquet"]

_CORPUS = """select id, text, origin, source_generation, source, coalesce(license, '') as license, text_hash, weight,
    messages, tools
    from corpus left join (
        select id, any_value(license) as license
        from (from human_train union all by name from human_heldout) group by id
    ) using (id)
    where run = $run and generation = $generation order by origin, id"""
_FACTS = "select * from generations where run = $run and generation = $generation"
_METRICS = """select subject, metric, value from metrics
    where source = 'all' and run = $run and generation = $generation order by all"""
_LINEAGE = """select artifact, fingerprint, parent, parent_fingerprint from lineage
    where run = $run and generation = $generation order by all"""


def export_corpus(root: Path, run_name: str, generation: int | None, export_format: str, out: Path | None) -> Path:
    """Write the corpus of a generation, or of the newest one with a corpus, to a new folder; returns the folder.

    Raises:
        HeirloomError: there is no such run, generation or format, or the folder exists already.
    """
    if export_format not in get_args(ExportFormat):
        formats = get_args(ExportFormat)
        raise HeirloomError(
            f"Unknown export format {export_format!r}.{did_you_mean(export_format, formats)} Formats: "
            f"{', '.join(formats)}"
        )
    run = Run(root, run_name)
    # First, since it names the existing runs if there is no such run.
    run.recipe()
    catalog = open_catalog(root, [run_name])
    generation = _select_generation(catalog, run_name, generation)
    folder = out or Path(f"{run_name}-generation-{generation}-{export_format}")
    file = _FILES[export_format]
    with atomic_folder(folder) as hidden:
        arguments = {"run": run_name, "generation": generation}
        table = with_conversations(catalog.sql(_CORPUS, params=arguments).to_arrow_table())
        (hidden / file).parent.mkdir(exist_ok=True)
        _WRITERS[Path(file).suffix](table, hidden / file)
        corpus = ExportedCorpus(
            name=folder.name,
            run=run_name,
            generation=generation,
            recipe=run.recipe(),
            file=file,
            bytes=(hidden / file).stat().st_size,
            sha256=sha256_of(hidden / file),
            columns=[(field.name, str(field.type)) for field in table.schema],
            counts=_count_by_source(table),
            facts=catalog.sql(_FACTS, params=arguments).to_arrow_table().to_pylist()[0],
            metrics=catalog.execute(_METRICS, arguments).fetchall(),
            lineage=catalog.execute(_LINEAGE, arguments).fetchall(),
        )
        (hidden / "README.md").write_text(dataset_card(corpus), encoding="utf-8")
        (hidden / "croissant.json").write_text(json.dumps(croissant(corpus), indent=1, ensure_ascii=False) + "\n")
    return folder


def _select_generation(catalog: "duckdb.DuckDBPyConnection", run: str, generation: int | None) -> int:
    rows = catalog.execute("select distinct generation from corpus order by 1").fetchall()
    available = [int(number) for (number,) in rows]
    if not available:
        raise HeirloomError(f"Run {run} has no corpus yet. To continue it: {suggest('run', run)}")
    if generation is None:
        return available[-1]
    if generation not in available:
        listed = f"{available[0]} to {available[-1]}" if len(available) > 1 else str(available[0])
        raise HeirloomError(f"Run {run} has no corpus in generation {generation}. Generations: {listed}")
    return generation


def _count_by_source(table: pa.Table) -> list[tuple[str, str, str, int]]:
    keys = ["origin", "source", "license"]
    counts = table.group_by(keys).aggregate([("id", "count")]).sort_by([(key, "ascending") for key in keys])
    return [(row["origin"], row["source"], row["license"], row["id_count"]) for row in counts.to_pylist()]


def _write_jsonl(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as lines:
        for batch in table.to_batches():
            lines.writelines(json.dumps(from_json_columns(row), ensure_ascii=False) + "\n" for row in batch.to_pylist())


_FILES = {"hf": "data/train-00000-of-00001.parquet", "parquet": "corpus.parquet", "jsonl": "corpus.jsonl"}
_WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {".parquet": write_parquet, ".jsonl": _write_jsonl}
