"""Finding an image by any of its names, and the errors for an unknown or ambiguous one."""

import pytest

from supply_chain.errors import DeclarationInvalid, ImageNotFound
from supply_chain.fleet.find import find, find_stored
from supply_chain.model.image import ImageRef
from tests.support.snapshots import holding


def digest(number):
    return f"sha256:{number:064x}"


def ref(number, repository="curated/hello"):
    return ImageRef(repository=repository, digest=digest(number))


@pytest.fixture
def catalogue():
    return holding(ref(1))


@pytest.mark.parametrize("text", [f"curated/hello@{digest(1)}", f"dev/hello@{digest(1)}", digest(1), f" {digest(1)} "])
def test_find_accepts_reference_or_digest(catalogue, text):
    """Archived images are found too, and the name in `dev/` means the same image."""
    assert find_stored(text, catalogue) == ref(1)


def test_find_does_not_look_up_complete_reference(catalogue):
    """The step that needs the image reports that it is missing."""
    assert find(f"curated/hello@{digest(77)}", "curated/", catalogue) == ref(77)
    with pytest.raises(DeclarationInvalid, match=r"dev/hello is not one of the repositories curated/…"):
        find(f"dev/hello@{digest(1)}", "curated/", catalogue)


def test_find_accepts_unique_digest_prefix(catalogue):
    """Tables show digests in this short form."""
    assert find_stored("0" * 12, catalogue) == ref(1)
    assert find_stored(f"curated/hello@{'0' * 12}", catalogue) == ref(1)
    assert find_stored(f"curated/hello@sha256:{'0' * 12}", catalogue) == ref(1)
    with pytest.raises(ImageNotFound, match=r"curated/hell does not have sha256:0{12}"):
        find_stored(f"curated/hell@{'0' * 12}", catalogue)


def test_find_names_repository_that_has_the_digest(catalogue):
    """A decision about a misspelt repository would have no effect."""
    with pytest.raises(ImageNotFound, match=r"curated/helo does not have .*\. curated/hello has it"):
        find_stored(f"curated/helo@{digest(1)}", catalogue)
    with pytest.raises(ImageNotFound, match="No repository curated/… has it"):
        find_stored(f"curated/hello@{digest(77)}", catalogue)


def test_find_raises_for_missing_or_ambiguous_image(catalogue):
    """The message says how to name the image."""
    with pytest.raises(ImageNotFound, match="No repository curated/… has"):
        find_stored(digest(77), catalogue)

    twice = holding(ref(1), ref(1, "curated/shop"))
    with pytest.raises(DeclarationInvalid, match="is in several repositories: curated/hello, curated/shop"):
        find_stored(digest(1), twice)
    with pytest.raises(DeclarationInvalid, match=r"is in several repositories: curated/hello@sha256:0.*@sha256:0"):
        find_stored("0" * 12, holding(ref(1), ref(2)))


@pytest.mark.parametrize("text", [f"evidence/lifecycle/hello@{digest(1)}", "curated/hello:tag", f"other/x@{digest(1)}"])
def test_find_refuses_tag_and_evidence_repository(catalogue, text):
    """A tag does not identify content, and evidence is no image."""
    with pytest.raises(DeclarationInvalid):
        find_stored(text, catalogue)
