"""Dossiers: what counts is the newest signed word of the right tier, and broken evidence never admits."""

import base64
import json
from contextlib import nullcontext
from datetime import timedelta

import pytest

from supply_chain.errors import EvidenceInvalid, ImageDamaged, ImageNotFound, SupplyChainError
from supply_chain.evidence.checks import Check, required
from supply_chain.evidence.examination import Archive, Examination, Identity
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
    about,
)
from supply_chain.evidence.store import PREDICATE
from supply_chain.model.image import ImageRef, Material, Source
from supply_chain.model.tier import Gate
from supply_chain.policy import dossier as dossiers
from supply_chain.policy import rules
from supply_chain.policy.gate import Place, SoakAsked, judge
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.rules import POLICIES
from tests.support.pieces import (
    CURATED,
    CURATION,
    DEV,
    ELSEWHERE,
    EXECUTION,
    OFFERED,
    Pieces,
    scanned_image,
    where,
)

BASE = ImageRef(repository="curated/base/python", digest="sha256:" + "7" * 64)
LAYERS = {CURATED: ("sha256:" + "1" * 64, "sha256:" + "2" * 64), BASE: ("sha256:" + "1" * 64,)}


def layers(ref):
    return LAYERS[ref]


class Judged(Pieces):
    """The pieces, and the gate that judges them."""

    bases = ()

    def dossier(self, gate):
        store = self.world.store(EXECUTION)
        if gate is Gate.INTAKE:
            return dossiers.candidate(OFFERED, store, (), None)
        if gate is Gate.RELEASE:
            return dossiers.scanned(scanned_image(self.make), store, layers, self.bases)
        return dossiers.curated(CURATED, "tag", Place("staging"), store, self.make.noon, bases=self.bases)

    def vend(self, base, *packages):
        """A base that curation signed, with an SBOM of these packages."""
        self.attach(base, CURATION, SIGNATURE, {})
        self.attach(base, CURATION, SBOM, self.make.sbom(self.world.registry, base, *packages))

    def judged(self, gate):
        return judge(self.dossier(gate), POLICIES[gate])


@pytest.fixture
def pieces(world, make):
    return Judged(world, make)


def names(gate):
    """The pieces a boundary needs; the list is checked against the builder's below."""
    development = ["provenance", "report on the source", *map(str, required("service"))]
    scanned = ["provenance", "encryption", "scan", "inventory"]
    return {
        Gate.INTAKE: development,
        Gate.RELEASE: scanned,
        Gate.DEPLOY: [*scanned, "verdict of the intake gate", "verdict of curation", "signature"],
    }[gate]


EVERY = [(gate, piece) for gate in Gate for piece in names(gate)]


def never_admitted(pieces, gate):
    """The gate refuses, or says that it cannot judge; it does not admit."""
    try:
        verdict = pieces.judged(gate)
    except SupplyChainError as error:
        return error.code
    assert isinstance(verdict, Refused)
    return [reason.code for reason in verdict.reasons]


@pytest.mark.parametrize("gate", Gate)
def test_good_evidence_is_admitted(pieces, gate):
    """Without this the tests below would prove nothing; and the list of pieces is whole."""
    assert list(pieces.at(gate)) == names(gate)
    for piece in pieces.at(gate).values():
        pieces.attach(where(gate), *piece)

    assert isinstance(pieces.judged(gate), Admitted)


@pytest.mark.parametrize("gate", Gate)
def test_junk_that_anybody_attaches_changes_no_verdict_and_is_told(pieces, gate, make):
    """Whoever may push could otherwise stop every image."""
    for piece in pieces.at(gate).values():
        pieces.attach(where(gate), *piece)
    for n, content in enumerate((b"rubbish", make.signer().sign(about(where(gate), SUMMARY, {})))):
        pieces.world.registry.attach(where(gate), BUNDLE, content, {PREDICATE: SUMMARY, "n": str(n)})
    elsewhere = CURATED.model_copy(update={"digest": make.other})
    bundle = pieces.world.signers[DEV].sign(about(elsewhere, TEST_RESULT, {}))
    pieces.world.registry.attach(where(gate), BUNDLE, bundle, {PREDICATE: TEST_RESULT})

    verdict = pieces.judged(gate)

    assert isinstance(verdict, Admitted)
    assert [note for note in verdict.notes if note.startswith("left out 3 ") and "1 × about another image" in note]


