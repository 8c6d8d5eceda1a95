"""Promotion by events: an image is pushed, curated, deployed, soaked and approved, and waits where it has to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from cscm_laptop.laptop import LaptopState
from supply_chain.model.container import ENVIRONMENT
from supply_chain.readiness import probe_readiness
from tests.support.access import Prefect
from tests.support.application import Application
from tests.support.command import cscm
from tests.support.eyes import containers
from tests.support.place import placed
from tests.support.ui import Ui
from tests.support.waiting import eventually

FIRST, SECOND, NAME = "promoted-first", "promoted-second", "promoted"

pytestmark = pytest.mark.real


@dataclass(frozen=True)
class Way:
    """An application with two environments, and clients to observe both and the runs."""

    application: Application
    prefect: Prefect
    ports: dict[str, int]

    def answers(self, environment: str) -> bool:
        return not probe_readiness("127.0.0.1", self.ports[environment], "/healthz")

    def build(self) -> str:
        """Build, test and offer the next revision; return the digest."""
        self.application.next_revision()
        ran = cscm("build", str(self.application.path), "--json")
        assert ran.status == 0, ran.stderr
        return str(ran.result["ref"]["digest"])

    def promotions(self, digest: str) -> list[dict[str, Any]]:
        """Return the runs that promote an image, the latest first."""
        found = self.prefect.ask(
            "flow_runs/filter",
            {"flows": {"name": {"any_": ["promote"]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 100},
        )
        return [run for run in found if run["parameters"]["image"].endswith(digest)]

    def ended(self, digest: str, name: str) -> list[dict[str, Any]]:
        return [run for run in self.promotions(digest) if run["state_name"] == name]


@pytest.fixture(scope="module")
def way(
    bases: None, laptop: LaptopState, prefect: Prefect, program: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Way]:
    """The application and its environments, with promotions enabled."""
    path = tmp_path_factory.mktemp("promoted") / NAME
    application = Application(NAME, path)
    application.write(program, f"{FIRST}, {SECOND}")
    with placed(FIRST, [NAME], {"soak": "1"}) as first, placed(SECOND, [NAME], {"approval": "required"}) as second:
        assert cscm("unfreeze").status == 0
        yield Way(application, prefect, {FIRST: first[NAME], SECOND: second[NAME]})
        assert cscm("freeze", "--reason", "tests run tiers by hand").status == 0


@pytest.fixture(scope="module")
def offered(way: Way) -> str:
    """The digest of an image that a CI job pushed and signed."""
    return way.build()


def test_push_is_curated_and_deployed_to_the_first_environment(way: Way, offered: str) -> None:
    """Events of ECR and of curation start every run."""
    eventually(lambda: way.answers(FIRST), describe=lambda: way.promotions(offered))
    assert not way.answers(SECOND)


def test_repeated_event_starts_no_second_promotion(way: Way, laptop: LaptopState, offered: str) -> None:
    """The run ends in the state Unneeded."""
    eventually(lambda: way.answers(FIRST))
    before = len(way.ended(offered, "Unneeded"))
    for kind, repository, labels in (
        ("pushed", f"dev/{NAME}", {}),
        ("admitted", f"curated/{NAME}", {"cscm.gate": "release"}),
    ):
        event = {
            "event": f"cscm.image.{kind}",
            "resource": {"prefect.resource.id": f"cscm.image.{offered}", "cscm.origin": "tier", **labels},
            "payload": {"image": f"{repository}@{offered}", "origin": "tier"},
            "occurred": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "id": f"00000000-0000-0000-0000-{int(time.time() * 1000) % 10**12:012}",
        }
        answer = httpx.post(f"{laptop.prefect_api_url}/events", json=[event], auth=way.prefect.auth, timeout=30)
        assert answer.status_code < 300, answer.text
    eventually(lambda: len(way.ended(offered, "Unneeded")) >= before + 2, describe=lambda: way.promotions(offered))


def test_soaked_image_waits_for_approval_and_is_then_deployed(way: Way, offered: str, ui: Ui) -> None:
    """A person decides in Prefect's form, and the decision is signed before the deployment."""
    eventually(lambda: way.answers(FIRST))
    for _ in range(2):
        assert cscm("monitor", "--environment", FIRST).status == 0
        time.sleep(1.5)

    def waiting() -> list[dict[str, Any]]:
        return way.ended(offered, "Suspended")

    (run, *_) = eventually(waiting, describe=lambda: way.promotions(offered))
    assert not way.answers(SECOND)
    refused = cscm("deploy", f"curated/{NAME}@{offered}", "--environment", SECOND, "--json")
    assert refused.status == 3 and "approval.missing" in refused.stdout
    answer(ui, run["id"], "it soaked")

    eventually(lambda: way.answers(SECOND), describe=lambda: way.promotions(offered))
    line = f"approved for {SECOND} by ann: it soaked"
    eventually(lambda: line in cscm("explain", offered).stdout)


def answer(ui: Ui, run: str, why: str) -> None:
    """Approve in the form of a suspended run, as a person does."""
    ui.open(f"runs/flow-run/{run}")
    ui.shows("Suspended")
    ui.page.get_by_role("button", name="Open menu").click()
    ui.page.get_by_role("menuitem", name="Resume").click()
    form = ui.page.get_by_role("dialog")
    form.get_by_label("Approve").check()
    form.get_by_label("Decided by").fill("ann")
    form.get_by_label("Reason").fill(why)
    form.get_by_role("button", name="Resume").click()
    form.wait_for(state="hidden")


def test_promotion_freeze_holds_image_until_the_next_catch_up(
    way: Way, offered: str, engine: docker.DockerClient
) -> None:
    """Nothing is lost during the freeze."""
    assert cscm("freeze", "--reason", "holidays", "--by", "ann").status == 0
    assert "promotions are frozen by ann since" in cscm("status").stdout
    digest = way.build()
    (run, *_) = eventually(lambda: way.ended(digest, "Frozen"), describe=lambda: way.promotions(digest))
    assert "by ann" in run["state"]["message"]
    assert cscm("unfreeze").status == 0
    way.prefect.completed("catch-up/curation")  # `on-admitted` goes on by itself

    def starts() -> bool:
        return any(each.attrs["Image"] == digest for each in containers(engine, **{ENVIRONMENT: FIRST}))

    def deployed() -> bool:
        found = cscm("where", digest, "--json").result
        return any(place["running"] for place in found)

    eventually(starts, describe=lambda: way.promotions(digest))  # takes less than a command
    eventually(deployed, describe=lambda: way.promotions(digest))
    way.prefect.completed("catch-up/execution")
