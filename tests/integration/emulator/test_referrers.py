"""The OCI referrers endpoint, which lets evidence be added in immutable repositories."""

from __future__ import annotations

import concurrent.futures

import pytest

from tests.support.emulator import EMPTY, MANIFEST, Emulator, artifact, put_blob, put_manifest, sha

pytestmark = pytest.mark.real


def test_concurrent_attachments_are_all_listed_and_survive_kill_9(emulator: Emulator) -> None:
    """The repository is immutable, and the attachments create no tag."""
    emulator.repository("curated/app", imageTagMutability="IMMUTABLE")
    password = emulator.login()
    subject = emulator.push(password, "curated/app:one").stdout.strip().partition("@")[2]
    bodies = [artifact(subject, number) for number in range(20)]
    with emulator.http(password) as http, concurrent.futures.ThreadPoolExecutor(8) as pool:
        put_blob(http, "curated/app", EMPTY)
        answers = list(pool.map(lambda body: put_manifest(http, "curated/app", sha(body), body), bodies))
    assert {(a.status_code, a.headers.get("OCI-Subject")) for a in answers} == {(201, subject)}

    emulator.kill_and_restart()

    with emulator.http(password) as http:
        listed = http.get(f"/v2/curated/app/referrers/{subject}")
        tags = http.get("/v2/curated/app/tags/list").json()["tags"]
    assert listed.headers["Content-Type"] == "application/vnd.oci.image.index.v1+json"
    assert {d["digest"] for d in listed.json()["manifests"]} == {sha(body) for body in bodies}
    assert tags == ["one"]


def test_referrers_have_type_and_annotations_and_can_be_filtered(emulator: Emulator) -> None:
    """The response names the filter that was applied."""
    emulator.repository("dev/app")
    subject = sha(b"not pushed yet")
    with emulator.http(emulator.login()) as http:
        put_blob(http, "dev/app", EMPTY)
        sbom, other = artifact(subject, 1, "application/sbom"), artifact(subject, 2)
        for body in (sbom, other):
            put_manifest(http, "dev/app", sha(body), body).raise_for_status()

        filtered = http.get(f"/v2/dev/app/referrers/{subject}", params={"artifactType": "application/sbom"})
        none = http.get(f"/v2/dev/app/referrers/{sha(b'x')}")

    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    assert filtered.json()["manifests"] == [
        {
            "mediaType": MANIFEST,
            "digest": sha(sbom),
            "size": len(sbom),
            "artifactType": "application/sbom",
            "annotations": {"number": "1"},
        }
    ]
    assert (none.status_code, none.json()["manifests"]) == (200, [])
