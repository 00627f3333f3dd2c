"""P3 and P2: small worlds, each cell against an oracle that shares no code with the guard; and whatever else comes."""

import contextlib
import copy
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock_contract.bundle import Bundle, dump_bundle, parse_bundle
from interlock_contract.strict_fields import BundleInvalid
from interlock_guard.decision.decide import (
    METHODS,
    Allow,
    DecisionInput,
    Deny,
    decide,
)
from interlock_guard.decision.listing import may_list_prompt, may_list_resource, may_list_template, may_list_tool
from interlock_guard.decision.server_request import SERVER_METHODS, decide_server_request
from interlock_guard.state import State
from tests.requirements import requirement
from tests.support.pins import DEFINITION

ALIVE = State(agent_uid="u", contact_at=0.0)
OPERATIONS = ("read", "write", "delete")
RESOURCES = ("contacts", "tasks")
PINNED = ("t", "a", "ab", "b", "a/b", *(f"{one}-{other}" for one in OPERATIONS for other in RESOURCES))
RULES: list[dict[str, Any]] = [
    {"pointer": "/v", "enum": ["a", "b"]},
    {"pointer": "/v", "prefix": "a"},
    {"pointer": "/v", "pattern": "a?b*"},
    {"pointer": "/v", "maximum": 3},
]
VALUES: list[Any] = [None, "a", "b", "ab", "c", "", 2, 4, -1, True, ["a", "b"], ["a", "c"], [], {}]


def wire(**source: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 5,
        "agent": {"name": "a", "namespace": "n", "uid": "u"},
        "revision": "r",
        "stage": "s",
        "environment": "staging",
        "audit": {"arguments": "Digest", "redact": []},
        "scope": [],
        "sources": [
            {
                "name": "crm",
                "binding": "b",
                "transport": "stdio",
                "tools": [],
                "grants": [],
                "resources": [],
                "prompts": [],
                "serverRequests": [],
                "limits": {"requestBytes": 1024, "resultBytes": 1024, "inFlight": 1},
                "pins": [{"name": name, "digest": DEFINITION} for name in PINNED],
                **source,
            }
        ],
    }


def call(tool: str, **arguments: Any) -> DecisionInput:
    return DecisionInput("crm", "tools/call", tool, arguments, definition=DEFINITION)


def grant(layer: str, cells: Any) -> dict[str, Any]:
    listed = {name: sorted(resource for operation, resource in cells if operation == name) for name in OPERATIONS}
    return {"layer": layer, "rule": layer, **listed}


CELLS = list(itertools.product(OPERATIONS, RESOURCES))
TOOLS = [
    {"name": "-".join(cell), "operation": cell[0], "resource": cell[1], "scope": [], "arguments": []} for cell in CELLS
]


def all_grants() -> Iterator[tuple[set[Any], set[Any], set[Any] | None]]:
    """Yield every combination of grants of three layers: two operations on one resource, with and without a star."""
    choices = [
        {*chosen}
        for size in range(4)
        for chosen in itertools.combinations([("read", "contacts"), ("write", "contacts"), ("read", "*")], size)
    ]
    yield from itertools.product(choices, choices, [None, *choices])


@requirement("guard.decides", "action.deny-by-default")
def test_every_cell_of_every_small_snapshot_is_what_the_tables_say() -> None:
    for binding, matrix, agent in all_grants():
        layers = [binding, matrix, *([] if agent is None else [agent])]
        grants = [grant(name, cells) for name, cells in zip(("Binding", "Matrix", "Agent"), layers, strict=False)]
        bundle = parse_bundle(json.dumps(wire(tools=TOOLS, grants=grants)))
        for operation, resource in CELLS:
            given_by = [
                (operation, resource) in cells or (operation == "read" and ("read", "*") in cells) for cells in layers
            ]
            decision = decide(bundle, ALIVE, call(f"{operation}-{resource}"), 0)
            assert isinstance(decision, Allow) == all(given_by)
            assert may_list_tool(bundle, "crm", f"{operation}-{resource}") == all(given_by)
            if isinstance(decision, Deny):
                assert decision.reason == f"NotGrantedBy{('Binding', 'Matrix', 'Agent')[given_by.index(False)]}"


