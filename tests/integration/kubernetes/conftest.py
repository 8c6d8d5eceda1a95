"""A real cluster for the tests: the one of the kubeconfig that CSCM_TEST_KUBECONFIG names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The kubeconfig of an administrator of the cluster."""
    return Path(os.environ["CSCM_TEST_KUBECONFIG"])
