"""The page on tools maps: its map is valid, and every line of its table is what `decide` answers."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.api.binding import MCPBinding
from interlock.deployment.children.config import compile_bundle
from interlock_guard.decision.decide import Allow, DecisionInput, decide
from interlock_guard.decision.server_request import decide_server_request
from interlock_guard.state import State
from tests.support.builders import AgentBuilder, BindingBuilder, PolicyBuilder, a_placement, a_policy, an_agent
from tests.support.pins import DEFINITION

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "how-to" / "tools-map.md").read_text(encoding="utf-8")
BINDING, ROWS = (yaml.safe_load(found) for found in re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL))
TABLE = re.findall(r"^\| `(\w+) (\{.*\})` \| (\w+) \| (\w+) \|$", TEXT, flags=re.MULTILINE)
SUPPORT = an_agent().labelled(team="support").using("notes")
ARCHIVIST = an_agent("archivist").using("notes")


def policy() -> PolicyBuilder:
    built = a_policy().giving_nothing()
    return PolicyBuilder({**built.raw, "spec": {**built.raw["spec"], **ROWS}})


def bound(binding: dict[str, Any]) -> BindingBuilder:
    """The page's binding, its server verified: every tool of the table was seen."""
    metadata = {"namespace": "agents", "uid": "1", **binding["metadata"]}
    return BindingBuilder({**binding, "metadata": metadata}).verified_for(
        "read_secret_file", *(row[0] for row in TABLE)
    )


def answer(agent: AgentBuilder, request: DecisionInput) -> str:
    bundle = compile_bundle(a_placement(agent, policy=policy(), bindings=(bound(BINDING),)))
    state = State(agent_uid=bundle.agent.uid, contact_at=0.0)
    decision = decide(bundle, state, request, 0)
    return "Allow" if isinstance(decision, Allow) else decision.reason


def test_the_map_is_one_that_the_api_knows_and_the_guard_reads() -> None:
    assert MCPBinding.model_validate(BINDING).spec.server_requests == ()
    bundle = compile_bundle(a_placement(SUPPORT, policy=policy(), bindings=(bound(BINDING),)))
    state = State(agent_uid=bundle.agent.uid, contact_at=0.0)
    assert not isinstance(decide_server_request(bundle, state, "notes", "roots/list", 0), Allow)
    assert len(TABLE) == 14


@pytest.mark.parametrize(("tool", "arguments", "support", "archivist"), TABLE, ids=lambda value: value[:40])
def test_every_line_of_the_table_is_what_decide_answers(
    tool: str, arguments: str, support: str, archivist: str
) -> None:
    request = DecisionInput("notes", "tools/call", tool, json.loads(arguments), definition=DEFINITION)
    assert (answer(SUPPORT, request), answer(ARCHIVIST, request)) == (support, archivist)


def test_what_the_page_says_of_globs_holds() -> None:
    def on(tool: str, **arguments: Any) -> str:
        return answer(SUPPORT, DecisionInput("notes", "tools/call", tool, arguments, definition=DEFINITION))

    assert on("read_secret_file", path="/projects/notes/x") == "Allow"
    assert on("read_file", path="/projects/notes/x") == "ToolNotMapped"


def test_hints_of_the_server_make_a_delete_of_what_is_mapped_as_a_write() -> None:
    mapped = yaml.safe_load(yaml.safe_dump(BINDING))
    (tool,) = [tool for tool in mapped["spec"]["tools"] if tool["name"] == "write_file"]
    tool["operation"] = "write"
    bundle = compile_bundle(a_placement(SUPPORT, policy=policy(), bindings=(bound(mapped),)))
    state = State(agent_uid=bundle.agent.uid, contact_at=0.0)
    arguments = {"path": "/projects/notes/a.md", "content": ""}
    hints = {"readOnlyHint": False, "idempotentHint": True, "destructiveHint": True}
    asked = DecisionInput("notes", "tools/call", "write_file", arguments, definition=DEFINITION)
    plain = decide(bundle, state, asked, 0)
    hinted = decide(bundle, state, replace(asked, annotations=hints), 0)
    assert isinstance(plain, Allow)
    assert not isinstance(hinted, Allow)
    assert hinted.reason == "NotGrantedByMatrix"
