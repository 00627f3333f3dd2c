"""Every version that is pinned by hand; the Go modules' hashes stand in go/*/go.sum, Go's in requirements/go.txt."""

KUBERNETES = "v1.37.2"
KUBERNETES_OLDEST = "v1.33.13"  # the oldest that Interlock supports: its API server runs in tests
KUBERNETES_OLDER = "v1.36.3"  # the first minor with MutatingAdmissionPolicies, as KUBERNETES_OLDEST
KIND = "v0.33.0"
KWOK = "v0.8.0"
ETCD = "v3.7.3"  # for kwokctl, which takes any
ETCD_IN_NODE = "v3.7.0"  # what kubeadm of this Kubernetes asks for
CONTAINERD = "v2.4.2"
RUNC = "v1.5.2"
CRICTL = "v1.36.0"
CNI_PLUGINS = "v1.9.1"
COREDNS = "v1.14.6"  # what kubeadm of this Kubernetes asks for
KUBE_ROUTER = "v2.1.0"
LOCAL_PATH_PROVISIONER = "v0.0.30"
CRANE = "v0.22.1"
SYFT = "v1.52.0"  # newer ones need a newer Go
COSIGN = "v3.1.3"
HELM = "v4.3.2"
DISTRIBUTION = "v3.1.2"  # the registry of the tests
METRICS_SERVER = "v0.9.0"  # for the tests of autoscaling
ACTIONLINT = "v1.7.12"  # for the test of the workflows
PROMETHEUS = "v0.315.1"  # of its Go module: the release 3.15.1, for the tests of metric gates

KIND_NODE_IMAGE = "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5"
"""The node image that kind v0.33.0 itself defaults to."""

PYTHON_IMAGE = "python:3.13-slim-trixie"
"""What our own images start from where an image registry answers."""

GO_MINIMUM = (1, 26, 6)
"""The newest `go` line among go/*/go.mod."""

NODE_SUITE = "bookworm"
"""Debian of the node image: its systemd (252) still runs on cgroup v1, newer ones do not."""
BASE_SUITE = "trixie"
"""Debian of our own images' root: Python 3.13, as in PYTHON_IMAGE."""
BASE_PACKAGES = ("python3", "python3-venv", "ca-certificates")
"""What our own images' root has on top of the minimum."""
