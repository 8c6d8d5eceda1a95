"""The SBOM is read only as it was signed."""

import base64
import gzip
import hashlib
import json
import zlib
from datetime import timedelta

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence import sbom as module
from supply_chain.evidence.examination import Examination, Identity
from supply_chain.evidence.sbom import (
    Configuration,
    Reference,
    References,
    Referred,
    find_last_sbom,
    list_packages,
    read_sbom_listing,
    read_sbom_packages,
    read_signed_sbom,
    select_system_packages,
)
from supply_chain.evidence.statement import BUNDLE, SBOM, make_image_statement
from supply_chain.evidence.store import CREATED, PREDICATE
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.support.present import present
from tests.support.signer import digest_of

LATER = "2026-11-24T12:00:01+00:00"
REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)


@pytest.fixture
def signed(world):
    """Return a function that attaches a signed SBOM statement and returns the verified evidence."""

    def attach(predicate, created="2026-11-24T12:00:00+00:00"):
        bundle = world.signers[TierName.CURATION].sign(make_image_statement(REF, SBOM, predicate))
        world.registry.attach(REF, BUNDLE, bundle, {PREDICATE: SBOM, CREATED: created})
        return world.store(TierName.EXECUTION).read_verified(REF, TierName.CURATION)

    return attach


def referrer_of(predicate):
    """Return the location of the SBOM that a statement names."""
    return REF.model_copy(update={"digest": predicate["references"][0]["annotations"]["referrer"]})


ABOUT = {
    "config": {
        "User": "10001", "ExposedPorts": {"9090/tcp": {}, "8080/tcp": {}}, "Labels": {"b": "2", "a": "1"},
    },
    "created": "2026-11-24T12:00:00Z",
}  # fmt: skip


def encoded(configuration):
    return base64.b64encode(json.dumps(configuration).encode()).decode()


def sbom_of(configuration):
    """Return the part of an SBOM that is about an image with this configuration."""
    return {"source": {"type": "image", "metadata": {"imageSize": 4096, "config": encoded(configuration)}}}


