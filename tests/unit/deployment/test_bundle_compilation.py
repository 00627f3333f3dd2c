import json

import pytest

from interlock.api.verification import PinnedDefinition, PinState, VerificationStatus
from interlock.deployment.children.config import build_bundle, compile_bundle
from interlock_contract.bundle import (
    BundleArgumentRule,
    BundleAuditPolicy,
    BundleLimits,
    BundlePrompt,
    BundleResource,
    BundleResourceScope,
    BundleTool,
    BundleToolScope,
    Grant,
    Pin,
    ScopeLimit,
    parse_bundle,
)
from tests.requirements import requirement
from tests.support.builders import a_binding, a_placement, a_policy, a_stage, an_agent
from tests.support.pins import DEFINITION

SCOPED = a_stage("one-region", "production", scope={"region": ["eu-west", "eu-north"], "product": ["billing"]})


@requirement("deployment.bundle")
def test_the_guard_reads_back_what_was_compiled() -> None:
    binding = a_binding().with_tools(
        {
            "name": "get",
            "operation": "read",
            "resource": "contacts",
            "scope": [{"dimension": "region", "pointer": "/r"}],
        }
    )
    placement = a_placement(an_agent().with_stages(SCOPED), bindings=(binding,))

    manifest = build_bundle(placement)

    assert list(manifest["data"]) == ["bundle.json"]
    assert parse_bundle(manifest["data"]["bundle.json"]) == compile_bundle(placement)


def test_the_bundle_says_for_whom_it_is() -> None:
    bundle = compile_bundle(a_placement(an_agent().with_stages(SCOPED)))

    assert (bundle.agent.name, bundle.agent.namespace, bundle.agent.uid) == ("triage", "agents", "uid-of-triage")
    assert bundle.agent.owner == "ada@example.com"
    assert (bundle.stage, bundle.environment) == ("one-region", "production")
    assert len(bundle.revision) == 64


def test_a_stages_scope_is_carried_whole_and_no_scope_is_no_limit() -> None:
    limited = compile_bundle(a_placement(an_agent().with_stages(SCOPED)))
    unlimited = compile_bundle(a_placement())

    assert limited.scope == (ScopeLimit("region", ("eu-west", "eu-north")), ScopeLimit("product", ("billing",)))
    assert unlimited.scope == ()


def test_a_tools_way_of_showing_its_scope_is_carried() -> None:
    scope = [{"dimension": "region", "pointer": "/a/b"}, {"dimension": "product", "unscoped": "Allowed"}]
    binding = a_binding().with_tools({"name": "get", "operation": "delete", "resource": "contacts", "scope": scope})

    (tool,) = compile_bundle(a_placement(bindings=(binding,))).sources[0].tools

    assert (tool.name, tool.operation, tool.resource) == ("get", "delete", "contacts")
    assert tool.scope == (
        BundleToolScope("region", "/a/b"),
        BundleToolScope("product", unscoped="Allowed"),
    )


def test_rules_on_arguments_resources_and_prompts_are_carried_in_their_order() -> None:
    rules = [{"pointer": "/a", "enum": ["x"]}, {"pointer": "/b", "pattern": "[a-z]+"}, {"pointer": "/n", "maximum": 0}]
    more = [{"pointer": "/c", "prefix": "/data/"}, {"pointer": "/d", "enum": ["x"]}]
    binding = (
        a_binding()
        .with_tools(
            {"name": "b*", "operation": "write", "resource": "contacts", "arguments": rules},
            {"name": "a", "operation": "read", "resource": "contacts"},
        )
        .with_resources(
            {"uri": "crm://b/*", "resource": "contacts", "scope": [{"dimension": "region", "values": ["eu-west"]}]},
            {
                "uri": "crm://a",
                "operation": "write",
                "resource": "tasks",
                "scope": [{"dimension": "region", "unscoped": "Allowed"}],
            },
        )
        .with_prompts({"name": "p", "resource": "contacts", "arguments": more})
    )

    placement = a_placement(bindings=(binding,))
    (source,) = compile_bundle(placement).sources

    assert source.tools == (
        BundleTool(
            "b*",
            "write",
            "contacts",
            (),
            (
                BundleArgumentRule("/a", enum=("x",)),
                BundleArgumentRule("/b", pattern="[a-z]+"),
                BundleArgumentRule("/n", maximum=0),
            ),
        ),
        BundleTool("a", "read", "contacts"),
    )
    assert source.resources == (
        BundleResource("crm://b/*", "read", "contacts", (BundleResourceScope("region", ("eu-west",)),)),
        BundleResource("crm://a", "write", "tasks", (BundleResourceScope("region", unscoped="Allowed"),)),
    )
    assert source.prompts == (
        BundlePrompt(
            "p",
            "read",
            "contacts",
            (),
            (BundleArgumentRule("/c", prefix="/data/"), BundleArgumentRule("/d", enum=("x",))),
        ),
    )
    assert parse_bundle(build_bundle(placement)["data"]["bundle.json"]).sources == (source,)


def test_a_server_has_no_permitted_requests_and_the_highest_limits_unless_the_binding_sets_them() -> None:
    limited = a_binding().letting_ask("Roots").limited_to(requestBytes=1024, resultBytes=4096, inFlight=2)

    (plain,) = compile_bundle(a_placement()).sources
    (said,) = compile_bundle(a_placement(bindings=(limited,))).sources

    assert (plain.server_requests, plain.limits) == ((), BundleLimits(4 * 1024 * 1024, 16 * 1024 * 1024, 64))
    assert (said.server_requests, said.limits) == (("Roots",), BundleLimits(1024, 4096, 2))


