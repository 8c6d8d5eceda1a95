"""The flow of a rescan: bases first, all images in chunks, tables for operators, and no image skipped."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import ArtifactSort
from prefect.variables import Variable

import flows.rescan
import supply_chain.fleet.rescan
import tasks.rescan
from blocks import Inventory
from blocks.curation_ports import CurationPorts
from flows.rescan import rescan
from orchestration import rescan_report
from supply_chain.curation.rescan import Change, News
from supply_chain.errors import DiskFull, RescanIncomplete
from supply_chain.fleet.exposure import RescanResult, Unjudged, make_finding_key
from supply_chain.fleet.image import FleetImage, Running
from supply_chain.model.image import ImageRef, StorageStatus, StoredManifest
from tests.support.present import present


@dataclass
class RescanStandIn:
    """Returns the results that a test sets for each image, and records the order of the calls."""

    found: dict[str, Any]
    asked: list[str] = field(default_factory=list)
    on_result: object = None
    last_full_report_time: object = None
    fixed: list[Any] = field(default_factory=list)
    scanner: object = None


@pytest.fixture
def fleet(machine, monkeypatch, make):
    """Set up a flow over images with given results."""
    forgotten: list[Any] = []
    events, messages, compared, signed, known_by = [], [], [], [], set()

    def emit(name, ref, source, number, **payload):
        events.append((name, payload))
        known_by.add(number)

    monkeypatch.setattr(rescan_report, "REPORTED", f"rescan_reported_{uuid4().hex}")

    async def notify(subject, body, _):
        messages.append((subject, body))

    def run(images, found):
        stand_in = RescanStandIn(found, scanner=SimpleNamespace(identify=lambda: ("0.1", make.report().database)))
        workbench = SimpleNamespace(
            pinned_scanner=lambda: nullcontext(stand_in.scanner),
            forget_stale=forgotten.append,
            notify="supply-chain-log/operators",
        )

        async def load(value):
            return value

        ports = SimpleNamespace(workbench=workbench, rescan_ports=lambda scanner: stand_in)
        monkeypatch.setattr(CurationPorts, "aload", lambda: load(ports))
        monkeypatch.setattr(Inventory, "aload", lambda name: load(None))
        monkeypatch.setattr(flows.rescan, "list_all_images_step", lambda *_: load(tuple(images)))
        monkeypatch.setattr(flows.rescan, "RETRY_PAUSES", (0.01, 0.01))
        monkeypatch.setattr(rescan_report, "notify", notify)
        monkeypatch.setattr(tasks.rescan, "emit", emit)
        monkeypatch.setattr(tasks.rescan, "is_recorded", known_by.__contains__)
        monkeypatch.setattr(rescan_report, "emit_event", lambda *_, payload: signed.append(payload["reports"]))

        def judged(chunk, stand_in, only, fixed):
            stand_in.asked += [each.ref.application for each in chunk]
            compared.append(stand_in.last_full_report_time)
            stand_in.fixed.append(fixed)
            answers = []
            for each in chunk:
                answer = stand_in.found[each.ref.application]
                if isinstance(answer, Exception):
                    raise answer
                answers.append(answer.pop(0) if isinstance(answer, list) else answer)
                stand_in.on_result(each.ref, answers[-1])
            return tuple(answers)

        monkeypatch.setattr(tasks.rescan, "rescan", judged)
        return stand_in

    return SimpleNamespace(
        run=run, forgotten=forgotten, events=events, messages=messages, compared=compared, signed=signed
    )


def make_image(make, name):
    ref = ImageRef(repository=f"curated/{name}", digest=make.digest_of(name.encode()))
    return FleetImage(ref=ref, stored=StoredManifest(digest=ref.digest, pushed_at=make.noon, size=1))


def make_result(make, name, **changes):
    return RescanResult(**{"ref": make_image(make, name).ref, "owner": "web", "passes": True, **changes})


async def artifacts():
    """Return the newest artifact of each key."""
    async with get_client() as client:
        found = await client.read_artifacts(sort=ArtifactSort.CREATED_DESC)
    return {each.key: each for each in sorted(found, key=lambda each: present(each.created))}


async def test_rescan_judges_bases_first_and_reports_changes(fleet, make):
    """It publishes tables by exposure and by owner, and emits an event for the changed verdict."""
    change, news = Change(before=True, after=False), News(before=True, after=False, since=make.digest_of(b"verdict"))
    worse = make_result(
        make, "hello", passes=False, news=news, change=change, signed=True, worse=(make.finding("critical"),)
    )
    cold = make_image(make, "cold")
    cold = cold.model_copy(update={"stored": cold.stored.model_copy(update={"status": StorageStatus.ARCHIVED})})
    stand_in = fleet.run(
        [cold, *(make_image(make, name) for name in ("hello", "base/python", "quiet"))],
        {"hello": worse, "base/python": make_result(make, "base/python"), "quiet": make_result(make, "quiet")},
    )

    done = await rescan()

    assert stand_in.asked == ["base/python", "hello", "quiet"]
    assert (done.images, done.changed, done.signed, done.reported, done.archived) == (3, 1, 1, (worse,), 1)
    assert [(name, payload["from"], payload["to"]) for name, payload in fleet.events] == [
        ("image.verdict-changed", "passed", "refused")
    ]
    assert fleet.signed == [1], "the inventory is told that there is something to read"
    assert fleet.forgotten == [make.report().database]
    written = await artifacts()
    assert {"rescan", "rescan-owners", "rescan-summary", "rescan-progress"} <= written.keys()
    ((subject, message),) = fleet.messages
    assert "hello" in message and subject.startswith("Rescan: ")
    assert "CVE-2026-0001 in openssl" in written["rescan"].data and "3 of 3" in written["rescan-progress"].description


async def test_archived_image_that_runs_is_rescanned(fleet, make):
    """A block archives the image but does not stop it, so new findings must be reported."""
    running = Running(environment="production", application="hot", container="c", name="n", address="x", host="h",
                      since=make.noon)  # fmt: skip
    archived = [make_image(make, name) for name in ("cold", "hot")]
    cold, hot = (
        each.model_copy(update={"stored": each.stored.model_copy(update={"status": StorageStatus.ARCHIVED})})
        for each in archived
    )
    blocked = make_result(make, "hot", passes=False, running=("production",), in_production=True)
    stand_in = fleet.run([cold, hot.model_copy(update={"running": (running,)})], {"hot": blocked})

    done = await rescan()

    assert stand_in.asked == ["hot"] and (done.images, done.archived, done.reported) == (1, 1, (blocked,))


async def test_older_base_images_are_compared_with_newest(fleet, make):
    """The push time decides, not the order of the rescan; an image without findings is the best."""
    new, old = (make_image(make, "base/python"), make_image(make, "base/python"))
    old = old.model_copy(
        update={
            "ref": old.ref.model_copy(update={"digest": make.digest_of(b"old")}),
            "stored": old.stored.model_copy(update={"pushed_at": make.noon - timedelta(days=1)}),
        }
    )
    flaw = make.finding("high")
    found = [
        RescanResult(ref=new.ref, passes=True),
        RescanResult(ref=old.ref, passes=True, findings=(flaw,)),
    ]
    stand_in = fleet.run(
        [old, make_image(make, "hello"), new], {"base/python": found, "hello": make_result(make, "hello")}
    )

    await rescan()

    assert stand_in.asked == ["base/python", "base/python", "hello"]
    assert stand_in.fixed[-1] == {old.ref.digest: (new.ref, frozenset({make_finding_key(flaw)}))}


async def test_image_that_cannot_be_judged_fails_run_after_all_others(fleet, make):
    """The error names the image; a temporary failure is retried and then not reported."""
    lost = Unjudged(ref=make_image(make, "lost").ref, code="evidence.invalid", message="it is damaged")
    late = Unjudged(ref=make_image(make, "late").ref, code="registry.unavailable", message="down", retryable=True)
    stand_in = fleet.run(
        [make_image(make, name) for name in ("lost", "late", "well")],
        {"lost": lost, "late": [late, make_result(make, "late")], "well": make_result(make, "well")},
    )

    with pytest.raises(RescanIncomplete, match=r"1 image could not.*\n.*curated/lost@.*it is damaged"):
        await rescan()
    assert stand_in.asked == ["lost", "late", "well", "late"]
    assert "NOT JUDGED" in (await artifacts())["rescan"].data


async def test_rescan_compares_with_last_complete_report(fleet, make):
    """A failed or partial run did not report on all images."""
    hello, change = make_image(make, "hello"), Change(before=True, after=False)
    late = make_result(make, "hello", change=change)

    fleet.run([hello], {"hello": late})
    some = await rescan(packages=["openssl"])
    fleet.run([hello], {"hello": DiskFull("full\nx")})
    with pytest.raises(DiskFull):
        await rescan()
    fleet.run([hello], {"hello": late})
    complete = await rescan()
    reported_at = await rescan_report.find_last_full_report_time(make.noon)
    await rescan()

    *before, last = fleet.compared
    assert set(before) == {some.started}, "where nobody knows what was told, what was there before the first run counts"
    assert last == reported_at > complete.started
    assert complete.changed == 1 and "before: passed" in (await artifacts())["rescan"].data and fleet.events == []
    await Variable.aset(rescan_report.REPORTED, "yesterday", overwrite=True)
    assert (
        await rescan_report.find_last_full_report_time(make.noon)
        == make.noon
        == await rescan_report.find_last_full_report_time(reported_at)
    )


async def test_retryable_failure_keeps_time_of_last_report(fleet, make):
    """The run that judges the image reports the change; a permanent failure does not delay the time."""
    reported_at = await rescan_report.find_last_full_report_time(make.noon)
    for retryable in (True, False):
        lost = Unjudged(ref=make_image(make, "lost").ref, code="x", message="down", retryable=retryable)
        fleet.run([make_image(make, "lost")], {"lost": lost})
        with pytest.raises(RescanIncomplete):
            await rescan()
        assert (await rescan_report.find_last_full_report_time(make.noon) == reported_at) is retryable


async def test_change_is_reported_once_over_interrupted_runs(fleet, make):
    """A change that was not reported can be read from the signed verdicts."""
    news = News(before=True, after=False, since=make.digest_of(b"verdict"))
    worse = make_result(make, "hello", passes=False, news=news)
    fleet.run([make_image(make, "hello")], {"hello": worse})

    await rescan()
    await rescan()
    other = news.model_copy(update={"since": make.other})
    fleet.run([make_image(make, "hello")], {"hello": worse.model_copy(update={"news": other})})
    await rescan()

    assert [name for name, _ in fleet.events] == ["image.verdict-changed"] * 2 and fleet.signed == []


async def test_archived_base_is_compared_by_its_last_report(fleet, make, monkeypatch):
    """A blocked base is archived, and its dependents need a rebuild most."""
    new, old = make_image(make, "base/python"), make_image(make, "base/python")
    old = old.model_copy(
        update={
            "ref": old.ref.model_copy(update={"digest": make.digest_of(b"old")}),
            "stored": old.stored.model_copy(update={"status": StorageStatus.ARCHIVED}),
        }
    )
    flaw = make.finding("high")
    stand_in = fleet.run(
        [old, new, make_image(make, "hello")],
        {"base/python": RescanResult(ref=new.ref, passes=True), "hello": make_result(make, "hello")},
    )
    as_signed = RescanResult(ref=old.ref, passes=False, findings=(flaw,))
    monkeypatch.setattr(supply_chain.fleet.rescan, "read_signed_result", lambda image, stand_in: as_signed)

    done = await rescan()

    assert stand_in.asked == ["base/python", "hello"] and (done.images, done.archived) == (2, 1)
    assert stand_in.fixed[-1] == {old.ref.digest: (new.ref, frozenset({make_finding_key(flaw)}))}


async def test_failed_rescan_reports_findings_so_far(fleet, make):
    """They must not wait for the next run."""
    worse = make_result(make, "hello", worse=(make.finding("critical"),), signed=True)
    fleet.run(
        [make_image(make, name) for name in ("base/python", "hello")],
        {"base/python": worse, "hello": DiskFull("full\nx")},
    )

    with pytest.raises(DiskFull):
        await rescan()

    ((subject, _),) = fleet.messages
    assert "broke off: 1 of 2 images not rescanned" in subject and "1 report signed" in subject
    assert fleet.forgotten == []
    page = (await artifacts())["rescan"].data
    assert "CVE-2026-0001 in openssl" in page and "1 of 2 images not rescanned" in page


async def test_rescan_for_packages_has_its_own_tables(fleet, make):
    """They also say if no image has the packages."""
    fleet.run([make_image(make, "hello")], {"hello": make_result(make, "hello", worse=(make.finding("critical"),))})
    await rescan()
    fleet.run([make_image(make, "hello")], {"hello": None})

    await rescan(packages=["opensll"])

    written = await artifacts()
    assert "CVE-2026-0001 in openssl" in written["rescan"].data
    assert {"rescan-packages-owners", "rescan-packages-summary"} <= written.keys()
    assert "no curated image that can be pulled contains opensll" in written["rescan-packages"].data
