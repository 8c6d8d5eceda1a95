"""Builders of what a plan looks at, and a registry in memory that a plan is carried out on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from supply_chain.evidence.image_status import Act, ImageStatus, LifecycleDecision
from supply_chain.fleet.image import BuiltOn, FleetImage, Judgement, Running, Scan
from supply_chain.lifecycle.plan import Plan
from supply_chain.lifecycle.planning import plan_lifecycle as plan_of
from supply_chain.lifecycle.rules import Rules
from supply_chain.lifecycle.snapshot import EvidenceSummary, Member, PastDeployment, RepositorySnapshot
from supply_chain.model.image import Digest, ImageRef, Removal, StorageStatus, StoredManifest
from supply_chain.model.tier import Gate
from supply_chain.vulnerability.findings import Database, Finding
from tests.support.memory_ecr import MemoryEcr

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
RULES = Rules.model_validate(
    {
        "name": "nightly",
        "floor_days": 14,
        "keep": {"newest": 2, "pushed_days": 20, "pulled_days": 20, "rollback": 1},
        "age_out": {"untagged_days": 30, "superseded_days": 90, "unsigned_days": 30, "refused_days": 30},
        "archive": {"retention_days": 200, "not_pulled_days": 60},
        "limits": {"count": 100, "share": 1},
    }
)
IMAGE = "application/vnd.oci.image.manifest.v1+json"
POLICY = "sha256:" + "9" * 64


def digest(name: str | int) -> Digest:
    return f"sha256:{name:0>64}" if isinstance(name, str) else f"sha256:{name:064x}"


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def ref(number: str | int, repository: str = "curated/hello") -> ImageRef:
    return ImageRef(repository=repository, digest=digest(number))


def stored(number: str | int, days: float = 400, **changes: Any) -> StoredManifest:
    return StoredManifest(
        **{
            "digest": digest(number),
            "tags": (f"t{number}",),
            "pushed_at": ago(days),
            "size": 10,
            "media_type": IMAGE,
            **changes,
        }
    )


def image(
    number: int,
    days: float = 400,
    *,
    repository: str = "curated/hello",
    passed: bool | None = True,
    verdict_days: float | None = None,
    exploited: bool = False,
    bases: Iterable[str | int] = (),
    **changes: Any,
) -> FleetImage:
    """An ordinary released image; `changes` are of the manifest where it has such a field, else of the image."""
    of_manifest = {k: changes.pop(k) for k in list(changes) if k in StoredManifest.model_fields}
    at = ago(days if verdict_days is None else verdict_days)
    judgement = Judgement(gate=Gate.RELEASE, passed=bool(passed), at=at, policy=POLICY, evidence=digest(number))
    found = Finding(
        id="CVE-2026-1", severity="high", package="p", version="1", type="deb", known_exploited=True
    )  # fmt: skip
    database = Database(kind="official", built=ago(1), digest="xxh64:0")
    scan = Scan(scanner="grype", scanner_version="1", database=database, scanned=ago(1), sbom=None,
                findings=(found,) if exploited else ())  # fmt: skip
    return FleetImage(**{
        "ref": ref(number, repository), "stored": stored(number, days, **of_manifest), "kind": "service",
        "owner": "web", "environments": ("staging",), "signed": True, "scan": scan,
        "judgements": () if passed is None else (judgement,),
        "bases": tuple(BuiltOn(digest=digest(each), name="b") for each in bases), **changes,
    })  # fmt: skip


def member(of: FleetImage, **changes: Any) -> Member:
    """The manifest of an image."""
    return Member(**{"ref": of.ref, "stored": of.stored, "subjects": of.stored.subjects, **changes})


def part(
    number: int,
    days: float = 400,
    *,
    repository: str = "curated/hello",
    subject: str | int | None = None,
    copy_of: str | int | None = None,
    children: Iterable[str | int] = (),
    guessed: bool = False,
    **changes: Any,
) -> Member:
    """A manifest that the inventory does not know: a referrer, a copy, a child, an index."""
    return Member(
        ref=ref(number, repository),
        stored=stored(number, days, **{"tags": (), **changes}),
        subjects=() if subject is None else (digest(subject),),
        copy_of=digest(copy_of) if copy_of is not None else None,
        children=tuple(digest(each) for each in children),
        guessed=guessed,
    )


def deployed(
    number: int, days: float, environment: str = "staging", application: str = "hello", proxy: int | None = None
) -> PastDeployment:
    return PastDeployment(
        environment=environment, application=application, digest=digest(number), at=ago(days),
        proxy=None if proxy is None else digest(proxy),
    )  # fmt: skip


def running(number: int, days: float, environment: str = "staging") -> Running:
    return Running(
        environment=environment, application="hello", container="c", name="n", address="a", host="h", since=ago(days)
    )


def stands(**acts: str) -> ImageStatus:
    """`block="why"`, `hold="why"`, `unblock="why"`; and the `rule` by which."""
    act, rule = {"block": Act.BLOCK, "hold": Act.HOLD, "unblock": Act.UNBLOCK}, acts.pop("rule", "")
    return ImageStatus(
        **{k: LifecycleDecision(act=act[k], by="ann", reason=why, at=ago(1), rule=rule) for k, why in acts.items()}
    )


def snapshot_of(
    *images: FleetImage,
    parts: Iterable[Member] = (),
    deployments: Iterable[PastDeployment] = (),
    proxies: Mapping[Digest, tuple[str, ...]] | None = None,
    statuses: Mapping[ImageRef, ImageStatus] | None = None,
) -> RepositorySnapshot:
    parts = tuple(parts)
    listed = {each.ref for each in parts}
    members = [member(each) for each in images if each.ref not in listed]
    return RepositorySnapshot(
        images=images,
        members=(*members, *parts),
        deployments=tuple(deployments),
        proxies=dict(proxies or {}),
        statuses={str(where): each for where, each in (statuses or {}).items()},
        read_at=NOW,
    )


class Shelf:
    """A registry in memory that does as ECR does, what was signed, and how often it was asked for what."""

    def __init__(self, of: RepositorySnapshot) -> None:
        self.held = {each.ref: each for each in of.members}
        self.signed, self.stand = list(of.deployments), dict(of.statuses)
        self.fleet = of.images
        self.named = of.proxies
        self.says = {each.ref: EvidenceSummary.of(each) for each in of.images}
        self.new_on: set[Digest] = set()
        self.calls: list[tuple[str, ImageRef]] = []
        self.refuses: dict[ImageRef, str] = {}
        self.broken: dict[ImageRef, Exception] = {}
        self.dies_after: int | None = None
        self.watch: Callable[[], object] = lambda: None

    def members(self, repository: str) -> tuple[Member, ...]:
        return tuple(each for where, each in self.held.items() if where.repository == repository)

    def deployments(self, application: str | None) -> tuple[PastDeployment, ...]:
        return tuple(each for each in self.signed if application in (None, each.application))

    def proxies(self) -> dict[Digest, tuple[str, ...]]:
        return self.named

    def find_image_status(self, where: ImageRef) -> ImageStatus:
        return self.stand.get(str(where), ImageStatus())

    def summarize_evidence(self, where: ImageRef, stored: StoredManifest) -> EvidenceSummary:
        assert self.held[where].stored == stored
        return self.says[where]

    def bases(self) -> frozenset[Digest]:
        held = [each for each in self.fleet if each.ref in self.held]
        return frozenset({*self.new_on, *(base.digest for each in held for base in each.bases)})

    def block(self, where: ImageRef, rule: str, why: str) -> None:
        self._call(("block", where))
        self.stand[str(where)] = stands(block=why, rule=rule)

    def archive(self, where: ImageRef) -> None:
        if where in self.broken:
            raise self.broken[where]
        self._call(("archive", where))
        held = self.held[where]
        self.held[where] = held.model_copy(
            update={"stored": held.stored.model_copy(update={"status": StorageStatus.ARCHIVED})}
        )

    def delete(self, repository: str, digests: Sequence[Digest]) -> tuple[Removal, ...]:
        assert 0 < len(digests) <= 100
        removals = []
        for each in digests:
            where = ImageRef(repository=repository, digest=each)
            code = self.refuses.get(where)
            if code is None and where not in self.held:
                code = "ImageNotFound"
            elif code is None and any(each in m.children for m in self.members(repository)):
                code = "ImageReferencedByManifestList"
            elif code is None:
                self._call(("delete", where))
                del self.held[where]
                self.watch()
            removals.append(Removal(name=each, code=code, reason="because" if code else None))
        return tuple(removals)

    def _call(self, call: tuple[str, ImageRef]) -> None:
        if self.dies_after is not None and len(self.calls) >= self.dies_after:
            raise KeyboardInterrupt
        assert call not in self.calls, "done twice"
        self.calls.append(call)


def newest(*numbers: int) -> list[FleetImage]:
    """Return enough newer released images that no older one is kept as one of the newest."""
    return [image(900 + n, days=300 - n) for n in range(RULES.keep.newest)] + [image(n) for n in numbers]


@st.composite
def snapshots(draw: st.DrawFn) -> RepositorySnapshot:
    """Draw a snapshot of two applications and a base, with referrers, copies, indexes and decisions.

    Most images are old and of one application, and most parts belong to one of them, so that plans remove some.
    """
    numbers = range(1, draw(st.integers(2, 9)) + 1)
    days = st.sampled_from([1, 13, 15, 25, 40, 100, 150, *[400] * 7])
    names = st.sampled_from([*["curated/hello"] * 4, "curated/shop", "curated/base/python"])
    images = [
        image(
            n, draw(days), repository=draw(names), passed=draw(st.sampled_from([True, True, False, None])),
            signed=draw(st.booleans()), tags=("t",) if draw(st.booleans()) else (),
            pulled_at=ago(draw(days)) if draw(st.integers(0, 3)) == 0 else None,
            status=draw(st.sampled_from([*["ACTIVE"] * 8, "ARCHIVED", "ACTIVATING"])),
            exploited=draw(st.integers(0, 7)) == 0,
            unreadable=draw(st.sampled_from([*[""] * 7, "damaged"])),
            bases=tuple(draw(st.sampled_from([*[()] * 4, (1,), (2, 3)]))),
            running=(running(n, draw(days)),) if draw(st.integers(0, 9)) == 0 else (),
        )
        for n in numbers
    ]  # fmt: skip
    every = [*numbers, *range(100, 106), 999]
    few = st.one_of(*[st.just([])] * 3, st.lists(st.sampled_from(every), max_size=2))
    owners = [draw(st.sampled_from(numbers)) for _ in range(draw(st.integers(0, 6)))]
    parts = [
        part(
            n, draw(days), repository=images[owner - 1].ref.repository,
            subject=draw(st.sampled_from([None, owner, owner, *every])),
            copy_of=draw(st.sampled_from([None, None, owner, *numbers])),
            children=tuple(draw(few)),
            guessed=draw(st.integers(0, 3)) == 0,
        )
        for n, owner in enumerate(owners, start=100)
    ]  # fmt: skip
    parts += [
        member(
            each,
            children=tuple(digest(c) for c in draw(few)),
            guessed=draw(st.integers(0, 3)) == 0,
        )
        for each in images
        if draw(st.integers(0, 3)) == 0
    ]
    deployments = draw(
        st.lists(
            st.builds(
                deployed, st.sampled_from(numbers), days, st.sampled_from(["staging", "production"]),
                st.sampled_from(["hello", "shop"]), st.sampled_from([None, *numbers]),
            ), max_size=draw(st.sampled_from([0, 0, 5])),
        )
    )  # fmt: skip
    statuses = st.sampled_from(
        [*[{}] * 12, {"hold": "h"}, {"block": "b"}, {"unblock": "e"}, {"hold": "h", "block": "b"}]
    )
    return snapshot_of(
        *images, parts=parts, deployments=deployments, statuses={i.ref: stands(**draw(statuses)) for i in images}
    )


def planned(count: int = 100) -> Plan:
    """Return the plan that deletes one superseded image, under a limit of `count` images."""
    rules = RULES.model_copy(update={"limits": RULES.limits.model_copy(update={"count": count})})
    return plan_of(snapshot_of(*newest(1)), rules, NOW)


def holding(*refs: ImageRef) -> MemoryEcr:
    """Return a registry with these archived images."""
    ecr = MemoryEcr()
    for each in refs:
        ecr.registry.add(each, status=StorageStatus.ARCHIVED)
    return ecr
