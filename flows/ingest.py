"""Documents become the human reserve and the held-out set.

heirloom ingest letters.jsonl --name letters
"""

from collections.abc import Sequence

from curation.splitting import EvalSetSettings, IngestSettings
from flows.config.site import Site
from storage.artifacts.artifact import read_manifest
from storage.datasets.snapshots import human_folder, newest_snapshot
from tasks.ingestion import eval_sets
from tasks.ingestion import ingest as ingestion
from tasks.orchestration.prefect import flow


@flow(name="ingest", flow_run_name="{name}")
def ingest(sources: Sequence[str], name: str, settings: IngestSettings, site: Site) -> dict[str, int]:
    """Add a snapshot of human text called `name`; returns how many records went where."""
    artifacts = ingestion.ingest(site.synced().store, name, sources, settings)
    return {side: read_manifest(artifact.folder)["rows"] for side, artifact in artifacts.items()}


def reasons(site: Site, name: str) -> dict[str, int]:
    """Why documents of the newest snapshot were set aside, and how many for each reason, the commonest first."""
    store = site.synced().store
    folder = human_folder(store, name, newest_snapshot(store, name)) / "rejected_documents"
    return dict(read_manifest(folder)["facts"].get("reasons", {}))


@flow(name="add-eval-set", flow_run_name="{name}")
def add_eval_set(
    sources: Sequence[str], dataset: str, name: str, settings: EvalSetSettings, site: Site
) -> dict[str, int]:
    """Add an evaluation set called `name` to the human text called `human`; returns how many records went where."""
    artifacts = eval_sets.add_eval_set(site.synced().store, dataset, name, sources, settings)
    return {side: read_manifest(artifact.folder)["rows"] for side, artifact in artifacts.items()}
