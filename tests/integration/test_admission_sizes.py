"""No size of an Agent blocks its kill: the largest Agents that the API server admits, with all admission policies."""

import http
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from interlock.api.status import MAX_MANAGED_OBJECTS
from interlock_contract.names import KILL_SWITCH, KILL_SWITCH_BY, PAUSE, SPEC_AUTHOR
from tests.integration.callers import APPLY, Json, Reply
from tests.integration.installed_policies import install_policies
from tests.integration.kubectl import AGENT, POLICY, ROOT, Cluster, Kubectl, edited
from tests.integration.test_admission_release import ROLES, Place, patch, switch
from tests.requirements import requirement
from tests.support import bounds

pytestmark = [pytest.mark.api, pytest.mark.timeout(300)]

WAIT_SECONDS = 30.0
DRY = "?dryRun=All"
STEP = 50
ADMINISTRATOR = "kwok-admin"
TOO_LARGE = "an Agent has at most 1024 KiB as it is stored, since a kill must still fit"


@pytest.fixture(scope="module")
def place(kwok_cluster: Cluster) -> Iterator[Place]:
    client, folder = Kubectl(kwok_cluster), str(ROOT / "manifests/admission")
    client.install_crds()
    for file in ("namespace", "rbac"):
        client.must("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / f"manifests/base/{file}.yaml"))
    install_policies(kwok_cluster, "-k", folder)
    made = Place.create(kwok_cluster, ROLES, a_policy())
    bounds.eventually(lambda: TOO_LARGE in created(made, largest("<" * 6000), DRY).text, "in force", WAIT_SECONDS)
    bounds.eventually(lambda: created(made, largest(), DRY).status == 201, "the policy is known", WAIT_SECONDS)
    yield made
    client.must("delete", "--ignore-not-found", "--wait=false", "-k", folder)
    made.admin.send("DELETE", f"/api/v1/namespaces/{made.namespace}")


def names(count: int, prefix: str, length: int = 63) -> list[str]:
    return [f"{prefix}{number}".ljust(length, "x") for number in range(count)]


def a_policy() -> Json:
    """Return a policy with a row for each source of the largest Agent."""
    rows = [
        {"agentSelector": {"matchLabels": {"size": "large"}}, "source": source, "read": ["*"]}
        for source in names(32, "b")
    ]
    return edited(POLICY, spec__dataAccess=rows)


def largest(note: str = "") -> Json:
    """Return an Agent whose lists have as many and as long entries as its schema admits, and annotations like this."""
    scope = [{"dimension": dimension, "values": names(32, "v")} for dimension in names(8, "d", 32)]
    environments = ["development"] * 5 + ["staging"] * 5 + ["production"] * 6
    stages = [
        {"name": f"s{number}".ljust(30, "x"), "environment": environment, "minDuration": "100h", "scope": scope}
        for number, environment in enumerate(environments)
    ]
    permissions = {operation: names(64, operation) for operation in ("read", "write", "delete")}
    manifest: Json = edited(
        AGENT,
        metadata__name=f"a-{uuid4().hex[:8]}",
        metadata__labels={"size": "large"},
        spec__environment=None,
        spec__rollout={"stages": stages},
        spec__bindings=[{"source": source, "permissions": permissions} for source in names(32, "b")],
        spec__template__args=["x" * 500] * 64,
        spec__files=[{"path": f"f{number}".ljust(200, "x"), "content": "x" * 2000} for number in range(32)],
    )
    if note:
        manifest["metadata"]["annotations"] = {f"example.com/{name}": note for name in names(31, "a", 50)}
    return manifest


def created(place: Place, manifest: Json, query: str = "") -> Reply:
    return place.users["editor"].send("POST", place.agents + query, manifest)


def most(is_admitted: Callable[[int], bool], below: int, step: int = 1) -> int:
    """Return an admitted number such that one that is larger by a step is not."""
    low, high = 0, below
    while high - low > step:
        middle = (low + high) // 2
        low, high = (middle, high) if is_admitted(middle) else (low, middle)
    return low


def fill_status(place: Place, path: str) -> None:
    """Write a status that is larger than any that the operator has written: every text of users as it is bounded."""
    objects = [
        {"kind": "ConfigMap", "name": name, "uid": "u" * 36, "digest": "d" * 64}
        for name in names(MAX_MANAGED_OBJECTS, "o", 100)  # no child has a longer name
    ]
    at, digest = "2026-03-01T00:00:00Z", "d" * 64
    scope = [{"dimension": dimension, "values": names(32, "v")} for dimension in names(8, "d", 32)]
    placement = {"number": 1, "digest": digest, "stage": "s", "environment": "production", "scope": scope}
    tests = [
        {"number": 1, "stage": "s", "name": f"t{number}", "outcome": "Failed", "log": "<" * 682} for number in range(8)
    ]
    entry = {"at": at, "revision": "1-dddddddddd", "by": "u" * 256, "message": "<" * 256}
    conditions = [
        {"type": f"T{number}", "status": "True", "lastTransitionTime": at, "reason": "R", "message": "<" * 1024}
        for number in range(8)
    ]
    shown = {"revision": "1-dddddddddd", "stage": "s", "environment": "production", "serves": "x" * 17_000}
    status: dict[str, Any] = {
        "observedGeneration": 1,
        "managedObjects": objects,
        "rollout": {
            "newest": {"number": 1, "digest": digest},
            "good": placement | {"since": at},
            "leaving": [placement | {"excluded": [{"scope": scope}]}] * 2,
            "tests": tests,
        },
        "history": [entry] * 32,
        "placements": [shown] * 4,
        "conditions": conditions,
    }
    reply = place.admin.send("PATCH", f"{path}/status", {"status": status}, "application/merge-patch+json")
    assert reply.status == http.HTTPStatus.OK, reply.text


CHARACTERS = ("x", "<")
"""One byte in an Agent of as many in JSON, and one of six."""
LIKE_THEM = ("\u2028", '"', "\x01")
"""Of six bytes in JSON for three, of two for one, and of six for one."""


@requirement("protection.kill-fits")
@pytest.mark.parametrize(
    "character", [*CHARACTERS, *(pytest.param(one, marks=pytest.mark.nightly) for one in LIKE_THEM)]
)
def test_an_agent_at_the_limit_of_what_is_admitted_is_killed(place: Place, character: str) -> None:
    def agent(length: int) -> Json:
        return largest(character * length)

    length = most(lambda length: created(place, agent(length), DRY).status == http.HTTPStatus.CREATED, 6400, STEP)
    assert length > 0
    refused = created(place, agent(length + STEP), DRY)
    assert "since a kill must still fit" in refused.text or "may not be more than 262144 bytes" in refused.text
    manifest = agent(length)
    assert created(place, manifest).status == http.HTTPStatus.CREATED
    path = f"{place.agents}/{manifest['metadata']['name']}"
    fill_status(place, path)
    for user in ("editor", "killer"):
        reply = switch(place.users[user], path, f"killed by {user} {'because ' * 100}")
        assert reply.status == http.HTTPStatus.OK, reply.text[:500]
    assert switch(place.users["owner"], path, "off").status == http.HTTPStatus.OK
    assert place.admin.send("DELETE", path).status == http.HTTPStatus.OK


@requirement("protection.kill-fits")
@pytest.mark.parametrize("character", ["<", pytest.param("\x01", marks=pytest.mark.nightly)])
def test_the_tests_and_queries_of_stages_count_as_they_are_stored(place: Place, character: str) -> None:
    """The attack: texts that take six bytes for one in JSON fill the object until a kill has no room."""

    def agent(length: int) -> Json:
        env = [{"name": f"V{number}", "value": character * length} for number in range(32)]
        tests = [{"name": "smoke", "image": "example.com/smoke:1", "env": env}]
        manifest = largest()
        stages = manifest["spec"]["rollout"]["stages"]
        query = {"name": "m", "query": (character * length)[:1024] or "1", "max": "1"}
        stages[-1] |= {"tests": tests, "gates": {"metrics": [query]}}
        return manifest

    length = most(lambda length: created(place, agent(length), DRY).status == http.HTTPStatus.CREATED, 4096, STEP)
    assert length < 4000, created(place, agent(4095)).text[:500]
    assert "since a kill must still fit" in created(place, agent(length + STEP), DRY).text
    manifest = agent(length)
    assert created(place, manifest).status == http.HTTPStatus.CREATED
    path = f"{place.agents}/{manifest['metadata']['name']}"
    fill_status(place, path)
    assert switch(place.users["killer"], path, "x").status == http.HTTPStatus.OK
    assert switch(place.users["owner"], path, "off").status == http.HTTPStatus.OK
    assert place.admin.send("DELETE", path).status == http.HTTPStatus.OK


@requirement("protection.kill-fits")
def test_an_agent_with_as_many_field_managers_as_are_admitted_is_killed(place: Place) -> None:
    manifest = largest("x" * 1500)
    path, editor = f"{place.agents}/{manifest['metadata']['name']}", place.users["editor"]
    replies = []
    for number in range(33):
        reply = editor.send("PATCH", f"{path}?fieldManager=m{number}&force=true", manifest, APPLY)
        replies.append(reply)
        if reply.status >= http.HTTPStatus.BAD_REQUEST:
            break
    assert replies[0].status == http.HTTPStatus.CREATED
    assert "since a kill must still fit" in replies[-1].text, replies[-1].text[:500]
    fill_status(place, path)
    assert switch(place.users["killer"], path, "x").status == http.HTTPStatus.OK
    assert switch(place.users["owner"], path, "off").status == http.HTTPStatus.OK


@requirement("protection.kill-fits", "protection.release")
def test_an_agent_with_as_much_metadata_as_is_admitted_is_killed_and_released(place: Place) -> None:
    manifest = edited(AGENT, metadata__name=f"a-{uuid4().hex[:8]}", metadata__annotations={})
    manifest["metadata"]["annotations"] = {f"example.com/{number}": "" for number in range(63)}  # and a stamp
    path, editor = f"{place.agents}/{manifest['metadata']['name']}", place.users["editor"]
    for number in range(32):
        reply = editor.send("PATCH", f"{path}?fieldManager=m{number}&force=true", manifest, APPLY)
        assert reply.status < http.HTTPStatus.BAD_REQUEST, reply.text
    assert switch(place.users["killer"], path, "x").status == http.HTTPStatus.OK
    reply = switch(place.users["owner"], path, "off")
    assert reply.status == http.HTTPStatus.OK, reply.text
    assert "at most 64 annotations" in patch(editor, path, {"metadata": {"labels": {"a": "b"}}}).text


@requirement("protection.kill-fits")
def test_kubectl_kills_the_largest_agent(place: Place, kwok_cluster: Cluster) -> None:
    manifest = largest("x" * 1000)
    assert created(place, manifest).status == http.HTTPStatus.CREATED
    name = manifest["metadata"]["name"]
    answer = Kubectl(kwok_cluster).run("-n", place.namespace, "annotate", "agent", name, f"{KILL_SWITCH}=INC-42")
    assert answer.ok, answer.text
    assert "Warning" not in answer.text


@requirement("protection.kill-fits")
def test_an_agent_from_before_the_policy_is_killed_at_the_limit_of_etcd(place: Place, kwok_cluster: Cluster) -> None:
    client = Kubectl(kwok_cluster)
    file = ("-f", str(ROOT / "manifests/admission/agents-metadata.yaml"))
    client.must("delete", *file)
    admin = place.admin

    def store(length: int, query: str = DRY) -> Reply:
        manifest["metadata"]["annotations"] = {f"example.com/{name}": "<" * length for name in names(31, "a", 50)}
        return admin.send("POST", place.agents + query, manifest)

    manifest = largest()
    bounds.eventually(lambda: store(3400).status == http.HTTPStatus.CREATED, "the policy is gone", WAIT_SECONDS)

    def is_stored(length: int) -> bool:
        reply = store(length, "")
        if reply.status == http.HTTPStatus.CREATED:
            admin.must("DELETE", f"{place.agents}/{manifest['metadata']['name']}")
        return reply.status == http.HTTPStatus.CREATED

    full = edited(AGENT, metadata__name=f"a-{uuid4().hex[:8]}")  # annotations of 256 KiB, less than a kill takes
    paused = {PAUSE: "7-3f2a91c04b", f"{PAUSE}-by": ADMINISTRATOR}
    taken = sum(len(name) + len(text) for name, text in ({SPEC_AUTHOR: ADMINISTRATOR} | paused).items())
    full["metadata"]["annotations"] = {"example.com/a": "x" * (262144 - len("example.com/a") - taken), **paused}
    assert admin.send("POST", place.agents, full).status == http.HTTPStatus.CREATED

    length = most(is_stored, 8000, STEP)
    assert store(length, "").status == http.HTTPStatus.CREATED
    path = f"{place.agents}/{manifest['metadata']['name']}"
    client.must("apply", "--server-side", *file)
    bounds.eventually(
        lambda: TOO_LARGE in patch(place.users["editor"], path + DRY, {"metadata": {"labels": {"a": "b"}}}).text,
        "the policy is back",
        WAIT_SECONDS,
    )
    assert_is_killed(place, path, {})
    assert_is_killed(place, f"{place.agents}/{full['metadata']['name']}", paused)


def assert_is_killed(place: Place, path: str, paused: dict[str, str]) -> None:
    """Kill an Agent that is too full for a kill, by a user who may do nothing else."""
    full = "x" * 31 * 6 * STEP
    reply = patch(place.users["editor"], path, {"metadata": {"annotations": {"example.com/more": full}}})
    assert reply.status != http.HTTPStatus.OK
    reply = switch(place.users["killer"], path, full)
    assert reply.status == http.HTTPStatus.OK, reply.text[:500]
    kept = reply.json()["metadata"]["annotations"]
    by = f"system:serviceaccount:{place.namespace}:killer"
    assert kept == {KILL_SWITCH: full, KILL_SWITCH_BY: by, SPEC_AUTHOR: ADMINISTRATOR, **paused}
    assert place.admin.send("DELETE", path).status == http.HTTPStatus.OK
