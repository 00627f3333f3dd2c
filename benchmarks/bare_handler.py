"""The least that a kopf operator can do here: one handler, the same children by the same client, one status write.

The handler has no checks, no cache, no drift healing and no kill switch. The difference from the operator is the price
of all these. The children are a template that is filled in, not built.
"""

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import kopf

from interlock_kube.client import KubeClient
from interlock_kube.resource_types import BY_KIND
from interlock_process.credentials import find_credentials

AGENT_NAME = "agent-name"
AGENT_UID = "agent-uid"
IN_FLIGHT = 40  # as many as the operator


class Bare:
    """What the handler needs."""

    def __init__(self, client: KubeClient, template: str) -> None:
        self.client = client
        self.template = template
        self.slots = asyncio.Semaphore(IN_FLIGHT)

    async def create(self, manifest: dict[str, Any]) -> None:
        """Create one child."""
        async with self.slots:
            await self.client.create(BY_KIND[manifest["kind"]].within(manifest["metadata"]["namespace"]), manifest)


async def create(name: str, uid: str, memo: Bare, patch: kopf.Patch, **_: Any) -> None:
    """Create all children, then tell that it was done."""
    children = json.loads(memo.template.replace(AGENT_NAME, name).replace(AGENT_UID, uid))
    await asyncio.gather(*(memo.create(child) for child in children))
    patch.status["observedGeneration"] = 1


async def run(kubeconfig: Path, template: str) -> None:
    """Run until a signal ends it."""
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    os.environ["KUBECONFIG"] = str(kubeconfig)
    registry = kopf.OperatorRegistry()
    kopf.on.create("interlock.dev", "v1alpha1", "agents", registry=registry)(create)
    kopf.on.login(registry=registry)(kopf.login_with_kubeconfig)
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    memo = Bare(KubeClient(find_credentials(kubeconfig)), template)
    await kopf.operator(registry=registry, settings=settings, memo=memo, clusterwide=True, standalone=True)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8")))
