"""Flow `curate`: judge, store, encrypt, scan and sign an image, which is then released by its digest."""

from __future__ import annotations

from prefect import flow

from blocks.curation_ports import CurationPorts
from orchestration.locks import LockKind, lock_name, run_lock
from orchestration.run_names import name_run_by_image
from orchestration.run_report import RunReporter, report_run
from orchestration.run_states import complete_refused
from orchestration.steps import run_in_thread
from supply_chain.fleet.find import find
from supply_chain.model.image import ReleasedImage
from supply_chain.model.tier import OFFERED
from supply_chain.policy.facts import IntakeFacts
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.reports import findings_summary
from tasks.encrypt import encrypt_step
from tasks.gates import intake_gate_step, release_gate_step
from tasks.scan import scan_step
from tasks.sign import sign_step
from tasks.store import store_step


@flow(name="curate", flow_run_name=name_run_by_image)
async def curate(image: str, force: bool = False) -> ReleasedImage | Refused:
    """Judge an offered image at the intake gate, then store, encrypt, scan, judge again and sign it.

    Args:
        image: The image that development offered: dev/hello@sha256:… or only its digest.
        force: Repeat every step, even if signed evidence proves that it is done.
    """
    ports = await CurationPorts.aload()
    ref = await run_in_thread(find, image, OFFERED, ports.repositories)
    async with report_run(ref.application) as reporter, run_lock(lock_name(LockKind.CURATE, ref.application)):
        verdict, facts = await reporter.gate("intake gate", intake_gate_step(ref, ports))
        reporter.add(digest=ref.digest, repository=ref.repository, checks=facts.checks, source=facts.source)
        reporter.add(source_report=facts.source_report)
        if isinstance(verdict, Refused):
            return complete_refused(verdict)
        return await _release(verdict, ports, reporter, force)


async def _release(
    verdict: Admitted[IntakeFacts], ports: CurationPorts, reporter: RunReporter, force: bool
) -> ReleasedImage | Refused:
    declaration = verdict.provenance.declaration
    reporter.add(owner=declaration.owner)
    stored = await reporter.step(
        "store",
        store_step(verdict, ports, force),
        lambda s: f"{s.ref.repository}:{s.tag}",
    )
    reporter.add(repository=stored.ref.repository)
    encrypted = await reporter.step(
        "encrypt",
        encrypt_step(stored, declaration, ports, force),
        lambda e: f"at rest with KMS key {e.key.rpartition('/')[2]}",
    )
    scanned, report = await reporter.step(
        "scan",
        scan_step(encrypted, declaration, ports, force),
        lambda s: findings_summary(s[1]),
        proven=lambda s: s[0].proven,
    )
    reporter.add(report=report)
    last, _ = await reporter.gate("release gate", release_gate_step(scanned, ports))
    if isinstance(last, Refused):
        return complete_refused(last)
    return await reporter.step(
        "sign",
        sign_step(scanned, last, ports, force),
        lambda c: "verified with the public key",
    )
