"""Archive and restore images (Amazon ECR User Guide, "Archiving an image", "Restoring an image").

Archiving takes effect at once. Restoring takes a while, during which the image is still not available. Pushing an
archived image again restores it at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from cscm_laptop.emulator.api import ApiError
from cscm_laptop.emulator.images import ACTIVATING, ACTIVE, ARCHIVED, Record, holders, status

ACTIVATION = 2.0
"""Duration of a restore in seconds; AWS promises at most twenty minutes."""

UNSUPPORTED = "ImageStorageClassUpdateNotSupportedException"


def archive(record: Record, records: Sequence[Record], now: float) -> None:
    """Move an active image into the archive; raise `ApiError` if that is not possible.

    An image that an active index lists stays, as for lifecycle policies (User Guide, "Lifecycle policy evaluation
    rules").
    """
    if status(record) != ACTIVE:
        raise _unsupported(record, "archived")
    by = [each for each in records if status(each) == ACTIVE and each["imageDigest"] in _holders(record, records)]
    if by:
        digests = ", ".join(each["imageDigest"] for each in by)
        raise ApiError(UNSUPPORTED, f"The image is referenced by manifest list: [{digests}]")
    record["imageStatus"], record["lastArchivedAt"] = ARCHIVED, now


def restore(record: Record, now: float) -> None:
    """Begin to restore an archived image; `activate` ends it. Raise `ApiError` if the image is not archived."""
    if status(record) != ARCHIVED:
        raise _unsupported(record, "restored")
    record["imageStatus"], record["activeFrom"] = ACTIVATING, now + ACTIVATION


def activate(record: Record, now: float) -> bool:
    """End a restore that is due; return whether it was."""
    if status(record) != ACTIVATING or now < record["activeFrom"]:
        return False
    _awaken(record, now)
    return True


def pushed_again(record: Record, now: float) -> None:
    """Make an image that is archived, or being restored, active at once."""
    if status(record) != ACTIVE:
        _awaken(record, now)


def _awaken(record: Record, now: float) -> None:
    record["imageStatus"], record["lastActivatedAt"] = ACTIVE, now
    record.pop("activeFrom", None)


def _holders(record: Record, records: Sequence[Record]) -> list[str]:
    return holders(records, record["imageDigest"])


def _unsupported(record: Record, action: str) -> ApiError:
    return ApiError(UNSUPPORTED, f"An image with the status {status(record)} cannot be {action}.")
