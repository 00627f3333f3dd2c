import copy
from collections.abc import Callable
from typing import Any

import pytest

from tools.crds.__main__ import build_crd
from tools.crds.kinds import AGENT, AGENT_POLICY
from tools.crds.lint import lint_crd, lint_crds

Edit = Callable[[dict[str, Any]], object]
CRD = build_crd(AGENT)


def spec(crd: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = version(crd)["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return fields


def version(crd: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = crd["spec"]["versions"][0]
    return first


def add(name: str, **schema: Any) -> Edit:
    return lambda crd: spec(crd).update({name: {"description": "New.", **schema}})


STRING = {"type": "string", "maxLength": 1}
LIST = {"type": "array", "maxItems": 1, "x-kubernetes-list-type": "atomic", "items": STRING}
MISTAKES: dict[str, Edit] = {
    "Agent.spec.cost: type number has no exact form": add("cost", type="number"),
    "Agent.spec.any: type None has no exact form": add("any"),
    "Agent.spec.phase: conditions say more than a phase": add("phase", **STRING),
    "Agent.spec.byName: a map of objects": add(
        "byName",
        type="object",
        maxProperties=1,
        additionalProperties={"type": "object", "properties": {}},
    ),
    "Agent.spec.byName: a map without maxProperties": add("byName", type="object", additionalProperties=STRING),
    "Agent.spec.text: a string without maxLength": add("text", type="string"),
    "Agent.spec.amount: a string without maxLength": add("amount", **{"x-kubernetes-int-or-string": True}),
    "Agent.spec.count: an integer without minimum and format": add("count", type="integer"),
    "Agent.spec.list: a list without maxItems": add("list", **{**LIST, "maxItems": None} | {}),
    "Agent.spec.list: a second field manager would widen a set": add(
        "list", **LIST | {"x-kubernetes-list-type": "set"}
    ),
    "Agent.spec.list: a list without x-kubernetes-list-type": add("list", **LIST | {"x-kubernetes-list-type": None}),
    "Agent.spec.list[]: a string without maxLength": add("list", **LIST | {"items": {"type": "string"}}),
    "Agent.spec.bindings: key source is not required": lambda crd: spec(crd)["bindings"]["items"].pop("required"),
    "Agent.spec.on: a boolean can never get a third value": add("on", type="boolean"),
    "Agent.spec.Text: the name is not camelCase": add("Text", **STRING),
    "Agent.spec.purpose: no description": lambda crd: spec(crd)["purpose"].pop("description"),
    "Agent.spec.free: say what may stand here": add("free", **STRING, **{"x-kubernetes-preserve-unknown-fields": True}),
    "Agent.spec.none: say what may stand here": add("none", **STRING, nullable=True),
    "Agent.spec.text: a rule without a message": add(
        "text",
        **STRING,
        **{"x-kubernetes-validations": [{"rule": "true"}]},
    ),
    "Agent.spec.text: a rule with oldSelf": add(
        "text",
        **STRING,
        **{"x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "no"}]},
    ),
    "Agent: a rule at the root": lambda crd: version(crd)["schema"]["openAPIV3Schema"].update(
        {"x-kubernetes-validations": [{"rule": "true", "message": "no"}]},
    ),
    "Agent: spec is not required": lambda crd: version(crd)["schema"]["openAPIV3Schema"].pop("required"),
    "Agent: a status needs the status subresource": lambda crd: version(crd).pop("subresources"),
    "Agent.status.conditions: conditions are a map with key type": lambda crd: version(crd)["schema"][
        "openAPIV3Schema"
    ]["properties"]["status"]["properties"]["conditions"].pop("x-kubernetes-list-map-keys"),
    "Agent: column min staging is not written like": lambda crd: version(crd)["additionalPrinterColumns"].append(
        {"name": "min staging", "description": "x"},
    ),
    "Agent: column New has no description": lambda crd: version(crd)["additionalPrinterColumns"].append(
        {"name": "New"}
    ),
    "Agent: no category": lambda crd: crd["spec"]["names"].pop("categories"),
}


@pytest.mark.parametrize(("finding", "edit"), MISTAKES.items(), ids=list(MISTAKES))
def test_each_mistake_is_found_and_nothing_else(finding: str, edit: Edit) -> None:
    crd = copy.deepcopy(CRD)
    edit(crd)
    found = lint_crd(drop_none(crd))
    assert [line for line in found if not line.startswith(finding)] == []
    assert len(found) == 1


def drop_none(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: drop_none(value) for key, value in node.items() if value is not None}
    return [drop_none(value) for value in node] if isinstance(node, list) else node


def test_a_short_name_used_twice_is_found() -> None:
    other = build_crd(AGENT_POLICY)
    other["spec"]["names"]["shortNames"] = ["agt"]
    assert lint_crds([CRD, other]) == ["short name agt is used twice"]