def oracle_keeps(rule: dict[str, Any], value: Any) -> bool:
    """What the page says of rules, written down once more, for the few values of these worlds."""
    values = value if isinstance(value, list) else [value]
    allowed = {
        "enum": lambda one: one in ("a", "b"),
        "prefix": lambda one: isinstance(one, str) and one[:1] == "a",
        "pattern": lambda one: one in ("", "a", "b", "ab", "bb", "abb"),
        "maximum": lambda one: type(one) is int and one in (0, 1, 2, 3),
    }[next(key for key in rule if key != "pointer")]
    return len(values) > 0 and all(allowed(one) for one in values)


@requirement("guard.arguments")
def test_every_pair_of_rules_and_values_is_what_the_page_says() -> None:
    every = [grant(layer, CELLS) for layer in ("Binding", "Matrix")]
    for rules in [[one] for one in RULES] + [[*pair] for pair in itertools.combinations(RULES, 2)]:
        tool = {"name": "t", "operation": "read", "resource": "contacts", "scope": [], "arguments": rules}
        bundle = parse_bundle(json.dumps(wire(tools=[tool], grants=every)))
        for value in VALUES:
            decision = decide(bundle, ALIVE, call("t", v=value), 0)
            assert isinstance(decision, Allow) == all(oracle_keeps(rule, value) for rule in rules), (rules, value)


NAMES = st.sampled_from(["a", "ab", "b", "A", "a/b", "x"])
GLOBS = st.sampled_from(["a", "a*", "*", "?", "b?", "*/b", "A*"])
URIS = st.sampled_from(["c:a", "c:a/b", "c:a/../b", "c:%61", "C:a", "c:a?q", "d:a"])
URI_GLOBS = st.sampled_from(["c:a", "c:*", "c:**", "d:a", "c:a/*"])
CELL = st.sampled_from(CELLS)
SCOPES = st.sampled_from(
    [[], [{"dimension": "region", "pointer": "/region"}], [{"dimension": "region", "unscoped": "Allowed"}]]
)
RESOURCE_SCOPES = st.sampled_from(
    [[], [{"dimension": "region", "values": ["eu"]}], [{"dimension": "region", "values": ["eu", "us"]}]]
)


@st.composite
def entries(
    draw: st.DrawFn, keys: st.SearchStrategy[str], key: str, scopes: Any, *, ruled: bool
) -> list[dict[str, Any]]:
    made = []
    for name in draw(st.lists(keys, unique=True, max_size=3)):
        operation, resource = draw(CELL)
        entry = {key: name, "operation": operation, "resource": resource, "scope": draw(scopes)}
        made.append(entry | ({"arguments": draw(st.lists(st.sampled_from(RULES), max_size=2))} if ruled else {}))
    return made


@st.composite
def bundles(draw: st.DrawFn) -> dict[str, Any]:
    layers = ["Binding", "Matrix", *draw(st.sampled_from([[], ["Agent"]]))]
    granted = st.lists(st.sampled_from([*CELLS, ("read", "*")]), unique=True, min_size=2)
    made = wire(
        tools=draw(entries(GLOBS, "name", SCOPES, ruled=True)),
        prompts=draw(entries(GLOBS, "name", SCOPES, ruled=True)),
        resources=draw(entries(URI_GLOBS, "uri", RESOURCE_SCOPES, ruled=False)),
        grants=[grant(layer, draw(granted)) for layer in layers],
        serverRequests=draw(st.lists(st.sampled_from(["Sampling", "Elicitation", "Roots"]), unique=True)),
    )
    made["scope"] = draw(st.sampled_from([[], [{"dimension": "region", "values": ["eu"]}]]))
    return made


