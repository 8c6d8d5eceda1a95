"""Any VEX document is read completely or refused; what is read never accepts more than it states."""

import json
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from supply_chain.errors import ClockWrong, DeclarationInvalid
from supply_chain.model.image import ImageRef
from supply_chain.vulnerability.vex.matching import Image, VexContradiction, VexIndex, VexTerms, find_vex_answers
from supply_chain.vulnerability.vex.openvex import make_vex_document
from supply_chain.vulnerability.vex.reading import read_vex
from supply_chain.vulnerability.vex.statement import Justification, VexStatement, VexStatus
from tests.support.builders import DIGEST, NOON, finding
from tests.support.examples import tries
from tests.support.vex import (
    CVE,
    IMAGE,
    OPENSSL,
    csaf,
    csaf_product,
    csaf_vulnerability,
    openvex,
    openvex_statement,
    statements,
)
from tests.unit.fuzz.changes import JSON, changed

OPENVEX = openvex(
    openvex_statement(
        {"@id": IMAGE, "hashes": {"sha-256": "a" * 64}, "subcomponents": [{"identifiers": {"purl": OPENSSL}}]},
        vulnerability={"name": CVE, "aliases": ["GHSA-a"]},
        timestamp="2026-11-20T00:00:00Z",
    ),
    openvex_statement(OPENSSL, status="affected", justification=None, action_statement="Upgrade."),
)
CSAF = csaf(
    csaf_vulnerability("P3"),
    csaf_vulnerability(
        cve="CVE-2026-0002",
        ids=[{"system_name": "x", "text": "GHSA-b"}],
        product_status={"known_affected": ["P1"], "under_investigation": ["P4"]},
        flags=[],
        remediations=[{"category": "none_available", "details": "Wait.", "group_ids": ["G"]}],
    ),
    tree={
        "full_product_names": [csaf_product(1, OPENSSL), csaf_product(2, IMAGE)],
        "branches": [
            {"category": "product_version", "name": "1.2", "product": csaf_product(4, "pkg:deb/debian/zlib1g")}
        ],
        "product_groups": [{"group_id": "G", "product_ids": ["P1", "P4"]}],
        "relationships": [
            {
                "category": "default_component_of",
                "full_product_name": csaf_product(3),
                "product_reference": "P1",
                "relates_to_product_reference": "P2",
            }
        ],
    },
)
TERMS = VexTerms(accepted_justifications=frozenset(Justification), investigation_days=30, not_affected_days=365)
PACKAGES = {("deb", "openssl", OPENSSL)}


def judge(read: tuple[VexStatement, ...]) -> None:
    """Check that reading and matching agree with the statements."""
    assert all(VexStatement.model_validate_json(each.model_dump_json()) == each for each in read)
    try:
        index = VexIndex.of(read, NOON)
    except ClockWrong:
        assert any(each.at > NOON for each in read)
        return
    (found,) = find_vex_answers([finding()], Image(DIGEST, PACKAGES), index, TERMS, NOON)
    about = [each for each in read if CVE in {name.upper() for name in (each.vulnerability, *each.aliases)}]
    if found is None:
        return
    if isinstance(found, VexContradiction):
        assert len({each.status for each in about}) > 1
    else:
        assert (found.status, found.justification) in {(each.status, each.justification) for each in about}


@tries(400)
@given(changed(OPENVEX) | changed(CSAF))
def test_changed_document_keeps_every_statement_or_is_refused(document):
    """A statement is never left out, whatever else is wrong."""
    try:
        read = read_vex(json.dumps(document).encode(), "a.json")
    except DeclarationInvalid as error:
        assert str(error).startswith("a.json: ")
        return
    if "@context" in document:
        assert len(read) == len(document["statements"])
    else:
        products = [product for each in read for product in each.products]
        stated = sum(len(ids) for each in document["vulnerabilities"] for ids in statuses(each))
        assert len(products) == stated
    judge(read)


def statuses(vulnerability):
    """Return the products of each status, each once."""
    kinds = ("known_not_affected", "known_affected", "fixed", "under_investigation")
    return [set(vulnerability["product_status"].get(kind) or ()) for kind in kinds]


@given(JSON.map(json.dumps) | st.text(max_size=50) | st.integers(0, 2000).map(lambda size: json.dumps(OPENVEX)[:size]))
def test_document_of_other_shape_is_refused(text):
    """The input is other JSON, text, or a truncated document."""
    try:
        read = read_vex(text.encode("utf-8", "surrogatepass"), "a.json")
    except DeclarationInvalid:
        return
    assert json.loads(text) == OPENVEX and len(read) == 2


words = st.text(min_size=1, max_size=20).filter(lambda text: text.strip() != "" and text.isprintable())


@given(
    names=st.lists(words, min_size=1, max_size=4),
    status=st.sampled_from(VexStatus),
    justification=st.none() | st.sampled_from(Justification),
    impact=st.just("") | words,
    action=st.just("") | words,
    author=words,
)
def test_document_of_ours_is_refused_or_read_as_stated(names, status, justification, impact, action, author):
    """What `cscm vex create` writes is accepted by the gates."""
    image = ImageRef(repository="curated/hello", digest=DIGEST)
    parts = {"justification": justification, "impact": impact, "action": action}
    try:
        document = make_vex_document(image, names, status, author, NOON, **parts)
    except DeclarationInvalid:
        return
    read = read_vex(document.encode(), "ours")

    assert [each.vulnerability for each in read] == names
    assert {(each.status, each.justification, each.text, each.author, each.at) for each in read} == {
        (status, justification, impact or action, author, NOON)
    }


@given(st.permutations(range(6)), st.lists(st.sampled_from(VexStatus), min_size=6, max_size=6), st.data())
def test_conclusion_does_not_depend_on_the_order_of_documents(order, stated, data):
    """Files come in any order."""
    more: dict[str, dict[str, Any]] = {
        VexStatus.AFFECTED: {"action_statement": "x"},
        VexStatus.NOT_AFFECTED: {"justification": "component_not_present"},
    }
    documents = [
        openvex(
            openvex_statement(**{"status": each, "justification": None, **more.get(each, {})}),
            timestamp=(NOON - timedelta(days=data.draw(st.integers(0, 60)))).isoformat(),
            version=data.draw(st.integers(1, 3)),
            **{"@id": f"urn:{data.draw(st.integers(1, 2))}"},
        )
        for each in stated
    ]

    def conclude(chosen):
        index = VexIndex.of(statements(*chosen), NOON)
        return find_vex_answers([finding()], Image(DIGEST, PACKAGES), index, TERMS, NOON)

    assert conclude(documents) == conclude([documents[number] for number in order])
