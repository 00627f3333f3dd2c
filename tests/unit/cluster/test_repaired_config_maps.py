"""ConfigMaps that must be repaired, and what must not be lost with them: pods of others, and content of others."""

import copy

from interlock.cluster.applier import Applier
from interlock.cluster.child_cache import ChildCache
from interlock.deployment.names import Manifest, key_of
from interlock.deployment.plan import WritePlan, desired_children
from interlock_contract.names import AGENT_LABEL
from interlock_kube.resource_types import BY_KIND
from tests.requirements import requirement
from tests.support.builders import a_placement
from tests.support.fake_client import FakeClient

AGENT = ("agents", "triage")
PODS = "/api/v1/namespaces/agents/pods"
FILES = next(one for one in desired_children(a_placement()) if one["metadata"]["name"].endswith("-files"))
KEY = frozenset({key_of(FILES)})
PATH = BY_KIND["ConfigMap"].path("agents", FILES["metadata"]["name"])


async def carry_out(client: FakeClient, plan: WritePlan) -> None:
    """Carry a plan out with a cache that knows nothing."""
    await Applier(client, ChildCache()).carry_out(plan, *AGENT, {})  # type: ignore[arg-type]


def without_agent(manifest: Manifest) -> Manifest:
    found = copy.deepcopy(manifest)
    del found["metadata"]["labels"][AGENT_LABEL]
    return found


@requirement("deployment.immutable")
async def test_a_recreated_object_of_no_agent_ends_no_pod() -> None:
    client, files = FakeClient(), without_agent(FILES)
    await client.create(PODS, {"kind": "Pod", "metadata": {"name": "own", "labels": {AGENT_LABEL: "triage"}}})
    await carry_out(client, WritePlan(prepare=(files,), missing=KEY))
    client.add_foreign(PATH, {"data": {"file-0": "{}"}, "immutable": True})

    await carry_out(client, WritePlan(prepare=(files,)))

    assert client.objects[PATH]["data"] == files["data"]
    assert list(client.of_kind("Pod")) == [f"{PODS}/own"]


async def test_the_content_that_another_program_writes_stays_while_the_metadata_is_repaired() -> None:
    empty = {**FILES, "data": {}}
    client, plan = FakeClient(), WritePlan(prepare=(empty,), missing=KEY, others_content=KEY)
    await carry_out(client, plan)
    client.objects[PATH]["data"] = {"chat": "0123"}
    client.objects[PATH]["metadata"]["labels"].pop(AGENT_LABEL)

    await carry_out(client, plan)

    after = client.objects[PATH]
    assert after["data"] == {"chat": "0123"}
    assert after["metadata"]["labels"][AGENT_LABEL] == "triage"
