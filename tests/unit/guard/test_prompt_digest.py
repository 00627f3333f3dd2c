"""The digest of a prompt: the same for the same question, whatever the answer's form, and another for each other."""

import json
from typing import Any

import pytest

from interlock_guard.llm.prompt_digest import NOT_ASKED, digest_prompt
from interlock_guard.llm.request_body import ModelBodies
from interlock_guard.wire.large_messages import LargeMessages
from tests.requirements import requirement

ASKED = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
RUN = "iVBORw0KGgoAAAANSUhEUgAA" * 4000


async def digest(body: dict[str, Any]) -> str:
    bodies = ModelBodies(LargeMessages())
    return await digest_prompt(await bodies.parse(bytearray(json.dumps(body).encode()), bodies.budget.hold()))


def with_image(run: str) -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{run}"}}
    return {**ASKED, "messages": [{"role": "user", "content": [image]}]}


@requirement("loops.refused")
@pytest.mark.parametrize("member", sorted(NOT_ASKED))
async def test_what_does_not_change_the_question_does_not_count(member: str) -> None:
    assert await digest({**ASKED, member: 1}) == await digest({member: 2, **ASKED}) == await digest(ASKED)


@requirement("loops.refused")
@pytest.mark.parametrize(
    "change",
    [
        {"model": "gpt-4o"},
        {"messages": [{"role": "user", "content": "hello "}]},
        {"messages": [*ASKED["messages"], {"role": "user", "content": "hello"}]},
        {"tools": [{"type": "function", "function": {"name": "get_contact"}}]},
        {"system": "Be brief."},
        {"previous_response_id": "resp_1"},
        {"response_format": {"type": "json_object"}},
    ],
    ids=json.dumps,
)
async def test_another_question_is_another_digest(change: dict[str, Any]) -> None:
    assert await digest({**ASKED, **change}) != await digest(ASKED)


@requirement("loops.refused")
async def test_an_image_that_is_cut_out_of_the_body_counts_as_itself() -> None:
    body = with_image(RUN)
    assert await digest(body) == await digest(body)
    assert await digest(body) != await digest(with_image(RUN[:-8] + "AAAABBBB"))
    assert await digest(body) != await digest(with_image(RUN[: 4096 * 3] + "B" + RUN[4096 * 3 + 1 :]))


async def test_a_long_text_is_digested_in_steps_to_the_same_digest() -> None:
    text = "a line of a long prompt. \N{SNOWMAN}\n" * 20_000
    body = {**ASKED, "messages": [{"role": "user", "content": text}]}
    assert await digest(body) == await digest({"messages": body["messages"], "model": body["model"]})
