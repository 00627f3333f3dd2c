"""A program in an agent's container, without a container engine: its user, files, variables and network.

The container is built from the manifest that the operator makes, so a change of the manifest changes what the program
finds. Different from a pod are the port of the guard, since several guards run on one machine, and the limits of
processor and memory, which are missing.
"""

import asyncio
import base64
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlock.deployment.children.agent_container import build_agent, build_agent_volumes
from interlock.deployment.children.config import build_agent_config, build_agent_secret
from interlock.deployment.placement import Placement
from interlock_contract.pod import CONFIG_PATH, MCP_PORT
from tests.support.closed_network import ClosedNetwork
from tests.support.offspring import end_with_parent

CONTAINER = Path(__file__).with_name("agent_container.sh")
IMAGE_VARIABLES = {"PATH": f"/venv/bin:{sys.base_prefix}/bin:/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}
"""Those that the image of a Python program has."""
RUNTIME_VARIABLES = {
    "HOME": "/",
    "HOSTNAME": "triage-0123456789-abcde",
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
}
"""Those that kubelet and container runtime add for a user without an entry in the image's /etc/passwd."""


@dataclass
class Ended:
    """A program that has ended."""

    code: int
    output: str
    errors: str


@dataclass
class AgentContainer:
    """The container of an agent next to its guard.

    Attributes:
        placement: What runs. Its manifest decides on user, variables and files.
        network: The network, whose port of the guard stands for port 7410.
        folder: A folder of the test's own.
        app: The folder that the image has at /app.
        environment: The virtual environment that the image has at /venv; None for the machine's Python alone.
    """

    placement: Placement
    network: ClosedNetwork
    folder: Path
    app: Path
    environment: Path | None = None

    @property
    def variables(self) -> dict[str, str]:
        """All variables of the container. Those of the template replace those of the image, as in a pod."""
        stated = {
            one["name"]: self._ported(one["value"]) if "value" in one else self._secret(one["valueFrom"])
            for one in build_agent(self.placement)["env"]
        }
        return {**IMAGE_VARIABLES, **RUNTIME_VARIABLES, **stated}

    async def run(self, command: Sequence[str], seconds: float) -> Ended:
        """Run a command in the container and wait for its end.

        Raises:
            TimeoutError: The command did not end in time.
        """
        root, files = self.folder / "root", self._write_files()
        root.mkdir(exist_ok=True)
        user = build_agent(self.placement)["securityContext"]
        mounts = [str(root), str(files), sys.base_prefix, str(self.app), str(self.environment or "")]
        given = [f"{name}={value}" for name, value in self.variables.items()]
        process = await asyncio.create_subprocess_exec(
            *("nsenter", f"--net=/proc/self/fd/{self.network.namespace}"),
            *("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"),
            *("sh", str(CONTAINER), *mounts, str(user["runAsUser"]), str(user["runAsGroup"])),
            *("env", "-i", *given, *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"]},
            pass_fds=[self.network.namespace],
            preexec_fn=end_with_parent,
        )
        try:
            async with asyncio.timeout(seconds):
                output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Ended(process.returncode, output.decode(), errors.decode())

    def _write_files(self) -> Path:
        """Write the files of the volume at /etc/interlock, and return their folder."""
        folder = self.folder / "config"
        shutil.rmtree(folder, ignore_errors=True)
        [volume] = [one for one in build_agent_volumes(self.placement) if one["name"] == "config"]
        for source in volume["projected"]["sources"]:
            [(kind, reference)] = source.items()
            manifest = build_agent_secret(self.placement) if kind == "secret" else build_agent_config(self.placement)
            assert reference["name"] == manifest["metadata"]["name"]
            for item in reference["items"]:
                text = manifest["data"][item["key"]]
                path = folder / item["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self._ported(_decoded(text) if kind == "secret" else text), encoding="utf-8")
        assert (folder / "mcp.json").is_file(), CONFIG_PATH
        return folder

    def _secret(self, value_from: dict[str, Any]) -> str:
        """Return what the kubelet puts in place of a reference to the agent's Secret."""
        reference, manifest = value_from["secretKeyRef"], build_agent_secret(self.placement)
        assert reference["name"] == manifest["metadata"]["name"]
        return _decoded(manifest["data"][reference["key"]])

    def _ported(self, text: str) -> str:
        return text.replace(f":{MCP_PORT}/", f":{self.network.port}/")


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
