"""Exposure: the order of images, changed and due findings, and findings that a newer base fixes."""

import pytest

from supply_chain.fleet.exposure import (
    Rebuild,
    RescanReport,
    RescanResult,
    Unjudged,
    compare_reports,
    contains_package,
    find_due,
    find_fixes,
    group_by_application,
    make_finding_key,
    make_incomplete_error,
    propose_rebuilds,
    sort_by_exposure,
)
from supply_chain.model.declaration import Limits
from supply_chain.model.image import ImageRef


@pytest.fixture
def rescanned(make):
    def one(name, **changes):
        number = str(abs(hash(name)) % 10)
        ref = ImageRef(repository=f"curated/{name}", digest="sha256:" + number * 64)
        return RescanResult(**{"ref": ref, "passes": True, **changes})

    return one


def test_exposure_order_starts_with_exploited_in_production(rescanned, make):
    """Exploited and running comes next, then running; images that run nowhere come last."""
    exploited = (make.finding(known_exploited=True),)
    order = [
        rescanned("first", running=("prod-eu",), in_production=True, exploited=exploited),
        rescanned("second", running=("staging",), exploited=exploited),
        rescanned("third", running=("prod-eu", "staging"), in_production=True),
        rescanned("fourth", running=("staging",), passes=False),
        rescanned("fifth", running=("staging",)),
        rescanned("sixth", exploited=exploited, passes=False),
        rescanned("seventh", exploited=exploited),
    ]

    assert sort_by_exposure(reversed(order)) == tuple(order)


def test_rescan_report_is_complete_unless_retry_may_help(make):
    """An image that can never be judged is named and does not delay the report."""
    lost = Unjudged(ref=ImageRef(repository="curated/a", digest=make.other), code="x", message="it is damaged")
    late = lost.model_copy(update={"retryable": True})

    def tells_all(**changes):
        return RescanReport(database=make.report().database, scanner="grype", started=make.noon, seconds=1, images=1,
                         signed=0, changed=0, exploited=0, reported=(), **changes).is_complete  # fmt: skip

    assert tells_all() and tells_all(unjudged=(lost,))
    assert not any(
        (tells_all(packages=("openssl",)), tells_all(images_not_rescanned=1), tells_all(unjudged=(lost, late)))
    )
    assert f"2 images could not be judged; all others were:\n  {lost.ref}: it is damaged" in str(
        make_incomplete_error([lost, late])
    )


def test_concerned_groups_images_by_application(rescanned):
    """The most exposed image determines the order of applications."""
    other, two = rescanned("b", owner="x"), rescanned("a", owner="y")
    one = rescanned("a", owner="y", running=("prod-eu",), in_production=True)

    first, second = group_by_application(sort_by_exposure([other, two, one]))
    assert [(each.owner, each.application) for each in (first, second)] == [("y", "a"), ("x", "b")]
    assert (first.running, first.refused, second.running) == (("prod-eu",), 0, ())


def test_concerned_counts_findings_and_images_of_an_application(rescanned, make):
    """Findings are counted over all images; some counts are of images."""
    one, two = make.finding(id="CVE-1", known_exploited=True), make.finding(id="CVE-2", known_exploited=True)
    rebuild = Rebuild(base="curated/base/python", built_on=make.digest, newest=make.other, findings=("CVE-1",))
    images = [
        rescanned("a", running=("staging",), exploited=(one, two), due=(one,), passes=False, rebuild=(rebuild,)),
        rescanned(
            "a", running=("production", "staging"), exploited=(one,), worse=(one,), better=(two,), rebuild=(rebuild,)
        ),
    ]

    (group,) = group_by_application(images)
    assert (group.exploited, group.images_exploited, group.due, group.worse, group.better, group.refused) == (
        3,
        2,
        1,
        1,
        1,
        1,
    )
    assert (group.running, group.rebuild) == (("production", "staging"), ("curated/base/python",))


def test_compare_reports_separates_worse_and_better_findings(make):
    """New or more severe findings are worse, gone or less severe ones are better."""
    same, gone_, new = make.finding(id="CVE-1"), make.finding(id="CVE-2"), make.finding(id="CVE-3")
    low, high = make.finding("low", id="CVE-4"), make.finding("high", id="CVE-4")
    exploited = make.finding(id="CVE-5", known_exploited=True)
    before = make.report(same, gone_, low, exploited)
    after = make.report(same, new, high, exploited.model_copy(update={"known_exploited": False}))

    worse, better = compare_reports(before, after)

    assert worse == (new, high) and better == (gone_, exploited)
    assert compare_reports(None, after) == ((), ())


