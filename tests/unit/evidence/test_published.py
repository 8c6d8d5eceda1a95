"""Published verdicts: one is current for each image, gate and environment, and only the verdict key makes it count."""

import base64
import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from supply_chain.errors import (
    AwsFailed,
    ClockWrong,
    EvidenceInvalid,
    ImageNotFound,
    RegistryFailed,
    RegistryUnavailable,
    SupplyChainError,
    VerdictMissing,
)
from supply_chain.evidence.published import (
    PublishedVerdicts,
    list_published_environments,
    locate_verdict,
    name_in_registry,
    read_current_verdict,
    withdraw_removed,
)
from supply_chain.evidence.reading import TRIES
from supply_chain.evidence.statement import BUNDLE, SUMMARY
from supply_chain.evidence.summary import Summary, make_summary
from supply_chain.model.image import ImageRef, Removal
from supply_chain.model.tier import JUDGE, Gate, TierName
from tests.support.builders import NOON
from tests.support.facts import CURATED, OFFERED

HOST = "registry.test"

REASON = {"code": "scan.high", "fact": "CVE-1", "remedy": "rebuild"}
OTHER = CURATED.with_digest("sha256:" + "b" * 64)
PLACE = ImageRef(repository="verdicts/release/hello", digest=CURATED.digest)


def verdict(at=0, *, yes=True, ref=CURATED, gate=Gate.RELEASE, environment="", **changes):
    """Return the predicate of a verdict `at` seconds after noon."""
    return make_summary(
        ref, gate, "sha256:" + "9" * 64, reasons=[] if yes else [REASON], notes=(), inputs=(),
        now=NOON + timedelta(seconds=at), environment=environment, **changes,
    ).predicate()  # fmt: skip


def publisher(world, tier=TierName.CURATION, **changes):
    return replace(PublishedVerdicts(world.verdict_store(tier), world.ecr), **changes)


def publish(world, predicate, ref=CURATED):
    """Publish a verdict as the tier of its gate."""
    gate = next(each for each in Gate if predicate["verifier"]["id"].endswith(f"/{each}"))
    publisher(world, JUDGE[gate]).prepare(ref, predicate, world.now)()


def put(world, predicate, *, place=PLACE, ref=CURATED, signer=None, kind=SUMMARY):
    """Attach a verdict in a place without any rule of publishing, as whoever may push there can."""
    signed_by = signer or world.verdict_signers[TierName.CURATION]
    store = replace(world.verdict_store(TierName.CURATION), signer=signed_by)
    signed = store.sign(ref.with_repository(place.repository), kind, name_in_registry(predicate, HOST))
    return store.attach_signed(place, kind, signed, world.now)


def read(world, ref=CURATED, gate=Gate.RELEASE, environment="", reader=TierName.EXECUTION):
    return read_current_verdict(world.verdict_store(reader), ref, gate, environment)


def admits(world, **which):
    return read(world, **which).admits


def published(world, repository="verdicts/release/hello"):
    return world.registry.refs(repository)


def test_verdict_that_is_replaced_while_it_is_read_is_read_again(world, monkeypatch):
    """The list names one that a moment later is gone."""
    publish(world, verdict())
    listed, replaced = world.registry.referrers, list[ImageRef]()

    def referrers(subject):
        found = listed(subject)
        if subject == PLACE and not replaced:
            replaced.append(subject)
            publish(world, verdict(1, yes=False))
        return found

    monkeypatch.setattr(world.registry, "referrers", referrers)

    assert not admits(world) and len(published(world)) == 1


def test_listed_verdict_that_stays_missing_is_an_error(world, monkeypatch):
    """It may be a refusal."""
    publish(world, verdict())
    left = world.registry.referrers(PLACE)
    (published_verdict,) = left
    world.ecr.delete(PLACE.repository, [published_verdict.digest])
    listed = []

    def referrers(subject):
        listed.append(subject)
        return left

    monkeypatch.setattr(world.registry, "referrers", referrers)

    with pytest.raises(ImageNotFound):
        read(world)
    assert len(listed) == TRIES


