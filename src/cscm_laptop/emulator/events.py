"""What the registry tells EventBridge (Amazon ECR User Guide, "Amazon ECR events and EventBridge")."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from ministack.services import eventbridge

from cscm_laptop.emulator.images import Record, artifact_type, subject


def tell(record: Record, action: str, **more: str) -> None:
    """Put the event of an action that succeeded on the default bus; it is in its targets' queues when this returns.

    A referrer's is an `ECR Referrer Action`, any other image's an `ECR Image Action`.
    """
    kind = "Referrer" if subject(record) else "Image"
    detail = {
        "result": "SUCCESS",
        "repository-name": record["repositoryName"],
        "image-digest": record["imageDigest"],
        "action-type": action,
        "manifest-media-type": record["imageManifestMediaType"],
        "artifact-media-type": artifact_type(record),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    known = {name: value for name, value in detail.items() if value is not None}
    entry = {"Source": "aws.ecr", "DetailType": f"ECR {kind} Action", "Detail": json.dumps(known), "Resources": []}
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
    eventbridge._events_log_list().clear()  # nothing reads it, and it would grow with every push


def pushed(record: Record, tag: str | None) -> None:
    """A manifest was pushed; what has no tag has an empty one in AWS's events of pushes."""
    tell(record, "PUSH", image_tag=tag or "")


def deleted(record: Record, tag: str | None) -> None:
    """A tag, or an image without one, was deleted."""
    tell(record, "DELETE", **({"image_tag": tag} if tag else {}))


def archived(record: Record) -> None:
    """An image went into the archive."""
    tell(record, "UPDATE_STORAGE_CLASS", target_storage_class="ARCHIVE")


def restored(record: Record) -> None:
    """An image is back from the archive."""
    at = datetime.fromtimestamp(record["lastActivatedAt"], UTC).isoformat(timespec="milliseconds")
    last = at.replace("+00:00", "Z")
    tell(record, "UPDATE_STORAGE_CLASS", target_storage_class="STANDARD", last_activated_at=last)
