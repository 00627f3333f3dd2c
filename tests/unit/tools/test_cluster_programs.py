import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tools.cluster import programs
from tools.machine import releases, versions
from tools.machine.errors import ClusterError, UnavailableError
from tools.machine.releases import Release
from tools.machine.settings import PartsChoice, Settings
from tools.nodeless import golang
from tools.nodeless.golang import GoPackage

PROGRAM = b"#!/bin/sh\necho hello\n"
KUBE_ROUTER_HASH = "h1:xWsptKtmZ44L+NjwFKoFAFlVdxCz8fka9A/eYJe95Ok="
WHERE = {
    "kubernetes": ("k8s.io/kubernetes", versions.KUBERNETES),
    "kubernetes-oldest": ("k8s.io/kubernetes", versions.KUBERNETES_OLDEST),
    "kubernetes-older": ("k8s.io/kubernetes", versions.KUBERNETES_OLDER),
    "kind": ("sigs.k8s.io/kind", versions.KIND),
    "kwok": ("sigs.k8s.io/kwok", versions.KWOK),
    "etcd": ("go.etcd.io/etcd/server/v3", versions.ETCD),
    "etcd-in-node": ("go.etcd.io/etcd/server/v3", versions.ETCD_IN_NODE),
    "containerd": ("github.com/containerd/containerd/v2", versions.CONTAINERD),
    "runc": ("github.com/opencontainers/runc", versions.RUNC),
    "crictl": ("sigs.k8s.io/cri-tools", versions.CRICTL),
    "cni-plugins": ("github.com/containernetworking/plugins", versions.CNI_PLUGINS),
    "coredns": ("github.com/coredns/coredns", versions.COREDNS),
    "kube-router": ("github.com/cloudnativelabs/kube-router/v2", versions.KUBE_ROUTER),
    "crane": ("github.com/google/go-containerregistry", versions.CRANE),
    "syft": ("github.com/anchore/syft", versions.SYFT),
    "cosign": ("github.com/sigstore/cosign/v3", versions.COSIGN),
    "actionlint": ("github.com/rhysd/actionlint", versions.ACTIONLINT),
    "helm": ("helm.sh/helm/v4", versions.HELM),
    "distribution": ("github.com/distribution/distribution/v3", versions.DISTRIBUTION),
    "prometheus": ("github.com/prometheus/prometheus", versions.PROMETHEUS),
    "metrics-server": ("sigs.k8s.io/metrics-server", versions.METRICS_SERVER),
    "local-path-provisioner": ("github.com/rancher/local-path-provisioner", versions.LOCAL_PATH_PROVISIONER),
}


