"""The agent's way to language models: `/<provider>/v1/...`, in the shape of the provider's own API.

A request is read whole, decided on, recorded, and only then forwarded, with the provider's key in place of the agent's.
The answer passes as it comes, byte for byte.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from aiohttp import ClientResponse, web

from interlock_contract.agent_key import is_agent_key
from interlock_contract.mcp import EVENT_STREAM
from interlock_contract.model_access import MAX_REQUEST_BYTES, Provider, Shape, find_provider
from interlock_contract.strict_json import JsonInvalid, dump_json
from interlock_guard.audit.recorder import RecordFailed, read_caller
from interlock_guard.decision.body_members import quote_name
from interlock_guard.decision.decide import DecisionInput, Deny, DenyReason, check_terminated
from interlock_guard.decision.model_call import LIST, MODELS, deny_endpoint
from interlock_guard.decision.model_rules import ENDPOINTS
from interlock_guard.downstream.authorizer import ABANDONED, ANSWERED, ERROR, Authorizer, OpenRecord
from interlock_guard.downstream.endpoint import HttpChecks
from interlock_guard.llm.answer_screen import AnswerScreen, check_headers, check_media_types
from interlock_guard.llm.provider_client import (
    ProviderClient,
    ProviderClients,
    read_betas,
    request_headers,
    response_headers,
    shows_key,
)
from interlock_guard.llm.replies import NO_RETRY, TOO_MANY, denial_body, list_body, model_body, retry_headers, status_of
from interlock_guard.llm.request_body import ModelBodies, RequestBody
from interlock_guard.state import LiveState
from interlock_guard.upstream.http_client import HttpAnswer, UpstreamError, make_room
from interlock_guard.wire.large_messages import Hold, JsonTooLarge, LargeMessages, NoRoom
from interlock_http.listener import BodyRefused

MAX_CALLS: Final = 64
"""Most calls of models under way at the same time."""
_QUERIES: Final = ("", "beta=true")
_UNVERSIONED: Final = "|".join(sorted({LIST, f"{LIST}/.+", *(path for paths in ENDPOINTS.values() for path in paths)}))
"""Paths of calls whose base URL lacks `v1`."""
_FIRST_ERROR: Final = 400
_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})
_UNAVAILABLE: Final = 503
_MAX_ERROR: Final = 1024 * 1024


@dataclass(slots=True, eq=False)
class _Call:
    """A call under way: the agent's request, its record, the task that forwards it, and why it was cut, if it was."""

    http: web.Request
    shape: Shape
    record: OpenRecord
    wants_stream: bool
    """Whether the request asks for a stream. An SDK then reads events, whatever the answer's media type is."""
    task: asyncio.Task[web.StreamResponse] | None = None
    has_begun: bool = False
    cut: Deny | None = None
    outcome: str = ""

    def end_as(self, outcome: str) -> None:
        """Note how the call ended; the first outcome stands."""
        self.outcome = self.outcome or outcome


class _AgentGone(Exception):  # noqa: N818 - says what happened
    """The agent's connection is gone."""


