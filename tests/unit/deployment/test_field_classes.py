"""The class of each field: the table has all of them, and a change of each one does what its class says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.api.shared_types import ApiModel, EnvironmentClass
from interlock.deployment import field_classes
from interlock.deployment.content import content_of
from interlock.deployment.effective import effective, needs_revision
from interlock.deployment.field_classes import FIELDS, table_faults
from interlock.deployment.field_groups import GROUPS, FieldClass
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy, a_stage, an_agent
from tests.support.pod_templates import CASES, SERVER_CASES

KEY = {"secretKeyRef": {"name": "provider", "key": "key"}}
CA = ({"configMapKeyRef": {"name": "ca", "key": "pem"}}, {"secretKeyRef": {"name": "ca", "key": "pem"}})
AMOUNTS = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
TASK_SCOPE = [{"dimension": "region", "header": "X-Region"}, {"dimension": "line", "pointer": "/line"}]
BUDGET = {"environment": "staging", "dailyBudget": "5", "monthlyBudget": "50"}
STAGING = {"name": "staging", "class": "staging", "isolation": "Shared", "dailyBudget": "3", "monthlyBudget": "30"}
PRICE = {
    "model": "corp/x",
    **dict.fromkeys(("input", "output", "cachedInput", "cacheWrite", "audioInput", "audioOutput", "perCall"), "1"),
    "contextWindow": 1000,
}

PODS = {"matchLabels": {"app": "pg", "tier": "gold"}}
EGRESS = (
    {
        "servers": ["crm", "mail"],
        "environments": ["staging", "production"],
        "to": [{"cidr": "10.20.0.0/24"}, {"namespaceSelector": PODS, "podSelector": PODS}],
        "ports": [{"port": 5000, "endPort": 5010}],
        "public": "Allowed",
        "dns": "Allowed",
    },
    {
        "agents": None,
        "agentSelector": {"matchLabels": {"team": "support"}},
        "to": [{"cidr": "10.30.0.0/24"}],
        "ports": [{"port": 6000, "endPort": 6010}],
    },
)

IDENTITIES: tuple[dict[str, Any], ...] = (
    {"environments": ["staging", "production"]},
    {"agents": None, "agentSelector": {"matchLabels": {"team": "support"}}},
)

Change = Callable[[Any], Any]


@dataclass(frozen=True)
class Objects:
    agent: Agent
    policy: AgentPolicy
    bindings: tuple[MCPBinding, ...]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.agent, self.policy, self.bindings))

    def specs(self, kind: str) -> tuple[ApiModel, ...]:
        """Return the specs of one kind."""
        if kind == "MCPBinding":
            return tuple(binding.spec for binding in self.bindings)
        return (self.agent.spec if kind == "Agent" else self.policy.spec,)

    def with_spec(self, kind: str, index: int, spec: Any) -> "Objects":
        """Return the objects with another spec of one of them."""
        if kind == "Agent":
            return replace(self, agent=self.agent.model_copy(update={"spec": spec}))
        if kind == "AgentPolicy":
            return replace(self, policy=self.policy.model_copy(update={"spec": spec}))
        bindings = list(self.bindings)
        bindings[index] = bindings[index].model_copy(update={"spec": spec})
        return replace(self, bindings=tuple(bindings))


GATES = {
    "minTasks": 5,
    "minCalls": 5,
    "maxErrorPercent": 5,
    "maxP95Latency": "10s",
    "maxDeniedPercent": 5,
    "maxCostPerTask": "1",
    "onBreach": "Hold",
}
METRICS = {"metrics": [{"name": "errors", "query": "up", "min": "0", "max": "1"}]}
TEST = {
    "name": "smoke",
    "image": "registry.example.com/smoke:1",
    "command": ["/smoke"],
    "args": ["x"],
    "env": [{"name": "A", "value": "b"}],
    "deadline": "1m",
}


TEMPLATE: dict[str, Any] = {
    **{name: value for case in CASES.values() for name, value in case.members.items()},
    "metadata": {"labels": {"example.com/team": "a"}, "annotations": {"example.com/ticket": "42"}},
    "env": [
        {"name": "A", "value": "b"},
        {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        *CASES["env[].valueFrom.configMapKeyRef"].members["env"],
    ],
    "volumes": [
        *CASES["volumes[].configMap"].members["volumes"],
        *CASES["volumes[].emptyDir"].members["volumes"],
        *CASES["volumes[].persistentVolumeClaim"].members["volumes"],
        *CASES["volumes[].projected.sources[].downwardAPI"].members["volumes"],
    ],
    "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "a", "readOnly": True}],
    "terminationGracePeriodSeconds": 30,
}
SERVER = {
    **{name: value for case in SERVER_CASES.values() for name, value in case.members.items()},
    "env": [{"name": "K", "valueFrom": KEY}, *TEMPLATE["env"]],
    "volumes": [one for one in TEMPLATE["volumes"] if "persistentVolumeClaim" not in one],
    "volumeMounts": TEMPLATE["volumeMounts"],
}
POD_TEMPLATE = {
    "allow": ["Scheduling"],
    "metadataKeys": ["example.com/*"],
    "max": {"cpu": "8", "memory": "16Gi", "emptyDir": "64Gi"},
    "default": {
        "imagePullSecrets": [{"name": "mirror"}],
        "nodeSelector": {"pool": "agents"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
    },
    "guardResources": AMOUNTS,
}


def everything(*, ca: int) -> Objects:
    """Return objects in which every field has a value that concerns the agent. `ca` chooses the source of CAs."""
    agent = (
        an_agent()
        .using({"source": "crm", "permissions": {name: ["x", "y"] for name in ("read", "write", "delete")}}, "mail")
        .calling("corp/x", key="provider")
        .taking_tasks(8080, scope=TASK_SCOPE)
        .with_files({"a.md": "text"})
        .with_template(command=["run"], args=["x"], resources=AMOUNTS, **TEMPLATE)
        .with_stages(
            a_stage("eu", scope={"region": ["eu"]}, lasting="1h")
            | {"replicas": 2, "approval": "Required", "gates": GATES | METRICS, "tests": [TEST]},
            a_stage("all"),
            maxRestarts=3,
            drainTimeout="1h",
        )
        .labelled(team="support")
    )
    agent = replace(agent, raw={**agent.raw, "spec": {**agent.raw["spec"], "budget": [BUDGET]}})
    url = {
        "name": "corp",
        "url": "https://llm.example.com/v1",
        "network": "Private",
        "caFrom": CA[ca],
        "extraMembers": ["one", "two"],
        "contentHosts": ["a.example.com", "b.example.com"],
        "outputLimitMember": "max_tokens",
        "streamUsage": "Ask",
    }
    policy = (
        a_policy()
        .giving("triage", "mail", read=["x"])
        .giving("triage", "crm", read=["x", "y"], write=["x", "y"], delete=["x", "y"])
        .giving_labelled({"team": "support"}, "crm", read=["z"])
        .declaring(STAGING)
        .budgeting(perTask="1", total={"dailyBudget": "5", "monthlyBudget": "50"})
        .rating(callsPerMinute=5, tokensPerMinute=5)
        .allowing_models("corp/*", "other/*", urls=[url], secrets=["provider", "other"], prices=[PRICE])
        .through_proxy("https://proxy.example.com:3128", caFrom=CA[ca], noProxy=["a.example.com", "b.example.com"])
        .with_resources(default={"cpu": "1", "memory": "1Gi"}, defaultRequest={"cpu": "1m", "memory": "1Mi"})
        .with_pod_template(**POD_TEMPLATE)
        .opening(*EGRESS)
        .identifying(IDENTITIES[ca], allow=POD_TEMPLATE["allow"])
        .breaking_loops(identicalCalls=20, window="60s", action="Block")
        .recording("Redacted", "/secret")
        .notifying("ops", signingKeyFrom=KEY, caFrom=CA[ca])
        .requiring(
            maxConcurrent="5%",
            history={"maxAge": "1h"},
            minStaging="0s",
            minLimitedScope="0s",
            requireLimitedScope=False,
            requireApproval=["production"],
            gates=GATES,
        )
    )
    rules = [
        {"pointer": "/e", "enum": ["a", "b"]},
        {"pointer": "/p", "prefix": "/data/"},
        {"pointer": "/r", "pattern": "a+"},
    ]
    region = [{"dimension": "region", "pointer": "/region", "inject": True}]
    free = [{"dimension": "region", "unscoped": "Allowed"}]
    crm = (
        a_binding()
        .with_tools(
            {
                "name": "get",
                "operation": "read",
                "resource": "x",
                "scope": region,
                "arguments": [*rules, {"pointer": "/m", "maximum": 5}],
                "costPerCall": "1",
            },
            {"name": "put", "operation": "read", "resource": "x", "scope": free},
        )
        .with_resources(
            {
                "uri": "file:///a",
                "operation": "read",
                "resource": "x",
                "scope": [{"dimension": "region", "values": ["eu"]}],
            },
            {"uri": "file:///b", "operation": "read", "resource": "x", "scope": free},
        )
        .with_prompts(
            {"name": "p", "operation": "read", "resource": "x", "scope": region, "arguments": rules},
            {"name": "q", "operation": "read", "resource": "x", "scope": free},
        )
        .permitting(read=["x", "y"], write=["x", "y"], delete=["x", "y"])
        .letting_ask("Sampling", "Roots")
        .with_instructions("Pinned")
        .showing_descriptions()
        .limited_to(requestBytes=2000, resultBytes=2000, inFlight=5)
        .verified_by(probes=[{"name": "one", "tool": "get"}])
        .with_server(
            args=["x"],
            network="Public",
            resources=AMOUNTS,
            **SERVER,
        )
    )
    headers = [{"name": "X-Tenant", "value": "b"}, {"name": "Authorization", "valueFrom": KEY}]
    mail = a_binding("mail").serving("mail", "staging").with_tools()
    mail = mail.over_http(network="Private", headers=headers, caFrom=CA[ca])
    return Objects(agent.build(), policy.build(), (crm.build(), mail.build()))


BASES = (everything(ca=0), everything(ca=1))


def first_leaf(model: Any) -> list[str]:
    """Return the path of the first leaf of a model that is set."""
    for name, field in type(model).model_fields.items():
        value, alias = getattr(model, name), field.alias or name
        if isinstance(value, ApiModel):
            return [alias, *first_leaf(value)]
        if isinstance(value, tuple) and value and isinstance(value[0], ApiModel):
            return [f"{alias}[]", *first_leaf(value[0])]
        if value:
            return [alias]
    raise ValueError("nothing is set")


def changed(model: Any, path: list[str], change: Change) -> Iterator[Any]:
    """Yield the model with one leaf changed, for each list item and part that has the leaf.

    Below a field that the table names as a whole, the first leaf that is set stands for all of them.
    """
    if path == ["*"]:
        path = first_leaf(model)
    name = next(
        field for field, info in type(model).model_fields.items() if (info.alias or field) == path[0].removesuffix("[]")
    )
    value, rest = getattr(model, name), path[1:]
    if not rest:
        if value is not None and value != change(value):
            yield model.model_copy(update={name: change(value)})
    elif path[0].endswith("[]"):
        for index, item in enumerate(value or ()):
            for one in changed(item, rest, change):
                yield model.model_copy(update={name: (*value[:index], one, *value[index + 1 :])})
    elif value is not None:
        yield from (model.model_copy(update={name: one}) for one in changed(value, rest, change))


def changes(path: str, change: Change) -> list[tuple[Objects, Objects, str]]:
    """Return objects before and after a change of a field, for each place that has it."""
    kind, _, *parts = path.split(".")
    found = []
    for base in BASES:
        for index, spec in enumerate(base.specs(kind)):
            found += [(base, base.with_spec(kind, index, one), kind) for one in changed(spec, parts, change)]
    return found


def another(value: Any) -> Any:
    """Return some other value of a leaf."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, EnvironmentClass):
        return EnvironmentClass.PRODUCTION
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return {"Digest": "Redacted", "1h": "2h", "60s": "10s"}.get(value, f"{value}1")
    return {**value, "example.com/other": "x"} if isinstance(value, dict) else (*value, *value)


