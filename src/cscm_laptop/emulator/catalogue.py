"""The registry's images as its API and its endpoints change them, over ministack's own records.

Every change is told to EventBridge before it is answered. The answer waits for the disk (`durable`),
with the queues that got the event, so an acknowledged push never goes unnoticed: only one whose
answer was lost may have been told without having been kept, or the other way round, and pushing it
again tells it again.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from ministack.core import responses
from ministack.services import ecr

from cscm_laptop.emulator import events, storage_class
from cscm_laptop.emulator.durable import Part, settle_all
from cscm_laptop.emulator.exclusions import is_excluded
from cscm_laptop.emulator.images import ACTIVATING, Identity, Record, Unfound, holders, identities, named, status

TOUCHED = ("ecr", "eventbridge", "sqs")
"""The services whose state a change of the registry can change: its events are delivered to queues."""

PULLS = 60.0
"""Seconds after which a pull's time is on disk at the latest.

It is saved with any other change, by a clean stop, or then; a pull is never made to wait for the
disk. AWS is as good as 24 hours.
"""


def records(name: str) -> list[Record]:
    """A repository's images, the first pushed first."""
    found: list[Record] = ecr._images.get(name, [])
    return found


class Catalogue:
    """The images of every repository; `now` gives seconds since the epoch."""

    def __init__(self, parts: Mapping[str, Part], now: Callable[[], float] = time.time) -> None:
        self.parts = [parts[name] for name in TOUCHED]
        self._registry, self._now = parts["ecr"], now
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsaved = False

    def pushed(self, name: str, digest: str, tag: str | None, *, new: bool) -> None:
        """A manifest was put; an archived image is active again at once."""
        record = named(records(name), {"imageDigest": digest})
        if new:
            record["imagePushedAt"] = self.moment()
        storage_class.pushed_again(record, self.moment())
        events.pushed(record, tag)

    def pulled(self, record: Record, caller: str) -> None:
        """A manifest was read by somebody, told by ARN."""
        if is_excluded(caller):
            return
        record["lastRecordedPullTime"] = self.moment()
        if not self._unsaved:
            self._unsaved = True
            self._later(self._save_pulls(PULLS))

    def archive(self, record: Record) -> None:
        """Move an image into the archive; raises `ApiError`."""
        storage_class.archive(record, records(record["repositoryName"]), self.moment())
        events.archived(record)

    def restore(self, record: Record) -> None:
        """Begin to bring an image back; raises `ApiError`."""
        storage_class.restore(record, self.moment())
        self._later(self._activate(record))

    def delete(self, name: str, wanted: Sequence[Identity]) -> tuple[list[Identity], list[tuple[Identity, Unfound]]]:
        """What was deleted, and what was not and why.

        A tag takes its image along when it is the last one; a digest takes all tags. Referrers stay.
        """
        done: list[Identity] = []
        failed: list[tuple[Identity, Unfound]] = []
        found: list[tuple[Identity, Record]] = []
        for identity in wanted:
            try:
                found.append((identity, named(records(name), identity)))
            except Unfound as unfound:
                failed.append((identity, unfound))
        for identity, record in found:
            if any(record is each for each in records(name)):
                try:
                    done += self._delete(name, record, identity.get("imageTag"))
                except Unfound as unfound:
                    failed.append((identity, unfound))
        return done, failed

    def _delete(self, name: str, record: Record, tag: str | None) -> list[Identity]:
        digest = record["imageDigest"]
        if tag and tag not in record["imageTags"]:  # named twice
            return []
        if tag and len(record["imageTags"]) > 1:
            gone = [{"imageDigest": digest, "imageTag": tag}]
            record["imageTags"].remove(tag)
        else:
            if by := holders(records(name), digest):
                reason = f"Requested image referenced by manifest list: [{', '.join(by)}]"
                raise Unfound("ImageReferencedByManifestList", reason)
            gone = identities(record)
            records(name).remove(record)
            ecr._manifest_blobs.get(name, {}).pop(digest, None)
        for each in gone:
            events.deleted(record, each.get("imageTag"))
        return gone

    def resume(self) -> None:
        """Go on with the restores that an earlier process began."""
        for (account, region, _), found in list(ecr._images._data.items()):
            for record in found:
                if status(record) == ACTIVATING:
                    context = contextvars.copy_context()
                    context.run(responses.set_request_account_id, account)
                    context.run(responses.set_request_region, region)
                    context.run(self._later, self._activate(record))

    async def close(self) -> None:
        """Put the times of pulls on disk."""
        await settle_all([self._registry], changed=True)

    async def _activate(self, record: Record) -> None:
        await asyncio.sleep(max(0.0, record["activeFrom"] - self._now()))
        gone = not any(record is each for each in records(record["repositoryName"]))
        if not gone and storage_class.activate(record, self.moment()):
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
        """Now, as the API tells times: seconds since the epoch."""
        return round(self._now(), 3)
