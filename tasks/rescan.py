"""rescan: what is known by now of curated images, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prefect import task

from blocks import Tier, Workbench
from blocks.workbench import now
from supply_chain.execution.environment import read_environments
from supply_chain.execution.records import should_run
from supply_chain.fleet.exposure import Gone, Seen, Unjudged
from supply_chain.fleet.known import KnownImage, Running, StoredManifest
from supply_chain.fleet.rescan import Bench
from supply_chain.fleet.rescan import rescan as rescan_images
from supply_chain.image import short
from tasks.events import emit
from tasks.running import RETRYING, in_thread


@task(name="images", task_run_name="images", **RETRYING)
async def curated_images(tier: Tier, workbench: Workbench) -> tuple[KnownImage, ...]:
    """Every image in the curated repositories, and where it should run. The one place that an inventory replaces."""
    execution = await Tier.aload("execution")
    return await in_thread(lambda: _from_the_registry(tier, execution, workbench))


def _from_the_registry(tier: Tier, execution: Tier, workbench: Workbench) -> tuple[KnownImage, ...]:
    """Those with a tag that curation gave them, which tells them from their encrypted copies and from evidence."""
    names = [place.name for place in read_environments(workbench.environments_directory)]
    wanted = should_run(names, execution.ecr, execution.http, execution.evidence(workbench))
    running: dict[str, list[Running]] = {}
    for each in wanted:
        running.setdefault(each.digest, []).append(
            Running(
                environment=each.environment,
                application=each.application,
                container=each.container,
                name=each.name,
                address=each.url,
                host="",
                since=now(),
            )
        )
    found = []
    for repository in tier.ecr.repositories("curated/"):
        pushed = dict(tier.ecr.pushed(repository))
        for ref in tier.ecr.newest_first(repository):
            tags = tier.ecr.tags(ref)
            if any(tag.endswith(f"-{short(ref.digest)}") for tag in tags):
                stored = StoredManifest(digest=ref.digest, tags=tags, pushed_at=pushed[ref.digest], size=0)
                found.append(KnownImage(ref=ref, stored=stored, running=tuple(running.get(ref.digest, ()))))
    return tuple(found)


@task(name="rescan", task_run_name="rescan {number}", tags=["scanner"], **RETRYING)
async def rescan(
    number: int, images: Sequence[KnownImage], bench: Bench, only: tuple[str, ...], fixed: Gone
) -> tuple[Seen | Unjudged, ...]:
    """A chunk of images: matched, signed and judged anew where something changed; each changed verdict an event."""

    def told(seen: Seen | Unjudged | None) -> None:
        bench.told(seen)
        if isinstance(seen, Seen) and seen.change is not None:
            _emit(seen)

    return await in_thread(rescan_images, images, replace(bench, told=told), only, fixed)


def _emit(seen: Seen) -> None:
    assert seen.change is not None
    emit(
        "image.verdict-changed",
        seen.ref,
        None,
        **{"from": _said(seen.change.before), "to": _said(seen.change.after)},
        reasons=[reason.model_dump() for reason in seen.change.reasons][:50],
        exploited=sorted({finding.id for finding in seen.exploited})[:50],
        running=list(seen.running),
        owner=seen.owner,
    )


def _said(passes: bool | None) -> str:
    return {None: "none", True: "passed", False: "refused"}[passes]
