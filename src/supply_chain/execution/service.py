"""Taking an admitted image into service: the verdict kept, the image deployed, and the record of it signed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from supply_chain.concurrency import both
from supply_chain.errors import DeploymentFailed
from supply_chain.evidence.store import EvidenceStore
from supply_chain.execution.deploy import Deployment, Order, deploy
from supply_chain.execution.environment import Environment
from supply_chain.execution.records import record
from supply_chain.execution.supply import Supply
from supply_chain.model.container import Engine, Wait
from supply_chain.model.image import CuratedImage, Digest, ImageRef
from supply_chain.model.manifest import Classification, Service
from supply_chain.model.tier import BASES
from supply_chain.policy.dossier import curated
from supply_chain.policy.gate import Dossier, Place, judge
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.rules import POLICIES
from supply_chain.policy.verdict import Repositories, execution_place
from supply_chain.policy.verdict import record as record_verdict

PROXY = f"{BASES}/proxy"
"""Where the proxy that holds an environment's addresses is vended from."""


@dataclass(frozen=True)
class Site:
    """Everything that this needs of the world."""

    engine: Engine
    plain: Supply
    confidential: Supply
    """Of what is classified so."""
    vended: Callable[[str], Digest]
    """A curated base by its name, with a digest that one, and else the newest that curation admits; `BaseMissing`."""
    bases: Callable[[], Sequence[ImageRef]]
    """The images of all curated bases, as the gate reads them."""
    repositories: Repositories
    evidence: EvidenceStore
    now: Callable[[], datetime]
    wait: Wait
    to_its_end: Callable[[], AbstractContextManager[object]]
    """Around what is done to its end though the run was cancelled."""


def take_into_service(
    admitted: Admitted[CuratedImage],
    dossier: Dossier[CuratedImage],
    environment: Environment,
    site: Site,
    run: str,
    *,
    fresh: bool = False,
) -> Deployment:
    """Run the image in the environment; `run` marks what is made there.

    The verdict is kept first: who may not record it starts nothing. Raises as `deploy` does, and
    `DeploymentFailed` where what was signed since the gate admitted the image refuses it.
    """
    manifest, ref, place = dossier.manifest, admitted.image.ref, dossier.place
    assert isinstance(manifest, Service) and place  # the gate admits services only, and each to a place
    site.repositories.ensure_repository(execution_place(ref).repository, immutable=True, key=None)
    proxy, _ = both(
        lambda: _proxy(environment, site), lambda: record_verdict(admitted, dossier, site.evidence, site.now())
    )
    order = Order(admitted, manifest, environment, proxy, run, fresh)
    supply = site.confidential if manifest.classification is Classification.CONFIDENTIAL else site.plain

    def recorded(deployment: Deployment) -> Deployment:
        with site.to_its_end():  # it serves: where that is read nowhere, no block would find it
            return record(deployment, ref, site.evidence, site.now())

    return deploy(
        site.engine,
        order,
        supply,
        now=site.now,
        wait=site.wait,
        may_serve=lambda: _judged_again(admitted, place, proxy, site),
        recorded=recorded,
    )


def _judged_again(admitted: Admitted[CuratedImage], place: Place, proxy: Digest, site: Site) -> None:
    """A gate's yes is as old as it took to bring the image and to make it ready: a block, a no since then counts.

    So does one of the proxy; `BaseMissing` there.
    """
    site.vended(f"{PROXY}@{proxy}")
    ref, tag = admitted.image.ref, admitted.image.tag
    known = curated(ref, tag, place, site.evidence, site.now(), bases=site.bases())
    verdict = judge(known, POLICIES[admitted.boundary])
    if isinstance(verdict, Refused):
        record_verdict(verdict, known, site.evidence, site.now())
        why = "; ".join(f"{reason.fact} ({reason.code})" for reason in verdict.reasons)
        raise DeploymentFailed(
            f"{ref.application} {ref.short} was not taken into service in {place.name}: the gate admitted it, "
            f"and would not any more: {why}.\nIt was removed; what ran before, if anything, still serves."
        )


def _proxy(environment: Environment, site: Site) -> Digest:
    """The environment's proxy, in the engine."""
    name = f"{PROXY}@{environment.proxy}" if environment.proxy else PROXY
    return site.plain.supply(ImageRef(repository=PROXY, digest=site.vended(name)))
