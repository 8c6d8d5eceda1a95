"""store: the admitted image is copied and verified completely, with its evidence and the verdict."""

import json
from contextlib import nullcontext

import pytest

from supply_chain.curation.store import read_blobs, store
from supply_chain.errors import AccessDenied, ImageDamaged, SettingInvalid
from supply_chain.evidence.statement import PROVENANCE, SUMMARY
from supply_chain.evidence.summary import find_last_verdict
from supply_chain.model.image import ImageRef, StoredImage, digest_of
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.outcome import Reason
from supply_chain.policy.reading import read_intake_facts
from supply_chain.policy.verdict import decide
from tests.support.builders import NOON
from tests.support.content import Content
from tests.support.facts import admitted, intake_facts, provenance_of
from tests.support.policies import INTAKE, policy, refusing
from tests.support.present import present

IMAGE = Content.image("hello")
CONFIG, LAYER = map(digest_of, IMAGE.blobs)
MANIFEST = json.loads(IMAGE.manifest)
REF = ImageRef(repository="dev/hello", digest=IMAGE.digest)
CURATED = REF.with_repository("curated/hello")
TAG = f"3f2a1c0-{REF.short}"


class Copier:
    """Copies an image; `damaged` is a blob that arrives with other content, `error` a failure."""

    def __init__(self, registry):
        self.registry, self.copies, self.damaged, self.error = registry, [], None, None

    def copy(self, source, repository, tag):
        if self.error:
            raise self.error
        self.copies.append((source, repository, tag))
        self.registry.put(repository, IMAGE, tag)
        if self.damaged:
            self.registry.damage(repository, self.damaged)


@pytest.fixture
def copier(world):
    return Copier(world.registry)


@pytest.fixture
def store_image(world, make, copier):
    """Return a function that admits and stores the offered image, or other content."""

    def run(content=IMAGE, **options):
        ref, evidence = world.registry.put(REF.repository, content), world.store(TierName.CURATION)
        if not world.registry.referrers(ref):
            world.store(TierName.DEVELOPMENT).attach(ref, PROVENANCE, make.provenance(), make.noon)
        return store(
            admitted(read_intake_facts(ref, evidence, (), None), INTAKE),
            copier,
            world.registry,
            world.ecr,
            evidence,
            storage_key="alias/k",
            now=lambda: make.noon,
            **options,
        )

    return run


def evidence_of(world):
    """Return what is attached to the curated image."""
    return world.registry.referrers(CURATED)


def test_store_copies_digest_to_immutable_tag(store_image, world, copier, make):
    """The repository is immutable and encrypted with the tier's key."""
    stored = store_image()

    assert isinstance(stored, StoredImage)
    assert (stored.ref, stored.tag, stored.source) == (CURATED, TAG, make.source())
    assert copier.copies == [(REF, "curated/hello", TAG)]
    assert world.ecr.is_immutable("curated/hello")
    assert world.ecr.encryption("curated/hello") == ("KMS", "alias/k")


def test_store_counts_every_blob(store_image):
    """The blobs are the configuration and the layers."""
    stored = store_image()

    assert (stored.blobs, stored.size) == (2, sum(map(len, IMAGE.blobs)))


def test_store_copies_evidence_of_development(store_image, world):
    """The bytes are the same, so the signatures still verify."""
    store_image()

    found = world.store(TierName.CURATION).read_verified(CURATED, TierName.DEVELOPMENT)
    assert [e.predicate_type for e in found] == [PROVENANCE]


def test_store_attaches_intake_verdict(store_image, world):
    """Curation signs it about the offered image."""
    store_image()

    (found,) = world.store(TierName.EXECUTION).read_verified(CURATED, TierName.CURATION)
    assert found.predicate_type == SUMMARY
    assert present(find_last_verdict([found], Gate.INTAKE, REF.digest)).value.passed


def test_stored_image_with_verdict_is_not_stored_again(store_image, copier, world):
    """The verdict proves that every byte was verified, so they are not read again."""
    first = store_image()
    world.registry.damage("curated/hello", LAYER)
    again = store_image()

    (verdict,) = world.store(TierName.EXECUTION).read_verified(CURATED, TierName.CURATION)
    assert len(copier.copies) == 1
    assert first.proven is None and again.proven.evidence == (verdict.digest,)
    assert again == first.model_copy(update={"proven": again.proven})


def test_fresh_store_reads_every_byte_again(store_image, world):
    """The option ignores an existing verdict."""
    store_image()
    assert store_image(force=True).proven is None

    world.registry.damage("curated/hello", LAYER)
    with pytest.raises(ImageDamaged):
        store_image(force=True)