def test_a_row_by_label_grants_as_one_by_name() -> None:
    policy = a_policy().giving_nothing().giving_labelled({"team": "support"}, "crm", read=["contacts"])

    (source,) = compile_bundle(a_placement(an_agent().labelled(team="support"), policy=policy)).sources
    (other,) = compile_bundle(a_placement(an_agent().labelled(team="sales"), policy=policy)).sources

    assert source.grants[1] == Grant("Matrix", "agentpolicy/support/dataAccess[0]", ("contacts",), (), ())
    assert other.grants[1] == Grant("Matrix", "agentpolicy/support/dataAccess", (), (), ())


@requirement("action.deny-by-default")
def test_binding_and_matrix_must_both_grant() -> None:
    (source,) = compile_bundle(a_placement(bindings=(a_binding("sandbox"),))).sources

    assert (source.name, source.binding, source.transport) == ("crm", "sandbox", "stdio")
    assert source.grants == (
        Grant("Binding", "mcpbinding/sandbox", ("contacts", "opportunities"), ("tasks",), ()),
        Grant("Matrix", "agentpolicy/support/dataAccess[0]", ("contacts", "opportunities"), ("tasks",), ()),
    )


def test_an_agent_that_narrows_must_grant_too() -> None:
    agent = an_agent().using({"source": "crm", "permissions": {"read": ["contacts"]}})

    (source,) = compile_bundle(a_placement(agent)).sources

    assert source.grants[2:] == (Grant("Agent", "agent/triage/bindings[crm]", ("contacts",), (), ()),)


def test_an_agent_that_narrows_to_nothing_grants_nothing() -> None:
    agent = an_agent().using({"source": "crm", "permissions": {}})

    (source,) = compile_bundle(a_placement(agent)).sources

    assert source.grants[2] == Grant("Agent", "agent/triage/bindings[crm]", (), (), ())


def test_without_a_row_the_matrix_grants_nothing() -> None:
    (source,) = compile_bundle(a_placement(policy=a_policy().giving_nothing())).sources

    assert source.grants[1] == Grant("Matrix", "agentpolicy/support/dataAccess", (), (), ())


def test_a_star_is_carried_for_reading() -> None:
    policy = a_policy().giving_nothing().giving("triage", "crm", read=["*"])

    (source,) = compile_bundle(a_placement(policy=policy)).sources

    assert source.grants[1].read == ("*",)


def test_no_secret_reference_and_no_command_of_a_server_reaches_the_bundle() -> None:
    binding = a_binding().with_server(
        env=[{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "crm-secret", "key": "token"}}}]
    )

    text = build_bundle(a_placement(bindings=(binding,)))["data"]["bundle.json"]

    assert "crm-secret" not in text
    assert "crm-server" not in text


def test_equal_placements_give_equal_text() -> None:
    one, two = (build_bundle(a_placement())["data"]["bundle.json"] for _ in range(2))

    assert one == two
    assert json.loads(one)["schemaVersion"] == 5


def test_what_records_hold_of_arguments_is_the_policys_word() -> None:
    policy = a_policy().recording("Redacted", "/customer/email")

    assert compile_bundle(a_placement()).audit == BundleAuditPolicy("Digest", ())
    assert compile_bundle(a_placement(policy=policy)).audit == BundleAuditPolicy("Redacted", ("/customer/email",))


@requirement("drift.quarantined")
def test_the_pins_of_a_bundle_are_those_of_the_bindings_status_and_an_unverified_one_has_none() -> None:
    [source] = compile_bundle(a_placement()).sources
    assert source.pins == (Pin("create_task", DEFINITION), Pin("get_contact", DEFINITION))
    [source] = compile_bundle(a_placement(bindings=(a_binding().unverified(),))).sources
    assert source.pins == ()


@requirement("drift.prompts", "drift.instructions", "guard.descriptions")
def test_prompts_and_instructions_are_pinned_and_descriptions_pass_as_the_binding_says() -> None:
    status = a_binding().build().status
    assert status is not None
    one, two = ({"state": "Verified", "digest": digit * 64, "pinnedDigest": digit * 64} for digit in "12")
    known = (status.verification or VerificationStatus()).model_copy(
        update={
            "prompts": (PinnedDefinition(name="letter", **one), PinnedDefinition(name="new", state=PinState.ADDED)),
            "instructions": PinnedDefinition(name="instructions", **two),
        }
    )
    changed = status.model_copy(update={"verification": known})
    [source] = compile_bundle(a_placement(bindings=(a_binding().with_status(changed),))).sources
    assert (source.prompt_pins, source.instructions_pin) == ((Pin("letter", "1" * 64),), None)
    assert source.resource_descriptions == "Withheld"
    asking = a_binding().with_instructions("Pinned").showing_descriptions().with_status(changed)
    [source] = compile_bundle(a_placement(bindings=(asking,))).sources
    assert (source.instructions_pin, source.resource_descriptions) == ("2" * 64, "Unreviewed")


@requirement("guard.first-message")
@pytest.mark.parametrize("version", ["", "2025-11-25", "2026-07-28"])
def test_the_bundle_names_the_version_that_the_verification_has_found(version: str) -> None:
    status = a_binding().build().status
    assert status is not None
    known = (status.verification or VerificationStatus()).model_copy(update={"protocol": version})
    binding = a_binding().with_status(status.model_copy(update={"verification": known}))
    bundle = compile_bundle(a_placement(bindings=(binding,)))
    assert [source.protocol for source in bundle.sources] == [version]
