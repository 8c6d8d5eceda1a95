"""The flow of a rescan: bases first, all images in chunks, tables for operators, and no image passed over."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import ArtifactSort
from prefect.variables import Variable

import flows.rescan
import supply_chain.fleet.rescan
import tasks.rescan
from flows.rescan import rescan
from supply_chain.curation.rescan import Change, News
from supply_chain.errors import DiskFull, RescanIncomplete
from supply_chain.fleet.exposure import Judged, Unjudged, key_of
from supply_chain.fleet.known import KnownImage, Running
from supply_chain.model.image import ImageRef, StorageStatus, StoredManifest


@dataclass
class Bench:
    """Answers for each image what the test says, and keeps the order in which it is asked."""

    found: dict
    asked: list = field(default_factory=list)
    told: object = None
    told_last: object = None
    fixed: list = field(default_factory=list)
    scanner: object = None


@pytest.fixture
def fleet(machine, monkeypatch, make):
    """A flow over images of which the test says what is found."""
    forgotten, events, messages, compared, signed, known_by = [], [], [], [], [], set()

    def emit(name, ref, source, number, **payload):
        events.append((name, payload))
        known_by.add(number)

    monkeypatch.setattr(tasks.rescan, "TOLD", f"rescan_told_{uuid4().hex}")

    def run(images, found):
        bench = Bench(found, scanner=SimpleNamespace(current=lambda: ("0.1", make.report().database)))
        workbench = SimpleNamespace(
            pinned_grype=lambda: nullcontext(bench.scanner),
            forget_stale=forgotten.append,
            notify="supply-chain-log/operators",
        )

        async def load(value):
            return value

        monkeypatch.setattr(flows.rescan.Tier, "aload", lambda name: load(None))
        monkeypatch.setattr(flows.rescan.Workbench, "aload", lambda name: load(workbench))
        monkeypatch.setattr(flows.rescan.Inventory, "aload", lambda name: load(None))
        monkeypatch.setattr(tasks.rescan, "rescan_ports", lambda *_: bench)
        monkeypatch.setattr(flows.rescan, "curated_images", lambda *_: load(tuple(images)))
        monkeypatch.setattr(flows.rescan, "AGAIN", (0.01, 0.01))
        monkeypatch.setattr(tasks.rescan, "notify", lambda subject, body, _: load(messages.append((subject, body))))
        monkeypatch.setattr(tasks.rescan, "emit", emit)
        monkeypatch.setattr(tasks.rescan, "is_recorded", known_by.__contains__)
        monkeypatch.setattr(tasks.rescan, "emit_event", lambda *_, payload: signed.append(payload["reports"]))

        def judged(chunk, bench, only, fixed):
            bench.asked += [each.ref.application for each in chunk]
            compared.append(bench.told_last)
            bench.fixed.append(fixed)
            answers = []
            for each in chunk:
                answer = bench.found[each.ref.application]
                if isinstance(answer, Exception):
                    raise answer
                answers.append(answer.pop(0) if isinstance(answer, list) else answer)
                bench.told(each.ref, answers[-1])
            return tuple(answers)

        monkeypatch.setattr(tasks.rescan, "rescan_images", judged)
        return bench

    return SimpleNamespace(
        run=run, forgotten=forgotten, events=events, messages=messages, compared=compared, signed=signed
    )


def known(make, name):
    ref = ImageRef(repository=f"curated/{name}", digest=make.digest_of(name.encode()))
    return KnownImage(ref=ref, stored=StoredManifest(digest=ref.digest, pushed_at=make.noon, size=1))


def seen(make, name, **changes):
    return Judged(**{"ref": known(make, name).ref, "owner": "web", "passes": True, **changes})


async def artifacts():
    """The newest of each key."""
    async with get_client() as client:
        found = await client.read_artifacts(sort=ArtifactSort.CREATED_DESC)
    return {each.key: each for each in sorted(found, key=lambda each: each.created)}


async def test_all_images_are_judged_bases_first_and_what_changed_is_told(fleet, make):
    """A table by exposure, one for owners, an event for the verdict that changed."""
    change, news = Change(before=True, after=False), News(before=True, after=False, since=make.digest_of(b"verdict"))
    worse = seen(make, "hello", passes=False, news=news, change=change, signed=True, worse=(make.finding("critical"),))
    cold = known(make, "cold")
    cold = cold.model_copy(update={"stored": cold.stored.model_copy(update={"status": StorageStatus.ARCHIVED})})
    bench = fleet.run(
        [cold, *(known(make, name) for name in ("hello", "base/python", "quiet"))],
        {"hello": worse, "base/python": seen(make, "base/python"), "quiet": seen(make, "quiet")},
    )

    done = await rescan()

    assert bench.asked == ["base/python", "hello", "quiet"]
    assert (done.images, done.changed, done.signed, done.told, done.archived) == (3, 1, 1, (worse,), 1)
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


async def test_what_is_archived_and_runs_is_looked_at_like_any_other(fleet, make):
    """A block archives it and stops nothing: what becomes known of it somebody has to hear."""
    running = Running(environment="production", application="hot", container="c", name="n", address="x", host="h",
                      since=make.noon)  # fmt: skip
    archived = [known(make, name) for name in ("cold", "hot")]
    cold, hot = (
        each.model_copy(update={"stored": each.stored.model_copy(update={"status": StorageStatus.ARCHIVED})})
        for each in archived
    )
    blocked = seen(make, "hot", passes=False, running=("production",), in_production=True)
    bench = fleet.run([cold, hot.model_copy(update={"running": (running,)})], {"hot": blocked})

    done = await rescan()

    assert bench.asked == ["hot"] and (done.images, done.archived, done.told) == (1, 1, (blocked,))


async def test_the_newest_of_a_base_is_what_the_older_ones_are_held_against(fleet, make):
    """By when it was pushed, whichever is done first; one without a finding is the best that there is."""
    new, old = (known(make, "base/python"), known(make, "base/python"))
    old = old.model_copy(
        update={
            "ref": old.ref.model_copy(update={"digest": make.digest_of(b"old")}),
            "stored": old.stored.model_copy(update={"pushed_at": make.noon - timedelta(days=1)}),
        }
    )
    flaw = make.finding("high")
    found = [
        Judged(ref=new.ref, passes=True),
        Judged(ref=old.ref, passes=True, findings=(flaw,)),
    ]
    bench = fleet.run([old, known(make, "hello"), new], {"base/python": found, "hello": seen(make, "hello")})

    await rescan()

    assert bench.asked == ["base/python", "base/python", "hello"]
    assert bench.fixed[-1] == {old.ref.digest: (new.ref, frozenset({key_of(flaw)}))}


async def test_an_image_that_is_not_judged_fails_the_run_after_all_others(fleet, make):
    """It is named with its error; what may be answered later is asked again, and then told no more."""
    lost = Unjudged(ref=known(make, "lost").ref, code="evidence.invalid", message="it is damaged")
    late = Unjudged(ref=known(make, "late").ref, code="registry.unavailable", message="down", retryable=True)
    bench = fleet.run(
        [known(make, name) for name in ("lost", "late", "well")],
        {"lost": lost, "late": [late, seen(make, "late")], "well": seen(make, "well")},
    )

    with pytest.raises(RescanIncomplete, match=r"1 image could not.*\n.*curated/lost@.*it is damaged"):
        await rescan()
    assert bench.asked == ["lost", "late", "well", "late"]
    assert "NOT JUDGED" in (await artifacts())["rescan"].data


async def test_a_run_compares_with_what_the_last_whole_one_told(fleet, make):
    """One that failed, or looked at some images only, told not all; nor is what it tells signed news."""
    hello, change = known(make, "hello"), Change(before=True, after=False)
    late = seen(make, "hello", change=change)

    fleet.run([hello], {"hello": late})
    some = await rescan(packages=["openssl"])
    fleet.run([hello], {"hello": DiskFull("full\nx")})
    with pytest.raises(DiskFull):
        await rescan()
    fleet.run([hello], {"hello": late})
    whole = await rescan()
    told = await tasks.rescan.told_last(make.noon)
    await rescan()

    *before, last = fleet.compared
    assert set(before) == {some.started}, "where nobody knows what was told, what was there before the first run counts"
    assert last == told > whole.started
    assert whole.changed == 1 and "before: passed" in (await artifacts())["rescan"].data and fleet.events == []
    await Variable.aset(tasks.rescan.TOLD, "yesterday", overwrite=True)
    assert await tasks.rescan.told_last(make.noon) == make.noon == await tasks.rescan.told_last(told)


async def test_where_an_image_may_still_be_judged_not_all_was_told(fleet, make):
    """What a killed run had signed of it is told by the run that judges it; nobody waits for what is lost."""
    told = await tasks.rescan.told_last(make.noon)
    for retryable in (True, False):
        lost = Unjudged(ref=known(make, "lost").ref, code="x", message="down", retryable=retryable)
        fleet.run([known(make, "lost")], {"lost": lost})
        with pytest.raises(RescanIncomplete):
            await rescan()
        assert (await tasks.rescan.told_last(make.noon) == told) is retryable


async def test_a_change_of_which_a_killed_run_told_is_told_once(fleet, make):
    """And one of which it did not is told by the next run: what it was is in the signed verdicts."""
    news = News(before=True, after=False, since=make.digest_of(b"verdict"))
    worse = seen(make, "hello", passes=False, news=news)
    fleet.run([known(make, "hello")], {"hello": worse})

    await rescan()
    await rescan()
    other = news.model_copy(update={"since": make.other})
    fleet.run([known(make, "hello")], {"hello": worse.model_copy(update={"news": other})})
    await rescan()

    assert [name for name, _ in fleet.events] == ["image.verdict-changed"] * 2 and fleet.signed == []


async def test_what_is_built_on_an_archived_base_is_held_against_its_last_report(fleet, make, monkeypatch):
    """A base that was blocked is archived, and then a proposal to build anew is needed most."""
    new, old = known(make, "base/python"), known(make, "base/python")
    old = old.model_copy(
        update={
            "ref": old.ref.model_copy(update={"digest": make.digest_of(b"old")}),
            "stored": old.stored.model_copy(update={"status": StorageStatus.ARCHIVED}),
        }
    )
    flaw = make.finding("high")
    bench = fleet.run(
        [old, new, known(make, "hello")],
        {"base/python": Judged(ref=new.ref, passes=True), "hello": seen(make, "hello")},
    )
    as_signed = Judged(ref=old.ref, passes=False, findings=(flaw,))
    monkeypatch.setattr(supply_chain.fleet.rescan, "read_signed_result", lambda image, bench: as_signed)

    done = await rescan()

    assert bench.asked == ["base/python", "hello"] and (done.images, done.archived) == (2, 1)
    assert bench.fixed[-1] == {old.ref.digest: (new.ref, frozenset({key_of(flaw)}))}


async def test_what_was_found_before_a_run_failed_is_told(fleet, make):
    """Not only by the next one."""
    worse = seen(make, "hello", worse=(make.finding("critical"),), signed=True)
    fleet.run(
        [known(make, name) for name in ("base/python", "hello")], {"base/python": worse, "hello": DiskFull("full\nx")}
    )

    with pytest.raises(DiskFull):
        await rescan()

    ((subject, _),) = fleet.messages
    assert "broke off: 1 of 2 images not looked at" in subject and "1 report signed" in subject
    assert fleet.forgotten == []
    told = (await artifacts())["rescan"].data
    assert "CVE-2026-0001 in openssl" in told and "1 of 2 images not looked at" in told


async def test_what_is_found_for_some_packages_leaves_the_tables_of_all(fleet, make):
    """It has its own, which say too where no image carries them."""
    fleet.run([known(make, "hello")], {"hello": seen(make, "hello", worse=(make.finding("critical"),))})
    await rescan()
    fleet.run([known(make, "hello")], {"hello": None})

    await rescan(packages=["opensll"])

    written = await artifacts()
    assert "CVE-2026-0001 in openssl" in written["rescan"].data
    assert {"rescan-packages-owners", "rescan-packages-summary"} <= written.keys()
    assert "no curated image that can be pulled carries opensll" in written["rescan-packages"].data
