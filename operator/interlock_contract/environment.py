"""Settings that a program in a pod reads from the environment of its container. No I/O."""

from collections.abc import Mapping


class SettingsInvalid(ValueError):  # noqa: N818 - says the state of the settings
    """A variable is missing or wrong; the message names it."""


def require(environment: Mapping[str, str], name: str) -> str:
    """Return a variable.

    Raises:
        SettingsInvalid: It is not set.
    """
    value = environment.get(name, "")
    if not value:
        raise SettingsInvalid(f"{name} is not set")
    return value


def read_number(environment: Mapping[str, str], name: str, default: float, *, most: float = 1e6) -> float:
    """Return a variable as a number above 0 and below `most`.

    Raises:
        SettingsInvalid: It is none.
    """
    try:
        value = float(environment.get(name, default))
    except ValueError:
        raise SettingsInvalid(f"{name} is not a number") from None
    if not 0 < value < most:  # also refuses nan and inf
        raise SettingsInvalid(f"{name} is out of range")
    return value


def read_api_server(environment: Mapping[str, str]) -> str:
    """Return the address of the API server.

    Raises:
        SettingsInvalid: There is none, or none that a token may be sent to.
    """
    override = environment.get("INTERLOCK_API_SERVER")
    if override:
        # The token must never travel in the clear; a test's server on the loopback interface is no journey.
        if not override.startswith(("https://", "http://127.0.0.1:")):
            raise SettingsInvalid("INTERLOCK_API_SERVER must start with https://")
        return override.rstrip("/")
    host, port = require(environment, "KUBERNETES_SERVICE_HOST"), require(environment, "KUBERNETES_SERVICE_PORT")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
