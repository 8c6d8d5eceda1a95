"""store: the admitted image is copied and verified completely, with its evidence and the verdict."""

import json

import pytest

from supply_chain.curation.store import read_blobs, store
from supply_chain.errors import AccessDenied, ImageDamaged, SettingInvalid
from supply_chain.evidence.statement import PROVENANCE, SUMMARY
from supply_chain.evidence.summary import last_verdict
from supply_chain.model.image import ImageRef, StoredImage
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.policies import INTAKE
from supply_chain.policy.reading import read_intake_facts
from tests.support.facts import admitted, intake_facts, provenance_of
from tests.support.present import present

CONFIG, LAYER = "sha256:" + "c" * 64, "sha256:" + "d" * 64
MANIFEST = {"config": {"digest": CONFIG, "size": 10}, "layers": [{"digest": LAYER, "size": 500}]}
REF = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)
CURATED = REF.moved_to("curated/hello")


class Registry:
    """The registry with `dev/hello` and `curated/hello`; the world holds the referrers."""

    def __init__(self, world):
        self.world, self.tags, self.copies, self.verified, self.made = world, {}, [], [], []
        self.described, self.damaged, self.error, self.movable = MANIFEST, (), None, False

    def ensure_repository(self, repository, *, immutable, key):
        self.made.append((repository, immutable, key))

    def immutable(self, repository):
        return not self.movable

    def digest_of(self, repository, tag):
        return self.tags.get((repository, tag))

    def copy(self, source, repository, tag):
        if self.error:
            raise self.error
        self.copies.append((source, repository, tag))
        self.tags[repository, tag] = source.digest

    def manifest(self, ref):
        assert ref.digest == REF.digest
        return self.described

    def verify_blob(self, repository, digest, size):
        if digest in self.damaged:
            raise ImageDamaged("not it\nlook")
        self.verified.append((repository, digest, size))

    def has(self, ref):
        return ref.digest in self.world.registry.held.get(ref.repository, {})

    def copy_referrer(self, referrer, repository):
        held = self.world.registry.held
        held.setdefault(repository, {})[referrer.digest] = held[referrer.repository][referrer.digest]


@pytest.fixture
def registry(world):
    return Registry(world)


@pytest.fixture
def kept(world, make, registry):
    """Return a function that admits and stores the offered image."""
    world.store(TierName.DEVELOPMENT).attach(REF, PROVENANCE, make.provenance(), make.noon)

    def run(**options):
        evidence = world.store(TierName.CURATION)
        return store(
            admitted(read_intake_facts(REF, evidence, (), None), INTAKE),
            registry,
            registry,
            registry,
            evidence,
            storage_key="alias/k",
            now=lambda: make.noon,
            **options,
        )

    return run


def test_store_copies_digest_to_immutable_tag(kept, registry, make):
    """The repository is immutable and encrypted with the tier's key."""
    stored = kept()

    assert isinstance(stored, StoredImage)
    assert (stored.ref, stored.tag, stored.source) == (CURATED, "3f2a1c0-aaaaaaaaaaaa", make.source())
    assert registry.copies == [(REF, "curated/hello", "3f2a1c0-aaaaaaaaaaaa")]
    assert registry.made == [("curated/hello", True, "alias/k")]


def test_store_reads_and_counts_every_blob(kept, registry):
    """The blobs are the configuration and the layers."""
    stored = kept()

    assert sorted(registry.verified) == [("curated/hello", CONFIG, 10), ("curated/hello", LAYER, 500)]
    assert (stored.blobs, stored.size) == (2, 510)


def test_store_copies_evidence_of_development(kept, world):
    """The bytes are the same, so the signatures still verify."""
    kept()

    found = world.store(TierName.CURATION).verified(CURATED, TierName.DEVELOPMENT)
    assert [e.predicate_type for e in found] == [PROVENANCE]


def test_store_attaches_intake_verdict(kept, world):
    """Curation signs it about the offered image."""
    kept()

    (found,) = world.store(TierName.EXECUTION).verified(CURATED, TierName.CURATION)
    assert found.predicate_type == SUMMARY
    assert present(last_verdict([found], Gate.INTAKE, REF.digest)).value.passed


def test_stored_image_with_verdict_is_not_stored_again(kept, registry, world):
    """The verdict proves that every byte was verified."""
    first, again = kept(), kept()

    (verdict,) = world.store(TierName.EXECUTION).verified(CURATED, TierName.CURATION)
    assert (len(registry.copies), len(registry.verified)) == (1, 2)
    assert first.proven is None and again.proven.evidence == (verdict.digest,)
    assert again == first.model_copy(update={"proven": again.proven})


def test_fresh_store_reads_every_byte_again(kept, registry):
    """The option ignores an existing verdict."""
    kept()
    again = kept(force=True)

    assert again.proven is None and len(registry.verified) == 4


def test_copied_image_without_verdict_is_verified(kept, registry):
    """An interrupted run leaves an image without a verdict."""
    registry.tags["curated/hello", "3f2a1c0-aaaaaaaaaaaa"] = REF.digest

    assert kept().proven is None
    assert len(registry.verified) == 2 and registry.copies == []


def test_verdict_of_missing_image_is_no_proof(kept, registry):
    """Evidence may outlive its image, so the image is copied and read again."""
    kept()
    registry.tags.clear()

    assert kept().proven is None
    assert (len(registry.copies), len(registry.verified)) == (2, 4)


@pytest.mark.parametrize("blob", [CONFIG, LAYER])
def test_damaged_blob_stops_store_before_verdict(kept, registry, world, blob):
    """A damaged image must not have a verdict that admits it."""
    registry.damaged = (blob,)

    with pytest.raises(ImageDamaged):
        kept()
    assert "curated/hello" not in world.registry.held


def test_store_without_copy_permission_leaves_nothing(kept, registry, world):
    """There is neither evidence nor verdict."""
    registry.error = AccessDenied("no\nno")

    with pytest.raises(AccessDenied):
        kept()
    assert "curated/hello" not in world.registry.held


def test_store_refuses_repository_with_mutable_tags(kept, registry, world):
    """Somebody created it before; the error has the command that fixes it."""
    registry.movable = True

    with pytest.raises(SettingInvalid, match="put-image-tag-mutability --repository-name curated/hello"):
        kept()
    assert registry.copies == [] and "curated/hello" not in world.registry.held


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
def test_invalid_manifest_counts_as_damaged(registry, manifest):
    """Development can push anything, for example an index or an incomplete manifest."""
    registry.described = manifest

    with pytest.raises(ImageDamaged):
        read_blobs(CURATED, registry)


def test_index_is_not_copied(kept, registry):
    """A copy would include the parts of the index, even archived ones."""
    registry.described = {"manifests": []}

    with pytest.raises(ImageDamaged, match="dev/hello"):
        kept()
    assert registry.copies == []


def test_tag_of_image_from_dirty_source_is_marked(world, make, registry):
    """The mark is for people."""
    facts = intake_facts(ref=REF, provenance=provenance_of(source=make.source(dirty=True)))

    stored = store(
        admitted(facts, INTAKE), registry, registry, registry, world.store(TierName.CURATION), storage_key="k",
        now=lambda: make.noon,
    )  # fmt: skip

    assert stored.tag == "3f2a1c0-dirty-aaaaaaaaaaaa"
