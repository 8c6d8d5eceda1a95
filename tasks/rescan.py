"""Tasks of a rescan: match many curated images with the current vulnerability database."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from blocks import Inventory
from blocks.curation_ports import CurationPorts
from orchestration.events import MOST_ITEMS, emit, is_recorded, make_event_id
from orchestration.steps import step
from supply_chain.curation.rescan import News
from supply_chain.fleet.exposure import Fixes, RescanResult, Unjudged
from supply_chain.fleet.image import FleetImage
from supply_chain.fleet.reconcile import list_all_images
from supply_chain.fleet.rescan import RescanPorts, rescan
from supply_chain.model.image import ImageRef
from supply_chain.vulnerability.scanner import Scanner


@step("list curated images")
def list_all_images_step(ports: CurationPorts, inventory: Inventory) -> tuple[FleetImage, ...]:
    """Return every image that the registry lists in the curated repositories, with the inventory's facts about it.

    An image that the inventory does not know yet, because no event announced it, is included.
    """
    return tuple(list_all_images(ports.repositories, inventory.open()))


@step("set up", persist_result=False)
def set_up_step(ports: CurationPorts, scanner: Scanner) -> RescanPorts:
    """Return the dependencies of a rescan, including the bases and the blocks on them."""
    return ports.rescan_ports(scanner)


@step("rescan", run_name="rescan {number}", tags=["scanner"])
def rescan_step(
    number: int, images: Sequence[FleetImage], ports: RescanPorts, only: tuple[str, ...], fixed: Fixes
) -> None:
    """Rescan a chunk of images: match each, and sign a new report and verdict if something changed.

    Each changed verdict becomes an event. Results go to `ports`, one image at a time, and are not returned, because
    Prefect would store them once more.
    """

    def on_result(ref: ImageRef, result: RescanResult | Unjudged | None) -> None:
        ports.on_result(ref, result)
        if isinstance(result, RescanResult) and result.news is not None:
            _emit(result, result.news)

    deque(rescan(images, replace(ports, on_result=on_result), only, fixed), maxlen=0)


def _emit(result: RescanResult, news: News) -> None:
    """Emit an event for the change, unless an earlier run that was interrupted has emitted it."""
    event_uuid = make_event_id("image.verdict-changed", news.since)
    if is_recorded(event_uuid):
        return
    emit(
        "image.verdict-changed",
        result.ref,
        None,
        event_uuid,
        **{"from": _format(news.before), "to": _format(news.after)},
        reasons=[reason.model_dump() for reason in news.reasons[:MOST_ITEMS]],
        exploited=sorted({finding.id for finding in result.exploited})[:MOST_ITEMS],
        running=list(result.running),
        owner=result.owner,
    )


def _format(passes: bool | None) -> str:
    return {None: "none", True: "passed", False: "refused"}[passes]
