"""What the guard needs to reach MCP servers over HTTP: their description in the bundle, and files with credentials.

A file is named after the very Secret or ConfigMap key that it holds. The bundle reaches a running guard at once, its
volumes do not change: so a binding that comes to name another Secret finds no file until the pod is replaced, and no
server is ever sent the credential of another one.
"""

import hashlib
from typing import Any

from interlock.api.http_server import CaSource, HttpServer
from interlock.api.references import ConfigMapKeyRef, SecretKeyRef
from interlock.deployment.placement import Placement
from interlock_guard.http_target import HttpHeader, HttpTarget

SECRETS_VOLUME = "server-secrets"
SECRETS_PATH = "/run/interlock/secrets"

_Reference = SecretKeyRef | ConfigMapKeyRef


def build_target(http: HttpServer) -> HttpTarget:
    """Return a server as the guard's bundle describes it."""
    return HttpTarget(
        url=http.url,
        network=http.network,
        headers=tuple(
            HttpHeader(
                header.name,
                header.value,
                None if header.value_from is None else _file(header.value_from.secret_key_ref),
            )
            for header in http.headers
        ),
        ca_file=None if http.ca_from is None else _file(_authorities(http.ca_from)),
    )


def build_secrets_volume(placement: Placement) -> list[dict[str, Any]]:
    """Return the volume with the credentials of all sources over HTTP, in one folder each; none where none are needed.

    The kubelet brings its files up to date when a Secret changes, and the guard reads them anew for each request.
    """
    sources = [
        _projection(bound.source, reference)
        for bound in placement.sources
        if bound.binding.spec.server.http is not None
        for reference in _references(bound.binding.spec.server.http)
    ]
    return [{"name": SECRETS_VOLUME, "projected": {"sources": sources}}] if sources else []


def build_secrets_mount(placement: Placement) -> list[dict[str, Any]]:
    """Return the guard's mount of that volume; no other container has one."""
    mount = {"name": SECRETS_VOLUME, "mountPath": SECRETS_PATH, "readOnly": True}
    return [mount] if build_secrets_volume(placement) else []


def _references(http: HttpServer) -> list[_Reference]:
    """Return every key that a server needs, once: two files of one path are refused by the API server."""
    found: dict[str, _Reference] = {
        _file(header.value_from.secret_key_ref): header.value_from.secret_key_ref
        for header in http.headers
        if header.value_from is not None
    }
    if http.ca_from is not None:
        authorities = _authorities(http.ca_from)
        found[_file(authorities)] = authorities
    return list(found.values())


def _authorities(ca: CaSource) -> _Reference:
    found = ca.config_map_key_ref or ca.secret_key_ref
    if found is None:
        raise ValueError("a CaSource without a source")  # its own check has refused that
    return found


def _projection(source: str, reference: _Reference) -> dict[str, Any]:
    items = [{"key": reference.key, "path": f"{source}/{_file(reference)}"}]
    kind = "secret" if isinstance(reference, SecretKeyRef) else "configMap"
    return {kind: {"name": reference.name, "items": items}}


def _file(reference: _Reference) -> str:
    """Return the name of a key's file, 16 hexadecimal digits."""
    text = f"{type(reference).__name__}/{reference.name}/{reference.key}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