ENVIRONMENT = "Agent.spec.environment"
STAGE_ENVIRONMENT = "Agent.spec.rollout.stages[].environment"
PLAIN = [
    path
    for path, rule in FIELDS.items()
    if rule.field_class is not FieldClass.NARROWER and path not in (ENVIRONMENT, STAGE_ENVIRONMENT)
]


@requirement("revision.field-classes")
def test_each_field_has_one_class() -> None:
    assert table_faults() == ()


@requirement("revision.field-classes")
def test_a_field_without_a_class_and_a_class_without_a_field_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(FIELDS)
    rule = known.pop("Agent.spec.purpose")
    monkeypatch.setattr(field_classes, "FIELDS", {**known, "Agent.spec.gone": rule})
    assert [fault.partition(" ")[0] for fault in table_faults()] == ["Agent.spec.purpose", "Agent.spec.gone"]


@requirement("revision.field-classes")
def test_a_field_in_two_groups_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    again = (FieldClass.STAGED, "Again.", "Agent.spec purpose")
    monkeypatch.setattr(field_classes, "GROUPS", [*GROUPS, again])
    assert table_faults() == ("Agent.spec.purpose has two classes",)


@requirement("revision.field-classes")
@pytest.mark.parametrize("path", PLAIN)
def test_a_change_of_a_field_does_what_its_class_says(path: str) -> None:
    found = changes(path, another)
    assert found, "no object of this test has the field"
    is_staged = FIELDS[path].field_class is FieldClass.STAGED
    for before, after, kind in found:
        content = content_of(*before)
        now = Objects(*effective(content, *after, stage=after.agent.spec.stages[-1])[:3])
        assert needs_revision(content, *after) is is_staged
        assert now.specs(kind) == (before if is_staged else after).specs(kind)


