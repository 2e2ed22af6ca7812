"""Metrics of flow runs, workers and the store for Prometheus: `python -m deploy.exporter`.

observability/rules.yml has the alerts on them. Each scrape reads everything again, from the Prefect server at
PREFECT_API_URL and from the store.
"""

import argparse
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, WorkerStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectException
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from storage.runs.run import runs

_PORT = 9469
_WORK_POOL = "heirloom"
_MAX_RUNS = 200
"""Flow runs that are looked at: as many as a server returns at once, the newest first."""


class StoreCollector(Collector):
    """Free space of a store, and the time of the newest accepted generation of each run."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics, without values while the store does not exist."""
        free = GaugeMetricFamily("heirloom_store_free_bytes", "Free space where the store is.")
        size = GaugeMetricFamily("heirloom_store_size_bytes", "Size of the file system of the store.")
        accepted = GaugeMetricFamily(
            "heirloom_run_accepted_timestamp_seconds", "Time of the newest accepted generation.", labels=["run"]
        )
        if self._store.exists():
            usage = shutil.disk_usage(self._store)
            free.add_metric([], usage.free)
            size.add_metric([], usage.total)
            for run in runs(self._store):
                if times := [entry["time"] for entry in run.journal() if entry["event"] == "accepted"]:
                    accepted.add_metric([run.name], max(times))
        yield from (free, size, accepted)


class ServerCollector(Collector):
    """The newest flow run of each name, workers that are online, and active schedules."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics; `heirloom_server_up` alone if the server does not answer."""
        up = GaugeMetricFamily("heirloom_server_up", "1 if the Prefect server answers.")
        last = GaugeMetricFamily(
            "heirloom_last_flow_run_starts",
            "How often the newest flow run of a deployment was started, by its name and its state.",
            labels=["flow_run", "state"],
        )
        online = GaugeMetricFamily("heirloom_workers_online", "Workers of the work pool with a recent heartbeat.")
        schedules = GaugeMetricFamily("heirloom_active_schedules", "Active schedules of all deployments.")
        try:
            with get_client(sync_client=True) as client:
                for flow_run in _newest_by_name(client):
                    last.add_metric([flow_run.name, flow_run.state_name or ""], flow_run.run_count)
                online.add_metric([], _online_workers(client))
                active = [item for each in client.read_deployments() for item in each.schedules if item.active]
                schedules.add_metric([], len(active))
        except (httpx.HTTPError, PrefectException):
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield from (up, last, online, schedules)


def _newest_by_name(client: SyncPrefectClient) -> list[FlowRun]:
    """Return the newest flow run that was due, of each name. Flow runs of deployments are named after their run."""
    flow_runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(is_null_=False), tags=FlowRunFilterTags(all_=["heirloom"])
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=_MAX_RUNS,
    )
    due = [flow_run for flow_run in flow_runs if flow_run.state_name != "Scheduled"]
    return list({flow_run.name: flow_run for flow_run in reversed(due)}.values())


def _online_workers(client: SyncPrefectClient) -> int:
    try:
        workers = client.read_workers_for_work_pool(_WORK_POOL)
    except ObjectNotFound:
        return 0
    return sum(worker.status == WorkerStatus.ONLINE for worker in workers)


def serve(store: Path, host: str, port: int) -> int:
    """Serve the metrics from a thread of this process; return the port.

    Args:
        store: folder of the store.
        host: address to listen on.
        port: port to listen on; 0 for a free one.
    """
    registry = CollectorRegistry()
    registry.register(StoreCollector(store))
    registry.register(ServerCollector())
    server, _ = start_http_server(port, host, registry)
    return server.server_port


def main() -> None:
    """Serve the metrics until the process ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("heirloom-store"), help="folder of the store")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=_PORT, help="port to listen on")
    arguments = parser.parse_args()
    serve(arguments.store, arguments.host, arguments.port)
    threading.Event().wait()


if __name__ == "__main__":
    main()
