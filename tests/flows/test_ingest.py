"""The flow that takes human text in."""

from pathlib import Path

from curation.splitting import IngestSettings
from flows.config.site import Site
from flows.ingest import ingest
from tasks.orchestration.prefect import without_prefect


def test_the_flow_returns_the_number_of_records_in_each_set(sample_documents: Path, site: Site) -> None:
    with without_prefect():
        counts = ingest([str(sample_documents)], "letters", IngestSettings(), site)
    assert counts["human_train"] + counts["human_heldout"] + counts["rejected_documents"] == 160
    assert counts["human_heldout"] >= 5


def test_the_flow_is_a_prefect_run(sample_documents: Path, site: Site, prefect_server: None) -> None:
    from prefect.client.orchestration import get_client

    ingest([str(sample_documents)], "by-prefect", IngestSettings(), site)
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
    assert ("by-prefect", "Completed") in {(run.name, run.state_name) for run in runs}


def test_real_prose_comes_in_where_it_is_at_hand(site: Site, prose: list[str]) -> None:
    settings = IngestSettings(passage_length_chars=(80, 400), split_by="record")
    with without_prefect():
        counts = ingest(prose, "prose", settings, site)
    assert counts["human_train"] > 50
    assert counts["human_heldout"] > 5
