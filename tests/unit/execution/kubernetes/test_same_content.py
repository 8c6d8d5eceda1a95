"""Digests of manifests with the same content."""

from __future__ import annotations

from typing import Any

import pytest

from supply_chain.errors import ImageDamaged, ImageNotFound
from supply_chain.execution.kubernetes.same_content import has_same_content
from supply_chain.model.image import ImageRef

CURATED = ImageRef(repository="curated/hello", digest="sha256:" + "1" * 64)
OTHER = "sha256:" + "5" * 64
ONE: dict[str, Any] = {"config": {"digest": "sha256:c"}, "layers": [{"digest": "sha256:a"}], "annotations": {"a": "1"}}


@pytest.mark.parametrize(
    ("manifest", "is_same"),
    [
        (ONE | {"annotations": {"a": "2"}}, True),
        (ONE | {"config": {"digest": "sha256:d"}}, False),
        (ONE | {"layers": [{"digest": "sha256:b"}]}, False),
        (ONE | {"manifests": []}, False),
        ({"manifests": []}, False),
        (None, False),
    ],
)
def test_manifests_of_one_configuration_and_layers_have_the_same_content(
    manifest: dict[str, Any] | None, is_same: bool
) -> None:
    """A manifest that is gone cannot be compared."""

    class Registry:
        def manifest(self, ref: ImageRef) -> dict[str, Any]:
            assert ref.repository == CURATED.repository
            if ref.digest != OTHER:
                return ONE
            if manifest is None:
                raise ImageNotFound("it is gone")
            return manifest

    assert has_same_content(Registry(), CURATED, OTHER) is is_same


def test_indexes_are_not_compared() -> None:
    """Neither names a configuration."""

    class Registry:
        def manifest(self, _: ImageRef) -> dict[str, Any]:
            return {"manifests": []}

    assert not has_same_content(Registry(), CURATED, OTHER)


@pytest.mark.parametrize(
    "digest", ["", "sha256:x", "sha256:../../x/manifests/y", f"{OTHER}?x=1", "sha512:" + "5" * 128]
)
def test_invalid_digest_is_not_requested_from_registry(digest: str) -> None:
    """Whoever writes the status of a pod may write anything."""

    class Registry:
        def manifest(self, ref: ImageRef) -> dict[str, Any]:
            raise AssertionError(ref)

    assert not has_same_content(Registry(), CURATED, digest)


def test_damaged_manifest_is_not_the_same() -> None:
    """The registry answers the other digest with something else."""

    class Registry:
        def manifest(self, ref: ImageRef) -> dict[str, Any]:
            raise ImageDamaged("it is another one")

    assert not has_same_content(Registry(), CURATED, OTHER)
