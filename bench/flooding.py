"""Floods for `bench.flood` (small images, junk referrers, malformed messages), and honest pushes between them.

Everything is pushed in the development role, as a team's CI does. The names of its repositories begin with
`dev/flood-`; the administrator of the laptop's emulator removes them afterwards.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from cscm.session import load_block
from cscm_laptop.emulator_service import locate_root_key, make_endpoint_url, open_root_session
from cscm_laptop.home import Home
from cscm_laptop.profile import load_profile
from supply_chain.adapters.aws.sqs import SqsQueue
from supply_chain.adapters.registry.client import EMPTY, EMPTY_TYPE, MANIFEST
from supply_chain.evidence.statement import BUNDLE, PROVENANCE
from supply_chain.evidence.store import PREDICATE
from supply_chain.model.image import ImageRef, digest_of
from supply_chain.model.tier import TierName

WIDE = 4
BATCH = 10
"""Maximum number of messages in one request to SQS."""
CONFIG = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True)
class Honest:
    """An image that development signed, and the time at which its push ended."""

    image: ImageRef
    pushed: datetime
    flooded: bool = False
    """Whether the flood is on this image or its application."""


@dataclass
class Pusher:
    """The development role, on a running laptop."""

    home: Home
    made: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.tier = load_block("Tier", "development")
        self.bridge = load_block("Bridge", "bridge")
        from blocks.development_ports import DevelopmentPorts  # noqa: PLC0415 - imports Prefect in its environment

        self.store = asyncio.run(DevelopmentPorts.aload()).evidence
        self.word = uuid4().hex[:6]

    def repository(self, name: str) -> str:
        """Make the repository of an application, and return its name."""
        repository = f"dev/flood-{self.word}-{name}"
        if repository not in self.made:
            self.tier.ecr.ensure_repository(repository, immutable=False, key=None)
            self.tier.http.push_blob(repository, CONFIG)
            self.tier.http.push_blob(repository, EMPTY)
            self.made.add(repository)
        return repository

    def push(self, repository: str, note: str) -> ImageRef:
        """Push an image without layers, made unique by an annotation, with a tag, so that ECR sends an event."""
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG_TYPE, "digest": digest_of(CONFIG), "size": len(CONFIG)},
                "layers": [],
                "annotations": {"note": note},
            }
        ).encode()
        path = f"{repository}/manifests/{note}"
        self.tier.http.http.call("PUT", path, content=manifest, media_type=MANIFEST)
        return ImageRef(repository=repository, digest=digest_of(manifest))

    def junk(self, subject: ImageRef, number: int) -> None:
        """Attach a manifest that looks like evidence but is not; its content is unique, so that each is read."""
        content = f"junk {number}".encode()
        repository = subject.repository
        where = self.tier.http.http.call("POST", f"{repository}/blobs/uploads/").headers["Location"]
        address = f"{where.removeprefix('/v2/')}{'&' if '?' in where else '?'}digest={digest_of(content)}"
        self.tier.http.http.call("PUT", address, content=content, media_type="application/octet-stream")
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": BUNDLE,
            "config": {"mediaType": EMPTY_TYPE, "digest": digest_of(EMPTY), "size": len(EMPTY)},
            "layers": [{"mediaType": BUNDLE, "digest": digest_of(content), "size": len(content)}],
            "subject": {"mediaType": MANIFEST, "digest": subject.digest, "size": 1},
            "annotations": {PREDICATE: PROVENANCE},
        }
        self.tier.http.push_manifest(repository, json.dumps(manifest).encode(), MANIFEST)

    def honest(self, name: str, provenance: dict[str, Any]) -> Honest:
        """Push an image and sign its provenance, as `cscm build` does."""
        ref = self.push(self.repository(name), f"honest-{uuid4().hex[:6]}")
        self.sign(ref, provenance)
        return Honest(ref, datetime.now(UTC))

    def announce(self, refs: Sequence[ImageRef], seconds: float) -> float:
        """Send ECR's event for each image's push to the bridge's queue, spread over `seconds`.

        Return the seconds that it took.
        """
        sqs = self.administrator("sqs")
        batches = [refs[start : start + BATCH] for start in range(0, len(refs), BATCH)]

        def send(number: int) -> None:
            entries = [{"Id": str(at), "MessageBody": event(ref)} for at, ref in enumerate(batches[number])]
            answer = sqs.send_message_batch(QueueUrl=self.bridge.queue().url, Entries=entries)
            if answer.get("Failed"):
                raise SystemExit(f"SQS did not take {len(answer['Failed'])} messages: {answer['Failed'][0]}")

        with spread(send, len(batches), seconds) as wait:
            return wait()

    def administrator(self, service: str) -> Any:
        """Return boto3's client of a service, as the administrator of the laptop."""
        profile = load_profile(self.home.project)
        root = open_root_session(locate_root_key(self.home), profile.region)
        return root.client(service, endpoint_url=make_endpoint_url(profile))

    def sign(self, ref: ImageRef, provenance: dict[str, Any]) -> None:
        """Sign the provenance of an image and attach it."""
        self.store.attach(ref, PROVENANCE, provenance, datetime.now(UTC))

    def push_source(self, path: Path, revision: str, ref: str, team: str) -> None:
        """Announce a push of a source, as the git hook does."""
        from orchestration.source_pushes import schedule_chain  # noqa: PLC0415 - imports Prefect in its environment

        schedule_chain(path, revision, ref, team, datetime.now(UTC))

    def a_provenance(self) -> dict[str, Any]:
        """Return the provenance that development signed for an existing image.

        It is good enough for another image, which a gate then refuses.
        """
        for repository in self.tier.ecr.repositories("dev/"):
            for ref in self.tier.ecr.list_newest_first(repository)[:1]:
                for statement in self.store.read_verified(ref, TierName.DEVELOPMENT, PROVENANCE):
                    return dict(statement.predicate)
        raise SystemExit("No offered image has a provenance. Run `cscm chain examples/hello` first.")

    def waiting(self) -> int:
        """Return the approximate number of messages that the bridge has not carried yet."""
        return SqsQueue(self.administrator("sqs"), self.bridge.queue().url).count()

    def remove(self) -> None:
        """Remove what was pushed, what curation and execution made of it, and the dead messages."""
        ecr = self.administrator("ecr")
        for page in ecr.get_paginator("describe_repositories").paginate():
            for each in page["repositories"]:
                if f"flood-{self.word}" in each["repositoryName"]:
                    ecr.delete_repository(repositoryName=each["repositoryName"], force=True)
        dead = self.bridge.dead_letters()
        for message in dead.all():
            if f"flood-{self.word}" in message.body:
                dead.delete(message)


def event(ref: ImageRef) -> str:
    """Return EventBridge's event for the push of an image.

    See Amazon ECR User Guide, "Amazon ECR events and EventBridge".
    """
    detail = {
        "result": "SUCCESS",
        "repository-name": ref.repository,
        "image-digest": ref.digest,
        "action-type": "PUSH",
        "image-tag": f"t{ref.digest[-12:]}",
    }
    envelope = {"id": str(uuid4()), "source": "aws.ecr", "detail-type": "ECR Image Action", "detail": detail}
    return json.dumps({**envelope, "time": datetime.now(UTC).isoformat()})


@contextmanager
def spread(do: Callable[[int], object], count: int, seconds: float) -> Iterator[Callable[[], float]]:
    """Call `do` `count` times, spread over `seconds` or longer; yield a function that waits for the end."""
    begun = time.monotonic()

    def one(number: int) -> None:
        time.sleep(max(0.0, begun + seconds * number / count - time.monotonic()))
        do(number)

    with ThreadPoolExecutor(WIDE) as pool:
        futures = [pool.submit(one, number) for number in range(count)]

        def wait() -> float:
            for future in futures:
                future.result()
            return time.monotonic() - begun

        yield wait
