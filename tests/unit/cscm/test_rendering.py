"""The text of results in a terminal: by type, whatever attributes a result has."""

from types import SimpleNamespace

import pytest

from cscm.rendering import render
from supply_chain.evidence.approval import Approval
from supply_chain.execution.deployment import Deployment, DockerPlace
from supply_chain.execution.observation import Observation
from supply_chain.fleet.exposure import RescanReport
from supply_chain.lifecycle.apply import Applied
from supply_chain.lifecycle.decisions import DecisionResult
from supply_chain.lifecycle.plan import Plan
from supply_chain.model.container import make_profile
from supply_chain.model.declaration import Probe, Runtime
from supply_chain.model.image import Candidate, ImageRef, ReleasedImage
from supply_chain.promotion.planned_promotion import make_empty_promotion
from tests.support.builders import NOON, source

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (Candidate(ref=REF, source=source()), str(REF)),
        (ReleasedImage(ref=REF, tag="t", source=source(), environments=()), str(REF)),
        (REF, str(REF)),
        (make_empty_promotion(REF, "done"), str(make_empty_promotion(REF, "done"))),
        (
            Deployment(
                environment="staging",
                application="hello",
                digest=REF.digest,
                container="c" * 64,
                name="n",
                place=DockerPlace(reverse_proxy="f" * 64, proxy=REF.digest, address="::1", port=8080),
                probe=Probe(port=8080, path="/healthz"),
                settings={},
                profile=make_profile(Runtime()),
                configuration=REF.digest,
                changed=True,
                started_at=NOON,
            ),
            f"hello {REF.digest} answers at http://[::1]:8080/healthz",
        ),
        (
            Approval(
                environment="production", digest=REF.digest, decision="denied", by="ann", reason="so", decided=NOON
            ),
            f"denied by ann for production: {REF.digest}",
        ),
        ((REF, REF), f"{REF}\n{REF}"),
        ([], "nothing to report"),
        (None, "None"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_result_is_rendered_by_its_type(result, text):
    """A list has one line for each result."""
    assert render(result) == text


@pytest.mark.parametrize("kind", [Observation, RescanReport, Applied, Plan])
def test_result_with_report_has_renderer_of_its_own(kind):
    """Its `str` would be the list of its fields."""
    assert render.dispatch(kind) is not render.dispatch(object)


def test_decision_is_rendered_by_its_own_text():
    """It names an image too, but is not only that."""
    assert render.dispatch(DecisionResult) is render.dispatch(object)


def test_result_with_attributes_of_image_is_not_rendered_as_image():
    """A result with the attribute `ref` is not therefore an image."""
    assert render(SimpleNamespace(ref=REF, deviations=())) == str(SimpleNamespace(ref=REF, deviations=()))
