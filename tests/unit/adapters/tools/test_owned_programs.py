"""Tests of which programs an SBOM leaves out because packages own them."""

import copy

import pytest

from supply_chain.adapters.image.packaged_files import PackagedFiles
from supply_chain.adapters.tools.owned_programs import OVERLAP, leave_out_owned

PERL = "/usr/bin/perl"
PROVEN = PackagedFiles({manager: {PERL} for manager in ("apk", "dpkg", "nix", "pacman", "portage", "rpm")})


def inventory(owner="deb", kind="binary", *, path=PERL, relation=OVERLAP, **settings):
    """Return an SBOM with a package, a program that it owns, and a file of the program."""
    program = {"id": "program", "type": kind, "version": "5.36.0", "locations": [{"path": path}], **settings}
    return {
        "artifacts": [{"id": "owner", "type": owner, "name": "perl", "version": "5.36.0-7"}, program],
        "artifactRelationships": [
            {"type": relation, "parent": "owner", "child": "program"},
            {"type": "evident-by", "parent": "program", "child": "file"},
            {"type": "evident-by", "parent": "owner", "child": "file"},
        ],
    }


@pytest.mark.parametrize("owner", ["alpm", "apk", "deb", "portage", "rpm"])
def test_program_of_a_package_is_left_out(owner):
    """Its relations go with it."""
    document = inventory(owner)

    assert leave_out_owned(document, PROVEN)
    assert document["artifacts"] == [{"id": "owner", "type": owner, "name": "perl", "version": "5.36.0-7"}]
    assert document["artifactRelationships"] == [{"type": "evident-by", "parent": "owner", "child": "file"}]


@pytest.mark.parametrize("kind", ["binary-signature", "elf-binary-package-note-json-payload", "java-jvm-installation"])
def test_program_with_type_of_its_metadata_is_left_out(kind):
    """Its metadata say how syft found it."""
    assert leave_out_owned(inventory(kind="rpm", metadataType=kind), PROVEN)


@pytest.mark.parametrize(
    "document",
    [
        inventory(path="/srv/perl"),
        inventory(owner="bitnami"),
        inventory(owner="nix"),
        inventory(owner="binary"),
        inventory(kind="python"),
        inventory(kind="go-module", metadataType="go-module-buildinfo-entry"),
        inventory(relation="contains"),
        inventory(locations=[]),
        inventory() | {"artifactRelationships": None},
        {"artifacts": []},
    ],
)
def test_artifact_without_owning_package_stays(document):
    """Whoever writes a record decides what it claims to own."""
    before = copy.deepcopy(document)

    assert not leave_out_owned(document, PROVEN)
    assert document == before


@pytest.mark.parametrize(("manager", "left_out"), [("dpkg", True), ("rpm", False)])
def test_records_of_uncompared_package_manager_prove_programs(manager, left_out):
    """As with syft alone."""
    assert leave_out_owned(inventory(path="/srv/perl"), PackagedFiles(believed={manager})) is left_out


@pytest.mark.parametrize(
    ("packaged", "program", "left_out"),
    [
        ("5.36.0-7+deb12u1", "5.36.0", True),
        ("1:10.11.3-1", "10.11.3-MariaDB", True),
        ("17.0.9+9-1~deb12u1", "17.0.9+9", True),
        ("17.0.9_p9-r0", "17.0.9+9", True),
        ("5.36.0", "5.36", False),
        ("1:1.35.0-4+deb12u0", "1.30.1", False),
    ],
)
def test_uncompared_program_is_left_out_if_versions_are_equal(packaged, program, left_out):
    """Otherwise any record hides an older program in the place of the package's."""
    document = inventory(version=program)
    document["artifacts"][0]["version"] = packaged

    assert leave_out_owned(copy.deepcopy(document), PackagedFiles(elsewhere={("perl", packaged): {PERL}})) is left_out
    assert leave_out_owned(document, PackagedFiles(believed={"dpkg"})) is left_out


@pytest.mark.parametrize("missing", ["type", "id", "version", "locations"])
def test_other_documents_raise_key_error(missing):
    """The caller says which SBOM it is."""
    document = inventory()
    del document["artifacts"][1][missing]

    with pytest.raises(KeyError):
        leave_out_owned(document, PROVEN)
