"""Taking an admitted image into service: the verdict kept, the image deployed, and the record of it signed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from supply_chain.app import Service
from supply_chain.concurrency import both
from supply_chain.container import Engine, Wait
from supply_chain.errors import DeploymentFailed
from supply_chain.evidence.standing import read_standing, standing
from supply_chain.evidence.store import EvidenceStore
from supply_chain.execution.deploy import Deployment, Order, deploy
from supply_chain.execution.environment import Environment
from supply_chain.execution.records import record
from supply_chain.execution.supply import Supply, supply_for
from supply_chain.image import CuratedImage, Digest, ImageRef
from supply_chain.policy.gate import Dossier
from supply_chain.policy.outcome import Admitted
from supply_chain.policy.verdict import Repositories, verdict_place
from supply_chain.policy.verdict import record as record_verdict
from supply_chain.tier import BASES

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
    repositories: Repositories
    evidence: EvidenceStore
    now: Callable[[], datetime]
    wait: Wait


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
    `DeploymentFailed` where somebody blocked the image after the gate admitted it.
    """
    manifest, ref = dossier.manifest, admitted.image.ref
    assert isinstance(manifest, Service)  # the gate admits services only
    where = verdict_place(ref, admitted.boundary, admitted=True)
    site.repositories.ensure_repository(where.repository, immutable=True, key=None)
    proxy, _ = both(
        lambda: _proxy(environment, site), lambda: record_verdict(admitted, dossier, site.evidence, site.now())
    )
    order = Order(admitted, manifest, environment, proxy, run, fresh)
    supply = supply_for(manifest.classification, site.plain, site.confidential)
    deployment = deploy(
        site.engine,
        order,
        supply,
        now=site.now,
        wait=site.wait,
        may_serve=lambda: _not_blocked(ref, environment, site.evidence),
    )
    return record(deployment, ref, site.evidence, site.now())


def _not_blocked(ref: ImageRef, environment: Environment, evidence: EvidenceStore) -> None:
    """A gate's yes is as old as it took to bring the image and to make it ready."""
    if ruling := standing(read_standing(ref, evidence).evidence).block:
        raise DeploymentFailed(
            f"{ref.application} {ref.short} was not taken into service in {environment.name}: it was blocked {ruling}, "
            "after the gate admitted it.\nIt was removed; what ran before, if anything, still serves."
        )


def _proxy(environment: Environment, site: Site) -> Digest:
    """The environment's proxy, in the engine."""
    name = f"{PROXY}@{environment.proxy}" if environment.proxy else PROXY
    return site.plain.supply(ImageRef(repository=PROXY, digest=site.vended(name)))
