"""Parses a registry's lists of referrers (OCI distribution 1.1, "Listing Referrers")."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, Field, field_validator

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.store import Referrer
from supply_chain.model.image import Digest, ImageRef


class _Entry(BaseModel):
    """A descriptor in a list of referrers."""

    digest: Digest
    artifact_type: str = Field(default="", alias="artifactType")
    annotations: dict[str, str] = Field(default_factory=dict)

    @field_validator("artifact_type", mode="before")
    @classmethod
    def _text(cls, value: Any) -> str:
        """Replace a value that is not text by an empty text: the author writes it, and not every registry checks it."""
        return value if isinstance(value, str) else ""

    @field_validator("annotations", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> dict[str, str]:
        texts = value.items() if isinstance(value, dict) else ()
        return {key: text for key, text in texts if isinstance(text, str)}


class _Page(BaseModel):
    """A page of a list of referrers: an image index (OCI distribution 1.1)."""

    manifests: tuple[_Entry, ...] | None


def parse_referrers(content: bytes, subject: ImageRef) -> list[Referrer]:
    """Return the referrers on a page of an image's list; raise `EvidenceInvalid` if the page cannot be read."""
    try:
        page = _Page.model_validate(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise EvidenceInvalid(
            f"The registry's list of referrers of {subject} cannot be read: {str(error)[:300]}\n"
            "The evidence may therefore be incomplete, so it is not used. Check the registry's version, and read its "
            "log."
        ) from error
    return [
        Referrer(digest=e.digest, artifact_type=e.artifact_type, annotations=e.annotations)
        for e in page.manifests or ()
    ]
