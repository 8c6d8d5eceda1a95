"""A step cannot take an earlier state. Only type-checked, never run: each `type: ignore` is an error
that mypy has to find, and mypy fails (`warn_unused_ignores`) where it finds none.
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
from supply_chain.execution.environment import Environment
from supply_chain.model.image import (
    BuiltImage,
    Candidate,
    CuratedImage,
    EncryptedImage,
    ImageRef,
    ScannedImage,
    StoredImage,
)
from supply_chain.policy.gate import Dossier, Policy, judge
from supply_chain.policy.outcome import Admitted, Refused
from tasks.deploy import deploy_step
from tasks.encrypt import encrypt as encrypt_task
from tasks.scan import scan as scan_task
from tasks.sign import sign as sign_task
from tasks.store import store as store_task

Now = Callable[[], datetime]


def development(built: BuiltImage, tested: TestedImage, world: Any, now: Now) -> None:
    """build → test → offer."""
    check(built, (), world, (), now)
    check(tested, (), world, (), now)  # type: ignore[arg-type]
    offer(tested, world, world, world, world, world)
    offer(built, world, world, world, world, world)  # type: ignore[arg-type]


def boundary_1(
    candidate: Candidate,
    admitted: Admitted[Candidate],
    verdict: Admitted[Candidate] | Refused,
    dossier: Dossier[Candidate],
    signed: Admitted[ScannedImage],
    evidence: EvidenceStore,
    world: Any,
    now: Now,
) -> None:
    """Only what the gate admitted is stored."""
    store(admitted, dossier, world, world, world, evidence, storage_key="k", now=now)
    store(candidate, dossier, world, world, world, evidence, storage_key="k", now=now)  # type: ignore[arg-type]
    store(verdict, dossier, world, world, world, evidence, storage_key="k", now=now)  # type: ignore[arg-type]
    store(signed, dossier, world, world, world, evidence, storage_key="k", now=now)  # type: ignore[arg-type]


def curation(
    candidate: Candidate, stored: StoredImage, encrypted: EncryptedImage, scanned: ScannedImage, world: Any, now: Now
) -> None:
    """store → encrypt → scan."""
    encrypt(stored, world, world, world, world, world, storage_key="k", content_key=None, now=now)
    encrypt(candidate, world, world, world, world, world, storage_key="k", content_key=None, now=now)  # type: ignore[arg-type]
    scan(encrypted, world, world, world, world, now, days=7)
    scan(stored, world, world, world, world, now, days=7)  # type: ignore[arg-type]
    scan(scanned, world, world, world, world, now, days=7)  # type: ignore[arg-type]


def signature(
    scanned: ScannedImage,
    dossier: Dossier[ScannedImage],
    admitted: Admitted[ScannedImage],
    earlier: Admitted[Candidate],
    world: Any,
    now: Now,
) -> None:
    """Only what the release gate admitted is signed."""
    sign(admitted, dossier, world, world, now)
    sign(scanned, dossier, world, world, now)  # type: ignore[arg-type]
    sign(earlier, dossier, world, world, now)  # type: ignore[arg-type]


def boundary_2(
    ref: ImageRef,
    curated: CuratedImage,
    scanned: ScannedImage,
    admitted: Admitted[CuratedImage],
    earlier: Admitted[ScannedImage],
    place: Environment,
    world: Any,
) -> None:
    """Only what execution's gate admitted is deployed."""
    Order(admitted, world, place, world, "run")
    Order(ref, world, place, world, "run")  # type: ignore[arg-type]
    Order(curated, world, place, world, "run")  # type: ignore[arg-type]
    Order(scanned, world, place, world, "run")  # type: ignore[arg-type]
    Order(earlier, world, place, world, "run")  # type: ignore[arg-type]


def gates(dossier: Dossier[Candidate], policy: Policy) -> tuple[object, ...]:
    """A verdict is about the dossier's own state, and has to be looked at."""
    admitted: Admitted[Candidate] | Refused = judge(dossier, policy)
    other: Admitted[ScannedImage] | Refused = judge(dossier, policy)  # type: ignore[arg-type]
    unseen: Admitted[Candidate] = judge(dossier, policy)  # type: ignore[assignment]
    return admitted, other, unseen


def tasks(
    candidate: Candidate,
    stored: StoredImage,
    scanned: ScannedImage,
    curated: CuratedImage,
    dossier: Dossier[Any],
    place: Environment,
    world: Any,
) -> None:
    """The flows' steps are as strict as the core's."""
    store_task(candidate, dossier, world, world)  # type: ignore[call-overload]
    encrypt_task(candidate, world, world, world)  # type: ignore[call-overload]
    scan_task(stored, world, world)  # type: ignore[call-overload]
    sign_task(scanned, dossier, world, world)  # type: ignore[call-overload]
    deploy_step(curated, dossier, place, world, world, world)  # type: ignore[call-overload]
