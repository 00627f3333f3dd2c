"""Who gives commands about a rollout, in which form and under whose name: admission on a real API server."""

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from interlock_contract.names import ABORT, OVERRIDE_GATES, PAUSE, PROMOTE, RETRY, ROLLBACK, ROLLOUT_COMMANDS
from tests.integration.callers import APPLY, MERGE, Caller, Json, Reply
from tests.integration.installed_policies import install_policies
from tests.integration.kubectl import AGENT, POLICY, ROOT, Cluster, Kubectl, edited
from tests.integration.test_admission_release import Place, patch, switch
from tests.requirements import requirement
from tests.support import bounds

pytestmark = pytest.mark.api

POLICIES = ("agents-commands", "agents-kill-only", "agents-kill-room", "identity")
VERBS = {name: name.partition("/")[2] for name in ROLLOUT_COMMANDS}
LEADING = tuple(name for name in ROLLOUT_COMMANDS if name != OVERRIDE_GATES)
ROLES = {
    "editor": ("edit",),
    "owner": ("admin",),
    "killer": ("interlock-kill-switch",),
    "leader": ("interlock-rollout",),
    "overrider": ("interlock-override-gates",),
    **{verb: ("edit", f"only-{verb}") for verb in VERBS.values()},
}
REVISION = "7-3f2a91c04b"
VALUES = {name: f"{REVISION}/production" if name in (PAUSE, PROMOTE, OVERRIDE_GATES) else REVISION for name in VERBS}
WAIT_SECONDS = 30.0
DRY = "?dryRun=All"
_RBAC = "/apis/rbac.authorization.k8s.io/v1/clusterroles"


@pytest.fixture(scope="module")
def place(kwok_cluster: Cluster) -> Iterator[Place]:
    client = Kubectl(kwok_cluster)
    roles = [a_role(verb) for verb in VERBS.values()]
    client.must("apply", "--server-side", "-f", "-", stdin=as_list(roles))
    with Place.installed(kwok_cluster, POLICIES, ROLES, POLICY) as made:
        _wait_until_in_force(made)
        yield made
    client.must("delete", "--ignore-not-found", "-f", "-", stdin=as_list(roles))


def a_role(verb: str) -> Json:
    rules = [{"apiGroups": ["interlock.dev"], "resources": ["agents"], "verbs": [verb]}]
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
    return {**kind, "metadata": {"name": f"only-{verb}"}, "rules": rules}


