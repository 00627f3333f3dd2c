"""The account that a program of Interlock has at the API server.

Admission policies name those of the operator and the kill controller: they bound what these may write. They do not bind
an account of another name, so a program with one would go on without these bounds. A kustomization that changes names
or namespaces gives it one.
"""

import base64
import json
from typing import Final

from interlock_kube.credentials import ApiAccess

_BEARER: Final = "Bearer "
_ACCOUNTS: Final = "system:serviceaccount:"


class WrongAccount(Exception):  # noqa: N818 - says what the account is
    """A program runs as another ServiceAccount than the one that admission policies name."""


def check_account(access: ApiAccess, expected: str) -> None:
    """Check that a ServiceAccount is the one that admission policies name. Other users are not checked.

    Args:
        access: The access to the API server. Of a token, only the name in it is read: the API server verifies it.
        expected: The user name of the program's account.

    Raises:
        WrongAccount: It is another one.
    """
    name = _account_in(access.authorization)
    if name not in {"", expected}:
        raise WrongAccount(
            f"this program is {name}, but admission policies bound the rights of {expected} alone: remove namespace, "
            "namePrefix and nameSuffix from the kustomization that installs Interlock"
        )


def _account_in(authorization: str) -> str:
    """Return the ServiceAccount that a token names, empty where it names none."""
    parts = authorization.removeprefix(_BEARER).split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims and signature
        return ""
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
        name = claims["sub"]
    except (ValueError, KeyError, TypeError):
        return ""
    return name if isinstance(name, str) and name.startswith(_ACCOUNTS) else ""
