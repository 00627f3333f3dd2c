"""What tags have led to in each revision: recorded by the first Ready pod, and compared with every other one."""

from collections.abc import Mapping
from datetime import datetime

import pytest

from interlock.api.rollout_status import MAX_IMAGES
from interlock.deployment.observed.pod_images import PodImage
from interlock.deployment.observed.pod_reports import AgentPods, PodGroup, PodReport
from interlock.orchestration.rollout_state import (
    GoodRevision,
    LeavingPlacement,
    RevisionRef,
    RolloutFacts,
    StoppedRevision,
    StopReason,
)
from interlock.orchestration.soak import StageFacts
from interlock.reconcile.image_digests import SeenImages, compare_images, kept_images
from tests.support.builders import NOW, a_stage, seconds, stages
from tests.support.rollouts import digest

FIRST, SECOND = RevisionRef(1, digest("a")), RevisionRef(2, digest("b"))
OLD, NEW, OTHER = (f"sha256:{two * 32}" for two in ("aa", "bb", "cc"))
Images = Mapping[tuple[str, str], str]
STAGING, EVERYWHERE = stages(a_stage("staging"), a_stage("everywhere", "production"))
FACTS = RolloutFacts(
    newest=SECOND,
    stage=StageFacts(STAGING, SECOND.digest, NOW),
    good=GoodRevision(FIRST, EVERYWHERE, NOW),
    leaving=(LeavingPlacement(FIRST, STAGING, NOW),),
)


def a_pod(
    name: str,
    image: str,
    ref: RevisionRef = FIRST,
    *,
    ready: datetime | None = NOW,
    stage: str = "everywhere",
    **more: str,
) -> PodReport:
    """Return a pod whose agent runs an image; `more` are images of servers by source."""
    servers = (PodImage(f"mcp-{source}", f"{source}:1", one) for source, one in more.items())
    images = (PodImage("agent", "agent:1", image), *servers)
    group = PodGroup(stage, ref.digest[:63], "Shared", "agent")
    return PodReport(f"uid-{name}", group, ready, name=name, images=images)


def compare(*pods: PodReport, recorded: Images | None = None) -> SeenImages:
    """Compare while the second revision is in staging, and the first one is good everywhere."""
    return compare_images(recorded or {}, FACTS, AgentPods(pods))


def changed(seen: SeenImages) -> list[str]:
    """Return the pods that count as not ready because of their images."""
    found = [pod for pod in seen.pods.reports if pod.has_other_image]
    assert all(pod.ready_since is None for pod in found)
    return [pod.name for pod in found]


def test_the_images_of_the_first_ready_pod_are_recorded_and_those_of_others_compared() -> None:
    first = compare(a_pod("p1", OLD))
    assert first.known == {(FIRST.digest, "agent:1"): OLD}
    assert changed(first) == []

    later = compare(a_pod("p1", OLD), a_pod("p2", NEW), a_pod("p3", OLD), recorded=first.known)
    assert (later.known, changed(later)) == (first.known, ["p2"])


@pytest.mark.parametrize("stage", ["staging", "everywhere", "another"])
def test_a_pod_is_compared_in_every_stage(stage: str) -> None:
    seen = compare(a_pod("p1", NEW, stage=stage, ready=None), recorded={(FIRST.digest, "agent:1"): OLD})
    assert changed(seen) == ["p1"]


def test_a_placement_on_its_way_out_decides_nothing() -> None:
    """After a retry, it has the images of the way through the stages before."""
    assert compare(a_pod("p1", OLD, stage="staging")).known == {}


def test_a_cause_names_pod_container_both_digests_and_the_way_out() -> None:
    [pod] = compare(a_pod("p1", NEW), recorded={(FIRST.digest, "agent:1"): OLD}).pods.reports
    assert pod.cause.message == (
        f"pod p1: container agent runs {NEW}, and its revision was Ready with {OLD}, since the tag has moved; push the "
        "earlier image to the tag again and delete the pod, or change the Agent so that a new revision begins"
    )


