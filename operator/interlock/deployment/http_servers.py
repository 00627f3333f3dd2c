"""What the guard needs to reach MCP servers over HTTP: their description in the bundle, and files with credentials.

A file is named after the very Secret or ConfigMap key that it holds. The bundle reaches a running guard at once, its
volumes do not change: so a binding that comes to name another Secret finds no file until the pod is replaced, and no
server is ever sent the credential of another one.
"""

from collections.abc import Iterable
from typing import Any

from interlock.api.http_server import HttpServer
from interlock.deployment.models import model_projections
from interlock.deployment.placement import BoundSource, Placement
from interlock.deployment.secret_files import Reference, authorities_of, file_of, project
from interlock_guard.bundle.http_target import HttpHeader, HttpTarget

SECRETS_VOLUME = "server-secrets"
SECRETS_PATH = "/run/interlock/secrets"


def build_target(http: HttpServer) -> HttpTarget:
    """Return a server as the guard's bundle describes it."""
    return HttpTarget(
        url=http.url,
        network=http.network,
        headers=tuple(
            HttpHeader(
                header.name,
                header.value,
                None if header.value_from is None else file_of(header.value_from.secret_key_ref),
            )
            for header in http.headers
        ),
        ca_file=None if http.ca_from is None else file_of(authorities_of(http.ca_from)),
    )


def build_secrets_volume(placement: Placement) -> list[dict[str, Any]]:
    """Return the volume with the credentials of sources over HTTP, in one folder each, and of models, if there are any.

    The kubelet brings its files up to date when a Secret changes, and the guard reads them anew for each request.
    """
    return _volume([*_projections(placement.sources), *model_projections(placement)])


def project_secrets(bound_sources: Iterable[BoundSource]) -> list[dict[str, Any]]:
    """Return the volume with the credentials of these sources alone; none where none are needed."""
    return _volume(_projections(bound_sources))


def _projections(bound_sources: Iterable[BoundSource]) -> list[dict[str, Any]]:
    return [
        project(bound.source, reference)
        for bound in bound_sources
        if bound.binding.spec.server.http is not None
        for reference in _references(bound.binding.spec.server.http)
    ]


def _volume(projections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": SECRETS_VOLUME, "projected": {"sources": projections}}] if projections else []


def build_secrets_mount(placement: Placement) -> list[dict[str, Any]]:
    """Return the guard's mount of that volume; no other container has one."""
    return mount_secrets(build_secrets_volume(placement))


def mount_secrets(volume: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mount of that volume, none where there is none."""
    return [{"name": SECRETS_VOLUME, "mountPath": SECRETS_PATH, "readOnly": True}] if volume else []


def _references(http: HttpServer) -> list[Reference]:
    """Return every key that a server needs, once: two files of one path are refused by the API server."""
    found: dict[str, Reference] = {
        file_of(header.value_from.secret_key_ref): header.value_from.secret_key_ref
        for header in http.headers
        if header.value_from is not None
    }
    if http.ca_from is not None:
        authorities = authorities_of(http.ca_from)
        found[file_of(authorities)] = authorities
    return list(found.values())
