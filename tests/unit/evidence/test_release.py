"""The files of a project release, and the statement about them."""

import hashlib

from supply_chain.evidence.release import RELEASE, make_release_statement
from supply_chain.model.image import ImageRef

REF = ImageRef(repository="curated/cscm", digest="sha256:" + "a" * 64)
WHEEL = "container_supply_chain-0.2.0-py3-none-any.whl"


def test_release_statement_names_every_file_by_digest():
    """Anybody can verify a single file; the image is named beside them."""
    statement = make_release_statement(
        "pkg:pypi/container-supply-chain@0.2.0", REF, {WHEEL: b"wheel", "sbom.json": b"sbom"}
    )

    assert {each.name: each.digest["sha256"] for each in statement.subject} == {
        WHEEL: hashlib.sha256(b"wheel").hexdigest(),
        "sbom.json": hashlib.sha256(b"sbom").hexdigest(),
    }
    assert statement.predicate_type == RELEASE
    assert statement.predicate == {
        "purl": "pkg:pypi/container-supply-chain@0.2.0",
        "releaseId": REF.digest,
        "image": str(REF),
    }
