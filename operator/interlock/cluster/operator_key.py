"""The operator's own key, from which it derives the keys of all agents.

The key is a Secret in the operator's namespace, mounted into its pod. The operator reads no Secret by the API server,
so it reads the mounted file. Its first start creates the Secret and knows the key already. Another key would mean other
keys for all agents, and so a rollout of all agents. An existing Secret is therefore never replaced.
"""

import asyncio
import base64
import logging
import secrets
import time
from pathlib import Path
from typing import Final

from interlock_contract.agent_key import MIN_OPERATOR_KEY
from interlock_contract.names import OPERATOR_KEY_SECRET
from interlock_kube.client import METADATA_ONLY, ApiError, KubeClient, says_exists
from interlock_kube.resource_types import SECRET

_log = logging.getLogger(__name__)

KEY_SECONDS: Final = 180.0
"""How long the kubelet may take to mount a Secret that was created after the pod: usually a minute or two."""
_POLL_SECONDS: Final = 1.0
_KEY: Final = "key"


class OperatorKeyUnusable(Exception):  # noqa: N818 - says the state of the key
    """The key is too short, or its file is missing although the Secret exists; the message says what to do."""


async def obtain_operator_key(client: KubeClient, namespace: str, path: Path, seconds: float = KEY_SECONDS) -> bytes:
    """Return the operator's key, and create it where there is none.

    Args:
        client: Speaks to the API server.
        namespace: The operator's namespace.
        path: The mounted file.
        seconds: Most seconds to wait for the file where the Secret exists.

    Raises:
        OperatorKeyUnusable: The file is missing, or does not hold a key.
        ApiError: The API server refuses the Secret.
    """
    found = _read(path)
    if found is not None:
        return found
    created = secrets.token_hex(MIN_OPERATOR_KEY)
    manifest = {
        "apiVersion": SECRET.api_version,
        "kind": SECRET.kind,
        "metadata": {"name": OPERATOR_KEY_SECRET, "namespace": namespace},
        "type": "Opaque",
        "immutable": True,
        "data": {_KEY: base64.b64encode(created.encode()).decode()},
    }
    try:
        await client.create(SECRET.within(namespace), manifest, accept=METADATA_ONLY)
    except ApiError as error:
        if not says_exists(error):
            raise
    else:
        _log.info("the key of the operator was created", extra={"secret": f"{namespace}/{OPERATOR_KEY_SECRET}"})
        return created.encode()
    return await _wait_for(path, namespace, seconds)


async def _wait_for(path: Path, namespace: str, seconds: float) -> bytes:
    """Return the key once the kubelet has mounted a Secret that an earlier start has created."""
    deadline = time.monotonic() + seconds
    while True:
        found = _read(path)
        if found is not None:
            return found
        if time.monotonic() >= deadline:
            raise OperatorKeyUnusable(
                f"the Secret {namespace}/{OPERATOR_KEY_SECRET} exists, but {path} does not: mount it there, or name "
                "another file in INTERLOCK_KEY_FILE"
            )
        await asyncio.sleep(_POLL_SECONDS)


def _read(path: Path) -> bytes | None:
    try:
        found = path.read_bytes().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OperatorKeyUnusable(f"{path} cannot be read: {error.strerror}") from None
    if len(found) < MIN_OPERATOR_KEY:
        raise OperatorKeyUnusable(
            f"{path} holds {len(found)} bytes, but the operator's key needs at least {MIN_OPERATOR_KEY}: "
            "create the Secret with a longer random key"
        )
    return found
