"""An agent that answers with the beginning of a stream, or with nothing at all, and then waits for its end."""

import asyncio
import sys

from aiohttp import web


async def _begin(http: web.Request) -> web.StreamResponse:
    if http.path == "/silent":
        await asyncio.Event().wait()
    length = {"Content-Length": "1000"} if http.path == "/sized" else {}
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **length})
    await response.prepare(http)
    await response.write(b"data: begun\n\n")
    await asyncio.Event().wait()
    return response


app = web.Application()
app.router.add_route("*", "/{tail:.*}", _begin)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
