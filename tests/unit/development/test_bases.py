"""Base image resolution: a name becomes the digest that curation admits, or one that a profile or declaration pins."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta

import pytest

from supply_chain.development import bases as curated_bases
from supply_chain.development.bases import REGISTRIES, CuratedBases
from supply_chain.development.dockerfile import normalize_reference
from supply_chain.errors import BaseMissing, DockerfileRefused, EvidenceInvalid
from supply_chain.evidence.image_status import Act, sign_decision
from supply_chain.evidence.statement import PROVENANCE, SIGNATURE, SUMMARY
from supply_chain.evidence.summary import make_summary
from supply_chain.model.image import ImageRef, Material
from supply_chain.model.tier import Gate, TierName

NEW = ImageRef(repository="curated/base/python", digest="sha256:" + "a" * 64)
OLD = ImageRef(repository="curated/base/python", digest="sha256:" + "b" * 64)
UPSTREAM = "sha256:" + "c" * 64
BASE = "curated/base/python"


class Bases:
    def __init__(self, world, make):
        self.world, self.make = world, make
        self.instead, self.read, self.declared = {}, [], ()
        self.manifests, self.layers = {}, {}
        for ref in (OLD, NEW):
            world.registry.add(ref, tags=("v",))

    def sign(self, ref, signer=TierName.CURATION):
        self.world.store(signer).attach(ref, SIGNATURE, {}, self.make.noon)

    def verdict(self, ref, *, yes=True, signer=TierName.CURATION, after=0, gate=Gate.RELEASE, expires=None):
        reasons = [] if yes else [{"code": "x", "fact": "f", "remedy": "r"}]
        now = self.make.noon + timedelta(seconds=after)
        statement = make_summary(ref, gate, UPSTREAM, reasons=reasons, notes=(), inputs=(), now=now, expires=expires)
        self.world.store(signer).attach(ref, SUMMARY, statement.predicate(), now)

    def read_manifests(self, at, platform):
        self.read.append((at, platform))
        return self.manifests

    def resolve(self, name, declared=()):
        return self.bases.resolve(normalize_reference(name), declared)

    @property
    def bases(self):
        store = self.world.store(TierName.DEVELOPMENT)
        return CuratedBases(
            self.world.ecr,
            store,
            "registry.test",
            self.instead,
            lambda at, platform: f"{at} {platform}".encode(),
            self.read_manifests,
            lambda: self.layers.__getitem__,
            lambda: self.layers,
            REGISTRIES,
            self.declared,
        )


@pytest.fixture
def bases(world, make):
    return Bases(world, make)


def test_base_resolves_to_newest_signed_and_admitted_image(bases):
    """A base resolves to a digest in the tier's own registry."""
    for ref in (NEW, OLD):
        bases.sign(ref)
        bases.verdict(ref)

    address, material = bases.resolve("curated/base/python")

    assert address == f"registry.test/{NEW}"
    assert (material.digest, material.curated) == (NEW.digest, True)


@pytest.mark.parametrize(
    "fault",
    ["unsigned", "unjudged", "refused", "refused later", "no longer taken in", "expired", "other signer", "other gate"],
)
def test_base_skips_image_without_valid_curation_verdict(bases, fault):
    """The previous admitted image is used instead."""
    bases.sign(OLD)
    bases.verdict(OLD)
    if fault != "unsigned":
        bases.sign(NEW, TierName.DEVELOPMENT if fault == "other signer" else TierName.CURATION)
    if fault != "unjudged":
        gate = Gate.INTAKE if fault == "other gate" else Gate.RELEASE
        bases.verdict(NEW, yes=fault != "refused", gate=gate, expires=bases.make.noon if fault == "expired" else None)
    if fault in ("refused later", "no longer taken in"):
        bases.verdict(NEW, yes=False, gate=Gate.RELEASE if fault == "refused later" else Gate.INTAKE, after=1)

    assert bases.resolve("curated/base/python")[1].digest == OLD.digest


def test_curated_base_fails_without_any_image(bases):
    """A curated name is never looked up in another registry."""
    with pytest.raises(BaseMissing, match="no curated image"):
        bases.resolve("curated/base/python")


