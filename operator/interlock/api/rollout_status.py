"""The rollout in the status of an Agent: its revisions, what each placement serves, and what has happened.

All that the operator remembers about a rollout is in `RolloutStatus`. The other types are for people.
"""

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, model_validator

from interlock.api.budget_status import ExhaustedBudget
from interlock.api.claims import MAX_CLAIMS
from interlock.api.markers import kube
from interlock.api.shared_types import ApiModel, ScopeDimension, Timestamp
from interlock.api.text import EnvironmentName
from interlock_contract.bundle import MAX_DRAINING_PODS

MAX_PASSED: Final = 64
"""Most revisions that a rollback can name."""
MAX_LEAVING: Final = 4
"""Most placements on their way out that are recorded, more than there can be."""
MAX_EXCLUDED: Final = 4
"""Most parts of the work that one placement leaves to others."""
MAX_APPROVED: Final = 16
"""Most approvals that are recorded: one for each stage."""
MAX_COMMANDS: Final = 8
"""Most commands that are recorded, more than there are."""
MAX_PLACEMENT_STATUS: Final = 8
"""Most placements that are shown, more than there can be."""
MAX_SOURCES: Final = 128
"""Most sources of all placements: 32 of each."""
MAX_TEST_RESULTS: Final = 8
"""Most results of tests that are recorded, as many as a stage has tests. Each may have 4 KiB of log."""
MAX_TEST_LOG: Final = 4096
"""Most characters of a test's log that are recorded."""
MAX_SCALE_DOWNS: Final = 4
"""Most placements whose pods go, as many as there can be."""
MAX_IMAGES: Final = 192
"""Most images that are recorded: those of 33 containers in four placements, and some of earlier revisions or stages."""
MAX_EVENTS: Final = 32
"""Most entries of the timeline."""
_MOST_GOING: Final = 2 * MAX_DRAINING_PODS
"""Most pods of one placement that go: guards, and as many separate agents."""
_USER: Final = 1024


class _Recorded(ApiModel):
    model_config = ConfigDict(extra="ignore")


class RevisionStatus(_Recorded):
    """One run of a revision through the stages."""

    number: int = Field(ge=1, json_schema_extra=kube(format="int32"))
    """Its number. An Agent never uses one twice; a retry and a rollback have numbers of their own."""

    digest: str = Field(min_length=1, max_length=64)
    """SHA-256 of its content in hex."""

    content_digest: str = Field(default="", max_length=64)
    """SHA-256 of the stored content if it is not the digest: the revision began under an earlier version."""


class PassedStatus(RevisionStatus):
    """A revision that was good, and that a rollback can name."""

    served: str = Field(default="", max_length=16)
    """Digest of the environment, class and scope that it served as the good one. A rollback gives it no others."""


class StoredScope(_Recorded):
    """A part of the work. Without dimensions it is all of the work."""

    scope: tuple[ScopeDimension, ...] = Field(default=(), max_length=8, json_schema_extra=kube(keys=("dimension",)))
    """The values of each dimension."""


class StoredPlacement(_Recorded):
    """A placement in the stage as it was entered."""

    number: int = Field(ge=1, json_schema_extra=kube(format="int32"))
    """Number of its revision."""

    digest: str = Field(min_length=1, max_length=64)
    """Digest of its revision."""

    stage: str = Field(max_length=63)
    """Name of its stage."""

    environment: EnvironmentName
    """Environment of its stage."""

    scope: tuple[ScopeDimension, ...] = Field(default=(), max_length=8, json_schema_extra=kube(keys=("dimension",)))
    """Scope of its stage; empty without limits."""

    collision_count: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """How often the names of its objects were those of another placement's objects. It is part of the names."""


class GoodStatus(StoredPlacement):
    """The last good revision: the last one that was Ready in its last stage."""

    since: Timestamp
    """When it became good."""

    serving_since: Timestamp | None = None
    """Since when it serves. Absent while it has no pods, or while they start."""