def test_due_findings_are_fixable_and_above_the_limit(make):
    """A finding within the limit or without a fix can wait; a known exploited one cannot."""
    fixable, unfixed = make.finding("high", id="CVE-1"), make.finding("high", id="CVE-2", fixed_in=())
    medium, exploited = make.finding("medium", id="CVE-3"), make.finding("low", id="CVE-4", known_exploited=True)

    assert find_due(make.report(fixable, unfixed, medium, exploited), Limits(high=1)) == (fixable, exploited)
    assert find_due(make.report(fixable, unfixed, medium), Limits(high=2)) == ()


@pytest.mark.parametrize(
    ("wanted", "carried"),
    [
        ("openssl", True),
        ("openssl@3.0.1", True),
        ("openssl@3.0", False),
        ("open", False),
        ("pkg:deb/debian/openssl", True),
        ("pkg:deb/debian/openssl@3.0.1", True),
        ("pkg:deb/debian/openssl@3.0.1?arch=amd64", True),
        ("pkg:deb/debian/openssl@3.0.2", False),
        ("pkg:pypi/openssl", False),
        ("pkg:deb/debian/openssl@3.0.1?arch=source", True),
        ("pkg:deb/debian/glibc", True),
        ("pkg:deb/debian/libc6@2.36+1", True),
        ("glibc", True),
        ("glibc@2.36", True),
        ("glibc@2.36+1", False),
        ("libc6@2.36+1", True),
        ("Zope.Interface", True),
        ("pkg:pypi/Zope_Interface@5.1", True),
        ("pkg:npm/zope-interface", False),
        ("org.apache.logging.log4j:log4j-core", True),
        ("org.apache.logging.log4j:log4j-core@2.14.1", True),
        ("pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", True),
        ("log4j-core@2.14", False),
        ("stdlib@go1.22.1", True),
        ("pkg:golang/stdlib@1.22.1", True),
        ("bind-libs@32:9.16-1", True),
        ("bind-libs@9.16-1", True),
        ("bind", True),
        ("github.com/apple/swift-nio", True),
        ("akismet@5.0", True),
        ("pkg:generic/akismet@5.0", True),
        ("", False),
        (".", False),
        ("@1", False),
    ],
)
def test_contains_package_matches_name_version_and_url(wanted, carried):
    """Advisories name packages in different forms."""
    packages = [
        ("deb", "zlib1g", "pkg:deb/debian/zlib1g@1"),
        ("deb", "openssl", "pkg:deb/debian/openssl@3.0.1?arch=amd64"),
        ("deb", "libc6", "pkg:deb/debian/libc6@2.36%2B1?upstream=glibc%402.36"),
        ("python", "zope-interface", "pkg:pypi/zope-interface@5.1"),
        ("java-archive", "log4j-core", "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"),
        ("go-module", "stdlib", "pkg:golang/stdlib@1.22.1"),
        ("rpm", "bind-libs", "pkg:rpm/centos/bind-libs@9.16-1?epoch=32&upstream=bind-9.16-1.src.rpm"),
        ("swift", "swift-nio", "pkg:swift/github.com/apple/swift-nio@2.0"),
        ("wordpress-plugin", "akismet", ""),
    ]

    assert contains_package(packages, ["nothing", wanted]) is carried


def test_rebuild_is_proposed_if_newest_base_fixes_a_finding(make, rescanned):
    """The proposal names only findings that the newest admitted base no longer has."""
    flaw, stays, own = (make.finding(id=f"CVE-{n}") for n in (1, 2, 3))
    ref = ImageRef(repository="curated/base/python", digest="sha256:" + "1" * 64)
    old = RescanResult(ref=ref, passes=True, findings=(flaw, stays))
    new = old.model_copy(update={"ref": ref.model_copy(update={"digest": "sha256:" + "2" * 64}), "findings": (stays,)})
    refused = new.model_copy(update={"ref": ref.model_copy(update={"digest": "sha256:" + "3" * 64}), "passes": False,
                                     "findings": ()})  # fmt: skip
    fixed = find_fixes([refused, new, old])

    (proposed,) = propose_rebuilds([flaw, stays, own], [ref.digest, ref.digest], fixed)

    assert (proposed.newest, proposed.findings) == (new.ref.digest, ("CVE-1",))
    assert propose_rebuilds([stays, own], [ref.digest], fixed) == ()
    assert propose_rebuilds([flaw], [new.ref.digest], fixed) == () and find_fixes([refused, old]) != fixed


def test_newer_version_with_same_finding_is_not_fixed(make):
    """Most updates of a package with an open finding do not fix it."""
    ref = ImageRef(repository="curated/base/python", digest="sha256:" + "1" * 64)
    old = make.finding(version="1-1")
    other = make.finding(version="1-1", type="python")
    base = RescanResult(ref=ref, passes=True, findings=(old, other))
    newer = base.model_copy(
        update={
            "ref": ref.model_copy(update={"digest": "sha256:" + "2" * 64}),
            "findings": (make.finding(version="1-2"),),
        }
    )

    ((_, rid),) = find_fixes([newer, base]).values()

    assert rid == {make_finding_key(other)}, "another kind of package of that name is another package"
