"""Facts of the gates: the newest statement of the right tier counts, and broken evidence never admits an image."""

import base64
import json
from collections import Counter
from contextlib import nullcontext
from datetime import timedelta

import pytest

from supply_chain.errors import EvidenceInvalid, ImageDamaged, ImageNotFound, SupplyChainError
from supply_chain.evidence.attached_statement import OPENVEX
from supply_chain.evidence.checks import Check
from supply_chain.evidence.examination import Archive, Examination, Identity
from supply_chain.evidence.soak import Soak
from supply_chain.evidence.statement import (
    APPROVAL,
    BUNDLE,
    PROVENANCE,
    SBOM,
    SIGNATURE,
    SOAK,
    SUMMARY,
    TEST_RESULT,
    VULNERABILITIES,
    make_image_statement,
)
from supply_chain.evidence.store import PREDICATE
from supply_chain.model.declaration import Service
from supply_chain.model.image import ImageRef, Material
from supply_chain.model.tier import Gate
from supply_chain.policy.fact_values import make_fact_values
from supply_chain.policy.facts import RequiredSoak
from supply_chain.policy.gate import evaluate, judge
from supply_chain.policy.outcome import Admitted, Refused, RuleOutcome
from supply_chain.policy.people import People
from supply_chain.policy.reading import (
    find_all_bases,
    find_bases_in_layers,
    read_deploy_facts,
    read_execution_statements,
    read_intake_facts,
    read_release_facts,
)
from tests.support.builders import NOON
from tests.support.facts import requirements
from tests.support.pieces import (
    BASE,
    CURATED,
    CURATION,
    DEV,
    ELSEWHERE,
    EVERY,
    EXECUTION,
    LAYERS,
    OFFERED,
    Judged,
    layers,
    names,
    where,
)
from tests.support.policies import POLICIES, RELEASE
from tests.support.present import present
from tests.support.vex import openvex


@pytest.fixture
def pieces(world, make):
    return Judged(world, make)


def never_admitted(pieces, gate):
    """Return the codes of the refusal or of the error; fail if the gate admits the image."""
    try:
        verdict = pieces.judged(gate)
    except SupplyChainError as error:
        return error.code
    assert isinstance(verdict, Refused)
    return [reason.code for reason in verdict.reasons]


@pytest.mark.parametrize("gate", Gate)
def test_gate_admits_image_with_complete_evidence(pieces, gate):
    """The refusals below depend on this, and on the complete list of evidence."""
    assert list(pieces.at(gate)) == names(gate)
    for piece in pieces.at(gate).values():
        pieces.attach(where(gate), *piece)

    assert isinstance(pieces.judged(gate), Admitted)


@pytest.mark.parametrize("gate", Gate)
def test_gate_ignores_and_notes_invalid_referrers(pieces, gate, make):
    """Otherwise everyone with push access could stop every image."""
    for piece in pieces.at(gate).values():
        pieces.attach(where(gate), *piece)
    for n, content in enumerate((b"rubbish", make.signer().sign(make_image_statement(where(gate), SUMMARY, {})))):
        pieces.world.registry.attach(where(gate), BUNDLE, content, {PREDICATE: SUMMARY, "n": str(n)})
    elsewhere = CURATED.model_copy(update={"digest": make.other})
    bundle = pieces.world.signers[DEV].sign(make_image_statement(elsewhere, TEST_RESULT, {}))
    pieces.world.registry.attach(where(gate), BUNDLE, bundle, {PREDICATE: TEST_RESULT})

    verdict = pieces.judged(gate)

    assert isinstance(verdict, Admitted)
    assert [note for note in verdict.notes if note.startswith("left out 3 ") and "1 × about another image" in note]


@pytest.mark.parametrize(("gate", "gone"), EVERY)
def test_gate_refuses_image_with_one_piece_of_evidence_missing(pieces, gate, gone):
    """Every piece is necessary, and each reason has a fact and a remedy."""
    for name, piece in pieces.at(gate).items():
        if name != gone:
            pieces.attach(where(gate), *piece)

    verdict = pieces.judged(gate)

    assert isinstance(verdict, Refused)
    assert all(reason.fact and reason.remedy for reason in verdict.reasons)


def by_another_tier(pieces, place, piece):
    signer, kind, predicate = piece
    other = DEV if signer is CURATION else EXECUTION
    pieces.attach(place, other, kind, predicate)


def by_a_stranger_with_the_tiers_hint(pieces, place, piece):
    signer, kind, predicate = piece
    payload = make_image_statement(place, kind, predicate).bytes()
    bundle = pieces.make.signer().sign_bytes(payload, hint=pieces.world.signers[signer].hint)
    pieces.world.registry.attach(place, BUNDLE, bundle, {PREDICATE: kind})


