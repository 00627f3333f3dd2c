"""Files that the guard alone mounts: each is named after the very Secret or ConfigMap key that it holds."""

import hashlib
from typing import Any

from interlock.api.http_server import CaSource
from interlock.api.references import ConfigMapKeyRef, SecretKeyRef

Reference = SecretKeyRef | ConfigMapKeyRef


def file_of(reference: Reference) -> str:
    """Return the name of a key's file, 16 hexadecimal digits."""
    text = f"{type(reference).__name__}/{reference.name}/{reference.key}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def project(folder: str, reference: Reference) -> dict[str, Any]:
    """Return the source of a projected volume that lays a key's file into a folder."""
    items = [{"key": reference.key, "path": f"{folder}/{file_of(reference)}"}]
    kind = "secret" if isinstance(reference, SecretKeyRef) else "configMap"
    return {kind: {"name": reference.name, "items": items}}


def authorities_of(ca: CaSource) -> Reference:
    """Return the key that holds CA certificates."""
    found = ca.config_map_key_ref or ca.secret_key_ref
    if found is None:
        raise ValueError("a CaSource without a source")  # its own check has refused that
    return found
