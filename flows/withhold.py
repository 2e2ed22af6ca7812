"""Documents become an evaluation set that is kept out of every prompt and every corpus from then on.

heirloom withhold exam.jsonl --human letters --name exam
"""

from collections.abc import Sequence

from curation.splitting import WithholdSettings
from flows.recipe import Site
from tasks import withhold as tasks
from tasks.coat import story


@story(name="withhold", flow_run_name="{name}")
def withhold(sources: Sequence[str], human: str, name: str, settings: WithholdSettings, site: Site) -> dict[str, int]:
    """Add an evaluation set called `name` to the human text called `human`; returns how many records went where."""
    from storage.artifact import read_manifest

    artifacts = tasks.withhold(site.opened().store, human, name, sources, settings)
    return {side: read_manifest(artifact.folder)["rows"] for side, artifact in artifacts.items()}
