"""One corpus as a folder that others open: its records, a card that says what they are, and Croissant metadata.

The folder is absent or finished, as everything in the store is.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pyarrow as pa

from heirloom.errors import HeirloomError
from storage.artifacts.parquet_io import write_parquet
from storage.export.croissant import croissant
from storage.export.dataset_card import ExportedCorpus, dataset_card
from storage.files import atomic_folder
from storage.query.catalog import open_catalog
from storage.runs.run import Run

if TYPE_CHECKING:
    import duckdb

ExportFormat = Literal["hf", "jsonl", "parquet"]

_CORPUS = """select id, text, origin, source_generation, source, coalesce(license, '') as license, text_hash, weight from corpus
    left join (select id, any_value(license) as license from (from human_train union all by name from human_heldout) group by id) using (id)
    where run = $run and generation = $generation order by origin, id"""


def export_corpus(root: Path, run: str, generation: int | None, export_format: str, out: Path | None) -> Path:
    """Write the corpus of a generation, or of the newest that has one, to a folder of its own; returns the folder.

    Raises:
        HeirloomError: no such run, generation or kind, or the folder is there already.
    """
    if export_format not in get_args(ExportFormat):
        raise HeirloomError(
            f"there is no kind {export_format!r} to export to; kinds: {', '.join(get_args(ExportFormat))}"
        )
    recipe = Run(root, run).recipe()
    catalog = open_catalog(root, [run])
    generation = _chosen(catalog, run, generation)
    folder = out or Path(f"{run}-generation-{generation}-{export_format}")
    with atomic_folder(folder) as hidden:
        told = _records(catalog, hidden, folder.name, run, generation, export_format, recipe)
        (hidden / "README.md").write_text(dataset_card(told), encoding="utf-8")
        (hidden / "croissant.json").write_text(json.dumps(croissant(told), indent=1, ensure_ascii=False) + "\n")
    return folder


def _chosen(catalog: "duckdb.DuckDBPyConnection", run: str, generation: int | None) -> int:
    there = [number for (number,) in catalog.execute("select distinct generation from corpus order by 1").fetchall()]
    if not there:
        raise HeirloomError(f"run {run} has no corpus yet; go on with it first")
    if generation is None:
        return int(there[-1])
    if generation not in there:
        raise HeirloomError(f"run {run} has no corpus in generation {generation}; generations: {_range(there)}")
    return generation


def _range(numbers: list[int]) -> str:
    return f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])


def _records(
    catalog: "duckdb.DuckDBPyConnection",
    folder: Path,
    name: str,
    run: str,
    generation: int,
    kind: str,
    recipe: dict[str, Any],
) -> ExportedCorpus:
    where = {"run": run, "generation": generation}
    table = catalog.sql(_CORPUS, params=where).to_arrow_table()
    file = _FILES[kind]
    (folder / file).parent.mkdir(exist_ok=True)
    _WRITERS[Path(file).suffix](table, folder / file)
    with (folder / file).open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()

    def asked(question: str) -> list[Any]:
        return catalog.execute(
            f"{question} where run = $run and generation = $generation order by all", where
        ).fetchall()

    facts = catalog.sql("select * from generations where run = $run and generation = $generation", params=where)
    return ExportedCorpus(
        name=name,
        run=run,
        generation=generation,
        recipe=recipe,
        file=file,
        bytes=(folder / file).stat().st_size,
        sha256=sha256,
        columns=[(field.name, str(field.type)) for field in table.schema],
        counts=[tuple(row.values()) for row in _counted(table)],  # type: ignore[misc]
        facts=facts.to_arrow_table().to_pylist()[0],
        metrics=asked("select subject, metric, value from (from metrics where source = 'all')"),
        lineage=asked("select artifact, fingerprint, parent, parent_fingerprint from lineage"),
    )


def _counted(table: pa.Table) -> list[dict[str, Any]]:
    keys = ["origin", "source", "license"]
    return table.group_by(keys).aggregate([("id", "count")]).sort_by([(key, "ascending") for key in keys]).to_pylist()


def _write_jsonl(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as lines:
        for batch in table.to_batches():
            lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())


_FILES = {"hf": "data/train-00000-of-00001.parquet", "parquet": "corpus.parquet", "jsonl": "corpus.jsonl"}
_WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {".parquet": write_parquet, ".jsonl": _write_jsonl}
