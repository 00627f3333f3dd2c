"""One namespace of a test, and reads of its objects."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.integration.operator import objects
from tests.integration.operator.api import CHILD_KINDS, WAIT_SECONDS, Api, Json, eventually
from tests.support import bounds
from tests.support.bounds import TOLERANCE

MANAGED = "app.kubernetes.io/managed-by=interlock"
ROLLOUT_SECONDS = 45.0
"""From a change to the end of the rollout of one stage without a soak: start, and a drain of 30 s at the most."""
PROMISED_SECONDS = 10.0
"""What is promised for refusing, healing and pruning."""
REFUSED_SECONDS = TOLERANCE * PROMISED_SECONDS


@dataclass
class Sandbox:
    """A namespace with a policy and bindings for its agents."""

    api: Api
    namespace: str
    is_operated: Callable[[], bool] = lambda: False

    def apply_policy_and_bindings(self, *agents: str, isolation: str = "Shared", production: bool = False) -> None:
        """Apply a policy with rows for these agents, and a binding for development and staging.

        Args:
            agents: The names.
            isolation: In each environment.
            production: Whether there is another binding, for production. Its verification takes about a second.
        """
        self.api.create(objects.policy(*agents, isolation=isolation), self.namespace)
        names = ("crm-sandbox", "crm") if production else ("crm-sandbox",)
        for name in names:
            self.api.create(objects.binding(name, *(["production"] if name == "crm" else [])), self.namespace)
        if self.is_operated():
            for name in names:
                self.wait_verified(name)

    def binding(self, name: str) -> Json:
        return self.api.get("mcpbindings", self.namespace, name)

    def wait_verified(self, name: str, seconds: float = WAIT_SECONDS) -> Json:
        """Wait until the MCPBinding is Verified in its present metadata.generation and has its objects; return it."""

        def check() -> Json | None:
            found = self.binding(name)
            verified = condition_of(found, "Verified")
            is_current = verified.get("observedGeneration") == found["metadata"]["generation"]
            return found if is_current and verified["status"] == "True" else None

        return eventually(check, f"{name} is verified", seconds)

    def create(self, name: str, **parts: Any) -> Json:
        """Apply an Agent."""
        return self.api.create(objects.agent(name, **parts), self.namespace)

    def agent(self, name: str) -> Json:
        return self.api.get("agents", self.namespace, name)

    def policy(self) -> Json:
        return self.api.get("agentpolicies", self.namespace, objects.POLICY)

    def condition(self, name: str, kind: str) -> Json:
        """Return a condition of an Agent, an empty one where it has none."""
        return condition_of(self.agent(name), kind)

    def wait_ready(self, name: str, seconds: float = WAIT_SECONDS) -> Json:
        """Wait until the Agent is Ready in its present metadata.generation; return it."""

        def check() -> Json | None:
            found = self.agent(name)
            ready = condition_of(found, "Ready")
            seen = ready.get("observedGeneration") == found["metadata"]["generation"]
            return found if seen and ready["status"] == "True" else None

        return eventually(check, f"{name} is Ready; it is {self.condition(name, 'Ready')}", seconds)

    def wait_refused(self, name: str, reason: str, seconds: float = REFUSED_SECONDS) -> str:
        """Wait until the Agent is refused for this reason and nothing of it runs; return the sentence."""
        message = self.wait_stalled(name, reason, seconds)
        self.wait_pruned(name, seconds)
        return message

    def wait_stalled(self, name: str, reason: str, seconds: float = REFUSED_SECONDS) -> str:
        """Wait until what the Agent says now is refused for this reason; return the sentence."""

        def check() -> tuple[Json, Json] | None:
            found = self.agent(name)
            ready, stalled = condition_of(found, "Ready"), condition_of(found, "Stalled")
            is_refused = (ready.get("status"), ready.get("reason")) == ("False", reason)
            return (ready, stalled) if is_refused and stalled.get("status") == "True" else None

        ready, stalled = eventually(check, f"{name} is refused: {reason}", seconds)
        assert stalled["message"] == ready["message"]
        return str(ready["message"])

    def wait_pruned(self, name: str, seconds: float = REFUSED_SECONDS) -> None:
        """Wait until neither a child nor a pod of the agent is left."""

        def left() -> list[str]:
            """Return the kinds and names of what is left."""
            found = {**self.children(name), "Pod": self.pods(name)}
            return [f"{kind} {one['metadata']['name']}" for kind, items in found.items() for one in items]

        bounds.eventually(lambda: not left(), lambda: f"nothing is left of {name}; there are {left()}", seconds)

    def wait_stage(self, name: str, stage: str, seconds: float = WAIT_SECONDS) -> Json:
        """Wait until the Agent is in the stage; return `status.stage`."""

        def check() -> Json | None:
            found: Json = self.agent(name).get("status", {}).get("stage") or {}
            return found if found.get("name") == stage else None

        return eventually(check, f"{name} is in stage {stage}", seconds)

    def wait_deployed(self, name: str, stage: str) -> None:
        """Wait until all children of the Agent are of the stage."""

        def check() -> bool:
            children = [child for found in self.children(name).values() for child in found]
            stages = {child["metadata"]["labels"]["interlock.dev/stage"] for child in children if of_a_stage(child)}
            return stages == {stage}

        def of_a_stage(child: Json) -> bool:
            return "interlock.dev/stage" in child["metadata"]["labels"]

        eventually(check, f"{name} has the objects of {stage} alone", WAIT_SECONDS)

    def pods(self, name: str) -> list[Json]:
        return self.api.listed("pods", self.namespace, f"interlock.dev/agent={name}")

    def children(self, name: str) -> dict[str, list[Json]]:
        """Return the agent's children by kind, kinds without one left out."""
        selector = f"{MANAGED},interlock.dev/agent={name}"
        found = {kind: self.api.listed(plural, self.namespace, selector) for kind, plural in CHILD_KINDS.items()}
        return {kind: items for kind, items in found.items() if items}

    def child(self, name: str, kind: str, part: str = "") -> Json:
        """Return the agent's only child of the kind (and, where given, component)."""
        labels = "app.kubernetes.io/component"
        found = [item for item in self.children(name).get(kind, []) if part in ("", item["metadata"]["labels"][labels])]
        assert len(found) == 1, f"{len(found)} {kind} {part}"
        return found[0]

    def replicas(self, name: str) -> int | None:
        """Return how many pods its Deployment wants, None while there is none."""
        found = self.children(name).get("Deployment", [])
        return sum(int(deployment["spec"]["replicas"]) for deployment in found) if found else None

    def bundle(self, name: str) -> Json:
        """Return what the guard obeys."""
        (only,) = self.bundles(name)
        return only

    def bundles(self, name: str) -> list[Json]:
        """Return what the guards obey: one bundle of each placement, of which a rollout has several for a while."""
        maps = self.children(name).get("ConfigMap", [])
        return [json.loads(found["data"]["bundle.json"]) for found in maps if "bundle.json" in found.get("data", {})]

    def wait_good(self, name: str, number: int, seconds: float = ROLLOUT_SECONDS) -> None:
        """Wait until this revision of the Agent is good and nothing is left of the ones before it."""

        def check() -> bool:
            status = self.agent(name)["status"]
            good = status.get("rollout", {}).get("good") or {}
            return good.get("number") == number and len(status.get("placements", [])) == 1 == len(self.bundles(name))

        eventually(check, f"revision {number} of {name} is alone and good", seconds)

    def eventually(self, check: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
        eventually(check, what, seconds)


def condition_of(agent: Json, kind: str) -> Json:
    """Return a condition of the Agent, an empty one where it has none."""
    conditions = agent.get("status", {}).get("conditions", [])
    return next((found for found in conditions if found["type"] == kind), {})
