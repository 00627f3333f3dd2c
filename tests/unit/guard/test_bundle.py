import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from interlock_contract.bundle import (
    AgentIdentity,
    Bundle,
    BundleArgumentRule,
    BundleAuditPolicy,
    BundleLimits,
    BundlePeer,
    BundlePrompt,
    BundleResource,
    BundleResourceScope,
    BundleSource,
    BundleTasks,
    BundleTaskScope,
    BundleTool,
    BundleToolScope,
    Grant,
    Pin,
    ScopeLimit,
    digest,
    dump_bundle,
    parse_bundle,
)
from interlock_contract.strict_fields import BundleInvalid

WIRE: dict[str, Any] = {
    "schemaVersion": 5,
    "agent": {"name": "support-triage", "namespace": "agents", "uid": "u-1"},
    "revision": "0123456789",
    "stage": "one-region",
    "environment": "production",
    "scope": [{"dimension": "region", "values": ["eu-west"]}],
    "sources": [
        {
            "name": "crm",
            "binding": "crm-production",
            "transport": "stdio",
            "tools": [
                {
                    "name": "get_contact",
                    "operation": "read",
                    "resource": "contacts",
                    "scope": [
                        {"dimension": "region", "pointer": "/region", "inject": True},
                        {"dimension": "product-line", "unscoped": "Allowed"},
                    ],
                    "arguments": [
                        {"pointer": "/path", "prefix": "/data/"},
                        {"pointer": "/kind", "enum": ["a", "b"]},
                        {"pointer": "/id", "pattern": "[a-z]{2,5}"},
                        {"pointer": "/limit", "maximum": 0},
                    ],
                }
            ],
            "resources": [
                {
                    "uri": "crm://contacts/*",
                    "operation": "read",
                    "resource": "contacts",
                    "scope": [
                        {"dimension": "region", "values": ["eu-west"]},
                        {"dimension": "product-line", "unscoped": "Allowed"},
                    ],
                }
            ],
            "prompts": [{"name": "summary", "operation": "read", "resource": "contacts", "scope": [], "arguments": []}],
            "serverRequests": ["Sampling", "Roots"],
            "limits": {"requestBytes": 1024, "resultBytes": 2048, "inFlight": 1},
            "pins": [{"name": "get_contact", "digest": "0123456789abcdef" * 4}],
            "grants": [
                {"layer": "Binding", "rule": "mcpbinding/crm", "read": ["*"], "write": ["tasks"], "delete": []},
                {"layer": "Matrix", "rule": "agentpolicy/s/dataAccess[0]", "read": ["c"], "write": [], "delete": []},
                {"layer": "Agent", "rule": "agent/a/bindings[crm]", "read": ["c"], "write": [], "delete": []},
            ],
        }
    ],
    "audit": {"arguments": "Redacted", "redact": ["/customer/email"]},
    "tasks": {
        "port": 8080,
        "maxConcurrent": 4,
        "scope": [{"dimension": "region", "header": "X-Region"}, {"dimension": "line", "pointer": "/meta/line"}],
        "drainSeconds": 90,
    },
    "excluded": [[{"dimension": "region", "values": ["us"]}, {"dimension": "line", "values": ["a"]}], []],
    "draining": True,
    "drainingPods": ["support-triage-0"],
    "drainingAddresses": ["10.0.0.7", "fd00::7"],
    "counted": True,
    "peers": [
        {
            "stage": "everywhere",
            "revision": "9876543210",
            "url": "http://guard-support-triage.agents.svc:7412",
            "scope": [{"dimension": "region", "values": ["us"]}],
            "excluded": [[{"dimension": "region", "values": ["eu-west"]}]],
            "draining": True,
        }
    ],
}

