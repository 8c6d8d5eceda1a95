"""What the port `Inventory` promises, asked of it on SQLite and on PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from supply_chain.adapters.database import SqlInventory, open_inventory
from supply_chain.evidence.sbom import Package
from supply_chain.fleet.inventory import Entry
from supply_chain.fleet.known import BuiltOn, Judgement, KnownImage, Running, Scan, Seen
from supply_chain.model.image import Digest, ImageRef, StorageStatus, StoredManifest
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Reason
from supply_chain.vulnerability.findings import Database, Finding, Severity

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
ZLIB: Package = ("deb", "zlib1g", "pkg:deb/debian/zlib1g@1%3A1.2.13?arch=amd64&distro=debian-12")
FLASK: Package = ("python", "flask", "pkg:pypi/flask@3.0.0")


def digest(number: int) -> Digest:
    return f"sha256:{number:064x}"


def stored(number: int, **changes: Any) -> StoredManifest:
    return StoredManifest(**{"digest": digest(number), "pushed_at": NOON, "size": 1000, **changes})


def finding(name: str, **changes: Any) -> Finding:
    values = {"id": name, "severity": Severity.HIGH, "package": "zlib1g", "version": "1:1.2.13", "type": "deb"}
    return Finding(**{**values, **changes})


def scan(*findings: Finding) -> Scan:
    database = Database(kind="starter", built=NOON, digest="xxh64:0")
    return Scan(
        scanner="grype", scanner_version="1", database=database, scanned=NOON, sbom=digest(900), findings=findings
    )


def deployment(environment: str, at: datetime = NOON, container: str = "c1", front: str = "") -> Running:
    return Running(
        environment=environment, application="hello", container=container, name=f"{environment}-hello",
        front=front, address="http://127.0.0.1:8080/", host="laptop", since=at,
    )  # fmt: skip


def entry(number: int, application: str = "hello", packages: frozenset[Package] = frozenset(), **changes: Any) -> Entry:
    ref = ImageRef(repository=f"curated/{application}", digest=digest(number))
    at = changes.pop("pushed_at", NOON)
    values = {"ref": ref, "stored": stored(number, pushed_at=at), **changes}
    if packages:
        values = {"sbom": digest(800), "sbom_content": digest(801), **values}
    return Entry(KnownImage(**values), packages, mark=f"mark {number}")


def refs(images: Any) -> list[str]:
    return [f"{image.application} {int(image.ref.digest[-4:], 16)}" for image in images]


class InventoryContract:
    """Whoever inherits it has a fixture `address` of an empty database."""

    @pytest.fixture
    def inventory(self, address: str) -> SqlInventory:
        return open_inventory(address)

    def test_gives_back_what_it_was_given(self, inventory: SqlInventory) -> None:
        """Everything, also what stands in tables of its own; the last deployment in an environment runs."""
        judgement = Judgement(
            gate=Gate.RELEASE, passed=False, at=NOON, policy=digest(5), evidence=digest(6),
            reasons=(Reason(code="scan.exploited", fact="it is", remedy="update"),),
        )  # fmt: skip
        whole = entry(
            1, packages=frozenset({ZLIB}), kind="service", owner="web", environments=("staging",), signed=True,
            scan=scan(finding("CVE-2"), finding("CVE-1", aliases=("GHSA-x",))), judgements=(judgement,),
            bases=(BuiltOn(digest=digest(50), name="base/python"),), copies=(digest(51),),
            deployed=(deployment("staging"),), unreadable="",
        )  # fmt: skip
        inventory.put([whole])

        assert list(inventory.images()) == [
            whole.image.model_copy(update={"deployed": (), "running": (deployment("staging"),)})
        ]
        assert inventory.marks("hello") == {whole.image.ref: "mark 1"}
        assert inventory.applications() == ("hello",)

    def test_an_image_is_replaced_whole(self, inventory: SqlInventory) -> None:
        """Nothing of what was kept before is found any more."""
        inventory.put([entry(1, scan=scan(finding("CVE-1")), bases=(BuiltOn(digest=digest(50), name="b"),))])
        inventory.put([entry(1, scan=scan(finding("CVE-2")))])

        assert [len(inventory.affected(name)) for name in ("CVE-1", "CVE-2")] == [0, 1]
        assert inventory.built_on([digest(50)]) == ()
        assert refs(inventory.images()) == ["hello 1"]

    def test_all_or_none_are_kept(self, inventory: SqlInventory) -> None:
        """What fails in its midst leaves everything as it was."""
        inventory.put([entry(1)])

        def broken() -> Any:
            yield entry(1, signed=True)
            yield entry(2)
            raise KeyError("the registry went away")

        with pytest.raises(KeyError):
            inventory.put(broken())
        assert [image.signed for image in inventory.images()] == [False]

    def test_images_come_by_application_and_the_last_push_first(self, inventory: SqlInventory) -> None:
        """However many they are, and of one application where only that is wanted."""
        inventory.put([entry(1, "b"), entry(2, "b", pushed_at=LATER), entry(3, "a")])
        inventory.put([entry(number, "many") for number in range(1000, 1450)])

        everything = refs(inventory.images())
        assert everything[:3] == ["a 3", "b 2", "b 1"]
        assert everything[3:] == [f"many {number}" for number in range(1000, 1450)]
        assert refs(inventory.images("b")) == ["b 2", "b 1"]

    def test_an_answer_is_of_one_moment(self, inventory: SqlInventory, address: str) -> None:
        """Whoever reads an image again meanwhile, it is found, and with all that is known of it."""
        whole = entry(
            1, packages=frozenset({ZLIB}), scan=scan(finding("CVE-1")), bases=(BuiltOn(digest=digest(50), name="b"),),
            deployed=(deployment("staging"),),
        )  # fmt: skip
        inventory.put([whole, entry(2)])
        before, _ = inventory.images()
        another = open_inventory(address)
        event.listen(inventory.engine, "after_cursor_execute", lambda *_: another.put([whole, entry(2)]))

        assert [image for image in inventory.images() if image.ref == before.ref] == [before]
        assert inventory.affected("CVE-1") == inventory.of(digest(1)) == inventory.built_on([digest(50)]) == (before,)
        assert inventory.carrying("zlib1g") == ((before, ("zlib1g 1:1.2.13",)),)

    def test_what_is_read_again_while_many_are_listed_is_among_them(self, inventory: SqlInventory) -> None:
        """What was listed before counts by its name; what went meanwhile does not come."""
        many = [entry(number) for number in range(1000, 1250)]
        inventory.put(many)
        listing = iter(inventory.images())
        first = next(listing)
        inventory.put(many[210:220])
        inventory.forget([many[-1].image.ref])

        assert refs([first, *listing]) == [f"hello {number}" for number in range(1000, 1249)]

    def test_what_the_registry_lists_is_kept_beside_what_was_read(self, inventory: SqlInventory) -> None:
        """A pull changes when it was pulled, and nothing else has to be read for it."""
        inventory.put([entry(1, signed=True), entry(2)])
        inventory.listed("curated/hello", [stored(1, pulled_at=LATER, tags=("v1",))])

        first, second = inventory.images()
        assert (first.stored.pulled_at, first.stored.tags, first.signed) == (LATER, ("v1",), True)
        assert second.stored == stored(2)
        assert inventory.marks("hello")[first.ref] == "mark 1"

    def test_what_is_forgotten_is_found_nowhere(self, inventory: SqlInventory) -> None:
        """And the others stay."""
        kept, gone = entry(1, scan=scan(finding("CVE-1"))), entry(2, scan=scan(finding("CVE-1")))
        inventory.put([kept, gone])
        inventory.forget([gone.image.ref])

        assert refs(inventory.affected("CVE-1")) == ["hello 1"]
        assert list(inventory.marks("hello")) == [kept.image.ref]

    def test_a_later_deployment_takes_the_place_of_an_earlier_one(self, inventory: SqlInventory) -> None:
        """In its environment, of its application; a rollback runs again."""
        inventory.put(
            [
                entry(1, deployed=(deployment("staging"), deployment("production", LATER, "c9"))),
                entry(2, deployed=(deployment("staging", LATER, "c2"),)),
                entry(3, "other", deployed=(deployment("staging", NOON, "c3"),)),
            ]
        )

        one, two, three = inventory.images()
        assert [r.container for r in one.running] == ["c9"] and [r.container for r in one.deployed] == ["c1"]
        assert [r.container for r in two.running] == ["c2"] and two.deployed == ()
        assert [r.container for r in three.running] == ["c3"]
        assert sorted(r.container for r in inventory.running()) == ["c2", "c3", "c9"]

        inventory.put([entry(1, deployed=(deployment("staging"), deployment("staging", LATER + timedelta(1), "c4")))])
        one, two, _ = inventory.images()
        assert [r.container for r in one.running] == ["c4"] and [r.container for r in two.deployed] == ["c2"]

    def test_what_a_host_shows_is_told_with_the_deployment(self, inventory: SqlInventory) -> None:
        """And a container that nobody recorded is told too; what a host showed before is forgotten."""
        inventory.put([entry(1, deployed=(deployment("staging"),)), entry(2)])
        recorded = Seen(container="c1", name="staging-hello", digest=digest(1), running=True, healthy=True)
        stranger = Seen(container="c7", name="by-hand", digest=digest(2), running=True)
        inventory.saw("laptop", [recorded, stranger], LATER)
        inventory.saw("elsewhere", [], LATER)

        one, two = inventory.images()
        assert [(r.healthy, r.seen) for r in one.running] == [(True, LATER)]
        assert [r.container for r in inventory.running()] == ["c1"], "what is only seen should not run"
        assert [(r.environment, r.name, r.host, r.healthy) for r in two.running] == [("", "by-hand", "laptop", None)]
        inventory.saw("laptop", [], LATER)
        one, two = inventory.images()
        assert [(r.healthy, r.seen) for r in one.running] == [(None, None)] and two.running == ()

    def test_the_front_of_a_deployment_is_no_stranger(self, inventory: SqlInventory) -> None:
        """It runs where the deployment does, whichever images they are of."""
        inventory.put([entry(1, deployed=(deployment("staging", front="f1"),)), entry(2, "base/proxy")])
        inventory.saw("laptop", [Seen(container="f1", name="front", digest=digest(2), running=True)], LATER)

        proxy, _ = inventory.images()
        assert [(r.environment, r.application, r.name) for r in proxy.running] == [("staging", "hello", "front")]

    def test_a_vulnerability_is_found_by_every_name(self, inventory: SqlInventory) -> None:
        """Whichever way it is written."""
        inventory.put([entry(1, scan=scan(finding("CVE-1", aliases=("GHSA-aa-bb",)))), entry(2, scan=scan())])

        assert [refs(inventory.affected(name)) for name in ("CVE-1", "cve-1", "ghsa-AA-bb", "CVE-")] == [
            ["hello 1"], ["hello 1"], ["hello 1"], [],
        ]  # fmt: skip

    def test_a_package_is_found_with_and_without_its_version(self, inventory: SqlInventory) -> None:
        """Images that share an SBOM are all found."""
        inventory.put([entry(1, packages=frozenset({ZLIB, FLASK})), entry(2, packages=frozenset({ZLIB, FLASK}))])
        inventory.put([entry(3)])

        found = [
            refs(image for image, _ in inventory.carrying(*asked))
            for asked in (("zlib1g",), ("zlib1g", "1:1.2.13"), ("zlib1g", "1.2.13"), ("flask", "3.0.0"), ("zlib",))
        ]
        both = ["hello 1", "hello 2"]
        assert found == [both, both, [], both, []]

    def test_counts_the_images_with_another_version_alone(self, inventory: SqlInventory) -> None:
        """What has both, or one that nobody knows, may be meant; the name is whichever way it is written."""
        new: Package = ("deb", "zlib1g", "pkg:deb/debian/zlib1g@2")
        any_of_them: Package = ("deb", "zlib1g", "")
        for number, packages in enumerate([{ZLIB}, {new}, {ZLIB, new}, {any_of_them}, {FLASK}]):
            listed = {"sbom": digest(800), "sbom_content": digest(810 + number)}
            inventory.put([entry(number, packages=frozenset(packages), **listed)])

        counts = [inventory.in_other_versions("ZLIB1g", version) for version in ("2", "1:1.2.13", "3")]
        assert counts == [1, 1, 3] and inventory.in_other_versions("zlib", "2") == 0

    def test_a_package_is_found_by_what_it_was_built_from(self, inventory: SqlInventory) -> None:
        """As advisories name it; in the version of that."""
        libssl: Package = ("deb", "libssl3", "pkg:deb/debian/libssl3@3.0.15-1?upstream=openssl%403.0.15")
        inventory.put([entry(1, packages=frozenset({libssl, ZLIB}))])

        asked = (("openssl",), ("openssl", "3.0.15"), ("openssl", "3.0.15-1"), ("libssl3", "3.0.15-1"), ("",))
        found = [[packages for _, packages in inventory.carrying(*each)] for each in asked]
        of_openssl = [("libssl3 3.0.15-1 (built from openssl 3.0.15)",)]
        assert found == [of_openssl, of_openssl, [], [("libssl3 3.0.15-1",)], []]

    def test_a_package_is_found_however_an_advisory_writes_it(self, inventory: SqlInventory) -> None:
        """Names in other letters or with their group, a version as the scanner prints it; told as the SBOM names it."""
        packages: frozenset[Package] = frozenset(
            {
                ("python", "zope-interface", "pkg:pypi/zope-interface@5.1"),
                ("java-archive", "log4j-core", "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"),
                ("go-module", "stdlib", "pkg:golang/stdlib@1.22.1"),
                ("rpm", "bind-libs", "pkg:rpm/centos/bind-libs@9.16-1?epoch=32&upstream=bind-9.16-1.src.rpm"),
                ("wordpress-plugin", "akismet", ""),
            }
        )
        inventory.put([entry(1, packages=packages), entry(2)])

        asked = {
            ("Zope.Interface", "5.1"): "zope-interface 5.1",
            ("org.apache.logging.log4j:log4j-core", None): "log4j-core 2.14.1",
            ("stdlib", "go1.22.1"): "stdlib 1.22.1",
            ("stdlib", "1.22.1"): "stdlib 1.22.1",
            ("bind-libs", "32:9.16-1"): "bind-libs 9.16-1",
            ("bind-libs", "9.16-1"): "bind-libs 9.16-1",
            ("akismet", "5.0"): "akismet",
        }
        found = {each: [(refs([image]), told) for image, told in inventory.carrying(*each)] for each in asked}
        assert found == {each: [(["hello 1"], (told,))] for each, told in asked.items()}
        assert inventory.carrying("stdlib", "1.22") == ()

    def test_names_from_outside_are_only_names(self, inventory: SqlInventory) -> None:
        """However long they are, and whatever characters they have."""
        odd: Package = ("python", "a\x00" + "'; DROP TABLE images; --%" * 200, "pkg:pypi/" + "x" * 9000 + "@1\x00")
        inventory.put([entry(1, packages=frozenset({odd}), scan=scan(finding("CVE-" + "9" * 5000)))])

        assert refs(image for image, _ in inventory.carrying(odd[1])) == ["hello 1"]
        assert refs(inventory.affected("CVE-" + "9" * 5000)) == ["hello 1"]
        assert inventory.of("%") == ()

    def test_what_is_built_on_a_base_is_found_by_its_digest(self, inventory: SqlInventory) -> None:
        """By any of several."""
        inventory.put([entry(1, bases=(BuiltOn(digest=digest(50), name="base/python"),)), entry(2)])

        assert refs(inventory.built_on([digest(49), digest(50)])) == ["hello 1"]
        assert inventory.built_on([]) == ()

    def test_what_is_built_on_what_is_built_on_it_is_found_too(self, inventory: SqlInventory) -> None:
        """However many bases lie between, and be one said to be built on itself."""
        python, os = BuiltOn(digest=digest(2), name="base/python"), BuiltOn(digest=digest(1), name="base/os")
        inventory.put([entry(1, "base/os", bases=(python,)), entry(2, "base/python", bases=(os,))])
        inventory.put([entry(3, "shop", bases=(python, os)), entry(4, "other")])

        assert refs(inventory.built_on([digest(1)])) == ["base/os 1", "base/python 2", "shop 3"]
        inventory.put([entry(1, "base/os")])
        assert refs(inventory.built_on([digest(1)])) == ["base/python 2", "shop 3"]
        assert refs(inventory.built_on([digest(2)])) == ["shop 3"]

    def test_a_digest_is_found_by_how_it_begins(self, inventory: SqlInventory) -> None:
        """With and without the algorithm; the same content in two repositories is two images."""
        inventory.put([entry(1), entry(1, "other"), entry(2)])

        assert refs(inventory.of(digest(1))) == ["hello 1", "other 1"]
        assert refs(inventory.of("0" * 63 + "2")) == ["hello 2"]
        assert refs(inventory.of("0" * 12)) == ["hello 1", "hello 2", "other 1"]

    def test_an_encrypted_copy_is_no_image_of_its_own(self, inventory: SqlInventory) -> None:
        """It is one in another repository, where nobody says that it is a copy."""
        inventory.put([entry(1, copies=(digest(2),)), entry(2), entry(2, "other")])

        assert refs(inventory.images()) == ["hello 1", "other 2"]
        assert refs(inventory.of(digest(2))) == refs(inventory.of(digest(2)[:-1])) == ["hello 1", "other 2"]
        assert len(inventory.marks("hello")) == 2

    def test_says_when_it_was_reconciled(self, inventory: SqlInventory) -> None:
        """The last time, and never before the first."""
        assert inventory.reconciled() is None
        inventory.reconciled_at(NOON)
        inventory.reconciled_at(LATER)
        assert inventory.reconciled() == LATER

    def test_what_is_to_be_read_again_is_kept_until_it_is(self, inventory: SqlInventory) -> None:
        """An application's images, or all: nobody is told meanwhile that there are none."""
        inventory.put([entry(1, packages=frozenset({ZLIB})), entry(2, "other")])
        before = list(inventory.images())
        inventory.distrust("hello")

        assert [*inventory.marks("hello").values(), *inventory.marks("other").values()] == ["", "mark 2"]
        inventory.distrust()
        assert [*inventory.marks("other").values()] == [""] and list(inventory.images()) == before

    def test_counts_the_images_of_which_no_content_is_known(self, inventory: SqlInventory) -> None:
        """A copy is none; in the others nobody can tell what there is, for one of two reasons."""
        inventory.put([entry(1, packages=frozenset({ZLIB}), copies=(digest(3),)), entry(2, unreadable="x"), entry(3)])
        assert (inventory.unreadable(), inventory.unlisted()) == (1, 0)

        inventory.put([entry(4), entry(5)])
        assert (inventory.unreadable(), inventory.unlisted()) == (1, 2)

    def test_counts_the_images_that_were_not_scanned(self, inventory: SqlInventory) -> None:
        """An SBOM is no scan, and a scan without findings is one; a copy is no image."""
        listed = frozenset({ZLIB})
        inventory.put([entry(1, packages=listed, scan=scan(), copies=(digest(3),)), entry(2, packages=listed)])
        inventory.put([entry(3), entry(4, unreadable="x")])

        assert inventory.unscanned() == 2

    def test_what_the_starter_database_judged_is_counted(self, inventory: SqlInventory) -> None:
        """It knows so few packages that no finding in the others means nothing."""
        official = scan().model_copy(update={"database": scan().database.model_copy(update={"kind": "official"})})
        inventory.put([entry(1, scan=scan()), entry(2, scan=official), entry(3)])
        assert inventory.by_starter() == 1
        inventory.put([entry(1, scan=official)])
        assert inventory.by_starter() == 0

    def test_what_is_archived_does_not_count_as_scanned(self, inventory: SqlInventory) -> None:
        """Nobody looks for what became known since, until it is restored."""
        archived = stored(1, status=StorageStatus.ARCHIVED)
        inventory.put([entry(1, stored=archived, scan=scan()), entry(2, scan=scan())])
        assert inventory.unscanned() == 1

        inventory.listed("curated/hello", [stored(1), stored(2, status=StorageStatus.ACTIVATING)])
        assert inventory.unscanned() == 0
        inventory.listed("curated/hello", [archived])
        assert inventory.unscanned() == 1

    def test_what_is_archived_and_runs_is_scanned_like_any_other(self, inventory: SqlInventory) -> None:
        """By a record, or seen on a host; where another one was deployed since, it does not run."""
        archived = [
            entry(n, application, stored=stored(n, status=StorageStatus.ARCHIVED), scan=scan(), deployed=deployed)
            for n, application, deployed in ((1, "hello", (deployment("staging"),)), (2, "other", ()))
        ]
        inventory.put(archived)
        assert inventory.unscanned() == 1
        inventory.saw("laptop", [Seen(container="c7", name="x", digest=digest(2), running=True)], LATER)
        assert inventory.unscanned() == 0

        inventory.put([entry(3, scan=scan(), deployed=(deployment("staging", LATER, "c2"),))])
        assert inventory.unscanned() == sum(image.shelved for image in inventory.images()) == 1

    def test_what_is_gone_is_no_image_and_still_what_ran_last(self, inventory: SqlInventory) -> None:
        """No older image runs because it went."""
        inventory.put([entry(1, deployed=(deployment("staging"),))])
        inventory.put(
            [entry(2, gone=True, deployed=(deployment("staging", LATER, "c2"),)), entry(3, "other", gone=True)]
        )

        assert refs(inventory.images()) == ["hello 1"]
        assert [(i.running, [r.container for r in i.deployed]) for i in inventory.images()] == [((), ["c1"])]
        assert [r.container for r in inventory.running()] == ["c2"]
        assert inventory.applications() == ("hello",)
        assert inventory.marks("hello") == {entry(n).image.ref: f"mark {n}" for n in (1, 2)}

    def test_what_is_gone_is_in_answers_while_it_runs(self, inventory: SqlInventory) -> None:
        """By a record or seen on a host; in counts too, as what became known since it went is found in it no more."""
        known: dict[str, Any] = {
            "packages": frozenset({ZLIB}), "scan": scan(finding("CVE-1")),
            "bases": (BuiltOn(digest=digest(50), name="b"),),
        }  # fmt: skip
        inventory.put([entry(1, gone=True, deployed=(deployment("staging"),), **known), entry(2, "other", gone=True)])

        def answers() -> list[Any]:
            return [
                inventory.gone(), inventory.of(digest(1)), inventory.affected("CVE-1"),
                tuple(image for image, _ in inventory.carrying("zlib1g")), inventory.built_on([digest(50)]),
            ]  # fmt: skip

        assert [refs(each) for each in answers()] == [["hello 1"]] * 5 and all(each[0].gone for each in answers())
        assert (inventory.gone("other"), inventory.unscanned(), inventory.unlisted()) == ((), 1, 0)
        inventory.saw("laptop", [Seen(container="c7", name="x", digest=digest(2), running=True)], LATER)
        assert refs(inventory.gone("other")) == ["other 2"] and inventory.applications() == ("hello", "other")
        assert (inventory.unscanned(), inventory.unlisted()) == (2, 1)
        inventory.saw("laptop", [], LATER)
        inventory.put([entry(3, deployed=(deployment("staging", LATER, "c3"),))])
        assert answers() == [()] * 5

    def test_the_copy_of_what_is_gone_is_no_image(self, inventory: SqlInventory) -> None:
        """Nobody judged it, and nobody will."""
        inventory.put([entry(1, gone=True, copies=(digest(2),)), entry(2)])

        assert list(inventory.images()) == []

    def test_what_other_hosts_showed_is_forgotten(self, inventory: SqlInventory) -> None:
        """Nobody looks at them any more; all of them where there are none."""
        inventory.put([entry(1)])
        for host in ("old", "laptop"):
            inventory.saw(host, [Seen(container="c1", name="x", digest=digest(1), running=True)], NOON)

        inventory.unwatched(["laptop"])
        assert [each.host for image in inventory.images() for each in image.running] == ["laptop"]
        inventory.unwatched([])
        assert [image.running for image in inventory.images()] == [()]

    def test_an_environment_is_where_it_is_now(self, inventory: SqlInventory) -> None:
        """Without reading anything again; in other applications nothing changes."""
        inventory.put([entry(1, deployed=(deployment("staging"), deployment("production", container="c2")))])
        inventory.put([entry(2, "other", deployed=(deployment("staging", container="c3"),))])
        inventory.placed("hello", {"staging": "north", "production": "laptop"}.__getitem__)

        assert {(r.container, r.host) for r in inventory.running()} == {
            ("c1", "north"), ("c2", "laptop"), ("c3", "laptop"),
        }  # fmt: skip

    def test_several_make_and_fill_it_at_once(self, address: str) -> None:
        """Each waits for its turn, and nothing is lost."""

        def fill(number: int) -> None:
            inventory = open_inventory(address)
            for each in range(5):
                inventory.put([entry(10 * number + each, packages=frozenset({ZLIB}), scan=scan(finding("CVE-1")))])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(fill, range(4)))
        assert len(open_inventory(address).affected("CVE-1")) == 20