NARROWED: dict[str, tuple[Change | None, Change | None]] = {}
"""By the path, a change that narrows and one that widens, as far as there are such changes."""


def narrowed(path: str, narrower: Any, wider: Any) -> None:
    """Add a field; values may be functions of the present one."""
    made = [one if one is None or callable(one) else (lambda _, value=one: value) for one in (narrower, wider)]
    NARROWED[path] = made[0], made[1]


def first(values: tuple[str, ...]) -> tuple[str, ...]:
    return values[:1]


def more(values: tuple[str, ...]) -> tuple[str, ...]:
    return (*values, "more")


for _list in (
    *(f"AgentPolicy.spec.dataAccess[].{one}" for one in ("read", "write", "delete")),
    *(f"MCPBinding.spec.permissions.{one}" for one in ("read", "write", "delete")),
    "AgentPolicy.spec.models.urls[].extraMembers",
    "AgentPolicy.spec.models.urls[].contentHosts",
    "AgentPolicy.spec.egressProxy.noProxy",
):
    narrowed(_list, lambda values: values[1:], more)
for _less in (
    "AgentPolicy.spec.models.requestBytes",
    "AgentPolicy.spec.models.maxOutputTokens",
    "AgentPolicy.spec.loops.identicalCalls",
    *(f"MCPBinding.spec.limits.{one}" for one in ("requestBytes", "resultBytes", "inFlight")),
):
    narrowed(_less, lambda value: value - 1, lambda value: value + 1)