class LlmEndpoint:
    """Answers the agent's calls of models."""

    def __init__(
        self,
        *,
        live: LiveState,
        authorizer: Authorizer,
        links: ProviderClients,
        checks: HttpChecks,
        large: LargeMessages | None = None,
        max_bytes: int = MAX_REQUEST_BYTES,
    ) -> None:
        self._large = large or LargeMessages()
        self._bodies = ModelBodies(self._large, max_bytes)
        self._live, self._authorizer, self._links, self._checks = live, authorizer, links, checks
        self._calls: set[_Call] = set()

    def add_routes(self, app: web.Application) -> None:
        """Serve the paths of providers, and Anthropic's without `v1`: some SDKs do not add it to ANTHROPIC_BASE_URL.

        Known paths without `v1` are refused in the shape of a provider's API, too.
        """
        app.router.add_route("*", "/{provider}/v1/{path:.+}", self._serve)
        app.router.add_route("*", "/{provider:anthropic}/{path:.+}", self._serve)
        app.router.add_route("*", f"/{{provider}}/{{path:{_UNVERSIONED}}}", self._serve)

    def follow(self) -> None:
        """End every call under way as soon as nothing may go out."""
        denial = check_terminated(self._live.bundle, self._live.state)
        if denial is None:
            return
        for call in list(self._calls):
            call.cut = denial
            if call.task is not None:
                call.task.cancel()

    async def _serve(self, http: web.Request) -> web.StreamResponse:
        refused = self._checks.refuse_caller(http)
        if refused is not None:
            return refused
        name, path, bundle = http.match_info["provider"], http.match_info["path"], self._live.bundle
        if bundle is not None and is_agent_key(name, bundle.agent_key_digest):  # a URL of MCP, which no record may have
            return web.Response(status=404, text="The agent's key is no provider of models.\n")
        provider = None if bundle is None else find_provider(bundle.models, name)
        shape: Shape = "Anthropic" if name == "anthropic" else "OpenAI"
        request = DecisionInput(MODELS, path if http.method == "POST" else f"{http.method} {path}", model=f"{name}/")
        try:
            denial = self._check_door(http)
            if denial is None and shape != "Anthropic" and not http.path.startswith(f"/{name}/v1/"):
                missing = f"The base URL of this call lacks v1. Send it to /{name}/v1/{path}."
                denial = Deny(DenyReason.METHOD_NOT_ALLOWED, "", missing)
            if denial is None and http.method in ("GET", "HEAD"):
                return self._list(http, provider, request, path)
            if denial is None and http.method == "POST":
                return await self._post(http, provider, request)
            return self._refuse(http, shape, request, denial or deny_endpoint(shape, request.method))
        except RecordFailed as error:
            return _reply(
                shape, Deny(DenyReason.AUDIT_UNAVAILABLE, "", f"The record of this call was not stored: {error}.")
            )

    def _check_door(self, http: web.Request) -> Deny | None:
        """Return why a request is not even looked at: the guard is closed, or the agent's key is not shown."""
        closed = self._authorizer.check_open()
        if closed is not None:
            return closed
        if self._live.bundle is None or not shows_key(self._live.bundle, http.headers):
            return Deny(DenyReason.MODEL_KEY_REFUSED, "", "The key is not the one that the agent was given.")
        return None

    def _refuse(
        self, http: web.Request, shape: Shape, request: DecisionInput, denial: Deny, status: int | None = None
    ) -> web.Response:
        caller = read_caller(None, http.headers)
        self._authorizer.record(replace(request, arguments=None), denial, caller)
        return _reply(shape, denial, status)

    def _list(self, http: web.Request, provider: Provider | None, request: DecisionInput, path: str) -> web.Response:
        """Answer the list of models, or one of them, out of the bundle."""
        shape = _shape(provider, request)
        is_list, is_one = path.removesuffix("/") == LIST, path.startswith(f"{LIST}/")
        asked = replace(request, method=LIST if is_list or is_one else request.method)
        found = self._decide(http, asked)
        if isinstance(found, Deny):
            return _reply(shape, found)
        if provider is None:
            raise AssertionError("decide_model() allows nothing without a provider")
        found.complete(ANSWERED)
        name = path.removeprefix(f"{LIST}/")
        body = list_body(provider) if is_list else model_body(provider, name)
        if body is None:
            absent = Deny(DenyReason.METHOD_NOT_ALLOWED, "", f"This agent has no model {quote_name(name)} here.")
            return _reply(shape, absent)
        return web.json_response(body=dump_json(body))

    async def _post(self, http: web.Request, provider: Provider | None, request: DecisionInput) -> web.StreamResponse:
        shape = _shape(provider, request)
        denial = _refuse_target(http, shape, request.method)  # first: the bodies of files and audio are no JSON
        if denial is not None:
            return self._refuse(http, shape, request, denial)
        refused = self._checks.refuse_body(http)
        if refused is not None:
            denial = Deny(DenyReason.BAD_REQUEST, "", (refused.text or "").strip())
            return self._refuse(http, shape, request, denial, refused.status)
        try:
            body = await self._bodies.read(http)
        except BodyRefused as refusal:
            denial = Deny(DenyReason.BAD_REQUEST, "", f"The body is {refusal}.")
            is_one_too_many = refusal.status == _UNAVAILABLE
            return self._refuse(http, shape, request, denial, TOO_MANY if is_one_too_many else refusal.status)
        except NoRoom as error:
            denial = Deny(DenyReason.SERVER_UNAVAILABLE, "", f"The body {error}.")
            return self._refuse(http, shape, request, denial, TOO_MANY)
        except JsonInvalid as error:
            return self._refuse(http, shape, request, _unreadable(error))
        begun = self._begin(http, request, body)
        del body  # the answer can take minutes, and the body is no longer needed
        return await self._wait(begun) if isinstance(begun, _Call) else begun

    def _begin(self, http: web.Request, request: DecisionInput, body: RequestBody) -> _Call | web.Response:
        """Decide and forward; the bundle may be another one than before the body was read."""
        model_name = f"{request.model}{body.value['model']}"
        request = replace(request, model=model_name, arguments=body.value, betas=read_betas(http.headers))
        bundle, name = self._live.bundle, http.match_info["provider"]
        provider = None if bundle is None else find_provider(bundle.models, name)
        shape = _shape(provider, request)
        found = self._decide(http, request)
        if isinstance(found, Deny):
            is_one_too_many = found.reason is DenyReason.SERVER_UNAVAILABLE
            return _reply(shape, found, TOO_MANY if is_one_too_many else None)
        if provider is None:
            raise AssertionError("decide_model() allows nothing without a provider")
        model = provider.find((request.model or "").partition("/")[2])
        if model is None:
            raise AssertionError("decide_model() allows no model that is not there")
        query = http.rel_url.raw_query_string
        path = f"{request.method}?{query}" if query else request.method
        client = self._links.get(provider)
        sending = client.send(path, body.write(), request_headers(http.headers), model)
        call = _Call(http, shape, found, wants_stream=bool(body.value.get("stream")))
        call.task = asyncio.create_task(_relay(call, sending, client, self._large.results.hold()))
        self._calls.add(call)
        return call

    def _decide(self, http: web.Request, request: DecisionInput) -> OpenRecord | Deny:
        """Decide on a request and record it; what is recorded holds nothing of the body.

        Raises:
            RecordFailed: The record could not be stored; nothing may be forwarded.
        """
        decision = self._authorizer.judge(request, self._live.state)
        if not isinstance(decision, Deny) and request.method != LIST and len(self._calls) >= MAX_CALLS:
            decision = Deny(DenyReason.SERVER_UNAVAILABLE, "", f"{MAX_CALLS} calls of models are under way already.")
        bare = replace(request, arguments=None)
        return self._authorizer.record(bare, decision, read_caller(None, http.headers))

    async def _wait(self, call: _Call) -> web.StreamResponse:
        """Wait for the answer; one that breaks off ends the connection, so that the agent sees a broken one.

        Every call that was begun ends here, whatever becomes of it.
        """
        task = call.task
        if task is None:
            raise AssertionError("a call has its task")
        try:
            return await task
        except asyncio.CancelledError:
            if call.cut is None:  # the agent hung up
                call.end_as(ABANDONED)
                task.cancel()
                raise
            call.end_as(call.cut.reason.value)
            return self._break_off(call, call.cut)
        except UpstreamError as failed:
            self._links.log(f"provider {call.http.match_info['provider']}: {failed.detail}")
            call.end_as(DenyReason.SERVER_UNAVAILABLE.value)
            denial = Deny(DenyReason.SERVER_UNAVAILABLE, "", f"The provider of the model {failed}.")
            return self._break_off(call, denial, is_final=not failed.is_connection)
        except (_AgentGone, ConnectionError):
            call.end_as(ABANDONED)
            return web.Response(status=400)  # no client is left to read it
        finally:
            call.record.complete(call.outcome or DenyReason.SERVER_UNAVAILABLE.value)
            self._calls.discard(call)
            # An exception of the task refers to frames with the call and with this task, and these to what they hold.
            # Without the two references back, a failed call gives back its memory immediately.
            call.task = None
            del task

    def _break_off(self, call: _Call, denial: Deny, *, is_final: bool = False) -> web.Response:
        if call.has_begun and call.http.transport is not None:
            call.http.transport.abort()
        return _reply(call.shape, denial, is_final=is_final)