@pytest.mark.parametrize(("gate", "environment", "ref", "repository"), [
    (Gate.INTAKE, "", OFFERED, "verdicts/intake/hello"),
    (Gate.RELEASE, "", CURATED, "verdicts/release/hello"),
    (Gate.DEPLOY, "production", CURATED, "verdicts/deploy/production/hello"),
])  # fmt: skip
def test_published_verdict_is_read_by_others(world, gate, environment, ref, repository):
    """Each gate and environment has a place of its own, so that a client cannot take another gate's verdict."""
    publish(world, verdict(gate=gate, ref=ref, environment=environment), ref)

    found = read(world, gate=gate, environment=environment)

    predicate = verdict(gate=gate, ref=ref, environment=environment)
    assert found.admits and found.verdict == Summary.model_validate(name_in_registry(predicate, HOST))
    assert found.verdict.resource_uri == f"{HOST}/{ref}"
    assert found.verdict.verifier.id == f"urn:cscm:gate:{JUDGE[gate]}/{gate}"
    assert published(world, repository) == (found.statement,)
    assert found.statement.application == "hello"
    assert locate_verdict(ref, gate, environment).repository == repository


def test_published_verdict_is_signed_with_verdict_key_only(world):
    """The tier's own key, which signs much more, counts nothing here."""
    publish(world, verdict())

    assert world.store(TierName.EXECUTION).read_verified(PLACE, TierName.CURATION) == ()
    (found,) = world.verdict_store(TierName.EXECUTION).read_verified(PLACE, TierName.CURATION)
    assert found.predicate == name_in_registry(verdict(), HOST) and found.signer is TierName.CURATION
    (listed,) = world.registry.referrers(PLACE)
    assert listed.artifact_type == BUNDLE


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_newer_verdict_replaces_older_one(world, first, second):
    """Exactly one is current, whatever the two say."""
    publish(world, verdict(yes=first))
    publish(world, verdict(1, yes=second))

    assert admits(world) is second
    assert len(published(world)) == 1


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_older_verdict_never_replaces_newer_one(world, first, second):
    """A slow run may publish late."""
    publish(world, verdict(1, yes=first))
    (before,) = published(world)
    publish(world, verdict(yes=second))

    assert published(world) == (before,)
    assert admits(world) is first


@pytest.mark.parametrize("yes", [True, False])
def test_refusal_counts_over_admission_published_at_the_same_time(world, yes):
    """In doubt the image is not admitted."""
    publish(world, verdict(yes=yes))
    publish(world, verdict(yes=not yes))

    assert not admits(world)
    assert len(published(world)) == 1


def test_same_verdict_is_neither_signed_nor_pushed_again(world):
    """A second run adds nothing."""
    publish(world, verdict())
    pushes, signer = world.registry.pushes, None

    store = replace(world.verdict_store(TierName.CURATION), signer=signer)
    publisher(world, store=store).prepare(CURATED, verdict(), world.now)()

    assert world.registry.pushes == pushes and len(published(world)) == 1


@pytest.mark.parametrize(
    ("published_verdicts", "found"),
    [
        ((), None),
        (((1, False),), 1),
        (((1, True),), None),
        (((-1, False),), None),
        (((1, False), (2, True)), None),
        (((1, True), (2, False)), 2),
    ],
    ids=["none", "newer refusal", "newer admission", "older refusal", "refusal before admission", "refusal last"],
)
def test_newer_opposite_ignores_superseded_verdicts(world, published_verdicts, found):
    """An interrupted run may have left an older verdict, which does not count."""
    for at, yes in published_verdicts:
        put(world, verdict(at, yes=yes))

    at = publisher(world).find_newer_opposite(CURATED, verdict())
    assert at == (None if found is None else NOON + timedelta(seconds=found))


