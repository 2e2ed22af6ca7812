"""Compose file, Kubernetes manifests and alerts: what every container and every rule has."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
MANIFESTS = [
    document
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    if not path.name.endswith(".values.yaml")
    for document in yaml.safe_load_all(path.read_text())
]
PODS = {
    document["metadata"]["name"]: document["spec"]["template"]["spec"]
    for document in MANIFESTS
    if document["kind"] in ("Deployment", "StatefulSet", "Job")
}
RULES = yaml.safe_load((DEPLOY / "observability/rules.yml").read_text())["groups"][0]["rules"]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_container_of_the_compose_file_has_few_rights_and_limits(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["user"].partition(":")[0] not in ("", "0", "root")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["mem_limit"] and service["pids_limit"]
    assert service["logging"]["options"]["max-size"]
    assert "ipc" not in service and "privileged" not in service
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert name == "bootstrap" or service["healthcheck"]["test"]


def test_the_vllm_servers_want_a_key_and_report_nothing() -> None:
    variables = COMPOSE["services"]["vllm"]["environment"]
    assert "VLLM_API_KEY" in variables and variables["VLLM_NO_USAGE_STATS"] == "1"
    assert "VLLM_API_KEY" in COMPOSE["services"]["worker"]["environment"]
    variables = {one["name"]: one for one in PODS["vllm"]["containers"][0]["env"]}
    assert variables["VLLM_API_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "heirloom-vllm"
    assert variables["VLLM_NO_USAGE_STATS"]["value"] == "1"


@pytest.mark.parametrize("name", PODS)
def test_every_pod_meets_the_standard_restricted(name: str) -> None:
    pod = PODS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    assert container["image"] != "heirloom" or container["imagePullPolicy"] == "Always"
    if name != "bootstrap":
        assert "startupProbe" in container and "livenessProbe" in container


def test_the_namespace_enforces_the_standard_and_nothing_enters_a_pod_by_default() -> None:
    (namespace,) = (document for document in MANIFESTS if document["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    policies = {one["metadata"]["name"]: one["spec"] for one in MANIFESTS if one["kind"] == "NetworkPolicy"}
    assert policies["deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    services = {one["metadata"]["name"] for one in MANIFESTS if one["kind"] == "Service"}
    assert services <= set(policies)


def test_private_text_and_secrets_stay_out_of_the_image_and_the_repository() -> None:
    for name in (".dockerignore", ".gitignore"):
        lines = {line.strip("/") for line in (ROOT / name).read_text().splitlines()}
        assert {"inbox", ".env"} <= lines, name


def _metrics(rule: dict[str, Any]) -> Iterator[str]:
    for word in rule["expr"].replace("(", " ").replace("{", " ").replace(")", " ").split():
        if word.startswith("heirloom_"):
            yield word


def test_every_metric_of_a_rule_is_exported(tmp_path: Path) -> None:
    from deploy.exporter import ServerCollector, StoreCollector

    exported = {family.name for family in StoreCollector(tmp_path).collect()}
    source = (DEPLOY / "exporter.py").read_text()
    used = {name for rule in RULES for name in _metrics(rule)}
    assert used and used - exported <= {name for name in used if f'"{name}"' in source}
    assert ServerCollector.__doc__


def test_what_an_engineer_on_call_must_learn_has_a_rule_and_a_receiver() -> None:
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in RULES}
    assert set(severities.values()) == {"page", "ticket"}
    for alert in ("RunFailed", "RunCrashed", "NoGeneration", "StoreFull", "WorkerMissing", "PrefectServerGone"):
        assert severities[alert] == "page"
    routes = yaml.safe_load((DEPLOY / "observability/alertmanager.yml").read_text())
    receivers = {one["name"] for one in routes["receivers"]}
    assert {routes["route"]["receiver"], *(one["receiver"] for one in routes["route"]["routes"])} <= receivers
    assert routes["route"]["routes"][0]["matchers"] == ['severity="page"']
