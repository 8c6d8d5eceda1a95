"""After all faults: the image that could not be curated is curated and deployed."""

from __future__ import annotations

import httpx
import pytest

from supply_chain.model.image import ImageRef
from tests.support.application import Application

from .sandbox import Sandbox

pytestmark = pytest.mark.real


def test_image_is_curated_and_deployed_after_all_faults(
    sandbox: Sandbox, candidate: ImageRef, application: Application
) -> None:
    """The failed runs left nothing that is in the way."""
    curated = sandbox.cscm("curate", str(candidate), "--json")
    assert curated.status == 0, curated.stderr
    ran = sandbox.cscm(
        "deploy", f"curated/{candidate.application}@{candidate.digest}", "--environment", "sandbox", "--json"
    )

    assert ran.status == 0, ran.stderr
    assert sandbox.released(f"curated/{candidate.application}", candidate.digest)
    assert ran.result["digest"] == candidate.digest
    assert httpx.get(application.url).status_code == 200
    assert list(sandbox.temporary.iterdir()) == []