class Server:
    """A release server on loopback."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        files = self.files

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = files.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.end_headers()
                self.wfile.write(body or b"")

            do_HEAD = do_GET  # noqa: N815 - the name is http.server's

            def log_message(self, *_: object) -> None:  # type: ignore[explicit-override]  # Python 3.11 has no override
                return

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever)
    thread.start()
    yield made
    made.http.shutdown()
    thread.join(timeout=10)
    made.http.server_close()


def test_a_released_program_is_checked_against_the_hash_next_to_it(server: Server, tmp_path: Path) -> None:
    digest = hashlib.sha256(PROGRAM).hexdigest()
    server.files |= {"/kubectl": PROGRAM, "/kubectl.sha256": f"{digest}  kubectl\n".encode()}
    target = tmp_path / "kubectl"
    releases.download(Release(f"{server.url}/kubectl", f"{server.url}/kubectl.sha256"), target)
    assert target.read_bytes() == PROGRAM
    assert target.stat().st_mode & 0o111


def test_a_released_archive_is_checked_against_the_digest_that_its_release_states(
    server: Server, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("etcd-1/etcd")
        info.size = len(PROGRAM)
        tar.addfile(info, io.BytesIO(PROGRAM))
    archive = buffer.getvalue()
    release = {"assets": [{"name": "etcd.tgz", "digest": f"sha256:{hashlib.sha256(archive).hexdigest()}"}]}
    server.files |= {"/etcd.tgz": archive, "/release": json.dumps(release).encode()}
    target = tmp_path / "etcd"
    releases.download(Release(f"{server.url}/etcd.tgz", f"{server.url}/release", "etcd-1/etcd"), target)
    assert target.read_bytes() == PROGRAM


@pytest.mark.parametrize("published", [b"0" * 64, b"", b"not a hash", b'{"assets": []}'])
def test_a_program_without_the_published_hash_is_not_kept(server: Server, tmp_path: Path, published: bytes) -> None:
    server.files |= {"/kind": PROGRAM, "/kind.sha256": published}
    with pytest.raises(ClusterError, match=r"published|no SHA-256"):
        releases.download(Release(f"{server.url}/kind", f"{server.url}/kind.sha256"), tmp_path / "kind")
    assert list(tmp_path.iterdir()) == []


def test_a_pinned_hash_replaces_the_published_one(server: Server, tmp_path: Path) -> None:
    server.files["/kind"] = PROGRAM
    release = Release(f"{server.url}/kind", sha256=hashlib.sha256(PROGRAM).hexdigest())
    releases.download(release, tmp_path / "kind")
    with pytest.raises(ClusterError, match="was published"):
        releases.download(Release(release.url, sha256="0" * 64), tmp_path / "other")


def test_a_server_answers_whatever_it_says_and_does_not_when_it_is_not_there(server: Server) -> None:
    assert releases.answers(f"{server.url}/nothing")
    server.http.server_close()
    assert not releases.answers("http://127.0.0.1:1/", timeout=1)


@pytest.mark.parametrize("module", sorted(path.name for path in golang.MODULES.iterdir()))
def test_every_module_is_pinned_at_the_version_we_name_and_by_hash(module: str) -> None:
    path, version = WHERE[module]
    go_mod = (golang.MODULES / module / "go.mod").read_text()
    go_sum = (golang.MODULES / module / "go.sum").read_text()
    assert f"\t{path} {version}" in go_mod
    assert f"{path} {version} h1:" in go_sum
    needed = next(line.removeprefix("go ") for line in go_mod.splitlines() if line.startswith("go "))
    assert tuple(map(int, needed.split("."))) <= versions.GO_MINIMUM


def test_every_program_comes_from_a_pinned_module() -> None:
    assert {program.source.module for program in programs.all_programs()} == set(WHERE)


def test_the_module_that_no_checksum_database_knows_has_the_hash_of_its_upstream_tag() -> None:
    go_sum = (golang.MODULES / "kube-router" / "go.sum").read_text()
    assert f"github.com/cloudnativelabs/kube-router/v2 {versions.KUBE_ROUTER} {KUBE_ROUTER_HASH}\n" in go_sum


def settings(folder: Path, parts: PartsChoice = PartsChoice.AUTO) -> Settings:
    return Settings(cache=folder, parts=parts)


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def kubectl() -> programs.Program:
    return next(program for program in programs.all_programs() if program.name == "kubectl")


def test_a_cached_program_needs_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "answers", lambda *_: pytest.fail("a server was asked"))
    path = put(kubectl().built_path(settings(tmp_path)))
    assert programs.ensure(settings(tmp_path), ["kubectl"]) == {"kubectl": path}


@pytest.mark.parametrize("find", [programs.ensure, programs.ensure_built])
def test_a_cached_program_does_not_wait_for_those_that_another_process_builds(
    find: Callable[[Settings, list[str]], dict[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = settings(tmp_path, PartsChoice.BUILT)
    (crictl,) = programs.named(["crictl"])
    path = crictl.built_path(here)
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.setattr(programs, "held", lambda *_: pytest.fail("it waits for the lock"))

    assert find(here, ["crictl"]) == {"crictl": path}


@pytest.mark.parametrize(("answers", "way"), [(True, "released"), (False, "built")])
def test_programs_are_released_ones_where_the_servers_answer_else_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, answers: bool, way: str
) -> None:
    monkeypatch.setattr(releases, "answers", lambda *_: answers)
    monkeypatch.setattr(releases, "download", lambda _, target: put(target))
    monkeypatch.setattr(golang, "find_go", lambda *_: Path("go"))
    monkeypatch.setattr(
        golang, "build", lambda _go, targets, _log, *, lanes: [put(target) for target in targets if lanes]
    )
    here = settings(tmp_path)
    expected = kubectl().released_path(here) if way == "released" else kubectl().built_path(here)
    assert programs.ensure(here, ["kubectl"]) == {"kubectl": expected}


def test_a_forced_way_takes_nothing_that_came_the_other_way(tmp_path: Path) -> None:
    put(kubectl().built_path(settings(tmp_path)))
    assert programs.cached(settings(tmp_path, PartsChoice.BUILT), ["kubectl"])
    assert not programs.cached(settings(tmp_path, PartsChoice.RELEASED), ["kubectl"])


def test_a_program_without_releases_cannot_be_forced_to_be_released(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="kubelet is not released"):
        programs._released(settings(tmp_path), programs.named(["kubelet"]))  # noqa: SLF001


def test_where_nothing_answers_and_no_go_is_available_one_message_says_what_still_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "answers", lambda *_: False)
    monkeypatch.setattr(golang, "may_have_go", lambda: False)
    reason = programs.impossible(settings(tmp_path))
    assert reason is not None
    assert "needs Go" in reason
    assert "run all the same" in reason


@pytest.mark.parametrize(
    ("text", "version"),
    [("go version go1.26.8 linux/amd64", (1, 26, 8)), ("go version go1.27 linux/arm64", (1, 27, 0)), ("?", (0,))],
)
def test_the_version_of_go_is_read_from_its_own_words(text: str, version: tuple[int, ...]) -> None:
    assert golang.version_of(text) == version


def test_programs_of_one_module_are_one_build_and_the_longest_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golang, "find_go", lambda *_: Path("go"))
    wanted = programs.named(["runc", "kubectl", "kubelet", "containerd", "ctr", "kube-apiserver"])
    kubelet = next(one for one in wanted if one.name == "kubelet").built_path(settings(tmp_path))
    kubelet.parent.mkdir(parents=True)
    kubelet.touch()

    titles = [step.title.rpartition(" ")[0] for step in programs.build_steps(settings(tmp_path), wanted)]

    assert titles == ["kubectl, kube-apiserver", "containerd, ctr", "runc"]


def test_all_programs_of_a_module_come_out_of_one_go_build(tmp_path: Path) -> None:
    """A program named after a version's folder is named as `go build` names it."""
    go = tmp_path / "go"
    go.write_text(
        '#!/bin/sh\necho "$GOGC $GOMEMLIMIT $*" >> ' + str(tmp_path / "calls") + "\n"
        'while [ "$1" != -o ]; do shift; done; touch "$2server" "$2ctr"\n'
    )
    go.chmod(0o755)
    targets = {
        tmp_path / "programs" / "etcd-1" / "etcd": GoPackage("etcd", "go.etcd.io/etcd/server/v3"),
        tmp_path / "programs" / "ctr-1" / "ctr": GoPackage("etcd", "example.com/cmd/ctr"),
    }

    golang.build(go, targets, tmp_path / "log")

    assert all(target.exists() for target in targets)
    assert sorted(path.name for path in (tmp_path / "programs").iterdir()) == ["ctr-1", "etcd-1"]
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


@pytest.mark.parametrize(("free", "expected"), [(16 << 30, "4096MiB"), (3 << 30, None), (0, None)])
def test_the_compiler_runs_without_gc_where_memory_is_plenty(
    free: int, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golang, "_free_memory", lambda: free)
    monkeypatch.setattr("os.cpu_count", lambda: 2)

    assert golang._collector(1) == ({"GOGC": "off", "GOMEMLIMIT": expected} if expected else {})  # noqa: SLF001