def test_verdict_of_other_image_or_environment_stays(world):
    """They have their own current verdicts."""
    staging, production = (
        verdict(at, gate=Gate.DEPLOY, environment=name) for at, name in enumerate(("staging", "production"))
    )
    publish(world, staging)
    publish(world, production)
    publish(world, verdict())
    publish(world, verdict(5, ref=OTHER, yes=False), OTHER)

    assert [read(world, gate=Gate.DEPLOY, environment=each).admits for each in ("staging", "production")] == [True] * 2
    assert admits(world) and not admits(world, ref=OTHER)


@pytest.mark.parametrize("left", [0, 1])
def test_verdict_that_an_interrupted_run_left_is_removed(world, left):
    """Two runs at the same time, or a killed one, may leave two; the next one leaves the newest."""
    put(world, verdict(1))
    put(world, verdict(0, yes=False))

    publish(world, verdict(left))

    assert admits(world) and len(published(world)) == 1


def test_concurrent_writers_leave_the_newest_verdict(world):
    """Each has read the place before the other one has written."""
    older = publisher(world).prepare(CURATED, verdict(1), world.now)
    newer = publisher(world).prepare(CURATED, verdict(2, yes=False), world.now)

    newer()
    older()

    assert not admits(world) and len(published(world)) == 1


def test_admission_is_removed_before_refusal_is_added(world, monkeypatch):
    """A client that takes any verdict must not find an admission beside a refusal, even if the run is killed."""
    publish(world, verdict())
    refuse = publisher(world).prepare(CURATED, verdict(1, yes=False), world.now)

    def fail(*_):
        raise RegistryUnavailable("The registry did not answer.\nStart it.")

    monkeypatch.setattr(world.registry, "attach", fail)
    with pytest.raises(RegistryUnavailable):
        refuse()

    assert published(world) == ()


@pytest.mark.parametrize("yes", [True, False])
def test_admission_is_never_without_verdict_while_it_is_replaced(world, monkeypatch, yes):
    """Otherwise pods are refused for a moment, although nothing changed."""
    publish(world, verdict(yes=yes))
    counts, attach = [], world.registry.attach

    def count(*args):
        counts.append(len(published(world)))
        return attach(*args)

    monkeypatch.setattr(world.registry, "attach", count)
    publish(world, verdict(1))

    assert counts == [1] and len(published(world)) == 1


def test_refusal_is_not_published_if_it_cannot_be_signed(world):
    """The admission stays then, and the error says that nobody was informed."""

    class Broken:
        def sign(self, statement):
            raise AwsFailed("KMS failed.\nTry again.")

    publish(world, verdict())
    store = replace(world.verdict_store(TierName.CURATION), signer=Broken())

    with pytest.raises(AwsFailed):
        publisher(world, store=store).prepare(CURATED, verdict(1, yes=False), world.now)
    assert admits(world)


@pytest.mark.parametrize(("code", "fails"), [("ImageNotFound", False), ("Denied", True)])
def test_superseded_verdict_that_stays_is_an_error(world, code, fails):
    """Another writer may have removed it; but if it stays, some clients would take it."""

    class Ecr:
        host = HOST

        ensure_repository = world.ecr.ensure_repository

        def delete(self, repository, digests):
            return [Removal(name=digest, code=code, reason=f"no {digest}") for digest in digests]

    first, _ = put(world, verdict()), put(world, verdict(0.5))
    replacing = publisher(world, repositories=Ecr()).prepare(CURATED, verdict(1), world.now)

    if fails:
        with pytest.raises(RegistryFailed, match=rf"verdicts/release/hello keeps .* gone: {first}: no {first}\."):
            replacing()
    else:
        replacing()
    assert read(world).verdict.time_verified == NOON + timedelta(seconds=1), "the newest counts all the same"


def missing(world, **which):
    with pytest.raises(VerdictMissing) as error:
        read(world, **which)
    return str(error.value).partition("\n")[0]


def test_absent_verdict_does_not_admit(world):
    """No answer is no admission."""
    assert missing(world) == f"{PLACE} has no verdict that counts."
    assert "verdicts/deploy/production/hello@" in missing(world, gate=Gate.DEPLOY, environment="production")


