"""The official SDKs of OpenAI and Anthropic, unmodified, configured by nothing but the variables that an agent gets."""

from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import openai
import pytest

from interlock.api.shared_types import SecretKeyRef
from interlock.deployment.children.upstreams import model_variables
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.fake_provider import KEY_FILES, MODEL, REAL_KEYS, FakeProvider, a_bundle_with_models
from tests.integration.guard.harness import Guard
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.builders import a_placement, a_policy, an_agent
from tests.support.keys import AGENT_KEY
from tests.support.ports import free_port

PLACEMENT = a_placement(
    an_agent().calling("openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"),
    policy=a_policy().allowing_models("openai/*"),
)


@pytest.fixture
async def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeProvider]:
    api, provider = FakeApiServer(free_port()), FakeProvider(free_port())
    await provider.start()
    api.set_agent()
    api.set_bundle(a_bundle_with_models(provider.port))
    await api.start()
    guard = Guard(api, tmp_path)
    keys = tmp_path / "secrets" / ".models"
    keys.mkdir(parents=True)
    for name, file in KEY_FILES.items():
        (keys / file).write_text(REAL_KEYS[name])
    await guard.start()
    await until(lambda: guard.probe("/readyz"), "the guard is open")
    key = SecretKeyRef(name="of-the-agent", key="key")
    for variable in model_variables(PLACEMENT, f"http://127.0.0.1:{guard.port}", key):
        monkeypatch.setenv(variable["name"], variable.get("value", AGENT_KEY))  # the kubelet resolves the other ones
    yield provider
    await guard.stop()
    await provider.stop()
    await api.stop()


@requirement("models.sdks")
async def test_openais_sdk_works_with_the_variables_alone(provider: FakeProvider) -> None:
    async with openai.AsyncOpenAI() as client:
        said = [{"role": "user", "content": "hello"}]
        whole = await client.chat.completions.create(model=MODEL["openai"], messages=said)  # type: ignore[arg-type]
        assert whole.choices[0].message.content == "hello"
        chunks = await client.chat.completions.create(
            model=MODEL["openai"],
            messages=said,
            stream=True,  # type: ignore[arg-type]
        )
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in chunks]) == "hello \u00fc"
        assert (await client.responses.create(model=MODEL["openai"], input="hello")).output_text == "hello"
        embedded = await client.embeddings.create(model=MODEL["openai"], input="hello", encoding_format="float")
        assert embedded.data[0].embedding == [0.5, -0.5]
        assert [model.id async for model in client.models.list()] == [MODEL["openai"]]
        with pytest.raises(openai.PermissionDeniedError, match="ModelNotAllowed"):
            await client.chat.completions.create(model="gpt-4o", messages=said)  # type: ignore[arg-type]
        with pytest.raises(openai.NotFoundError, match="MethodNotAllowed"):
            await client.images.generate(model=MODEL["openai"], prompt="a cat")
    assert {seen.headers["Authorization"] for seen in provider.seen} == {f"Bearer {REAL_KEYS['openai']}"}
    assert len(provider.seen) == 4


@requirement("models.sdks")
async def test_anthropics_sdk_works_with_the_variables_alone(provider: FakeProvider) -> None:
    async with anthropic.AsyncAnthropic() as client:
        asked = {"model": MODEL["anthropic"], "messages": [{"role": "user", "content": "hello"}]}
        whole = await client.messages.create(max_tokens=9, **asked)  # type: ignore[call-overload]
        assert whole.content[0].text == "hello"
        async with client.messages.stream(max_tokens=9, **asked) as stream:  # type: ignore[arg-type]
            assert await stream.get_final_text() == "hello"
        assert (await client.messages.count_tokens(**asked)).input_tokens == 3  # type: ignore[arg-type]
        assert [model.id async for model in client.models.list()] == [MODEL["anthropic"]]
        with pytest.raises(anthropic.PermissionDeniedError, match="ModelNotAllowed"):
            await client.messages.create(max_tokens=9, **{**asked, "model": "claude-opus-4-1"})  # type: ignore[call-overload]
    assert {seen.headers["x-api-key"] for seen in provider.seen} == {REAL_KEYS["anthropic"]}
    assert len(provider.seen) == 3
