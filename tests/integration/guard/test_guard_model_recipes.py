"""The recipes of docs/how-to/model-providers.md: an agent's SDK, the guard, and the paths and habits of providers."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
import yaml
from aiohttp import web
from msgspec import structs

from interlock.api.agent import ModelUse
from interlock.api.policy import ModelPolicy
from interlock.deployment.children.config import compile_bundle
from interlock_contract.bundle import dump_bundle, parse_bundle
from interlock_contract.http_target import HttpTarget
from interlock_contract.model_access import ModelAccess
from tests.integration.guard.fake_provider import AGENT_KEY, a_bundle_with_models, stream
from tests.integration.guard.model_rig import BEARER, Rig, a_model_rig
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.builders import a_placement, a_policy, an_agent

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "model-providers.md"
BLOCKS = [list(yaml.safe_load_all(text)) for text in re.findall(r"```yml\n(.*?)```", PAGE.read_text(), re.DOTALL)]
PATHS = {"azure": "/openai/v1", "gemini": "/v1beta/openai", "bedrock": "/v1"}
SIGNED = {"google": {"thought_signature": "c2lnbmVk"}}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with a_model_rig(tmp_path) as found:
        yield found


async def follow(rig: Rig, block: list[Any]) -> tuple[str, str, str]:
    """Put a recipe into force, with the stand-in at the provider's paths; return provider, model and key."""
    policy, agent = ModelPolicy.model_validate(block[0]["spec"]["models"]), block[1]["spec"]["models"]
    (use,) = [ModelUse.model_validate(one) for one in agent]
    said = block[0]["spec"]["models"]
    allowing = a_policy().allowing_models(*policy.allow, urls=said["urls"], secrets=policy.secret_names)
    models = compile_bundle(a_placement(an_agent().calling(use.name), policy=allowing)).models
    assert models is not None
    (provider,) = models.providers
    path = urlsplit(provider.target.url).path
    target = HttpTarget(f"http://127.0.0.1:{rig.provider.port}{path}", "Private", ())
    key = f"real-key-of-{provider.name}"
    (rig.keys / provider.models[0].key_file).write_text(key)
    whole = parse_bundle(a_bundle_with_models(rig.provider.port))
    access = ModelAccess((structs.replace(provider, target=target),))
    rig.api.set_bundle(dump_bundle(structs.replace(whole, revision="1", models=access)))

    async def is_in_force() -> bool:
        async with rig.http.get(rig.url(f"/{provider.name}/v1/models"), headers=BEARER) as response:
            return response.status == 200

    await until(is_in_force, "the recipe is in force")
    return provider.name, provider.models[0].name, key


def test_every_provider_of_the_page_is_tried() -> None:
    assert [block[0]["spec"]["models"]["urls"][0]["name"] for block in BLOCKS] == list(PATHS)


@requirement("models.recipes")
@pytest.mark.parametrize("block", BLOCKS, ids=PATHS)
async def test_an_agent_calls_the_provider_of_a_recipe_with_the_openai_sdk(rig: Rig, block: list[Any]) -> None:
    name, model, key = await follow(rig, block)
    said: Any = [{"role": "user", "content": "hello"}]
    async with openai.AsyncOpenAI(base_url=rig.url(f"/{name}/v1"), api_key=AGENT_KEY) as client:
        whole = await client.chat.completions.create(model=model, messages=said)
        chunks = await client.chat.completions.create(model=model, messages=said, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])
        embedded = await client.embeddings.create(model=model, input="hello", encoding_format="float")
    assert (whole.choices[0].message.content, text) == ("hello", "hello \u00fc")
    assert embedded.data[0].embedding == [0.5, -0.5]
    seen = rig.provider.seen
    assert [one.path for one in seen] == [f"{PATHS[name]}/{end}" for end in [*["chat/completions"] * 2, "embeddings"]]
    assert {one.headers["Authorization"] for one in seen} == {f"Bearer {key}"}
    assert {one.message["model"] for one in seen} == {model}


@requirement("models.recipes")
async def test_azures_chunk_about_its_filters_passes(rig: Rig) -> None:
    name, model, _ = await follow(rig, BLOCKS[0])
    filters = b'data: {"id":"","object":"","created":0,"model":"","prompt_filter_results":[{}],"choices":[]}\n\n'

    async def answer(http: web.Request) -> web.StreamResponse:
        return await stream(http, [filters, b"data: [DONE]\n\n"])

    rig.provider.answer = answer
    async with openai.AsyncOpenAI(base_url=rig.url(f"/{name}/v1"), api_key=AGENT_KEY) as client:
        said: Any = [{"role": "user", "content": "hello"}]
        chunks = await client.chat.completions.create(model=model, messages=said, stream=True)
        assert [chunk.choices async for chunk in chunks] == [[]]


@requirement("models.recipes")
async def test_the_class_for_azures_older_paths_is_refused(rig: Rig) -> None:
    name, model, _ = await follow(rig, BLOCKS[0])
    url = rig.url(f"/{name}/v1")
    async with openai.AsyncAzureOpenAI(base_url=url, api_key=AGENT_KEY, api_version="2024-10-21") as client:
        with pytest.raises(openai.APIStatusError) as refused:
            await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])
    assert refused.value.status_code in (403, 404)
    assert rig.provider.seen == []


@requirement("models.recipes")
async def test_geminis_signatures_of_thoughts_come_back_to_it(rig: Rig) -> None:
    name, model, _ = await follow(rig, BLOCKS[1])
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": SIGNED}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}

    async def answer(_: web.Request) -> web.StreamResponse:
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        body = {"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
        return web.json_response(body)

    rig.provider.answer = answer
    thinking = {"google": {"thinking_config": {"thinking_budget": 9}}}
    async with openai.AsyncOpenAI(base_url=rig.url(f"/{name}/v1"), api_key=AGENT_KEY) as client:
        said: Any = [{"role": "user", "content": "hello"}]
        first = await client.chat.completions.create(
            model=model, messages=said, extra_body={"extra_body": thinking}, reasoning_effort="low"
        )
        said += [first.choices[0].message, {"role": "tool", "tool_call_id": "1", "content": "sunny"}]
        await client.chat.completions.create(model=model, messages=said)
    first_seen, second_seen = rig.provider.seen
    assert first_seen.message["extra_body"] == thinking
    assert second_seen.message["messages"][1]["tool_calls"][0]["extra_content"] == SIGNED
