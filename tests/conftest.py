"""A tiny human corpus, a run in a temporary folder, and Prefect once a session."""

import json
import os
import random
import shutil
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from benchmarks.support.bucket_server import serving
from curation.splitting import IngestSettings
from flows.config.recipe import Recipe
from flows.config.site import Site
from heirloom.commands import GivenStore, remember_store
from storage.artifacts.provenance import provenance
from storage.remote.s3 import Bucket, _client
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect
from tests.support import fast

_NOUNS = (
    "river",
    "garden",
    "letter",
    "winter",
    "village",
    "mountain",
    "harbour",
    "teacher",
    "candle",
    "orchard",
    "lantern",
    "meadow",
)
_VERBS = ("remembers", "follows", "forgets", "carries", "answers", "repairs", "watches", "gathers")
_QUALITIES = ("old", "quiet", "distant", "golden", "narrow", "patient", "broken", "early", "northern", "curious")


def human_texts(count: int, seed: int = 0) -> list[str]:
    """Distinct small texts of a person's making, as far as a test needs one."""
    rng = random.Random(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        sentences = []
        for _ in range(rng.randint(2, 4)):
            first, second = rng.sample(_NOUNS, 2)
            sentences.append(
                f"The {rng.choice(_QUALITIES)} {first} {rng.choice(_VERBS)} the {rng.choice(_QUALITIES)} {second}."
            )
        texts[" ".join(sentences) + f" It was the year {rng.randint(1200, 1999)}."] = None
    return list(texts)


def prefect_free_environment() -> dict[str, str]:
    """This process's environment as it is where no Prefect is set up."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}


@pytest.fixture(scope="session", autouse=True)
def _prefect_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A home for the servers that commands start, so that what this machine's Prefect remembers plays no part."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))


@pytest.fixture(autouse=True)
def _no_given_store() -> None:
    """Suggestions name no store that another test's command line named."""
    remember_store(GivenStore())


@pytest.fixture
def sample_documents(tmp_path: Path) -> Path:
    """A JSONL file of 160 human texts."""
    path = tmp_path / "letters.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in human_texts(160)))
    return path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A store of its own."""
    return Site(store=tmp_path / "store")


@pytest.fixture
def ingested(sample_documents: Path, site: Site) -> Site:
    """A store with the sample documents as dataset `letters`."""
    with without_prefect():
        ingest(site.store, "letters", [str(sample_documents)], IngestSettings())
    return site


TINY = Recipe.model_validate(
    {
        "name": "tiny",
        "dataset": "letters",
        "num_generations": 3,
        "train": {"backend": "ngram"},
        "curate": {"encoder": "hashing"},
        "evaluate": {"num_samples": 20, "showcase_prompt": "The old"},
    }
)
"""Three generations on the n-gram backend."""


@pytest.fixture
def recipe() -> Recipe:
    """`TINY`."""
    return TINY


@pytest.fixture(scope="session")
def finished_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the sample documents and the finished run `tiny`, whose candidates are prompted by human text.

    Not to be changed.
    """
    from flows.evolve import evolve

    folder = tmp_path_factory.mktemp("finished")
    documents = folder / "letters.jsonl"
    documents.write_text("".join(json.dumps({"text": text}) + "\n" for text in human_texts(160)))
    accumulating = Recipe.model_validate(
        {
            "name": "tiny",
            "dataset": "letters",
            "num_generations": 3,
            "prompts": {"template_name": "prefix"},
            "mix": {"policy": "accumulate"},
            "train": {"backend": "ngram"},
            "curate": {"encoder": "hashing"},
            "evaluate": {"num_samples": 20, "showcase_prompt": "The old"},
        }
    )
    with without_prefect():
        ingest(folder / "store", "letters", [str(documents)], IngestSettings())
        evolve(accumulating, Site(store=folder / "store"))
    return folder / "store"


@pytest.fixture
def store(finished_store: Path, tmp_path: Path) -> Path:
    """A copy of the finished store that a test may change."""
    return Path(shutil.copytree(finished_store, tmp_path / "copy"))


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One Prefect server for all flow tests."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield


@pytest.fixture
def prose(tmp_path: Path) -> list[str]:
    """Files of prose: from the folder that HEIRLOOM_TEST_DATA names, or else a stand-in of the same shape."""
    named = os.environ.get("HEIRLOOM_TEST_DATA")
    found = sorted(str(path) for path in Path(named).glob("wikitext2-*.txt")) if named else []
    if found:
        return found
    stand_in = tmp_path / "prose.txt"
    paragraphs = ["\n".join(human_texts(6, seed=seed)) for seed in range(40)]
    stand_in.write_text("\n\n".join(paragraphs))
    return [str(stand_in)]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores, since tests wait for servers now and then; fast tests do not."""
    return (os.cpu_count() or 1) + (not config.getoption("fast"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--fast`: only the tests without torch, server and process; what they do is checked."""
    parser.addoption("--fast", action="store_true", help="run the tests that need no torch, server or process")


def pytest_configure(config: pytest.Config) -> None:
    """Install the guard, after asking git for the commit, which every artifact records."""
    if config.getoption("fast"):
        provenance()
        fast.install()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Guard fixtures and calls of fast tests."""
    if not item.config.getoption("fast"):
        return (yield)
    with fast.guarded():
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that share something share one process of a parallel run, so that it is made once.

    Those with real models share engines, servers and what was trained; those of a file, what is made once a file; and
    those with a flow, Prefect. It goes first, since the hook that deals tests out reads their groups when it is called.
    What a test requests also decides whether it starts processes; `--fast` leaves those tests out.
    """
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
        if item.get_closest_marker("transformer"):
            item.add_marker(pytest.mark.xdist_group("models"))
        elif any(definitions[-1].scope == "module" for definitions in fixtures.values()):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
        elif "prefect_server" in fixtures:
            item.add_marker(pytest.mark.xdist_group("flows"))
        if _STARTING_FIXTURES & set(fixtures):
            item.add_marker(pytest.mark.processes)
    if config.getoption("fast"):
        left_out = [item for item in items if any(map(item.get_closest_marker, _NOT_FAST))]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


_NOT_FAST = ("processes", "slow", "transformer", "gpu")
"""Markers of the tests that `--fast` leaves out."""

_STARTING_FIXTURES = {
    "_s3_server",
    "backends",
    "cluster",
    "environment",
    "finished_store",
    "mounts",
    "outside",
    "prefect_server",
    "served",
    "two",
    "two_heaps",
    "worker",
}
"""Fixtures that start a process or a server.

Whatever requests one of them, at whatever distance, has the marker `processes`.
"""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a fast test that caught the guard's exception, and with HEIRLOOM_SKIP_NOTHING a test that is skipped."""
    report = _unskipped((yield))
    attempts = fast.attempts()
    if report.passed and attempts:
        report.outcome = "failed"
        report.longrepr = "\n".join(attempts)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole file; of fast tests, a file that loads torch is left out."""
    if collector.config.getoption("fast"):
        with fast.guarded(collecting=True):
            return (yield)
    return _unskipped((yield))


_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)


def _unskipped(report: _Report) -> _Report:
    if report.skipped and os.environ.get("HEIRLOOM_SKIP_NOTHING"):
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped here: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture
def s3_address(_s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a real server of the S3 protocol, named in the environment variables that S3 clients read."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "very-secret-key",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": _s3_server,
    }.items():
        monkeypatch.setenv(name, value)
    _client.cache_clear()
    return _s3_server


@pytest.fixture
def bucket_url(s3_address: str) -> str:
    """An empty place in a bucket of its own."""
    url = f"s3://heirloom-{uuid.uuid4().hex[:12]}/stores/tiny"
    Bucket(url).create()
    return url
