"""ConfigMaps in an agent's revision: an edited one goes through the stages, and a missing one ends nothing."""

from dataclasses import replace
from typing import Any

import pytest

from interlock.api.status import ConditionType
from interlock.deployment.config_maps import ConfigMapContent, LiveConfigMap
from interlock.deployment.names import ChildKey, Manifest
from interlock.deployment.plan import LiveChild
from interlock_contract.bundle import BUNDLE_KEY
from interlock_contract.names import APP_COMPONENT_LABEL, COPY_OF
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy, a_snapshot, a_stage, an_agent, hours
from tests.support.simulation import Simulation

LEVEL = {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "level"}}}
STAGED = (
    an_agent()
    .with_stages(a_stage("staging", lasting="24h"), a_stage("everywhere", "production"))
    .with_template(env=[LEVEL])
)


def data(**values: str) -> LiveConfigMap:
    return LiveConfigMap(ConfigMapContent(data=values))


class Scene(Simulation):
    def edit_config_map(self, name: str, found: LiveConfigMap | None) -> None:
        self.snapshot = replace(self.snapshot, config_maps={**self.snapshot.config_maps, name: found})

    def copies(self) -> list[Manifest]:
        found = (child.manifest for child in self.snapshot.children.values())
        return [one for one in found if COPY_OF in (one["metadata"].get("annotations") or {})]

    def values(self) -> set[str]:
        """Return the values that the copies of the placements have."""
        return {one["data"]["level"] for one in self.copies()}

    def number(self) -> int:
        assert self.status.rollout is not None
        assert self.status.rollout.newest is not None
        return self.status.rollout.newest.number


def a_scene(agent: Any = STAGED, **config_maps: LiveConfigMap | None) -> Scene:
    scene = Scene(a_snapshot().of(agent).with_policy(a_policy()).with_bindings(a_binding()))
    for name, found in (config_maps or {"settings": data(level="info")}).items():
        scene.edit_config_map(name, found)
    return scene


def a_good_scene() -> Scene:
    scene = a_scene()
    scene.run()
    scene.wait(hours(24))
    scene.run()
    assert scene.stage == "everywhere"
    assert scene.values() == {"info"}
    return scene


@requirement("revision.config-maps")
def test_an_edited_config_map_soaks_next_to_the_good_revision_and_a_return_brings_the_old_content_back() -> None:
    scene = a_good_scene()
    scene.edit_config_map("settings", data(level="debug"))
    scene.run()

    assert scene.stage == "staging", "the edit is a revision of its own"
    assert scene.values() == {"info", "debug"}, "what serves production keeps its content"
    scene.edit_config_map("settings", data(level="info"))
    scene.run()
    assert scene.values() == {"info"}
    assert scene.stage == "everywhere", "the good revision has nothing to soak"


@requirement("revision.config-maps")
def test_a_key_that_nothing_refers_to_starts_no_revision() -> None:
    scene = a_good_scene()
    scene.edit_config_map("settings", data(level="info", other="new"))
    scene.run()
    assert scene.number() == 1
    assert scene.copies()[0]["data"] == {"level": "info"}


@requirement("config-maps.missing")
@pytest.mark.parametrize("found", [None, data(other="x"), LiveConfigMap(refusal="belongs to Interlock")])
def test_what_runs_goes_on_without_its_config_map_and_its_rollout_too(found: LiveConfigMap | None) -> None:
    scene = a_scene()
    scene.run()
    scene.edit_config_map("settings", found)
    scene.run()
    assert scene.values() == {"info"}
    deployed = scene.condition(ConditionType.DEPLOYED)
    assert (deployed.status, deployed.reason[:9]) == ("False", "ConfigMap")
    assert "settings" in deployed.message
    assert "env[LEVEL]" in deployed.message

    scene.wait(hours(24))
    scene.run()
    assert scene.stage == "everywhere", "its soak goes on"
    assert scene.number() == 1
    scene.edit_config_map("settings", data(level="info"))
    scene.run()
    assert scene.condition(ConditionType.DEPLOYED).status == "True"


