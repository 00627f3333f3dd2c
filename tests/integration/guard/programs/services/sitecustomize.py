"""Makes every Service of a cluster an address of this machine, for a process that has this folder on its path."""

from typing import Any

from aiohttp.resolver import ThreadedResolver

_resolve = ThreadedResolver.resolve


async def _resolve_here(self: ThreadedResolver, host: str, *more: Any, **options: Any) -> Any:
    return await _resolve(self, "127.0.0.1" if host.endswith(".svc") else host, *more, **options)


ThreadedResolver.resolve = _resolve_here  # type: ignore[method-assign]
