"""The registry's events for EventBridge (Amazon ECR User Guide, "Amazon ECR events and EventBridge")."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from cscm_laptop.emulator import upstream
from cscm_laptop.emulator.images import Record, artifact_type, subject


def publish(record: Record, action: str, **more: str) -> None:
    """Publish the event of a successful action on the default bus; it is in its targets' queues when this returns.

    The event of a referrer is an `ECR Referrer Action`, that of any other image an `ECR Image Action`.
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
    present = {name: value for name, value in detail.items() if value is not None}
    entry = {"Source": "aws.ecr", "DetailType": f"ECR {kind} Action", "Detail": json.dumps(present), "Resources": []}
    upstream.publish_event(entry)


def pushed(record: Record, tag: str | None) -> None:
    """Publish that a manifest was pushed; AWS sends an empty tag if it has none."""
    publish(record, "PUSH", image_tag=tag or "")


def deleted(record: Record, tag: str | None) -> None:
    """Publish that a tag, or an image without tags, was deleted."""
    publish(record, "DELETE", **({"image_tag": tag} if tag else {}))


def archived(record: Record) -> None:
    """Publish that an image was archived."""
    publish(record, "UPDATE_STORAGE_CLASS", target_storage_class="ARCHIVE")


def restored(record: Record) -> None:
    """Publish that an image was restored from the archive."""
    at = datetime.fromtimestamp(record["lastActivatedAt"], UTC).isoformat(timespec="milliseconds")
    last = at.replace("+00:00", "Z")
    publish(record, "UPDATE_STORAGE_CLASS", target_storage_class="STANDARD", last_activated_at=last)