def test_verdict_signed_with_other_key_does_not_count(world):
    """Neither with a foreign key, nor with the tier's own, nor with the verdict key of another tier."""
    put(world, verdict(), signer=world.signers[TierName.CURATION])
    assert "1 × not signed by a tier that is trusted here" in missing(world)
    put(world, verdict(), signer=world.verdict_signers[TierName.EXECUTION])
    assert "has no verdict that counts" in missing(world)


@pytest.mark.parametrize("predicate", [
    verdict(gate=Gate.INTAKE), verdict(ref=OTHER), verdict(ref=OFFERED), verdict(environment="staging"),
    verdict() | {"verifier": {"id": "urn:cscm:gate:release"}},
    verdict(ref=CURATED.with_repository("curated/other")),
], ids=["gate", "digest", "repository", "environment", "earlier verifier", "application"])  # fmt: skip
def test_published_verdict_for_other_gate_or_image_does_not_count(world, predicate):
    """Whoever may push to a place can attach there what was signed for another one."""
    put(world, predicate)

    assert missing(world).endswith(": 1 of another gate, image or environment.")


def test_verdict_of_other_environment_does_not_admit_here(world):
    """What staging accepts may be refused in production."""
    staging = verdict(gate=Gate.DEPLOY, environment="staging")
    place = locate_verdict(CURATED, Gate.DEPLOY, "production")
    put(world, staging, place=place, signer=world.verdict_signers[TierName.EXECUTION])

    assert "1 of another gate" in missing(world, gate=Gate.DEPLOY, environment="production")
    put(world, verdict(gate=Gate.DEPLOY, environment="production"), place=place,
        signer=world.verdict_signers[TierName.EXECUTION])  # fmt: skip
    assert admits(world, gate=Gate.DEPLOY, environment="production")


def test_verdict_about_other_digest_that_is_attached_here_does_not_count(world):
    """The statement names its subject, whatever its manifest says."""
    put(world, verdict(ref=OTHER), ref=OTHER)

    assert "1 × about another image" in missing(world)


def test_replayed_admission_does_not_count_over_newer_refusal(world):
    """Only the newest counts, even if somebody attached an older one again."""
    publish(world, verdict(1, yes=False))
    put(world, verdict())

    assert not admits(world)


def test_changed_verdict_does_not_count(world):
    """A signature is about every byte."""
    store = world.verdict_store(TierName.CURATION)
    bundle = json.loads(store.sign(PLACE, SUMMARY, verdict(yes=False)))
    refusal = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(refusal.replace(b"FAILED", b"PASSED")).decode()
    store.attach_signed(PLACE, SUMMARY, json.dumps(bundle).encode(), world.now)

    assert "not signed" in missing(world)


def test_unreadable_or_future_verdict_is_an_error(world):
    """It may be a refusal, or outlast one."""
    future = world.now - NOON + timedelta(hours=1)
    put(world, verdict(future.total_seconds()))
    with pytest.raises(ClockWrong):
        read(world)
    for ref in published(world):
        world.registry.remove(ref)
    put(world, {**verdict(), "policy": None})
    with pytest.raises(EvidenceInvalid):
        read(world)


def test_registry_error_is_no_verdict(world, monkeypatch):
    """An outage says nothing about the image."""

    def fail(_):
        raise RegistryUnavailable("The registry did not answer.\nStart it.")

    monkeypatch.setattr(world.registry, "referrers", fail)
    with pytest.raises(SupplyChainError, match=r"registry.unavailable"):
        read(world)


def test_admission_ends_with_its_first_waiver(world):
    """An enforcer refuses it from then on, although it says PASSED."""
    ends = world.now + timedelta(days=1)
    publish(world, verdict(waivers=("accept-cve",), expires=ends))
    assert admits(world)
    assert f"  waived by accept-cve\n  until {ends:%F %T} UTC\n" in str(read(world))

    world.now = ends

    assert not admits(world)
    assert "PASSED but expired" in str(read(world))