class LeavingStatus(StoredPlacement):
    """A placement that is on its way out."""

    draining_since: Timestamp | None = None
    """Since when it takes no new work. Absent while it serves until its successor is Ready."""

    excluded: tuple[StoredScope, ...] = Field(
        default=(), max_length=MAX_EXCLUDED, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """What it did not serve when it began to drain."""


class StoppedStatus(_Recorded):
    """Why the newest revision does not run."""

    at: Timestamp
    """When it was stopped."""

    reason: str = Field(max_length=63)
    """Aborted, RolledBack or Breached."""

    by: str = Field(default="", max_length=_USER)
    """Who commanded it; empty for a breach."""

    message: str = Field(default="", max_length=_USER)
    """More about it."""


class ApprovalStatus(_Recorded):
    """A promotion that a command named, until its stage is entered."""

    stage: str = Field(default="", max_length=63)
    """The stage to enter. Empty for the gates of the last stage."""

    by: str = Field(default="", max_length=_USER)
    """Who."""

    is_vouched: bool = False
    """The API server wrote or checked the name."""

    may_override_gates: bool = False
    """It goes past a gate that was breached, too."""

    work: str = Field(default="", max_length=16)
    """Digest of the environment, class and scope that the stage had when it was approved. It approves no others."""


class TestStatus(_Recorded):
    """The test of a stage, from when its Job exists."""

    __test__ = False  # no test of pytest's

    number: int = Field(ge=1, json_schema_extra=kube(format="int32"))
    """Number of the revision that was tested."""

    stage: str = Field(max_length=63)
    """Name of the stage that was tested."""

    name: str = Field(max_length=63)
    """Name of the test."""

    outcome: str = Field(max_length=63)
    """Running, Passed, Failed or Lost. Lost: it ended, and how is not known."""

    exit_code: int | None = Field(default=None, ge=0, json_schema_extra=kube(format="int32"))
    """Its exit code; absent without one."""

    log: str = Field(default="", max_length=MAX_TEST_LOG)
    """The end of its log, or why it has none."""


class DrainingPodStatus(_Recorded):
    """A pod that is chosen to go."""

    name: str = Field(max_length=253)
    """Its name."""

    since: Timestamp
    """Since when it drains: it was chosen, and no Service leads to it."""


class ScaleDownStatus(_Recorded):
    """A placement that gets fewer pods once those that go have nothing under way."""

    stage: str = Field(max_length=63)
    """Name of its stage."""

    digest: str = Field(min_length=1, max_length=64)
    """Digest of its revision."""

    pods: tuple[DrainingPodStatus, ...] = Field(
        default=(), max_length=_MOST_GOING, json_schema_extra=kube(keys=("name",))
    )
    """The pods that go, of guards and of separate agents."""


class ImageStatus(_Recorded):
    """What a tag led to when a revision was Ready first."""

    revision: str = Field(min_length=1, max_length=64)
    """Digest of the revision."""

    image: str = Field(min_length=1, max_length=160)
    """The image with its tag. Of a longer name, the beginning and a digest of the whole."""

    digest: str = Field(min_length=1, max_length=128)
    """Digest of the image, or what the container runtime says of an image that has none."""


class RolloutStatus(_Recorded):
    """What the operator remembers about the rollout, besides the current stage in `status.stage`."""

    newest: RevisionStatus | None = None
    """The revision that spec, policy and bindings describe."""

    serving_since: Timestamp | None = None
    """Since when its placement in the current stage serves. Absent while it starts."""

    was_ready: bool = False
    """It was Ready once since it began."""

    good: GoodStatus | None = None
    """The last good revision; absent before the first. It is the newest one once that is good."""

    passed: tuple[PassedStatus, ...] = Field(
        default=(), max_length=MAX_PASSED, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """The revisions that a rollback can name, the newest last."""

    leaving: tuple[LeavingStatus, ...] = Field(
        default=(), max_length=MAX_LEAVING, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """The placements on their way out."""

    stopped: StoppedStatus | None = None
    """Why the newest revision does not run, if it was stopped."""

    approved: tuple[ApprovalStatus, ...] = Field(
        default=(), max_length=MAX_APPROVED, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """The promotions of the newest revision whose stages were not entered yet."""

    tests: tuple[TestStatus, ...] = Field(
        default=(), max_length=MAX_TEST_RESULTS, json_schema_extra=kube(keys=("number", "stage", "name"))
    )
    """The tests of the newest revision, the last ones of them. A result stays, whatever becomes of the test's pod."""

    scale_downs: tuple[ScaleDownStatus, ...] = Field(
        default=(), max_length=MAX_SCALE_DOWNS, json_schema_extra=kube(keys=("stage", "digest"))
    )
    """The placements that get fewer pods."""

    images: tuple[ImageStatus, ...] = Field(
        default=(), max_length=MAX_IMAGES, json_schema_extra=kube(keys=("revision", "image"))
    )
    """The images that tags led to, by revision. Pods of a revision with other images are not ready."""

    last_number: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """The highest number that was ever given."""

    sources: tuple[Annotated[str, Field(max_length=63)], ...] = Field(
        default=(), max_length=MAX_SOURCES, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """The sources of the revisions that have placements: their MCPBindings matter to the Agent."""

    claims: tuple[Annotated[str, Field(max_length=253)], ...] = Field(
        default=(), max_length=MAX_CLAIMS, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """The PersistentVolumeClaims that it uses or has used, as long as its spec or its last good revision names them: no
    other Agent gets them."""

    handled_commands: tuple[Annotated[str, Field(max_length=256)], ...] = Field(
        default=(), max_length=MAX_COMMANDS, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """The commands that stand and were handled, so that none is carried out twice, or later than it was given."""


class PlacementStatus(_Recorded):
    """One placement, for people. Of it the operator remembers only which budget was exhausted."""

    revision: str = Field(max_length=63)
    """Name of its revision, such as 7-3f2a91c04b."""

    stage: str = Field(max_length=63)
    """Its stage."""

    environment: EnvironmentName
    """Its environment."""

    serves: str = Field(max_length=32768)
    """What it serves: all, region=eu-west, all but region=eu-west, nothing yet, or nothing new while it drains."""

    ready: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of its pods that are ready."""

    wanted: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of pods that it must have."""

    exhausted: ExhaustedBudget | None = None
    """The budget of its environment that is exhausted; absent while none is."""


class HistoryEvent(StrEnum):
    """What an entry of the timeline is about."""

    STAGE_ENTERED = "StageEntered"
    """A revision entered a stage."""
    GOOD = "Good"
    """A revision became the last good one."""
    ABORTED = "Aborted"
    """A command aborted the newest revision."""
    ROLLED_BACK = "RolledBack"
    """A command went back to an earlier revision."""
    BREACHED = "Breached"
    """The newest revision breached a gate."""


class HistoryEntry(_Recorded):
    """One entry of the timeline."""

    event: HistoryEvent = HistoryEvent.STAGE_ENTERED
    """What has happened."""

    at: Timestamp
    """When."""

    revision: str = Field(max_length=64)
    """The revision, as its name such as 7-3f2a91c04b. Entries of earlier versions have its digest."""

    stage: str = Field(default="", max_length=63)
    """The stage; empty if it is about none."""

    environment: EnvironmentName | None = None
    """The stage's environment."""

    by: str = Field(default="", max_length=_USER)
    """Who commanded it; empty if no command did."""

    message: str = Field(default="", max_length=_USER)
    """More about it."""

    @model_validator(mode="before")
    @classmethod
    def _read_earlier(cls, value: Any) -> Any:
        """Read an entry of a version whose history had entered stages alone."""
        if isinstance(value, dict) and "enteredAt" in value and "at" not in value:
            return {**value, "at": value["enteredAt"], "stage": value.get("name", "")}
        return value
