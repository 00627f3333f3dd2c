"""A stand-in for the Kubernetes API server as one guard sees it: list and watch of Agents and ConfigMaps, one Lease.

It exists because these tests need no cluster and must be able to make an API server fall silent, vanish and come
back at a chosen moment. No test of Kubernetes' own behaviour uses it.
"""

import asyncio
import json
from email.utils import formatdate
from typing import Any

from aiohttp import web

from interlock_contract.budget.ledger import Ledger, dump_ledger, parse_ledger
from interlock_contract.bundle import digest
from tests.support.pins import LearntPins, with_pins

AGENT = "support-triage"
NAMESPACE = "agents"
BUNDLE = "support-triage-0123456789"
RESULT = "crm-verification-result"
UID = "5a0ef5f0-1c5e-4c53-9a0e-000000000001"

_AGENTS = f"/apis/interlock.dev/v1alpha1/namespaces/{NAMESPACE}/agents"
_CONFIG_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
_LEDGERS = f"/apis/interlock.dev/v1alpha1/namespaces/{NAMESPACE}/budgetledgers"
_LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{BUNDLE}"


class FakeApiServer:
    """Holds two objects and sends its watchers every change."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.tokens: list[str] = []
        self.lease: dict[str, str] | None = {}
        """Annotations of the placement's Lease; None where there is no Lease."""
        self.lease_writes = 0
        self.result = ""
        """What a verifier has written."""
        self.refuses_results = 0
        """How many more results are refused."""
        self.pins: LearntPins | None = None
        """Of the server that is not ours, once they are learnt: every bundle then has them."""
        self.lists = 0
        self.watches = 0
        self.talks = asyncio.Event()
        """While it is not set, requests are taken and not answered."""
        self.talks.set()
        self._named: list[str] = []
        self._version = 100
        self._objects: dict[str, dict[str, Any] | None] = {_AGENTS: None, _CONFIG_MAPS: None}
        self._queues: dict[str, set[asyncio.Queue[dict[str, Any] | None]]] = {_AGENTS: set(), _CONFIG_MAPS: set()}
        self.ledgers: dict[str, Ledger] = {}
        """Every ledger as it was written last."""
        self.history: list[tuple[str, Ledger]] = []
        """Every version of every ledger."""
        self.date: float | None = None
        """The time that each answer shows, in seconds since the epoch; None for the true one."""
        self.has_ledgers = True
        """While it is False, requests about ledgers are refused."""
        self.ledgers_talk = asyncio.Event()
        """While it is not set, requests about ledgers are taken and not answered."""
        self.ledgers_talk.set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application()
        app.on_response_prepare.append(self._set_date)
        for path in (_AGENTS, _CONFIG_MAPS):
            app.router.add_get(path, self._get)
        app.router.add_get(_LEDGERS, self._get)
        app.router.add_get(f"{_LEDGERS}/{{name}}", self._get_ledger)
        app.router.add_put(f"{_LEDGERS}/{{name}}/status", self._put_ledger)
        app.router.add_patch(_LEASE, self._patch_lease)
        app.router.add_patch(f"{_CONFIG_MAPS}/{RESULT}", self._patch_result)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def _set_date(self, _: web.Request, response: web.StreamResponse) -> None:
        if self.date is not None:
            response.headers["Date"] = formatdate(self.date, usegmt=True)

    async def stop(self) -> None:
        if self._runner is not None:
            for queues in self._queues.values():
                for queue in queues:
                    queue.put_nowait(None)
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def set_agent(
        self, *, uid: str = UID, annotations: dict[str, str] | None = None, status: dict[str, Any] | None = None
    ) -> None:
        metadata = {"name": AGENT, "namespace": NAMESPACE, "uid": uid, "annotations": annotations or {}}
        self._put(
            _AGENTS, {"metadata": metadata, "spec": {}, "status": {**(status or {}), "bundleDigests": self._named}}
        )

    def kill(self, value: str) -> None:
        self.set_agent(annotations={"interlock.dev/kill-switch": value})

    def delete_agent_with_finalizer(self) -> None:
        metadata = {"name": AGENT, "namespace": NAMESPACE, "uid": UID, "finalizers": ["example.com/keep"]}
        self._put(_AGENTS, {"metadata": metadata | {"deletionTimestamp": "2026-03-02T09:00:00Z"}, "spec": {}})

    def delete_agent(self) -> None:
        self._put(_AGENTS, None)

    def set_bundle(self, text: str | None) -> None:
        """Set the bundle as the operator does: the status names it first, and the one before it until it is written.

        Its ledgers are made before, where they are missing.
        """
        for name in _ledgers_in(text):
            if name not in self.ledgers:
                self.set_ledger(name, Ledger())
        if text is not None and self.pins is not None:
            text = with_pins(text, *self.pins)
        if text is not None:
            self._name([digest(text), *self._named[:1]])
        self.forge_bundle(text)

    def set_bundle_late(self, text: str) -> None:
        """Set the bundle, with an event of the Agent whose status names nothing else, and none of the ConfigMap."""
        if self.pins is not None:
            text = with_pins(text, *self.pins)
        self._objects[_CONFIG_MAPS] = _config_map(text, version=self._version)
        self.name_bundles(text)

    def name_bundles(self, *texts: str) -> None:
        """Let the Agent's status name exactly these bundles."""
        self._name([digest(text) for text in texts])

    def _name(self, digests: list[str]) -> None:
        self._named = digests
        agent = self._objects[_AGENTS]
        if agent is not None:
            status = {**agent["status"], "bundleDigests": self._named}
            self._put(_AGENTS, {**agent, "metadata": dict(agent["metadata"]), "status": status})

    def forge_bundle(self, text: str | None) -> None:
        """Set the ConfigMap alone, as anyone who may write ConfigMaps can."""
        self._put(_CONFIG_MAPS, None if text is None else _config_map(text))

    def set_ledger(self, name: str, ledger: Ledger) -> None:
        """Write a ledger, as the operator does."""
        self.ledgers[name] = ledger
        self.history.append((name, ledger))
        path = f"{_LEDGERS}/{name}"
        self._objects.setdefault(path, None)
        self._queues.setdefault(path, set())
        metadata = {"name": name, "namespace": NAMESPACE, "uid": f"uid-of-{name}"}
        self._put(path, {"metadata": metadata, "spec": {"policy": "support"}, "status": dump_ledger(ledger)})

    def expire_watches(self) -> None:
        """Send every watcher the error that its version is too old."""
        status = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}
        self._notify({**self._queues}, status)

    def _put(self, path: str, found: dict[str, Any] | None) -> None:
        before, self._version = self._objects[path], self._version + 1
        kind = "DELETED" if found is None else "MODIFIED" if before is not None else "ADDED"
        if found is not None:
            found["metadata"]["resourceVersion"] = str(self._version)
        self._objects[path] = found
        if found is not None or before is not None:
            self._notify({path: self._queues[path]}, {"type": kind, "object": found if found is not None else before})

    def _notify(self, queues: dict[str, set[asyncio.Queue[dict[str, Any] | None]]], event: dict[str, Any]) -> None:
        for waiting in queues.values():
            for queue in waiting:
                queue.put_nowait(event)

    async def _get(self, http: web.Request) -> web.StreamResponse:
        self.tokens.append(http.headers.get("Authorization", ""))
        selector, path = http.query.get("fieldSelector", ""), http.path
        if path == _LEDGERS:
            await self.ledgers_talk.wait()
            if not self.has_ledgers:
                return web.Response(status=503)
            path = f"{_LEDGERS}/{selector.removeprefix('metadata.name=')}"
        elif selector != f"metadata.name={AGENT if path == _AGENTS else BUNDLE}":
            return web.Response(status=403)
        await self.talks.wait()
        if http.query.get("watch") == "1":
            self.watches += path in (_AGENTS, _CONFIG_MAPS)
            return await self._watch(http, path)
        self.lists += path in (_AGENTS, _CONFIG_MAPS)
        found = self._objects.get(path)
        return web.json_response(
            {"metadata": {"resourceVersion": str(self._version)}, "items": [found] if found else []}
        )

    async def _get_ledger(self, http: web.Request) -> web.Response:
        await self.talks.wait()
        await self.ledgers_talk.wait()
        found = self._objects.get(http.path)
        if found is None or not self.has_ledgers:
            return web.Response(status=404 if self.has_ledgers else 503)
        return web.json_response(found)

    async def _put_ledger(self, http: web.Request) -> web.Response:
        await self.talks.wait()
        await self.ledgers_talk.wait()
        sent, name = json.loads(await http.text()), http.match_info["name"]
        found = self._objects.get(f"{_LEDGERS}/{name}")
        if found is None or not self.has_ledgers:
            return web.Response(status=404 if self.has_ledgers else 503)
        if sent["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            return web.json_response({"message": "the object has been modified"}, status=409)
        self.set_ledger(name, parse_ledger(sent["status"]))
        return web.json_response(self._objects[f"{_LEDGERS}/{name}"])

    async def _patch_lease(self, http: web.Request) -> web.Response:
        await self.talks.wait()
        self.tokens.append(http.headers.get("Authorization", ""))
        if self.lease is None:
            return web.Response(status=404)
        if http.content_type != "application/merge-patch+json":
            return web.Response(status=415)
        self.lease_writes += 1
        merged = {**self.lease, **json.loads(await http.text())["metadata"]["annotations"]}
        self.lease = {key: value for key, value in merged.items() if value is not None}
        return web.json_response({"metadata": {"name": BUNDLE, "annotations": self.lease}})

    async def _patch_result(self, http: web.Request) -> web.Response:
        self.tokens.append(http.headers.get("Authorization", ""))
        if self.refuses_results > 0:
            self.refuses_results -= 1
            return web.Response(status=500)
        self.result = json.loads(await http.text())["data"]["result.json"]
        return web.json_response({"metadata": {"name": RESULT}})

    async def _watch(self, http: web.Request, path: str) -> web.StreamResponse:
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        found = self._objects.get(path)
        if found is not None and int(found["metadata"]["resourceVersion"]) > int(http.query["resourceVersion"]):
            queue.put_nowait({"type": "MODIFIED", "object": found})
        queues = self._queues.setdefault(path, set())
        queues.add(queue)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            await response.prepare(http)
            async with asyncio.timeout(float(http.query["timeoutSeconds"])):
                while (event := await queue.get()) is not None:
                    await response.write(json.dumps(event).encode() + b"\n")
            if http.transport is not None:
                http.transport.abort()
        except (TimeoutError, ConnectionError):
            pass  # aiohttp ends the response, also where the watcher is gone
        finally:
            queues.discard(queue)
        return response


def _ledgers_in(text: str | None) -> list[str]:
    """Return the ledgers that the text of a bundle names; none where it is no JSON."""
    try:
        budget = json.loads(text or "{}").get("budget", {})
    except json.JSONDecodeError:
        return []
    return [budget[name] for name in ("ledger", "totalLedger") if name in budget]


def _config_map(text: str, *, version: int = 0) -> dict[str, Any]:
    return {"metadata": {"name": BUNDLE, "resourceVersion": str(version)}, "data": {"bundle.json": text}}
