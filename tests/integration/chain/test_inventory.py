"""The inventory of what the chain did, asked by the command; and made anew from registry and hosts alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.chain.conftest import Chain
from tests.support.command import cscm
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def known(chain: Chain) -> Callable[[], dict[str, Any]]:
    """What the inventory says of the image that the chain brought to run."""
    digest = chain("hello").result["digest"]

    def look() -> dict[str, Any]:
        images = cscm("images", "hello", "--json").result
        return next((image for image in images if image["ref"]["digest"] == digest), {})

    return look


def test_what_the_chain_did_is_known_without_being_asked_for(known: Callable[[], dict[str, Any]]) -> None:
    """An event of the chain brings the inventory up to date."""
    eventually(lambda: [r["environment"] for r in known().get("running", ())] == ["staging"], 120, known)
    image = known()

    assert image["owner"] == "greetings" and image["signed"] and image["stored"]["size"] > 1_000_000
    assert {j["gate"]: j["passed"] for j in image["judgements"]} == {
        "intake": True, "curation": True, "deploy": True,
    }  # fmt: skip
    eventually(lambda: known()["running"][0]["healthy"] is True, 120, known)


def test_where_something_is_is_answered(chain: Chain, known: Callable[[], dict[str, Any]]) -> None:
    """By a package with and without its version, by the base and by the digest; what runs comes first."""
    digest = chain("hello").result["digest"]
    assert cscm("inventory").status == 0
    for question in ("zlib1g", "base/python", digest, digest[7:19]):
        found = cscm("where", question, "--json").result
        assert digest in [place["image"]["digest"] for place in found], question
        assert found[0]["running"]
    assert cscm("where", "CVE-1999-0001", "--json").result == []
    assert cscm("where", "two words").code() == "declaration.invalid"


def test_the_story_of_an_image_is_told(chain: Chain) -> None:
    """Each event with who signed it, what runs from it and what it was built on."""
    digest = chain("hello").result["digest"]
    told = cscm("explain", digest[7:19]).stdout

    for said in ("built ", "admitted at intake ", "signed ", "admitted at deploy ", "deployed to staging"):
        assert said in told, said
    assert "base/python" in told.partition("Built on")[2]
    assert cscm("explain", "0" * 64).code() == "image.not-found"


def test_it_can_be_lost_and_made_anew(known: Callable[[], dict[str, Any]]) -> None:
    """Nothing is known from anywhere but the registry, the evidence and the hosts."""
    before = known()
    assert cscm("inventory", "--rebuild").status == 0
    after = known()

    for image in (before, after):
        for each in image["running"]:
            each.pop("seen")
        image["stored"].pop("pulled_at")
    assert after == before
