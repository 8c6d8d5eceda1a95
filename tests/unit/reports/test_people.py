"""People and waivers in the terminal and on the daily report."""

from datetime import timedelta
from typing import Any

from supply_chain.fleet.waivers import WaiverUse
from supply_chain.model.image import ImageRef
from supply_chain.policy.people import PeopleDocument
from supply_chain.policy.waivers import WaiverReport, WaiverState
from supply_chain.reports import list_waiver_notices, people_lines, waiver_attention_table, waiver_lines
from tests.support.builders import NOON
from tests.support.signer import EcdsaSigner

IMAGE = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
ACTIVE = WaiverReport(
    name="zlib", state=WaiverState.ACTIVE, accepts=("CVE-2026-1",), scope=("hello", "staging"), reason="not reachable",
    ticket="SEC-1", requester="bob", by="ann", expires=NOON + timedelta(days=30),
)  # fmt: skip
INERT = WaiverReport(name="bad", state=WaiverState.INERT, why="nobody signed it")
USED = WaiverUse(waiver=ACTIVE, images=(IMAGE,), owners=("sales",))


def test_people_are_listed_with_their_roles():
    """One line for each."""
    roles = {
        "ann": {"rules": ["scan.*"], "vulnerabilities": "high", "days": 1}, "bob": {"days": 7, "rules": ["a.b"]},
        "carl": {"days": 7}, "dora": None,
    }  # fmt: skip
    people: dict[str, Any] = {name: {"keys": [EcdsaSigner().public], "waive": role} for name, role in roles.items()}
    people["dora"]["approve"] = ["staging", "production"]
    people["carl"]["policies"] = True
    people["carl"]["identities"] = [{"issuer": "https://accounts.example", "subject": "carl@shop.example"}]
    people["carl"]["hold"] = people["bob"]["block"] = people["bob"]["hold"] = True
    people["bob"]["break_glass"] = {"environments": ["staging", "production"], "hours": 2}
    vex = {"issuers": {"acme": {"keys": [EcdsaSigner().public]}}}
    builders = {"ci": {"id": "https://builds.example/v1", "keys": [EcdsaSigner().public], "level": 3}}
    document = PeopleDocument.model_validate(
        {"installation": "example", "expires": NOON, "people": people, "vex": vex, "builders": builders}
    )

    assert people_lines(document).splitlines() == [
        "installation example, expires 2026-11-24",
        "ann: may waive the rules scan.* and vulnerabilities up to high, for 1 day",
        "bob: may block and hold; may waive the rules a.b, for 7 days; may break the glass for staging, production, "
        "for 2 hours",
        "carl: signs keyless as carl@shop.example of https://accounts.example; may hold; may change policies; "
        "may waive nothing, for 7 days",
        "dora: may approve for staging, production; may waive nothing",
        "VEX documents of: acme",
        "builder ci: build level 3, as https://builds.example/v1",
    ]


def test_waivers_are_listed_with_state_signer_and_use():
    """One without effect says why."""
    unused = WaiverUse(waiver=ACTIVE)
    lines = waiver_lines([USED, unused, WaiverUse(waiver=INERT)]).splitlines()

    assert lines[:4] == [
        "zlib: active until 2026-12-24",
        "    accepts CVE-2026-1 for hello, staging",
        "    not reachable (SEC-1); requested by bob, signed by ann",
        "    1 image, of sales",
    ]
    assert lines[7:] == ["    no image rests on it", "bad: inert (nobody signed it)"]
    assert waiver_lines([]) == "there are no waivers"


def test_daily_report_names_waivers_that_need_attention():
    """Those that end within a week, that nobody needs, and that have no effect."""
    uses = [USED, WaiverUse(waiver=INERT)]
    assert "zlib" not in waiver_attention_table(uses, NOON)

    page = waiver_attention_table([*uses, WaiverUse(waiver=ACTIVE.model_copy(update={"name": "idle"}))], NOON)
    assert r"| idle | no image rests on it; remove it, unless one will | 2026-12-24 | bob |  |" in page
    assert "| bad | inert: nobody signed it |" in page
    soon = waiver_attention_table(uses, NOON + timedelta(days=23))
    assert "| zlib | expires soon; 1 image, of sales | 2026-12-24 | bob | sales |" in soon
    assert waiver_attention_table([USED], NOON) == ""


def test_owners_are_notified_of_each_stage_of_a_waiver_once():
    """The notice is the same the next day, and although more images rest on the waiver."""
    idle = WaiverUse(waiver=ACTIVE.model_copy(update={"name": "idle"}))
    (unused, inert) = list_waiver_notices([USED, idle, WaiverUse(waiver=INERT)], NOON)
    assert (unused.subject, inert.subject) == (
        "Waiver idle: no image rests on it; remove it, unless one will", "Waiver bad: inert: nobody signed it",
    )  # fmt: skip
    assert inert.body == "inert: nobody signed it"
    more = WaiverUse(waiver=ACTIVE, images=(IMAGE, IMAGE), owners=("sales", "web"))
    first, second = (list_waiver_notices([use], NOON + timedelta(days=n))[0] for use, n in ((USED, 23), (more, 24)))
    assert first.once == second.once and first.subject == "Waiver zlib: expires soon"
    assert first.body.splitlines() == [
        "expires soon; 1 image, of sales", "requested by: bob", "signed by: ann", "owners of its images: sales",
        "expires: 2026-12-24",
    ]  # fmt: skip
    expired = ACTIVE.model_copy(update={"state": WaiverState.EXPIRED, "why": "it expired on 2026-12-24"})
    (last,) = list_waiver_notices([WaiverUse(waiver=expired)], NOON + timedelta(days=31))
    assert last.once != first.once and last.subject == "Waiver zlib: expired: it expired on 2026-12-24"
    prolonged = ACTIVE.model_copy(update={"expires": NOON + timedelta(days=60)})
    (again,) = list_waiver_notices([WaiverUse(waiver=prolonged, images=(IMAGE,))], NOON + timedelta(days=55))
    assert again.once != first.once
