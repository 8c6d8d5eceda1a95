"""The gates as tasks: the evidence they read, their verdicts, and where a refusal is stored."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from prefect import Task

from blocks.curation_ports import CurationPorts
from blocks.execution_ports import ExecutionPorts
from orchestration import verdict_events
from supply_chain.adapters.registry.content_cache import ContentCache
from supply_chain.errors import ImageArchived, ImageNotFound
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.image_status import block_repository
from supply_chain.evidence.soak import Soak
from supply_chain.evidence.statement import (
    APPROVAL,
    LIFECYCLE,
    PROVENANCE,
    SBOM,
    SIGNATURE,
    SOAK,
    SUMMARY,
    VULNERABILITIES,
)
from supply_chain.execution.environment import DockerEnvironment
from supply_chain.model.image import ImageRef, StorageStatus, StoredManifest
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.names import Holder, NameRegister
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.verdict import locate_verdicts
from tasks import gates
from tasks.policy import explain_curation_step, explain_deploy_step
from tests.support.pieces import CURATED, CURATION, DEV, ELSEWHERE, EXECUTION, OFFERED, Pieces, scanned_image, where
from tests.support.policies import POLICIES

BASE = ImageRef(repository="curated/base/python", digest="sha256:" + "7" * 64)
EARLIER = ImageRef(repository="curated/hello", digest="sha256:" + "e" * 64)
GATES: dict[Gate, Any] = {
    Gate.INTAKE: gates.intake_gate_step,
    Gate.RELEASE: gates.release_gate_step,
    Gate.DEPLOY: gates.deploy_gate_step,
}
KEEPS = {
    Gate.INTAKE: (CURATION, ELSEWHERE),
    Gate.RELEASE: (CURATION, CURATED),
    Gate.DEPLOY: (EXECUTION, ImageRef(repository="evidence/execution/hello", digest=CURATED.digest)),
}
"""The tier that judges, and the subject that a refusal is attached to."""


def manifest(*layers):
    """Return the manifest of an image with these layers and its own configuration."""
    blobs = [{"digest": "sha256:" + digit * 64, "size": 1} for digit in layers]
    return {"config": {"digest": "sha256:" + layers[-1] * 63 + "0", "size": 1}, "layers": blobs}


@dataclass
class Registry:
    """Both views that a tier has of its registry: the content and the ECR API."""

    manifests: dict[ImageRef, dict[str, Any]] = field(
        default_factory=lambda: {OFFERED: manifest("1"), CURATED: manifest("1")}
    )
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    archived: dict[str, list[tuple[ImageRef, tuple[str, ...]]]] = field(default_factory=dict)
    earlier: dict[str, tuple[ImageRef, ...]] = field(default_factory=dict)
    made: dict[str, tuple[bool, str | None]] = field(default_factory=dict)
    stored: StorageStatus = StorageStatus.ACTIVE

    def status(self, ref):
        if ref not in self.manifests:
            raise ImageNotFound("The registry has none.")
        return self.stored

    def manifest(self, ref):
        return self.manifests[ref]

    def images(self, repository):
        """List the archived images of a repository."""
        held = [(ref, ("earlier",)) for ref in self.earlier.get(repository, ())]
        return tuple(
            StoredManifest(
                digest=ref.digest, tags=tags, pushed_at=self.at, size=1, media_type="", status=StorageStatus.ARCHIVED
            )
            for ref, tags in (*held, *self.archived.get(repository, ()))
        )

    def repositories(self, prefix):
        return tuple(name for name in self.earlier if name.startswith(prefix))

    def ensure_repository(self, name, *, immutable, key):
        self.made[name] = (immutable, key)


class Subject(Pieces):
    """The evidence of an image, its registry, and the gate that judges it."""

    def __init__(self, world, make):
        super().__init__(world, make)
        self.registry, self.events, self.names = Registry(), [], NameRegister(names={})
        self.environment, self.others = DockerEnvironment(name="staging"), {}

    def ports(self, gate):
        """Return the ports of the tier that judges at a gate."""
        store = self.world.store(KEEPS[gate][0])
        tier: Any = SimpleNamespace(http=self.registry, ecr=self.registry)
        workbench: Any = SimpleNamespace(
            policies=lambda: POLICIES,
            registered=lambda name, _=None: self.names.of(name),
            minimum_classification=self.names.minimum_classification, environment=self.others.__getitem__,
            content_cache=MagicMock(ContentCache),
            active_requirements=lambda place: place.requirements(self.others.__getitem__),
        )  # fmt: skip
        ports = (ExecutionPorts if gate is Gate.DEPLOY else CurationPorts)(tier, workbench)
        vars(ports)["evidence"] = store
        return ports

    async def judge(self, gate):
        """Return the verdict and the facts of a gate."""
        what = {
            Gate.INTAKE: (OFFERED,),
            Gate.RELEASE: (scanned_image(self.make),),
            Gate.DEPLOY: (CURATED, self.environment),
        }[gate]
        return await GATES[gate].fn(*what, self.ports(gate))

    def good(self, gate, *, but=None):
        """Attach all evidence except one piece."""
        for name, piece in self.at(gate).items():
            if name != but:
                self.attach(where(gate), *piece)

    def verdicts(self):
        """Return all stored verdicts by subject and signer."""
        store = self.world.store(TierName.EXECUTION)
        places = [where(Gate.INTAKE), *(place for _, place in KEEPS.values())]
        return {
            (place, tier): verdicts
            for place in places
            for tier in TierName
            if (verdicts := [e.predicate for e in store.read_verified(place, tier) if e.predicate_type == SUMMARY])
        }


@pytest.fixture
def subject(world, make, monkeypatch):
    subject = Subject(world, make)
    monkeypatch.setattr(verdict_events, "emit", lambda *args, **payload: subject.events.append((*args, payload)))
    monkeypatch.setattr(gates, "read_clock", lambda: make.noon)
    return subject


@pytest.mark.parametrize("gate", Gate)
def test_gate_is_a_task_with_retries(gate):
    """A registry that does not answer is no refusal."""
    task = GATES[gate]

    assert isinstance(task, Task)
    assert task.retries and task.retry_condition_fn


@pytest.mark.parametrize("gate", Gate)
async def test_gate_admits_good_evidence_and_emits_event(subject, gate, make):
    """The facts are returned too; the next step signs the verdict."""
    subject.good(gate)
    before = subject.verdicts()

    verdict, facts = await subject.judge(gate)

    assert isinstance(verdict, Admitted) and verdict.gate is gate
    assert (verdict.facts, facts.ref) == (facts, where(gate))
    assert subject.events == [
        ("image.admitted", where(gate), make.source(), {"gate": gate.value, "notes": []}),
    ]
    assert (subject.verdicts(), subject.registry.made) == (before, {})


async def test_admission_event_has_notes(subject, make):
    """An operator should know of uncommitted changes."""
    subject.good(Gate.INTAKE, but="provenance")
    dirty = make.provenance(built={"source": make.source(dirty=True)})
    subject.attach(OFFERED, DEV, PROVENANCE, dirty)

    await subject.judge(Gate.INTAKE)

    ((name, _, source, payload),) = subject.events
    assert (name, source.dirty) == ("image.admitted", True)
    assert payload["notes"] == ["its source has uncommitted changes"]


@pytest.mark.parametrize(
    ("gate", "gone", "code"),
    [
        (Gate.INTAKE, "tests", "tests.missing"),
        (Gate.RELEASE, "scan", "scan.missing"),
        (Gate.DEPLOY, "signature", "signature.missing"),
    ],
)
async def test_refusal_is_emitted_and_stored_where_gate_may_write(subject, make, gate, gone, code):
    """It is attached to the gate's own image, and stored in the gate's own immutable repository."""
    subject.good(gate, but=gone)
    judge, place = KEEPS[gate]
    places = locate_verdicts(where(gate), gate, admitted=False)
    before = subject.verdicts()

    verdict, facts = await subject.judge(gate)

    assert isinstance(verdict, Refused) and facts.ref == where(gate)
    assert [reason.code for reason in verdict.reasons] == [code]
    reasons = [reason.model_dump() for reason in verdict.reasons]
    payload = {"gate": gate.value, "reasons": reasons}
    assert subject.events == [("image.refused", where(gate), make.source(), payload)]
    recorded = {at: verdicts for at, verdicts in subject.verdicts().items() if verdicts != before.get(at)}
    assert set(recorded) == {(each, judge) for each in places}
    last = recorded[place, judge][-1]
    assert (last["resourceUri"], last["cscm"]["reasons"]) == (str(where(gate)), reasons)
    assert subject.registry.made == {each.repository: (True, None) for each in places if each != CURATED}


async def test_refusal_event_has_at_most_fifty_reasons(subject, make):
    """Events must be small; the stored verdict has every reason."""
    subject.good(Gate.RELEASE, but="scan")
    exploited = [make.finding("low", id=f"CVE-2026-{n:04}", known_exploited=True) for n in range(51)]
    subject.attach(CURATED, CURATION, VULNERABILITIES, make.report(*exploited).predicate())

    verdict, _ = await subject.judge(Gate.RELEASE)

    ((*_, payload),) = subject.events
    assert len(verdict.reasons) == 51
    assert payload["reasons"] == [reason.model_dump() for reason in verdict.reasons[:50]]


@pytest.mark.parametrize("gate", [Gate.INTAKE, Gate.DEPLOY])
async def test_missing_image_is_an_error_and_no_refusal(subject, gate):
    """Nothing is judged, emitted or stored."""
    subject.registry.manifests.clear()

    with pytest.raises(ImageNotFound, match="has no dev/hello@sha256" if gate is Gate.INTAKE else "has none"):
        await subject.judge(gate)

    assert (subject.events, subject.verdicts(), subject.registry.made) == ([], {}, {})


async def test_archived_candidate_is_refused_if_blocked_else_error(subject, make):
    """A block also archives the image in `dev/`, and ECR takes time to restore it."""
    subject.good(Gate.INTAKE)
    subject.registry.stored = StorageStatus.ARCHIVED
    decision = {"by": "ann", "reason": "x", "at": make.noon.isoformat()}
    subject.attach(block_repository(OFFERED.digest), TierName.LIFECYCLE, LIFECYCLE, {"act": "block", **decision})

    verdict, _ = await subject.judge(Gate.INTAKE)

    assert [reason.code for reason in verdict.reasons] == ["image.blocked"]
    assert subject.events[-1][-1]["blocked"] == "yes"
    later = (make.noon + timedelta(seconds=1)).isoformat()
    subject.attach(
        block_repository(OFFERED.digest), TierName.LIFECYCLE, LIFECYCLE, {**decision, "act": "unblock", "at": later}
    )
    with pytest.raises(ImageArchived):
        await subject.judge(Gate.INTAKE)


async def test_name_registered_to_other_owner_is_refused(subject):
    """The owner of the platform maintains the register."""
    subject.good(Gate.INTAKE)
    subject.names = NameRegister(names={"hello": Holder(owner="somebody else")})

    verdict, _ = await subject.judge(Gate.INTAKE)

    assert [reason.code for reason in verdict.reasons] == ["name.taken"]


async def test_name_first_used_by_other_team_is_refused(subject, make):
    """Earlier curated images count even if they are archived."""
    subject.good(Gate.INTAKE)
    subject.registry.archived["curated/hello"] = [(OFFERED.with_repository("curated/hello"), ()), (EARLIER, ("tag",))]
    subject.attach(EARLIER, DEV, PROVENANCE, make.provenance(owner="somebody else"))
    subject.attach(EARLIER, CURATION, SIGNATURE, {})

    verdict, _ = await subject.judge(Gate.INTAKE)

    assert [reason.code for reason in verdict.reasons] == ["name.taken"]


async def test_untagged_image_does_not_hold_name(subject, make):
    """Curation tags its images; an untagged one is a part of another or was given up."""
    subject.good(Gate.INTAKE)
    subject.registry.archived["curated/hello"] = [(EARLIER, ())]
    subject.attach(EARLIER, DEV, PROVENANCE, make.provenance(owner="somebody else"))
    subject.attach(EARLIER, CURATION, SIGNATURE, {})

    verdict, _ = await subject.judge(Gate.INTAKE)

    assert isinstance(verdict, Admitted)


@pytest.mark.parametrize(
    ("below", "codes"),
    [(("1",), ["sbom.incomplete"]), (("1", "2"), ["sbom.incomplete"]), (("3",), []), (("1", "3"), []), (("2",), [])],
    ids=["first layer", "both layers", "another layer", "another second layer", "second layer"],
)
async def test_image_is_compared_with_base_that_its_layers_begin_with(subject, make, below, codes):
    """Only the layers count, because every image has its own configuration."""
    subject.registry.manifests |= {CURATED: manifest("1", "2"), BASE: manifest(*below)}
    subject.registry.earlier[BASE.repository] = (BASE,)
    subject.good(Gate.RELEASE)
    subject.attach(BASE, CURATION, SIGNATURE, {})
    subject.attach(BASE, CURATION, SBOM, make.sbom(subject.world.registry, BASE, "libc6"))

    verdict, _ = await subject.judge(Gate.RELEASE)

    assert [reason.code for reason in getattr(verdict, "reasons", ())] == codes


@pytest.mark.parametrize(("seconds", "codes"), [(None, ["soak.missing"]), (3599, ["soak.missing"]), (3600, [])])
async def test_environment_can_require_soak_in_other_environment(subject, make, seconds, codes):
    """The other environment sets the time, and the verdict rests on the signed soak."""
    subject.environment = DockerEnvironment(name="staging", after="acceptance")
    subject.others["acceptance"] = DockerEnvironment(name="acceptance", soak="1h")
    subject.good(Gate.DEPLOY)
    if seconds:
        until = make.noon + timedelta(seconds=seconds)
        statement = Soak(environment="acceptance", digest=CURATED.digest, container="c", since=make.noon, until=until,
                         observations=2, required_seconds=60)  # fmt: skip
        subject.attach(KEEPS[Gate.DEPLOY][1], EXECUTION, SOAK, statement.predicate())

    verdict, facts = await subject.judge(Gate.DEPLOY)

    assert [reason.code for reason in getattr(verdict, "reasons", ())] == codes
    assert (SOAK in [each.predicate_type for each in facts.evidence]) is bool(seconds)


@pytest.mark.parametrize(
    ("decision", "signer", "environment", "codes"),
    [
        (None, EXECUTION, "staging", ["approval.missing"]),
        ("approved", EXECUTION, "staging", []),
        ("denied", EXECUTION, "staging", ["approval.denied"]),
        ("approved", CURATION, "staging", ["approval.missing"]),
        ("approved", EXECUTION, "production", ["approval.missing"]),
    ],
)
async def test_environment_can_require_signed_approval(subject, make, decision, signer, environment, codes):
    """Execution must have signed it for this digest and environment."""
    subject.environment = DockerEnvironment(name="staging", approval="required")
    subject.good(Gate.DEPLOY)
    if decision:
        statement = Approval(
            environment=environment, digest=CURATED.digest, decision=decision, by="Ada", reason="so", decided=make.noon
        )
        subject.attach(KEEPS[Gate.DEPLOY][1], signer, APPROVAL, statement.predicate())

    verdict, facts = await subject.judge(Gate.DEPLOY)

    assert [reason.code for reason in getattr(verdict, "reasons", ())] == codes
    rests_on = [each.predicate_type for each in facts.evidence]
    assert (APPROVAL in rests_on) == (decision is not None and signer is EXECUTION)


@pytest.mark.parametrize("gate", Gate)
async def test_policy_of_a_gate_is_explained_and_nothing_is_recorded(subject, gate, monkeypatch, make):
    """The explanation is of the same facts, rules and environment as the gate's own verdict."""
    monkeypatch.setattr("tasks.policy.read_clock", lambda: make.noon)
    subject.good(gate)
    ports, ref = subject.ports(gate), OFFERED if gate is Gate.INTAKE else CURATED

    if gate is Gate.DEPLOY:
        found = await explain_deploy_step.fn(ref, subject.environment, ports)
    else:
        found = await explain_curation_step.fn(ref, ports)

    assert (found.image, found.gate, found.environment) == (ref, gate, "staging" if gate is Gate.DEPLOY else "")
    assert [each.result.rule for each in found.rules] == [rule.id for rule in POLICIES.select_gate(gate).rules]
    verdict, _ = await subject.judge(gate)
    assert tuple(each.result for each in found.rules) == verdict.results
    assert subject.registry.made == {}
