"""The start of the operator with many Agents that are refused and so have no children: every list is paged.

A stand-in for the API server counts the objects of each answer; a real one does not report them.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from interlock_contract.names import AGENT_POLICIES, AGENTS, GROUP, MCP_BINDINGS, VERSION
from tests.support.operator_process import OperatorProcess
from tests.support.ports import free_port

COUNT = 300
PAGE = 200
METADATA_LISTS = 2
"""Kopf's, and that of the operator's own watch for kills."""
SMALL = ("/endpointslices", "/leases/interlock-kill")
"""Ends of the paths that are read without a limit: one object, and a list of a few."""
VERBS = ["list", "watch", "patch"]
START_SECONDS = 90.0
PEAK_KIB = 180 * 1024
"""Most memory of the operator: about 90 MiB without Agents, and 10 KiB for each."""
KINDS = {AGENTS: "Agent", AGENT_POLICIES: "AgentPolicy", MCP_BINDINGS: "MCPBinding"}
NAMESPACES = {
    "name": "namespaces",
    "singularName": "namespace",
    "kind": "Namespace",
    "namespaced": False,
    "verbs": VERBS,
}
OURS = f"/apis/{GROUP}/{VERSION}"


def an_agent(number: int) -> dict[str, Any]:
    metadata = {
        "name": f"a-{number}",
        "namespace": "agents",
        "uid": f"uid-{number}",
        "resourceVersion": "5",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    spec = {
        "purpose": "Be refused, since it has no owner",
        "policyRef": {"name": "absent"},
        "environment": "development",
        "template": {"image": "example/agent:1"},
    }
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Agent", "metadata": metadata, "spec": spec}


class ManyAgents:
    """An API server with Agents and nothing else."""

    def __init__(self) -> None:
        self.largest = 0
        self.unlimited: set[str] = set()
        self.whole_lists = 0
        """How often all Agents were read."""
        self.metadata_lists = 0
        """How often the metadata of all Agents was read."""

    async def handle(self, http: web.Request) -> web.StreamResponse:
        if http.method != "GET":
            return web.json_response(json.loads(await http.text()) if http.body_exists else {})
        if http.path in self._discovery():
            return web.json_response(self._discovery()[http.path])
        return await self._watch(http) if http.query.get("watch") else self._list(http)

    def _discovery(self) -> dict[str, Any]:
        version = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
        resources = [
            {"name": plural, "singularName": kind.lower(), "kind": kind, "namespaced": True, "verbs": VERBS}
            for plural, kind in KINDS.items()
        ]
        service = {"clusterIPs": ["10.0.0.1"], "ports": [{"name": "https", "port": 443, "targetPort": 6443}]}
        return {
            "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [NAMESPACES]},
            "/apis": {
                "kind": "APIGroupList",
                "groups": [{"name": GROUP, "versions": [version], "preferredVersion": version}],
            },
            OURS: {"kind": "APIResourceList", "groupVersion": f"{GROUP}/{VERSION}", "resources": resources},
            "/api/v1/namespaces/default/services/kubernetes": {"metadata": {"name": "kubernetes"}, "spec": service},
        }

    def _list(self, http: web.Request) -> web.Response:
        count = COUNT if http.path == f"{OURS}/{AGENTS}" else 0
        if "limit" not in http.query:
            self.unlimited.add(http.path)
        begin = int(http.query.get("continue", 0))
        end = min(begin + int(http.query.get("limit", count)), count)
        self.largest = max(self.largest, end - begin)
        more = {"continue": str(end)} if end < count else {}
        if count == end > 0 and "PartialObjectMetadata" in http.headers["Accept"]:
            self.metadata_lists += 1
        elif count == end > 0:
            self.whole_lists += 1
        return web.json_response(
            {"items": [an_agent(number) for number in range(begin, end)], "metadata": {"resourceVersion": "9", **more}}
        )

    async def _watch(self, http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(http)
        while True:
            await asyncio.sleep(20)
            bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}
            await response.write(json.dumps(bookmark).encode() + b"\n")


@pytest.mark.timeout(150)
async def test_all_lists_of_a_start_with_many_refused_agents_are_paged(tmp_path: Path) -> None:
    server, port = ManyAgents(), free_port()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "current-context": "x",
                "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "x", "user": {"token": "t"}}],
                "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            }
        )
    )
    operator = OperatorProcess(kubeconfig, tmp_path / "log").start(wait=False)
    try:
        async with asyncio.timeout(START_SECONDS):
            while not server.whole_lists or server.metadata_lists < METADATA_LISTS:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
        peak = Path(f"/proc/{operator.pid}/status").read_text().split("VmHWM:")[1].split()[0]  # noqa: ASYNC240 - memory
    finally:
        operator.kill()
        await runner.cleanup()
    assert server.largest == PAGE
    assert {path for path in server.unlimited if not path.endswith(SMALL)} == set()
    assert int(peak) < PEAK_KIB
