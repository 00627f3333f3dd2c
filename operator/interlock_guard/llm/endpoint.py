"""The agent's way to language models: `/<provider>/v1/...`, in the shape of the provider's own API.

A request is read whole, decided on, paid for, recorded, and only then forwarded, with the provider's key in place of
the agent's. The answer passes as it comes, byte for byte.
"""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Final

from aiohttp import web

from interlock_contract.agent_key import is_agent_key
from interlock_contract.model_access import MAX_REQUEST_BYTES, Model, Provider, Shape, find_provider
from interlock_contract.strict_json import JsonInvalid, dump_json
from interlock_guard.audit.recorder import RecordFailed, read_caller
from interlock_guard.budget.prompt_size import PromptSize
from interlock_guard.decision.body_members import quote_name
from interlock_guard.decision.decide import Decision, DecisionInput, Deny, DenyReason, check_terminated
from interlock_guard.decision.model_call import LIST, MODELS, deny_endpoint
from interlock_guard.decision.model_rules import ENDPOINTS
from interlock_guard.downstream.authorizer import ANSWERED, Authorizer, OpenRecord
from interlock_guard.downstream.endpoint import HttpChecks
from interlock_guard.llm.call import AgentGone, ModelCall, relay
from interlock_guard.llm.metering import Meter, MeteredCall
from interlock_guard.llm.prompt_digest import digest_prompt
from interlock_guard.llm.provider_client import (
    ProviderClients,
    read_betas,
    request_headers,
    shows_key,
)
from interlock_guard.llm.replies import NO_RETRY, TOO_MANY, denial_body, list_body, model_body, retry_headers, status_of
from interlock_guard.llm.request_body import ModelBodies, RequestBody
from interlock_guard.state import LiveState
from interlock_guard.upstream.http_client import UpstreamError
from interlock_guard.wire.large_messages import JsonTooLarge, LargeMessages, NoRoom
from interlock_http.listener import BodyRefused
from interlock_kube.background import log_failure

MAX_CALLS: Final = 64
"""Most calls of models under way at the same time."""
_EXPECTED: Final = (UpstreamError, AgentGone, ConnectionError)
"""How a call may fail."""
_QUERIES: Final = ("", "beta=true")
_UNVERSIONED: Final = "|".join(sorted({LIST, f"{LIST}/.+", *(path for paths in ENDPOINTS.values() for path in paths)}))
"""Paths of calls whose base URL lacks `v1`."""
_UNAVAILABLE: Final = 503