narrowed("MCPBinding.spec.serverRequests", first, lambda values: (*values, "Elicitation"))
narrowed("AgentPolicy.spec.models.allow", ("corp/x", "other/*"), ("*",))
narrowed("AgentPolicy.spec.models.secretNames", ("other",), None)
narrowed("AgentPolicy.spec.loops.window", "120s", "30s")
narrowed("AgentPolicy.spec.loops.action", "Kill", None)
narrowed("AgentPolicy.spec.environments[].isolation", "Separate", None)
narrowed("AgentPolicy.spec.environments[].mode", None, None)  # see tests/unit/action/test_audit_mode.py
narrowed("MCPBinding.spec.environments", ("development", "production"), None)
for _network in ("AgentPolicy.spec.models.urls[]", "MCPBinding.spec.server.http"):
    narrowed(f"{_network}.network", "Public", None)
narrowed("MCPBinding.spec.server.stdio.network", "None", "Private")
narrowed("MCPBinding.spec.resourceDescriptions", "Withheld", None)
narrowed("MCPBinding.spec.instructions", "Withheld", None)
narrowed("MCPBinding.spec.source", "elsewhere", None)
narrowed("AgentPolicy.spec.dataAccess[].source", "elsewhere", None)
narrowed("AgentPolicy.spec.dataAccess[].agents", ("another",), None)
narrowed("AgentPolicy.spec.dataAccess[].agentSelector.matchLabels", {"team": "sales"}, None)
narrowed("AgentPolicy.spec.models.urls[].name", "another", None)
for _pods in ("namespaceSelector", "podSelector"):
    narrowed(f"AgentPolicy.spec.egress[].to[].{_pods}.matchLabels", lambda labels: {**labels, "a": "b"}, {"app": "pg"})
