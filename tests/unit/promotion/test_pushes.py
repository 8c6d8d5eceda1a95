"""What ECR says of a push: an image of dev/*, an attachment, or nothing that can be read."""

import json

import pytest

from supply_chain.errors import EventUnreadable
from supply_chain.model.image import ImageRef
from supply_chain.promotion.pushes import read_push

DIGEST = "sha256:" + "a" * 64
GONE = object()


def message(envelope=None, **detail):
    """The event as Amazon's user guide shows it, changed; `GONE` leaves a key out."""
    said = {
        "result": "SUCCESS",
        "repository-name": "dev/hello",
        "image-digest": DIGEST,
        "action-type": "PUSH",
        "image-tag": "3f2a1c0",
        **{key.replace("_", "-"): value for key, value in detail.items()},
    }
    whole = {
        "version": "0",
        "id": "13cde686-328b-6117-af20-0e5566167482",
        "detail-type": "ECR Image Action",
        "source": "aws.ecr",
        "account": "123456789012",
        "time": "2026-11-24T12:00:00Z",
        "region": "us-west-2",
        "resources": [],
        "detail": {key: value for key, value in said.items() if value is not GONE},
        **(envelope or {}),
    }
    return json.dumps({key: value for key, value in whole.items() if value is not GONE})


def test_a_push_names_an_image_by_its_digest():
    """With the tag as a label, and AWS's name for the event, which may come twice."""
    pushed = read_push(message())

    assert pushed is not None
    assert pushed.image == ImageRef(repository="dev/hello", digest=DIGEST)
    assert (pushed.tag, pushed.event) == ("3f2a1c0", "13cde686-328b-6117-af20-0e5566167482")


def test_what_aws_adds_later_is_no_fault():
    """As the types of media that newer events name."""
    assert read_push(message({"replay-name": "x"}, manifest_media_type="application/vnd.oci.image.manifest.v1+json"))


@pytest.mark.parametrize("tag", ["sha256-" + "a" * 64, "sha256-abc.sig", "", GONE])
def test_an_attachment_or_an_untagged_part_starts_nothing(tag):
    """Signatures and SBOMs are pushed too, and so are an index's children."""
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
def test_anything_else_is_told_with_the_reason(body):
    """It goes to the dead-letter queue; the first line is the reason that an operator reads."""
    with pytest.raises(EventUnreadable, match=r"no push that ECR tells of: .+"):
        read_push(body)
