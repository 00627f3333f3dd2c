import asyncio

from aiohttp import web

from interlock_guard.tasks.endpoint import TaskServer
from tests.requirements import requirement


async def answer(_: web.BaseRequest) -> web.Response:
    return web.Response(text="here")


async def ask(port: int) -> tuple[asyncio.StreamWriter, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        return writer, await reader.readline()
    except ConnectionError:
        return writer, b""


@requirement("tasks.bounded")
async def test_no_more_connections_are_held_than_there_is_room_for() -> None:
    runner = web.ServerRunner(TaskServer(answer, most=2))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        held = [await ask(port) for _ in range(3)]
        assert [line for _, line in held] == [b"HTTP/1.1 200 OK\r\n"] * 2 + [b""]
        held[0][0].close()
        await held[0][0].wait_closed()
        async with asyncio.timeout(20):
            while not (again := await ask(port))[1]:
                again[0].close()
        for writer, _ in (*held, again):
            writer.close()
    finally:
        await runner.cleanup()