@pytest.mark.parametrize(("gate", "gone"), EVERY)
def test_without_any_one_piece_the_image_is_refused(pieces, gate, gone):
    """Each is needed, and the refusal says so."""
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
    payload = about(place, kind, predicate).bytes()
    bundle = pieces.make.signer().sign_bytes(payload, hint=pieces.world.signers[signer].hint)
    pieces.world.registry.attach(place, BUNDLE, bundle, {PREDICATE: kind})


def with_another_payload(pieces, place, piece):
    signer, kind, predicate = piece
    digest = pieces.attach(place, signer, kind, {"other": "words"})
    bundle = json.loads(pieces.world.registry.held[place.repository][digest][2])
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(about(place, kind, predicate).bytes()).decode()
    pieces.world.registry.change(place.repository, digest, json.dumps(bundle).encode())


def about_another_digest(pieces, place, piece):
    signer, kind, predicate = piece
    other = place.model_copy(update={"digest": "sha256:" + "b" * 64})
    bundle = pieces.world.signers[signer].sign(about(other, kind, predicate))
    pieces.world.registry.attach(place, BUNDLE, bundle, {PREDICATE: kind})


def about_another_application(pieces, place, piece):
    signer, kind, predicate = piece
    bundle = pieces.world.signers[signer].sign(about(place.moved_to("dev/other"), kind, predicate))
    pieces.world.registry.attach(place, BUNDLE, bundle, {PREDICATE: kind})


def beside_another_digest(pieces, place, piece):
    pieces.attach(place.model_copy(update={"digest": "sha256:" + "b" * 64}), *piece)


def cut_short(pieces, place, piece):
    digest = pieces.attach(place, *piece)
    content = pieces.world.registry.held[place.repository][digest][2]
    pieces.world.registry.change(place.repository, digest, content[:-20])


def of_another_type(pieces, place, piece):
    signer, _, predicate = piece
    pieces.attach(place, signer, "urn:cscm:something-else:v1", predicate)


BREAKS = [
    by_another_tier,
    by_a_stranger_with_the_tiers_hint,
    with_another_payload,
    about_another_digest,
    about_another_application,
    beside_another_digest,
    cut_short,
    of_another_type,
]


