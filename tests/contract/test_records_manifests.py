"""The collector's manifests fit what collector, guards and operator are made for."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.settings import OperatorSettings
from interlock_audit.settings import read_settings
from interlock_contract.names import GUARD_LABEL, SCRAPE_ALLOWED, SCRAPE_LABEL
from interlock_contract.pod import AUDIT_PORT, AUDIT_TELEMETRY_PORT
from tests.requirements import requirement

BASE = Path(__file__).parents[2] / "manifests" / "base"


def found(file: str, kind: str) -> Any:
    documents = yaml.safe_load_all((BASE / file).read_text(encoding="utf-8"))
    return next(one for one in documents if one["kind"] == kind)


DEPLOYMENT = found("audit.yaml", "Deployment")
POD = DEPLOYMENT["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
ENVIRONMENT = {one["name"]: one["value"] for one in CONTAINER["env"]}
SCRAPERS = {"namespaceSelector": {"matchLabels": {SCRAPE_LABEL: SCRAPE_ALLOWED}}}
IN_A_POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def test_the_operator_sends_guards_to_the_collectors_service() -> None:
    container = found("operator.yaml", "Deployment")["spec"]["template"]["spec"]["containers"][0]
    url = next(one["value"] for one in container["env"] if one["name"] == "INTERLOCK_AUDIT_URL")
    service = found("audit.yaml", "Service")

    assert OperatorSettings(audit_url=url).audit_url == url
    assert url == f"http://{service['metadata']['name']}.{service['metadata']['namespace']}.svc:{AUDIT_PORT}"
    assert service["spec"]["ports"] == [{"name": "audit", "port": AUDIT_PORT, "targetPort": "audit"}]
    assert service["spec"]["selector"] == DEPLOYMENT["spec"]["selector"]["matchLabels"]


def test_the_collector_listens_where_the_manifests_say_and_keeps_its_file_on_its_volume() -> None:
    settings = read_settings({**IN_A_POD, **ENVIRONMENT})
    ports = {one["name"]: one["containerPort"] for one in CONTAINER["ports"]}
    mounts = {one["name"]: one["mountPath"] for one in CONTAINER["volumeMounts"]}

    assert ports == {"audit": AUDIT_PORT, "telemetry": AUDIT_TELEMETRY_PORT}
    assert mounts["audit"] == str(settings.sqlite.parent)
    assert settings.keep_days == read_settings(IN_A_POD).keep_days


@requirement("listeners.scraped-by-permission")
@pytest.mark.parametrize("file", ["operator.yaml", "kill.yaml", "audit.yaml"])
def test_only_namespaces_that_may_scrape_reach_the_port_of_metrics(file: str) -> None:
    rules = [one for one in found(file, "NetworkPolicy")["spec"]["ingress"] if {"port": "telemetry"} in one["ports"]]

    assert rules == [{"from": [SCRAPERS], "ports": [{"port": "telemetry"}]}]


def test_one_collector_at_a_time_writes_to_the_volume() -> None:
    assert DEPLOYMENT["spec"]["replicas"] == 1
    assert DEPLOYMENT["spec"]["strategy"] == {"type": "Recreate"}


def test_only_guards_pods_reach_the_records_port() -> None:
    policy = found("audit.yaml", "NetworkPolicy")["spec"]
    guards = {"matchExpressions": [{"key": GUARD_LABEL, "operator": "Exists"}]}

    assert policy["podSelector"]["matchLabels"] == DEPLOYMENT["spec"]["selector"]["matchLabels"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["ingress"] == [
        {"from": [{"namespaceSelector": {}, "podSelector": guards}], "ports": [{"port": "audit"}]},
        {"from": [SCRAPERS], "ports": [{"port": "telemetry"}]},
    ]
