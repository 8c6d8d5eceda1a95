"""Reconciliation of the inventory with the registry; an empty inventory is built from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pydantic import Field

from supply_chain.evidence.reading import read_again_if_removed
from supply_chain.evidence.store import EvidenceStore
from supply_chain.fleet.gate_facts import GateSubject
from supply_chain.fleet.image import FleetImage
from supply_chain.fleet.inventory import Inventory
from supply_chain.fleet.reading import Listing, is_image, read_entries, read_listing, read_offered
from supply_chain.model.image import ENCRYPTED, Digest, ImageRef, Model, StoredManifest, parse_application_name
from supply_chain.model.registry_ports import ManifestLister
from supply_chain.model.tier import CURATED, OFFERED
from supply_chain.policy.names import Holder
from supply_chain.text import pluralize


class ReconcileResult(Model):
    """The result of reconciling the inventory for one application."""

    application: str
    images: int = Field(description="in the registry now")
    read: int = Field(description="whose evidence was read again")
    missing: tuple[ImageRef, ...] = Field(default=(), description="no longer in the registry")
    unreadable: dict[str, str] = Field(default_factory=dict, description="image → why")
    without_facts: dict[str, str] = Field(
        default_factory=dict,
        description="image and gate → why its facts, which a preview of policies needs, are missing",
    )

    def __str__(self) -> str:
        missing = f"; missing: {', '.join(map(str, self.missing))}" if self.missing else ""
        unread = [
            f"  {what}: {each}: {' — '.join(why.splitlines())}"
            for what, images in (("cannot be read", self.unreadable), ("facts cannot be read", self.without_facts))
            for each, why in images.items()
        ]
        return "\n".join(
            [f"{self.application}: {pluralize(self.images, 'image')}, {self.read} read again{missing}", *unread]
        )

    def with_failed(self, failed: Mapping[GateSubject, str]) -> ReconcileResult:
        """Return the result with those of the application of which the facts of a gate could not be read."""
        own = {str(each): why for each, why in failed.items() if each.image.application == self.application}
        return self.model_copy(update={"without_facts": own})


def list_applications(registry: ManifestLister, inventory: Inventory) -> tuple[str, ...]:
    """Return every application that has images in the registry or in the inventory, sorted."""
    listed = {parse_application_name(name) for prefix in (OFFERED, CURATED) for name in registry.repositories(prefix)}
    return tuple(sorted(listed | set(inventory.applications())))


def list_all_images(registry: ManifestLister, inventory: Inventory) -> Iterator[FleetImage]:
    """Yield every curated image in the registry in bare form, with what the inventory knows of it, if anything.

    Encrypted copies that the inventory does not know are recognised, and left out, by the tag that curation gives them.
    """
    for repository in registry.repositories(CURATED):
        recorded: dict[Digest, FleetImage] = {}
        copies: set[Digest] = set()
        for image in inventory.images(parse_application_name(repository)):
            recorded[image.ref.digest] = image.drop_details()
            copies |= set(image.copies)
        for stored in registry.images(repository):
            if entry := recorded.get(stored.digest):
                yield entry.model_copy(update={"stored": stored})
            elif is_image(stored) and stored.digest not in copies and not _is_copy(stored):
                yield FleetImage(ref=ImageRef(repository=repository, digest=stored.digest), stored=stored)


def _is_copy(stored: StoredManifest) -> bool:
    return bool(stored.tags) and all(ENCRYPTED in tag for tag in stored.tags)


@read_again_if_removed
def refresh(
    application: str,
    registry: ManifestLister,
    store: EvidenceStore,
    inventory: Inventory,
    host_of: Callable[[str], str],
    registered: Holder | None,
) -> ReconcileResult:
    """Read the images of an application that changed, store them, and delete those that the registry no longer has.

    An image that is gone from the registry but still has signed evidence is stored: otherwise an older image would
    count as the one that runs, and a copy as an image.

    `host_of` returns the container host of an environment, `registered` is the entry for the name in the register of
    names. Raises the registry's errors; the inventory is unchanged then.
    """
    now, before = read_listing(application, registry), inventory.read_marks(application)
    stored, went = ({_image_of(now, each.digest): each for each in of} for of in (now.images, now.missing.values()))
    entries = read_entries(now, _find_changed(now, {**stored, **went}, before), store, host_of)
    unchanged = went.keys() - {each.image.ref for each in entries}
    inventory.put(entries)
    inventory.update_listing(now.repository, now.images)
    inventory.update_hosts(application, host_of)
    inventory.put_offered(application, read_offered(now, registry, registered))
    inventory.forget(before.keys() - stored.keys() - went.keys())
    return ReconcileResult(
        application=application,
        images=len(now.images),
        read=sum(not each.image.missing for each in entries),
        missing=tuple(sorted(before.keys() - stored.keys() - unchanged, key=str)),
        unreadable={str(e.image.ref): e.image.unreadable for e in entries if e.image.unreadable},
    )


def _find_changed(
    now: Listing, listed: Mapping[ImageRef, StoredManifest], before: Mapping[ImageRef, str]
) -> list[StoredManifest]:
    return [each for ref, each in listed.items() if before.get(ref) != now.mark(each)]


def _image_of(listed: Listing, digest: str) -> ImageRef:
    return ImageRef(repository=listed.repository, digest=digest)