@pytest.mark.parametrize(
    ("distro", "found"),
    [
        ({"id": "debian", "versionID": "12", "versionCodename": "bookworm"}, ("debian", "12", "bookworm")),
        ({"id": "debian", "versionCodename": "sid"}, ("debian", "", "sid")),
        ({"prettyName": "Something"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_listing_has_the_distribution_that_syft_read(world, make, signed, distro, found):
    """Syft writes an empty object for an image without one."""
    listed = read_sbom_listing(signed(make.sbom(world.registry, REF, "openssl", distro=distro)), world.registry.content)

    assert listed is not None
    assert (listed.distribution and tuple(listed.distribution.model_dump().values())) == found


@pytest.mark.parametrize("distro", [{"id": 1}, {"id": "debian", "versionID": 12}, [1], {"id": "\ud800"}])
def test_listing_of_sbom_with_malformed_distribution_is_refused(world, make, signed, distro):
    """Only syft writes one, and it writes texts."""
    with pytest.raises(EvidenceInvalid):
        read_sbom_listing(signed(make.sbom(world.registry, REF, "openssl", distro=distro)), world.registry.content)


def test_listing_has_the_configuration_of_the_image(world, make, signed):
    """Syft reads it from the image's configuration, by digest."""
    evidence = signed(make.sbom(world.registry, REF, "openssl", **sbom_of(ABOUT)))

    found = read_sbom_listing(evidence, world.registry.content)

    assert found is not None and found.packages == read_sbom_packages(evidence, world.registry.content)
    assert found.configuration == Configuration("10001", ("8080/tcp", "9090/tcp"), {"a": "1", "b": "2"}, 4096)
    assert read_sbom_listing([], world.registry.content) is None


@pytest.mark.parametrize("configuration", [{"config": {}}, {"config": None}, {}, {"config": {"User": None}}])
def test_listing_of_image_without_settings_has_empty_ones(world, make, signed, configuration):
    """An image without a user runs as root; that is known."""
    evidence = signed(make.sbom(world.registry, REF, "openssl", **sbom_of(configuration)))

    found = read_sbom_listing(evidence, world.registry.content)

    assert found is not None and found.configuration == Configuration("", (), {}, 4096)


@pytest.mark.parametrize("more", [{}, {"source": {"type": "directory", "metadata": {"path": "/"}}}])
def test_listing_of_sbom_without_image_has_no_configuration(world, make, signed, more):
    """It is unknown, which is not the same as empty."""
    found = read_sbom_listing(signed(make.sbom(world.registry, REF, "openssl", **more)), world.registry.content)

    assert found is not None and found.configuration is None


@pytest.mark.parametrize(
    "settings",
    [{"User": 1}, {"User": "\ud800"}, {"ExposedPorts": [1]}, {"Labels": {"a": 1}}, {"Labels": {"a": "\ud800"}},
     {"Labels": {"\udfff": ""}}, {"Labels": ["a"]}],
    ids=str,
)  # fmt: skip
def test_listing_raises_for_settings_that_are_no_texts(world, make, signed, settings):
    """Facts with them could neither be judged nor stored, and one image would stop the inventory of all."""
    evidence = signed(make.sbom(world.registry, REF, "openssl", **sbom_of({"config": settings})))

    with pytest.raises(EvidenceInvalid, match="cannot be read"):
        read_sbom_listing(evidence, world.registry.content)


@pytest.mark.parametrize(
    "source", ["x", {"metadata": {"config": "e30="}}, {"metadata": {"config": "*", "imageSize": 1}}], ids=str
)
def test_listing_raises_if_the_configuration_is_unreadable(world, make, signed, source):
    """Nothing is assumed about an image."""
    evidence = signed(make.sbom(world.registry, REF, "openssl", source=source))

    with pytest.raises(EvidenceInvalid):
        read_sbom_listing(evidence, world.registry.content)


def test_listing_has_packages_by_licence(world, make, signed):
    """An SPDX expression counts rather than the text in the package; a package may have several licences."""
    artifacts = [
        {"type": "deb", "name": "a", "licenses": [{"value": "GPL 2", "spdxExpression": "GPL-2.0-only"}]},
        {"type": "deb", "name": "b", "licenses": [{"value": "MIT", "spdxExpression": ""}, {"value": "GPL-2.0-only"}]},
        {"type": "python", "name": "c", "licenses": []},
        {"type": "python", "name": "d"},
    ]
    evidence = signed(make.sbom(world.registry, REF, artifacts=artifacts))

    found = read_sbom_listing(evidence, world.registry.content)

    assert found is not None and found.unlicensed == {"python/c", "python/d"}
    assert found.licenses == {"GPL-2.0-only": {"deb/a", "deb/b"}, "MIT": {"deb/b"}}
    assert list(found.licenses) == ["GPL-2.0-only", "MIT"], "sorted"


def test_packages_have_type_name_and_url(world, make, signed):
    """The values are those of syft."""
    evidence = signed(make.sbom(world.registry, REF, "openssl", "zlib1g"))

    assert read_sbom_packages(evidence, world.registry.content) == frozenset(
        {
            ("deb", "openssl", "pkg:deb/openssl"),
            ("deb", "zlib1g", "pkg:deb/zlib1g"),
        }
    )


def test_missing_sbom_differs_from_empty_sbom(world):
    """None means that nobody scanned; an empty set means that a scan found nothing."""
    assert read_sbom_packages((), world.registry.content) is None


@pytest.mark.parametrize("created", ["2026-11-23T12:00:00+00:00", "2026-11-25T12:00:00+00:00"])
def test_newest_sbom_by_signed_time_counts(world, make, signed, created):
    """The annotation of the referrer does not matter."""
    signed(make.sbom(world.registry, REF, "old", at=make.noon - timedelta(seconds=1)), created=created)
    evidence = signed(make.sbom(world.registry, REF, "new"))

    found = read_signed_sbom(evidence, world.registry.content)
    assert found is not None

    assert found.packages == {("deb", "new", "pkg:deb/new")}
    assert found.evidence.predicate["created"] == make.noon.isoformat()


def test_packages_are_listed_from_the_content_of_an_sbom():
    """An SBOM that was just made is not signed yet."""
    content = b'{"artifacts": [{"type": "deb", "name": "a", "purl": "pkg:deb/a"}, {"type": "python", "name": "b"}]}'

    assert list_packages(content) == {("deb", "a", "pkg:deb/a"), ("python", "b", "")}


def test_sbom_without_sha256_is_invalid(world, make, signed):
    """Content that cannot be compared is not accepted."""
    predicate = make.sbom(world.registry, REF)
    predicate["references"][0]["digest"] = {"sha512": "0" * 128}

    with pytest.raises(EvidenceInvalid, match="sha256"):
        read_sbom_packages(signed(predicate), world.registry.content)


def test_sbom_predicate_follows_in_toto_reference(make):
    """The names are those of in-toto reference v0.1, and reading restores the value."""
    made = References(
        references=(
            Reference(
                name="syft",
                media_type="application/vnd.syft+json",
                digest={"sha256": "0" * 64},
                annotations=Referred(referrer=make.digest, generator="syft 1.2.3", packages=3),
            ),
        ),
        created=make.noon,
    )

    assert made.predicate() == {
        "attester": {"id": "urn:cscm:tier:curation"},
        "references": [
            {
                "name": "syft",
                "mediaType": "application/vnd.syft+json",
                "digest": {"sha256": "0" * 64},
                "annotations": {"referrer": make.digest, "generator": "syft 1.2.3", "packages": 3},
            }
        ],
        "examination": None,
        "created": "2026-11-24T12:00:00Z",
    }
    assert References.model_validate(made.predicate()) == made


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b'{"artifacts": []}'),
        b"not compressed",
        gzip.compress(b'{"artifacts": [{"type": "deb", "name": "openssl"}]}')[:-9],
        b"",
    ],
    ids=["another", "rubbish", "cut short", "nothing"],
)
def test_sbom_with_other_content_than_signed_is_invalid(world, make, signed, content):
    """Nobody with write access to the registry can empty the list."""
    predicate = make.sbom(world.registry, REF, "openssl")

    with pytest.raises(EvidenceInvalid, match="cannot be read"):
        read_sbom_packages(signed(predicate), lambda _: content)


@pytest.mark.parametrize(
    "listed",
    [
        b"",
        b"rubbish",
        b"null",
        b"[]",
        b"{}",
        b'{"artifacts": 1}',
        b'{"artifacts": [1]}',
        b'{"artifacts": ["openssl"]}',
        b'{"artifacts": [[]]}',
        b'{"artifacts": [{"type": "deb"}]}',
        b'{"artifacts": [{"name": "openssl"}]}',
        b"[" * 100_000,
        b"\xff",
    ],
    ids=lambda listed: repr(listed)[:40],
)
def test_malformed_signed_sbom_is_invalid(world, make, signed, listed):
    """A malformed SBOM is neither empty nor missing, even if the tier signed it."""
    predicate = make.sbom(world.registry, REF)
    predicate["references"][0]["digest"]["sha256"] = hashlib.sha256(listed).hexdigest()

    with pytest.raises(EvidenceInvalid, match="cannot be read"):
        read_sbom_packages(signed(predicate), lambda _: gzip.compress(listed))


@pytest.mark.parametrize("source", [None, {}, {"metadata": {}}, {"metadata": {"manifest": "?"}}], ids=str)
def test_sbom_without_source_manifest_raises_on_access(world, make, signed, source):
    """An SBOM of a directory or of another generator has none."""
    found = read_signed_sbom(signed(make.sbom(world.registry, REF, source=source)), world.registry.content)
    assert found is not None

    with pytest.raises(EvidenceInvalid, match="cannot be read"):
        _ = found.manifest


def test_package_without_url_is_listed(world, make, signed):
    """Not every package has a URL."""
    listed = b'{"artifacts": [{"type": "binary", "name": "busybox"}]}'
    predicate = make.sbom(world.registry, REF)
    predicate["references"][0]["digest"]["sha256"] = hashlib.sha256(listed).hexdigest()

    assert read_sbom_packages(signed(predicate), lambda _: gzip.compress(listed)) == frozenset(
        {("binary", "busybox", "")}
    )


def test_sbom_larger_than_512_mib_is_invalid(world, make, signed, monkeypatch):
    """A few compressed bytes can expand to any size."""
    predicate = make.sbom(world.registry, REF, "openssl")
    size = len(gzip.decompress(world.registry.content(referrer_of(predicate))))
    evidence = signed(predicate)
    assert module.LIMIT == 2**29

    monkeypatch.setattr(module, "LIMIT", size + 1)
    assert read_sbom_packages(evidence, world.registry.content)
    monkeypatch.setattr(module, "LIMIT", size - 1)
    with pytest.raises(EvidenceInvalid, match="does not end"):
        read_sbom_packages(evidence, world.registry.content)


def test_sbom_tells_its_location_and_generator(world, make, signed):
    """It can be read again, and made again with the same tool."""
    predicate = make.sbom(world.registry, REF, "openssl")
    (evidence,) = signed(predicate)

    found = read_signed_sbom([evidence], world.registry.content)
    assert found is not None

    assert (found.referrer, found.generator, found.evidence) == (
        referrer_of(predicate).digest,
        "syft 1.2.3",
        evidence,
    )
    assert json.loads(found.content)["artifacts"][0]["name"] == "openssl"
    assert found.digest == digest_of(found.content)


def test_examination_of_another_version_does_not_count(world, make, signed):
    """An older examination did not look for everything."""
    predicate = make.sbom(world.registry, REF, "openssl")
    for number, (examination, found) in enumerate(
        (
            ({"distribution": {"id": "debian"}}, Examination(distribution=Identity(id="debian"))),
            ({"version": "0"}, None),
            (None, None),
        )
    ):
        evidence = signed({**predicate, "examination": examination}, f"2026-11-24T12:00:0{number}+00:00")
        assert present(find_last_sbom(evidence[-1:])).examination == found


def test_only_syft_format_is_read(world, make, signed):
    """The other formats are made from it; two references with its name are invalid."""
    predicate = make.sbom(world.registry, REF, "openssl")
    spdx = {**predicate["references"][0], "name": "spdx", "digest": {"sha256": "0" * 64}}
    evidence = signed({**predicate, "references": [spdx, *predicate["references"]]})

    assert read_sbom_packages(evidence, world.registry.content) == frozenset({("deb", "openssl", "pkg:deb/openssl")})
    twice = signed({**predicate, "references": 2 * predicate["references"]}, created=LATER)
    with pytest.raises(EvidenceInvalid, match="cannot be read"):
        read_sbom_packages(twice, world.registry.content)


def test_sbom_error_is_cut_to_500_characters(world, make, signed):
    """Content may be of any size, but a message may not."""

    def content(referrer):
        raise ValueError("x" * 10_000)

    with pytest.raises(EvidenceInvalid) as caught:
        read_sbom_packages(signed(make.sbom(world.registry, REF)), content)

    assert str(caught.value).count("x") == 500


def test_large_sbom_is_read_completely(world, make, signed):
    """The compressed stream refers back further than 20 KiB (RFC 1951 allows 32)."""
    names = [digest_of(b"%d" % n) for n in range(280)]
    predicate = make.sbom(world.registry, REF, *names, *(f"{name}-dev" for name in names))

    assert len(present(read_sbom_packages(signed(predicate), world.registry.content))) == 560


def test_sbom_that_is_not_gzip_is_invalid(world, make, signed):
    """An SBOM is attached as gzip (RFC 1952)."""
    predicate = make.sbom(world.registry, REF, "openssl")
    listed = gzip.decompress(world.registry.content(referrer_of(predicate)))

    with pytest.raises(EvidenceInvalid, match="cannot be read"):
        read_sbom_packages(signed(predicate), lambda _: zlib.compress(listed))


@pytest.mark.parametrize("predicate", [{}, {"references": []}, {"references": [{"name": "syft"}]}, {"references": 1}])
def test_signed_statement_without_sbom_reference_is_invalid(world, signed, predicate):
    """Another version may have made it, so it does not count as empty."""
    with pytest.raises(EvidenceInvalid, match="cannot be read"):
        read_sbom_packages(signed(predicate), world.registry.content)


def test_system_packages_are_those_of_the_distribution():
    """An image may replace its virtual environment, but not the records of the package manager."""
    assert select_system_packages(frozenset({("deb", "a", ""), ("python", "b", ""), ("apk", "c", "")})) == {
        ("deb", "a", ""),
        ("apk", "c", ""),
    }
