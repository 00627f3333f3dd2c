"""The objects that the operator writes for agents and stdio servers that refer to ConfigMaps."""

from dataclasses import replace

from interlock.deployment.children.verification_job import VerificationTarget, build_job, build_verification_copies
from interlock.deployment.config_maps import ConfigMapContent
from interlock.deployment.plan import desired_children
from tests.integration.callers import Json
from tests.support.builders import GUARD_IMAGE, a_binding, a_placement, a_separate_placement, an_agent

TEMPLATE: Json = {
    "env": [{"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "level"}}}],
    "envFrom": [{"configMapRef": {"name": "more"}}],
    "volumes": [{"name": "settings", "configMap": {"name": "settings"}}],
}
KEPT = {name: ConfigMapContent(data={"level": "info"}) for name in ("settings", "more")}


def children_with_config_maps() -> list[Json]:
    """Return the objects of an agent, in one pod with its guard and in two."""
    agent = an_agent("configured").with_template(**TEMPLATE)
    placements = (replace(build(agent), config_maps=KEPT) for build in (a_placement, a_separate_placement))
    return [child for one in placements for child in desired_children(one)]


def verification_with_config_maps(name: str) -> list[Json]:
    """Return the copies and the Job of a verification of the binding with this name."""
    binding = a_binding(name).with_server(**TEMPLATE).build()
    run = VerificationTarget(binding, 1, GUARD_IMAGE, config_maps=KEPT)
    return [*build_verification_copies(run), build_job(run)]