def test_verdict_is_read_with_an_earlier_verdict_key_too(world):
    """After a rotation, the published verdicts still count and can be replaced."""
    publish(world, verdict())
    earlier = world.verdict_signers[TierName.CURATION]
    new = type(earlier)()
    trusted = {TierName.CURATION: new.public + earlier.public}
    store = replace(world.verdict_store(TierName.CURATION), signer=new, trusted=trusted)

    assert read_current_verdict(store, CURATED, Gate.RELEASE).admits
    publisher(world, store=store).prepare(CURATED, verdict(1, yes=False), world.now)()
    assert not read_current_verdict(store, CURATED, Gate.RELEASE).admits and len(published(world)) == 1


def test_text_of_verdict_names_reasons_and_statement(world):
    """A person sees what the enforcer saw."""
    publish(world, verdict(gate=Gate.DEPLOY, environment="production", yes=False))
    found = read(world, gate=Gate.DEPLOY, environment="production")

    assert str(found).splitlines() == [
        f"{HOST}/{CURATED}: FAILED",
        "  by urn:cscm:gate:execution/deploy, 2026-11-24 12:00:00 UTC",
        "  for production",
        "  scan.high: CVE-1",
        "      → rebuild",
        f"  {found.statement}",
    ]
    publish(world, verdict())
    assert str(read(world)).splitlines() == [
        f"{HOST}/{CURATED}: PASSED",
        "  by urn:cscm:gate:curation/release, 2026-11-24 12:00:00 UTC",
        f"  {read(world).statement}",
    ]


@pytest.mark.parametrize(("gate", "environment", "places"), [
    (Gate.INTAKE, "", ("dev/hello", "curated/hello")),
    (Gate.RELEASE, "", ("curated/hello",)),
    (Gate.DEPLOY, "production", ("curated/hello",)),
])  # fmt: skip
def test_verdict_about_a_removed_image_is_withdrawn(world, gate, environment, places):
    """An image that is there keeps its verdict, and so does that of another gate."""
    for repository in places:
        for each in ("dev/hello", "curated/hello"):
            with suppress(KeyError):
                world.registry.remove(CURATED.with_repository(each))
        world.registry.add(CURATED.with_repository(repository))
        for ref in (CURATED, OTHER):
            of = ref.with_repository("dev/hello") if gate is Gate.INTAKE else ref
            publish(world, verdict(ref=of, gate=gate, environment=environment), ref)

        assert withdraw_removed(gate, world.ecr) == (OTHER,)
        assert withdraw_removed(gate, world.ecr) == ()
        assert admits(world, ref=CURATED, gate=gate, environment=environment)
    assert withdraw_removed(Gate.RELEASE if gate is Gate.INTAKE else Gate.INTAKE, world.ecr) == ()


def test_environments_are_those_with_verdicts_about_the_application(world):
    """The name of a base has two parts; the release gate has no environments."""
    for application in ("hello", "base/hello"):
        ref = CURATED.with_repository(f"curated/{application}")
        publish(world, verdict(ref=ref), ref)
        for environment in ("staging", application.replace("/", "-")):
            publish(world, verdict(ref=ref, gate=Gate.DEPLOY, environment=environment), ref)

    assert list_published_environments("hello", world.ecr) == ("hello", "staging")
    assert list_published_environments("base/hello", world.ecr) == ("base-hello", "staging")


def test_image_among_verdicts_is_not_withdrawn(world):
    """It is no verdict: it says nothing about an image."""
    world.registry.add(PLACE)

    assert withdraw_removed(Gate.RELEASE, world.ecr) == ()
    assert PLACE in published(world)


def test_verdict_that_cannot_be_withdrawn_is_an_error(world):
    """Otherwise it would go on to admit an image that somebody pushes again."""

    class Refusing:
        """ECR without the permission to remove."""

        def __getattr__(self, name):
            return getattr(world.ecr, name)

        def delete(self, repository, digests):
            return tuple(Removal(name=each, code="AccessDenied", reason="no") for each in digests)

    publish(world, verdict())

    with pytest.raises(RegistryFailed, match="keeps a verdict that should be gone"):
        withdraw_removed(Gate.RELEASE, Refusing())