@pytest.mark.parametrize("broken", BREAKS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(("gate", "which"), EVERY)
def test_with_any_one_piece_broken_the_image_is_never_admitted(pieces, gate, which, broken):
    """Whoever broke it, and however."""
    for name, piece in pieces.at(gate).items():
        if name == which:
            broken(pieces, where(gate), piece)
        else:
            pieces.attach(where(gate), *piece)

    assert never_admitted(pieces, gate)


@pytest.mark.parametrize(("gate", "which"), [pair for pair in EVERY if pair[1] != "signature"])
def test_a_signed_statement_that_says_nothing_never_admits(pieces, gate, which):
    """The right key over an empty predicate is not a yes. (cosign's signature has an empty one.)"""
    for name, (signer, kind, predicate) in pieces.at(gate).items():
        pieces.attach(where(gate), signer, kind, {} if name == which else predicate)

    assert never_admitted(pieces, gate)


def test_a_newer_failing_check_outweighs_an_older_passing_one_by_signed_time(pieces, make):
    """The referrer's annotation is anybody's to write; the time in the statement is not."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece, created="2030-01-01T00:00:00+00:00")
    failed = make.check(Check.TESTS, failed=("it broke",), at=make.noon + timedelta(seconds=1)).predicate()
    pieces.attach(OFFERED, DEV, TEST_RESULT, failed, created="2000-01-01T00:00:00+00:00")

    assert never_admitted(pieces, Gate.INTAKE) == ["tests.failed"]


def test_an_older_failing_check_is_outweighed_by_a_newer_passing_one(pieces, make):
    """The next attempt may succeed."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece, created="2000-01-01T00:00:00+00:00")
    failed = make.check(Check.TESTS, failed=("it broke",), at=make.noon - timedelta(seconds=1)).predicate()
    pieces.attach(OFFERED, DEV, TEST_RESULT, failed, created="2030-01-01T00:00:00+00:00")

    assert isinstance(pieces.judged(Gate.INTAKE), Admitted)


@pytest.mark.parametrize("gate", Gate)
def test_the_report_that_was_made_last_counts(pieces, make, gate):
    """By its own signed time."""
    for piece in pieces.at(gate).values():
        pieces.attach(where(gate), *piece, created="2030-01-01T00:00:00+00:00")
    signer = DEV if gate is Gate.INTAKE else CURATION
    worse = make.report(make.finding("critical"), at=make.noon + timedelta(seconds=1)).predicate()
    pieces.attach(where(gate), signer, VULNERABILITIES, worse, created="2000-01-01T00:00:00+00:00")

    (code,) = never_admitted(pieces, gate)
    assert code.endswith(".critical")


def test_the_declaration_of_the_last_build_counts(pieces, make):
    """A stricter owner is not outvoted by an older declaration."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece)
    medium = make.report(make.finding("medium")).predicate()
    pieces.attach(OFFERED, DEV, VULNERABILITIES, medium)
    stricter = make.provenance(limits={"medium": 0}, built={"finished": make.noon + timedelta(seconds=1)})
    pieces.attach(OFFERED, DEV, PROVENANCE, stricter, created="2000-01-01T00:00:00+00:00")

    dossier = dossiers.candidate(OFFERED, pieces.world.store(CURATION), (), None)

    assert dossier.manifest is not None and dossier.manifest.limits.medium == 0


@pytest.mark.parametrize("place", [CURATED, ELSEWHERE], ids=["beside the image", "in curation's own repository"])
@pytest.mark.parametrize("gate", [Gate.INTAKE, Gate.RELEASE])
def test_a_later_no_of_a_gate_outweighs_its_earlier_yes(pieces, make, gate, place):
    """Wherever curation left it, and whatever the annotation says."""
    for piece in pieces.curated.values():
        pieces.attach(CURATED, *piece, created="2030-01-01T00:00:00+00:00")
    no = pieces.verdict(gate, CURATED, yes=False, at=make.noon + timedelta(microseconds=1))
    pieces.attach(place, CURATION, SUMMARY, no, created="2000-01-01T00:00:00+00:00")

    assert never_admitted(pieces, Gate.DEPLOY) == [f"verdict.{gate}.refused"]


def test_a_later_yes_of_a_gate_outweighs_its_earlier_no(pieces, make):
    """What was mended may run."""
    for piece in pieces.curated.values():
        pieces.attach(CURATED, *piece)
    no = pieces.verdict(Gate.RELEASE, CURATED, yes=False, at=make.noon - timedelta(days=1))
    pieces.attach(CURATED, CURATION, SUMMARY, no, created="2030-01-01T00:00:00+00:00")

    assert isinstance(pieces.judged(Gate.DEPLOY), Admitted)


def test_a_no_that_another_tier_signed_does_not_count(pieces, make):
    """Development cannot stop what curation vends, nor vend it."""
    for piece in pieces.curated.values():
        pieces.attach(CURATED, *piece)
    no = pieces.verdict(Gate.RELEASE, CURATED, yes=False, at=make.noon + timedelta(days=1))
    pieces.attach(CURATED, DEV, SUMMARY, no)

    assert isinstance(pieces.judged(Gate.DEPLOY), Admitted)


def test_what_the_build_recorded_is_in_the_dossier(pieces, make):
    """Bases that are not curated, uncommitted changes, the revision."""
    predicate = make.provenance(built={"uncurated": ("docker.io/python",), "source": make.source(dirty=True)})
    digest = pieces.attach(OFFERED, DEV, PROVENANCE, predicate)

    dossier = dossiers.candidate(OFFERED, pieces.world.store(CURATION), (), None)

    assert dossier.uncurated == ("docker.io/python",)
    assert dossier.image.source == dossier.source == make.source(dirty=True)
    assert dossier.image.evidence == (digest,)


def test_without_provenance_the_source_is_unknown(world):
    """And a guess is not made."""
    dossier = dossiers.candidate(OFFERED, world.store(CURATION), (), None)

    assert (dossier.manifest, dossier.source, dossier.uncurated) == (None, None, ())
    assert dossier.image.source == Source(path=".", repository="unknown", revision="none", dirty=True)


def test_what_boundary_2_admits_says_where_it_comes_from_and_may_run(pieces, make):
    """As its provenance does; without any, nothing is known and it may run nowhere."""
    store = pieces.world.store(EXECUTION)
    unknown = dossiers.curated(CURATED, "tag", Place("staging"), store, make.noon, bases=()).image
    pieces.attach(CURATED, DEV, PROVENANCE, make.provenance(environments=["staging", "production"]))

    image = dossiers.curated(CURATED, "tag", Place("staging"), store, make.noon, bases=()).image

    assert (image.ref, image.tag) == (CURATED, "tag")
    assert (image.source, image.environments) == (make.source(), ("staging", "production"))
    assert (unknown.source.revision, unknown.environments) == ("none", ())


def test_an_image_that_curation_signed_already_is_known_as_signed(pieces, make):
    """Curation can be run again without another signature."""
    store = pieces.world.store(CURATION)
    assert not dossiers.scanned(scanned_image(make), store, layers, ()).signed
    pieces.attach(CURATED, DEV, SIGNATURE, {})
    assert not dossiers.scanned(scanned_image(make), store, layers, ()).signed
    pieces.attach(CURATED, CURATION, SIGNATURE, {})
    assert dossiers.scanned(scanned_image(make), store, layers, ()).signed


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
def test_signed_provenance_with_a_part_missing_is_an_error(pieces, path):
    """The chain's own format, by another version: it is neither there nor missing."""
    pieces.attach(OFFERED, DEV, PROVENANCE, unset(pieces.development["provenance"][2], *path))

    with pytest.raises(EvidenceInvalid):
        dossiers.candidate(OFFERED, pieces.world.store(CURATION), (), None)


@pytest.mark.parametrize(
    "value", [None, 7, "x", [], {"declaration": [], "source": []}, {"declaration": {"kind": "service"}, "source": 1}]
)
def test_signed_provenance_of_another_shape_is_an_error(pieces, value):
    """Nothing of the wrong type comes out as something else than invalid evidence."""
    predicate = json.loads(json.dumps(pieces.development["provenance"][2]))
    predicate["buildDefinition"]["externalParameters"] = value
    pieces.attach(OFFERED, DEV, PROVENANCE, predicate)

    with pytest.raises(EvidenceInvalid):
        dossiers.candidate(OFFERED, pieces.world.store(CURATION), (), None)


@pytest.mark.parametrize("kind", [TEST_RESULT, VULNERABILITIES])
@pytest.mark.parametrize("value", [None, 7, "x", [], {}, {"check": "tests"}], ids=str)
def test_signed_results_of_another_shape_are_an_error(pieces, kind, value):
    """A result that cannot be read may have been a failure."""
    pieces.attach(OFFERED, DEV, kind, {"cscm": value})

    with pytest.raises(EvidenceInvalid):
        dossiers.candidate(OFFERED, pieces.world.store(CURATION), (), None)


@pytest.mark.parametrize("kind", ["check", "report"])
def test_a_result_whose_time_names_no_instant_is_an_error(pieces, make, kind):
    """It could be neither before nor after another."""
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
        dossiers.candidate(OFFERED, pieces.world.store(CURATION), (), None)


def _built_on_base(pieces):
    """Everything the gate of curation asks for, of an image that begins with BASE; it need not say so itself."""
    for piece in pieces.scanned.values():
        pieces.attach(CURATED, *piece)
    pieces.bases = (BASE,)


@pytest.mark.parametrize(
    ("below", "verdict"),
    [(("openssl",), []), (("openssl", "libc6"), ["sbom.incomplete"]), (("openssl@2",), ["sbom.altered"])],
)
def test_what_the_base_has_must_be_found_in_the_image(pieces, below, verdict):
    """A Dockerfile that removes the package manager's records hides packages from every scan."""
    _built_on_base(pieces)
    pieces.vend(BASE, *below)

    judged = pieces.judged(Gate.RELEASE)

    assert [reason.code for reason in getattr(judged, "reasons", ())] == verdict


def test_a_base_that_the_image_does_not_begin_with_says_nothing_of_it(pieces, monkeypatch):
    """A stage that only built something need not be found in the result."""
    _built_on_base(pieces)
    pieces.vend(BASE, "gcc")
    monkeypatch.setitem(LAYERS, BASE, ("sha256:" + "5" * 64,))

    assert isinstance(pieces.judged(Gate.RELEASE), Admitted)


def test_a_base_without_a_signed_inventory_cannot_be_compared(pieces):
    """What cannot be judged is not admitted."""
    _built_on_base(pieces)
    pieces.attach(BASE, CURATION, SIGNATURE, {})

    assert never_admitted(pieces, Gate.RELEASE) == "evidence.invalid"


def test_what_lies_among_the_bases_and_nobody_signed_is_no_base(pieces):
    """Whoever may push there would stop everybody; that the image begins like it is told."""
    _built_on_base(pieces)
    pieces.attach(BASE, DEV, SIGNATURE, {})

    verdict = pieces.judged(Gate.RELEASE)

    assert isinstance(verdict, Admitted)
    assert [note for note in verdict.notes if f"begins like curated/base/python@{BASE.short}" in note]


@pytest.mark.parametrize("signed", [True, False])
def test_a_manifest_among_the_bases_that_cannot_be_read_counts_where_it_is_signed(pieces, signed):
    """An index, or rubbish: of a base of ours nobody knows what begins with it, of others nobody asks."""
    _built_on_base(pieces)
    pieces.vend(BASE, "what the image does not have")
    strange = ImageRef(repository="curated/base/strange", digest="sha256:" + "9" * 64)
    if signed:
        pieces.attach(strange, CURATION, SIGNATURE, {})

    def damaged(ref):
        if ref == strange:
            raise ImageDamaged(f"{ref} has no layers\nlook")
        return layers(ref)

    store = pieces.world.store(EXECUTION)
    with pytest.raises(ImageDamaged) if signed else nullcontext():
        found = dossiers.scanned(scanned_image(pieces.make), store, damaged, (strange, BASE))
        verdict = judge(found, POLICIES[Gate.RELEASE])
        assert [each.code for each in verdict.reasons] == ["sbom.incomplete"], "the bases after it are looked at"


@pytest.mark.parametrize("signed", [True, False])
def test_a_base_that_is_gone_counts_where_it_is_signed(pieces, signed):
    """It was removed just now, or its manifest was: nobody knows what begins with it; of others nothing is told."""
    _built_on_base(pieces)
    if signed:
        pieces.vend(BASE, "openssl")

    def gone(ref):
        if ref == BASE:
            raise ImageNotFound(f"{ref} is not there\nlook")
        return layers(ref)

    with pytest.raises(ImageNotFound) if signed else nullcontext():
        assert dossiers.upon(CURATED, (BASE,), gone, pieces.world.store(CURATION)) == ([], ())


def test_a_base_of_no_layers_says_nothing(pieces, monkeypatch):
    """Every image would begin with it."""
    _built_on_base(pieces)
    pieces.vend(BASE, "what the image does not have")
    monkeypatch.setitem(LAYERS, BASE, ())

    assert isinstance(pieces.judged(Gate.RELEASE), Admitted)


def test_an_image_is_not_held_against_itself(pieces, monkeypatch):
    """A base that is curated again is among the bases, perhaps without a record of its packages yet."""
    _built_on_base(pieces)
    itself = CURATED.moved_to("curated/base/python")
    pieces.bases = (itself,)
    monkeypatch.setitem(LAYERS, itself, LAYERS[CURATED])

    assert isinstance(pieces.judged(Gate.RELEASE), Admitted)


def _built_with(pieces, *materials):
    """Everything the gate of curation asks for, of an image in whose build these took part."""
    _built_on_base(pieces)
    provenance = pieces.make.provenance(built={"materials": materials, "finished": pieces.make.noon + timedelta(1)})
    pieces.attach(CURATED, DEV, PROVENANCE, provenance)


@pytest.mark.parametrize(
    ("material", "layers", "listed", "noted"),
    [
        ({}, "5", ("openssl", "gcc"), True),
        ({}, "5", ("openssl", "zlib1g"), False),
        ({}, "1", ("openssl", "zlib1g"), False),
        ({"curated": False}, "5", ("openssl", "gcc"), True),
        ({"digest": "sha256:" + "6" * 64}, "5", ("openssl", "zlib1g"), True),
    ],
    ids=str,
)
def test_a_base_of_which_something_was_copied_is_told(pieces, monkeypatch, material, layers, listed, noted):
    """Its packages are judged where the SBOM lists them; one that nobody can find is told too."""
    good = {"name": "curated/base/python", "digest": BASE.digest, "curated": True}
    _built_with(pieces, Material(**{**good, **material}))
    pieces.vend(BASE, *listed)
    monkeypatch.setitem(LAYERS, BASE, ("sha256:" + layers * 64,))

    notes = pieces.judged(Gate.RELEASE).notes

    assert [note.startswith("built with curated/base/python but not upon it") for note in notes] == [True] * noted


def test_a_base_that_the_image_begins_with_is_not_told_as_one_it_copied_from(pieces):
    """Also where the image lacks some of its packages, for which it is refused."""
    _built_with(pieces, Material(name="curated/base/python", digest=BASE.digest, curated=True))
    pieces.vend(BASE, "openssl", "gcc")

    dossier = dossiers.scanned(scanned_image(pieces.make), pieces.world.store(CURATION), layers, pieces.bases)

    assert dossier.inherited and dossier.built_with == ()


def test_a_provenance_that_does_not_name_what_took_part_cannot_be_read(pieces):
    """What is curated among it is not guessed."""
    _built_with(pieces)
    provenance = pieces.make.provenance(built={"finished": pieces.make.noon + timedelta(2)})
    provenance["buildDefinition"]["resolvedDependencies"] = [{"annotations": {"curated": True}}]
    pieces.attach(CURATED, DEV, PROVENANCE, provenance)
    pieces.bases = ()

    assert never_admitted(pieces, Gate.RELEASE) == "evidence.invalid"


def test_without_an_inventory_what_was_copied_is_told_too(pieces, monkeypatch):
    """The gate refuses it for want of an SBOM, and does not fail over it."""
    good = {"name": "curated/base/python", "digest": BASE.digest, "curated": True}
    del pieces.scanned["inventory"]
    _built_with(pieces, Material(**good))
    pieces.vend(BASE, "openssl")
    monkeypatch.setitem(LAYERS, BASE, ("sha256:" + "5" * 64,))

    assert "sbom.missing" in [reason.code for reason in pieces.judged(Gate.RELEASE).reasons]


@pytest.mark.parametrize("required", [True, False])
def test_what_people_said_is_read_also_where_nobody_is_asked(pieces, make, required):
    """A no counts there too. As execution signed it in its own repository; nowhere else is it looked for."""
    said = {"environment": "staging", "digest": CURATED.digest, "decision": "approved", "who": "Ada", "why": "so",
            "decided": make.noon.isoformat()}  # fmt: skip
    for place in ("curated/hello", "evidence/curation/hello", "evidence/execution/hello"):
        pieces.attach(CURATED.moved_to(place), EXECUTION, APPROVAL, {**said, "why": place})
    store = pieces.world.store(EXECUTION)

    dossier = dossiers.curated(CURATED, "tag", Place("staging", required), store, make.noon, bases=())

    read = [each.predicate["why"] for each in dossier.evidence if each.predicate_type == APPROVAL]
    assert read == ["evidence/execution/hello"] and dossier.place.approval is required
    asked = dossiers.said_by_execution(CURATED, store, APPROVAL)
    assert [each.predicate["why"] for each in asked] == ["evidence/execution/hello"]


SOAKED = {"environment": "staging", "digest": CURATED.digest, "container": "c", "looks": 2, "asked": 60}


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
def test_the_longest_soak_where_it_has_to_have_been_well_is_read(pieces, make, changes, repository, signer, found):
    """Of this digest in that environment, by execution's own key, whichever container it was; it is evidence."""

    def attach(seconds, where, by, **changes):
        times = {"since": make.noon.isoformat(), "until": (make.noon + timedelta(seconds=seconds)).isoformat()}
        pieces.attach(CURATED.moved_to(where), by, SOAK, {**SOAKED, **times, **changes})

    attach(60, "evidence/execution/hello", EXECUTION, container="another")
    attach(7200, repository, signer, **changes)
    attach(30, "evidence/execution/hello", EXECUTION)
    place, store = Place("production", soak=SoakAsked("staging", 3600)), pieces.world.store(EXECUTION)

    dossier = dossiers.curated(CURATED, "tag", place, store, make.noon, bases=())

    assert dossier.soak.value.seconds == found
    assert dossier.soak.evidence in dossier.evidence


def test_an_image_that_lies_there_is_judged_by_the_same_evidence(pieces, make):
    """A rescan knows nothing else of it."""
    for piece in pieces.at(Gate.RELEASE).values():
        pieces.attach(CURATED, *piece)
    store = pieces.world.store(EXECUTION)

    kept = dossiers.kept(CURATED, store, layers, ())
    before = dossiers.scanned(scanned_image(make), store, layers, ())

    assert (kept.image, kept.ref, kept.evidence, kept.report) == (CURATED, CURATED, before.evidence, before.report)


ZIP = Archive(path="/srv/a.zip", format="zip", sha256="a" * 64)
DEBIAN = Identity(id="debian", version="12")


def _examined(pieces, ref, **found):
    """Curation's SBOM of an image, with what it found that no scanner judges."""
    reference = pieces.make.sbom(pieces.world.registry, ref, "openssl", "zlib1g")
    examination = Examination(**{"distribution": DEBIAN, **found}).model_dump(mode="json")
    return CURATION, SBOM, {**reference, "examination": examination}


@pytest.mark.parametrize("gate", [Gate.RELEASE, Gate.DEPLOY])
def test_what_no_scanner_judges_is_refused_at_both_gates(pieces, gate):
    """By curation's own word, whatever development says of the image."""
    for name, piece in pieces.at(gate).items():
        pieces.attach(where(gate), *(_examined(pieces, CURATED, archives=(ZIP,)) if name == "inventory" else piece))

    assert never_admitted(pieces, gate) == ["sbom.archives"]


@pytest.mark.parametrize("gate", [Gate.RELEASE, Gate.DEPLOY])
@pytest.mark.parametrize("examination", [None, {"version": "0"}])
def test_an_image_that_was_not_examined_as_today_is_refused(pieces, gate, examination):
    """An SBOM of before says nothing of it."""
    for name, piece in pieces.at(gate).items():
        signer, kind, predicate = piece
        if name == "inventory":
            predicate = {**predicate, "examination": examination}
        pieces.attach(where(gate), signer, kind, predicate)

    assert never_admitted(pieces, gate) == ["sbom.not-examined"]


@pytest.mark.parametrize("gate", [Gate.RELEASE, Gate.DEPLOY])
def test_what_a_base_of_its_build_has_too_was_asked_of_its_owner(pieces, gate):
    """The base by its digest in the build's materials; at the deploy gate nobody reads layers."""
    pieces.bases = (BASE,)
    _built_with(pieces, Material(name="curated/base/python", digest=BASE.digest, curated=True))
    pieces.attach(BASE, CURATION, SIGNATURE, {})
    pieces.attach(BASE, *_examined(pieces, BASE, archives=(ZIP,)))
    pieces.attach(CURATED, *_examined(pieces, CURATED, archives=(ZIP,)), created="2026-11-24T12:00:01+00:00")

    dossier = pieces.dossier(gate)

    assert [each.archives for each in dossier.examined_bases] == [(ZIP,)]
    assert list(rules.archives_accepted(dossier)) == []


def test_an_image_is_compared_with_the_distribution_of_the_base_below(pieces):
    """Which is seen in its layers."""
    pieces.bases = (BASE,)
    _built_with(pieces)
    pieces.attach(BASE, CURATION, SIGNATURE, {})
    pieces.attach(BASE, *_examined(pieces, BASE, distribution=Identity(id="debian", version="11")))

    dossier = pieces.dossier(Gate.RELEASE)

    assert dossier.distributions == {str(BASE): Identity(id="debian", version="11")}


def test_a_base_that_was_not_examined_is_compared_with_nothing(pieces):
    """Its packages are; whoever curates it again examines it."""
    pieces.bases = (BASE,)
    _built_with(pieces)
    pieces.attach(BASE, CURATION, SIGNATURE, {})
    reference = {**pieces.make.sbom(pieces.world.registry, BASE, "openssl"), "examination": None}
    pieces.attach(BASE, CURATION, SBOM, reference)

    dossier = pieces.dossier(Gate.RELEASE)

    assert (dossier.distributions, dossier.examined_bases) == ({}, ())
