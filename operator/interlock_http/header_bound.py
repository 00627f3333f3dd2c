"""The bound on header fields of HTTP answers, and how an answer beyond it is told from one that is no HTTP."""

from aiohttp.http_exceptions import LineTooLong


def exceeded_bound(error: BaseException) -> int | None:
    """Return the bound in bytes that a header field of an answer exceeded, or None if another error happened.

    The HTTP library says so in the cause of the cause of its error. Its text must not be logged: it repeats the
    beginning of the field, which may be a secret.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LineTooLong):
            return int(cause.args[1])
        cause = cause.__cause__
    return None
