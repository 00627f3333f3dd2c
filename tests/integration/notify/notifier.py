"""The notifier as a process, with the files that its pod mounts and the rights that its Role gives."""

import asyncio
import base64
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from interlock_contract.webhooks import Webhook, WebhookPlan, dump_webhooks
from tests.integration.notify.receiver import HOST, KEY, Receiver
from tests.support.bounds import limit, until
from tests.support.offspring import end_with_parent
from tests.support.ports import free_port

POLICY = "support"
RECORD = "support-notified"
SECONDS = 20.0


@dataclass
class Notifier:
    """One notifier process.

    Attributes:
        server: URL of the API server.
        namespace: The namespace of the policy.
        folder: Where its files are.
        dialable: Addresses that it dials whatever they are.
    """

    server: str
    namespace: str
    folder: Path
    dialable: str = HOST
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None
    webhooks: list[Webhook] = field(default_factory=list)

    def write_credentials(self, token: str, authority: bytes) -> None:
        """Write what the kubelet projects into its container."""
        folder = self.folder / "credentials"
        folder.mkdir()
        (folder / "token").write_text(token)
        (folder / "ca.crt").write_bytes(authority)

    def post_to(self, name: str, receiver: Receiver, **changed: Any) -> None:
        """Add a webhook, with the files of its Secret."""
        folder = self.folder / "secrets" / name
        folder.mkdir(parents=True)
        (folder / "0a").write_text(receiver.url)
        (folder / "0b").write_bytes(b"whsec_" + base64.b64encode(KEY))
        (folder / "0c").write_bytes(receiver.authority.pem)
        fields: dict[str, Any] = {"url_file": "0a", "network": "Public", "key_file": "0b", "ca_file": "0c"}
        self.webhooks.append(Webhook(name=name, **{**fields, "format": "Standard", **changed}))

    async def start(self) -> None:
        """Start it, and wait until it has seen the ledgers."""
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "INTERLOCK_NAMESPACE": self.namespace,
            "INTERLOCK_LEDGERS": f"interlock.dev/policy={POLICY}",
            "INTERLOCK_RECORD": RECORD,
            "INTERLOCK_WEBHOOKS": dump_webhooks(WebhookPlan(1, POLICY, tuple(self.webhooks))),
            "INTERLOCK_API_SERVER": self.server,
            "INTERLOCK_CREDENTIALS": str(self.folder / "credentials"),
            "INTERLOCK_SECRETS": str(self.folder / "secrets"),
            "INTERLOCK_OBSERVE_PORT": str(self.port),
            "INTERLOCK_DIALABLE": self.dialable,
        }
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "interlock_notify", env=environment, stderr=log, preexec_fn=end_with_parent
            )
        await until(self.is_ready, lambda: f"the notifier is ready; its log: {self.log[-2000:]}", SECONDS)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """End it, and return its exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        if process.returncode is None:
            process.send_signal(number)
        async with limit(SECONDS, "the notifier ends"):
            return await process.wait()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def messages(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    async def is_ready(self) -> bool:
        return await self._get("/readyz") is not None

    async def metric(self, name: str) -> float:
        """Return a sample, 0 where there is none; the name has its labels."""
        text = await self._get("/metrics") or ""
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)

    async def _get(self, path: str) -> str | None:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as response,
            ):
                return await response.text() if response.status == 200 else None
        except aiohttp.ClientError:
            return None