def with_another_payload(pieces, place, piece):
    signer, kind, predicate = piece
    bundle = json.loads(pieces.world.signers[signer].sign(make_image_statement(place, kind, {"other": "words"})))
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(make_image_statement(place, kind, predicate).bytes()).decode()
    pieces.world.registry.attach(place, BUNDLE, json.dumps(bundle).encode(), {PREDICATE: kind})


def about_another_digest(pieces, place, piece):
    signer, kind, predicate = piece
    other = place.model_copy(update={"digest": "sha256:" + "b" * 64})
    bundle = pieces.world.signers[signer].sign(make_image_statement(other, kind, predicate))
    pieces.world.registry.attach(place, BUNDLE, bundle, {PREDICATE: kind})


def about_another_application(pieces, place, piece):
    signer, kind, predicate = piece
    bundle = pieces.world.signers[signer].sign(
        make_image_statement(place.with_repository("dev/other"), kind, predicate)
    )
    pieces.world.registry.attach(place, BUNDLE, bundle, {PREDICATE: kind})


def attached_to_another_digest(pieces, place, piece):
    pieces.attach(place.model_copy(update={"digest": "sha256:" + "b" * 64}), *piece)


def cut_short(pieces, place, piece):
    signer, kind, predicate = piece
    bundle = pieces.world.signers[signer].sign(make_image_statement(place, kind, predicate))
    pieces.world.registry.attach(place, BUNDLE, bundle[:-20], {PREDICATE: kind})


def of_another_type(pieces, place, piece):
    signer, _, predicate = piece
    pieces.attach(place, signer, "urn:cscm:something-else:v1", predicate)


BREAKS = [
    by_another_tier,
    by_a_stranger_with_the_tiers_hint,
    with_another_payload,
    about_another_digest,
    about_another_application,
    attached_to_another_digest,
    cut_short,
    of_another_type,
]