HINTS = st.none() | st.dictionaries(
    st.sampled_from(["readOnlyHint", "destructiveHint"]), st.sampled_from([True, False, None, "x"]), max_size=2
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["eu", "us", "a", "b", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["v", "region"]), inner, max_size=2),
    max_leaves=4,
)
REQUESTS = st.builds(
    DecisionInput,
    source=st.sampled_from(["crm", "crm", "crm", "mail"]),
    method=st.sampled_from([*sorted(METHODS), "tools/call", "resources/read", "initialize", ""]),
    tool=st.none() | NAMES | st.text(max_size=5),
    arguments=st.none() | st.dictionaries(st.sampled_from(["v", "region"]), JSON, max_size=2),
    uri=st.none() | URIS | st.text(max_size=8),
    prompt=st.none() | NAMES,
    annotations=HINTS,
    input_schema=st.none() | st.just({"type": "object", "properties": {"v": {"type": "string"}}}),
    definition=st.sampled_from([DEFINITION, DEFINITION, DEFINITION, "1" * 64, "", None]),
)
ENTRIES = {
    "tools/call": ("tools", "name", "tool"),
    "prompts/get": ("prompts", "name", "prompt"),
    "resources/read": ("resources", "uri", "uri"),
    "resources/subscribe": ("resources", "uri", "uri"),
    "resources/unsubscribe": ("resources", "uri", "uri"),
}


def matches_glob(glob: str, text: str, *, is_uri: bool) -> bool:
    """A glob, matched the naive way; capitals and escapes may only narrow what it says."""
    if not glob:
        return not text
    if glob.startswith("**") and is_uri:
        return any(matches_glob(glob[2:], text[cut:], is_uri=is_uri) for cut in range(len(text) + 1))
    if glob[0] == "*":
        run = len(text) if "/" not in text else text.index("/")
        return any(matches_glob(glob[1:], text[cut:], is_uri=is_uri) for cut in range(run + 1))
    if glob[0] == "?" and not is_uri:
        return text[:1] not in ("", "/") and matches_glob(glob[1:], text[1:], is_uri=is_uri)
    return text[:1] == glob[0] and matches_glob(glob[1:], text[1:], is_uri=is_uri)


def may_pass(document: dict[str, Any], request: DecisionInput) -> bool:
    """Whether some entry could let the request through, by every layer: an upper bound of what may be allowed."""
    source = document["sources"][0]
    if request.method not in ENTRIES:
        return True
    section, key, field = ENTRIES[request.method]
    text = getattr(request, field)
    for entry in source[section]:
        if text is None or not matches_glob(entry[key], text, is_uri=key == "uri"):
            continue
        asked = {entry["operation"]}
        hints = request.annotations or {}
        if request.method == "tools/call" and hints.get("readOnlyHint") is False and entry["operation"] == "read":
            asked.add("write")
        if request.method == "tools/call" and hints.get("destructiveHint") is True and not hints.get("readOnlyHint"):
            asked.add("delete")
        granted = all(
            entry["resource"] in layer[operation] or (operation == "read" and "*" in layer["read"])
            for layer in source["grants"]
            for operation in asked
        )
        ruled = all(oracle_keeps(rule, (request.arguments or {}).get("v")) for rule in entry.get("arguments", []))
        if granted and ruled and is_inside(document, entry, request.arguments or {}):
            return True
    return False


def is_inside(document: dict[str, Any], entry: dict[str, Any], arguments: Any) -> bool:
    if not document["scope"]:
        return True
    for scope in entry["scope"]:
        if "unscoped" in scope:
            return True
        said = scope["values"] if "values" in scope else arguments.get("region")
        return said == "eu" or (isinstance(said, list) and len(said) > 0 and all(one == "eu" for one in said))
    return False


