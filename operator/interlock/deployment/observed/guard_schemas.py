"""The schema of the bundle that all guards of a placement read, those that run and those that are ending."""

from dataclasses import dataclass

from interlock.deployment.names import revision_label, template_metadata
from interlock.deployment.observed.pod_reports import AgentPods, PodReport, schemas_in
from interlock.deployment.plan import LiveChild
from interlock_contract.bundle_schema import SCHEMA_VERSION, choose_schema


@dataclass(frozen=True)
class SeenSchemas:
    """What the guards of a placement read.

    Attributes:
        written: The version of the schema that their bundle is to have.
        is_unread: Guards that run read none of the versions that this operator writes.
    """

    written: int = SCHEMA_VERSION
    is_unread: bool = False


def see_schemas(pods: AgentPods, stage: str, revision: str, workload: LiveChild | None) -> SeenSchemas:
    """Return what the guards of a placement read.

    Guards that are ending still serve what they have under way. They count unless no version is left then.

    Args:
        pods: The pods of the agent.
        stage: The stage of the placement.
        revision: The revision of the placement.
        workload: The live Deployment of its guards, which may start pods at any time.
    """
    wanted = stage, revision_label(revision)

    def of(*reports: PodReport) -> list[frozenset[int]]:
        return [
            one.schemas
            for one in reports
            if one.schemas is not None and not one.has_ended and (one.group.stage, one.group.revision) == wanted
        ]

    running = of(*pods.reports)
    if workload is not None and workload.manifest["spec"].get("replicas", 1) > 0:
        template = schemas_in(template_metadata(workload.manifest))
        running += [] if template is None else [template]
    chosen = choose_schema(running)
    if chosen is None:
        return SeenSchemas(is_unread=True)
    return SeenSchemas(choose_schema([*running, *of(*pods.ending)]) or chosen)
