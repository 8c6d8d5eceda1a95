"""Provenance: signing it, reading it, and comparing it with a build that is to run."""

from datetime import timedelta

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.provenance import (
    BUILDER,
    HOSTED_BUILDER,
    Provenance,
    find_last_provenance,
    is_of,
    make_provenance,
)
from supply_chain.evidence.statement import PROVENANCE, SUMMARY, VerifiedStatement, make_image_statement
from supply_chain.model.image import ImageRef, Material
from tests.support.present import present

IMAGE = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)
CURATED = Material(name="curated/base/python", digest="sha256:" + "1" * 64, curated=True)
OTHER = Material(name="docker.io/python", digest="sha256:" + "2" * 64, curated=False)


def signed(predicate, kind=PROVENANCE):
    statement = make_image_statement(IMAGE, kind, predicate)
    return VerifiedStatement(
        digest="sha256:" + "c" * 64, repository="dev/hello", statement=statement, signer="development"
    )


def test_provenance_is_read_back_unchanged(make):
    """Null values of the declaration and a base remain too."""
    built = make.built(materials=(CURATED, OTHER), uncurated=(OTHER.name,), base=CURATED)
    declaration = make.declaration(limits={"medium": None, "critical": 3})
    statement = make_provenance(built, declaration)

    read = Provenance.model_validate(statement.predicate())

    assert read == statement
    assert (read.declaration, read.source, read.uncurated) == (declaration, built.source, (OTHER.name,))
    assert read.materials == ((CURATED.digest, CURATED.name), (OTHER.digest, OTHER.name))
    assert statement.predicate()["buildDefinition"]["internalParameters"]["base"] == CURATED.name


def test_dependency_without_uri_has_no_uri_field(make):
    """SLSA resource descriptors leave out empty fields."""
    dependencies = make_provenance(make.built(), make.declaration()).predicate()["buildDefinition"][
        "resolvedDependencies"
    ]

    assert [sorted(each) for each in dependencies] == [
        ["annotations", "digest", "name", "uri"],
        ["digest", "name"],
        ["digest", "name"],
    ]


def test_fetched_file_has_uri_and_is_no_image_material(make):
    """The gates do not look for a base image of a fetched file."""
    url = "https://files.example/tool.tar.gz"
    fetched = Material(name=url, digest="sha256:" + "3" * 64, curated=False)
    statement = make_provenance(make.built(materials=(CURATED, fetched)), make.declaration())

    assert statement.materials == ((CURATED.digest, CURATED.name),)
    *_, image, file = statement.predicate()["buildDefinition"]["resolvedDependencies"]
    assert image == {"name": CURATED.name, "digest": {"sha256": "1" * 64}, "annotations": {"curated": True}}
    assert file == {"name": url, "uri": url, "digest": {"sha256": "3" * 64}}


@pytest.mark.parametrize(("hosted", "builder"), [(True, HOSTED_BUILDER), (False, BUILDER)])
def test_hosted_builder_has_its_own_id(make, hosted, builder):
    """The build level depends on it, and one builder does not reuse the build of the other."""
    built = make.built(hosted=hosted)

    assert make_provenance(built, make.declaration()).run_details.builder.id == builder
    statement = signed(make_provenance(built, make.declaration()).predicate())
    assert not is_of(statement, make.built(hosted=not hosted), make.declaration())


@pytest.mark.parametrize(
    "change",
    [
        {"dockerfile": "sha256:" + "9" * 64},
        {"declaration": "sha256:" + "9" * 64},
        {"materials": (OTHER,)},
        {"uncurated": ("a",)},
        {"base": OTHER},
        {"versions": {"buildx": "0.2"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_provenance_matches_build_only_if_every_input_is_equal(make, change):
    """Time and invocation of the build are no inputs."""
    built, declaration = make.built(), make.declaration()
    later = {"started": make.noon + timedelta(1), "finished": make.noon + timedelta(1), "invocation": "another"}

    def same(other, declared=declaration, kind=PROVENANCE):
        return is_of(signed(make_provenance(other, declared).predicate(), kind), built, declaration)

    assert same(make.built(**later))
    assert not same(make.built(**later, **change))
    assert not same(make.built(), make.declaration(owner="others"))
    assert not same(make.built(source=make.source(revision="0" * 40)))
    assert not same(make.built(), kind=SUMMARY)


@pytest.mark.parametrize("more", ["buildDefinition", "runDetails", "builder", "rubbish"])
def test_provenance_with_unknown_or_invalid_field_matches_no_build(make, more):
    """Another version may have other inputs; the image is built again, without an error."""
    predicate = make.provenance()
    if more == "buildDefinition":
        predicate["buildDefinition"]["externalParameters"]["buildArgs"] = {"a": "b"}
    if more == "builder":
        predicate["runDetails"]["builder"]["dependencies"] = []
    if more == "runDetails":
        predicate["runDetails"] = None
    if more == "rubbish":
        predicate = {"buildDefinition": [], "runDetails": {"builder": 7}}

    assert not is_of(signed(predicate), make.built(), make.declaration())


def test_last_provenance_is_of_the_build_that_finished_last(make):
    """Other statement types are ignored."""
    old = signed(make.provenance())
    new = signed(make.provenance(owner="new", built={"finished": make.noon + timedelta(seconds=1)}))

    assert present(find_last_provenance([new, old, signed({}, SUMMARY)])).declaration.owner == "new"
    assert find_last_provenance([signed({}, SUMMARY)]) is None


@pytest.mark.parametrize("part", ["buildDefinition", "runDetails"])
def test_last_provenance_raises_if_newest_is_unreadable(make, part):
    """An unreadable older one does not matter."""
    later = make.provenance(built={"finished": make.noon + timedelta(seconds=1)})
    broken = make.provenance()
    broken["buildDefinition"]["externalParameters"] = {}

    assert find_last_provenance([signed(broken), signed(later)])
    unreadable = {**later, part: {"metadata": later["runDetails"]["metadata"]}}
    with pytest.raises(EvidenceInvalid, match="provenance"):
        find_last_provenance([signed(make.provenance()), signed(unreadable)])


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("docker.io/python", {"sha256": "zz"}),
        ("curated/base/python", {"sha256": "zz"}),
        ("curated/base/python@3.12", {}),
        ("curated/base/Python", {"sha256": "1" * 64}),
    ],
)
def test_provenance_with_invalid_image_name_or_digest_raises(make, name, digest):
    """Otherwise each reader of the image would fail in its own way."""
    predicate = make_provenance(make.built(), make.declaration()).predicate()
    predicate["buildDefinition"]["resolvedDependencies"].append({"name": name, "digest": digest})

    with pytest.raises(EvidenceInvalid):
        find_last_provenance([signed(predicate)])


def test_provenance_accepts_non_image_dependency_without_sha256(make):
    """SLSA names sources by commit, for example."""
    predicate = make_provenance(make.built(), make.declaration()).predicate()
    predicate["buildDefinition"]["resolvedDependencies"].append({"name": "vendored", "digest": {"sha1": "1" * 40}})

    assert present(find_last_provenance([signed(predicate)])).materials == ()