def as_list(items: list[Json]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _wait_until_in_force(place: Place) -> None:
    path = f"{place.agent()}{DRY}"
    bounds.eventually(
        lambda: give(place.users["editor"], path, {PAUSE: REVISION}).was_denied_by("agents-commands"),
        "commands are refused",
        WAIT_SECONDS,
    )
    bounds.eventually(
        lambda: patch(place.users["leader"], path, {"metadata": {"labels": {"a": "b"}}}).was_denied_by(
            "agents-kill-only"
        ),
        "kill-only is in force",
        WAIT_SECONDS,
    )
    for user, name in [
        ("leader", PAUSE),
        ("overrider", OVERRIDE_GATES),
        *((verb, name) for name, verb in VERBS.items()),
    ]:
        bounds.eventually(
            lambda user=user, name=name: f"{name}-by" in stamped(give(place.users[user], path, {name: VALUES[name]})),
            f"the role of {user}",
            WAIT_SECONDS,
        )


def give(caller: Caller, path: str, annotations: dict[str, str | None]) -> Reply:
    return patch(caller, path, {"metadata": {"annotations": annotations}})


def stamped(reply: Reply) -> dict[str, str]:
    found: dict[str, str] = reply.json()["metadata"].get("annotations", {}) if reply.status == 200 else {}
    return found


def name_of(user: str, place: Place) -> str:
    return f"system:serviceaccount:{place.namespace}:{user}"


@requirement("rollout.commands")
@pytest.mark.parametrize("name", ROLLOUT_COMMANDS)
def test_each_command_needs_a_verb_of_its_own(place: Place, name: str) -> None:
    path = place.agent()
    for user in ("editor", *(verb for verb in VERBS.values() if verb != VERBS[name])):
        reply = give(place.users[user], path, {name: VALUES[name]})
        assert reply.was_denied_by("agents-commands")
        assert f'{user}" may not set {name} of agent' in reply.text
        role = "interlock-override-gates" if name == OVERRIDE_GATES else "interlock-rollout"
        assert f"the verb {VERBS[name]} on agents.interlock.dev, which ClusterRole {role} has" in reply.text
    reply = give(place.users[VERBS[name]], path, {name: VALUES[name]})
    assert stamped(reply) == stamped(reply) | {name: VALUES[name], f"{name}-by": name_of(VERBS[name], place)}


@requirement("rollout.commands")
def test_the_roles_have_the_verbs(place: Place) -> None:
    path = f"{place.agent()}{DRY}"

    def may(user: str) -> set[str]:
        return {name for name in VERBS if give(place.users[user], path, {name: VALUES[name]}).status == 200}

    assert may("leader") == set(LEADING)
    assert may("overrider") == {OVERRIDE_GATES}
    assert may("owner") == {PAUSE, ABORT, RETRY, ROLLBACK}
    assert may("editor") == may("killer") == set()


@requirement("rollout.commands")
def test_a_new_agent_brings_no_command_without_the_right(place: Place) -> None:
    for name, value in VALUES.items():
        manifest = edited(AGENT, metadata__name=f"a-{uuid4().hex[:8]}", metadata__annotations={name: value})
        assert place.users["editor"].send("POST", place.agents + DRY, manifest).was_denied_by("agents-commands")
        path = f"{place.agents}/{manifest['metadata']['name']}{DRY}&fieldManager=x"
        assert place.users["editor"].send("PATCH", path, manifest, APPLY).was_denied_by("agents-commands")
        reply = place.users[VERBS[name]].send("POST", place.agents, manifest)
        assert reply.status == 201, reply.text
        assert reply.json()["metadata"]["annotations"][f"{name}-by"] == name_of(VERBS[name], place)


@requirement("rollout.commands")
def test_a_value_that_does_not_change_needs_no_right(place: Place) -> None:
    """As GitOps applies the same manifest again."""
    path = place.agent(**VALUES_OF_TWO)
    manifest = {key: AGENT[key] for key in ("apiVersion", "kind", "spec")}
    manifest["metadata"] = {"name": path.rpartition("/")[2], "annotations": VALUES_OF_TWO}
    editor = place.users["editor"]
    before = place.admin.must("GET", path)["metadata"]["annotations"]
    reply = editor.send("PATCH", f"{path}?fieldManager=flux&force=true", manifest, APPLY)
    assert stamped(reply) == before
    assert stamped(patch(editor, path, {"spec": {"purpose": "Something else"}, "metadata": manifest["metadata"]}))


VALUES_OF_TWO = {PROMOTE: f"{REVISION}/production", ROLLBACK: REVISION}


@requirement("rollout.commands")
def test_a_command_names_who_gave_it_last(place: Place) -> None:
    path, leader, editor = place.agent(), place.users["leader"], place.users["editor"]
    for name in LEADING:
        by, mine = f"{name}-by", name_of("leader", place)
        assert stamped(give(leader, path, {name: VALUES[name], by: "ada"}))[by] == mine
        for user in (leader, editor):
            for forged in ("ada", None):
                assert stamped(give(user, path, {by: forged}))[by] == mine
        other = VALUES[name].replace("7-", "8-")
        assert stamped(give(place.admin, path, {name: other}))[by] != mine
        place.admin.send("PATCH", f"{path}/status", {"metadata": {"annotations": {by: "ada"}}, "status": {}}, MERGE)
        assert place.admin.must("GET", path)["metadata"]["annotations"][by] not in ("ada", mine)
        assert {name, by}.isdisjoint(stamped(give(leader, path, {name: None})))


@requirement("rollout.commands")
def test_removing_a_pause_resumes_so_it_needs_the_right(place: Place) -> None:
    path, editor, leader = place.agent(), place.users["editor"], place.users["leader"]
    for name, value in VALUES.items():
        assert give(place.admin, path, {name: value}).status == 200
    reply = give(editor, path + DRY, {PAUSE: None})
    assert reply.was_denied_by("agents-commands")
    assert f"may not remove {PAUSE} of agent" in reply.text
    whole = place.admin.must("GET", path)
    del whole["metadata"]["annotations"]
    assert editor.send("PUT", path + DRY, whole).was_denied_by("agents-commands")
    for name in VALUES:
        reply = give(place.users["killer"], path + DRY, {name: None})
        assert reply.was_denied_by("agents-kill-only") or reply.was_denied_by("agents-commands")
    for name in (PROMOTE, ABORT, RETRY, ROLLBACK, OVERRIDE_GATES):
        assert name not in stamped(give(editor, path, {name: None}))
    assert PAUSE not in stamped(give(leader, path, {PAUSE: None}))


WRONG = {
    "": LEADING,
    "7": LEADING,
    "3f2a91c04b": LEADING,
    "0-3f2a91c04b": LEADING,
    "07-3f2a91c04b": LEADING,
    "1234567890-3f2a91c04b": LEADING,
    "7-3f2a91c04": LEADING,
    "7-3f2a91c04b0": LEADING,
    "7-3F2A91C04B": LEADING,
    f"{REVISION}/": LEADING,
    f"{REVISION}/Production": LEADING,
    f"{REVISION}/{'x' * 64}": LEADING,
    f"{REVISION}/a/b": LEADING,
    f"{REVISION}\n": LEADING,
    f" {REVISION}": LEADING,
    f"{REVISION}/production": (ABORT, RETRY, ROLLBACK),
}


@requirement("rollout.commands")
@pytest.mark.parametrize("value", WRONG)
def test_what_names_no_revision_is_refused_with_a_right_one(place: Place, value: str) -> None:
    path = f"{place.agent()}{DRY}"
    agent = path.rpartition("/")[2].removesuffix(DRY)
    for name in WRONG[value]:
        reply = give(place.users["leader"], path, {name: value})
        assert reply.was_denied_by("agents-commands"), (name, reply.text)
        right = f"{name}=7-3f2a91c04b{'/production' if name == PROMOTE else ''}"
        assert f"{name} names no revision: write its number and the first 10 digits of its digest" in reply.text
        assert reply.text.endswith(f": kubectl annotate agents.interlock.dev {agent} --overwrite {right}"), reply.text


@requirement("rollout.commands")
def test_a_stage_may_be_named_and_left_out(place: Place) -> None:
    path = f"{place.agent()}{DRY}"
    for name in (PAUSE, PROMOTE):
        for value in (REVISION, f"{REVISION}/a", f"{REVISION}/{'x' * 63}", "123456789-0123456789/eu-west-1"):
            assert give(place.users["leader"], path, {name: value}).status == 200


@requirement("rollout.commands")
def test_one_request_gives_two_commands_at_most(place: Place) -> None:
    path = f"{place.agent()}{DRY}"
    two = {PROMOTE: VALUES[PROMOTE], OVERRIDE_GATES: VALUES[OVERRIDE_GATES]}
    assert give(place.admin, path, dict(two)).status == 200
    reply = give(place.admin, path, {**two, ROLLBACK: REVISION})
    assert reply.was_denied_by("agents-commands")
    assert "one request gives at most two commands" in reply.text
    for name in two:  # each of them is checked
        reply = give(place.users[VERBS[name]], path, dict(two))
        assert reply.was_denied_by("agents-commands")
        assert f"may not change {PROMOTE} and {OVERRIDE_GATES} of agent" in reply.text


@requirement("rollout.commands", "protection.kill-only")
def test_who_may_give_commands_may_change_nothing_else_but_the_kill_switch(place: Place) -> None:
    path, leader = place.agent(), place.users["leader"]
    for body in ({"spec": {"replicas": 3}}, {"metadata": {"annotations": {OVERRIDE_GATES: VALUES[OVERRIDE_GATES]}}}):
        reply = patch(leader, path, body)
        assert reply.was_denied_by("agents-kill-only") or reply.was_denied_by("agents-commands")
    assert patch(leader, path, {"spec": {"replicas": 3}}).was_denied_by("agents-kill-only")
    assert switch(leader, path, "x").status == 200


@requirement("rollout.commands")
def test_a_kill_passes_whatever_commands_the_agent_has(place: Place) -> None:
    for user in ("editor", "killer"):
        path = place.agent(**{name: VALUES[name] for name in (PAUSE, ROLLBACK)})
        before = place.admin.must("GET", path)["metadata"]["annotations"]
        after = stamped(switch(place.users[user], path, "x"))
        assert {name: after.get(name) for name in before} == before


@requirement("rollout.commands")
def test_where_nothing_stamps_a_command_carries_its_users_own_name(place: Place, kwok_cluster: Cluster) -> None:
    """As before Kubernetes 1.36, which serves no policy that stamps."""
    client, file = Kubectl(kwok_cluster), ("-f", str(ROOT / "manifests/admission/identity.yaml"))
    leader, editor, mine, theirs = place.users["leader"], place.users["editor"], name_of("leader", place), "ada"
    client.must("delete", *file)
    try:
        bounds.eventually(
            lambda: give(leader, f"{place.agent()}{DRY}", {PAUSE: REVISION}).status != 200, "no stamp", WAIT_SECONDS
        )
        for name in LEADING:
            path, by, other = place.agent(), f"{name}-by", VALUES[name].replace("7-", "8-")
            for forged in (theirs, "", None):
                reply = give(leader, path, {name: VALUES[name], by: forged})
                assert reply.was_denied_by("agents-commands")
                assert reply.text.endswith(f'in the same request, set {by} to "{mine}"')
            assert give(editor, path, {by: theirs}).was_denied_by("agents-commands")  # without a command
            assert give(leader, path, {name: VALUES[name], by: mine}).status == 200
            for user in (leader, editor):
                reply = give(user, path, {by: theirs})
                assert reply.was_denied_by("agents-commands")
                assert "so it changes only in the same request as the command" in reply.text
                assert give(user, path + DRY, {by: None}).status == 200
            assert give(place.admin, path + DRY, {name: None}).was_denied_by("agents-commands")  # the name alone
            assert stamped(give(leader, path, {name: other}))[by] == mine
            assert stamped(give(leader, path, {name: None, by: None})) == {}
    finally:
        install_policies(kwok_cluster, *file)
