from typing import Any

import pytest

from interlock.action.actions_bound import check_action
from interlock.api.refusals import Refusal
from interlock.api.status import AgentReason
from interlock.governance.pod_features import feature_of
from tests.support.builders import AgentBuilder, a_binding, a_policy, a_stage, an_agent
from tests.support.pod_templates import ALL_FEATURES, SERVER_CASES
from tools.crds.kinds import MCP_BINDING
from tools.reference.pod_template import fields_below

PLACE = "MCPBinding crm: spec.server.stdio"
DIGEST = f"registry.example.com/crm@sha256:{'0' * 64}"


def refusal(server: dict[str, Any], agent: AgentBuilder | None = None, **rules: Any) -> Refusal | None:
    policy, binding = a_policy().with_pod_template(**rules), a_binding().with_server(**server)
    return check_action((agent or an_agent()).build(), policy.build(), (binding.build(),))


def refused(server: dict[str, Any], agent: AgentBuilder | None = None, **rules: Any) -> str | None:
    found = refusal(server, agent, **rules)
    return None if found is None else f"{found.reason}: {found.message}"


def test_each_field_of_a_server_has_a_feature_or_is_always_allowed() -> None:
    paths = [path.removeprefix("spec.server.stdio.") for path, _ in fields_below(MCP_BINDING, "spec.server.stdio")]
    switched = {}
    for path in paths:
        try:
            feature = feature_of(path.removesuffix("[]"))
        except KeyError:  # what is below it has several
            assert any(other.startswith(f"{path}.") for other in paths), path
        else:
            switched[path] = feature
    assert len(switched) > 40
    below = (*SERVER_CASES, "image", "command", "args", "env[]", "network", "resources", "volume")
    assert [path for path in switched if not path.startswith(below)] == []


@pytest.mark.parametrize("member", SERVER_CASES)
def test_a_policy_allows_a_field_of_a_server_and_withholds_it(member: str) -> None:
    server, feature = SERVER_CASES[member].members, feature_of(member)
    assert feature is not None
    assert refused(server, allow=[feature.value]) is None
    assert refused(server, allow=[one for one in ALL_FEATURES if one != feature]) == (
        f"TemplateNotAllowed: {PLACE}.{member}: AgentPolicy support does not allow {feature}: add {feature} to "
        "spec.podTemplate.allow there, or remove the field"
    )


def test_each_stage_is_checked_from_the_start() -> None:
    stages = (a_stage("dev", "development"), a_stage("prod", "production"))
    agent, policy = an_agent().with_stages(*stages), a_policy().with_pod_template(allow=[])
    dev, prod = (
        a_binding(name).serving("crm", environment).with_server(workingDir=folder)
        for name, environment, folder in (("dev", "development", None), ("prod", "production", "/app"))
    )
    found = check_action(agent.build(), policy.build(), (dev.build(), prod.build()))
    assert found is not None
    assert found.message.startswith("MCPBinding prod: spec.server.stdio.workingDir: ")


def test_a_policy_can_require_images_of_servers_by_digest() -> None:
    assert refused({"image": DIGEST}, imageReferences="Digest") is None
    found = refusal({"image": "crm:1"}, imageReferences="Digest")
    assert found is not None
    assert found.reason is AgentReason.DIGEST_REQUIRED
    assert found.message.startswith(f"{PLACE}.image: AgentPolicy support requires images by digest, and crm:1 has")


def test_node_selectors_of_agent_server_and_policy_may_not_contradict_each_other() -> None:
    agent = an_agent().with_template(nodeSelector={"pool": "agents"})
    assert refused({"nodeSelector": {"pool": "agents", "disk": "ssd"}}, agent) is None
    assert refused({"nodeSelector": {"pool": "gpu"}}, agent) == (
        f"TemplateNotAllowed: stage development: {PLACE}.nodeSelector: pool=gpu contradicts pool=agents, which is in "
        "spec.template.nodeSelector: write the same value, or leave it out"
    )
    default = {"nodeSelector": {"pool": "agents"}}
    assert refused({"nodeSelector": {"pool": "gpu"}}, default=default) == (
        f"TemplateNotAllowed: {PLACE}.nodeSelector: pool=gpu contradicts pool=agents, which is in "
        "spec.podTemplate.default.nodeSelector of AgentPolicy support: write the same value, or leave it out"
    )


def test_node_selectors_of_two_servers_may_not_contradict_each_other() -> None:
    policy = a_policy().giving("triage", "mail", read=["x"])
    crm = a_binding().with_server(nodeSelector={"pool": "a"})
    mail = a_binding("mail").serving("mail", "development").with_server(nodeSelector={"pool": "b"})
    found = check_action(an_agent().using("crm", "mail").build(), policy.build(), (crm.build(), mail.build()))
    assert found is not None
    assert found.message == (
        "stage development: MCPBinding mail: spec.server.stdio.nodeSelector: pool=b contradicts pool=a, which is in "
        f"{PLACE}.nodeSelector: write the same value, or leave it out"
    )


def test_agent_and_servers_have_users_of_their_own() -> None:
    agent = an_agent().with_template(securityContext={"runAsUser": 20000})
    server = {"securityContext": {"runAsUser": 20000}}
    assert refused(server, allow=["Users"]) is None
    assert refused({"securityContext": {"runAsUser": 20001}}, agent, allow=["Users"]) is None
    assert refused(server, agent, allow=["Users"]) == (
        f"TemplateNotAllowed: stage development: spec.template and {PLACE} run as user 20000: the agent and each of "
        "its servers need users of their own"
    )
    mail = a_binding("mail").serving("mail", "development").with_server(**server).build()
    policy = a_policy().giving("triage", "mail", read=["x"]).with_pod_template(allow=["Users"])
    both = an_agent().using("crm", "mail").build()
    found = check_action(both, policy.build(), (a_binding().with_server(**server).build(), mail))
    assert found is not None
    assert f"{PLACE} and MCPBinding mail: spec.server.stdio run as user 20000" in found.message
