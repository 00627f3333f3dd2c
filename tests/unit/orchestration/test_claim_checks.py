"""The checks of claims: one agent, one environment, one volume and one pod for each."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from interlock.api.agent import Agent
from interlock.api.agent_reasons import AgentReason
from interlock.orchestration.claim_checks import Claims, ClaimUse, check_claims, claims_in
from tests.support.builders import NOW, AgentBuilder, a_policy, a_stage, an_agent

POLICY = a_policy().isolating(staging="Separate", production="Separate").build()
OLDER, YOUNGER = NOW - timedelta(days=1), NOW + timedelta(days=1)


def with_claims(agent: AgentBuilder, **volumes: dict[str, str]) -> Agent:
    return agent.with_claims(**volumes).build()


STAGED = an_agent().with_stages(a_stage("try", "staging"), a_stage("live", "production"))
GOOD = with_claims(STAGED, files={"staging": "files-try", "production": "files"})


def refusal(agent: Agent, claims: Claims | None = None, policy: object = POLICY) -> tuple[AgentReason, str] | None:
    found = check_claims(agent, policy, claims or Claims(ClaimUse("triage", NOW)))  # type: ignore[arg-type]
    return None if found is None else (found.reason, found.message)


def test_one_claim_for_each_environment_is_used_in_it() -> None:
    assert refusal(GOOD) is None
    assert claims_in(GOOD.spec, "production") == {"files"}
    assert claims_in(GOOD.spec, "staging") == {"files-try"}
    assert claims_in(GOOD.spec, "development") == frozenset()


@pytest.mark.parametrize("name", ["other,files", "Files", "../files", "files ", "-"])
def test_a_text_that_names_no_claim_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="is not the name of a PersistentVolumeClaim"):
        with_claims(STAGED, files={"production": name})


def test_an_environment_of_a_stage_without_a_claim_is_named_with_stage_and_volume() -> None:
    assert refusal(with_claims(STAGED, files={"production": "files"})) == (
        AgentReason.CLAIM_MISSING,
        (
            "volume files has no claim for environment staging of stage try: add one to "
            "spec.template.volumes[].persistentVolumeClaim.claims"
        ),
    )


def test_agent_and_guard_in_one_pod_share_no_claim() -> None:
    policy = a_policy().isolating(staging="Shared", production="Separate").build()
    assert refusal(GOOD, policy=policy) == (
        AgentReason.CLAIM_NOT_SEPARATE,
        (
            "volumes files are claims, and agent and guard share a pod in environment staging: a claim needs isolation "
            "Separate, see spec.environments of AgentPolicy support"
        ),
    )


def test_two_stages_of_one_environment_would_share_its_claim() -> None:
    agent = an_agent().with_stages(
        a_stage("region", "production", scope={"region": ["eu"]}), a_stage("live", "production")
    )
    assert refusal(with_claims(agent, files={"production": "files"})) == (
        AgentReason.CLAIM_SHARED,
        (
            "stages region and live have one environment, production, and would share its claims: "
            "an agent with claims has one stage for each environment"
        ),
    )


@pytest.mark.parametrize(
    ("volumes", "sentence"),
    [
        (
            {"files": {"staging": "files", "production": "files"}},
            (
                "claim files is named more than once: volume files in environment staging and volume files in "
                "environment production"
            ),
        ),
        (
            {"files": {"staging": "a", "production": "b"}, "index": {"staging": "c", "production": "b"}},
            (
                "claim b is named more than once: volume files in environment production and volume index in "
                "environment production"
            ),
        ),
    ],
    ids=["two environments", "two volumes"],
)
def test_a_claim_is_named_once(volumes: dict[str, dict[str, str]], sentence: str) -> None:
    assert refusal(with_claims(STAGED, **volumes)) == (AgentReason.CLAIM_SHARED, sentence)


FILES = frozenset({"files"})
HAS = "has used it, or is about to"


def others(*uses: ClaimUse, held: str = "", used: str = "") -> Claims:
    own = ClaimUse("triage", NOW, held=frozenset({held or used} - {""}), used=frozenset({used} - {""}))
    return Claims(own, uses)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        (others(ClaimUse("zoe", OLDER, named=frozenset({"files"}))), "is older"),
        (others(ClaimUse("aaa", NOW, named=frozenset({"files"}))), "is older"),
        (others(ClaimUse("abe", YOUNGER, held=frozenset({"files"}))), HAS),
        (others(ClaimUse("abe", YOUNGER, held=FILES, is_refused=True)), HAS),
        (others(ClaimUse("zoe", OLDER, held=FILES), held="files"), HAS),
        (others(ClaimUse("abe", YOUNGER, held=FILES), held="files"), HAS),
        (others(ClaimUse("zoe", OLDER, held=FILES, used=FILES), used="files"), "uses it"),
    ],
    ids=[
        "an older one",
        "one of the same second",
        "a younger one that has it",
        "a refused one that has used it",
        "two that announce it, and this one is younger",
        "two that announce it, and this one is older",
        "two that use it",
    ],
)
def test_a_claim_of_another_agent_is_refused_and_both_are_named(claims: Claims, why: str) -> None:
    assert refusal(GOOD, claims) == (
        AgentReason.CLAIM_SHARED,
        (
            f"claim files of volume files belongs to Agent {claims.others[0].agent}, which {why}, and Agent triage "
            "names it too: no two agents share a claim"
        ),
    )


@pytest.mark.parametrize(
    "claims",
    [
        others(ClaimUse("abe", YOUNGER, named=frozenset({"files"}))),
        others(ClaimUse("zoe", OLDER, named=frozenset({"files"})), held="files"),
        others(ClaimUse("abe", YOUNGER, held=FILES, used=FILES), used="files"),
        others(ClaimUse("zoe", OLDER, held=FILES), used="files"),
        others(ClaimUse("zoe", OLDER, named=FILES, is_refused=True)),
        others(ClaimUse("zoe", OLDER, named=frozenset({"other"}), held=frozenset({"another"}))),
    ],
    ids=[
        "a younger one",
        "an older one, and this one has it",
        "a younger one, and both use it",
        "an older one that announces it, and this one uses it",
        "an older one that is refused",
        "another claim",
    ],
)
def test_a_claim_that_the_agent_has_before_others_is_its_own(claims: Claims) -> None:
    assert refusal(GOOD, claims) is None


def test_a_claim_that_a_running_revision_uses_in_another_environment_is_refused() -> None:
    own = ClaimUse("triage", NOW, held=frozenset({"files-try"}))
    running = {"staging": frozenset({"files-try"}), "production": frozenset({"files-try"})}
    assert refusal(GOOD, Claims(own, running=running)) == (
        AgentReason.CLAIM_SHARED,
        (
            "claim files-try of volume files is that of environment staging now, and a revision that runs uses it in "
            "environment production: name another claim, or wait until that revision is gone"
        ),
    )
    assert refusal(GOOD, Claims(own, running={"staging": frozenset({"files-try"})})) is None