PARSED = Bundle(
    schema_version=5,
    agent=AgentIdentity("support-triage", "agents", "u-1"),
    revision="0123456789",
    stage="one-region",
    environment="production",
    scope=(ScopeLimit("region", ("eu-west",)),),
    sources=(
        BundleSource(
            name="crm",
            binding="crm-production",
            transport="stdio",
            tools=(
                BundleTool(
                    "get_contact",
                    "read",
                    "contacts",
                    (
                        BundleToolScope("region", "/region", inject=True),
                        BundleToolScope("product-line", unscoped="Allowed"),
                    ),
                    (
                        BundleArgumentRule("/path", prefix="/data/"),
                        BundleArgumentRule("/kind", enum=("a", "b")),
                        BundleArgumentRule("/id", pattern="[a-z]{2,5}"),
                        BundleArgumentRule("/limit", maximum=0),
                    ),
                ),
            ),
            grants=(
                Grant("Binding", "mcpbinding/crm", ("*",), ("tasks",), ()),
                Grant("Matrix", "agentpolicy/s/dataAccess[0]", ("c",), (), ()),
                Grant("Agent", "agent/a/bindings[crm]", ("c",), (), ()),
            ),
            resources=(
                BundleResource(
                    "crm://contacts/*",
                    "read",
                    "contacts",
                    (
                        BundleResourceScope("region", ("eu-west",)),
                        BundleResourceScope("product-line", unscoped="Allowed"),
                    ),
                ),
            ),
            prompts=(BundlePrompt("summary", "read", "contacts"),),
            server_requests=("Sampling", "Roots"),
            limits=BundleLimits(request_bytes=1024, result_bytes=2048, in_flight=1),
            pins=(Pin("get_contact", "0123456789abcdef" * 4),),
        ),
    ),
    audit=BundleAuditPolicy("Redacted", ("/customer/email",)),
    tasks=BundleTasks(
        8080, 4, (BundleTaskScope("region", header="X-Region"), BundleTaskScope("line", pointer="/meta/line")), 90
    ),
    excluded=((ScopeLimit("region", ("us",)), ScopeLimit("line", ("a",))), ()),
    is_draining=True,
    draining_pods=("support-triage-0",),
    draining_addresses=("10.0.0.7", "fd00::7"),
    is_counted=True,
    peers=(
        BundlePeer(
            "everywhere",
            "9876543210",
            "http://guard-support-triage.agents.svc:7412",
            (ScopeLimit("region", ("us",)),),
            ((ScopeLimit("region", ("eu-west",)),),),
            is_draining=True,
        ),
    ),
)


def test_the_wire_form_is_read_and_written_back() -> None:
    assert parse_bundle(json.dumps(WIRE)) == PARSED
    assert parse_bundle(dump_bundle(PARSED)) == PARSED
    assert json.loads(dump_bundle(PARSED)) == WIRE


def test_equal_bundles_have_one_text_and_one_digest() -> None:
    reordered = json.dumps(dict(reversed(WIRE.items())), indent=2)
    assert dump_bundle(parse_bundle(reordered)) == dump_bundle(PARSED)
    assert digest(dump_bundle(PARSED)) == digest(dump_bundle(parse_bundle(reordered)))
    assert len(digest("")) == 64


Change = Callable[[dict[str, Any]], object]

SOURCE_NAME = "sources[0].name"
RULES = "sources[0].tools[0].arguments"


def rule(wire: dict[str, Any], index: int) -> dict[str, Any]:
    found: dict[str, Any] = wire["sources"][0]["tools"][0]["arguments"][index]
    return found


OTHER = "http://guard-other.agents.svc:7412"


def many_dimensions(**members: Any) -> list[dict[str, Any]]:
    """Nine of them, one more than a scope may have."""
    return [{"dimension": f"d{index}", **members} for index in range(9)]


