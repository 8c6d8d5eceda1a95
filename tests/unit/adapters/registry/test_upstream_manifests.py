"""Manifests of images from elsewhere: which ones an engine reads, and which it may not be given."""

import json

import pytest

from supply_chain.adapters.registry.upstream_manifests import MANIFESTS, Manifest, read_manifest

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
ELSEWHERE = ["http://127.0.0.1:8080/admin"]


def index(*described, **more):
    """Return an index of manifests, each with a digest of its own, with these descriptions of their platforms."""
    digests = (A, B, C)
    manifests = [{"digest": at, **entry} for at, entry in zip(digests, described, strict=False)]
    return json.dumps({"schemaVersion": 2, "manifests": manifests, **more})


def runs(system, architecture, **more):
    return {"platform": {"os": system, "architecture": architecture, **more}}


@pytest.mark.parametrize(
    ("described", "platform", "read"),
    [
        (runs("linux", "amd64"), "linux/amd64", True),
        (runs("Linux", "X86_64", variant="v3"), "linux/amd64", True),
        (runs("linux", "386"), "linux/amd64", True),
        (runs("linux", "i386"), "linux/amd64", True),
        (runs("linux", "AMD64"), "linux/arm64", False),
        (runs("linux", "aarch64"), "linux/arm64", True),
        (runs("linux", "armhf"), "linux/arm64", True),
        (runs("linux", "arm64"), "linux/amd64", False),
        (runs("windows", "amd64"), "linux/amd64", False),
        (runs("unknown", "unknown"), "linux/amd64", False),
        (runs("", ""), "linux/amd64", True),
        ({"platform": {}}, "linux/arm64", True),
        ({"platform": None}, "linux/amd64", True),
        ({}, "linux/amd64", True),
        ({"PlatForm": {"OS": "windows", "architecture": "amd64"}}, "linux/amd64", False),
        (runs("windows", "amd64"), None, True),
        (runs("unknown", "unknown"), None, True),
    ],
)
def test_manifest_is_read_if_an_engine_may_take_it_for_the_platform(described, platform, read):
    """Engines also take images for compatible architectures, and look into those without a description."""
    assert read_manifest(index(described), platform).manifests == ((A,) if read else ())


def test_all_manifests_of_an_index_are_read():
    """The index of an image for one platform may have several that match."""
    assert read_manifest(index(runs("linux", "amd64"), runs("linux", "s390x"), {}), "linux/amd64").manifests == (A, C)


@pytest.mark.parametrize("platform", ["linux/amd64", None])
def test_manifest_of_an_image_has_no_further_manifests(platform):
    """Its layers are at the registry; an empty list of addresses names none."""
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": A, "urls": []}

    text = json.dumps({"config": {"digest": B}, "layers": [layer, {"digest": C}], "manifests": None})

    assert read_manifest(text, platform) == Manifest(manifests=(), layers=(A, C))


@pytest.mark.parametrize(
    "document",
    [
        {"config": {}, "layers": [{"digest": A}, {"digest": B, "urls": ELSEWHERE}]},
        {"config": {"digest": A, "urls": ELSEWHERE}, "layers": []},
        {"manifests": [{"digest": A, "urls": ELSEWHERE, **runs("windows", "amd64")}]},
        {"config": {}, "layers": [{"digest": A, "URLs": ELSEWHERE}]},
        {"config": {}, "layers": [{"digest": A, "url\u017f": ELSEWHERE}]},
        {"config": {}, "LAYERS": [{"digest": A, "urls": ELSEWHERE}]},
        {"config": {}, "layers": [], "subject": {"digest": A, "urls": ELSEWHERE}},
    ],
    ids=["layer", "configuration", "manifest", "capitals", "long s", "layers in capitals", "subject"],
)
def test_descriptor_with_addresses_is_refused(document):
    """An engine would request them from the host's network, before the registry."""
    with pytest.raises(ValueError, match="from another address"):
        read_manifest(json.dumps(document), "linux/amd64")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{{"layers": [{{"urls": [], "URLS": ["http://a"], "digest": "{A}"}}]}}', "a name twice"),
        ('{"manifests": [], "Manifests": [{"digest": "x"}]}', "a name twice"),
        ("[]", "not a JSON object"),
        ("{", "delimiter|property name"),
        ("[" * 10**5, "too deeply"),
        ('{"layers": {"digest": "x"}}', "its layers are not a list"),
        ('{"manifests": {"digest": "x"}}', "its manifests are not a list"),
        ('{"manifests": ["x"]}', "no SHA-256 digest"),
        ('{"manifests": [{"digest": 1}]}', "no SHA-256 digest"),
        ('{"manifests": [{"digest": "sha512:aa"}]}', "no SHA-256 digest"),
        (f'{{"manifests": [{{"digest": "{A}x"}}]}}', "no SHA-256 digest"),
    ],
)
def test_document_that_engines_may_read_differently_is_refused(text, message):
    """Otherwise another part of it than the one that is read here could name an address."""
    with pytest.raises(ValueError, match=message):
        read_manifest(text, "linux/amd64")


@pytest.mark.parametrize("part", [{"config": {}}, {"layers": [{}]}])
@pytest.mark.parametrize("media", sorted(MANIFESTS))
def test_manifest_in_place_of_a_layer_is_refused(part, media):
    """An engine follows descriptors by their type, wherever they are."""
    ((name, value),) = part.items()
    described = {"mediaType": media, "digest": A}

    with pytest.raises(ValueError, match="a manifest as a layer"):
        read_manifest(json.dumps({name: described if value == {} else [described]}), "linux/amd64")