async def _relay(
    call: _Call, sending: AbstractAsyncContextManager[ClientResponse], client: ProviderClient, hold: Hold
) -> web.StreamResponse:
    """Send a call and pass its answer on as it comes, without a key of the provider.

    Args:
        call: The call.
        sending: Sends it.
        client: The client of its provider.
        hold: The part of the memory for large messages that a large event takes.

    Raises:
        UpstreamError: No usable answer came, or it broke off.
        _AgentGone: The agent has hung up.
    """
    async with sending as answer:
        passed = response_headers(answer.headers)
        check_headers(passed, client.credentials.stands_in_header)  # first: the other check's message quotes a header
        check_media_types(answer.headers.getall("Content-Type", []))
        is_events = call.wants_stream or answer.content_type == EVENT_STREAM
        screen = AnswerScreen(client.shows_secret, is_events=is_events)
        if answer.status >= _FIRST_ERROR:
            told = await HttpAnswer(answer).read(_MAX_ERROR)
            body = b"".join([ready async for ready in screen.feed_in_steps(told)]) + screen.finish()
            call.end_as(ERROR)
            return web.Response(status=answer.status, body=body, headers=passed)
        chunks = answer.content.iter_any()
        first = await anext(chunks, b"") if answer.content_type in _PAGES else b""
        if first.lstrip().startswith(b"<"):
            raise UpstreamError("answered with a web page, not as an API of models does: check its URL", is_sent=True)
        response = web.StreamResponse(status=answer.status, headers=passed)
        response.content_length = answer.content_length
        call.has_begun = True
        with _to_agent():
            await response.prepare(call.http)
        async for chunk in _chain(first, chunks):
            async for ready in screen.feed_in_steps(chunk):
                await make_room(hold, screen.size)
                if ready:
                    with _to_agent():
                        await response.write(ready)
        with _to_agent():
            await response.write_eof(screen.finish())
        call.end_as(ANSWERED)
        return response


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a first chunk and the ones after it."""
    yield first
    async for chunk in rest:
        yield chunk


def _refuse_target(http: web.Request, shape: Shape, method: str) -> Deny | None:
    """Return why a path or query may not pass, or None. The provider gets no other than these."""
    if method not in ENDPOINTS[shape]:
        return deny_endpoint(shape, method)
    query = http.rel_url.raw_query_string
    if query not in _QUERIES:
        message = f"The query {quote_name(query)} does not pass to a provider of models. Send none, or beta=true."
        return Deny(DenyReason.METHOD_NOT_ALLOWED, "", message)
    if http.rel_url.raw_path != http.path:
        return Deny(DenyReason.METHOD_NOT_ALLOWED, "", "A path with escapes does not pass to a provider of models.")
    return None


@contextmanager
def _to_agent() -> Iterator[None]:
    """Tell a broken connection to the agent from one to the provider."""
    try:
        yield
    except ConnectionError:
        raise _AgentGone from None


def _unreadable(error: JsonInvalid) -> Deny:
    return Deny(DenyReason.BAD_REQUEST, "", f"The body {'' if isinstance(error, JsonTooLarge) else 'is '}{error}.")


def _shape(provider: Provider | None, request: DecisionInput) -> Shape:
    if provider is not None:
        return provider.shape
    return "Anthropic" if (request.model or "").startswith("anthropic/") else "OpenAI"


def _reply(shape: Shape, denial: Deny, status: int | None = None, *, is_final: bool = False) -> web.Response:
    """Return a denial as a response.

    Args:
        shape: Whose API the client speaks.
        denial: The denial.
        status: The HTTP status, where it is not that of the denial's reason.
        is_final: Whether another try cannot help, although it often does after this reason.
    """
    status = status or status_of(denial)
    headers = dict(NO_RETRY) if is_final else retry_headers(denial, status)
    return web.json_response(body=dump_json(denial_body(shape, denial, status)), status=status, headers=headers)
