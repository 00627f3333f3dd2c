import json
from collections.abc import Callable
from typing import Any

import pytest

from interlock_guard.bundle import (
    AgentIdentity,
    Bundle,
    BundleInvalid,
    Grant,
    ScopeLimit,
    Source,
    Tool,
    ToolScope,
    digest,
    dump_bundle,
    parse_bundle,
)

WIRE: dict[str, Any] = {
    "schemaVersion": 1,
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
                        {"dimension": "region", "pointer": "/region"},
                        {"dimension": "product-line", "unscoped": "Allowed"},
                    ],
                }
            ],
            "grants": [
                {"layer": "Binding", "rule": "mcpbinding/crm", "read": ["*"], "write": ["tasks"], "delete": []},
                {"layer": "Matrix", "rule": "agentpolicy/s/dataAccess[0]", "read": ["c"], "write": [], "delete": []},
                {"layer": "Agent", "rule": "agent/a/bindings[crm]", "read": ["c"], "write": [], "delete": []},
            ],
        }
    ],
}

PARSED = Bundle(
    schema_version=1,
    agent=AgentIdentity("support-triage", "agents", "u-1"),
    revision="0123456789",
    stage="one-region",
    environment="production",
    scope=(ScopeLimit("region", ("eu-west",)),),
    sources=(
        Source(
            name="crm",
            binding="crm-production",
            transport="stdio",
            tools=(
                Tool(
                    "get_contact",
                    "read",
                    "contacts",
                    (
                        ToolScope("region", "/region", unscoped=False),
                        ToolScope("product-line", None, unscoped=True),
                    ),
                ),
            ),
            grants=(
                Grant("Binding", "mcpbinding/crm", ("*",), ("tasks",), ()),
                Grant("Matrix", "agentpolicy/s/dataAccess[0]", ("c",), (), ()),
                Grant("Agent", "agent/a/bindings[crm]", ("c",), (), ()),
            ),
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
INVALID: list[tuple[Change, str]] = [
    (lambda w: w.update(schemaVersion=2), "schemaVersion"),
    (lambda w: w.pop("schemaVersion"), "schemaVersion: is missing"),
    (lambda w: w.update(extra=1), "extra: is unknown"),
    (lambda w: w.pop("scope"), "scope: is missing"),
    (lambda w: w.update(agent=[]), "agent: must be an object"),
    (lambda w: w["agent"].update(uid=""), "agent.uid"),
    (lambda w: w["agent"].update(more=1), "agent.more: is unknown"),
    (lambda w: w.update(stage="One Region"), "stage"),
    (lambda w: w.update(scope={}), "scope: must be a list"),
    (lambda w: w["scope"][0].update(values=[]), "scope[0].values: must not be empty"),
    (lambda w: w["scope"].append(w["scope"][0]), "scope[1].dimension: 'region' is there twice"),
    (lambda w: w["sources"].append(w["sources"][0]), "sources[1].name: 'crm' is there twice"),
    (lambda w: w["sources"][0].update(name="../agent"), SOURCE_NAME),
    (lambda w: w["sources"][0].update(name="crm\n"), SOURCE_NAME),
    (lambda w: w["sources"][0].update(name="c" * 64), SOURCE_NAME),
    (lambda w: w["sources"][0].update(transport="http"), "sources[0].transport: must be one of stdio"),
    (lambda w: w["sources"][0]["grants"].pop(0), "sources[0].grants: the layer Binding is missing"),
    (lambda w: w["sources"][0]["grants"].pop(1), "sources[0].grants: the layer Matrix is missing"),
    (lambda w: w["sources"][0]["grants"][0].update(layer="Other"), "sources[0].grants[0].layer"),
    (lambda w: w["sources"][0]["grants"][0].update(write=["*"]), 'sources[0].grants[0].write: "*" is for read only'),
    (lambda w: w["sources"][0]["grants"][0].update(delete=["*"]), 'sources[0].grants[0].delete: "*" is for read only'),
    (lambda w: w["sources"][0]["grants"][0].update(read="*"), "sources[0].grants[0].read: must be a list"),
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
    (lambda w: w["sources"][0]["tools"][0]["scope"][1].update(unscoped="Yes"), "sources[0].tools[0].scope[1].unscoped"),
    (lambda w: w["sources"][0]["tools"][0]["scope"][1].update(dimension="region"), "sources[0].tools[0].scope[1]"),
]


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
