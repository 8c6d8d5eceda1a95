"""A real cluster for the tests: the one of the kubeconfig that CSCM_TEST_KUBECONFIG names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from supply_chain.adapters.kubernetes.client import ClusterClient
from tests.support.cluster_images import Import, imported_images


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The kubeconfig of an administrator of the cluster."""
    return Path(os.environ["CSCM_TEST_KUBECONFIG"])


@pytest.fixture(scope="module")
def cluster(kubeconfig: Path) -> ClusterClient:
    """The cluster, as an administrator sees it."""
    return ClusterClient.of_context(kubeconfig, None)


@pytest.fixture(scope="module")
def image(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Import]:
    """A function that imports an image with the given faults into the node, and returns its digest."""
    with imported_images(program, tmp_path_factory.mktemp("images")) as make:
        yield make
