"""An image goes its way by events alone: pushed, curated, deployed, soaked, approved; and waits where it has to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cscm_laptop.laptop import LaptopState
from supply_chain.readiness import trouble_at
from tests.support.access import Prefect
from tests.support.application import Application
from tests.support.command import cscm
from tests.support.place import placed
from tests.support.waiting import eventually
from tests.ui.conftest import Ui

FIRST, SECOND, NAME = "promoted-first", "promoted-second", "promoted"
PATIENCE = 120.0

pytestmark = pytest.mark.real


@dataclass(frozen=True)
class Way:
    """An application with two environments before it, and eyes on both and on the runs."""

    application: Application
    prefect: Prefect
    ports: dict[str, int]

    def answers(self, environment: str) -> bool:
        return not trouble_at("127.0.0.1", self.ports[environment], "/healthz")

    def develop(self) -> str:
        """Build, test and offer the next revision, and nothing more; the image."""
        self.application.next_revision()
        ran = cscm("develop", str(self.application.path), "--json")
        assert ran.status == 0, ran.stderr
        return str(ran.result["ref"]["digest"])

    def promotions(self, digest: str) -> list[dict[str, Any]]:
        """The runs that promote an image, the last first."""
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
    """Promotions go on while these tests run."""
    path = tmp_path_factory.mktemp("promoted") / NAME
    application = Application(NAME, path)
    application.write(program, f"{FIRST}, {SECOND}")
    with placed(FIRST, [NAME], {"soak": "1"}) as first, placed(SECOND, [NAME], {"approval": "required"}) as second:
        assert cscm("thaw").status == 0
        yield Way(application, prefect, {FIRST: first[NAME], SECOND: second[NAME]})
        assert cscm("freeze", "--why", "tests run tiers by hand").status == 0


@pytest.fixture(scope="module")
def offered(way: Way) -> str:
    """An image that somebody's CI pushed and signed."""
    return way.develop()


def test_a_push_is_curated_and_runs_in_the_first_environment(way: Way, offered: str) -> None:
    """By what ECR says of it, and by what curation then says: nobody starts anything."""
    eventually(lambda: way.answers(FIRST), PATIENCE, lambda: way.promotions(offered))
    assert not way.answers(SECOND)


def test_an_event_that_comes_again_changes_nothing(way: Way, laptop: LaptopState, offered: str) -> None:
    """It ends at what is there."""
    eventually(lambda: way.answers(FIRST), PATIENCE)
    before = len(way.ended(offered, "Unneeded"))
    for kind, repository, labels in (
        ("pushed", f"dev/{NAME}", {}),
        ("admitted", f"curated/{NAME}", {"cscm.gate": "curation"}),
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
    eventually(lambda: len(way.ended(offered, "Unneeded")) >= before + 2, PATIENCE, lambda: way.promotions(offered))


def test_a_soak_leads_to_a_form_and_a_yes_to_the_next_environment(way: Way, offered: str, ui: Ui) -> None:
    """The run waits for a person in the UI; who decided, and why, is signed before anything is deployed."""
    eventually(lambda: way.answers(FIRST), PATIENCE)
    for _ in range(2):
        assert cscm("monitor", "--environment", FIRST).status == 0
        time.sleep(1.5)

    def waiting() -> list[dict[str, Any]]:
        return way.ended(offered, "Suspended")

    (run, *_) = eventually(waiting, PATIENCE, lambda: way.promotions(offered))
    assert not way.answers(SECOND)
    refused = cscm("execute", f"curated/{NAME}@{offered}", "--environment", SECOND, "--json")
    assert refused.status == 3 and "approval.missing" in refused.stdout
    answer(ui, run["id"], "it soaked")

    eventually(lambda: way.answers(SECOND), PATIENCE, lambda: way.promotions(offered))
    said = f"approved for {SECOND} by ann: it soaked"
    eventually(lambda: said in cscm("explain", offered).stdout, PATIENCE)


def answer(ui: Ui, run: str, why: str) -> None:
    """Say yes to what a run asks, as a person does in its page."""
    ui.open(f"runs/flow-run/{run}")
    ui.shows("Suspended")
    ui.page.get_by_role("button", name="Open menu").click()
    ui.page.get_by_role("menuitem", name="Resume").click()
    form = ui.page.get_by_role("dialog")
    form.get_by_label("Approve").check()
    form.get_by_label("Who").fill("ann")
    form.get_by_label("Why").fill(why)
    form.get_by_role("button", name="Resume").click()
    form.wait_for(state="hidden")


def test_a_freeze_holds_what_comes_and_the_reconcile_finds_it_after_it(way: Way, offered: str) -> None:
    """Nothing is lost with it."""
    assert cscm("freeze", "--why", "holidays", "--by", "ann").status == 0
    assert "promotions are frozen by ann since" in cscm("status").stdout
    digest = way.develop()
    (run, *_) = eventually(lambda: way.ended(digest, "Frozen"), PATIENCE, lambda: way.promotions(digest))
    assert "by ann" in run["state"]["message"]
    assert cscm("thaw").status == 0
    for tier in ("curation", "execution"):
        way.prefect.start(f"reconcile/{tier}")

    def deployed() -> bool:
        found = cscm("where", digest, "--json").result
        return any(place["running"] for place in found)

    eventually(deployed, PATIENCE, lambda: way.promotions(digest))