class LlmEndpoint:
    """Answers the agent's calls of models."""

    def __init__(
        self,
        *,
        live: LiveState,
        authorizer: Authorizer,
        links: ProviderClients,
        checks: HttpChecks,
        meter: Meter,
        large: LargeMessages | None = None,
        max_bytes: int = MAX_REQUEST_BYTES,
    ) -> None:
        self._large = large or LargeMessages()
        self._bodies = ModelBodies(self._large, max_bytes)
        self._live, self._authorizer, self._links, self._checks = live, authorizer, links, checks
        self._meter = meter
        self._calls: set[ModelCall] = set()
        self._paying = 0
        """Calls that wait for money."""

    @property
    def in_flight(self) -> int:
        """Calls under way, and those that wait for money."""
        return len(self._calls) + self._paying

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
            call.cancel(denial)

    async def close(self) -> None:
        """End every call under way, and settle its cost: the guard ends."""
        tasks = [call.task for call in self._calls if call.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

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
        found = self._record(http, asked, self._judge(asked))
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
        size = await self._meter.measure(request.method, body, provider)
        begun = await self._begin(http, request, body, size)
        del body  # the answer can take minutes, and the body is no longer needed
        return await self._wait(begun) if isinstance(begun, ModelCall) else begun

    async def _begin(
        self, http: web.Request, request: DecisionInput, body: RequestBody, size: PromptSize | None
    ) -> ModelCall | web.Response:
        """Decide, pay and forward; the bundle may be another one than before the body was read."""
        model_name = f"{request.model}{body.value['model']}"
        request = replace(request, model=model_name, arguments=body.value, betas=read_betas(http.headers))
        looped = await self._check_loop(request, body)
        metered = looped or await self._pay(request, body, size, read_caller(None, http.headers).task)
        begun: ModelCall | web.Response | None = None
        try:
            begun = self._forward(http, request, body, metered)
            return begun
        finally:
            if isinstance(metered, MeteredCall) and not isinstance(begun, ModelCall):
                self._meter.cancel(metered)  # nothing was forwarded

    def _forward(
        self, http: web.Request, request: DecisionInput, body: RequestBody, metered: MeteredCall | Deny | None
    ) -> ModelCall | web.Response:
        """Decide, and forward what was paid for. From then on the end of the call settles what it has cost.

        Raises:
            RecordFailed: The record could not be stored; nothing was forwarded.
        """
        decision = metered if isinstance(metered, Deny) else self._judge(request)
        provider, model = self._find(request)
        if isinstance(metered, MeteredCall) and not isinstance(decision, Deny) and provider != metered.provider:
            decision = Deny(DenyReason.SERVER_UNAVAILABLE, "", "The policy has changed: send the call again.")
        found = self._record(http, request, decision)
        if isinstance(found, Deny):
            is_one_too_many = found.reason is DenyReason.SERVER_UNAVAILABLE
            return _reply(_shape(provider, request), found, TOO_MANY if is_one_too_many else None)
        if provider is None or model is None or not isinstance(metered, MeteredCall):
            raise AssertionError("nothing is allowed without a provider, a model of it, and its money")
        query = http.rel_url.raw_query_string
        path = f"{request.method}?{query}" if query else request.method
        client, outgoing = self._links.get(provider), body.write()
        metered.sent_bytes = outgoing.size
        sending = client.send(path, outgoing, request_headers(http.headers), model)
        call = ModelCall(http, provider.shape, found, outgoing, bool(body.value.get("stream")), metered)
        call.task = asyncio.create_task(
            relay(call, sending, client, self._large.results.hold()), name="call of a model"
        )
        self._calls.add(call)
        call.task.add_done_callback(partial(self._finish, call))
        return call

    async def _check_loop(self, request: DecisionInput, body: RequestBody) -> Deny | None:
        """Count a call that is allowed otherwise, before money is spent on it; return the denial if it is a loop."""
        loops = self._authorizer.loops
        if loops is None or not loops.is_on or isinstance(self._judge(request), Deny):
            return None
        digest = await digest_prompt(body)
        # Another bundle may have come meanwhile. A call that is now denied does not count.
        return None if isinstance(self._judge(request), Deny) else loops.check_prompt(request, digest)

    async def _pay(
        self, request: DecisionInput, body: RequestBody, size: PromptSize | None, task: str
    ) -> MeteredCall | Deny | None:
        """Reserve the cost of a call that is allowed otherwise; None where it is denied."""
        bundle = self._live.bundle
        provider, model = self._find(request)
        if bundle is None or provider is None or model is None or isinstance(self._judge(request), Deny):
            return None
        self._paying += 1
        try:
            return await self._meter.reserve(
                bundle=bundle, provider=provider, model=model, request=request, body=body, size=size, task=task
            )
        finally:
            self._paying -= 1

    def _find(self, request: DecisionInput) -> tuple[Provider | None, Model | None]:
        """Return the provider of a request and its model, as far as the agent has them."""
        bundle = self._live.bundle
        name, _, model = (request.model or "").partition("/")
        provider = None if bundle is None else find_provider(bundle.models, name)
        return provider, None if provider is None else provider.find(model)

    def _judge(self, request: DecisionInput) -> Decision:
        decision = self._authorizer.judge(request, self._live.state)
        is_full = request.method != LIST and len(self._calls) + self._paying >= MAX_CALLS
        if not isinstance(decision, Deny) and is_full:
            decision = Deny(DenyReason.SERVER_UNAVAILABLE, "", f"{MAX_CALLS} calls of models are under way already.")
        return decision

    def _record(self, http: web.Request, request: DecisionInput, decision: Decision) -> OpenRecord | Deny:
        """Record a decision; what is recorded holds nothing of the body.

        Raises:
            RecordFailed: The record could not be stored; nothing may be forwarded.
        """
        bare = replace(request, arguments=None)
        return self._authorizer.record(bare, decision, read_caller(None, http.headers))

    def _finish(self, call: ModelCall, task: "asyncio.Task[web.StreamResponse]") -> None:
        """Settle a call that has ended, whatever has become of it."""
        self._calls.discard(call)
        try:
            call.finish(lambda metered, was_sent: self._meter.settle(metered, was_sent=was_sent))
        finally:
            # An exception of the task refers to frames with the call and with this task, and these to what they hold.
            # Without the reference back, a failed call gives back its memory immediately.
            call.task = None
            if call.is_gone and not task.cancelled() and not isinstance(task.exception(), _EXPECTED):
                log_failure(task, self._links.log)  # no agent waits for it any longer

    async def _wait(self, call: ModelCall) -> web.StreamResponse:
        """Wait for the answer; one that breaks off ends the connection, so that the agent sees a broken one."""
        task = call.task
        if task is None:
            raise AssertionError("a call has its task")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():  # the agent hung up
                call.hang_up()
                raise
            if call.cut is None:
                raise
            return self._break_off(call, call.cut)
        except UpstreamError as failed:
            self._links.log(f"provider {call.http.match_info['provider']}: {failed.detail}")
            call.end_as(DenyReason.SERVER_UNAVAILABLE.value)
            denial = Deny(DenyReason.SERVER_UNAVAILABLE, "", f"The provider of the model {failed}.")
            return self._break_off(call, denial, is_final=not failed.is_connection)
        except (AgentGone, ConnectionError):
            return web.Response(status=400)  # no client is left to read it
        finally:
            del task

    def _break_off(self, call: ModelCall, denial: Deny, *, is_final: bool = False) -> web.Response:
        if call.has_begun and call.http.transport is not None:
            call.http.transport.abort()
        return _reply(call.shape, denial, is_final=is_final)


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
