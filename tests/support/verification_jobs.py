"""Plays the verifiers of a cluster without containers: each new Job's result is written, as its server would have it.

The operator makes the Jobs and reads the results; what a verifier does is tested in tests/integration/guard.
"""

import http.client
import json
import threading
from collections.abc import Callable
from typing import Any, Protocol

from interlock_contract.bundle import BUNDLE_KEY, parse_bundle
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.mapping import is_name_glob
from interlock_contract.verification import (
    PLAN_KEY,
    RESULT_KEY,
    SeenDefinition,
    VerificationFailure,
    VerificationResult,
    dump_result,
    parse_plan,
)

Json = dict[str, Any]
POLL_SECONDS = 0.1
MERGE_PATCH = "application/merge-patch+json"
_JOBS = "/apis/batch/v1/jobs?labelSelector=interlock.dev/binding"


class HasRequest(Protocol):
    """Speaks to an API server as its administrator."""

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Json: ...

    def close(self) -> None: ...


def a_tool(name: str, description: str = "") -> Json:
    """Return a tool as the servers of these clusters list it."""
    return {"name": name, "inputSchema": {"type": "object"}} | ({"description": description} if description else {})


def a_prompt(name: str, description: str = "") -> Json:
    """Return a prompt as the servers of these clusters list it."""
    return {"name": name} | ({"description": description} if description else {})


class VerificationJobs:
    """A thread that answers every Job of a verification.

    `descriptions` says of tools and prompts, by name, that they are described in another way; a tool of the value None
    is gone, and an unmapped one is new. `schemas` has the input schemas of tools, by name, where they differ.
    `instructions` are those of every server. `failing` is a message with which all runs fail.
    """

    def __init__(self, connect: Callable[[], HasRequest]) -> None:
        self.descriptions: dict[str, str | None] = {}
        self.schemas: dict[str, Json] = {}
        self.instructions = ""
        self.failing = ""
        self.silent = False
        self.runs: list[str] = []
        self._connect = connect
        self._answered: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> "VerificationJobs":
        """Begin to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop answering."""
        self._stop.set()
        self._thread.join(10)

    def reset(self) -> None:
        """Let every server be as it is mapped again."""
        self.descriptions, self.schemas, self.failing, self.silent = {}, {}, "", False

    def _run(self) -> None:
        api = self._connect()
        while not self._stop.wait(POLL_SECONDS):
            try:
                for job in api.request("GET", _JOBS)["items"]:
                    if not self.silent and job["metadata"]["uid"] not in self._answered:
                        self._answer(api, job)
            except Exception as error:
                # What an API server has cut off, or refused, such as one that is busy, is tried again.
                is_cut_off = isinstance(error, OSError | http.client.HTTPException | ValueError)
                if not is_cut_off and not hasattr(error, "status"):
                    raise
        api.close()

    def _answer(self, api: HasRequest, job: Json) -> None:
        namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        pod = job["spec"]["template"]["spec"]
        result = next(
            variable["value"] for variable in pod["containers"][0]["env"] if variable["name"] == "INTERLOCK_RESULT"
        )
        try:
            data = api.request("GET", f"{path}/{name}-plan")["data"]
            written = {"data": {RESULT_KEY: dump_result(self._result(data))}}
            api.request("PATCH", f"{path}/{result}?fieldManager=interlock-verifier", written, MERGE_PATCH)
        except Exception as error:
            if getattr(error, "status", 0) != 404:
                raise
        self._answered.add(job["metadata"]["uid"])
        self.runs.append(f"{namespace}/{name}")

    def _result(self, plan: dict[str, str]) -> VerificationResult:
        planned = parse_plan(plan[PLAN_KEY])
        if self.failing:
            return VerificationResult(planned.run, VerificationFailure.SERVER_UNAVAILABLE, self.failing)
        [source] = parse_bundle(plan[BUNDLE_KEY]).sources
        prompted = {prompt.name for prompt in source.prompts}
        names = {tool.name for tool in source.tools if not is_name_glob(tool.name)} | self.descriptions.keys()
        listed = [name for name in sorted(names - prompted) if self.descriptions.get(name, "") is not None]
        described = (a_tool(name, self.descriptions.get(name) or "") for name in listed)
        changed = (tool | {"inputSchema": self.schemas.get(tool["name"], tool["inputSchema"])} for tool in described)
        tools = [json.loads(canonicalize(tool)) for tool in changed]
        prompts = [a_prompt(prompt.name, self.descriptions.get(prompt.name) or "") for prompt in source.prompts]
        return VerificationResult(
            planned.run,
            tools=tuple(_see(tool["name"], tool) for tool in tools),
            prompts=tuple(_see(prompt["name"], prompt) for prompt in prompts) if prompts else None,
            instructions=_see("instructions", self.instructions) if planned.instructions else None,
            protocol="2025-11-25",
        )


def _see(name: str, value: Any) -> SeenDefinition:
    return SeenDefinition(name, digest_of(canonicalize(value)), canonicalize(value))