@settings(max_examples=500)
@given(document=bundles(), request=REQUESTS)
@requirement("guard.fuzzed", "guard.decides")
def test_nothing_is_allowed_that_no_entry_lets_through_by_every_layer(
    document: dict[str, Any], request: DecisionInput
) -> None:
    bundle = parse_bundle(json.dumps(document))
    decision = decide(bundle, ALIVE, request, 0)
    if isinstance(decision, Allow):
        assert request.method != "tools/call" or (request.tool in PINNED and request.definition == DEFINITION)
        assert request.source == "crm"
        assert request.method in METHODS
        assert may_pass(document, request)
    else:
        assert decision.message.endswith(".")
    assert parse_bundle(dump_bundle(bundle)) == bundle


@settings(max_examples=200)
@given(document=bundles(), text=NAMES | URIS | st.text(max_size=8))
@requirement("guard.fuzzed", "guard.lists-permitted")
def test_what_is_shown_could_be_allowed_and_what_is_read_is_shown(document: dict[str, Any], text: str) -> None:
    bundle = parse_bundle(json.dumps(document))
    is_read = isinstance(decide(bundle, ALIVE, DecisionInput("crm", "resources/read", uri=text), 0), Allow)
    assert may_list_resource(bundle, "crm", text) == is_read
    for method, may_list, field in (("tools/call", may_list_tool, "tool"), ("prompts/get", may_list_prompt, "prompt")):
        for value in ({}, {"region": "eu", "v": "a"}, {"region": "eu", "v": "b"}, {"region": "eu", "v": 1}):
            request = DecisionInput("crm", method, arguments=value, definition=DEFINITION, **{field: text})
            if isinstance(decide(bundle, ALIVE, request, 0), Allow):
                assert may_list(bundle, "crm", text)
    may_list_template(bundle, "crm", text)


@given(document=bundles(), method=st.sampled_from([*SERVER_METHODS, "ping"]) | st.text(max_size=8))
@requirement("guard.fuzzed", "guard.server-requests")
def test_no_server_request_passes_that_is_not_named(document: dict[str, Any], method: str) -> None:
    decision = decide_server_request(parse_bundle(json.dumps(document)), ALIVE, "crm", method, 0)
    assert isinstance(decision, Allow) == (SERVER_METHODS.get(method) in document["sources"][0]["serverRequests"])


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from paths_in(member, (*path, key))


FULL = wire(
    tools=[TOOLS[0] | {"arguments": RULES, "scope": [{"dimension": "region", "pointer": "/region"}]}],
    prompts=[TOOLS[1]],
    resources=[
        {"uri": "c:*", "operation": "read", "resource": "r", "scope": [{"dimension": "region", "values": ["eu"]}]},
    ],
    grants=[grant("Binding", CELLS), grant("Matrix", CELLS)],
    serverRequests=["Roots"],
)


def read_or_refuse(text: str) -> Bundle | None:
    """Read a bundle, or find that it is refused in words; whatever else is raised is a crash."""
    with contextlib.suppress(BundleInvalid):
        return parse_bundle(text)
    with pytest.raises(BundleInvalid) as refused:
        parse_bundle(text)
    assert str(refused.value)
    return None


PATHS = [path for path in paths_in(FULL) if path]
JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 2**70, 1.5, "", "x", "*", "\x00", "é", "a" * 2000, [], [None], ["x", "x"], {}, {"x": 1}]
)


@settings(max_examples=300)
@given(path=st.sampled_from(PATHS), junk=JUNK, request=REQUESTS)
@requirement("guard.fuzzed")
def test_a_bundle_with_one_part_replaced_is_read_or_refused_and_never_crashes(
    path: tuple[Any, ...], junk: Any, request: DecisionInput
) -> None:
    broken = copy.deepcopy(FULL)
    node: Any = broken
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = junk
    decide(read_or_refuse(json.dumps(broken)), ALIVE, request, 0)


@given(text=st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
@requirement("guard.fuzzed")
def test_no_text_crashes_the_parser(text: str) -> None:
    read_or_refuse(text)
