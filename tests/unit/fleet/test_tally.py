"""The tally counts each image once and stores equal findings once."""

from types import SimpleNamespace

import pytest

from supply_chain.fleet.exposure import RescanResult, Unjudged
from supply_chain.fleet.image import FleetImage, Running
from supply_chain.fleet.tally import Tally
from supply_chain.model.image import ImageRef, StorageStatus, StoredManifest


def ref(number):
    return ImageRef(repository="curated/hello", digest=f"sha256:{number:064}")


@pytest.fixture
def tally(make):
    return Tally(4, "grype 0.1", make.report().database, make.noon, archived=7)


def test_tally_shares_equal_findings_between_images(tally, make):
    """Tens of thousands of images have the same findings of the same base."""
    for number in range(2):
        found = make.finding("high")
        tally.add(ref(number), RescanResult(ref=ref(number), passes=False, due=(found,), worse=(found.model_copy(),)))

    first, second = tally.results
    assert first.due == second.due == (make.finding("high"),)
    assert first.due[0] is first.worse[0] is second.due[0] is second.worse[0]
    assert tally.rescanned().reported == (first, second)


def test_tally_counts_repeated_image_once(tally, make):
    """A task may be retried, and a registry may answer later."""
    lost = Unjudged(ref=ref(1), code="registry.unavailable", message="down", retryable=True)
    tally.add(ref(1), lost)
    tally.add(ref(2), None)
    assert (tally.done, tally.unjudged, tally.percent) == (2, 1, 50.0)
    tally.add(ref(2), None)
    tally.add(ref(1), RescanResult(ref=ref(1), passes=True, signed=True))
    tally.add(ref(1), RescanResult(ref=ref(1), passes=True, signed=True))

    done = tally.rescanned()
    assert (done.images, done.images_without_packages, done.images_not_rescanned, done.signed, done.archived) == (
        1,
        1,
        2,
        1,
        7,
    )
    assert done.reported == done.unjudged == () and tally.unjudged == 0


def test_tally_does_not_wait_for_archived_image_that_runs_nowhere(make):
    """An archived image that runs has to be scanned."""
    running = Running(environment="", application="a", container="c", name="n", address="", host="h", since=make.noon)
    active = FleetImage(ref=ref(1), stored=StoredManifest(digest=ref(1).digest, pushed_at=make.noon, size=1))
    cold = active.model_copy(update={"stored": active.stored.model_copy(update={"status": StorageStatus.ARCHIVED})})
    images = [active, cold, cold.model_copy(update={"running": (running,)})]
    scanner = SimpleNamespace(identify=lambda: ("0.1", make.report().database))

    done = Tally.of(images, scanner, make.noon, ("openssl",)).rescanned()

    assert (done.images_not_rescanned, done.archived, done.packages) == (2, 1, ("openssl",))
    assert (done.scanner, done.database, done.started) == ("grype 0.1", make.report().database, make.noon)


def test_tally_lists_most_exposed_images_and_counts_all(tally, make, monkeypatch):
    """A page of tens of thousands of rows is useless."""
    monkeypatch.setattr("supply_chain.fleet.tally.MOST_REPORTED", 2)
    for number in range(5):
        running = ("staging",) if number == 3 else ()
        tally.add(
            ref(number), RescanResult(ref=ref(number), owner="web", passes=True, running=running, due=(make.finding(),))
        )

    done = tally.rescanned()
    assert [each.ref for each in done.reported] == [ref(3), ref(0)] and done.omitted == 3
    ((owner, due, running),) = [(each.owner, each.due, each.running) for each in done.applications]
    assert (owner, due, running) == ("web", 5, ("staging",))
