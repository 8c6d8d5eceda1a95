"""The contract of the port `Inventory`, for SQLite and PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from supply_chain.adapters.database import SqlInventory, open_inventory
from supply_chain.evidence.sbom import Package
from supply_chain.fleet.gate_facts import GateSubject, StoredFacts
from supply_chain.fleet.image import BuiltOn, FleetImage, HostContainer, Judgement, Running, Scan
from supply_chain.fleet.inventory import Entry
from supply_chain.model.image import Digest, ImageRef, StorageStatus, StoredManifest
from supply_chain.model.tier import Gate
from supply_chain.policy.fact_values import make_evidence_values
from supply_chain.policy.outcome import Reason
from supply_chain.policy.people import People
from supply_chain.vulnerability.findings import Database, Finding, Severity
from supply_chain.vulnerability.vex.openvex import read_openvex
from tests.support.facts import FACTS
from tests.support.vex import openvex

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


def deployment(environment: str, at: datetime = NOON, container: str = "c1", reverse_proxy: str = "") -> Running:
    return Running(
        environment=environment, application="hello", container=container, name=f"{environment}-hello",
        reverse_proxy=reverse_proxy, address="http://127.0.0.1:8080/", host="laptop", since=at,
    )  # fmt: skip


def entry(number: int, application: str = "hello", packages: frozenset[Package] = frozenset(), **changes: Any) -> Entry:
    ref = ImageRef(repository=f"curated/{application}", digest=digest(number))
    at = changes.pop("pushed_at", NOON)
    values = {"ref": ref, "stored": stored(number, pushed_at=at), **changes}
    if packages:
        values = {"sbom": digest(800), "sbom_content": digest(801), **values}
    return Entry(FleetImage(**values), packages, mark=f"mark {number}")


def refs(images: Any) -> list[str]:
    named = [each if isinstance(each, ImageRef) else each.ref for each in images]
    return [f"{ref.application} {int(ref.digest[-4:], 16)}" for ref in named]


def facts_of(number: int, environment: str = "", application: str = "hello") -> StoredFacts:
    """Return the stored facts of an image at the release gate, or at the deploy gate for an environment."""
    ref = ImageRef(repository=f"curated/{application}", digest=digest(number))
    gate = Gate.DEPLOY if environment else Gate.RELEASE
    package = ("deb", "openssl", "pkg:deb/debian/openssl@3.0.1")
    statements = read_openvex(openvex(), "a document", "acme")
    values = replace(
        make_evidence_values(FACTS[gate](ref=ref), People(), NOON), packages=(package,), attached=statements
    )
    return StoredFacts(GateSubject(image=ref, gate=gate, environment=environment), f"mark {number}", "v1", values)


def offered_facts(number: int, mark: str) -> StoredFacts:
    """Return the stored facts of an image at the intake gate."""
    ref = offered_image(number)
    values = make_evidence_values(FACTS[Gate.INTAKE](ref=ref), People(), NOON)
    return StoredFacts(GateSubject(image=ref, gate=Gate.INTAKE), mark, "v1", values)


def offered_image(number: int, application: str = "hello") -> ImageRef:
    return ImageRef(repository=f"dev/{application}", digest=digest(number))


def versions(inventory: SqlInventory) -> dict[str, str]:
    """Return the version of the stored facts of each image."""
    return {refs([each.subject.image])[0]: each.version for each in inventory.list_subjects()}


class InventoryContract:
    """The tests. A subclass has a fixture `address` of an empty database."""

    @pytest.fixture
    def inventory(self, address: str) -> SqlInventory:
        return open_inventory(address)

    def test_inventory_returns_the_image_that_was_put(self, inventory: SqlInventory) -> None:
        """All fields are kept; the last deployment in an environment counts as running."""
        judgement = Judgement(
            gate=Gate.RELEASE, passed=False, at=NOON, policy=digest(5), evidence=digest(6),
            reasons=(Reason(code="scan.exploited", fact="it is", remedy="update"),),
        )  # fmt: skip
        complete = entry(
            1, packages=frozenset({ZLIB}), kind="service", owner="web", environments=("staging",), signed=True,
            scan=scan(finding("CVE-2"), finding("CVE-1", aliases=("GHSA-x",))), judgements=(judgement,),
            bases=(BuiltOn(digest=digest(50), name="base/python"),), copies=(digest(51),),
            deployed=(deployment("staging"),), unreadable="",
        )  # fmt: skip
        inventory.put([complete])

        assert list(inventory.images()) == [
            complete.image.model_copy(update={"deployed": (), "running": (deployment("staging"),)})
        ]
        assert inventory.read_marks("hello") == {complete.image.ref: "mark 1"}
        assert inventory.applications() == ("hello",)

    def test_put_replaces_all_data_of_image(self, inventory: SqlInventory) -> None:
        """No data of the earlier version is found."""
        inventory.put([entry(1, scan=scan(finding("CVE-1")), bases=(BuiltOn(digest=digest(50), name="b"),))])
        inventory.put([entry(1, scan=scan(finding("CVE-2")))])

        assert [len(inventory.find_affected(name)) for name in ("CVE-1", "CVE-2")] == [0, 1]
        assert inventory.find_built_on([digest(50)]) == ()
        assert refs(inventory.images()) == ["hello 1"]

    def test_put_stores_all_images_or_none(self, inventory: SqlInventory) -> None:
        """A failure in the middle leaves the inventory unchanged."""
        inventory.put([entry(1)])

        def broken() -> Any:
            yield entry(1, signed=True)
            yield entry(2)
            raise KeyError("the registry went away")

        with pytest.raises(KeyError):
            inventory.put(broken())
        assert [image.signed for image in inventory.images()] == [False]

    def test_images_are_ordered_by_application_and_latest_push(self, inventory: SqlInventory) -> None:
        """The order holds across pages, and with a filter for one application."""
        inventory.put([entry(1, "b"), entry(2, "b", pushed_at=LATER), entry(3, "a")])
        inventory.put([entry(number, "many") for number in range(1000, 1450)])

        everything = refs(inventory.images())
        assert everything[:3] == ["a 3", "b 2", "b 1"]
        assert everything[3:] == [f"many {number}" for number in range(1000, 1450)]
        assert refs(inventory.images("b")) == ["b 2", "b 1"]

    def test_answer_is_consistent_during_concurrent_updates(self, inventory: SqlInventory, address: str) -> None:
        """An image that is put again meanwhile is found with all of its data."""
        complete = entry(
            1, packages=frozenset({ZLIB}), scan=scan(finding("CVE-1")), bases=(BuiltOn(digest=digest(50), name="b"),),
            deployed=(deployment("staging"),),
        )  # fmt: skip
        inventory.put([complete, entry(2)])
        before, _ = inventory.images()
        another = open_inventory(address)
        event.listen(inventory.engine, "after_cursor_execute", lambda *_: another.put([complete, entry(2)]))

        assert [image for image in inventory.images() if image.ref == before.ref] == [before]
        assert (
            inventory.find_affected("CVE-1")
            == inventory.find_by_digest(digest(1))
            == inventory.find_built_on([digest(50)])
            == (before,)
        )
        assert inventory.find_carrying("zlib1g") == ((before, ("zlib1g 1:1.2.13",)),)

    def test_listing_includes_images_that_are_put_again_meanwhile(self, inventory: SqlInventory) -> None:
        """Images that are removed during the listing are left out."""
        many = [entry(number) for number in range(1000, 1250)]
        inventory.put(many)
        listing = iter(inventory.images())
        first = next(listing)
        inventory.put(many[210:220])
        inventory.forget([many[-1].image.ref])

        assert refs([first, *listing]) == [f"hello {number}" for number in range(1000, 1249)]

    def test_listed_updates_registry_facts_and_keeps_the_rest(self, inventory: SqlInventory) -> None:
        """A pull changes the pull time, and no evidence has to be read again."""
        inventory.put([entry(1, signed=True), entry(2)])
        inventory.update_listing("curated/hello", [stored(1, pulled_at=LATER, tags=("v1",))])

        first, second = inventory.images()
        assert (first.stored.pulled_at, first.stored.tags, first.signed) == (LATER, ("v1",), True)
        assert second.stored == stored(2)
        assert inventory.read_marks("hello")[first.ref] == "mark 1"

    def test_forgotten_image_is_not_found(self, inventory: SqlInventory) -> None:
        """Other images stay."""
        other, gone = entry(1, scan=scan(finding("CVE-1"))), entry(2, scan=scan(finding("CVE-1")))
        inventory.put([other, gone])
        inventory.forget([gone.image.ref])

        assert refs(inventory.find_affected("CVE-1")) == ["hello 1"]
        assert list(inventory.read_marks("hello")) == [other.image.ref]

    def test_later_deployment_replaces_earlier_one(self, inventory: SqlInventory) -> None:
        """It does so in its environment and for its application; a rollback runs again."""
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

    def test_observed_containers_are_merged_with_deployments(self, inventory: SqlInventory) -> None:
        """A container without a deployment record is shown too, and earlier observations of the host are replaced."""
        inventory.put([entry(1, deployed=(deployment("staging"),)), entry(2)])
        recorded = HostContainer(container="c1", name="staging-hello", digest=digest(1), running=True, healthy=True)
        stranger = HostContainer(container="c7", name="by-hand", digest=digest(2), running=True)
        inventory.record_host("laptop", [recorded, stranger], LATER)
        inventory.record_host("elsewhere", [], LATER)

        one, two = inventory.images()
        assert [(r.healthy, r.observed_at) for r in one.running] == [(True, LATER)]
        assert [r.container for r in inventory.running()] == ["c1"], "what is only seen should not run"
        assert [(r.environment, r.name, r.host, r.healthy) for r in two.running] == [("", "by-hand", "laptop", None)]
        inventory.record_host("laptop", [], LATER)
        one, two = inventory.images()
        assert [(r.healthy, r.observed_at) for r in one.running] == [(None, None)] and two.running == ()

    def test_workload_of_cluster_is_one_entry_for_each_image(self, inventory: SqlInventory) -> None:
        """Pods may run several images, and a workload without pods may make some."""
        place: dict[str, Any] = {
            "cluster": "shop",
            "namespace": "apps",
            "workload": "Deployment/hello",
            "running": True,
        }
        recorded = deployment("staging").model_copy(
            update={"host": "", "cluster": "shop", "namespace": "apps", "workload": "Deployment/hello"}
        )
        inventory.put([entry(1, deployed=(recorded,)), entry(2, "sidecar")])
        inventory.update_hosts("hello", lambda _: "laptop")
        found = [
            HostContainer(container="c1", name="hello", digest=digest(number), pods=("hello-1",), healthy=True, **place)
            for number in (1, 2)
        ]
        inventory.record_host("kubernetes/shop", found, LATER)

        hello, sidecar = inventory.images()
        (own,), (other,) = hello.running, sidecar.running
        assert (own.environment, own.pods, own.healthy, own.observed_at) == ("staging", ("hello-1",), True, LATER)
        assert (other.environment, other.pods, other.workload) == ("", ("hello-1",), "Deployment/hello")
        assert {(each.host, each.place) for each in (own, other)} == {("", "shop/apps")}

    def test_reverse_proxy_is_listed_with_its_deployment(self, inventory: SqlInventory) -> None:
        """It belongs to the deployment although its image is another one."""
        inventory.put([entry(1, deployed=(deployment("staging", reverse_proxy="f1"),)), entry(2, "base/proxy")])
        inventory.record_host(
            "laptop", [HostContainer(container="f1", name="reverse_proxy", digest=digest(2), running=True)], LATER
        )

        proxy, _ = inventory.images()
        assert [(r.environment, r.application, r.name) for r in proxy.running] == [
            ("staging", "hello", "reverse_proxy")
        ]

    def test_vulnerability_is_found_by_alias_in_any_case(self, inventory: SqlInventory) -> None:
        """Advisories use different names and spellings."""
        inventory.put([entry(1, scan=scan(finding("CVE-1", aliases=("GHSA-aa-bb",)))), entry(2, scan=scan())])

        assert [refs(inventory.find_affected(name)) for name in ("CVE-1", "cve-1", "ghsa-AA-bb", "CVE-")] == [
            ["hello 1"], ["hello 1"], ["hello 1"], [],
        ]  # fmt: skip

    def test_package_is_found_with_and_without_version(self, inventory: SqlInventory) -> None:
        """All images that share an SBOM are found."""
        inventory.put([entry(1, packages=frozenset({ZLIB, FLASK})), entry(2, packages=frozenset({ZLIB, FLASK}))])
        inventory.put([entry(3)])

        found = [
            refs(image for image, _ in inventory.find_carrying(*asked))
            for asked in (("zlib1g",), ("zlib1g", "1:1.2.13"), ("zlib1g", "1.2.13"), ("flask", "3.0.0"), ("zlib",))
        ]
        both = ["hello 1", "hello 2"]
        assert found == [both, both, [], both, []]

    def test_other_versions_counts_only_images_without_the_version(self, inventory: SqlInventory) -> None:
        """An image with the version, or with an unknown one, is not counted; the case of the name is ignored."""
        new: Package = ("deb", "zlib1g", "pkg:deb/debian/zlib1g@2")
        any_of_them: Package = ("deb", "zlib1g", "")
        for number, packages in enumerate([{ZLIB}, {new}, {ZLIB, new}, {any_of_them}, {FLASK}]):
            listed = {"sbom": digest(800), "sbom_content": digest(810 + number)}
            inventory.put([entry(number, packages=frozenset(packages), **listed)])

        counts = [inventory.count_other_versions("ZLIB1g", version) for version in ("2", "1:1.2.13", "3")]
        assert counts == [1, 1, 3] and inventory.count_other_versions("zlib", "2") == 0

    def test_package_is_found_by_its_source_package(self, inventory: SqlInventory) -> None:
        """Advisories name source packages, so the version is that of the source package."""
        libssl: Package = ("deb", "libssl3", "pkg:deb/debian/libssl3@3.0.15-1?upstream=openssl%403.0.15")
        inventory.put([entry(1, packages=frozenset({libssl, ZLIB}))])

        asked = (("openssl",), ("openssl", "3.0.15"), ("openssl", "3.0.15-1"), ("libssl3", "3.0.15-1"), ("",))
        found = [[packages for _, packages in inventory.find_carrying(*each)] for each in asked]
        of_openssl = [("libssl3 3.0.15-1 (built from openssl 3.0.15)",)]
        assert found == [of_openssl, of_openssl, [], [("libssl3 3.0.15-1",)], []]

    def test_package_is_found_by_the_names_that_advisories_use(self, inventory: SqlInventory) -> None:
        """The answer shows the package as the SBOM names it."""
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
        found = {each: [(refs([image]), named) for image, named in inventory.find_carrying(*each)] for each in asked}
        assert found == {each: [(["hello 1"], (named,))] for each, named in asked.items()}
        assert inventory.find_carrying("stdlib", "1.22") == ()

    def test_hostile_package_names_are_stored_as_plain_text(self, inventory: SqlInventory) -> None:
        """Length and special characters do not matter."""
        odd: Package = ("python", "a\x00" + "'; DROP TABLE images; --%" * 200, "pkg:pypi/" + "x" * 9000 + "@1\x00")
        inventory.put([entry(1, packages=frozenset({odd}), scan=scan(finding("CVE-" + "9" * 5000)))])

        assert refs(image for image, _ in inventory.find_carrying(odd[1])) == ["hello 1"]
        assert refs(inventory.find_affected("CVE-" + "9" * 5000)) == ["hello 1"]
        assert inventory.find_by_digest("%") == ()

    def test_built_on_finds_images_by_base_digest(self, inventory: SqlInventory) -> None:
        """Any of several digests matches."""
        inventory.put([entry(1, bases=(BuiltOn(digest=digest(50), name="base/python"),)), entry(2)])

        assert refs(inventory.find_built_on([digest(49), digest(50)])) == ["hello 1"]
        assert inventory.find_built_on([]) == ()

    def test_built_on_finds_images_of_indirect_bases(self, inventory: SqlInventory) -> None:
        """The search follows all levels and ends even if bases refer to each other."""
        python, os = BuiltOn(digest=digest(2), name="base/python"), BuiltOn(digest=digest(1), name="base/os")
        inventory.put([entry(1, "base/os", bases=(python,)), entry(2, "base/python", bases=(os,))])
        inventory.put([entry(3, "shop", bases=(python, os)), entry(4, "other")])

        assert refs(inventory.find_built_on([digest(1)])) == ["base/os 1", "base/python 2", "shop 3"]
        inventory.put([entry(1, "base/os")])
        assert refs(inventory.find_built_on([digest(1)])) == ["base/python 2", "shop 3"]
        assert refs(inventory.find_built_on([digest(2)])) == ["shop 3"]

    def test_image_is_found_by_digest_prefix(self, inventory: SqlInventory) -> None:
        """The algorithm may be left out; the same content in two repositories is two images."""
        inventory.put([entry(1), entry(1, "other"), entry(2)])

        assert refs(inventory.find_by_digest(digest(1))) == ["hello 1", "other 1"]
        assert refs(inventory.find_by_digest("0" * 63 + "2")) == ["hello 2"]
        assert refs(inventory.find_by_digest("0" * 12)) == ["hello 1", "hello 2", "other 1"]

    def test_encrypted_copy_is_not_listed_as_image(self, inventory: SqlInventory) -> None:
        """The same digest in another repository is an image if nothing there says that it is a copy."""
        inventory.put([entry(1, copies=(digest(2),)), entry(2), entry(2, "other")])

        assert refs(inventory.images()) == ["hello 1", "other 2"]
        assert (
            refs(inventory.find_by_digest(digest(2)))
            == refs(inventory.find_by_digest(digest(2)[:-1]))
            == ["hello 1", "other 2"]
        )
        assert len(inventory.read_marks("hello")) == 2

    def test_reconciled_returns_the_last_reconciliation_time(self, inventory: SqlInventory) -> None:
        """Before the first reconciliation there is none."""
        assert inventory.find_last_reconciliation() is None
        inventory.record_reconciled(NOON)
        inventory.record_reconciled(LATER)
        assert inventory.find_last_reconciliation() == LATER

    def test_stale_images_are_listed_until_they_are_read_again(self, inventory: SqlInventory) -> None:
        """Answers stay complete while the images of one application or of all are read again."""
        inventory.put([entry(1, packages=frozenset({ZLIB})), entry(2, "other")])
        before = list(inventory.images())
        inventory.mark_stale("hello")

        assert [*inventory.read_marks("hello").values(), *inventory.read_marks("other").values()] == ["", "mark 2"]
        inventory.mark_stale()
        assert [*inventory.read_marks("other").values()] == [""] and list(inventory.images()) == before

    def test_unreadable_and_unlisted_images_are_counted_apart(self, inventory: SqlInventory) -> None:
        """Copies are not counted."""
        inventory.put([entry(1, packages=frozenset({ZLIB}), copies=(digest(3),)), entry(2, unreadable="x"), entry(3)])
        assert (inventory.count_unreadable(), inventory.count_without_sbom()) == (1, 0)

        inventory.put([entry(4), entry(5)])
        assert (inventory.count_unreadable(), inventory.count_without_sbom()) == (1, 2)

    def test_unscanned_counts_images_without_a_scan(self, inventory: SqlInventory) -> None:
        """An SBOM is no scan, and a scan without findings is one."""
        listed = frozenset({ZLIB})
        inventory.put([entry(1, packages=listed, scan=scan(), copies=(digest(3),)), entry(2, packages=listed)])
        inventory.put([entry(3), entry(4, unreadable="x")])

        assert inventory.count_unscanned() == 2

    def test_images_scanned_with_starter_database_are_counted(self, inventory: SqlInventory) -> None:
        """That database covers few packages, so a scan without findings says little."""
        official = scan().model_copy(update={"database": scan().database.model_copy(update={"kind": "official"})})
        inventory.put([entry(1, scan=scan()), entry(2, scan=official), entry(3)])
        assert inventory.count_by_starter() == 1
        inventory.put([entry(1, scan=official)])
        assert inventory.count_by_starter() == 0

    def test_archived_image_counts_as_unscanned(self, inventory: SqlInventory) -> None:
        """New vulnerabilities are not looked for until the image is restored."""
        archived = stored(1, status=StorageStatus.ARCHIVED)
        inventory.put([entry(1, stored=archived, scan=scan()), entry(2, scan=scan())])
        assert inventory.count_unscanned() == 1

        inventory.update_listing("curated/hello", [stored(1), stored(2, status=StorageStatus.ACTIVATING)])
        assert inventory.count_unscanned() == 0
        inventory.update_listing("curated/hello", [archived])
        assert inventory.count_unscanned() == 1

    def test_archived_image_that_runs_counts_as_scanned(self, inventory: SqlInventory) -> None:
        """It runs by a deployment record or by observation on a host, until another deployment replaces it."""
        archived = [
            entry(n, application, stored=stored(n, status=StorageStatus.ARCHIVED), scan=scan(), deployed=deployed)
            for n, application, deployed in ((1, "hello", (deployment("staging"),)), (2, "other", ()))
        ]
        inventory.put(archived)
        assert inventory.count_unscanned() == 1
        inventory.record_host(
            "laptop", [HostContainer(container="c7", name="x", digest=digest(2), running=True)], LATER
        )
        assert inventory.count_unscanned() == 0

        inventory.put([entry(3, scan=scan(), deployed=(deployment("staging", LATER, "c2"),))])
        assert inventory.count_unscanned() == sum(image.shelved for image in inventory.images()) == 1

    def test_deleted_image_is_not_listed_but_stays_latest_deployment(self, inventory: SqlInventory) -> None:
        """An older image must not count as running because the newer one was deleted."""
        inventory.put([entry(1, deployed=(deployment("staging"),))])
        inventory.put(
            [entry(2, missing=True, deployed=(deployment("staging", LATER, "c2"),)), entry(3, "other", missing=True)]
        )

        assert refs(inventory.images()) == ["hello 1"]
        assert [(i.running, [r.container for r in i.deployed]) for i in inventory.images()] == [((), ["c1"])]
        assert [r.container for r in inventory.running()] == ["c2"]
        assert inventory.applications() == ("hello",)
        assert inventory.read_marks("hello") == {entry(n).image.ref: f"mark {n}" for n in (1, 2)}

    def test_deleted_image_that_runs_is_in_answers_and_counts(self, inventory: SqlInventory) -> None:
        """New vulnerabilities are no longer found in it, so it counts as unscanned."""
        facts: dict[str, Any] = {
            "packages": frozenset({ZLIB}), "scan": scan(finding("CVE-1")),
            "bases": (BuiltOn(digest=digest(50), name="b"),),
        }  # fmt: skip
        inventory.put(
            [entry(1, missing=True, deployed=(deployment("staging"),), **facts), entry(2, "other", missing=True)]
        )

        def answers() -> list[Any]:
            return [
                inventory.list_removed(), inventory.find_by_digest(digest(1)), inventory.find_affected("CVE-1"),
                tuple(image for image, _ in inventory.find_carrying("zlib1g")), inventory.find_built_on([digest(50)]),
            ]  # fmt: skip

        assert [refs(each) for each in answers()] == [["hello 1"]] * 5 and all(each[0].missing for each in answers())
        assert (inventory.list_removed("other"), inventory.count_unscanned(), inventory.count_without_sbom()) == (
            (),
            1,
            0,
        )
        inventory.record_host(
            "laptop", [HostContainer(container="c7", name="x", digest=digest(2), running=True)], LATER
        )
        assert refs(inventory.list_removed("other")) == ["other 2"] and inventory.applications() == ("hello", "other")
        assert (inventory.count_unscanned(), inventory.count_without_sbom()) == (2, 1)
        inventory.record_host("laptop", [], LATER)
        inventory.put([entry(3, deployed=(deployment("staging", LATER, "c3"),))])
        assert answers() == [()] * 5

    def test_copy_of_deleted_image_is_not_listed(self, inventory: SqlInventory) -> None:
        """No gate judged the copy."""
        inventory.put([entry(1, missing=True, copies=(digest(2),)), entry(2)])

        assert list(inventory.images()) == []

    def test_observations_of_unwatched_hosts_are_removed(self, inventory: SqlInventory) -> None:
        """An empty list of hosts removes all."""
        inventory.put([entry(1)])
        for host in ("old", "laptop"):
            inventory.record_host(host, [HostContainer(container="c1", name="x", digest=digest(1), running=True)], NOON)

        inventory.retain_hosts(["laptop"])
        assert [each.host for image in inventory.images() for each in image.running] == ["laptop"]
        inventory.retain_hosts([])
        assert [image.running for image in inventory.images()] == [()]

    def test_placed_moves_deployments_to_the_current_hosts(self, inventory: SqlInventory) -> None:
        """No evidence is read again, and other applications do not change."""
        inventory.put([entry(1, deployed=(deployment("staging"), deployment("production", container="c2")))])
        inventory.put([entry(2, "other", deployed=(deployment("staging", container="c3"),))])
        inventory.update_hosts("hello", {"staging": "north", "production": "laptop"}.__getitem__)

        assert {(r.container, r.host) for r in inventory.running()} == {
            ("c1", "north"), ("c2", "laptop"), ("c3", "laptop"),
        }  # fmt: skip

    def test_stored_facts_are_read_back_with_their_times(self, inventory: SqlInventory) -> None:
        """The rules read the same values as at the gate."""
        inventory.put([entry(1, deployed=(deployment("staging"),))])
        stored = [facts_of(1), facts_of(1, "staging")]
        inventory.put_facts(stored)

        subjects = [state.subject for state in inventory.list_subjects()]
        assert subjects == [each.subject for each in stored]
        assert list(inventory.read_facts(subjects)) == stored
        assert [each.subject.environment for each in inventory.read_facts(subjects[1:])] == ["staging"]
        assert all(each.values.image["scan"]["scanned"].tzinfo for each in stored)

    def test_facts_of_the_same_subject_are_replaced(self, inventory: SqlInventory) -> None:
        """There is one version at a time."""
        inventory.put([entry(1)])
        for version in ("v1", "v2"):
            inventory.put_facts([replace(facts_of(1), version=version)])

        (state,) = inventory.list_subjects()
        assert state.version == "v2" and len(list(inventory.read_facts([state.subject]))) == 1

    def test_facts_are_missing_once_their_image_is_read_again(self, inventory: SqlInventory) -> None:
        """What was read for an earlier entry says nothing about the new one, and cannot be stored for it."""
        inventory.put([entry(1)])
        inventory.put_facts([facts_of(1)])
        inventory.put([entry(1, signed=True)])
        assert versions(inventory) == {"hello 1": ""}

        inventory.put_facts([replace(facts_of(1), mark="another mark"), facts_of(2)])
        assert versions(inventory) == {"hello 1": ""}
        inventory.put_facts([facts_of(1)])
        inventory.mark_stale()
        assert versions(inventory) == {"hello 1": ""} and inventory.list_subjects()[0].mark == ""

    @pytest.mark.parametrize("change", [{"blocked": "by ann"}, {"sbom_content": digest(802), "sbom": digest(803)}])
    def test_facts_are_missing_once_a_base_changes(self, inventory: SqlInventory, change: dict[str, Any]) -> None:
        """They depend on the block and the packages of what the image is built on, directly or not."""
        python, os = BuiltOn(digest=digest(2), name="base/python"), BuiltOn(digest=digest(1), name="base/os")
        inventory.put([entry(1, "base/os"), entry(2, "base/python", bases=(os,)), entry(3, bases=(python,)), entry(4)])
        applications = {1: "base/os", 2: "base/python", 3: "hello", 4: "hello"}
        inventory.put_facts(facts_of(number, application=name) for number, name in applications.items())
        inventory.put([entry(1, "base/os", owner="other")])
        assert versions(inventory) == {"base/os 1": "", "base/python 2": "v1", "hello 3": "v1", "hello 4": "v1"}

        inventory.put([entry(1, "base/os", **change)])
        assert versions(inventory) == {"base/os 1": "", "base/python 2": "", "hello 3": "", "hello 4": "v1"}

    def test_subjects_are_images_in_the_registry_and_last_deployments(self, inventory: SqlInventory) -> None:
        """Not copies, replaced deployments, or images that are gone and run nowhere."""
        inventory.put([entry(1, deployed=(deployment("staging"),), copies=(digest(5),)), entry(5)])
        inventory.put([entry(2, missing=True, deployed=(deployment("staging", LATER, "c2"),)), entry(3, missing=True)])
        inventory.put([entry(4, "other")])

        found = [(refs([each.subject.image])[0], each.subject.gate, each.subject.environment)
                 for each in inventory.list_subjects()]  # fmt: skip
        assert found == [
            ("hello 1", Gate.RELEASE, ""), ("hello 2", Gate.DEPLOY, "staging"), ("other 4", Gate.RELEASE, ""),
        ]  # fmt: skip
        assert [refs([each.subject.image]) for each in inventory.list_subjects("other")] == [["other 4"]]

    def test_offered_images_have_facts_of_their_own(self, inventory: SqlInventory) -> None:
        """The same digest can be an offered and a curated image."""
        inventory.put([entry(1)])
        inventory.put_offered("hello", {offered_image(1): "a", offered_image(2): "b"})
        inventory.put_offered("shop", {offered_image(3, "shop"): "c"})
        stored = [offered_facts(1, "a"), facts_of(1), offered_facts(2, "b")]
        inventory.put_facts(stored)

        subjects = [each.subject for each in inventory.list_subjects("hello")]
        assert subjects == [each.subject for each in stored]
        assert list(inventory.read_facts(subjects)) == stored
        assert inventory.applications() == ("hello", "shop")
        (other,) = inventory.list_subjects("shop")
        assert (other.version, list(inventory.read_facts([other.subject]))) == ("", [])

    def test_facts_of_an_offered_image_end_with_its_mark(self, inventory: SqlInventory) -> None:
        """What was read of another state says nothing, and cannot be stored for this one."""
        inventory.put_offered("hello", {offered_image(1): "a", offered_image(2): "b", offered_image(3): "c"})
        inventory.put_facts([offered_facts(1, "a"), offered_facts(2, "b"), offered_facts(3, "c")])
        inventory.put_offered("hello", {offered_image(1): "a", offered_image(2): "other"})
        inventory.put_facts([offered_facts(2, "b")])
        assert versions(inventory) == {"hello 1": "v1", "hello 2": ""}

        inventory.mark_stale("hello")
        assert [(each.mark, each.version) for each in inventory.list_subjects()] == [("", ""), ("", "")]
        inventory.put_facts([offered_facts(1, "a")])
        assert versions(inventory) == {"hello 1": "", "hello 2": ""}

    def test_concurrent_writers_lose_no_image(self, address: str) -> None:
        """Four threads create and fill the same database."""

        def fill(number: int) -> None:
            inventory = open_inventory(address)
            for each in range(5):
                inventory.put([entry(10 * number + each, packages=frozenset({ZLIB}), scan=scan(finding("CVE-1")))])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(fill, range(4)))
        assert len(open_inventory(address).find_affected("CVE-1")) == 20
