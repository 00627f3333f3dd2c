"""The admission policies of this version, compared with those that the API server has.

An administrator can delete a policy, or change it so that it refuses less. The protection of managed objects is that of
these policies, so the operator reads them once a minute and reports a difference: in a metric, its log and an Event of
its Deployment. It changes nothing, since the policies are the administrator's.

A policy counts as changed if its parts that decide differ. Texts of refusals, names, labels and further actions of a
binding may differ. Other policies are not compared, such as that of the component selected-namespaces.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from interlock.cluster.event_poster import Program, operator_in
from interlock.reconcile.agent_events import EventNote, EventReason
from interlock.telemetry import ADMISSION_POLICIES_CHANGED
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_kube.client import METADATA_LIST, NOT_FOUND, UNREACHABLE, AnswerTooLarge, ApiError, Json, KubeClient
from interlock_kube.resource_types import ResourceType
from interlock_kube.watch import read_pages

_log = logging.getLogger(__name__)

READ_SECONDS: Final = 60.0
UNKNOWN: Final = -1
"""The metric's value while the policies cannot be read."""
DIGESTS_FILE: Final = Path(__file__).with_name("admission_policies.json")
"""Digests by kind and name, written by `python -m tools.admission`."""

_ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"
KINDS: Final = (
    ResourceType("ValidatingAdmissionPolicy", _ADMISSION, "validatingadmissionpolicies"),
    ResourceType("ValidatingAdmissionPolicyBinding", _ADMISSION, "validatingadmissionpolicybindings"),
    ResourceType("MutatingAdmissionPolicy", _ADMISSION, "mutatingadmissionpolicies"),
    ResourceType("MutatingAdmissionPolicyBinding", _ADMISSION, "mutatingadmissionpolicybindings"),
)
_SPEC_DEFAULTS: Final[Json] = {"failurePolicy": "Fail"}
_SELECTION_DEFAULTS: Final[Json] = {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}
_RULE_DEFAULTS: Final[Json] = {"scope": "*"}


def digest_policy(found: Mapping[str, Any]) -> str:
    """Return the digest of what decides in a policy or binding, the same for a manifest and for the stored object."""
    given = found.get("spec") or {}
    spec = ({"matchResources": {}} if "policyName" in given else _SPEC_DEFAULTS) | given
    spec.pop("auditAnnotations", None)
    if "validations" in spec:
        spec["validations"] = [one.get("expression") for one in spec["validations"]]
    if "validationActions" in spec:
        spec["validationActions"] = "Deny" in spec["validationActions"]
    for name in ("matchConstraints", "matchResources"):
        if name in spec:
            spec[name] = _SELECTION_DEFAULTS | spec[name]
            for rules in ("resourceRules", "excludeResourceRules"):
                spec[name][rules] = [_RULE_DEFAULTS | one for one in spec[name].get(rules) or ()]
    return digest_of(canonicalize(spec))


class AdmissionPolicies:
    """Reads the admission policies, and reports what is missing or differs.

    Args:
        client: Speaks to the API server.
        post: Posts an Event about an object.
        namespace: The namespace of the operator.
        digests: By kind and name, the digest of each policy and binding of this version.
    """

    def __init__(
        self,
        client: KubeClient,
        post: Callable[[Program, EventNote], None],
        namespace: str,
        digests: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._client, self._post = client, post
        self._operator = operator_in(namespace)
        self._digests = digests or json.loads(DIGESTS_FILE.read_text(encoding="utf-8"))
        self._read: dict[tuple[str, str], tuple[str, str]] = {}  # resource version and digest of each that was read
        self._reported: list[str] | None = None
        self._failure = ""
        ADMISSION_POLICIES_CHANGED.set(UNKNOWN)

    async def run(self) -> None:
        """Read the policies, for ever."""
        while True:
            await self.read()
            await asyncio.sleep(READ_SECONDS)

    async def read(self) -> None:
        """Read the policies once; a failure is logged, once for each cause in a row."""
        failure = ""
        try:
            differing = [text for kind in KINDS for text in await self._compare(kind)]
        except (ApiError, *UNREACHABLE, AnswerTooLarge, ValueError) as error:
            failure = str(error) or type(error).__name__
            ADMISSION_POLICIES_CHANGED.set(UNKNOWN)
            if failure != self._failure:
                _log.warning("the admission policies cannot be read", extra={"error": failure})
        else:
            self._report(differing)
        self._failure = failure

    async def _compare(self, kind: ResourceType) -> list[str]:
        """Return the policies of a kind that are missing or differ. A whole one is read only after it was changed."""
        versions: dict[str, str] = {}
        try:
            async for page in read_pages(self._client, kind.everywhere(), {}, accept=METADATA_LIST):
                for found in page["items"] or ():
                    versions[found["metadata"]["name"]] = found["metadata"]["resourceVersion"]
        except ApiError as error:
            if error.status != NOT_FOUND or kind.kind.startswith("Validating"):
                raise
            return []  # Kubernetes before 1.36 serves no mutating policies
        texts = []
        for name, wanted in self._digests[kind.kind].items():
            version, digest = self._read.get((kind.kind, name), ("", ""))
            if name in versions and version != versions[name]:
                digest = await self._digest(kind, name)
                self._read[kind.kind, name] = versions[name], digest
            if name not in versions or digest != wanted:
                texts.append(f"{kind.kind} {name} {'differs' if name in versions and digest else 'is missing'}")
        return texts

    async def _digest(self, kind: ResourceType, name: str) -> str:
        """Return the digest of a policy as it is stored, empty if it was deleted a moment ago."""
        try:
            found: Json = await self._client.get(f"{kind.everywhere()}/{name}")
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            return ""
        return digest_policy(found)

    def _report(self, differing: list[str]) -> None:
        ADMISSION_POLICIES_CHANGED.set(len(differing))
        before, self._reported = self._reported, differing
        if differing == (before or []):
            return
        if differing:
            message = (
                f"{len(differing)} admission policies or bindings are not those of this version of Interlock, so users "
                "may do what these refuse; unless this is intended, apply manifests/admission again: "
                f"{', '.join(differing)}"
            )
            self._post(self._operator, EventNote("Warning", EventReason.ADMISSION_POLICIES_CHANGED, message))
            _log.warning("admission policies differ", extra={"policies": differing})
        else:
            message = "all admission policies and bindings are those of this version of Interlock"
            self._post(self._operator, EventNote("Normal", EventReason.ADMISSION_POLICIES_RESTORED, message))
            _log.info("admission policies restored")