INVALID: list[tuple[Change, str]] = [
    (lambda w: w.update(schemaVersion=1), "schemaVersion"),
    (lambda w: w.pop("schemaVersion"), "schemaVersion: is missing"),
    (lambda w: w.update(extra=1), "extra: is unknown"),
    (lambda w: w.pop("scope"), "scope: is missing"),
    (lambda w: w.update(agent=[]), "agent: Expected `object`, got `array`"),
    (lambda w: w["agent"].update(uid=""), "agent.uid"),
    (lambda w: w["agent"].update(more=1), "agent.more: is unknown"),
    (lambda w: w.update(stage="One Region"), "stage"),
    (lambda w: w.update(scope={}), "scope: Expected `array`, got `object`"),
    (lambda w: w.update(tasks=None), "tasks: must be left out"),
    (lambda w: w["tasks"].pop("port"), "tasks.port: is missing"),
    (lambda w: w["tasks"].update(port=65536), "tasks.port: Expected `int` <= 65535"),
    (lambda w: w["tasks"].update(maxConcurrent=0), "tasks.maxConcurrent: Expected `int` >= 1"),
    (lambda w: w["tasks"].update(maxConcurrent=257), "tasks.maxConcurrent: Expected `int` <= 256"),
    (lambda w: w["tasks"].update(host="x"), "tasks.host: is unknown"),
    (lambda w: w["tasks"].update(drainSeconds=-1), "tasks.drainSeconds: Expected `int` >= 0"),
    (lambda w: w["tasks"].update(drainSeconds=86401), "tasks.drainSeconds: Expected `int` <= 86400"),
    (lambda w: w["tasks"].update(scope=[]), "tasks.scope: must be left out"),
    (lambda w: w["tasks"].update(scope=many_dimensions(header="X-A")), "tasks.scope: Expected `array` of length <= 8"),
    (lambda w: w["tasks"]["scope"].append(w["tasks"]["scope"][0]), "tasks.scope[2].dimension: 'region' is there twice"),
    (lambda w: w["tasks"]["scope"][0].update(pointer="/x"), "tasks.scope[0]: must have exactly one of header, pointer"),
    (lambda w: w["tasks"]["scope"][0].pop("header"), "tasks.scope[0]: must have exactly one of header, pointer"),
    (lambda w: w["tasks"]["scope"][1].update(pointer="line"), "tasks.scope[1].pointer: must be a JSON pointer"),
    (lambda w: w.update(excluded=[]), "excluded: must be left out"),
    (lambda w: w.update(excluded=[[]] * 9), "excluded: Expected `array` of length <= 8"),
    (lambda w: w.update(excluded=[[], []]), "excluded[1]: is there twice"),
    (lambda w: w["excluded"][0].append(w["excluded"][0][0]), "excluded[0][2].dimension: 'region' is there twice"),
    (lambda w: w["excluded"][0][1].update(values=[]), "excluded[0][1].values: Expected `array` of length >= 1"),
    (lambda w: w.update(excluded=[many_dimensions(values=["a"])]), "excluded[0]: Expected `array` of length <= 8"),
    (lambda w: w.update(draining=False), "draining: must be left out"),
    (lambda w: w.update(drainingPods=["a"] * 101), "drainingPods: Expected `array` of length <= 100"),
    (lambda w: w.update(drainingAddresses=["10.0.0.7"] * 201), "drainingAddresses: Expected `array` of length <= 200"),
    (lambda w: w.update(drainingAddresses=["FD00::7"]), "drainingAddresses[0]: must be an IP address in its canonical"),
    (lambda w: w.update(drainingAddresses=["agent-0"]), "drainingAddresses[0]: must be an IP address"),
    (lambda w: w.update(peers=w["peers"] * 9), "peers: Expected `array` of length <= 8"),
    (lambda w: w["peers"].append({**w["peers"][0], "stage": "x"}), "peers[1].url: 'http://guard-support-triage.agents"),
    (lambda w: w["peers"].append({**w["peers"][0], "url": OTHER}), "peers[1].revision: 'everywhere/9876543210'"),
    (lambda w: w["peers"][0].update(stage="one-region", revision="0123456789"), "peers[0]: is this placement itself"),
    (lambda w: w["peers"][0].update(url="http://guard.other.svc:7412"), "peers[0].url: must be a Service in the name"),
    (lambda w: w["peers"][0]["scope"].append(w["peers"][0]["scope"][0]), "peers[0].scope[1].dimension: 'region' is"),
    (lambda w: w["peers"][0]["excluded"].append(w["peers"][0]["excluded"][0]), "peers[0].excluded[1]: is there twice"),
    *(
        (lambda w, url=url: w["peers"][0].update(url=url), "peers[0].url: must be http://<service>.<namespace>.svc")
        for url in (
            "https://a.agents.svc:7412",
            "http://10.0.0.1:7412",
            "http://example.com:80",
            "http://a.agents.svc.example.com:80",
            "http://a.agents",
            "http://u@a.agents.svc:80",
            "http://a.agents.svc:80/x",
            "http://A.agents.svc:80",
        )
    ),
    *(
        (lambda w, name=name: w["tasks"]["scope"][0].update(header=name), "tasks.scope[0].header: must be the name")
        for name in ("X_Region", "", "x region", "x:", "-x", "x--y", "régión")
    ),
    *(
        (lambda w, name=name: w["tasks"]["scope"][0].update(header=name), "tasks.scope[0].header: has a meaning")
        for name in ("host", "AUTHORIZATION", "Content-Region", "Connection", "TE", "Upgrade", "Interlock-Forwarded")
    ),
    (lambda w: w["scope"][0].update(values=[]), "scope[0].values: Expected `array` of length >= 1"),
    (lambda w: w["scope"].append(w["scope"][0]), "scope[1].dimension: 'region' is there twice"),
    (lambda w: w["sources"].append(w["sources"][0]), "sources[1].name: 'crm' is there twice"),
    (lambda w: w["sources"][0].update(name="../agent"), SOURCE_NAME),
    (lambda w: w["sources"][0].update(name="crm\n"), SOURCE_NAME),
    (lambda w: w["sources"][0].update(name="c" * 64), SOURCE_NAME),
    (lambda w: w["sources"][0].update(transport="sse"), "sources[0].transport: Invalid enum value 'sse'"),
    (lambda w: w["sources"][0]["grants"].pop(0), "sources[0].grants: the layer Binding is missing"),
    (lambda w: w["sources"][0]["grants"].pop(1), "sources[0].grants: the layer Matrix is missing"),
    (lambda w: w["sources"][0]["grants"][0].update(layer="Other"), "sources[0].grants[0].layer"),
    (lambda w: w["sources"][0]["grants"][0].update(write=["*"]), 'sources[0].grants[0].write: "*" is for read only'),
    (lambda w: w["sources"][0]["grants"][0].update(delete=["*"]), 'sources[0].grants[0].delete: "*" is for read only'),
    (lambda w: w["sources"][0]["grants"][0].update(read="*"), "sources[0].grants[0].read: Expected `array`, got `str`"),
    (lambda w: w["sources"][0]["grants"][0].update(read=[1]), "sources[0].grants[0].read[0]"),
    (lambda w: w["sources"][0]["tools"].append(w["sources"][0]["tools"][0]), "sources[0].tools[1].name"),
    (lambda w: w["sources"][0]["tools"][0].update(operation="list"), "sources[0].tools[0].operation"),
    (lambda w: w["sources"][0]["tools"][0].update(operation=["read"]), "sources[0].tools[0].operation"),
    (lambda w: w["sources"][0]["tools"][0]["scope"][0].pop("pointer"), "sources[0].tools[0].scope[0]: must have"),
    (lambda w: w["sources"][0]["tools"][0]["scope"][0].update(unscoped="Allowed"), "sources[0].tools[0].scope[0]"),
    (
        lambda w: w["sources"][0]["tools"][0]["scope"][0].update(pointer="region"),
        "sources[0].tools[0].scope[0].pointer",
    ),
    (lambda w: w["sources"][0]["tools"][0]["scope"][0].update(pointer="/a~2"), "sources[0].tools[0].scope[0].pointer"),
    (
        lambda w: w["sources"][0]["tools"][0]["scope"][1].update(inject=True),
        "sources[0].tools[0].scope[1].inject: needs a pointer",
    ),
    (lambda w: w["sources"][0]["tools"][0]["scope"][1].update(unscoped="Yes"), "sources[0].tools[0].scope[1].unscoped"),
    (lambda w: w["sources"][0]["tools"][0]["scope"][1].update(dimension="region"), "sources[0].tools[0].scope[1]"),
    (lambda w: w["sources"][0]["tools"][0].pop("arguments"), "sources[0].tools[0].arguments: is missing"),
    (lambda w: rule(w, 0).pop("prefix"), f"{RULES}[0]: must have exactly one of enum, prefix, pattern, maximum"),
    (lambda w: rule(w, 0).update(maximum=1), f"{RULES}[0]: must have exactly one"),
    (lambda w: rule(w, 0).update(pointer="path"), f"{RULES}[0].pointer"),
    (lambda w: rule(w, 0).update(minimum=1), f"{RULES}[0].minimum: is unknown"),
    (lambda w: rule(w, 0).update(prefix=""), f"{RULES}[0].prefix"),
    (lambda w: rule(w, 1).update(enum=[]), f"{RULES}[1].enum: Expected `array` of length >= 1"),
    (lambda w: rule(w, 1).update(enum=[1]), f"{RULES}[1].enum[0]"),
    (lambda w: rule(w, 2).update(pattern="(a+)+"), f"{RULES}[2].pattern: must be"),
    (lambda w: rule(w, 2).update(pattern="[z-a]"), f"{RULES}[2].pattern: 'z-a' goes backwards"),
    (lambda w: rule(w, 3).update(maximum=-1), f"{RULES}[3].maximum"),
    (lambda w: rule(w, 3).update(maximum=1.5), f"{RULES}[3].maximum"),
    (lambda w: rule(w, 3).update(maximum=True), f"{RULES}[3].maximum"),
    (lambda w: w["sources"][0].pop("resources"), "sources[0].resources: is missing"),
    (lambda w: w["sources"][0]["resources"].append(w["sources"][0]["resources"][0]), "sources[0].resources[1].uri"),
    *(
        (lambda w, uri=uri: w["sources"][0]["resources"][0].update(uri=uri), "sources[0].resources[0].uri")
        for uri in ("contacts", "*", "crm://a b", "crm://{id}", "file:///data/../etc", "file:///..", "c:\\x", "c:x\n")
    ),
    (lambda w: w["sources"][0]["resources"][0]["scope"][0].update(values=[]), "sources[0].resources[0].scope[0]"),
    (lambda w: w["sources"][0]["resources"][0]["scope"][0].update(unscoped="Allowed"), "sources[0].resources[0].sc"),
    (lambda w: w["sources"][0]["resources"][0]["scope"][1].update(unscoped="No"), "sources[0].resources[0].scope[1]"),
    (lambda w: w["sources"][0]["resources"][0]["scope"][1].update(dimension="region"), "sources[0].resources[0].sco"),
    (lambda w: w["sources"][0].pop("prompts"), "sources[0].prompts: is missing"),
    (lambda w: w["sources"][0]["prompts"].append(w["sources"][0]["prompts"][0]), "sources[0].prompts[1].name"),
    (lambda w: w["sources"][0].pop("serverRequests"), "sources[0].serverRequests: is missing"),
    (
        lambda w: w["sources"][0].update(serverRequests=["sampling"]),
        "sources[0].serverRequests[0]: Invalid enum value",
    ),
    (lambda w: w["sources"][0].pop("limits"), "sources[0].limits: is missing"),
    (lambda w: w["sources"][0]["limits"].update(requestBytes=4194305), "sources[0].limits.requestBytes"),
    (lambda w: w["sources"][0]["limits"].update(resultBytes=1023), "sources[0].limits.resultBytes"),
    (lambda w: w["sources"][0]["limits"].update(inFlight=0), "sources[0].limits.inFlight"),
    (lambda w: w["sources"][0]["limits"].pop("inFlight"), "sources[0].limits.inFlight: is missing"),
    (lambda w: w.pop("audit"), "audit: is missing"),
    (lambda w: w["audit"].update(arguments="Full"), "audit.arguments: Invalid enum value 'Full'"),
    (lambda w: w["audit"].update(arguments="Digest"), "audit.redact: a digest alone has nothing to redact"),
    (lambda w: w["audit"].update(redact=["email"]), "audit.redact[0]: must be a JSON pointer"),
    (lambda w: w["audit"].update(keep=1), "audit.keep: is unknown"),
]