@requirement("config-maps.missing")
def test_a_new_agent_waits_for_its_config_map_and_says_which() -> None:
    scene = a_scene(settings=None)
    scene.run()
    assert scene.copies() == []
    assert not scene.pods.reports
    deployed = scene.condition(ConditionType.DEPLOYED)
    assert (deployed.status, deployed.reason) == ("False", "ConfigMapMissing")
    assert scene.condition(ConditionType.READY).reason == "ConfigMapMissing"
    scene.edit_config_map("settings", data(level="info"))
    scene.run()
    assert scene.values() == {"info"}


def test_one_that_was_not_read_yet_is_waited_for() -> None:
    scene = a_scene(other=None)
    scene.run()
    assert not scene.pods.reports
    assert "ConfigMap settings was not read yet" in scene.condition(ConditionType.PROGRESSING).message


def test_an_optional_one_that_is_missing_starts_without_it_and_its_creation_is_a_revision() -> None:
    optional = {**LEVEL, "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "level", "optional": True}}}
    scene = a_scene(STAGED.with_template(env=[optional]), settings=None)
    scene.run()
    assert scene.number() == 1
    assert "LEVEL" not in [one["name"] for one in env_of(scene)]
    scene.edit_config_map("settings", data(level="info"))
    scene.run()
    assert scene.number() == 2
    assert "LEVEL" in [one["name"] for one in env_of(scene)]


def env_of(scene: Scene) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = scene.child("Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]
    return found


@requirement("config-maps.copies")
def test_copies_cannot_be_changed_and_a_deleted_or_changed_one_is_restored_from_the_revision() -> None:
    scene = a_scene()
    scene.run()
    (copy,) = scene.copies()
    assert copy["immutable"] is True
    scene.edit_config_map("settings", None)
    scene.settle()
    key = ChildKey("ConfigMap", copy["metadata"]["name"])
    children = {found: child for found, child in scene.snapshot.children.items() if found != key}
    scene.snapshot = replace(scene.snapshot, children=children)
    scene.run()
    assert scene.values() == {"info"}, "restored although the ConfigMap is gone"
    scene.edit(LiveChild({**copy, "data": {"level": "theirs"}}))
    assert key in {ChildKey(one["kind"], one["metadata"]["name"]) for one in scene.peek().plan.pending}


@requirement("config-maps.copies")
def test_a_key_of_the_user_that_is_named_as_that_of_a_bundle_makes_no_bundle() -> None:
    volume = {"name": "v", "configMap": {"name": "settings"}}
    scene = a_scene(an_agent().with_template(volumes=[volume]), settings=LiveConfigMap(_forged()))
    outcome = scene.settle()
    (copy,) = scene.copies()
    assert BUNDLE_KEY in copy["data"]
    assert copy["metadata"]["labels"][APP_COMPONENT_LABEL] != "bundle"
    assert len(outcome.status.bundle_digests) == 1


def _forged() -> ConfigMapContent:
    return ConfigMapContent(data={BUNDLE_KEY: "{}"})


def test_a_config_map_of_a_stdio_server_belongs_to_the_revision_too() -> None:
    server = a_binding().with_server(env=[{**LEVEL, "name": "CRM_LEVEL"}])
    scene = a_scene(an_agent())
    scene.find_bindings(server)
    scene.run()
    assert not scene.pods.reports, "the server was verified without this content"
    assert "MCPBinding crm is being verified" in scene.condition(ConditionType.PROGRESSING).message


def test_one_that_no_revision_can_store_is_named_and_what_runs_goes_on() -> None:
    scene = a_scene()
    scene.run()
    scene.edit_config_map("settings", data(level="x" * 1_100_000))
    scene.run()
    assert scene.values() == {"info"}
    orchestrated = scene.condition(ConditionType.ORCHESTRATED)
    assert (orchestrated.status, orchestrated.reason) == ("False", "RevisionTooLarge")
    assert "The largest ConfigMaps in it are settings (1100" in orchestrated.message
    scene.wait(hours(24))
    scene.run()
    assert scene.stage == "everywhere", "its soak goes on"
