"""A step cannot take an earlier state, nor a gate another gate's facts or rules. Only type-checked, never run.

Each `type: ignore` is an error that mypy has to find, and mypy fails (`warn_unused_ignores`) where it finds none.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from supply_chain.curation.encrypt import encrypt
from supply_chain.curation.scan import scan
from supply_chain.curation.sign import sign
from supply_chain.curation.store import store
from supply_chain.development.offer import offer
from supply_chain.development.test import TestedImage
from supply_chain.development.test import test as check
from supply_chain.evidence.store import EvidenceStore
from supply_chain.execution.deploy import Order
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.model.image import (
    BuiltImage,
    Candidate,
    EncryptedImage,
    ImageRef,
    ReleasedImage,
    ScannedImage,
    StoredImage,
)
from supply_chain.policy.facts import DeployFacts, IntakeFacts, ReleaseFacts
from supply_chain.policy.outcome import Admitted, Refused
from tasks.deploy import deploy_step
from tasks.encrypt import encrypt_step
from tasks.scan import scan_step
from tasks.sign import sign_step
from tasks.store import store_step

Now = Callable[[], datetime]


def development(built: BuiltImage, tested: TestedImage, world: Any, now: Now) -> None:
    """build → test → offer."""
    check(built, (), world, (), now)
    check(tested, (), world, (), now)  # type: ignore[arg-type]
    offer(tested, world, world, world, world, world)
    offer(built, world, world, world, world, world)  # type: ignore[arg-type]


def intake(
    candidate: Candidate,
    facts: IntakeFacts,
    admitted: Admitted[IntakeFacts],
    verdict: Admitted[IntakeFacts] | Refused,
    released: Admitted[ReleaseFacts],
    evidence: EvidenceStore,
    world: Any,
    now: Now,
) -> None:
    """Only what the intake gate admitted is stored."""
    store(admitted, world, world, world, evidence, storage_key="k", now=now)
    store(candidate, world, world, world, evidence, storage_key="k", now=now)  # type: ignore[arg-type]
    store(facts, world, world, world, evidence, storage_key="k", now=now)  # type: ignore[arg-type]
    store(verdict, world, world, world, evidence, storage_key="k", now=now)  # type: ignore[arg-type]
    store(released, world, world, world, evidence, storage_key="k", now=now)  # type: ignore[arg-type]


def curation(
    candidate: Candidate, stored: StoredImage, encrypted: EncryptedImage, scanned: ScannedImage, world: Any, now: Now
) -> None:
    """store → encrypt → scan."""
    encrypt(stored, world, world, world, world, world, storage_key="k", content_key=None, now=now)
    encrypt(candidate, world, world, world, world, world, storage_key="k", content_key=None, now=now)  # type: ignore[arg-type]
    scan(encrypted, world, world, world, world, now, days=7)
    scan(stored, world, world, world, world, now, days=7)  # type: ignore[arg-type]
    scan(scanned, world, world, world, world, now, days=7)  # type: ignore[arg-type]


def release(
    encrypted: EncryptedImage,
    scanned: ScannedImage,
    facts: ReleaseFacts,
    admitted: Admitted[ReleaseFacts],
    verdict: Admitted[ReleaseFacts] | Refused,
    earlier: Admitted[IntakeFacts],
    world: Any,
    now: Now,
) -> None:
    """Only a scanned image that the release gate admitted is signed."""
    sign(scanned, admitted, world, world, now)
    sign(encrypted, admitted, world, world, now)  # type: ignore[arg-type]
    sign(scanned, facts, world, world, now)  # type: ignore[arg-type]
    sign(scanned, verdict, world, world, now)  # type: ignore[arg-type]
    sign(scanned, earlier, world, world, now)  # type: ignore[arg-type]


def deployment(
    ref: ImageRef,
    curated: ReleasedImage,
    facts: DeployFacts,
    admitted: Admitted[DeployFacts],
    earlier: Admitted[ReleaseFacts],
    place: DockerEnvironment,
    world: Any,
) -> None:
    """Only what the deploy gate admitted is deployed."""
    Order(admitted, world, place, world, "run")
    Order(ref, world, place, world, "run")  # type: ignore[arg-type]
    Order(curated, world, place, world, "run")  # type: ignore[arg-type]
    Order(facts, world, place, world, "run")  # type: ignore[arg-type]
    Order(earlier, world, place, world, "run")  # type: ignore[arg-type]


def tasks(
    candidate: Candidate,
    stored: StoredImage,
    scanned: ScannedImage,
    curated: ReleasedImage,
    earlier: Admitted[IntakeFacts],
    place: DockerEnvironment,
    world: Any,
) -> None:
    """The flows' steps are as strict as the core's."""
    store_step(candidate, world, False)  # type: ignore[arg-type, unused-coroutine]
    encrypt_step(candidate, world, world, False)  # type: ignore[arg-type, unused-coroutine]
    scan_step(stored, world, world, False)  # type: ignore[arg-type, unused-coroutine]
    sign_step(scanned, earlier, world, False)  # type: ignore[arg-type, unused-coroutine]
    deploy_step(curated, place, world, world, False)  # type: ignore[arg-type, unused-coroutine]
