"""examples/frameworks: its agents are ones that its policy lets run, and its packages are pinned."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.api.refusals import environment_refusal, owner_refusal, row_refusals
from interlock.governance.pod_features import template_refusals

EXAMPLES = Path(__file__).parents[3] / "examples"
FOLDER = EXAMPLES / "frameworks"
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/agent.py"))
PINS = sorted(FOLDER.glob("*/requirements.txt"))


def document(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_the_policy_of_the_folder_lets_each_agent_run(name: str) -> None:
    agent = Agent.model_validate(document(FOLDER / name / "agent.yaml"))
    policy = AgentPolicy.model_validate(document(FOLDER / "2-policy.yaml"))
    assert agent.metadata.name == name
    assert agent.spec.policy_ref
    assert agent.spec.policy_ref.name == policy.metadata.name
    assert owner_refusal(agent.spec.owner) is None
    assert environment_refusal(agent.spec) is None
    assert row_refusals(agent.metadata, agent.spec, policy.metadata.name, policy.spec) == []
    assert template_refusals(agent.spec.template, policy.metadata.name, policy.spec.pod_template) == []
    [granted] = policy.spec.data_access
    assert sorted(granted.agents) == NAMES


def test_the_binding_is_that_of_the_first_example_which_lives_in_the_same_namespace() -> None:
    binding = document(FOLDER / "3-binding.yaml")
    assert binding == document(EXAMPLES / "01-first-agent" / "3-binding.yaml")
    MCPBinding.model_validate(binding)


def test_kustomize_is_told_each_file_of_the_script() -> None:
    kustomization, script = document(FOLDER / "kustomization.yaml"), document(FOLDER / "script" / "agent.yaml")
    [generator] = kustomization["configMapGenerator"]
    sources = dict(one.split("=") for one in generator["files"])
    filled = {
        one["targets"][0]["fieldPaths"][0]: sources[one["source"]["fieldPath"].removeprefix("data.")]
        for one in kustomization["replacements"]
    }
    paths = [one["path"] for one in script["spec"]["files"]]
    assert filled == {
        f"spec.files.[path={path}].content": found
        for path, found in zip(paths, ("script/agent.py", "serve.py"), strict=True)
    }
    assert all((FOLDER / one).is_file() for one in (*sources.values(), *kustomization["resources"]))


@pytest.mark.parametrize("pins", PINS, ids=lambda path: path.parent.name)
def test_packages_are_pinned_with_hashes_and_without_addresses(pins: Path) -> None:
    text = pins.read_text(encoding="utf-8")
    requirements = text.replace("\\\n", " ").splitlines()
    packages = [line for line in requirements if line and not line.lstrip().startswith("#")]
    assert packages
    assert [line for line in packages if "==" not in line or "--hash=sha256:" not in line] == []
    assert "://" not in text
    assert "--index" not in text
    assert "--extra-index" not in text
