"""Any bundle that can be built is read back as it was, and any damage to its text is refused or is another bundle."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from interlock_contract.bundle import (
    LARGEST_NUMBER,
    LEAST_BYTES,
    MAX_CONCURRENT_TASKS,
    MAX_DRAIN_SECONDS,
    MAX_IN_FLIGHT,
    MAX_REQUEST_BYTES,
    MAX_RESULT_BYTES,
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
    dump_bundle,
    parse_bundle,
)
from interlock_contract.bundle_schema import SCHEMA_VERSION
from interlock_contract.http_target import HttpTarget, TargetHeader
from interlock_contract.model_access import Model, ModelAccess, Provider
from interlock_contract.strict_fields import BundleInvalid

NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
NO_WILDCARDS = TEXTS.filter(lambda text: text != "*")
"""Resources that a grant may write or delete."""
WORDS = st.text(st.characters(categories=["Ll", "Lu", "Nd"], max_codepoint=0x17F), min_size=1, max_size=10)
POINTERS = WORDS.map(lambda word: f"/{word}")
FILES = st.from_regex(r"[0-9a-z]{1,16}", fullmatch=True)
DIGESTS = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
OPERATIONS = st.sampled_from(["read", "write", "delete"])


def some(what: st.SearchStrategy[Any], key: str | None = None, least: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    """A few of these, no two of one key."""
    unique: Any = (lambda one: getattr(one, key)) if key else None
    return st.lists(what, min_size=least, max_size=2, unique_by=unique).map(tuple)


TOOL_SCOPES = st.one_of(
    st.builds(BundleToolScope, NAMES, POINTERS, inject=st.booleans()),
    st.builds(BundleToolScope, NAMES, unscoped=st.just("Allowed")),
)
RESOURCE_SCOPES = st.one_of(
    st.builds(BundleResourceScope, NAMES, some(TEXTS, least=1)),
    st.builds(BundleResourceScope, NAMES, unscoped=st.just("Allowed")),
)
RULES = st.one_of(
    st.builds(BundleArgumentRule, POINTERS, enum=some(TEXTS, least=1)),
    st.builds(BundleArgumentRule, POINTERS, prefix=TEXTS),
    st.builds(BundleArgumentRule, POINTERS, pattern=st.sampled_from(["[a-z]{2,5}", r"\d+", "a.*"])),
    st.builds(BundleArgumentRule, POINTERS, maximum=st.integers(0, LARGEST_NUMBER)),
)
TOOLS = st.builds(BundleTool, TEXTS, OPERATIONS, TEXTS, some(TOOL_SCOPES, "dimension"), some(RULES))
PROMPTS = st.builds(BundlePrompt, TEXTS, OPERATIONS, TEXTS, some(TOOL_SCOPES, "dimension"), some(RULES))
RESOURCES = st.builds(
    BundleResource,
    st.from_regex(r"[a-z]{1,5}://[a-z]{1,8}(/[a-z*]{1,8})?", fullmatch=True),
    OPERATIONS,
    TEXTS,
    some(RESOURCE_SCOPES, "dimension"),
)
HEADER_NAMES = st.from_regex(r"X-[A-Za-z0-9]{1,8}", fullmatch=True)
HEADERS = st.one_of(
    st.builds(TargetHeader, HEADER_NAMES, st.sampled_from(["a", "a b", "~"]), st.none()),
    st.builds(TargetHeader, HEADER_NAMES, st.none(), FILES),
)


def targets(headers: st.SearchStrategy[tuple[TargetHeader, ...]]) -> st.SearchStrategy[HttpTarget]:
    safe = st.builds(
        HttpTarget,
        NAMES.map("https://{}.example.com/v1".format),
        st.sampled_from(["Public", "Private"]),
        headers,
        st.none() | FILES,
    )
    return safe | st.builds(HttpTarget, NAMES.map("http://{}:80".format), st.just("Private"), headers, st.none())


GRANTS = st.tuples(
    *(
        st.builds(Grant, st.just(layer), TEXTS, some(TEXTS), some(NO_WILDCARDS), some(NO_WILDCARDS))
        for layer in ("Binding", "Matrix")
    )
)
LIMITS = st.builds(
    BundleLimits,
    st.integers(LEAST_BYTES, MAX_REQUEST_BYTES),
    st.integers(LEAST_BYTES, MAX_RESULT_BYTES),
    st.integers(1, MAX_IN_FLIGHT),
)


def sources(transport: str) -> st.SearchStrategy[BundleSource]:
    headers = st.lists(HEADERS, max_size=2, unique_by=lambda one: one.name.lower()).map(tuple)
    return st.builds(
        BundleSource,
        NAMES,
        TEXTS,
        st.just(transport),
        some(TOOLS, "name"),
        GRANTS,
        some(RESOURCES, "uri"),
        some(PROMPTS, "name"),
        some(st.sampled_from(["Sampling", "Elicitation", "Roots"])).map(lambda asked: tuple(dict.fromkeys(asked))),
        LIMITS,
        targets(headers) if transport == "http" else st.none(),
        some(st.builds(Pin, TEXTS, DIGESTS), "name"),
    )


PROVIDERS = st.builds(
    Provider,
    NAMES,
    st.sampled_from(["OpenAI", "Anthropic"]),
    targets(st.just(())),
    some(st.builds(Model, st.from_regex(r"[a-z][-a-z0-9.:]{0,9}[a-z]", fullmatch=True), FILES), "name"),
)
SCOPES = some(st.builds(ScopeLimit, NAMES, some(TEXTS, least=1)), "dimension")
TASK_SCOPES = st.one_of(
    st.builds(BundleTaskScope, NAMES, header=HEADER_NAMES), st.builds(BundleTaskScope, NAMES, pointer=POINTERS)
)
TASKS = st.builds(
    BundleTasks,
    st.integers(1, 65535),
    st.integers(1, MAX_CONCURRENT_TASKS),
    some(TASK_SCOPES, "dimension"),
    st.integers(0, MAX_DRAIN_SECONDS),
)
EXCLUDED = st.lists(SCOPES, max_size=2, unique=True).map(tuple)
PEERS = st.builds(BundlePeer, NAMES, TEXTS, NAMES.map("http://{}.agents.svc".format), SCOPES, EXCLUDED, st.booleans())
BUNDLES = st.builds(
    Bundle,
    st.just(SCHEMA_VERSION),
    st.builds(AgentIdentity, NAMES, st.just("agents"), TEXTS),
    TEXTS,
    NAMES,
    NAMES,
    SCOPES,
    some(sources("stdio") | sources("http"), "name"),
    st.builds(BundleAuditPolicy) | st.builds(BundleAuditPolicy, st.just("Redacted"), some(POINTERS)),
    st.none() | TASKS,
    st.none() | st.builds(ModelAccess, some(PROVIDERS, "name")),
    st.none() | DIGESTS,
    excluded=EXCLUDED,
    is_counted=st.booleans(),
    is_draining=st.booleans(),
    peers=some(PEERS, "url"),
)


MAY_BE_MISSING = {
    "agentKeyDigest",
    "tasks",
    "models",
    "caFile",
    "http",
    "inject",
    "drainSeconds",
    "excluded",
    "draining",
    "counted",
    "peers",
    "scope",
}
"""What then means something else."""


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all members of all objects."""
    found: list[tuple[Any, ...]] = []
    if isinstance(node, dict):
        found += [(*path, name) for name in node]
    for name, member in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        found += places(member, (*path, name))
    return found


