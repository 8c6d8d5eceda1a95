"""The lifecycle on ECR: blocked images cannot be pulled and stay refused, and only planned changes are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.files.plan_journal import FileJournal
from supply_chain.evidence.image_status import Act, compute_image_status, read_image_status
from supply_chain.execution.deployment import Deployment
from supply_chain.execution.records import record
from supply_chain.fleet.image import FleetImage
from supply_chain.fleet.reading import read_image as read_known
from supply_chain.lifecycle.apply import Entry, LifecycleRegistry, Outcome, apply, find_bases_in_use, find_needed
from supply_chain.lifecycle.decisions import decide
from supply_chain.lifecycle.plan import Plan
from supply_chain.lifecycle.planning import plan_lifecycle
from supply_chain.model.container import make_profile
from supply_chain.model.image import Digest, ImageRef, Removal, StorageStatus
from supply_chain.model.tier import TierName
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Refused
from supply_chain.policy.reading import read_deploy_facts
from tests.integration.lifecycle.shop import LATER, PLACES, RULES, Shop, held, named, released, verdict
from tests.support.builders import NOON, declaration
from tests.support.cloud import Repository
from tests.support.content import Content
from tests.support.facts import requirements
from tests.support.policies import DEPLOY
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


def decide_on(shop: Shop, ref: ImageRef, act: Act) -> tuple[Digest, ...]:
    return decide(ref, act, shop.ports, by="ann", reason="CVE-2026-1", now=datetime.now(UTC)).archived_or_restored


def refusal(shop: Shop, ref: ImageRef) -> list[str]:
    """Return the reasons of the deploy gate for refusing the image."""
    facts = read_deploy_facts(
        ref, requirements(), shop.store(TierName.EXECUTION), bases=(), minimum_classification=None
    )
    verdict = evaluate(facts, DEPLOY, NOON)
    assert isinstance(verdict, Refused)
    return [reason.code for reason in verdict.reasons]


def test_blocked_image_cannot_be_pulled_and_stays_refused_after_push(shop: Shop) -> None:
    """Tags and evidence are kept; a push restores the image but does not remove the block."""
    repository = shop.repository("curated/hello")
    image, other = repository.push("one"), repository.push("two")
    ref, evidence = named(repository, image), repository.attach(image)

    assert decide_on(shop, ref, Act.BLOCK) == (image.digest,)
    assert repository.pull(image.digest).status_code == repository.pull("one").status_code == 404
    assert repository.pull(other.digest).status_code == 200
    assert repository.described(image)["imageTags"] == ["one"]
    assert repository.referrers(image.digest) == [evidence.digest]
    assert "image.blocked" in refusal(shop, ref)
    assert (
        shop.ecr.find_by_digest(image.digest, repository.name)
        == shop.ecr.find_by_digest(image.digest[:19], repository.name)
        == (ref,)
    )

    repository.put_manifest(image, "one")  # as any CI job can do
    assert repository.pull(image.digest).status_code == 200
    assert "image.blocked" in refusal(shop, ref)
    assert "image.blocked" not in refusal(shop, named(repository, other))

    assert decide_on(shop, ref, Act.BLOCK) == (image.digest,)
    assert repository.pull(image.digest).status_code == 404

    assert decide_on(shop, ref, Act.UNBLOCK) == (image.digest,)
    eventually(lambda: shop.ecr.status(ref) is StorageStatus.ACTIVE)
    assert repository.pull(image.digest).status_code == 200
    assert "image.blocked" not in refusal(shop, ref)


def test_image_without_statements_has_no_block_and_no_hold(shop: Shop) -> None:
    """The evidence repository does not exist, and the registry reports that."""
    repository = shop.repository("curated/hello")
    image = repository.push("one")

    found = compute_image_status(read_image_status(named(repository, image), shop.store(TierName.CURATION)).evidence)

    assert (found.block, found.hold) == (None, None)


def released_images(shop: Shop, repository: Repository, *images: Content) -> tuple[FleetImage, ...]:
    """Return released images as the inventory stores them, the newest last."""
    found = []
    for each in images:
        stored = released(shop, repository, each)
        image, _ = read_known(named(repository, each), stored, shop.store(TierName.CURATION), lambda _: "")
        found.append(image.model_copy(update={"environments": PLACES}))
    return tuple(found)


def planned(shop: Shop, repository: Repository, *images: Content) -> Plan:
    """Return the lifecycle's plan for a time when all images are old."""
    tonight = datetime.now(UTC) + LATER
    return plan_lifecycle(shop.read.read_snapshot(released_images(shop, repository, *images), tonight), RULES, tonight)


