import io
import json
import tarfile
from pathlib import Path

import pytest

from tools.cluster import node_image
from tools.machine.errors import ClusterError
from tools.nodeless import node_archives, node_root
from tools.nodeless.node_archives import Archive
from tools.nodeless.node_root import MachineLimits

NOTHING = MachineLimits(cgroup_v1=False, no_sys_resource=False, no_apparmor=False)
EVERYTHING = MachineLimits(cgroup_v1=True, no_sys_resource=True, no_apparmor=True)
CONTAINERD = '[plugins]\n  sandbox_image = "pause:1"\n  restrict_oom_score_adj = false\n'
KUBELET = "KUBELET_EXTRA_ARGS=--runtime-cgroups=/x"


STATS = '\n[plugins."io.containerd.cri.v1.runtime"]\n'


def test_a_machine_that_lacks_nothing_gets_kinds_own_settings_and_fewer_figures() -> None:
    text, _, stats = node_root.containerd_config(CONTAINERD, NOTHING).partition(STATS)
    assert (text, stats.splitlines()[-1]) == (CONTAINERD, '  stats_collect_period = "10s"')
    assert node_root.kubelet_defaults(KUBELET, NOTHING) == KUBELET


def test_what_a_machine_lacks_is_configured_in_containerd_and_kubelet() -> None:
    text = node_root.containerd_config(CONTAINERD, EVERYTHING)
    assert "  restrict_oom_score_adj = true\n  disable_apparmor = true\n" in text
    text = node_root.kubelet_defaults(KUBELET, EVERYTHING)
    assert text == f"{KUBELET} --fail-cgroupv1=false --feature-gates=KubeletInUserNamespace=true"


def test_an_image_for_another_machine_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for limits in (NOTHING, EVERYTHING):
        monkeypatch.setattr(node_root, "limits", lambda limits=limits: limits)
        names.append(node_image.built_name())
    assert names[0] != names[1]


def test_a_newer_kind_with_other_files_is_noticed() -> None:
    with pytest.raises(ClusterError, match="restrict_oom_score_adj"):
        node_root.containerd_config("version = 3\n", NOTHING)
    with pytest.raises(ClusterError, match="storage manifest"):
        node_root.storage_manifest("package x\n")


def test_kinds_storage_gets_our_images() -> None:
    source = "const defaultStorageManifest = `a: ` + storageProvisionerImage + `\nb: ` + storageHelperImage + `\n`\n"
    assert node_root.storage_manifest(source) == (
        f"a: {node_archives.PROVISIONER_IMAGE}\nb: {node_archives.HELPER_IMAGE}\n"
    )


def test_an_archive_is_read_by_container_runtimes(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    layer = node_archives.files_layer({"/bin/program": program}, {"/bin/sh": "program"})
    file = Archive("localhost/x:1", [layer], ["program"]).write(tmp_path)
    with tarfile.open(file) as tar:
        manifest = json.load(tar.extractfile("manifest.json") or io.BytesIO())[0]
        config = json.load(tar.extractfile(manifest["Config"]) or io.BytesIO())
        with tarfile.open(fileobj=tar.extractfile(manifest["Layers"][0])) as content:
            assert sorted(content.getnames()) == ["bin/program", "bin/sh"]
            assert content.getmember("bin/program").mode == 0o755
    assert manifest["RepoTags"] == ["localhost/x:1"]
    assert config["config"]["Entrypoint"] == ["program"]


def test_a_layer_holds_every_link_on_the_way_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "etc/alternatives").mkdir(parents=True)
    (tmp_path / "usr/bin/nft-multi").write_text("#!/bin/sh\n")
    (tmp_path / "etc/alternatives/tables").symlink_to("/usr/bin/nft-multi")
    (tmp_path / "usr/bin/tables").symlink_to("/etc/alternatives/tables")
    debian = node_archives.DebianFiles(tmp_path)
    assert debian.chain("/bin/tables") == ["/usr/bin/tables", "/etc/alternatives/tables", "/usr/bin/nft-multi"]
    with tarfile.open(fileobj=io.BytesIO(debian.layer(["/bin/tables"]))) as tar:
        assert {"usr/bin/tables", "etc/alternatives/tables", "usr/bin/nft-multi"} <= set(tar.getnames())
