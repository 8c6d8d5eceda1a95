"""read_push: an ECR event is a pushed image of dev/*, an attachment or unreadable."""

import pytest

from supply_chain.errors import EventUnreadable
from supply_chain.model.image import ImageRef
from supply_chain.promotion.pushes import read_push
from tests.support.pushes import DIGEST, GONE, message


def test_push_event_names_image_by_digest():
    """The tag is a label, and the AWS event ID detects duplicates."""
    pushed = read_push(message())

    assert pushed is not None
    assert pushed.image == ImageRef(repository="dev/hello", digest=DIGEST)
    assert (pushed.tag, pushed.event) == ("3f2a1c0", "13cde686-328b-6117-af20-0e5566167482")


def test_push_event_ignores_unknown_keys():
    """AWS adds keys, such as media types, to newer events."""
    assert read_push(message({"replay-name": "x"}, manifest_media_type="application/vnd.oci.image.manifest.v1+json"))


@pytest.mark.parametrize("tag", ["sha256-" + "a" * 64, "sha256-abc.sig", "", GONE])
def test_push_event_of_attachment_or_untagged_manifest_is_ignored(tag):
    """Signatures, SBOMs and the manifests of an index are pushed too."""
    assert read_push(message(image_tag=tag)) is None


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not json",
        "[]",
        "null",
        "{}",
        message({"source": "aws.s3"}),
        message({"detail-type": "ECR Image Scan"}),
        message({"detail": "text"}),
        message({"id": ""}),
        message({"id": GONE}),
        message({"time": "yesterday"}),
        message(result="FAILURE"),
        message(action_type="DELETE"),
        message(image_digest="sha256:abc"),
        message(image_digest=GONE),
        message(image_tag=3),
        message(repository_name="../dev/hello"),
        message(repository_name="curated/hello"),
        message(repository_name="device/hello"),
        message(repository_name="evidence/curation/hello"),
    ],
)
def test_unreadable_push_event_raises_error_with_reason(body):
    """The message goes to the dead-letter queue; the first line of the error is the reason."""
    with pytest.raises(EventUnreadable, match=r"not a push event of ECR: .+"):
        read_push(body)
