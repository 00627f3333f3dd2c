"""Who holds which claim, and the sentence about a placement that waits for others."""

from dataclasses import replace
from typing import Any

import pytest

from interlock.api.claims import MAX_CLAIMS, ClaimVolume
from interlock.api.pod_template import Template
from interlock.deployment.names import ChildKey
from interlock.deployment.observed.pod_reports import AgentPods, PodGroup, PodReport
from interlock.deployment.plan import LiveChild
from interlock.orchestration.claim_checks import ClaimUse
from interlock.orchestration.rollout_decision import DesiredPlacement
from interlock.orchestration.rollout_state import HeldClaims, PlacementKey, RevisionRef
from interlock.reconcile.claims import claim_holders, claims_to_keep, describe_wait, earlier_claims, used_claims
from interlock.reconcile.snapshot import Snapshot
from tests.support.builders import SnapshotBuilder, a_snapshot, a_stage, an_agent, stages

OLD, NEW = "a" * 64, "b" * 64
KEY = PlacementKey("live", OLD)
(STAGE,) = stages(a_stage("live", "production"))
FILES = frozenset({"files"})


def a_deployment(
    *, replicas: int = 1, observed: int = 2, pods: int = 0, component: str = "agent", claim: str | None = "files"
) -> dict[ChildKey, LiveChild]:
    volume: dict[str, Any] = {"emptyDir": {}} if claim is None else {"persistentVolumeClaim": {"claimName": claim}}
    labels = {
        "interlock.dev/stage": "live",
        "interlock.dev/revision": OLD[:63],
        "app.kubernetes.io/component": component,
    }
    manifest = {
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "agents", "generation": 2, "labels": labels},
        "spec": {"replicas": replicas, "template": {"spec": {"volumes": [{"name": "v", **volume}]}}},
        "status": {"observedGeneration": observed, "replicas": pods},
    }
    return {ChildKey("Deployment", "d"): LiveChild(manifest)}


def seen(children: dict[ChildKey, LiveChild] | None = None, pods: AgentPods | None = None) -> Snapshot:
    return replace(a_snapshot().with_pods(pods or AgentPods()).build(), children=children or {})


@pytest.mark.parametrize(
    ("deployment", "held"),
    [
        (a_deployment(), HeldClaims(FILES, is_asking=True)),
        (a_deployment(replicas=0), None),
        (a_deployment(replicas=0, observed=1), HeldClaims(FILES, is_asking=False)),
        (a_deployment(replicas=0, pods=1), HeldClaims(FILES, is_asking=False)),
        (a_deployment(claim=None), None),
        (a_deployment(component="guard"), None),
    ],
    ids=["asks", "asks for none", "its controller has not seen that", "it has pods left", "no claim", "a guard's"],
)
def test_a_deployment_holds_its_claims_until_it_certainly_creates_no_pod(
    deployment: dict[ChildKey, LiveChild], held: HeldClaims | None
) -> None:
    assert claim_holders(seen(deployment), [KEY]) == ({} if held is None else {KEY: held})


@pytest.mark.parametrize("where", ["reports", "ending"])
def test_a_pod_holds_its_claims_until_it_is_gone(where: str) -> None:
    pod = PodReport("u", PodGroup("live", OLD[:63], "Separate", "agent"), claims=FILES, is_ending=where == "ending")
    pods = replace(AgentPods(), **{where: (pod,)})  # type: ignore[arg-type]
    assert claim_holders(seen(pods=pods), [KEY]) == {KEY: HeldClaims(FILES, is_asking=False)}


def test_a_placement_that_is_not_recorded_is_known_by_the_labels_of_its_pods() -> None:
    pod = PodReport("u", PodGroup("live", OLD[:63], "Separate", "agent"), claims=FILES)
    assert claim_holders(seen(pods=AgentPods((pod,))), []) == {
        PlacementKey("live", OLD[:63]): HeldClaims(FILES, is_asking=False)
    }


def test_deployment_and_pods_of_one_placement_are_one_holder() -> None:
    pod = PodReport("u", PodGroup("live", OLD[:63], "Separate", "agent"), claims=frozenset({"index"}))
    found = claim_holders(seen(a_deployment(), AgentPods((pod,))), [KEY])
    assert found == {KEY: HeldClaims(frozenset({"files", "index"}), is_asking=True)}


