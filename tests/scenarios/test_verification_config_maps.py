"""A stdio server that refers to ConfigMaps is verified with copies of them, and again once they change."""

from dataclasses import replace
from typing import Any

import pytest

from interlock.api.status import ConditionType
from interlock.deployment.config_maps import ConfigMapContent, LiveConfigMap
from interlock.deployment.names import Manifest
from interlock.reconcile.agent import reconcile
from interlock_contract.names import COPY_OF
from tests.requirements import requirement
from tests.scenarios.test_verification import Bench
from tests.support.builders import NOW, a_binding, a_snapshot

ENV = [{"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "level"}}}]


def data(**values: str) -> LiveConfigMap:
    return LiveConfigMap(ConfigMapContent(data=values))


def a_bench(found: LiveConfigMap | None) -> Bench:
    return Bench(a_binding().with_server(env=ENV).unverified(), config_maps={"settings": found})


def of_kind(bench: Bench, kind: str) -> list[Manifest]:
    return [child.manifest for key, child in bench.children.items() if key.kind == kind]


def copies(bench: Bench) -> list[Manifest]:
    return [one for one in of_kind(bench, "ConfigMap") if COPY_OF in one["metadata"].get("annotations", {})]


def variable(bench: Bench) -> dict[str, Any]:
    """Return the variable of the server in the pod of the run."""
    (job,) = of_kind(bench, "Job")
    server = next(one for one in job["spec"]["template"]["spec"]["initContainers"] if one["name"] == "mcp-crm")
    found: dict[str, Any] = server["env"][0]["valueFrom"]["configMapKeyRef"]
    return found


@requirement("config-maps.copies")
def test_a_run_has_copies_of_its_own_that_go_with_it() -> None:
    bench = a_bench(data(level="info", other="x"))
    bench.verify()
    (copy,) = copies(bench)
    assert (copy["immutable"], copy["data"]) == (True, {"level": "info"})
    assert variable(bench) == {"name": copy["metadata"]["name"], "key": "level"}
    bench.finish()
    bench.verify()
    assert copies(bench) == []
    assert bench.condition("Verified").status == "True"


def test_an_edited_key_starts_a_run_and_another_key_does_not() -> None:
    bench = a_bench(data(level="info")).verified()
    number = bench.known.run.number
    bench.config_maps = {"settings": data(level="info", other="new")}
    bench.verify()
    assert bench.known.run.number == number
    bench.config_maps = {"settings": data(level="debug")}
    bench.verify()
    assert bench.known.run.number == number + 1
    assert bench.condition("Verified").reason == "Verifying"
    assert [one["data"] for one in copies(bench)] == [{"level": "debug"}]


@requirement("config-maps.missing", "config-maps.refused")
@pytest.mark.parametrize(
    ("found", "reason"),
    [(None, "ConfigMapMissing"), (LiveConfigMap(refusal="belongs to Interlock"), "ConfigMapRefused")],
)
def test_no_pod_starts_without_its_config_map(found: LiveConfigMap | None, reason: str) -> None:
    bench = a_bench(found)
    bench.verify()
    assert of_kind(bench, "Job") == []
    condition = bench.condition("Verified")
    assert (condition.status, condition.reason) == ("False", reason)
    assert "ConfigMap settings, to which MCPBinding crm: spec.server.stdio.env[LEVEL] refers" in condition.message
    bench.config_maps = {"settings": data(level="info")}
    bench.verify()
    assert len(of_kind(bench, "Job")) == 1
    bench.finish()
    assert bench.condition("Verified").status == "True"


def test_no_pod_starts_before_its_config_map_was_read() -> None:
    bench = a_bench(None)
    bench.config_maps = {}
    bench.verify()
    assert of_kind(bench, "Job") == []


@requirement("revision.config-maps")
def test_a_revision_begins_once_its_server_was_verified_with_the_same_content() -> None:
    bench = a_bench(data(level="info")).verified()
    snapshot = replace(a_snapshot().with_bindings(bench.builder), config_maps=bench.config_maps)
    (revision,) = reconcile(snapshot.build(), NOW).new_revisions
    assert revision["data"]["configMaps"]["settings"]["data"] == {"level": "info"}

    edited = replace(snapshot, config_maps={"settings": data(level="debug")})
    result = reconcile(edited.build(), NOW)
    assert result.new_revisions == ()
    progressing = next(one for one in result.status.conditions if one.type == ConditionType.PROGRESSING)
    assert "MCPBinding crm is being verified" in progressing.message