@pytest.mark.parametrize("broken", BREAKS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(("gate", "which"), EVERY)
def test_gate_never_admits_image_with_one_broken_piece_of_evidence(pieces, gate, which, broken):
    """The rule holds for every kind of damage to every piece."""
    for name, piece in pieces.at(gate).items():
        if name == which:
            broken(pieces, where(gate), piece)
        else:
            pieces.attach(where(gate), *piece)

    assert never_admitted(pieces, gate)


@pytest.mark.parametrize(("gate", "which"), [pair for pair in EVERY if pair[1] != "signature"])
def test_gate_never_admits_empty_signed_predicate(pieces, gate, which):
    """A valid signature over an empty predicate is no approval; only a cosign signature has an empty predicate."""
    for name, (signer, kind, predicate) in pieces.at(gate).items():
        pieces.attach(where(gate), signer, kind, {} if name == which else predicate)

    assert never_admitted(pieces, gate)


def test_newer_failed_check_supersedes_older_passed_check(pieces, make):
    """The signed time decides, because anybody can write the annotation of a referrer."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece, created="2030-01-01T00:00:00+00:00")
    failed = make.check(Check.TESTS, failed=("it broke",), at=make.noon + timedelta(seconds=1)).predicate()
    pieces.attach(OFFERED, DEV, TEST_RESULT, failed, created="2000-01-01T00:00:00+00:00")

    assert never_admitted(pieces, Gate.INTAKE) == ["tests.failed"]


def test_newer_passed_check_supersedes_older_failed_check(pieces, make):
    """A later attempt may succeed."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece, created="2000-01-01T00:00:00+00:00")
    failed = make.check(Check.TESTS, failed=("it broke",), at=make.noon - timedelta(seconds=1)).predicate()
    pieces.attach(OFFERED, DEV, TEST_RESULT, failed, created="2030-01-01T00:00:00+00:00")

    assert isinstance(pieces.judged(Gate.INTAKE), Admitted)


@pytest.mark.parametrize("gate", Gate)
def test_gate_uses_newest_scan_report_by_signed_time(pieces, make, gate):
    """The annotation of the referrer does not decide which report is the newest."""
    for piece in pieces.at(gate).values():
        pieces.attach(where(gate), *piece, created="2030-01-01T00:00:00+00:00")
    signer = DEV if gate is Gate.INTAKE else CURATION
    worse = make.report(make.finding("critical"), at=make.noon + timedelta(seconds=1)).predicate()
    pieces.attach(where(gate), signer, VULNERABILITIES, worse, created="2000-01-01T00:00:00+00:00")

    (code,) = never_admitted(pieces, gate)
    assert code.endswith(".critical")


def test_intake_gate_uses_declaration_of_newest_build(pieces, make):
    """An older, more lenient declaration must not replace a stricter one."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece)
    medium = make.report(make.finding("medium")).predicate()
    pieces.attach(OFFERED, DEV, VULNERABILITIES, medium)
    stricter = make.provenance(limits={"medium": 0}, built={"finished": make.noon + timedelta(seconds=1)})
    pieces.attach(OFFERED, DEV, PROVENANCE, stricter, created="2000-01-01T00:00:00+00:00")

    facts = read_intake_facts(OFFERED, pieces.world.store(CURATION), (), None)

    assert facts.declaration is not None and facts.declaration.limits.medium == 0


@pytest.mark.parametrize("place", [CURATED, ELSEWHERE], ids=["beside the image", "in curation's own repository"])
@pytest.mark.parametrize("gate", [Gate.INTAKE, Gate.RELEASE])
def test_later_refusal_of_gate_supersedes_its_earlier_admission(pieces, make, gate, place):
    """The rule holds in each repository of curation, whatever the annotation says."""
    for piece in pieces.curated.values():
        pieces.attach(CURATED, *piece, created="2030-01-01T00:00:00+00:00")
    no = pieces.verdict(gate, CURATED, yes=False, at=make.noon + timedelta(microseconds=1))
    pieces.attach(place, CURATION, SUMMARY, no, created="2000-01-01T00:00:00+00:00")

    assert never_admitted(pieces, Gate.DEPLOY) == [f"verdict.{gate}.refused"]


def test_later_admission_of_gate_supersedes_its_earlier_refusal(pieces, make):
    """An image whose problem was corrected may run."""
    for piece in pieces.curated.values():
        pieces.attach(CURATED, *piece)
    no = pieces.verdict(Gate.RELEASE, CURATED, yes=False, at=make.noon - timedelta(days=1))
    pieces.attach(CURATED, CURATION, SUMMARY, no, created="2030-01-01T00:00:00+00:00")

    assert isinstance(pieces.judged(Gate.DEPLOY), Admitted)


def test_deploy_gate_ignores_refusal_signed_by_another_tier(pieces, make):
    """Development can neither stop nor release what curation judges."""
    for piece in pieces.curated.values():
        pieces.attach(CURATED, *piece)
    no = pieces.verdict(Gate.RELEASE, CURATED, yes=False, at=make.noon + timedelta(days=1))
    pieces.attach(CURATED, DEV, SUMMARY, no)

    assert isinstance(pieces.judged(Gate.DEPLOY), Admitted)


def test_intake_facts_contain_what_provenance_records(pieces, make):
    """The facts include uncurated bases, uncommitted changes and the source revision."""
    predicate = make.provenance(built={"uncurated": ("docker.io/python",), "source": make.source(dirty=True)})
    digest = pieces.attach(OFFERED, DEV, PROVENANCE, predicate)

    facts = read_intake_facts(OFFERED, pieces.world.store(CURATION), (), None)

    assert present(facts.provenance).uncurated == ("docker.io/python",)
    assert facts.source == make.source(dirty=True)
    assert [each.digest for each in facts.evidence] == [digest]


def test_intake_facts_have_no_source_without_provenance(world):
    """The source is never guessed."""
    facts = read_intake_facts(OFFERED, world.store(CURATION), (), None)

    assert (facts.provenance, facts.declaration, facts.source) == (None, None, None)


def test_deploy_facts_take_source_and_environments_from_provenance(pieces, make):
    """Without provenance the source is unknown and no environment is declared."""
    store = pieces.world.store(EXECUTION)
    unknown = read_deploy_facts(CURATED, requirements(), store, bases=(), minimum_classification=None)
    pieces.attach(CURATED, DEV, PROVENANCE, make.provenance(environments=["staging", "production"]))

    facts = read_deploy_facts(CURATED, requirements(), store, bases=(), minimum_classification=None)

    assert isinstance(facts.declaration, Service)
    assert (facts.source, facts.declaration.environments) == (make.source(), ("staging", "production"))
    assert (unknown.source, unknown.declaration) == (None, None)


def test_deploy_facts_tell_whether_curation_signed_the_image(pieces, make):
    """A signature by another tier does not count."""
    store = pieces.world.store(EXECUTION)

    def signed():
        return read_deploy_facts(CURATED, requirements(), store, bases=(), minimum_classification=None).signed

    assert not signed()
    pieces.attach(CURATED, DEV, SIGNATURE, {})
    assert not signed()
    pieces.attach(CURATED, CURATION, SIGNATURE, {})
    assert signed()


@pytest.mark.parametrize("gate", [Gate.RELEASE, Gate.DEPLOY])
def test_facts_contain_last_encryption_record_of_curation(pieces, make, gate):
    """A record that development signed about curation's repository does not count."""
    signer, kind, record = pieces.scanned["encryption"]
    later = {**record, "key": f"{record['key']}2", "verified": (make.noon + timedelta(seconds=1)).isoformat()}
    pieces.attach(CURATED, DEV, kind, record)
    assert pieces.facts(gate).encryption is None

    pieces.attach(CURATED, signer, kind, later)
    pieces.attach(CURATED, signer, kind, record)

    assert pieces.facts(gate).encryption.key == later["key"]


def unset(predicate, *path):
    changed = json.loads(json.dumps(predicate))
    target = changed
    for key in path[:-1]:
        target = target[key]
    del target[path[-1]]
    return changed


@pytest.mark.parametrize(
    "path",
    [
        ("runDetails",),
        ("runDetails", "metadata"),
        ("runDetails", "metadata", "finishedOn"),
        ("buildDefinition",),
        ("buildDefinition", "externalParameters"),
        ("buildDefinition", "externalParameters", "declaration"),
        ("buildDefinition", "externalParameters", "declaration", "kind"),
        ("buildDefinition", "externalParameters", "source"),
    ],
    ids=".".join,
)
def test_provenance_with_missing_field_is_invalid_evidence(pieces, path):
    """An incomplete statement counts neither as present nor as missing."""
    pieces.attach(OFFERED, DEV, PROVENANCE, unset(pieces.development["provenance"][2], *path))

    with pytest.raises(EvidenceInvalid):
        read_intake_facts(OFFERED, pieces.world.store(CURATION), (), None)


@pytest.mark.parametrize(
    "value", [None, 7, "x", [], {"declaration": [], "source": []}, {"declaration": {"kind": "service"}, "source": 1}]
)
def test_provenance_with_wrong_type_is_invalid_evidence(pieces, value):
    """A wrong type raises EvidenceInvalid and no other error."""
    predicate = json.loads(json.dumps(pieces.development["provenance"][2]))
    predicate["buildDefinition"]["externalParameters"] = value
    pieces.attach(OFFERED, DEV, PROVENANCE, predicate)

    with pytest.raises(EvidenceInvalid):
        read_intake_facts(OFFERED, pieces.world.store(CURATION), (), None)


@pytest.mark.parametrize("kind", [TEST_RESULT, VULNERABILITIES])
@pytest.mark.parametrize("value", [None, 7, "x", [], {}, {"check": "tests"}], ids=str)
def test_check_or_report_with_wrong_type_is_invalid_evidence(pieces, kind, value):
    """A result that cannot be read may be a failure."""
    pieces.attach(OFFERED, DEV, kind, {"cscm": value})

    with pytest.raises(EvidenceInvalid):
        read_intake_facts(OFFERED, pieces.world.store(CURATION), (), None)


@pytest.mark.parametrize("kind", ["check", "report"])
def test_check_or_report_with_time_without_zone_is_invalid_evidence(pieces, make, kind):
    """Such a time cannot be compared with another one."""
    zoneless = make.noon.replace(tzinfo=None).isoformat()
    good, bad = (make.check(Check.TESTS).predicate(), make.check(Check.TESTS).predicate())
    bad["cscm"]["interval"] = {"started": zoneless, "finished": zoneless}
    statement = TEST_RESULT
    if kind == "report":
        good, bad, statement = make.report().predicate(), make.report().predicate(), VULNERABILITIES
        bad["cscm"]["scanned"] = zoneless
    pieces.attach(OFFERED, DEV, statement, good)
    pieces.attach(OFFERED, DEV, statement, bad)

    with pytest.raises(EvidenceInvalid):
        read_intake_facts(OFFERED, pieces.world.store(CURATION), (), None)


def _built_on_base(pieces):
    """Attach the evidence for the release gate, of an image that begins with BASE; its provenance names no base."""
    for piece in pieces.scanned.values():
        pieces.attach(CURATED, *piece)
    pieces.bases = (BASE,)


@pytest.mark.parametrize(
    ("below", "verdict"),
    [(("openssl",), []), (("openssl", "libc6"), ["sbom.incomplete"]), (("openssl@2",), ["sbom.altered"])],
)
def test_release_gate_refuses_image_that_lacks_packages_of_its_base(pieces, below, verdict):
    """A Dockerfile that removes the records of the package manager hides packages from every scan."""
    _built_on_base(pieces)
    pieces.release(BASE, *below)

    judged = pieces.judged(Gate.RELEASE)

    assert [reason.code for reason in getattr(judged, "reasons", ())] == verdict


def test_release_gate_ignores_base_whose_layers_are_not_in_the_image(pieces, monkeypatch):
    """A build stage need not be part of the result."""
    _built_on_base(pieces)
    pieces.release(BASE, "gcc")
    monkeypatch.setitem(LAYERS, BASE, ("sha256:" + "5" * 64,))

    assert isinstance(pieces.judged(Gate.RELEASE), Admitted)


def test_release_gate_raises_for_base_without_signed_sbom(pieces):
    """An image that cannot be judged is not admitted."""
    _built_on_base(pieces)
    pieces.attach(BASE, CURATION, SIGNATURE, {})

    assert never_admitted(pieces, Gate.RELEASE) == "evidence.invalid"


def test_release_gate_ignores_and_notes_unsigned_base(pieces):
    """Otherwise everyone with push access to the base repositories could stop every image."""
    _built_on_base(pieces)
    pieces.attach(BASE, DEV, SIGNATURE, {})

    verdict = pieces.judged(Gate.RELEASE)

    assert isinstance(verdict, Admitted)
    assert [note for note in verdict.notes if f"begins like curated/base/python@{BASE.short}" in note]


@pytest.mark.parametrize("signed", [True, False])
def test_release_gate_raises_for_unreadable_manifest_of_signed_base(pieces, signed):
    """An unsigned manifest that cannot be read is skipped, and the bases after it are still compared."""
    _built_on_base(pieces)
    pieces.release(BASE, "what the image does not have")
    strange = ImageRef(repository="curated/base/strange", digest="sha256:" + "9" * 64)
    if signed:
        pieces.attach(strange, CURATION, SIGNATURE, {})

    def damaged(ref):
        if ref == strange:
            raise ImageDamaged(f"{ref} has no layers\nlook")
        return layers(ref)

    store = pieces.world.store(EXECUTION)
    with pytest.raises(ImageDamaged) if signed else nullcontext():
        found = read_release_facts(CURATED, store, damaged, (strange, BASE), None)
        verdict = evaluate(found, RELEASE, NOON)
        assert isinstance(verdict, Refused)
        assert [each.code for each in verdict.reasons] == ["sbom.incomplete"], "the bases after it are looked at"


@pytest.mark.parametrize("signed", [True, False])
def test_missing_base_raises_only_if_curation_signed_it(pieces, signed):
    """It is unknown which images begin with a signed base that was removed; an unsigned one does not matter."""
    _built_on_base(pieces)
    if signed:
        pieces.release(BASE, "openssl")

    def gone(ref):
        if ref == BASE:
            raise ImageNotFound(f"{ref} is not there\nlook")
        return layers(ref)

    with pytest.raises(ImageNotFound) if signed else nullcontext():
        assert find_bases_in_layers(CURATED, (BASE,), gone, pieces.world.store(CURATION)) == ([], ())


def test_release_gate_ignores_base_without_layers(pieces, monkeypatch):
    """Every image would begin with such a base."""
    _built_on_base(pieces)
    pieces.release(BASE, "what the image does not have")
    monkeypatch.setitem(LAYERS, BASE, ())

    assert isinstance(pieces.judged(Gate.RELEASE), Admitted)


def test_release_gate_does_not_compare_base_with_itself(pieces, monkeypatch):
    """A base that is curated again is among the bases, perhaps still without an SBOM."""
    _built_on_base(pieces)
    itself = CURATED.with_repository("curated/base/python")
    pieces.bases = (itself,)
    monkeypatch.setitem(LAYERS, itself, LAYERS[CURATED])

    assert isinstance(pieces.judged(Gate.RELEASE), Admitted)


def _built_with(pieces, *materials):
    """Attach the evidence for the release gate, of an image in whose build these materials took part."""
    _built_on_base(pieces)
    provenance = pieces.make.provenance(built={"materials": materials, "finished": pieces.make.noon + timedelta(1)})
    pieces.attach(CURATED, DEV, PROVENANCE, provenance)


@pytest.mark.parametrize(
    ("material", "layers", "listed", "noted"),
    [
        ({}, "5", ("gcc", "make"), True),
        ({}, "5", ("openssl", "zlib1g"), False),
        ({}, "1", ("openssl", "zlib1g"), False),
        ({"curated": False}, "5", ("gcc", "make"), True),
        ({"digest": "sha256:" + "6" * 64}, "5", ("openssl", "zlib1g"), True),
    ],
    ids=str,
)
def test_release_gate_notes_base_that_was_only_copied_from(pieces, monkeypatch, material, layers, listed, noted):
    """Its packages are judged if the SBOM lists them; a base that cannot be found is noted too."""
    good = {"name": "curated/base/python", "digest": BASE.digest, "curated": True}
    _built_with(pieces, Material(**{**good, **material}))
    pieces.release(BASE, *listed)
    monkeypatch.setitem(LAYERS, BASE, ("sha256:" + layers * 64,))

    notes = pieces.judged(Gate.RELEASE).notes

    assert [note.startswith("built with curated/base/python but not on it") for note in notes] == [True] * noted


@pytest.mark.parametrize(
    ("copied", "others", "code"),
    [
        (("openssl", "gcc"), None, "sbom.incomplete"),
        (("openssl@2",), None, "sbom.altered"),
        (("openssl", "gcc"), ("openssl",), None),
        (("openssl", "gcc"), ("zlib1g",), "sbom.incomplete"),
    ],
)
def test_release_gate_judges_a_changed_copy_like_the_base_itself(pieces, monkeypatch, copied, others, code):
    """An image from scratch with packages of a base has its file system; another base may explain them."""
    other = ImageRef(repository="curated/base/other", digest="sha256:" + "8" * 64)
    used = {BASE: copied, **({other: others} if others else {})}
    _built_with(pieces, *(Material(name=each.repository, digest=each.digest, curated=True) for each in used))
    pieces.bases = tuple(used)
    for base, packages in used.items():
        pieces.release(base, *packages)
        monkeypatch.setitem(LAYERS, base, ("sha256:" + "5" * 64,))

    judged = pieces.judged(Gate.RELEASE)

    assert [reason.code for reason in getattr(judged, "reasons", ())] == [code] * bool(code)
    assert any(note.startswith("built with curated/base/python but not on it") for note in judged.notes) == (not code)


def test_single_packages_of_another_base_are_no_copy_of_it(pieces, monkeypatch):
    """The image begins with a base whose packages it has, and has one of another base too."""
    other = ImageRef(repository="curated/base/other", digest="sha256:" + "8" * 64)
    _built_with(pieces, Material(name=other.repository, digest=other.digest, curated=True))
    pieces.bases = (BASE, other)
    pieces.release(BASE, "openssl")
    pieces.release(other, "zlib1g", "gcc")
    monkeypatch.setitem(LAYERS, other, ("sha256:" + "6" * 64,))

    judged = pieces.judged(Gate.RELEASE)

    assert isinstance(judged, Admitted)
    assert any(note.startswith("built with curated/base/other but not on it") for note in judged.notes)


def test_base_in_the_layers_does_not_count_as_copied_from(pieces):
    """The rule also holds if the image lacks packages of the base, for which it is refused."""
    _built_with(pieces, Material(name="curated/base/python", digest=BASE.digest, curated=True))
    pieces.release(BASE, "openssl", "gcc")

    facts = read_release_facts(CURATED, pieces.world.store(CURATION), layers, pieces.bases, None)

    assert list(facts.base_packages) == [str(BASE)] and facts.copied_bases == ()
    assert facts.base_packages[str(BASE)] == {("deb", "openssl", "pkg:deb/openssl"), ("deb", "gcc", "pkg:deb/gcc")}


@pytest.mark.parametrize("gate", ["release", "deploy"])
def test_gate_lists_what_is_attached_to_each_image_once(pieces, gate, monkeypatch):
    """So all facts of one decision about a base rest on the same list."""
    _built_with(pieces, Material(name="curated/base/python", digest=BASE.digest, curated=True))
    pieces.release(BASE, "openssl")
    listed, referrers = Counter[ImageRef](), pieces.world.registry.referrers

    def count(subject):
        listed[subject] += 1
        return referrers(subject)

    monkeypatch.setattr(pieces.world.registry, "referrers", count)
    _read(pieces, gate)

    assert listed[BASE] == 1 and set(listed.values()) == {1}


def _read(pieces, gate):
    store = pieces.world.store(CURATION)
    if gate == "release":
        return read_release_facts(CURATED, store, layers, pieces.bases, None)
    return read_deploy_facts(CURATED, requirements(), store, bases=pieces.bases, minimum_classification=None)


@pytest.mark.parametrize("gate", ["release", "deploy"])
def test_gates_read_when_all_bases_below_were_built(pieces, gate):
    """A base may be built on another one; one without provenance has no time."""
    _built_with(pieces, Material(name="curated/base/python", digest=BASE.digest, curated=True))
    pieces.release(BASE, "openssl")
    below = ImageRef(repository="curated/base/root", digest="sha256:" + "7" * 64)
    built = {"materials": (Material(name="curated/base/root", digest=below.digest, curated=True),)}
    pieces.attach(BASE, DEV, PROVENANCE, pieces.make.provenance(built=built))

    assert _read(pieces, gate).bases == {str(BASE): pieces.make.built().finished, str(below): None}
    assert find_all_bases([BASE], pieces.bases, pieces.world.store(CURATION)) == (BASE, below)


def test_release_gate_raises_for_provenance_with_unnamed_material(pieces):
    """A material that is marked as curated needs a name."""
    _built_with(pieces)
    provenance = pieces.make.provenance(built={"finished": pieces.make.noon + timedelta(2)})
    provenance["buildDefinition"]["resolvedDependencies"] = [{"annotations": {"curated": True}}]
    pieces.attach(CURATED, DEV, PROVENANCE, provenance)
    pieces.bases = ()

    assert never_admitted(pieces, Gate.RELEASE) == "evidence.invalid"


def test_release_gate_refuses_image_with_copied_base_and_no_sbom(pieces, monkeypatch):
    """The missing SBOM is a reason to refuse, not an error of the gate."""
    good = {"name": "curated/base/python", "digest": BASE.digest, "curated": True}
    del pieces.scanned["inventory"]
    _built_with(pieces, Material(**good))
    pieces.release(BASE, "openssl")
    monkeypatch.setitem(LAYERS, BASE, ("sha256:" + "5" * 64,))

    assert "sbom.missing" in [reason.code for reason in pieces.judged(Gate.RELEASE).reasons]


@pytest.mark.parametrize("required", [True, False])
def test_deploy_gate_reads_approvals_even_if_none_is_required(pieces, make, required):
    """A denial counts in every environment; only statements in the repository of execution are read."""
    fields = {"environment": "staging", "digest": CURATED.digest, "decision": "approved", "by": "Ada", "reason": "so",
              "decided": make.noon.isoformat()}  # fmt: skip
    for place in ("curated/hello", "evidence/curation/hello", "evidence/execution/hello"):
        pieces.attach(CURATED.with_repository(place), EXECUTION, APPROVAL, {**fields, "reason": place})
    store = pieces.world.store(EXECUTION)

    facts = read_deploy_facts(CURATED, requirements(approval=required), store, bases=(), minimum_classification=None)

    read = [each.predicate["reason"] for each in facts.evidence if each.predicate_type == APPROVAL]
    assert read == ["evidence/execution/hello"] and facts.environment.approval is required
    asked = read_execution_statements(CURATED, store, APPROVAL)
    assert [each.predicate["reason"] for each in asked] == ["evidence/execution/hello"]


def test_deploy_gate_reads_signed_approvals_of_its_environment(pieces, make):
    """What execution attached for another environment is no approval here."""
    fields = {"digest": CURATED.digest, "decision": "approved", "by": "ann", "reason": "so", "signature": "s",
              "decided": make.noon.isoformat()}  # fmt: skip
    for environment in ("staging", "production"):
        place = CURATED.with_repository("evidence/execution/hello")
        pieces.attach(place, EXECUTION, APPROVAL, {**fields, "environment": environment})

    facts = read_deploy_facts(
        CURATED, requirements("production"), pieces.world.store(EXECUTION), bases=(), minimum_classification=None
    )

    assert [each.environment for each in facts.signed_approvals] == ["production"]


SOAKED = {
    "environment": "staging",
    "digest": CURATED.digest,
    "container": "c",
    "observations": 2,
    "required_seconds": 60,
}


@pytest.mark.parametrize(
    ("changes", "repository", "signer", "found"),
    [
        ({}, "evidence/execution/hello", EXECUTION, 7200),
        ({}, "evidence/execution/hello", CURATION, 60),
        ({}, "curated/hello", EXECUTION, 60),
        ({"environment": "production"}, "evidence/execution/hello", EXECUTION, 60),
        ({"digest": BASE.digest}, "evidence/execution/hello", EXECUTION, 60),
    ],
)
def test_deploy_gate_reads_longest_soak_in_required_environment(pieces, make, changes, repository, signer, found):
    """The soak must be of this digest in that environment, signed by execution; any container counts."""

    def attach(seconds, where, by, **changes):
        times = {"since": make.noon.isoformat(), "until": (make.noon + timedelta(seconds=seconds)).isoformat()}
        pieces.attach(CURATED.with_repository(where), by, SOAK, {**SOAKED, **times, **changes})

    attach(60, "evidence/execution/hello", EXECUTION, container="another")
    attach(7200, repository, signer, **changes)
    attach(30, "evidence/execution/hello", EXECUTION)
    place, store = requirements("production", soak=RequiredSoak("staging", 3600)), pieces.world.store(EXECUTION)

    facts = read_deploy_facts(CURATED, place, store, bases=(), minimum_classification=None)

    assert present(facts.soak).seconds == found
    assert facts.soak in [Soak.model_validate(each.predicate) for each in facts.evidence]


ZIP = Archive(path="/srv/a.zip", format="zip", sha256="a" * 64)
DEBIAN = Identity(id="debian", version="12")


def _examined(pieces, ref, **found):
    """Return curation's SBOM statement of an image, with this examination of content that no scanner judges."""
    examination = Examination(**{"distribution": DEBIAN, **found})
    distro = {"id": DEBIAN.id, "versionID": DEBIAN.version}
    reference = pieces.make.sbom(pieces.world.registry, ref, "openssl", "zlib1g", distro=distro)
    return CURATION, SBOM, {**reference, "examination": examination.model_dump(mode="json")}


@pytest.mark.parametrize("gate", [Gate.RELEASE, Gate.DEPLOY])
def test_gates_refuse_image_with_archive_that_scanner_cannot_read(pieces, gate):
    """The examination by curation decides, not the evidence of development."""
    for name, piece in pieces.at(gate).items():
        pieces.attach(where(gate), *(_examined(pieces, CURATED, archives=(ZIP,)) if name == "inventory" else piece))

    assert never_admitted(pieces, gate) == ["sbom.archives"]


@pytest.mark.parametrize("gate", [Gate.RELEASE, Gate.DEPLOY])
def test_gates_refuse_image_whose_sbom_names_another_distribution(pieces, gate):
    """The report of the scan is about the distribution that the signed SBOM names."""
    other = DEBIAN.model_copy(update={"version": "11"})
    for name, piece in pieces.at(gate).items():
        pieces.attach(where(gate), *(_examined(pieces, CURATED, distribution=other) if name == "inventory" else piece))

    assert never_admitted(pieces, gate) == ["sbom.distribution-differs"]


@pytest.mark.parametrize("gate", [Gate.RELEASE, Gate.DEPLOY])
@pytest.mark.parametrize("examination", [None, {"version": "0"}])
def test_gates_refuse_image_without_current_examination(pieces, gate, examination):
    """An SBOM of an earlier version says nothing about unscanned content."""
    for name, piece in pieces.at(gate).items():
        signer, kind, predicate = piece
        if name == "inventory":
            predicate = {**predicate, "examination": examination}
        pieces.attach(where(gate), signer, kind, predicate)

    assert never_admitted(pieces, gate) == ["sbom.not-examined"]


@pytest.mark.parametrize("gate", [Gate.RELEASE, Gate.DEPLOY])
def test_archive_that_is_in_a_base_too_is_accepted(pieces, gate):
    """The provenance names the base by digest, so that the deploy gate needs no layers."""
    pieces.bases = (BASE,)
    _built_with(pieces, Material(name="curated/base/python", digest=BASE.digest, curated=True))
    pieces.attach(BASE, CURATION, SIGNATURE, {})
    pieces.attach(BASE, *_examined(pieces, BASE, archives=(ZIP,)))
    pieces.attach(CURATED, *_examined(pieces, CURATED, archives=(ZIP,)), created="2026-11-24T12:00:01+00:00")

    facts = pieces.facts(gate)

    assert [each.archives for each in facts.examined_bases] == [(ZIP,)]
    results = {
        each.rule: each.result for each in judge(make_fact_values(facts, People()), POLICIES.select_gate(gate), NOON)
    }
    assert results["sbom.archives"] is RuleOutcome.PASSED


def test_release_facts_contain_distribution_of_base_in_the_layers(pieces):
    """The gate compares the distribution of the image with that of the base."""
    pieces.bases = (BASE,)
    _built_with(pieces)
    pieces.attach(BASE, CURATION, SIGNATURE, {})
    pieces.attach(BASE, *_examined(pieces, BASE, distribution=Identity(id="debian", version="11")))

    facts = pieces.facts(Gate.RELEASE)

    assert facts.base_distributions == {str(BASE): Identity(id="debian", version="11")}


def test_release_facts_ignore_base_without_examination(pieces):
    """Its packages are still compared, and the next curation of the base examines it."""
    pieces.bases = (BASE,)
    _built_with(pieces)
    pieces.attach(BASE, CURATION, SIGNATURE, {})
    reference = {**pieces.make.sbom(pieces.world.registry, BASE, "openssl"), "examination": None}
    pieces.attach(BASE, CURATION, SBOM, reference)

    facts = pieces.facts(Gate.RELEASE)

    assert (facts.base_distributions, facts.examined_bases) == ({}, ())


@pytest.mark.parametrize("gate", Gate)
def test_attached_vex_documents_are_facts_of_gates_of_curated_images(world, make, gate):
    """Whether an issuer signed them is decided later. The intake gate judges no finding of an image."""
    judged = Judged(world, make)
    for piece in judged.at(gate).values():
        judged.attach(where(gate), *piece)
    bundle = make.signer().sign(make_image_statement(where(gate), OPENVEX, openvex()))
    digest = world.registry.attach(where(gate), BUNDLE, bundle, {PREDICATE: OPENVEX})

    facts = judged.facts(gate)

    counted = [(digest, openvex())] if gate is not Gate.INTAKE else []
    assert [(each.digest, each.predicate) for each in facts.attached] == counted
    assert len(facts.ignored_referrers) == (1 if gate is Gate.INTAKE else 0)