narrowed("AgentPolicy.spec.cloudIdentity[].agents", ("another",), None)
narrowed("AgentPolicy.spec.cloudIdentity[].agentSelector.matchLabels", {"team": "sales"}, None)
narrowed("AgentPolicy.spec.cloudIdentity[].environments", ("development",), None)
narrowed("AgentPolicy.spec.cloudIdentity[].annotations", None, lambda keys: {**keys, "eks.amazonaws.com/audience": "x"})
narrowed("AgentPolicy.spec.egress[].agents", ("another",), None)
narrowed("AgentPolicy.spec.egress[].agentSelector.matchLabels", {"team": "sales"}, None)
narrowed("AgentPolicy.spec.egress[].servers", first, None)
narrowed("AgentPolicy.spec.egress[].environments", ("development",), None)
narrowed(
    "AgentPolicy.spec.egress[].to[].cidr",
    lambda cidr: cidr.replace("/24", "/25"),
    lambda cidr: cidr.replace("/24", "/16"),
)
narrowed("AgentPolicy.spec.egress[].ports[].port", lambda port: port + 1, lambda port: port - 1)
narrowed("AgentPolicy.spec.egress[].ports[].endPort", lambda port: port - 1, lambda port: port + 1)
narrowed("AgentPolicy.spec.egress[].ports[].protocol", None, "UDP")
narrowed("AgentPolicy.spec.egress[].dns", lambda _: None, None)
for _rows in ("tools[].name", "prompts[].name", "resources[].uri"):
    narrowed(f"MCPBinding.spec.{_rows}", lambda value: f"{value}-gone", None)
for _row in ("tools[]", "prompts[]", "resources[]"):
    narrowed(f"MCPBinding.spec.{_row}.operation", None, "write")
    narrowed(f"MCPBinding.spec.{_row}.resource", "denied", "y")
    narrowed(f"MCPBinding.spec.{_row}.scope[].dimension", "another", None)
for _row in ("tools[]", "prompts[]"):
    narrowed(f"MCPBinding.spec.{_row}.scope[].pointer", None, "/other")
    narrowed(f"MCPBinding.spec.{_row}.scope[].unscoped", None, None)
    narrowed(f"MCPBinding.spec.{_row}.scope[].inject", False, None)  # noqa: FBT003 - a value
    narrowed(f"MCPBinding.spec.{_row}.arguments[].pointer", None, "/other")
    narrowed(f"MCPBinding.spec.{_row}.arguments[].enum", ("a",), ("a", "b", "c"))
    narrowed(f"MCPBinding.spec.{_row}.arguments[].prefix", "/data/x/", "/")
    narrowed(f"MCPBinding.spec.{_row}.arguments[].pattern", None, ".*")
narrowed("MCPBinding.spec.tools[].arguments[].maximum", 4, 6)
narrowed("MCPBinding.spec.resources[].scope[].values", ("eu", "us"), ("us",))
narrowed("MCPBinding.spec.resources[].scope[].unscoped", None, None)


@requirement("revision.field-classes")
def test_each_field_that_is_narrowed_has_a_case() -> None:
    assert set(NARROWED) == {path for path, rule in FIELDS.items() if rule.field_class is FieldClass.NARROWER}


@requirement("revision.field-classes")
@pytest.mark.parametrize("path", [path for path, (narrower, _) in NARROWED.items() if narrower])
def test_what_narrows_takes_effect_immediately_and_needs_no_revision(path: str) -> None:
    narrower = NARROWED[path][0]
    assert narrower is not None
    found = changes(path, narrower)
    assert found, "no object of this test has the field"
    for before, after, kind in found:
        content = content_of(*before)
        now = Objects(*effective(content, *after, stage=after.agent.spec.stages[-1])[:3])
        assert kind == "MCPBinding" or now.specs(kind) == after.specs(kind)
        is_also_new = path.endswith((".tools[].name", ".prompts[].name", ".resources[].uri"))
        assert needs_revision(content, *after) is is_also_new


@requirement("revision.field-classes")
@pytest.mark.parametrize("path", [path for path, (_, wider) in NARROWED.items() if wider])
def test_what_widens_needs_a_revision_and_has_no_effect_until_then(path: str) -> None:
    wider = NARROWED[path][1]
    assert wider is not None
    found = changes(path, wider)
    assert found, "no object of this test has the field"
    for before, after, kind in found:
        content = content_of(*before)
        now = Objects(*effective(content, *after)[:3])
        assert needs_revision(content, *after)
        assert now.specs(kind) != after.specs(kind)


@requirement("revision.field-classes")
@pytest.mark.parametrize("path", [path for path, (narrower, _) in NARROWED.items() if narrower])
def test_a_return_to_what_was_wider_needs_a_revision(path: str) -> None:
    narrower = NARROWED[path][0]
    assert narrower is not None
    for after, before, kind in changes(path, narrower):
        content = content_of(*before)
        now = Objects(*effective(content, *after)[:3])
        assert needs_revision(content, *after)
        if ".agentSelector." not in path:  # the labels of the Agent tell that
            assert now.specs(kind) != after.specs(kind)
