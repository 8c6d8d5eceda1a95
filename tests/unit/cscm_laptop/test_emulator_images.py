"""The images and result pages of the emulator, without a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cscm_laptop.emulator.api import ApiError, one_by_one, page
from cscm_laptop.emulator.images import (
    Record,
    Unfound,
    artifact_type,
    available,
    chosen,
    detail,
    identities,
    named,
    size,
)
from cscm_laptop.emulator.mutability import FILTERS, fixed, is_taken, setting
from cscm_laptop.emulator.storage_class import ACTIVATION, activate, archive, pushed_again, restore

A, B, C = ("sha256:" + letter * 64 for letter in "abc")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def record(digest: str = A, *tags: str, **manifest: Any) -> Record:
    return {
        "registryId": "000000000000",
        "repositoryName": "dev/app",
        "imageDigest": digest,
        "imageTags": list(tags),
        "imagePushedAt": 1.5,
        "imageManifestMediaType": MANIFEST,
        "imageManifest": json.dumps(manifest),
    }


def index(digest: str, *children: str) -> Record:
    return record(digest, manifests=[{"digest": child} for child in children])


def test_image_is_found_by_digest_tag_or_both() -> None:
    """Both must identify the same image."""
    one, two = record(A, "one"), record(B, "two")

    for identity in ({"imageDigest": A}, {"imageTag": "one"}, {"imageDigest": A, "imageTag": "one"}):
        assert named([one, two], identity) is one


@pytest.mark.parametrize(
    ("identity", "code"),
    [
        ({}, "MissingDigestAndTag"),
        ({"imageDigest": "nonsense"}, "InvalidImageDigest"),
        ({"imageDigest": C}, "ImageNotFound"),
        ({"imageTag": "three"}, "ImageNotFound"),
        ({"imageDigest": A, "imageTag": "three"}, "ImageNotFound"),
        ({"imageDigest": B, "imageTag": "one"}, "ImageTagDoesNotMatchDigest"),
    ],
)
def test_unknown_image_gives_error_code_of_aws(identity: dict[str, str], code: str) -> None:
    """The codes are those of the API."""
    with pytest.raises(Unfound) as unfound:
        named([record(A, "one"), record(B, "two")], identity)

    assert unfound.value.code == code


def test_image_has_one_identity_per_tag() -> None:
    """An untagged image has one identity without a tag."""
    assert identities(record(A, "two", "one")) == [
        {"imageDigest": A, "imageTag": "one"},
        {"imageDigest": A, "imageTag": "two"},
    ]
    assert identities(record(A)) == [{"imageDigest": A}]


def test_image_size_counts_config_and_layers_or_largest_child() -> None:
    """Indexes may be nested, and an index without known children has size 0."""
    small = record(A, config={"size": 1}, layers=[{"digest": "x", "size": 10}])
    large = record(B, config={"size": 2}, layers=[{"digest": "x", "size": 20}, {"digest": "y", "size": 20}])
    inner, outer = index(C, A, B), index("sha256:1", C, "sha256:gone")
    everything = [small, large, inner, outer]

    assert [size(each, everything) for each in everything] == [11, 42, 42, 42]
    assert size(index("sha256:2", "sha256:gone"), everything) == 0


@pytest.mark.parametrize(
    "text",
    ["", "[]", "not JSON", pytest.param("[" * 100_000, id="deep"), '{"layers": 3, "config": "x", "manifests": {}}'],
)
def test_invalid_manifest_has_no_size_type_or_subject(text: str) -> None:
    """PutImage accepts any text."""
    odd = {**record(), "imageManifest": text}

    assert (size(odd, [odd]), artifact_type(odd)) == (0, None)
    assert "subjectManifestDigest" not in detail(odd, [odd])


def test_image_detail_omits_empty_fields() -> None:
    """AWS omits them too; an empty time would mean 1970."""
    found = detail(record(A), [])

    assert found["imageStatus"] == "ACTIVE"
    assert set(found) == {
        "registryId", "repositoryName", "imageDigest", "imageSizeInBytes", "imagePushedAt",
        "imageManifestMediaType", "imageStatus",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "tagged untagged"),
        ({"tagStatus": "TAGGED"}, "tagged"),
        ({"tagStatus": "UNTAGGED"}, "untagged"),
        ({"imageStatus": "ARCHIVED"}, "archived"),
        ({"imageStatus": "ANY", "tagStatus": "ANY"}, "tagged untagged archived"),
    ],
)
def test_image_filters_select_by_tag_and_status(filters: dict[str, str], expected: str) -> None:
    """The default is active images only."""
    images = {"tagged": record(A, "one"), "untagged": record(B), "archived": {**record(C), "imageStatus": "ARCHIVED"}}

    assert " ".join(name for name, each in images.items() if chosen(each, filters, otherwise="ACTIVE")) == expected


def test_restored_image_can_be_pulled_after_activation_time() -> None:
    """The documentation of AWS says so: an image cannot be pulled until its restore completes."""
    image = record(A)

    archive(image, [image], now=10.0)
    restore(image, now=20.0)

    assert not activate(image, now=20.0 + ACTIVATION - 0.01)
    with pytest.raises(Unfound):
        available([image], {"imageDigest": A})
    assert activate(image, now=20.0 + ACTIVATION)
    assert not activate(image, now=99.0)
    assert available([image], {"imageDigest": A}) is image
    assert (image["lastArchivedAt"], image["lastActivatedAt"]) == (10.0, 20.0 + ACTIVATION)


@pytest.mark.parametrize("begun", [False, True], ids=["archived", "activating"])
def test_push_activates_archived_image_at_once(begun: bool) -> None:
    """This includes an image being restored; an active image does not change."""
    image, other = record(A), record(B)
    archive(image, [image], now=10.0)
    if begun:
        restore(image, now=11.0)

    for each in (image, other):
        pushed_again(each, now=12.0)

    assert available([image], {"imageDigest": A}) is image
    assert image["lastActivatedAt"] == 12.0 and "lastActivatedAt" not in other
    assert not activate(image, now=99.0)


ARCHIVE: Callable[[Record], None] = lambda image: archive(image, [image], 1.0)  # noqa: E731
RESTORE: Callable[[Record], None] = lambda image: restore(image, 1.0)  # noqa: E731


@pytest.mark.parametrize(
    ("steps", "step"),
    [([], RESTORE), ([ARCHIVE], ARCHIVE), ([ARCHIVE, RESTORE], ARCHIVE), ([ARCHIVE, RESTORE], RESTORE)],
    ids=["restore active", "archive archived", "archive activating", "restore activating"],
)
def test_storage_class_update_without_effect_is_refused(
    steps: list[Callable[[Record], None]], step: Callable[[Record], None]
) -> None:
    """The image does not change."""
    image = record(A)
    for each in steps:
        each(image)
    before = dict(image)

    with pytest.raises(ApiError) as refused:
        step(image)

    assert refused.value.code == "ImageStorageClassUpdateNotSupportedException"
    assert image == before


def test_child_image_is_archived_after_its_index() -> None:
    """An image that can be pulled must be complete."""
    child, parent = record(A), index(B, A)
    everything = [child, parent]

    with pytest.raises(ApiError, match=B):
        archive(child, everything, 1.0)
    for each in (parent, child):
        archive(each, everything, 1.0)

    assert child["imageStatus"] == "ARCHIVED"


def test_pages_contain_each_item_once_despite_changes() -> None:
    """Items may be added and removed between pages."""
    items = [f"{number:02}" for number in range(10)]
    listed: list[str] = []
    data: dict[str, Any] = {"maxResults": 3}
    while True:
        found, more = page(items, lambda each: (each,), data, usual=100, most=1000)
        listed += found
        if not more:
            break
        data |= more
        items = [each for each in items if each != found[-1]] + [f"00{len(listed)}"]

    assert listed == [f"{number:02}" for number in range(10)]


def test_last_page_has_no_token() -> None:
    """This holds even if the page is full."""
    assert page(["1", "2"], lambda each: (each,), {"maxResults": 2}, usual=1, most=9) == (["1", "2"], {})
    assert page(["1", "2"], lambda each: (each,), {}, usual=1, most=9)[0] == ["1"]


@pytest.mark.parametrize(
    "data",
    [
        {"maxResults": 0},
        {"maxResults": 51},
        {"maxResults": "5"},
        {"nextToken": "é"},
        {"nextToken": "e30="},
        {"nextToken": "WzFd"},
    ],
)
def test_invalid_page_parameters_are_refused(data: dict[str, Any]) -> None:
    """The error is that of the API."""
    with pytest.raises(ApiError) as refused:
        page(["1"], lambda each: (each,), data, usual=1, most=50)

    assert refused.value.code == "InvalidParameterException"


@pytest.mark.parametrize("more", [{"maxResults": 1}, {"nextToken": "t"}])
def test_page_parameters_are_refused_with_image_ids(more: dict[str, Any]) -> None:
    """The documentation of AWS says that imageIds excludes these options."""
    one_by_one({"imageIds": [{"imageTag": "one"}]}, "imageIds")
    one_by_one(more, "imageIds")
    with pytest.raises(ApiError):
        one_by_one({"imageIds": [{"imageTag": "one"}], **more}, "imageIds")


@pytest.mark.parametrize(
    ("chosen_setting", "tag", "expected"),
    [
        ("MUTABLE", "1.0", False),
        ("IMMUTABLE", "dev-1", True),
        ("IMMUTABLE_WITH_EXCLUSION", "1.0", True),
        ("IMMUTABLE_WITH_EXCLUSION", "dev-1", False),
        ("IMMUTABLE_WITH_EXCLUSION", "xdev-1", True),
        ("MUTABLE_WITH_EXCLUSION", "1.0", False),
        ("MUTABLE_WITH_EXCLUSION", "dev-1", True),
    ],
)
def test_tag_immutability_follows_setting_and_exclusions(chosen_setting: str, tag: str, expected: bool) -> None:
    """An asterisk matches anything, and nothing else is a pattern."""
    filters = [{"filterType": "WILDCARD", "filter": "dev-*"}, {"filterType": "WILDCARD", "filter": "1+0"}]
    repository = {"imageTagMutability": chosen_setting, FILTERS: filters}

    assert fixed(repository, tag) is expected
    assert is_taken(repository, [record(A, tag)], tag, B) is expected
    assert not is_taken(repository, [record(A, tag)], tag, A)


def test_exclusion_filters_require_matching_setting() -> None:
    """There may be one to five filters."""
    filters = [{"filterType": "WILDCARD", "filter": "dev-*"}]

    assert setting({}) == {"imageTagMutability": "MUTABLE"}
    assert setting({"imageTagMutability": "IMMUTABLE_WITH_EXCLUSION", FILTERS: filters})[FILTERS] == filters
    for wrong in (
        {"imageTagMutability": "SOMETIMES"},
        {"imageTagMutability": "IMMUTABLE", FILTERS: filters},
        {"imageTagMutability": "IMMUTABLE_WITH_EXCLUSION"},
        {"imageTagMutability": "IMMUTABLE_WITH_EXCLUSION", FILTERS: filters * 6},
    ):
        with pytest.raises(ApiError):
            setting(wrong)
