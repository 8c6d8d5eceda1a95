"""VEX documents as issuers write them, and statements read from them."""

from __future__ import annotations

import json
from typing import Any

from supply_chain.vulnerability.vex.reading import read_vex
from supply_chain.vulnerability.vex.statement import VexStatement
from tests.support.builders import DIGEST

CVE = "CVE-2026-0001"
IMAGE = f"pkg:oci/hello@{DIGEST.replace(':', '%3A')}?repository_url=registry.example.com/hello"
OPENSSL = "pkg:deb/debian/openssl@3.0.1?arch=amd64&distro=debian-12"


def openvex_statement(product: str | dict[str, Any] = IMAGE, **changes: Any) -> dict[str, Any]:
    """Return a statement about a product; None removes a field."""
    statement = {
        "vulnerability": {"name": CVE},
        "products": [{"@id": product} if isinstance(product, str) else product],
        "status": "not_affected",
        "justification": "vulnerable_code_not_present",
        **changes,
    }
    return {key: value for key, value in statement.items() if value is not None}


def openvex(*statements: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return an OpenVEX document; None removes a field."""
    document = {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://openvex.dev/docs/example/vex-1",
        "author": "psirt@example.com",
        "timestamp": "2026-11-23T12:00:00Z",
        "version": 1,
        "statements": list(statements) or [openvex_statement()],
        **changes,
    }
    return {key: value for key, value in document.items() if value is not None}


def csaf_product(number: int, purl: str | None = None) -> dict[str, Any]:
    """Return the full product name `P<number>`."""
    helper = {"product_identification_helper": {"purl": purl}} if purl else {}
    return {"name": f"Product {number}", "product_id": f"P{number}", **helper}


def csaf_vulnerability(*products: str, **changes: Any) -> dict[str, Any]:
    """Return a vulnerability that does not affect these products; None removes a field."""
    ids = list(products) or ["P1"]
    vulnerability = {
        "cve": CVE,
        "notes": [{"category": "description", "text": "A buffer is read beyond its end."}],
        "product_status": {"known_not_affected": ids},
        "flags": [{"label": "component_not_present", "product_ids": ids}],
        **changes,
    }
    return {key: value for key, value in vulnerability.items() if value is not None}


def csaf(*vulnerabilities: dict[str, Any], tree: dict[str, Any] | None = None, **tracking: Any) -> dict[str, Any]:
    """Return a CSAF document of the profile VEX; unless there is a product tree, `P1` is the image."""
    return {
        "document": {
            "category": "csaf_vex",
            "csaf_version": "2.0",
            "notes": [{"category": "summary", "text": "An example."}],
            "publisher": {"category": "vendor", "name": "Example PSIRT", "namespace": "https://psirt.example.com"},
            "title": "An example",
            "tracking": {
                "current_release_date": "2026-11-23T12:00:00.000Z",
                "id": "2026-EX-1",
                "initial_release_date": "2026-11-20T12:00:00.000Z",
                "revision_history": [{"date": "2026-11-20T12:00:00.000Z", "number": "1", "summary": "First."}],
                "status": "final",
                "version": "1",
                **tracking,
            },
        },
        "product_tree": tree or {"full_product_names": [csaf_product(1, IMAGE)]},
        "vulnerabilities": list(vulnerabilities) or [csaf_vulnerability()],
    }


def statements(*documents: dict[str, Any], signer: str = "") -> tuple[VexStatement, ...]:
    """Return the statements of documents."""
    return tuple(each for document in documents for each in read_vex(json.dumps(document).encode(), "a.json", signer))
