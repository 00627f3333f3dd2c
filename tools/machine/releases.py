"""Released programs: downloaded from where their projects publish them, checked against a published hash.

Only a hash that was seen can be pinned; these were written on a machine that reaches no release server. So the hash is
asked for at the time of the download: `.sha256` next to the file, or the digest that the release's own API states. Set
`Release.sha256` to pin one.
"""

import hashlib
import json
import shutil
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tools.machine.errors import ClusterError

PROBE_SECONDS = 4.0
READ_SECONDS = 60.0
CHUNK = 1 << 20


@dataclass(frozen=True)
class Release:
    """A program as its project releases it.

    Attributes:
        url: the file.
        checksum_url: a page whose first word is the hash, or a GitHub release as its API answers it.
        member: the path inside the archive, for archives.
        sha256: the file's hash, where it is pinned.
    """

    url: str
    checksum_url: str = ""
    member: str = ""
    sha256: str = ""


def answers(url: str, timeout: float = PROBE_SECONDS) -> bool:
    """Return True if a server says anything at all at this address, within seconds."""
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the callers' addresses are constants
    try:
        with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def download(release: Release, target: Path) -> None:
    """Download one program into the file target, whole or not at all.

    Raises:
        ClusterError: the server's refusal, or a hash that is not the published one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        expected = release.sha256 or _published_sha256(release)
        found = _fetch(release.url, part)
        if found != expected:
            part.unlink(missing_ok=True)
            raise ClusterError(f"{release.url} has the hash {found}, but {expected} was published")
        if release.member:
            _unpack(part, release.member)
    except OSError as error:
        raise ClusterError(f"{release.url}: {error}") from error
    part.chmod(0o755)
    part.rename(target)


def _fetch(url: str, target: Path) -> str:
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=READ_SECONDS) as answer, target.open("wb") as out:  # noqa: S310
        while chunk := answer.read(CHUNK):
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def _published_sha256(release: Release) -> str:
    with urllib.request.urlopen(release.checksum_url, timeout=READ_SECONDS) as answer:  # noqa: S310
        text = answer.read(CHUNK).decode()
    if text.lstrip().startswith("{"):
        name = release.url.rsplit("/", 1)[-1]
        digests = {asset["name"]: asset.get("digest") or "" for asset in json.loads(text).get("assets", [])}
        word = digests.get(name, "").removeprefix("sha256:")
    else:
        word = text.split()[0] if text.split() else ""
    if len(word) != hashlib.sha256().digest_size * 2:
        raise ClusterError(f"{release.checksum_url} states no SHA-256 of {release.url}")
    return word.lower()


def _unpack(archive: Path, member: str) -> None:
    program = archive.with_name(archive.name + ".member")
    with tarfile.open(archive) as tar:
        source = tar.extractfile(member)
        if source is None:
            raise ClusterError(f"{archive.name} holds no {member}")
        with source, program.open("wb") as out:
            shutil.copyfileobj(source, out)
    program.rename(archive)
