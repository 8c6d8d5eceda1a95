"""response: what runs from an image, which runs stop, and when to report again."""

import re

import pytest

from supply_chain.evidence.image_status import Act, LifecycleDecision
from supply_chain.execution.deployment import DockerPlace, Expected, read_deployed_image
from supply_chain.execution.isolation.settings import ResponseSettings
from supply_chain.execution.response import find_deployments, find_isolating, make_response
from supply_chain.model.container import make_profile
from supply_chain.model.declaration import Probe
from supply_chain.model.image import ImageRef
from supply_chain.reports import alert_page, response_page
from tests.support.builders import DIGEST, NOON, OTHER
from tests.support.observations import DRIFT, look

IMAGE = ImageRef(repository="curated/hello", digest=DIGEST)
HOSTILE = "x` | <img src=x> \x1b[31m"


@pytest.fixture
def expected(make):
    def build(environment="staging", digest=DIGEST, application="hello", container="c1"):
        return Expected(
            environment=environment, application=application, digest=digest, container=container,
            name=f"{environment}-{application}-1",
            place=DockerPlace(reverse_proxy="f", proxy=OTHER, address="127.0.0.1", port=8080),
            probe=Probe(port=8080), settings={}, profile=make_profile(make.declaration().runtime), configuration=OTHER,
        )  # fmt: skip

    return build


def test_response_lists_deployments_of_image_with_state(expected):
    """Only deployments of this image by digest are listed."""
    deployments = [
        expected(),
        expected("production", container="c2"),
        expected(digest=OTHER),
        expected(application="shop"),
    ]

    found = make_response(
        "cscm.image.blocked", IMAGE, {}, find_deployments(IMAGE, deployments), [look(0), look(0, container="c3")]
    )

    assert [(r.environment, r.seen) for r in found.running] == [
        ("staging", "missing, healthy"),
        ("production", "not observed"),
    ]
    assert "every gate refuses" in found.stops and {r.owner for r in found.running} == {"unknown"}


def test_response_lists_applications_behind_image_as_reverse_proxy(expected):
    """A flaw of the reverse proxy concerns every owner behind it."""
    proxy = ImageRef(repository="curated/base/proxy", digest=OTHER)
    deployments = [expected(), expected("production", application="shop", container="c2")]
    owners = {
        proxy: "platform",
        read_deployed_image(deployments[0]): "web team",
        read_deployed_image(deployments[1]): "shop team",
    }

    found = make_response("cscm.image.blocked", proxy, owners, find_deployments(proxy, deployments), [look(0)])

    assert found.owner == "platform"
    assert [(r.what, r.environment, r.owner, r.seen) for r in found.running] == [
        ("the reverse proxy of hello", "staging", "web team", "missing, healthy"),
        ("the reverse proxy of shop", "production", "shop team", "not observed"),
    ]
    page = response_page(found)
    assert all(
        text in page for text in ("the reverse proxy of hello", "web team", "the reverse proxy of shop", "shop team")
    )


def test_response_page_shows_deployments_and_stopped_runs(expected):
    """It also shows the facts of the event."""
    observation = look(0, status="running", deviations=(DRIFT,), healthy=False)
    page = response_page(
        make_response(
            "cscm.deployment.drifted",
            IMAGE,
            {IMAGE: "web team"},
            [expected()],
            [observation],
            on_the_way=["promote hello"],
            facts=["a: b"],
        )
    )

    for text in ("web team", "running, drift.files", "promote hello", "- a: b", "Nothing is stopped", str(IMAGE)):
        assert text in page
    assert "Nothing runs from it." in response_page(make_response("other", IMAGE, {}, [], []))


def test_response_page_lists_unknown_facts():
    """Unknown is not the same as none, and it changes the fingerprint."""
    found = make_response("cscm.image.blocked", IMAGE, {}, [], [], unread=["what runs is unknown: so"])

    page = response_page(found)
    assert "- what runs is unknown: so" in page and "Nothing is known to run from it." in page
    assert found.fingerprint != make_response("cscm.image.blocked", IMAGE, {}, [], []).fingerprint


def test_response_page_escapes_external_text(expected):
    """Facts, owners and run names are rendered as text."""
    page = response_page(
        make_response("x", IMAGE, {IMAGE: HOSTILE}, [expected()], [], on_the_way=[HOSTILE], facts=[HOSTILE])
    )

    for text in (page, alert_page(HOSTILE, HOSTILE, HOSTILE)):
        assert not re.search(r"(?<!\\)[<|`]img|(?<!\\)<", text) and "\x1b" not in text


def test_response_fingerprint_changes_only_with_news(expected):
    """Each monitor run sees the same drift, which must be reported once."""
    first = make_response("cscm.deployment.drifted", IMAGE, {}, [expected()], [look(0)])
    again = make_response("cscm.deployment.drifted", IMAGE, {}, [expected()], [look(5)])
    worse = make_response("cscm.deployment.drifted", IMAGE, {}, [expected()], [look(10, deviations=(DRIFT,))])

    assert first.fingerprint == again.fingerprint != worse.fingerprint


SETTINGS = ResponseSettings(isolate=("image.blocked", "drift.files"))


@pytest.mark.parametrize(
    ("settings", "deviations", "blocked", "reason"),
    [
        (SETTINGS, (), True, "image.blocked: by ann"),
        (SETTINGS, (DRIFT,), False, "drift.files: f"),
        (SETTINGS, (DRIFT.model_copy(update={"code": "drift.restarts"}),), False, None),
        (ResponseSettings(isolate=("drift.files",)), (), True, None),
        (ResponseSettings(), (DRIFT,), True, None),
    ],
    ids=str,
)
def test_environment_isolates_after_configured_codes_only(expected, settings, deviations, blocked, reason):
    """Each other deviation is only reported."""
    block = LifecycleDecision(act=Act.BLOCK, by="ann", reason="a key", at=NOON) if blocked else None

    found = find_isolating([expected()], settings, [look(0, deviations=deviations)], block)

    assert [each[1].startswith(reason or "") for each in found] == ([True] if reason else [])