def test_each_revision_has_images_of_its_own() -> None:
    seen = compare(a_pod("p1", OLD), a_pod("p2", NEW, SECOND, stage="staging"))
    assert seen.known == {(FIRST.digest, "agent:1"): OLD, (SECOND.digest, "agent:1"): NEW}
    assert changed(seen) == []


def test_a_server_is_compared_as_the_agent_is() -> None:
    recorded = {(FIRST.digest, "agent:1"): OLD, (FIRST.digest, "crm:1"): OLD}
    seen = compare(a_pod("p1", OLD, crm=NEW), recorded=recorded)
    assert changed(seen) == ["p1"]
    assert "container mcp-crm runs" in seen.pods.reports[0].cause.message


def test_the_server_of_another_environment_may_have_another_image() -> None:
    recorded = {(FIRST.digest, "agent:1"): OLD, (FIRST.digest, "crm:sandbox"): OLD}
    seen = compare(a_pod("p1", OLD, crm=NEW), recorded=recorded)
    assert (changed(seen), seen.known[FIRST.digest, "crm:1"]) == ([], NEW)


def test_a_pod_that_was_never_ready_records_nothing() -> None:
    assert compare(a_pod("p1", OLD, ready=None)).known == {}


def test_a_pod_with_another_image_records_none_of_its_images() -> None:
    seen = compare(a_pod("p1", NEW, crm=OTHER), recorded={(FIRST.digest, "agent:1"): OLD})
    assert seen.known == {(FIRST.digest, "agent:1"): OLD}


def test_of_several_pods_without_a_record_the_one_that_is_ready_for_the_longest_time_decides() -> None:
    seen = compare(a_pod("p1", NEW, ready=NOW), a_pod("p2", OLD, ready=NOW - seconds(5)))
    assert (seen.known, changed(seen)) == ({(FIRST.digest, "agent:1"): OLD}, ["p1"])


def test_pods_of_revisions_that_no_status_names_are_left_alone() -> None:
    stranger = RevisionRef(9, digest("z"))
    assert compare(a_pod("p1", OLD, stranger)).known == {}


def facts(newest: RevisionRef, *, is_stopped: bool = False) -> RolloutFacts:
    stopped = StoppedRevision(newest, NOW, StopReason.ABORTED) if is_stopped else None
    return RolloutFacts(newest=newest, stopped=stopped)


KNOWN = {(FIRST.digest, "agent:1"): OLD, (SECOND.digest, "agent:1"): NEW}


def test_only_revisions_that_the_status_names_are_kept() -> None:
    kept = kept_images(SeenImages(KNOWN), (SECOND,), facts(SECOND), facts(SECOND))
    assert kept == {(SECOND.digest, "agent:1"): NEW}


@pytest.mark.parametrize(("is_stopped", "left"), [(True, {FIRST}), (False, {FIRST, SECOND})], ids=["retry", "restart"])
def test_a_retry_records_again_and_nothing_else_does(*, is_stopped: bool, left: set[RevisionRef]) -> None:
    again = RevisionRef(3, SECOND.digest)
    kept = kept_images(SeenImages(KNOWN), (again, FIRST), facts(SECOND, is_stopped=is_stopped), facts(again))
    assert {revision for revision, _ in kept} == {ref.digest for ref in left}


def test_no_more_are_recorded_than_there_is_room_for_and_the_newest_first() -> None:
    known = KNOWN | {(FIRST.digest, f"mcp-{number}"): OLD for number in range(MAX_IMAGES)}
    kept = kept_images(SeenImages(known), (SECOND, FIRST), facts(SECOND), facts(SECOND))
    assert len(kept) == MAX_IMAGES
    assert next(iter(kept)) == (SECOND.digest, "agent:1")


def test_an_image_that_a_pod_runs_is_recorded_before_all_others() -> None:
    """Otherwise the next pod of its revision could decide again what the tag leads to."""
    others = {(SECOND.digest, f"mcp-{number}"): NEW for number in range(MAX_IMAGES)}
    seen = SeenImages(KNOWN | others, AgentPods((a_pod("p1", OLD, ready=None),)))
    kept = kept_images(seen, (SECOND, FIRST), facts(SECOND), facts(SECOND))
    assert len(kept) == MAX_IMAGES
    assert kept[FIRST.digest, "agent:1"] == OLD