@pytest.mark.parametrize(
    ("name", "first", "then"),
    [
        ("curated/base/rubby", "There is no curated image curated/base/rubby.", "this project (node, python), or"),
        ("curated/base/pyton", "curated/base/pyton; did you mean curated/base/python?", "this project (node, python)"),
        ("curated/base/node", "There is no curated image curated/base/node.", "Build it with `cscm bases node`"),
    ],
)
def test_missing_base_is_explained_by_the_bases_of_the_project(bases, name, first, then):
    """`cscm bases NAME` is no help for a name that the project does not have."""
    bases.declared = ("node", "python")

    with pytest.raises(BaseMissing) as caught:
        bases.resolve(name)

    fact, remedy = caught.value.message.split("\n")
    assert fact.endswith(first) and then in remedy


def test_base_skips_image_built_on_blocked_image(bases, world, make):
    """If no other image is left, the error names the blocked image."""
    below = ImageRef(repository="curated/base/debian", digest="sha256:" + "d" * 64)
    material = Material(name=below.repository, digest=below.digest, curated=True)
    built = make.provenance(built={"digest": NEW.digest, "materials": (material,)})
    world.store(TierName.DEVELOPMENT).attach(NEW, PROVENANCE, built, make.noon)
    for ref in (NEW, OLD):
        bases.sign(ref)
        bases.verdict(ref)
    sign_decision(
        below, Act.BLOCK, world.store(TierName.LIFECYCLE), bases.world.ecr, by="ann", reason="exploited", now=make.noon
    )

    assert bases.resolve(BASE)[1].digest == OLD.digest
    world.registry.remove(OLD)
    with pytest.raises(BaseMissing, match=f"is built on {below}, which is blocked by ann"):
        bases.resolve(BASE)


def test_base_skips_blocked_images_and_error_explains_the_block(bases):
    """Rebuilding the same base does not help, so the error names the block and the command that lifts it."""
    for ref in (NEW, OLD):
        bases.sign(ref)
        bases.verdict(ref)
    store = bases.world.store(TierName.LIFECYCLE)
    sign_decision(NEW, Act.BLOCK, store, bases.world.ecr, by="ann", reason="it is bad", now=bases.make.noon)
    assert bases.resolve(BASE)[1].digest == OLD.digest

    sign_decision(OLD, Act.BLOCK, store, bases.world.ecr, by="ann", reason="it too", now=bases.make.noon)

    with pytest.raises(BaseMissing, match=r"is blocked by ann .*: it is bad\n.*cscm unblock"):
        bases.resolve(BASE)


def test_layers_of_the_newest_released_base_are_counted(bases, monkeypatch):
    """What a released base has was compared when it was built; a base that was not released vouches for nothing."""
    bases.declared = ("python", "node")
    bases.layers = {OLD: ("1", "2"), NEW: ("1", "2", "3")}

    assert bases.bases.count_layers(("1", "2", "3", "4")) == 0
    for ref, found in ((OLD, 2), (NEW, 3)):
        bases.sign(ref)
        bases.verdict(ref)
        assert bases.bases.count_layers(("1", "2", "3", "4")) == found
    assert bases.bases.count_layers(["1", "2"]) == 2
    assert bases.bases.count_layers(("1", "3")) == bases.bases.count_layers(()) == 0
    store = bases.world.store(TierName.LIFECYCLE)
    sign_decision(NEW, Act.BLOCK, store, bases.world.ecr, by="ann", reason="it is bad", now=bases.make.noon)
    assert bases.bases.count_layers(("1", "2", "3", "4")) == 2
    monkeypatch.setattr(curated_bases, "MOST_COMPARED", 0)
    assert bases.bases.count_layers(("1", "2", "3", "4")) == 0


def test_base_fails_on_unreadable_evidence(bases, make):
    """Unreadable evidence must not silently select an older image."""
    bases.sign(NEW)
    bases.world.store(TierName.CURATION).attach(NEW, SUMMARY, {"verifier": {"id": "urn:cscm:gate:release"},
        "resourceUri": str(NEW), "verificationResult": "PASSED"}, make.noon)  # fmt: skip

    with pytest.raises(EvidenceInvalid):
        bases.resolve("curated/base/python")


def test_profile_override_pins_upstream_image_by_digest(bases):
    """The material is recorded as not curated."""
    bases.instead = {"curated/base/python": f"docker.io/library/python@{UPSTREAM}"}

    address, material = bases.resolve("curated/base/python")

    assert address == f"docker.io/library/python@{UPSTREAM}"
    assert (material.name, material.digest, material.curated) == ("curated/base/python", UPSTREAM, False)


