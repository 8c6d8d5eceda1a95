"""Flow `curate`: judge, store, encrypt, scan and sign an image, which is then released by its digest."""

from __future__ import annotations

import asyncio

from prefect import flow

from blocks import Tier, Workbench
from orchestration.locks import lock_name, run_lock
from orchestration.run_names import by_image
from orchestration.run_report import RunReporter, report_run
from orchestration.run_states import complete_refused
from orchestration.steps import untracked
from supply_chain.model.image import CuratedImage
from supply_chain.model.tier import OFFERED
from supply_chain.policy.facts import IntakeFacts
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.reports import findings_summary
from tasks.encrypt import encrypt
from tasks.find import find
from tasks.gates import admit_to_curation, admit_to_signature
from tasks.scan import scan
from tasks.sign import sign
from tasks.store import store


@flow(name="curate", flow_run_name=by_image)
async def curate(image: str, force: bool = False) -> CuratedImage | Refused:
    """Judge an offered image at the intake gate, then store, encrypt, scan, judge again and sign it.

    Args:
        image: The image that development offered: dev/hello@sha256:… or only its digest.
        force: Repeat every step, even if signed evidence proves that it is done.
    """
    tier, workbench = await asyncio.gather(Tier.aload("curation"), Workbench.aload("workbench"))
    ref = await find(image, OFFERED, tier)
    async with report_run(ref.application) as story, run_lock(lock_name("curate", ref.application)):
        verdict, facts = await story.gate("intake gate", admit_to_curation(ref, tier, workbench))
        story.add(digest=ref.digest, repository=ref.repository, checks=facts.checks, source=facts.source)
        story.add(source_report=facts.source_report)
        if isinstance(verdict, Refused):
            return complete_refused(verdict)
        return await _admitted(verdict, tier, workbench, story, force)


async def _admitted(
    verdict: Admitted[IntakeFacts], tier: Tier, workbench: Workbench, story: RunReporter, force: bool
) -> CuratedImage | Refused:
    manifest = verdict.provenance.manifest
    story.add(owner=manifest.owner)
    stored = await story.step(
        "store",
        store(untracked(verdict), tier, workbench, force),
        lambda s: f"{s.ref.repository}:{s.tag}",
    )
    story.add(repository=stored.ref.repository)
    encrypted = await story.step(
        "encrypt",
        encrypt(untracked(stored), manifest, tier, workbench, force),
        lambda e: f"at rest with KMS key {e.key.rpartition('/')[2]}",
    )
    scanned, report = await story.step(
        "scan",
        scan(untracked(encrypted), manifest, tier, workbench, force),
        lambda s: findings_summary(s[1]),
        proven=lambda s: s[0].proven,
    )
    story.add(report=report)
    last, _ = await story.gate("release gate", admit_to_signature(untracked(scanned), tier, workbench))
    if isinstance(last, Refused):
        return complete_refused(last)
    return await story.step(
        "sign",
        sign(untracked(scanned), untracked(last), tier, workbench, force),
        lambda c: "verified with the public key",
    )
