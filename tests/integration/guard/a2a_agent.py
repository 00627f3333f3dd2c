"""An agent as the official A2A SDK makes one, with nothing of ours in it but the words that it answers with."""

import asyncio

from a2a.helpers import get_message_text, new_task_from_user_message, new_text_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

STEPS = 3
REST = "/rest"


class Executor(AgentExecutor):
    """Repeats the message, in some steps; `fail` fails, `reject` rejects, `crash` crashes, `hold` waits."""

    def __init__(self) -> None:
        self.traces: list[tuple[str, str]] = []
        """`traceparent` and `Interlock-Task` of each request, as the SDK hands headers to an agent."""
        self.step = asyncio.Event()

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        headers = context.call_context.state["headers"] if context.call_context else {}
        self.traces.append((headers.get("traceparent", ""), headers.get("interlock-task", "")))
        text = get_message_text(context.message)
        if text == "crash":
            raise RuntimeError("this agent is of no use")
        if text == "message":
            await event_queue.enqueue_event(new_text_message("only a message"))
            return
        task = context.current_task
        if task is None:
            task = new_task_from_user_message(context.message)
            await event_queue.enqueue_event(task)
        await self._work(TaskUpdater(event_queue, task.id, task.context_id), text)

    async def _work(self, updater: TaskUpdater, text: str) -> None:
        await updater.start_work()
        if text == "hold":
            await asyncio.Event().wait()
        if text == "fail":
            await updater.failed()
        elif text == "reject":
            await updater.reject()
        else:
            for number in range(STEPS):
                if text == "steps":
                    await self.step.wait()
                    self.step.clear()
                await updater.add_artifact([new_text_part(f"{text} {number}")])
            await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


class Application:
    """The agent as an ASGI application; the card names a URL that is known only once the guard listens."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self._inner: Starlette | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._inner is not None and scope["type"] == "http":
            await self._inner(scope, receive, send)

    def publish(self, url: str) -> None:
        """Say where callers find the agent."""
        bindings = [("JSONRPC", "1.0", ""), ("HTTP+JSON", "1.0", REST), ("JSONRPC", "0.3", "")]
        card = AgentCard(
            name="Triage",
            description="Sorts tickets",
            version="1.0.0",
            supported_interfaces=[
                AgentInterface(url=url + path, protocol_binding=binding, protocol_version=version)
                for binding, version, path in bindings
            ],
            capabilities=AgentCapabilities(streaming=True),
            default_input_modes=["text/plain"],
            default_output_modes=["text/plain"],
            skills=[AgentSkill(id="triage", name="Triage", description="Sorts", tags=["tickets"])],
        )
        handler = DefaultRequestHandler(self.executor, InMemoryTaskStore(), card)
        self._inner = Starlette(
            routes=[
                *create_agent_card_routes(card),
                *create_jsonrpc_routes(handler, "/", enable_v0_3_compat=True),
                *create_rest_routes(handler, path_prefix=REST),
            ]
        )