def test_what_certainly_uses_a_claim_is_a_pod_or_a_deployment_that_asks_for_pods() -> None:
    pod = PodReport("u", PodGroup("live", OLD[:63], "Separate", "agent"), claims=frozenset({"index"}))
    ending = replace(pod, claims=frozenset({"old"}), is_ending=True)
    assert used_claims(a_deployment()) == FILES
    for idle in (a_deployment(replicas=0, observed=1), a_deployment(replicas=0), a_deployment(component="guard")):
        assert used_claims(idle) == frozenset()
    assert used_claims({}, AgentPods((pod,), ending=(ending,))) == {"index", "old"}


def test_a_claim_that_is_not_announced_is_named() -> None:
    one = DesiredPlacement(RevisionRef(1, OLD), STAGE, is_serving=True, is_announcing=True)
    assert describe_wait(one, FILES, []) == "claim files is announced in the status before a pod uses it"


@pytest.mark.parametrize(
    ("waits_for", "sentence"),
    [
        ((), ""),
        (
            (PlacementKey("live", OLD),),
            "it waits for the pods of revision 1-aaaaaaaaaa to end, because both use claim files",
        ),
        (
            (PlacementKey("live", OLD[:63]),),
            "it waits for the pods of revision 1-aaaaaaaaaa to end, because both use claim files",
        ),
        (
            (PlacementKey("live", "f" * 63),),
            "it waits for the pods of revision ffffffffff to end, because both use claim files",
        ),
        ((PlacementKey("live", NEW),), "it waits for its own earlier pods to end, because they use claim files"),
    ],
)
def test_the_sentence_names_the_revision_whose_pods_must_end(
    waits_for: tuple[PlacementKey, ...], sentence: str
) -> None:
    refs = (RevisionRef(1, OLD), RevisionRef(2, NEW))
    one = DesiredPlacement(refs[1], STAGE, is_serving=True, waits_for=waits_for)
    assert describe_wait(one, FILES, refs) == sentence


def test_claims_of_placements_are_recorded_whatever_is_ending_and_no_more_than_there_is_room_for() -> None:
    used = [frozenset(f"z-{stage:02}-{number:02}" for number in range(15)) for stage in range(16)]
    ending = frozenset(f"a-{number:02}" for number in range(16))
    earlier = frozenset({"b", "c"})
    assert claims_to_keep(used, earlier, [*used, ending]) == tuple(sorted(frozenset().union(*used)))
    assert claims_to_keep(used[:1], earlier, [ending]) == tuple(sorted(used[0] | earlier | ending))
    assert claims_to_keep(used[1:], earlier, [ending]) == tuple(
        sorted(frozenset().union(*used[1:]) | earlier | frozenset(sorted(ending)[:13]))
    )
    assert len(claims_to_keep(used, earlier, [])) == MAX_CLAIMS


def test_all_claims_that_a_spec_can_name_have_room() -> None:
    volumes = Template.model_fields["volumes"].metadata
    claims = ClaimVolume.model_fields["claims"].metadata
    named = [one.max_length for one in (*volumes, *claims) if hasattr(one, "max_length")]
    assert len(named) == 2
    assert named[0] * named[1] == MAX_CLAIMS


NAMING = an_agent().with_claims(files={"development": "files", "staging": "files-try"})


@pytest.mark.parametrize(
    ("snapshot", "recorded", "kept"),
    [
        (a_snapshot().of(NAMING), ["files"], {"files"}),
        (a_snapshot().of(NAMING), ["files", "earlier"], {"files"}),
        (a_snapshot().of(NAMING), [], set()),
        (a_snapshot().of(an_agent()), ["files"], set()),
        (a_snapshot().of(NAMING.being_deleted("x")), ["files"], set()),
        (a_snapshot().of(an_agent()).with_unreadable("Agent", "triage"), ["files"], {"files"}),
        (a_snapshot().of(an_agent()).with_unreadable("AgentPolicy", "x"), ["files"], set()),
        (replace(a_snapshot().of(NAMING), claims_of_others=(ClaimUse("abe", held=FILES),)), ["files"], set()),
        (replace(a_snapshot().of(NAMING), claims_of_others=(ClaimUse("abe", used=FILES),)), ["files"], set()),
        (replace(a_snapshot().of(NAMING), claims_of_others=(ClaimUse("abe", named=FILES),)), ["files"], {"files"}),
    ],
)
def test_an_agent_keeps_a_claim_that_it_has_used_while_it_names_it(
    snapshot: SnapshotBuilder, recorded: list[str], kept: set[str]
) -> None:
    assert earlier_claims(snapshot.build(), recorded, ()) == kept


def test_a_claim_of_a_revision_to_which_it_may_return_is_kept_too() -> None:
    snapshot = a_snapshot().of(an_agent()).build()
    assert earlier_claims(snapshot, ["files"], [NAMING.build().spec]) == FILES
