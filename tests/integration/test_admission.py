"""The admission policies on a real API server: what they refuse, and that no kill is ever among it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from interlock.api.agent import Agent
from interlock.api.policy import AgentPolicy
from interlock.api.refusals import (
    budget_refusals,
    drain_refusals,
    minimum_refusals,
    model_refusals,
    name_refusal,
    row_refusals,
    stage_order_refusals,
    unknown_environment_refusals,
)
from interlock.governance.governed import is_audited
from interlock.orchestration.gate_limits import gate_refusals
from tests.integration.installed_policies import install_policies
from tests.integration.kubectl import AGENT, BINDING, POLICY, ROOT, Answer, Api, Cluster, Kubectl, edited, eventually
from tests.integration.page_objects import shown_manifests
from tests.integration.rollout_values import DRAIN_TIMES
from tests.integration.template_values import JUDGED, refusals_of_template
from tests.requirements import requirement
from tests.support.admission import is_unsettled
from tests.support.gate_values import GATES, WEAKER_GATES

pytestmark = pytest.mark.api

KILL = "interlock.dev/kill-switch"
DRY = "--dry-run=server"
SCOPE = [{"dimension": "region", "values": ["eu-west"]}]
LATCHED = "removing interlock.dev/kill-switch does not release it: set it to off"


@pytest.fixture(scope="module")
def kubectl(kwok_cluster: Cluster) -> Iterator[Kubectl]:
    client = Kubectl(kwok_cluster)
    client.install_crds()
    folder = str(ROOT / "manifests" / "admission")
    was_there = client.run("get", "validatingadmissionpolicy", "agents-create.interlock.dev").ok
    install_policies(kwok_cluster, "-k", folder)
    with client.proxied() as server, server.namespace() as empty:
        asks = "create-an-agentpolicy-in-this-namespace-first"
        eventually(lambda: asks in server.try_create(AGENT, empty).text, "AgentPolicies are read as parameters")
    yield client
    if not was_there:  # other tests find the cluster as this module did
        client.must("delete", "--wait=false", "-k", folder)


@pytest.fixture
def namespace(server: Api) -> Iterator[str]:
    with server.namespace() as name:
        yield name


def create(server: Api, namespace: str, *manifests: dict[str, Any]) -> None:
    for manifest in manifests:
        eventually(lambda manifest=manifest: _created(server, namespace, manifest), "the policy is known to admission")


def _created(server: Api, namespace: str, manifest: dict[str, Any]) -> bool:
    """Create `manifest`, or find that a policy made a moment ago has not reached admission yet."""
    answer = server.create(manifest, namespace)
    assert answer.ok or is_unsettled(answer.text), answer.text
    return answer.ok


def policy(**rollout: Any) -> dict[str, Any]:
    return edited(POLICY, spec__rollout=rollout)


def models(*allow: str, urls: Any = None, secrets: tuple[str, ...] = ("models",)) -> dict[str, Any]:
    return edited(policy(), spec__models={"allow": list(allow), "urls": urls or [], "secretNames": list(secrets)})


def calling(*names: str) -> dict[str, Any]:
    key = {"secretKeyRef": {"name": "models", "key": "key"}}
    return edited(AGENT, spec__models=[{"name": name, "apiKeyFrom": key} for name in names])


def labelled_row(**labels: str) -> dict[str, Any]:
    row = {"agentSelector": {"matchLabels": labels}, "source": "crm", "read": ["*"]}
    return edited(policy(), spec__dataAccess=[row])


def agent(*stages: dict[str, Any], sources: tuple[str, ...] = (), **edits: Any) -> dict[str, Any]:
    bindings = [{"source": source} for source in sources]
    if not stages:
        return edited(AGENT, spec__bindings=bindings, **edits)
    return edited(AGENT, spec__environment=None, spec__rollout={"stages": list(stages)}, spec__bindings=bindings)


def stage(name: str, environment: str, duration: str | None = None, scope: Any = None) -> dict[str, Any]:
    step = {"name": name, "environment": environment, "minDuration": duration, "scope": scope}
    return {key: value for key, value in step.items() if value is not None}


def python_refusals(agent_manifest: dict[str, Any], policy_manifest: dict[str, Any]) -> list[str]:
    """What the reconciler says about the same two objects."""
    read, required = Agent.model_validate(agent_manifest), AgentPolicy.model_validate(policy_manifest)
    name = required.metadata.name
    return [
        *unknown_environment_refusals(read.spec, name, required.spec),
        *stage_order_refusals(read.spec.stages, required.spec.class_of),
        *minimum_refusals(read.spec.stages, name, required.spec),
        *(
            sentence
            for one in read.spec.stages
            for sentence in gate_refusals(one.name, one.gates, required.spec.rollout.gates, name, has_tasks=True)
        ),
        *drain_refusals(read.spec, name, required.spec),
        *([] if is_audited(read, required, 0) else row_refusals(read.metadata, read.spec, name, required.spec)),
        *model_refusals(read.spec, name, required.spec),
        *budget_refusals(read.spec, name, required.spec),
        *refusals_of_template(read, required),
    ]


def declaring(*environments: dict[str, Any], **rollout: Any) -> dict[str, Any]:
    return edited(policy(**rollout), spec__environments=list(environments))


def lowering(*budgets: dict[str, Any], **edits: Any) -> dict[str, Any]:
    return edited(AGENT, spec__budget=list(budgets), **edits)


QA = {"name": "qa", "class": "staging", "monthlyBudget": "100"}
EU = {"name": "eu", "class": "production"}
STAGED = (
    stage("staging", "staging", "168h"),
    stage("one-region", "production", "48h", SCOPE),
    stage("everywhere", "production"),
)
LAB = {"name": "lab", "class": "development", "mode": "Audit"}
AUDITED: dict[str, Any] = {"spec__environments": [{"name": "development", "mode": "Audit"}]}
BOTH_ANSWER = {
    "default minimums kept": (policy(), agent(*STAGED)),
    "development alone": (policy(), agent()),
    "staging alone": (policy(), agent(stage("s", "staging"))),
    "environment staging": (policy(), agent(spec__environment="staging")),
    "environment production": (policy(), agent(spec__environment="production")),
    "environment production where nothing is required": (
        policy(minStaging="0s", requireLimitedScope=False),
        agent(spec__environment="production"),
    ),
    "no staging stage": (policy(), agent(*STAGED[1:])),
    "staging without minDuration": (policy(), agent(stage("s", "staging"), *STAGED[1:])),
    "staging a second short": (policy(), agent(stage("s", "staging", "167h59m59s"), *STAGED[1:])),
    "staging half a second short": (policy(minStaging="1s"), agent(stage("s", "staging", "500ms"), *STAGED[1:])),
    "staging minutes short": (policy(), agent(stage("s", "staging", "90m"), *STAGED[1:])),
    "staging in two stages": (
        policy(),
        agent(stage("s1", "staging", "100h", SCOPE), stage("s2", "staging", "68h"), *STAGED[1:]),
    ),
    "staging in two stages, short": (
        policy(),
        agent(stage("s1", "staging", "100h"), stage("s2", "staging", "67h"), *STAGED[1:]),
    ),
    "gates weaker than the policy's": (
        policy(minStaging="0s", requireLimitedScope=False, gates=GATES),
        edited(
            agent(
                stage("s", "staging") | {"gates": WEAKER_GATES}, stage("p", "production") | {"gates": {"minTasks": 1}}
            ),
            spec__tasks={"port": 8080},
        ),
    ),
    "gates stricter than the policy's": (
        policy(minStaging="0s", requireLimitedScope=False, gates=GATES),
        edited(agent(stage("s", "staging") | {"gates": GATES}, stage("p", "production")), spec__tasks={"port": 8080}),
    ),
    **{
        name: (policy(**minimums), edited(agent(stage("s", "staging")), spec__rollout__drainTimeout=timeout))
        for name, (minimums, timeout) in DRAIN_TIMES.items()
    },
    "staging not required": (policy(minStaging="0s"), agent(*STAGED[1:])),
    "no limited scope": (policy(), agent(STAGED[0], STAGED[2])),
    "limited scope not required": (policy(requireLimitedScope=False), agent(STAGED[0], STAGED[2])),
    "limited scope too short": (policy(), agent(STAGED[0], stage("one", "production", "47h", SCOPE), STAGED[2])),
    "limited scope without minDuration": (policy(), agent(STAGED[0], stage("one", "production", None, SCOPE))),
    "limited scope in two stages": (
        policy(),
        agent(
            STAGED[0],
            stage("one", "production", "24h", SCOPE),
            stage("two", "production", "24h", [{"dimension": "region", "values": ["eu-west", "eu-north"]}]),
            STAGED[2],
        ),
    ),
    "a limited scope is long enough even where none is required": (
        policy(requireLimitedScope=False),
        agent(STAGED[0], stage("one", "production", "1h", SCOPE), STAGED[2]),
    ),
    "staging and limited scope short": (
        policy(),
        agent(stage("s", "staging", "1h"), stage("one", "production", "30m", SCOPE), STAGED[2]),
    ),
    "minimums of seconds": (
        policy(minStaging="5s", minLimitedScope="5s"),
        agent(stage("s", "staging", "5s"), stage("one", "production", "5s", SCOPE), stage("all", "production")),
    ),
    "a row for the source": (policy(), agent(sources=("crm",))),
    "no row for the source": (policy(), agent(sources=("mail",))),
    "no row for two sources": (policy(), agent(sources=("mail", "crm", "files"))),
    "no row for the agent": (policy(), agent(sources=("crm",), metadata__name="other")),
    "a row by label": (
        labelled_row(team="support"),
        agent(sources=("crm",), metadata__labels={"team": "support", "x": ""}),
    ),
    "a row by two labels": (
        labelled_row(team="support", tier="1"),
        agent(sources=("crm",), metadata__labels={"team": "support", "tier": "1"}),
    ),
    "a row by a label that the agent lacks": (
        labelled_row(team="support", tier="1"),
        agent(sources=("crm",), metadata__labels={"team": "support"}),
    ),
    "a row by another value of a label": (
        labelled_row(team="support"),
        agent(sources=("crm",), metadata__labels={"team": "Support"}),
    ),
    "a row by label and an agent without labels": (labelled_row(team="support"), agent(sources=("crm",))),
    "rows by name and by label": (
        edited(
            policy(), spec__dataAccess=[*labelled_row(team="a")["spec"]["dataAccess"], *POLICY["spec"]["dataAccess"]]
        ),
        agent(sources=("crm",)),
    ),
    "no matrix": (edited(policy(), spec__dataAccess=None), agent(sources=("crm",))),
    "models that are allowed": (
        models("openai/gpt-4o*", "local/*", urls=[{"name": "local", "url": "https://llm.example.com/v1"}]),
        calling("openai/gpt-4o-mini", "local/meta/llama"),
    ),
    "a model that is not allowed": (models("openai/gpt-4o-mini"), calling("openai/gpt-4o-mini", "openai/gpt-4o")),
    "a model where none is allowed": (policy(), calling("openai/gpt-4o")),
    "signs that mean nothing": (
        models("openai/gpt.4+"),
        calling("openai/gpt-44", "openai/gpt.4+x"),
    ),
    "a model of an unknown provider": (models("local/*"), calling("local/llama", "openai/x")),
    "a key in a Secret that the policy does not name": (
        models("openai/*", secrets=("model", "models2")),
        calling("openai/gpt-4o"),
    ),
    "a key where no Secret is named, and a model that is not allowed": (
        models("openai/gpt-4o", secrets=()),
        calling("openai/gpt-4o", "openai/o3"),
    ),
    "environments that the policy does not have": (
        policy(minStaging="0s", requireLimitedScope=False),
        agent(stage("a", "moon"), stage("b", "mars")),
    ),
    "an environment that the policy does not have": (
        policy(minStaging="0s", requireLimitedScope=False),
        agent(spec__environment="moon"),
    ),
    "environments of other names, in order": (
        declaring({"name": "lab", "class": "development"}, QA, EU),
        agent(
            stage("l", "lab"),
            stage("q", "qa", "168h"),
            stage("e", "eu", "48h", SCOPE),
            stage("p", "production"),
        ),
    ),
    "environments of other names, against the order of their classes": (
        declaring(QA, EU, minStaging="0s", minLimitedScope="0s", requireLimitedScope=False),
        agent(stage("e", "eu"), stage("q", "qa")),
    ),
    "limited scope after the stage that it is to protect": (
        declaring(EU),
        agent(STAGED[0], stage("one", "production", "1s", SCOPE), STAGED[2], stage("late", "eu", "48h", SCOPE)),
    ),
    "limited scope before and after a stage without one": (
        declaring(EU),
        agent(STAGED[0], stage("one", "production", "48h", SCOPE), STAGED[2], stage("late", "eu", "0s", SCOPE)),
    ),
    "an environment of class production without its minimums": (declaring(EU), agent(spec__environment="eu")),
    "staging by class, short": (declaring(QA), agent(stage("q", "qa", "1h"), *STAGED[1:])),
    "lower budgets": (
        declaring(QA, EU),
        lowering(
            {"environment": "development", "dailyBudget": "50", "monthlyBudget": "1000000"},
            {"environment": "staging", "dailyBudget": "200.000000000"},
            {"environment": "production", "dailyBudget": "1000"},
            {"environment": "qa", "dailyBudget": "0", "monthlyBudget": "100"},
            {"environment": "eu", "dailyBudget": "999.999999999"},
        ),
    ),
    "raised budgets": (
        declaring({"name": "development", "dailyBudget": "0.5"}, QA, EU),
        lowering(
            {"environment": "development", "dailyBudget": "0.500000001"},
            {"environment": "staging", "dailyBudget": "200.01"},
            {"environment": "qa", "dailyBudget": "200.01", "monthlyBudget": "100.01"},
            {"environment": "eu", "dailyBudget": "1000000"},
            {"environment": "moon", "dailyBudget": "1"},
        ),
    ),
    **JUDGED,
    "no row in mode Audit": (edited(policy(), **AUDITED), agent(sources=("mail",))),
    "no row in a stage before mode Audit": (
        edited(policy(), spec__environments=[{"name": "development"}, LAB]),
        agent(stage("dev", "development"), stage("lab", "lab"), sources=("mail",)),
    ),
    "everything together": (policy(), agent(stage("all", "production"), sources=("mail",))),
}


@pytest.mark.parametrize(("policy_manifest", "agent_manifest"), BOTH_ANSWER.values(), ids=list(BOTH_ANSWER))
@requirement("governance.same-message", "rollout.minimums")
def test_a_new_agent_is_refused_for_what_python_says_in_the_same_words(
    server: Api,
    namespace: str,
    policy_manifest: dict[str, Any],
    agent_manifest: dict[str, Any],
) -> None:
    create(server, namespace, policy_manifest, edited(policy(minStaging="0s"), metadata__name="another"))
    assert_refused_as_by_python(server, namespace, policy_manifest, agent_manifest)


def assert_refused_as_by_python(
    server: Api, namespace: str, policy_manifest: dict[str, Any], agent_manifest: dict[str, Any]
) -> None:
    expected = python_refusals(agent_manifest, policy_manifest)

    def says_as_expected() -> bool:  # the policy reaches admission within a moment
        answer = server.try_create(agent_manifest, namespace)
        return answer.text.endswith("denied request: " + "; ".join(expected)) if expected else answer.ok

    eventually(says_as_expected, f"{expected}")


@requirement("governance.same-message", "rollout.minimums")
def test_a_stage_is_refused_for_one_gate_that_is_weaker_than_the_policys(server: Api, namespace: str) -> None:
    required = policy(minStaging="0s", requireLimitedScope=False, gates=GATES)
    create(server, namespace, required)
    for gate in WEAKER_GATES:
        gated = agent(stage("s", "staging") | {"gates": GATES | {gate: WEAKER_GATES[gate]}})
        assert_refused_as_by_python(server, namespace, required, edited(gated, spec__tasks={"port": 8080}))


def test_apply_with_server_dry_run_gives_the_verdict(kubectl: Kubectl, server: Api, namespace: str) -> None:
    create(server, namespace, policy())
    text = json.dumps(agent(sources=("mail",)))
    answer = kubectl.run("apply", DRY, "-n", namespace, "-f", "-", stdin=text)
    assert not answer.ok
    assert (
        "spec.bindings: AgentPolicy support has no dataAccess row for agent support-triage and source mail: "
        "add the row, or remove the binding"
    ) in answer.text


def test_the_largest_policy_and_agent_stay_below_the_cost_limit(
    server: Api,
    namespace: str,
) -> None:
    others = [f"agent-{i:02}-{'x' * 43}" for i in range(63)]
    rows = [{"agents": [*others, "support-triage"], "source": f"{'s' * 60}{i:03}"} for i in range(256)]
    create(server, namespace, edited(policy(), spec__dataAccess=rows))
    largest = agent(sources=tuple(f"{'s' * 60}{i:03}" for i in range(224, 256)))
    eventually(lambda: server.try_create(largest, namespace).ok, "admitted")
    refused = server.try_create(agent(sources=tuple(f"{'m' * 60}{i:03}" for i in range(32))), namespace)
    assert refused.text.count("has no dataAccess row") > 20
    assert refused.text.endswith(" and so on")


def test_the_largest_policy_by_labels_stays_below_the_cost_limit(server: Api, namespace: str) -> None:
    labels = {f"{'l' * 60}{i}": "v" * 63 for i in range(8)}
    rows = [{"agentSelector": {"matchLabels": labels}, "source": f"{'s' * 60}{i:03}"} for i in range(256)]
    create(server, namespace, edited(policy(), spec__dataAccess=rows))
    sources = tuple(f"{'s' * 60}{i:03}" for i in range(224, 256))
    largest = edited(agent(sources=sources), metadata__labels=labels | {f"more{i}": "x" for i in range(20)})
    eventually(lambda: server.try_create(largest, namespace).ok, "admitted")


def test_the_most_models_stay_below_the_cost_limit(server: Api, namespace: str) -> None:
    globs = [f"openai/{'x' * 160}{number:02}*" for number in range(63)]
    secrets = (*(f"{'x' * 240}{number:02}" for number in range(63)), "models")
    create(server, namespace, models(*globs, f"openai/{'x' * 170}*", secrets=secrets))
    most = calling(*(f"openai/{'x' * 170}-{number:02}" for number in range(16)))
    eventually(lambda: server.try_create(most, namespace).ok, "admitted")


def test_the_examples_of_the_pages_are_admitted_together(server: Api, namespace: str) -> None:
    examples = {}
    for path in (ROOT / "docs" / "spec" / "v1alpha1").glob("*.md"):
        (text,) = re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        examples[path.stem] = edited(yaml.safe_load(text), metadata__namespace=namespace)
    create(server, namespace, examples["agentpolicy"], examples["mcpbinding"], examples["agent"])


@requirement("import.examples")
@pytest.mark.parametrize("manifest", shown_manifests().values(), ids=shown_manifests())
def test_an_object_of_a_page_or_of_a_common_server_is_admitted(
    kubectl: Kubectl, server: Api, namespace: str, manifest: dict[str, Any]
) -> None:
    create(server, namespace, POLICY)
    if "namespace" in manifest["metadata"]:
        manifest = edited(manifest, metadata__namespace=namespace)
    if manifest["kind"] == "AgentPolicy":
        manifest = edited(manifest, metadata__name="shown")  # next to the one of that name
    answer = Answer(ok=False, text="")

    def is_admitted() -> bool:
        nonlocal answer
        answer = kubectl.run("create", DRY, "-f", "-", stdin=json.dumps(manifest))
        return answer.ok or not is_unsettled(answer.text)

    eventually(is_admitted, "the policy is known to admission")
    assert answer.ok, answer.text


def test_an_agent_without_any_policy_is_refused_with_the_advice_to_create_one(server: Api, namespace: str) -> None:
    answer = server.try_create(AGENT, namespace)
    assert not answer.ok
    assert "binding 'create-an-agentpolicy-in-this-namespace-first' denied request" in answer.text


@pytest.mark.parametrize(
    ("name", "is_admitted"),
    [("a", True), ("a" * 52, True), ("a" * 53, False), ("a.b", False), ("support-triage-2", True), ("a--b", False)],
)
def test_an_agent_name_is_a_label_of_at_most_52_with_single_dashes(
    server: Api,
    namespace: str,
    name: str,
    *,
    is_admitted: bool,
) -> None:
    create(server, namespace, policy())
    manifest = edited(AGENT, metadata__name=name)
    eventually(lambda: server.try_create(AGENT, namespace).ok, "the policy is known")
    answer = server.try_create(manifest, namespace)
    assert answer.ok is is_admitted
    assert (name_refusal(name) is None) is is_admitted
    assert is_admitted or str(name_refusal(name)) in answer.text


def update(kubectl: Kubectl, namespace: str, **edits: Any) -> Answer:
    """Change the agent that is there, by a dry run that can be repeated."""
    patch = json.dumps(edited({}, **edits))
    return kubectl.run("patch", "agent", AGENT["metadata"]["name"], "-n", namespace, *PATCH, patch)


PATCH = (DRY, "--type=merge", "-p")


def test_a_changed_spec_is_refused_in_the_same_words(kubectl: Kubectl, server: Api, namespace: str) -> None:
    create(server, namespace, policy(), agent(*STAGED))
    changed = agent(stage("s", "staging", "1h"), *STAGED[1:], sources=("mail",))
    expected = "; ".join(python_refusals(changed, policy()))
    answer = update(kubectl, namespace, spec=changed["spec"])
    assert not answer.ok
    assert f"denied request: {expected}" in answer.text
    assert update(kubectl, namespace, spec__replicas=2).ok


def test_a_tightened_policy_lets_labels_and_re_apply_pass_but_no_change_of_the_spec(
    kubectl: Kubectl,
    server: Api,
    namespace: str,
) -> None:
    create(server, namespace, policy(), agent(*STAGED))
    tighter = json.dumps(policy(minStaging="200h"))
    kubectl.must("replace", "-n", namespace, "-f", "-", stdin=tighter)
    eventually(lambda: not update(kubectl, namespace, spec__replicas=2).ok, "the tightened policy counts")
    assert update(kubectl, namespace, metadata__labels={"team": "support"}).ok
    assert kubectl.replace(agent(*STAGED), namespace).ok


# Killing.


def annotate(kubectl: Kubectl, namespace: str, value: str, *options: str) -> Answer:
    argument = f"{KILL}={value}" if value != "-" else f"{KILL}-"
    return kubectl.run(
        "annotate", "agent", AGENT["metadata"]["name"], "-n", namespace, "--overwrite", argument, *options
    )


def assert_kill_and_release_pass(kubectl: Kubectl, namespace: str) -> None:
    for value in ("incident-42", "off"):
        answer = annotate(kubectl, namespace, value)
        assert answer.ok, answer.text


def test_kill_passes_after_a_policy_was_tightened(kubectl: Kubectl, server: Api, namespace: str) -> None:
    create(server, namespace, policy(), agent(*STAGED, sources=("crm",)))
    kubectl.must("replace", "-n", namespace, "-f", "-", stdin=json.dumps(edited(policy(), spec__dataAccess=None)))
    eventually(lambda: not update(kubectl, namespace, spec__replicas=2).ok, "the tightened policy counts")
    assert_kill_and_release_pass(kubectl, namespace)


def test_kill_passes_after_all_policies_were_deleted(
    kubectl: Kubectl,
    server: Api,
    namespace: str,
) -> None:
    create(server, namespace, policy(), agent(*STAGED, sources=("crm",)))
    kubectl.must("delete", "agentpolicy", "--all", "-n", namespace)
    other = edited(AGENT, metadata__name="other")
    eventually(lambda: not server.try_create(other, namespace).ok, "the policies are gone")
    assert_kill_and_release_pass(kubectl, namespace)


def test_kill_passes_while_the_agent_is_being_deleted(kubectl: Kubectl, server: Api, namespace: str) -> None:
    create(server, namespace, policy(), edited(AGENT, metadata__finalizers=["interlock.dev/test"]))
    name = AGENT["metadata"]["name"]
    kubectl.must("delete", "agent", name, "-n", namespace, "--wait=false")
    assert_kill_and_release_pass(kubectl, namespace)
    assert annotate(kubectl, namespace, "again").ok
    finalizers = ("--type=merge", "-p", '{"metadata": {"finalizers": null, "annotations": null}}')
    kubectl.must("patch", "agent", name, "-n", namespace, *finalizers)


def without_rules(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: without_rules(value) for key, value in node.items() if key != "x-kubernetes-validations"}
    return [without_rules(value) for value in node] if isinstance(node, list) else node


def test_kill_passes_on_a_spec_that_violates_every_rule(kubectl: Kubectl, server: Api, namespace: str) -> None:
    """As after an upgrade that brought new rules: the object is older than they are."""
    narrowing = [stage("s1", "staging", "168h"), stage("s2", "staging", None, SCOPE)]
    broken = edited(AGENT, spec__owner__email="team@", spec__purpose=" ", spec__rollout={"stages": narrowing})
    create(server, namespace, policy(minStaging="0s", requireLimitedScope=False))
    crd = without_rules(yaml.safe_load((ROOT / "crds" / "agents.yaml").read_text(encoding="utf-8")))
    kubectl.must("replace", "-f", "-", stdin=json.dumps(crd))
    try:
        eventually(lambda: server.try_create(broken, namespace).ok, "the CRD without rules is in force")
        create(server, namespace, broken)
        rootless = edited(broken, spec__policyRef=None, spec__owner=None)
        assert kubectl.replace(rootless, namespace).ok
    finally:
        kubectl.install_crds()
    fresh = edited(broken, metadata__name="fresh")
    eventually(lambda: "both set" in server.try_create(fresh, namespace).text, "the rules are back")
    assert_kill_and_release_pass(kubectl, namespace)


def test_kill_passes_when_the_kind_of_the_policies_is_not_served(kubectl: Kubectl, server: Api, namespace: str) -> None:
    create(server, namespace, policy(), agent(*STAGED))
    try:
        kubectl.must("delete", "crd", "agentpolicies.interlock.dev")
        assert_kill_and_release_pass(kubectl, namespace)
        assert annotate(kubectl, namespace, "again").ok
    finally:
        kubectl.install_crds()
    assert annotate(kubectl, namespace, "off").ok


# The latch.


@pytest.fixture(params=["incident-42", "", "Off"])
def killed(kubectl: Kubectl, server: Api, namespace: str, request: pytest.FixtureRequest) -> str:
    """A namespace with an agent that is killed: any value but off kills."""
    create(server, namespace, policy(), AGENT)
    assert annotate(kubectl, namespace, request.param).ok
    return namespace


@requirement("kill.latched", "kill.any-value")
def test_removing_the_annotation_is_refused_however_it_is_done(kubectl: Kubectl, killed: str) -> None:
    attempts = [
        annotate(kubectl, killed, "-"),
        kubectl.replace(AGENT, killed),
        kubectl.run(
            "patch",
            "agent",
            "support-triage",
            "-n",
            killed,
            "--type=merge",
            "-p",
            '{"metadata": {"annotations": null}}',
        ),
    ]
    for attempt in attempts:
        assert not attempt.ok
        assert LATCHED in attempt.text


def test_other_values_pass_and_off_releases_and_may_then_be_removed(kubectl: Kubectl, killed: str) -> None:
    for value in ("another-reason", "off", "-"):
        answer = annotate(kubectl, killed, value)
        assert answer.ok, answer.text


def test_a_sync_that_no_longer_owns_the_annotation_is_refused(kubectl: Kubectl, server: Api, namespace: str) -> None:
    create(server, namespace, policy())

    def sync(manifest: dict[str, Any]) -> Answer:
        options = ("apply", "--server-side", "--field-manager=gitops", "-n", namespace, "-f", "-")
        return kubectl.run(*options, stdin=json.dumps(manifest))

    assert sync(edited(AGENT, metadata__annotations={KILL: "incident-42"})).ok
    answer = sync(AGENT)
    assert not answer.ok
    assert LATCHED in answer.text


def _start_pod(kubectl: Kubectl, namespace: str, agent: str) -> Answer:
    metadata = {"generateName": "pod-", "labels": {"interlock.dev/agent": agent}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "agent", "image": "registry.example.com/agent:1.0"}]},
    }
    return kubectl.run("create", DRY, "-n", namespace, "-f", "-", stdin=json.dumps(pod))


@requirement("kill.no-new-pod")
def test_no_pod_of_a_killed_agent_is_made_until_off(kubectl: Kubectl, killed: str) -> None:
    name = AGENT["metadata"]["name"]
    refused = f"agent {name} is killed: no pod of it starts until interlock.dev/kill-switch is off"
    eventually(lambda: refused in _start_pod(kubectl, killed, name).text, "the kill reaches the admission of pods")
    assert _start_pod(kubectl, killed, "another").ok  # a kill is one agent's
    assert annotate(kubectl, killed, "off").ok
    eventually(lambda: _start_pod(kubectl, killed, name).ok, "the release reaches the admission of pods")


def test_a_killed_agent_can_be_edited_and_deleted(kubectl: Kubectl, killed: str) -> None:
    name = AGENT["metadata"]["name"]
    assert update(kubectl, killed, spec__replicas=3, metadata__labels={"a": "b"}).ok
    kubectl.must("delete", "agent", name, "-n", killed, "--timeout=10s")


# Who set the switch.


def stamp(kubectl: Kubectl, namespace: str) -> str | None:
    found = kubectl.must("get", "agent", AGENT["metadata"]["name"], "-n", namespace, "-o", "json").json()
    stamped: str | None = found["metadata"].get("annotations", {}).get(f"{KILL}-by")
    return stamped


def as_user(name: str) -> tuple[str, str]:
    return (f"--as={name}", "--as-group=system:masters")


def test_the_api_server_stamps_who_set_the_switch(kubectl: Kubectl, server: Api, namespace: str) -> None:
    create(server, namespace, policy(), AGENT)
    assert stamp(kubectl, namespace) is None
    for user, value in (("ada", "incident-42"), ("grace", "worse"), ("alan", "off")):
        assert annotate(kubectl, namespace, value, *as_user(user)).ok
        assert stamp(kubectl, namespace) == user
    patch = '{"metadata": {"annotations": {"interlock.dev/kill-switch-by": "nobody"}}}'
    kubectl.must("patch", "agent", "support-triage", "-n", namespace, "--type=merge", "-p", patch)
    assert stamp(kubectl, namespace) == "alan"


# Who may write the status.


@pytest.mark.parametrize(("plural", "name"), [("agents", "support-triage"), ("mcpbindings", "crm")])
def test_only_who_may_reconcile_them_may_write_the_status_of_agents_and_bindings(
    kubectl: Kubectl, server: Api, namespace: str, plural: str, name: str
) -> None:
    create(server, namespace, policy(), AGENT, edited(BINDING, metadata__name="crm"))
    user = f"--as=system:serviceaccount:{namespace}:writer"

    def write() -> Answer:
        patch = '{"status": {"observedGeneration": 1}}'
        options = ("--subresource=status", "--type=merge", "-p", patch, user)
        return kubectl.run("patch", plural, name, "-n", namespace, *options)

    def grant(name: str, resource: str, *verbs: str) -> None:
        manifest = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": name},
            "rules": [{"apiGroups": ["interlock.dev"], "resources": [resource], "verbs": list(verbs)}],
        }
        kubectl.must("create", "-n", namespace, "-f", "-", stdin=json.dumps(manifest))
        account = f"--serviceaccount={namespace}:writer"
        kubectl.must("create", "rolebinding", name, "-n", namespace, f"--role={name}", account)

    grant("status", f"{plural}/status", "get", "patch", "update")
    eventually(
        lambda: f"grant the verb reconcile on {plural}.interlock.dev" in write().text,
        "RBAC lets it pass, admission not",
    )
    grant("reconcile", plural, "get", "reconcile")
    eventually(lambda: write().ok, "the verb is granted")