@pytest.mark.parametrize("address", ["docker.io/python:3", "python", "", f"py thon@{UPSTREAM}", f"x@{UPSTREAM}0"])
def test_profile_override_refuses_address_without_digest(bases, address):
    """A tag can move, so it does not identify a version."""
    bases.instead = {"curated/base/python": address}

    with pytest.raises(BaseMissing, match="by digest"):
        bases.resolve("curated/base/python")


PYTHON = f"docker.io/library/python:3@{UPSTREAM}"


@pytest.mark.parametrize(
    ("name", "declared", "address"),
    [
        (f"python@{UPSTREAM}", f"python@{UPSTREAM}", f"docker.io/library/python@{UPSTREAM}"),
        (f"python:3@{UPSTREAM}", PYTHON, PYTHON),
        (f"python@{UPSTREAM}", PYTHON, f"docker.io/library/python@{UPSTREAM}"),
        ("python:3", PYTHON, PYTHON),
        (f"quay.io/a/b:1@{UPSTREAM}", f"quay.io/a/b:1@{UPSTREAM}", f"quay.io/a/b:1@{UPSTREAM}"),
    ],
)
def test_declared_upstream_image_resolves_to_its_digest(bases, name, declared, address):
    """The Dockerfile may name the digest, or the tag that is declared with it."""
    found, material = bases.resolve(name, (declared,))

    assert (found, material.digest, material.curated) == (address, UPSTREAM, False)


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("python:3", ()),
        (f"python@{UPSTREAM}", ()),
        (f"python:3@{UPSTREAM}", (f"python@{UPSTREAM}",)),
        ("python:3.1", (PYTHON,)),
        ("python", (PYTHON,)),
        ("other/python:3", (PYTHON,)),
        ("quay.io/library/python:3", (PYTHON,)),
        (f"python@{NEW.digest}", (PYTHON,)),
        ("python:3", (PYTHON, f"docker.io/library/python:3@{NEW.digest}")),
    ],
)
def test_undeclared_upstream_image_is_refused(bases, name, declared):
    """The error says where to declare the image."""
    with pytest.raises(DockerfileRefused, match=r"(?s)nor declared.*build\.fetch\.images"):
        bases.resolve(name, declared)


@pytest.mark.parametrize("registry", ["registry.of.a.developer", "127.0.0.1:5000", "quay.io:444", "quay.io.evil.test"])
def test_image_from_unlisted_registry_is_refused(bases, registry):
    """A declared registry could redirect the engine to any address, including services of the host."""
    name = f"{registry}/a@{UPSTREAM}"

    with pytest.raises(DockerfileRefused, match=f"builds take no images from the registry {registry}"):
        bases.resolve(name, (name,))


@pytest.mark.parametrize(
    "name", ["registry.test/dev/other", "dev/other", "dev/base/python", "curated/other", "docker.io/curated/other"]
)
def test_image_of_this_chain_that_is_no_base_is_refused(bases, name):
    """Images of other teams have passed no gate, and anyone can use the same name on Docker Hub."""
    name = f"{name}@{UPSTREAM}"

    with pytest.raises(DockerfileRefused, match="not below `curated"):
        bases.resolve(name, (name,))


@pytest.mark.parametrize("name", [f"{BASE}:3.13", f"registry.test/{BASE}:3.13", f"{BASE}:latest@{NEW.digest}"])
def test_curated_base_with_tag_is_refused(bases, name):
    """A registry refuses to look into a repository of that name, which reads as if the registry had failed."""
    bases.sign(NEW)
    bases.verdict(NEW)

    with pytest.raises(DockerfileRefused, match="is named by no tag"):
        bases.resolve(name)


def test_curated_base_by_digest_resolves_in_own_registry(bases):
    """The public registry is not used, and curation must have admitted the digest."""
    bases.sign(OLD)
    bases.verdict(OLD)

    for name in (str(OLD), f"registry.test/{OLD}"):
        address, material = bases.resolve(name)

        assert address == f"registry.test/{OLD}"
        assert (material.name, material.digest, material.curated) == (str(OLD), OLD.digest, True)
    with pytest.raises(BaseMissing, match="no curated image"):
        bases.resolve(str(NEW))


def test_blocked_base_named_by_digest_is_refused_as_blocked(bases, world, make):
    """A blocked image is archived, so the registry no longer lists it."""
    world.ecr.archive(NEW)
    sign_decision(
        NEW, Act.BLOCK, world.store(TierName.LIFECYCLE), bases.world.ecr, by="ann", reason="a key in it", now=make.noon
    )

    with pytest.raises(BaseMissing, match="is blocked by ann"):
        bases.resolve(f"registry.test/{NEW}")