@pytest.mark.parametrize(
    ("pins", "words"),
    [
        ([{"name": "a", "digest": "0" * 63}], "pins[0].digest: must be a SHA-256 in 64 hexadecimal digits"),
        ([{"name": "a", "digest": "A" * 64}], "pins[0].digest: must be a SHA-256 in 64 hexadecimal digits"),
        ([{"name": "a", "digest": "0" * 64}] * 2, "pins[1].name: 'a' is there twice"),
    ],
)
def test_a_pin_is_one_digest_of_one_tool(pins: list[dict[str, str]], words: str) -> None:
    broken = copy.deepcopy(WIRE)
    broken["sources"][0]["pins"] = pins
    with pytest.raises(BundleInvalid, match=re.escape(words)):
        parse_bundle(json.dumps(broken))


@pytest.mark.parametrize(("change", "path"), INVALID, ids=[path for _, path in INVALID])
def test_what_is_wrong_is_refused_with_its_path(change: Change, path: str) -> None:
    wire = json.loads(json.dumps(WIRE))
    change(wire)
    with pytest.raises(BundleInvalid) as refusal:
        parse_bundle(json.dumps(wire))
    assert str(refusal.value).startswith(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"schemaVersion": 1, "schemaVersion": 1}', '{"schemaVersion": NaN}']
)
def test_what_is_no_strict_json_object_is_refused(text: str) -> None:
    with pytest.raises(BundleInvalid):
        parse_bundle(text)


def test_a_version_that_is_only_equal_to_one_is_refused() -> None:
    with pytest.raises(BundleInvalid, match="schemaVersion"):
        parse_bundle(json.dumps({**WIRE, "schemaVersion": True}))
