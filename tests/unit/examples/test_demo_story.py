"""The demo's steps against the files and messages that they name; a cluster runs the demo itself."""

import re
from pathlib import Path

import yaml

from interlock.api.messages import OWNER_MISSING
from interlock.api.shared_types import parse_duration
from interlock_contract.names import KILL_SWITCH
from tools.demo import story
from tools.demo.steps import Answer

ROOT = Path(__file__).parents[3]
STEPS = [step for chapter in (story.PREPARATION, *story.STORY) for step in chapter.steps]
FIRST_ROLLOUT = [step for chapter in (story.STAGING, story.ONE_REGION, story.EVERYWHERE) for step in chapter.steps]


def test_every_step_says_in_one_line_what_to_see() -> None:
    assert [step for step in STEPS if not step.see or "\n" in step.see or "\n" in step.command] == []


def test_every_step_names_something_to_check_when_it_fails() -> None:
    chapters = (story.PREPARATION, *story.STORY)
    assert [step for one in chapters for step in one.steps if not (step.look_at or one.look_at)] == []


def test_every_command_that_is_not_answered_at_all_is_wrong() -> None:
    assert [step for step in STEPS if step.expect(Answer(124, "")) is None] == []


def test_files_that_commands_name_exist() -> None:
    named = [name for step in STEPS for name in re.findall(r"(?:-f|-k) (\S+)", step.command)]
    files = [name for name in named if name != "-" and not name.startswith("manifests/")]
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_speaks_of_the_example_agent_and_its_stages() -> None:
    agent = yaml.safe_load((ROOT / story.EXAMPLE / "4-agent.yaml").read_text(encoding="utf-8"))
    assert agent["metadata"] == {"name": story.AGENT, "namespace": "agents"}
    waits = [step.command for step in FIRST_ROLLOUT if "status.stage.name" in step.command]
    stages = agent["spec"]["rollout"]["stages"]
    assert len(waits) == len(stages)
    for command, stage in zip(waits, stages, strict=True):
        assert f"={stage['name']} " in command
        assert parse_duration(stage.get("minDuration", "0s")).total_seconds() < 60


def test_expects_the_exact_message_of_the_api() -> None:
    assert story.NO_OWNER == OWNER_MISSING


def test_kills_and_releases_by_the_annotation_of_the_api() -> None:
    assert any(f" {KILL_SWITCH}='" in step.command for step in STEPS)
    assert f" {KILL_SWITCH}=off --overwrite" in story.NEXT


def test_fails_where_a_pod_comes_back_after_the_kill() -> None:
    (step,) = [step for step in STEPS if step.lasting]
    assert step.expect(Answer(0, "No resources found in agents namespace.\n")) is None
    assert step.expect(Answer(0, "NAME   READY   STATUS\nx      0/3     Pending\n")) is not None


def test_fails_where_the_other_region_is_still_denied_at_the_end() -> None:
    (step,) = [step for step in FIRST_ROLLOUT if "stage=everywhere" in step.command]
    allowed = "allowed: list_contacts region=us-east: 2 found\n"
    assert step.expect(Answer(0, allowed)) is None
    assert step.expect(Answer(0, allowed + "denied: OutOfScope list_contacts region=us-east\n")) is not None


def test_fails_where_the_other_region_is_allowed_too_early() -> None:
    (step,) = [step for step in FIRST_ROLLOUT if "stage=one-region" in step.command and "logs" in step.command]
    own = "allowed: list_contacts region=eu-west: 3 found\n"
    assert step.expect(Answer(0, own + "denied: OutOfScope list_contacts region=us-east: no\n")) is None
    assert step.expect(Answer(0, own + "allowed: list_contacts region=us-east: 2 found\n")) is not None


def test_fails_where_an_aborted_version_still_answers() -> None:
    (step,) = [step for step in story.ROLLBACK.steps if step.see.startswith("the good version has its region back")]
    good = 'us-east 200 {"version": "one"}\n'
    assert step.expect(Answer(0, 'eu-west 200 {"version": "one"}\n' + good)) is None
    assert step.expect(Answer(0, 'eu-west 500 {"version": "bad"}\n' + good)) is not None


def test_fails_where_the_good_revision_of_a_change_does_not_leave_the_region() -> None:
    (step,) = [step for step in story.CHANGE.steps if step.see.startswith("revision 1 serves the rest")]
    rest = "allowed: list_contacts region=us-east: 2 found\n"
    assert step.expect(Answer(0, rest + "denied: ServedElsewhere list_contacts region=eu-west: no\n")) is None
    assert step.expect(Answer(0, rest + "allowed: list_contacts region=eu-west: 3 found\n")) is not None