def test_refusal_of_stored_image_is_no_proof(store_image, world):
    """It is attached beside the admission, and states nothing about bytes."""
    store_image()
    facts = read_intake_facts(REF, world.store(TierName.CURATION), (), None)
    refusal = policy(Gate.INTAKE, refusing(Reason(code="a.b", fact="f", remedy="r")))
    decide(facts, refusal, world.ecr, world.store(TierName.CURATION), NOON)

    assert store_image().proven is None


@pytest.mark.parametrize("damaged", [False, True])
def test_copied_image_without_verdict_is_verified(store_image, copier, world, damaged):
    """An interrupted run leaves an image without a verdict."""
    world.ecr.ensure_repository("curated/hello", immutable=True, key="alias/k")
    world.registry.put("curated/hello", IMAGE, TAG)
    if damaged:
        world.registry.damage("curated/hello", LAYER)

    with pytest.raises(ImageDamaged) if damaged else nullcontext():
        assert store_image().proven is None
    assert copier.copies == []


def test_verdict_of_missing_image_is_no_proof(store_image, copier, world):
    """Evidence may outlive its image, so the image is copied and read again."""
    store_image()
    world.registry.remove(CURATED)
    assert store_image().proven is None and len(copier.copies) == 2

    world.registry.remove(CURATED)
    copier.damaged = LAYER
    with pytest.raises(ImageDamaged):
        store_image()


@pytest.mark.parametrize("blob", [CONFIG, LAYER])
def test_damaged_blob_stops_store_before_verdict(store_image, copier, world, blob):
    """A damaged image must not have a verdict that admits it."""
    copier.damaged = blob

    with pytest.raises(ImageDamaged):
        store_image()
    assert evidence_of(world) == ()


def test_store_without_copy_permission_leaves_nothing(store_image, copier, world):
    """There is neither evidence nor verdict."""
    copier.error = AccessDenied("no\nno")

    with pytest.raises(AccessDenied):
        store_image()
    assert evidence_of(world) == ()


def test_store_refuses_repository_with_mutable_tags(store_image, copier, world):
    """Somebody created it before; the error has the command that fixes it."""
    world.ecr.ensure_repository("curated/hello", immutable=False, key=None)

    with pytest.raises(SettingInvalid, match="put-image-tag-mutability --repository-name curated/hello"):
        store_image()
    assert copier.copies == [] and evidence_of(world) == ()


@pytest.mark.parametrize(
    "manifest",
    [
        {"manifests": []},
        {},
        {"layers": []},
        {"config": {}, "layers": []},
        {"config": MANIFEST["config"], "layers": None},
        {"config": MANIFEST["config"], "layers": [{}]},
        {"config": MANIFEST["config"], "layers": [{"digest": LAYER}]},
        {"config": MANIFEST["config"], "layers": [{"digest": "latest", "size": 1}]},
        {"config": MANIFEST["config"], "layers": [{"digest": LAYER, "size": -1}]},
        {"config": MANIFEST["config"], "layers": [{"digest": LAYER, "size": "500"}]},
        {**MANIFEST, "subject": {"digest": LAYER, "size": 1}},
    ],
    ids=lambda manifest: json.dumps(manifest)[:50],
)
def test_invalid_manifest_counts_as_damaged(world, manifest):
    """Development can push anything, for example an index or an incomplete manifest."""
    digest = world.registry.push_manifest("curated/hello", json.dumps(manifest).encode(), MANIFEST["mediaType"])

    with pytest.raises(ImageDamaged):
        read_blobs(CURATED.with_digest(digest), world.registry)


def test_index_is_not_copied(store_image, copier):
    """A copy would include the parts of the index, even archived ones."""
    with pytest.raises(ImageDamaged, match="dev/hello"):
        store_image(Content.index([IMAGE]))
    assert copier.copies == []


def test_tag_of_image_from_dirty_source_is_marked(world, make, copier):
    """The mark is for people."""
    ref = world.registry.put("dev/hello", IMAGE)
    facts = intake_facts(ref=ref, provenance=provenance_of(source=make.source(dirty=True)))

    stored = store(
        admitted(facts, INTAKE), copier, world.registry, world.ecr, world.store(TierName.CURATION), storage_key="k",
        now=lambda: make.noon,
    )  # fmt: skip

    assert stored.tag == f"3f2a1c0-dirty-{REF.short}"
