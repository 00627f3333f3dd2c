"""The API server of this process as tests of kinds use it; the operator's tests have one of their own."""

from collections.abc import Iterator

import pytest

from tests.integration.kubectl import Api, Cluster, Kubectl


@pytest.fixture(scope="module")
def kubectl(kwok_cluster: Cluster) -> Kubectl:
    """The cluster's own kubectl, with our kinds installed."""
    client = Kubectl(kwok_cluster)
    client.install_crds()
    return client


@pytest.fixture(scope="module")
def server(kubectl: Kubectl) -> Iterator[Api]:
    """The API server, without a kubectl process for each request."""
    with kubectl.proxied() as api:
        yield api
