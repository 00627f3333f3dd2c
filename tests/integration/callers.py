"""Requests to the API server of a test in many names: its administrator, users with tokens, impersonated identities."""

import http
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.integration.operator.api import Access
from tests.support import bounds
from tests.support.admission import is_unsettled

Json = dict[str, Any]
JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"
REQUEST_SECONDS = 30.0
SETTLED_SECONDS = 30.0


@dataclass(frozen=True)
class Reply:
    """The API server's answer to one request.

    Attributes:
        status: The HTTP status.
        text: The message of a refusal, else the body.
        warnings: Its headers of that name.
        flow_schema: The uid of the FlowSchema by which the API server gave the request a seat.
    """

    status: int
    text: str
    warnings: tuple[str, ...] = ()
    flow_schema: str | None = None

    def json(self) -> Any:
        return json.loads(self.text)

    def was_denied_by(self, policy: str) -> bool:
        """Return True if this admission policy has refused the request with a sentence of its own."""
        denied = f"ValidatingAdmissionPolicy '{policy}.interlock.dev'"
        is_refused = self.status in (http.HTTPStatus.FORBIDDEN, http.HTTPStatus.UNPROCESSABLE_ENTITY)
        is_error = "resulted in error" in self.text or is_unsettled(self.text)
        return is_refused and denied in self.text and not is_error

    @property
    def passed_admission(self) -> bool:
        """True if no policy, no role and no schema has refused the request, whatever came of it afterwards."""
        is_sent = self.status not in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.UNPROCESSABLE_ENTITY)
        return is_sent and " is forbidden: " not in self.text  # a proxied peer's own 403 has other words


@dataclass(frozen=True)
class Caller:
    """One identity at one API server."""

    host: str
    port: int
    tls: ssl.SSLContext = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    authority: str = ""

    @classmethod
    def administrator(cls, kubeconfig: Path) -> "Caller":
        """Return the first user of a kubeconfig that names files."""
        access = Access.of(kubeconfig)
        return cls(access.host, access.port, access.tls, authority=access.authority)

    def with_token(self, token: str) -> "Caller":
        """Return the identity that a token belongs to."""
        tls = ssl.create_default_context(cafile=self.authority)
        return replace(self, tls=tls, headers={"Authorization": f"Bearer {token}"})

    def impersonating(self, user: str, *groups: str, pod: str = "", pod_uid: str = "") -> "Caller":
        """Return this caller in another's name, and as a token would have it that names a pod and its uid."""
        headers = dict(self.headers) | {"Impersonate-User": user}
        if groups:
            headers["Impersonate-Group"] = "\n".join(groups)
        if pod:
            headers[f"Impersonate-Extra-{quote(POD_NAME, safe='')}"] = pod
        if pod_uid:
            headers[f"Impersonate-Extra-{quote(POD_UID, safe='')}"] = pod_uid
        return replace(self, headers=headers)

    def send(self, method: str, path: str, body: Any = None, content_type: str = JSON) -> Reply:
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=REQUEST_SECONDS, context=self.tls)
        try:
            connection.putrequest(method, path)
            for name, value in self.headers.items():
                for one in value.split("\n"):
                    connection.putheader(name, one)
            text = b"" if body is None else json.dumps(body).encode()
            connection.putheader("Content-Type", content_type)
            connection.putheader("Content-Length", str(len(text)))
            connection.endheaders(text)
            answer = connection.getresponse()
            data, warnings = answer.read().decode(errors="replace"), answer.headers.get_all("Warning", [])
            flow_schema = answer.headers.get("X-Kubernetes-PF-FlowSchema-UID")
        finally:
            connection.close()
        if answer.status >= http.HTTPStatus.BAD_REQUEST and data[:1] == "{":
            data = str(json.loads(data).get("message"))
        return Reply(answer.status, data, tuple(warnings), flow_schema)

    def must(self, method: str, path: str, body: Any = None, content_type: str = JSON) -> Json:
        reply = self.send(method, path, body, content_type)
        assert reply.status < http.HTTPStatus.BAD_REQUEST, f"{method} {path}: {reply.status} {reply.text}"
        loaded: Json = reply.json()
        return loaded

    def create(self, path: str, body: Json) -> Json:
        """Create an object in a collection, again while admission does not know its kind or its parameters."""

        def created() -> Json | None:
            reply = self.send("POST", path, body)
            assert reply.status == http.HTTPStatus.CREATED or is_unsettled(reply.text), f"{path}: {reply.text}"
            found: Json | None = reply.json() if reply.status == http.HTTPStatus.CREATED else None
            return found

        return bounds.eventually(created, f"{body.get('kind')} is admitted", SETTLED_SECONDS)

    def token_of(self, namespace: str, account: str) -> str:
        """Return a token of a ServiceAccount, as `kubectl create token` does."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        token: str = self.must("POST", path, {"spec": {"expirationSeconds": 7200}})["status"]["token"]
        return token


def path_of(manifest: Json, namespace: str, *, is_new: bool = False) -> str:
    """Return the path of an object, or of its collection where it is to be created."""
    version, kind = manifest["apiVersion"], manifest["kind"].lower()
    plural = {"networkpolicy": "networkpolicies", "agentpolicy": "agentpolicies"}.get(kind, f"{kind}s")
    base = f"/{'apis' if '/' in version else 'api'}/{version}/namespaces/{namespace}/{plural}"
    return base if is_new else f"{base}/{manifest['metadata']['name']}"