@pytest.mark.parametrize("name", [PYTHON, BASE])
def test_blocked_digest_is_refused_under_any_name(bases, world, make, name):
    """The block also applies to declared images and to overrides of a profile."""
    bases.instead[BASE] = f"mirror.test/python@{UPSTREAM}"
    blocked = ImageRef(repository=BASE, digest=UPSTREAM)
    lifecycle = world.store(TierName.LIFECYCLE)
    assert bases.resolve(name, (PYTHON,))
    sign_decision(blocked, Act.BLOCK, lifecycle, bases.world.ecr, by="ann", reason="a key in it", now=make.noon)

    with pytest.raises(BaseMissing, match=r"is blocked by ann on .*: a key in it"):
        bases.resolve(name, (PYTHON,))

    sign_decision(blocked, Act.UNBLOCK, lifecycle, bases.world.ecr, by="ann", reason="none", now=make.noon)
    assert bases.resolve(name, (PYTHON,))


def test_bases_read_and_check_an_image_by_its_address(bases):
    """The address has the digest, so that what is read is what the build takes in."""
    address = f"docker.io/library/python@{UPSTREAM}"

    assert bases.bases.config(address, "linux/arm64") == f"{address} linux/arm64".encode()
    bases.bases.check([address], None)
    assert bases.read == [(address, None)]


LAYERS = ("sha256:" + "1" * 64, "sha256:" + "2" * 64)


@pytest.mark.parametrize(
    ("manifests", "refused"),
    [
        ({UPSTREAM: (), NEW.digest: LAYERS}, f"@{UPSTREAM} may not be used: {NEW.digest} is blocked by ann"),
        ({UPSTREAM: LAYERS}, f"which has the layers of {NEW}, may not be used: .* is blocked by ann"),
        ({UPSTREAM: (*LAYERS, "sha256:" + "3" * 64)}, f"which has the layers of {NEW}, may not"),
        ({UPSTREAM: (), OLD.digest: LAYERS[1:]}, ""),
    ],
    ids=["in an index", "another manifest", "built on it", "others"],
)
def test_blocked_base_is_refused_inside_of_another_image(bases, world, make, manifests, refused):
    """Another registry has a copy, under an index or a manifest with a digest of its own; `COPY --from` takes it."""
    address = f"docker.io/someone/python@{UPSTREAM}"
    bases.manifests, bases.layers[NEW], bases.layers[OLD] = manifests, LAYERS, LAYERS[:0]
    bases.sign(NEW)
    bases.bases.check([address], None)
    lifecycle = world.store(TierName.LIFECYCLE)
    sign_decision(NEW, Act.BLOCK, lifecycle, bases.world.ecr, by="ann", reason="a key in it", now=make.noon)

    with pytest.raises(BaseMissing, match=refused) if refused else nullcontext():
        bases.bases.check([address], None)

    bases.bases.check([f"registry.test/{OLD}"], None)


def test_blocked_bases_are_listed_once_for_all_images_of_a_dockerfile(bases, world, make, monkeypatch):
    """Their list is read from the registry. The digest in an address was judged when it was resolved."""
    asked, listed = [], []
    monkeypatch.setattr(CuratedBases, "_refuse_blocked", lambda _, address, digest: asked.append((address, digest)))
    bases.manifests, other = {UPSTREAM: (), OLD.digest: ()}, f"docker.io/b@{OLD.digest}"
    first = f"docker.io/a@{UPSTREAM}"

    def list_decided():
        listed.append("blocked")
        return ()

    checked = replace(bases.bases, list_decided=list_decided)

    checked.check([first, other, f"registry.test/{NEW}"], None)

    assert (listed, sorted(asked)) == (["blocked"], [(first, OLD.digest), (other, UPSTREAM)])


def test_unsigned_manifest_among_the_bases_refuses_no_image(bases, world, make):
    """Somebody who can push there must not decide what others may declare."""
    bases.manifests, bases.layers[NEW] = {UPSTREAM: LAYERS}, LAYERS
    lifecycle = world.store(TierName.LIFECYCLE)
    sign_decision(NEW, Act.BLOCK, lifecycle, bases.world.ecr, by="ann", reason="a key in it", now=make.noon)

    bases.bases.check([f"docker.io/someone/python@{UPSTREAM}"], None)
