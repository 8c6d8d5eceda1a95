"""Arbitrary manifests and page tokens in the registry of the laptop."""

import json

from hypothesis import given
from hypothesis import strategies as st

from cscm_laptop.emulator.api import ApiError, page
from cscm_laptop.emulator.images import detail, holders
from tests.support.examples import tries
from tests.unit.fuzz.changes import JSON, changed

DIGEST = "sha256:" + "a" * 64
MANIFEST = {
    "config": {"digest": DIGEST, "size": 1, "mediaType": "application/vnd.oci.image.config.v1+json"},
    "layers": [{"digest": DIGEST, "size": 2}],
    "manifests": [{"digest": "sha256:" + "b" * 64, "size": 3}],
    "subject": {"digest": DIGEST},
    "artifactType": "application/sbom",
}


@tries(300)
@given(st.one_of(JSON, changed(MANIFEST)))
def test_image_with_any_manifest_is_described(manifest):
    """One odd image must not break the listing of its repository."""
    record = {
        "registryId": "000000000000",
        "repositoryName": "dev/app",
        "imageDigest": DIGEST,
        "imageTags": [],
        "imagePushedAt": 1.5,
        "imageManifestMediaType": "application/json",
        "imageManifest": json.dumps(manifest),
    }

    found = detail(record, [])

    assert isinstance(found["imageSizeInBytes"], int) and found["imageSizeInBytes"] >= 0
    assert {type(found.get(name, "")) for name in ("artifactMediaType", "subjectManifestDigest")} == {str}
    assert holders([record], "sha256:" + "c" * 64) == []


@tries(300)
@given(st.one_of(st.text(), st.text(alphabet="ABCDEabcde0123456789=-_")))
def test_arbitrary_page_token_is_read_or_refused(token):
    """The error is the one of the API."""
    try:
        found, _ = page(["1", "2"], lambda each: (each,), {"nextToken": token}, usual=10, most=10)
    except ApiError as error:
        assert error.code == "InvalidParameterException"
    else:
        assert set(found) <= {"1", "2"}
