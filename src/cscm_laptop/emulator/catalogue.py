"""Changes to the registry's images, by its API and its endpoints, on ministack's own records.

Every change is published to EventBridge before it is answered. The answer waits until the change and the queues that
got the event are on disk (`durable`), so there is an event for every acknowledged push. Only if the answer was lost
can there be an event without a saved push, or a saved push without an event; pushing again publishes it again.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from cscm_laptop.emulator import events, storage_class, upstream
from cscm_laptop.emulator.durable import Part, settle_all
from cscm_laptop.emulator.exclusions import is_excluded
from cscm_laptop.emulator.images import ACTIVATING, Identity, Record, Unfound, holders, identities, named, status

TOUCHED = ("ecr", "eventbridge", "sqs")
"""The services whose state a change of the registry can change, because its events are delivered to queues."""

PULLS = 60.0
"""Seconds after which the time of a pull is on disk at the latest.

It is saved with any other change, by a clean stop, or after this delay; a pull never waits for the disk. AWS is
accurate to 24 hours.
"""


def records(name: str) -> list[Record]:
    """Return a repository's images, in the order in which they were pushed."""
    images: list[Record] = upstream.images.get(name, [])
    return images


class Catalogue:
    """The images of every repository; `now` returns the time in seconds since the epoch."""

    def __init__(self, parts: Mapping[str, Part], now: Callable[[], float] = time.time) -> None:
        self.parts = [parts[name] for name in TOUCHED]
        self._registry, self._now = parts["ecr"], now
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsaved = False

    def pushed(self, name: str, digest: str, tag: str | None, *, new: bool) -> None:
        """Record that a manifest was pushed; an archived image becomes active again at once."""
        record = named(records(name), {"imageDigest": digest})
        if new:
            record["imagePushedAt"] = self.moment()
        storage_class.pushed_again(record, self.moment())
        events.pushed(record, tag)

    def pulled(self, record: Record, caller: str) -> None:
        """Record that a caller, given by ARN, pulled a manifest."""
        if is_excluded(caller):
            return
        record["lastRecordedPullTime"] = self.moment()
        if not self._unsaved:
            self._unsaved = True
            self._later(self._save_pulls(PULLS))

    def archive(self, record: Record) -> None:
        """Move an image into the archive; raise `ApiError` if that is not possible."""
        storage_class.archive(record, records(record["repositoryName"]), self.moment())
        events.archived(record)

    def restore(self, record: Record) -> None:
        """Begin to restore an image from the archive; raise `ApiError` if that is not possible."""
        storage_class.restore(record, self.moment())
        self._later(self._activate(record))

    def delete(self, name: str, ids: Sequence[Identity]) -> tuple[list[Identity], list[tuple[Identity, Unfound]]]:
        """Delete images and tags; return what was deleted, and what was not with the reason.

        Deleting its last tag deletes an image; deleting a digest deletes all its tags. Referrers stay.
        """
        done: list[Identity] = []
        failed: list[tuple[Identity, Unfound]] = []
        matches: list[tuple[Identity, Record]] = []
        for identity in ids:
            try:
                matches.append((identity, named(records(name), identity)))
            except Unfound as unfound:
                failed.append((identity, unfound))
        for identity, record in matches:
            if any(record is each for each in records(name)):
                try:
                    done += self._delete(name, record, identity.get("imageTag"))
                except Unfound as unfound:
                    failed.append((identity, unfound))
        return done, failed

    def _delete(self, name: str, record: Record, tag: str | None) -> list[Identity]:
        digest = record["imageDigest"]
        if tag and tag not in record["imageTags"]:  # the request names the tag twice
            return []
        if tag and len(record["imageTags"]) > 1:
            deleted = [{"imageDigest": digest, "imageTag": tag}]
            record["imageTags"].remove(tag)
        else:
            if by := holders(records(name), digest):
                reason = f"Requested image referenced by manifest list: [{', '.join(by)}]"
                raise Unfound("ImageReferencedByManifestList", reason)
            deleted = identities(record)
            records(name).remove(record)
            upstream.manifests.get(name, {}).pop(digest, None)
        for each in deleted:
            events.deleted(record, each.get("imageTag"))
        return deleted

    def resume(self) -> None:
        """Continue the restores that an earlier process began."""
        for (account, region, _), images in upstream.images.all_items():
            for record in images:
                if status(record) == ACTIVATING:
                    context = contextvars.copy_context()
                    context.run(upstream.set_request_account_id, account)
                    context.run(upstream.set_request_region, region)
                    context.run(self._later, self._activate(record))

    async def close(self) -> None:
        """Write the times of pulls to disk."""
        await settle_all([self._registry], changed=True)

    async def _activate(self, record: Record) -> None:
        await asyncio.sleep(max(0.0, record["activeFrom"] - self._now()))
        is_deleted = not any(record is each for each in records(record["repositoryName"]))
        if not is_deleted and storage_class.activate(record, self.moment()):
            events.restored(record)
            await settle_all(self.parts, changed=True)

    async def _save_pulls(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._unsaved = False
        await settle_all([self._registry], changed=True)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def moment(self) -> float:
        """Return the current time in the format of the API: seconds since the epoch."""
        return round(self._now(), 3)
