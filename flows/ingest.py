"""Flows that add human text and evaluation sets to a store.

heirloom ingest letters.jsonl --name letters
"""

from collections.abc import Sequence

from curation.splitting import EvalSetSettings, IngestSettings
from flows.config.site import Site
from storage.artifacts.artifact import read_manifest
from storage.datasets.snapshots import human_folder, newest_snapshot
from tasks.ingestion import eval_sets
from tasks.ingestion import ingest as ingestion
from tasks.ingestion.split import SPLITS
from tasks.orchestration.prefect import flow


@flow(name="ingest", flow_run_name="{name}")
def ingest(sources: Sequence[str], name: str, settings: IngestSettings, site: Site) -> dict[str, int]:
    """Add a snapshot to the dataset `name`; return its number of records per split, and of rejected documents."""
    artifacts = ingestion.ingest(site.synced().store, name, sources, settings)
    return {split: read_manifest(artifact.folder)["rows"] for split, artifact in artifacts.items()}


def rejection_reasons(site: Site, name: str) -> dict[str, int]:
    """Return the number of rejected documents of the newest snapshot by reason, the most frequent first."""
    store = site.synced().store
    folder = human_folder(store, name, newest_snapshot(store, name)) / "rejected_documents"
    return dict(read_manifest(folder)["facts"].get("reasons", {}))


def long_texts(site: Site, name: str) -> tuple[int, int]:
    """Return the number of records of the newest snapshot longer than `LONG_TEXT_CHARS`, and the maximum length."""
    store = site.synced().store
    folder = human_folder(store, name, newest_snapshot(store, name))
    facts = [read_manifest(folder / split)["facts"] for split in SPLITS]
    return sum(each.get("long_texts", 0) for each in facts), max(each.get("longest_text", 0) for each in facts)


def equal_shingles(site: Site, name: str) -> int:
    """Return the number of rejected near-duplicates of the newest snapshot with a similarity of 1."""
    store = site.synced().store
    folder = human_folder(store, name, newest_snapshot(store, name)) / "rejected_documents"
    return int(read_manifest(folder)["facts"].get("equal_shingles", 0))


def num_documents(site: Site, name: str) -> int:
    """Return the number of documents that the ingest of the newest snapshot read."""
    store = site.synced().store
    folder = human_folder(store, name, newest_snapshot(store, name)) / "rejected_documents"
    return int(read_manifest(folder)["facts"].get("num_documents", 0))


def conversation_shapes(site: Site, name: str) -> dict[str, int]:
    """Return the number of documents of the newest snapshot's ingest by what their conversations were taken for."""
    store = site.synced().store
    folder = human_folder(store, name, newest_snapshot(store, name)) / "rejected_documents"
    return dict(read_manifest(folder)["facts"].get("shapes", {}))


def unread_columns(site: Site, name: str) -> tuple[dict[str, int], int]:
    """Return the columns that the ingest of the newest snapshot did not read.

    Returns:
        The number of rows by column, for the 50 most frequent ones, and the number of columns.
    """
    store = site.synced().store
    folder = human_folder(store, name, newest_snapshot(store, name)) / "rejected_documents"
    facts = read_manifest(folder)["facts"]
    return dict(facts.get("unread_columns", {})), facts.get("num_unread_columns", 0)


@flow(name="add-eval-set", flow_run_name="{name}")
def add_eval_set(
    sources: Sequence[str], dataset: str, name: str, settings: EvalSetSettings, site: Site
) -> dict[str, int]:
    """Add the evaluation set `name` to a dataset; return its number of records and of rejected documents."""
    artifacts = eval_sets.add_eval_set(site.synced().store, dataset, name, sources, settings)
    return {kind: read_manifest(artifact.folder)["rows"] for kind, artifact in artifacts.items()}
