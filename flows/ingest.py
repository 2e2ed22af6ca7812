"""Documents become the human reserve and the held-out set.

heirloom ingest letters.jsonl --name letters
"""

from collections.abc import Sequence

from curation.splitting import IngestSettings
from flows.recipe import Site
from tasks import ingest as tasks
from tasks.coat import story


@story(name="ingest", flow_run_name="{name}")
def ingest(sources: Sequence[str], name: str, settings: IngestSettings, site: Site) -> dict[str, int]:
    """Add a snapshot of human text called `name`; returns how many records went where."""
    from storage.artifact import read_manifest

    artifacts = tasks.ingest(site.opened().store, name, sources, settings)
    return {side: read_manifest(artifact.folder)["rows"] for side, artifact in artifacts.items()}
