"""Names of variables, flags, headers and parameters: whether one names a secret, or what kind of value it holds."""

import re
from typing import Final, Literal

from interlock_cli.vocabulary import split_words

Kind = Literal["secret", "setting", "measure", "label", "neutral"]
"""The kind of value that a name announces.

A secret is never printed. A `setting` is about a secret, such as AUTH_MODE or TOKEN_FILE, so its value must be a
switch, a number, a path or a host. A `measure` is a number of any size, a `label` an identifier such as the name of a
project.
"""

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORDS: Final = split_words("""
    key keys pass pwd pw psw passwd passcode pat auth authorization authentication bearer cookie cookies session
    sessionid  seed seeds phrase pin otp totp jwt sig signature sas webhook webhooks login logins creds cert pem salt
    hmac nonce license credential credentials password passwords
    """)
_SECRET_STEMS: Final = re.compile(
    r"passw|passphrase|secret|token(?!i[sz]|iz)|credential|api-?key|access-?key|private-?key|auth-?key|signing-?key"
    r"|encryption-?key|mnemonic|seed-?phrase|recovery-?phrase"
)
_ENDS_IN_PASS: Final = re.compile(r"(?<!by)(?<!com)(?<!encom)(?<!tres)pass$|pwd$")
_SECRET_URLS: Final = split_words("webhook webhooks")
_CONNECTION: Final = re.compile(r"(^|-)(conn(ection)?-?str(ing)?|dsn)(-|$)")
_SETTING_FIRST: Final = split_words("use enable disable no max min skip allow require has is with without")
_SETTING_LAST: Final = split_words("""
    mode type method scheme provider enabled disabled enable disable required timeout ttl expiry expires expiration
    length limit limits count size max min url uri endpoint host port path file dir directory folder location algorithm
    budget interval retries days hours minutes seconds ms window
    """)
_MEASURES: Final = split_words("""
    max min limit limits timeout size count length ttl interval delay retries seconds minutes hours days ms millis bytes
    kb mb gb budget window depth width height threads workers concurrency port rows tokens expiry age period rate
    """)
_LABELS: Final = split_words("""
    name database db schema table region zone location model project projects org organization owner repo repository
    bucket index collection tenant domain host hostname locale lang language timezone tz version env environment mode
    level format provider network channel workspace team namespace cluster profile package from module directory
    transport type browser warehouse role branch toolsets toolset tools features feature service services dataset user
    username
    """)


def name_words(name: str) -> list[str]:
    """Return the words of a name in lower case: `dbPass` and `DB_PASS` have the words `db` and `pass`."""
    return [word.lower() for word in _WORD.findall(name[:256])]


def kind_of(name: str) -> Kind:
    """Return the kind of value that a name announces. An empty name announces nothing."""
    words = name_words(name)
    if not words:
        return "neutral"
    joined = "-".join(words)
    is_secret = (
        not _SECRET_WORDS.isdisjoint(words)
        or _SECRET_STEMS.search(joined) is not None
        or any(_ENDS_IN_PASS.search(word) for word in words)
    )
    if _CONNECTION.search(joined):
        return "setting"  # a URL without a password
    if is_secret:
        if words[-1] == "tokens" and not _MEASURES.isdisjoint(words[:-1]):
            return "measure"  # such as MAX_TOKENS
        is_setting = words[0] in _SETTING_FIRST or (len(words) > 1 and words[-1] in _SETTING_LAST)
        return "setting" if is_setting and _SECRET_URLS.isdisjoint(words) else "secret"
    if not _MEASURES.isdisjoint(words):
        return "measure"
    return "label" if words[-1] in _LABELS else "neutral"