@settings(max_examples=20)
@given(BUNDLES)
def test_a_bundle_is_read_back_as_it_was_and_written_the_same_again(bundle: Bundle) -> None:
    text = dump_bundle(bundle)

    assert parse_bundle(text) == bundle
    assert dump_bundle(parse_bundle(text)) == text
    assert parse_bundle(json.dumps(json.loads(text), indent=2)) == bundle


@settings(max_examples=20)
@given(BUNDLES, st.data())
def test_a_member_that_is_missing_unknown_or_of_another_type_is_never_passed_over(
    bundle: Bundle, data: st.DataObject
) -> None:
    document = json.loads(dump_bundle(bundle))
    *parents, last = data.draw(st.sampled_from(places(document)))
    node = document
    for parent in parents:
        node = node[parent]
    match data.draw(st.sampled_from(["missing", "unknown", "another type"])):
        case "missing":
            del node[last]
        case "unknown":
            node["somethingElse"] = node[last]
        case _:
            node[last] = {"an": "object"} if not isinstance(node[last], dict) else 7

    try:
        read = parse_bundle(json.dumps(document))
    except BundleInvalid:
        return
    assert read != bundle
    assert last in MAY_BE_MISSING


@settings(max_examples=20)
@given(BUNDLES, BUNDLES)
def test_two_bundles_have_one_text_only_if_they_are_one(one: Bundle, other: Bundle) -> None:
    assert (dump_bundle(one) == dump_bundle(other)) == (one == other)
    assert dump_bundle(one) == dump_bundle(structs.replace(one))