def carried_out(tonight: Plan, registry: LifecycleRegistry, shop: Shop, journal: FileJournal) -> list[Entry]:
    """Apply the plan to each repository and return the journal's entries."""
    needed, bases = find_needed(tonight, shop.read, {}, {}), find_bases_in_use(tonight, shop.read)
    done = [
        apply(tonight, repository, needed, bases, registry, shop.read, lambda *_: None, journal)
        for repository in tonight.repositories
    ]
    return [entry for entries in done for entry in entries]


class Killed(Exception):
    """The run was killed."""


@dataclass
class Dying:
    """A registry client that dies after a number of deletions."""

    ecr: Ecr
    left: int

    def archive(self, ref: ImageRef) -> None:
        self.ecr.archive(ref)

    def delete(self, repository: str, digests: Sequence[Digest]) -> tuple[Removal, ...]:
        if not self.left:
            raise Killed
        self.left -= 1
        return self.ecr.delete(repository, digests)


def test_superseded_images_are_removed_with_their_referrers_only(shop: Shop, tmp_path: Path) -> None:
    """Indexes go before their images and signatures before their subjects; a killed run can be continued."""
    repository = shop.repository("curated/hello")
    children = [repository.push(), repository.push()]
    old, index, held_one = repository.push("old"), repository.index(*children, tag="index"), repository.push("held")
    new = repository.push("new")
    signature = repository.attach(old)
    belong = [signature, repository.attach(signature), repository.attach(children[0]), repository.attach(index)]
    for each in (new, held_one):
        repository.attach(each)
    decide_on(shop, named(repository, held_one), Act.HOLD)
    tonight = planned(shop, repository, old, index, held_one, new)
    before, stays = held(shop, repository), {new.digest, held_one.digest}
    stays |= {each.digest for each in shop.ecr.images(repository.name) if each.subject in stays}
    journal = FileJournal(tmp_path / "journal")

    for after in (0, 1, 1):
        with pytest.raises(Killed):
            carried_out(tonight, Dying(shop.ecr, after), shop, journal)
        assert not orphans(shop, repository)
    done = carried_out(tonight, shop.ecr, shop, journal)

    assert {each.outcome for each in done} == {Outcome.DONE}
    assert {each.ref.digest for each in done} == before - stays
    assert held(shop, repository) == stays
    assert {old.digest, index.digest, *(each.digest for each in (*children, *belong))} <= before - stays


def orphans(shop: Shop, repository: Repository) -> list[Digest]:
    """Return the referrers whose subject is gone."""
    images = shop.ecr.images(repository.name)
    digests = {each.digest for each in images}
    return [each.digest for each in images if each.subject and each.subject not in digests]


def test_image_deployed_after_the_plan_is_not_removed(shop: Shop, tmp_path: Path) -> None:
    """Execution's signed deployment record is read again before each removal."""
    repository = shop.repository("curated/hello")
    shop.repository("evidence/execution/hello")
    old, new = repository.push("old"), repository.push("new")
    signature = repository.attach(old)
    tonight, before = planned(shop, repository, old, new), held(shop, repository)
    assert [step.ref.digest for step in tonight.changes] == [old.digest]
    now = datetime.now(UTC)
    deployment = Deployment.model_validate(
        {
            "environment": "staging", "application": "hello", "digest": old.digest, "container": "1", "name": "n",
            "place": {
                "target": "docker", "reverse_proxy": "2", "proxy": "sha256:" + "f" * 64,
                "address": "127.0.0.1", "port": 8080,
            },
            "probe": {"port": 8080}, "settings": {}, "profile": make_profile(declaration().runtime),
            "configuration": "sha256:" + "e" * 64, "changed": True, "started_at": now,
        }
    )  # fmt: skip
    record(deployment, named(repository, old), shop.store(TierName.EXECUTION), now)

    done = carried_out(tonight, shop.ecr, shop, FileJournal(tmp_path / "journal"))

    assert {each.outcome for each in done} == {Outcome.SKIPPED}
    assert held(shop, repository) == before >= {old.digest, new.digest, signature.digest}


def test_image_with_newer_refusal_after_the_plan_is_not_removed(shop: Shop, tmp_path: Path) -> None:
    """The evidence is read again, whatever the inventory says."""
    repository = shop.repository("curated/hello")
    old, new = repository.push("old"), repository.push("new")
    tonight = planned(shop, repository, old, new)
    ref, now = named(repository, old), datetime.now(UTC)
    reasons = [{"code": "x", "fact": "f", "remedy": "r"}]
    verdict(shop, ref, now + timedelta(seconds=1), reasons)

    done = carried_out(tonight, shop.ecr, shop, FileJournal(tmp_path / "journal"))

    of_old = next(each for each in done if each.ref == ref)
    assert (of_old.outcome, of_old.message) == (Outcome.SKIPPED, "the last release verdict about it is failed now")
    assert old.digest in held(shop, repository)
