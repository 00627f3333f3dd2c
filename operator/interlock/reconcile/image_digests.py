"""What tags have led to in each revision, and the pods that run something else since.

A revision is what was reviewed and has soaked, so a tag that moves must not change it. The first Ready pod of a
revision decides: its images are recorded in the status. Every other pod of the revision, in whichever stage, runs the
same ones, or counts as not ready: no Service leads to it and its guard refuses everything.

    revision 3 in staging       agent:1.0 is sha256:aa, recorded
    the tag moves to sha256:bb
    revision 3 in production    its pods run sha256:bb: ImageChanged, so staging's successor is never Ready
    a new revision              its pods run sha256:bb, which passes the stages

A retry is a way through all stages, so it records again. All else that has the same content has the same record.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from interlock.api.rollout_status import MAX_IMAGES
from interlock.deployment.names import revision_label
from interlock.deployment.observed.causes import PodCause
from interlock.deployment.observed.pod_reports import AgentPods, PodReport
from interlock.orchestration.rollout_state import RevisionRef, RolloutFacts
from interlock.reconcile.rollout_status import refs_of

ImageKey = tuple[str, str]
"""Digest of a revision, and an image with its tag. A source's server may have another image in another environment."""
_WAY_OUT: Final = (
    "push the earlier image to the tag again and delete the pod, or change the Agent so that a new revision begins"
)


@dataclass(frozen=True)
class SeenImages:
    """The images of an agent's pods, compared with what is recorded.

    Attributes:
        known: Digests of images by revision and name.
        pods: The pods. Those with another image count as not ready, and say why.
    """

    known: Mapping[ImageKey, str] = field(default_factory=dict)
    pods: AgentPods = field(default_factory=AgentPods)


def compare_images(recorded: Mapping[ImageKey, str], facts: RolloutFacts, pods: AgentPods) -> SeenImages:
    """Return what is known after a look at the pods, and the pods as far as they run what is known.

    Where several pods are Ready and nothing is recorded, the one that is so for the longest time decides. A placement
    on its way out decides nothing: after a retry, it has the images of the way through the stages before.

    Args:
        recorded: What the status records.
        facts: The facts about the rollout as recorded.
        pods: The pods of the agent.
    """
    digests = {revision_label(ref.digest): ref.digest for ref in refs_of(facts)}
    keys = (facts.key, facts.good.key if facts.good is not None else None)
    deciding = {(key.stage, revision_label(key.revision)) for key in keys if key is not None}
    known = dict(recorded)
    ready = [(one.ready_since, one.name, one) for one in pods.reports if one.ready_since]
    for _, _, pod in sorted(ready, key=lambda item: item[:2]):
        revision = digests.get(pod.group.revision)
        decides = (pod.group.stage, pod.group.revision) in deciding
        if revision is not None and decides and not _differences(known, revision, pod):
            known.update({(revision, one.name): one.digest for one in pod.images})
    reports = tuple(_judge(known, digests.get(pod.group.revision), pod) for pod in pods.reports)
    return SeenImages(known, replace(pods, reports=reports))


def kept_images(
    seen: SeenImages, refs: Iterable[RevisionRef], before: RolloutFacts, after: RolloutFacts
) -> dict[ImageKey, str]:
    """Return what the status must record: the images of the revisions that it names, as many as it has room for.

    Those that pods run are recorded before all others, for which there is always room. Else each pod that starts
    could decide again what its tag leads to.

    Args:
        seen: What is known, and the pods.
        refs: The revisions that the status will name, the most important first.
        before: The facts as recorded.
        after: The facts after the decision.
    """
    retried = _retried(before, after)
    found = {
        (ref.digest, name): digest
        for ref in refs
        for (revision, name), digest in sorted(seen.known.items())
        if revision == ref.digest != retried
    }
    in_use = {(pod.group.revision, one.name) for pod in seen.pods.reports for one in pod.images}
    kept = frozenset(sorted(found, key=lambda key: (revision_label(key[0]), key[1]) not in in_use)[:MAX_IMAGES])
    return {key: digest for key, digest in found.items() if key in kept}


def _retried(before: RolloutFacts, after: RolloutFacts) -> str | None:
    """Return the digest of a revision that was stopped and begins again; None if none does."""
    if before.stopped is None or before.newest is None or after.newest is None or after.newest == before.newest:
        return None
    return before.newest.digest if after.newest.digest == before.newest.digest else None


def _differences(known: Mapping[ImageKey, str], revision: str, pod: PodReport) -> list[str]:
    """Return which containers of a pod run something else than is known, with both digests."""
    return [
        f"container {one.container} runs {one.digest}, and its revision was Ready with {known[revision, one.name]}"
        for one in pod.images
        if known.get((revision, one.name), one.digest) != one.digest
    ]


def _judge(known: Mapping[ImageKey, str], revision: str | None, pod: PodReport) -> PodReport:
    found = [] if revision is None else _differences(known, revision, pod)
    if not found:
        return pod
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    cause = PodCause(f"pod {pod.name}: {found[0]}{more}, since the tag has moved; {_WAY_OUT}")
    return replace(pod, ready_since=None, cause=cause, has_other_image=True)
