"""Identities at a cloud that the API server must admit, and those that it must refuse with which words."""

from typing import Any

from tests.integration.kubectl import POLICY, edited

AWS, GOOGLE = "eks.amazonaws.com/role-arn", "iam.gke.io/gcp-service-account"
AZURE = "azure.workload.identity/client-id"
UNKNOWN = "annotations of cloudIdentity has a key that no cloud's identity of pods reads from a ServiceAccount"
MIXED = "annotations of cloudIdentity must name the identity of one cloud"
WITHHELD = "cloudIdentity needs the feature CloudIdentity: write it into spec.podTemplate.allow"
ONE_SUBJECT = "cloudIdentity orders needs exactly one of agents and agentSelector"


def identity(*keys: str, allow: list[str] | None = None, **edits: Any) -> dict[str, Any]:
    """Return a policy with one identity, of which some members are others, or absent (None)."""
    usual = {"name": "orders", "agents": ["a"], "annotations": dict.fromkeys(keys or (AWS,), "x")}
    found = {name: value for name, value in {**usual, **edits}.items() if value is not None}
    rules = {"allow": ["CloudIdentity"] if allow is None else allow}
    return edited(POLICY, metadata__name="p2", spec__cloudIdentity=[found], spec__podTemplate=rules)


REFUSED: list[tuple[dict[str, Any], str]] = [
    (identity("eks.amazonaws.com/other"), UNKNOWN),
    (identity(AWS, "example.com/x"), UNKNOWN),
    (identity("kubernetes.io/enforce-mountable-secrets"), UNKNOWN),
    (identity("eks.amazonaws.com/audience"), MIXED),
    (identity(AWS, GOOGLE), MIXED),
    (identity(AWS, "azure.workload.identity/tenant-id"), MIXED),
]
"""What Python refuses, too."""

REFUSED_BY_ADMISSION: list[tuple[dict[str, Any], str]] = [
    (identity(allow=[]), WITHHELD),
    (identity(allow=["Priority"]), WITHHELD),
    (edited(identity(), spec__podTemplate=None), WITHHELD),
    (identity(agentSelector={"matchLabels": {"a": "b"}}), ONE_SUBJECT),
    (identity(agents=None), ONE_SUBJECT),
]

GOOD = [
    identity(),
    identity(AWS, "eks.amazonaws.com/audience", "eks.amazonaws.com/token-expiration"),
    identity(GOOGLE),
    identity(AZURE, "azure.workload.identity/tenant-id", environments=["production"]),
]
