"""An image is found however a person names it, and what names none or several is told."""

import pytest

from supply_chain.errors import DeclarationInvalid, ImageNotFound
from supply_chain.fleet.find import find, find_stored
from supply_chain.model.image import ImageRef, StorageStatus


def digest(number):
    return f"sha256:{number:064x}"


def ref(number, repository="curated/hello"):
    return ImageRef(repository=repository, digest=digest(number))


class Held:
    """A registry that holds some images."""

    def __init__(self, *refs):
        self.refs = refs

    def having(self, begins, prefix):
        return tuple(r for r in self.refs if r.digest.startswith(begins) and r.repository.startswith(prefix))

    def status(self, ref):
        if ref not in self.refs:
            raise ImageNotFound(f"{ref} is not there.\nLook.")
        return StorageStatus.ARCHIVED


@pytest.fixture
def catalogue():
    return Held(ref(1))


@pytest.mark.parametrize("said", [f"curated/hello@{digest(1)}", f"dev/hello@{digest(1)}", digest(1), f" {digest(1)} "])
def test_an_image_is_found_however_a_person_names_it(catalogue, said):
    """Archived ones too; what development offers is the same one."""
    assert find_stored(said, catalogue) == ref(1)


def test_what_is_named_whole_is_not_looked_for(catalogue):
    """The step that needs it says that it is not there."""
    assert find(f"curated/hello@{digest(77)}", "curated/", catalogue) == ref(77)
    with pytest.raises(DeclarationInvalid, match=r"dev/hello is not one of the repositories curated/…"):
        find(f"dev/hello@{digest(1)}", "curated/", catalogue)


def test_the_beginning_of_a_digest_is_enough_where_no_other_begins_so(catalogue):
    """As tables show it."""
    assert find_stored("0" * 12, catalogue) == ref(1)
    assert find_stored(f"curated/hello@{'0' * 12}", catalogue) == ref(1)
    assert find_stored(f"curated/hello@sha256:{'0' * 12}", catalogue) == ref(1)
    with pytest.raises(ImageNotFound, match=r"curated/hell does not have sha256:0{12}"):
        find_stored(f"curated/hell@{'0' * 12}", catalogue)


def test_a_misspelt_repository_is_told_with_the_one_that_has_it(catalogue):
    """What is said of it would hold for nothing."""
    with pytest.raises(ImageNotFound, match=r"curated/helo does not have .*\. curated/hello has it"):
        find_stored(f"curated/helo@{digest(1)}", catalogue)
    with pytest.raises(ImageNotFound, match="No repository curated/… has it"):
        find_stored(f"curated/hello@{digest(77)}", catalogue)


def test_an_image_that_is_nowhere_or_twice_is_told(catalogue):
    """With how to name it."""
    with pytest.raises(ImageNotFound, match="No repository curated/… has"):
        find_stored(digest(77), catalogue)

    twice = Held(ref(1), ref(1, "curated/shop"))
    with pytest.raises(DeclarationInvalid, match="is in several repositories: curated/hello, curated/shop"):
        find_stored(digest(1), twice)
    with pytest.raises(DeclarationInvalid, match=r"is in several repositories: curated/hello@sha256:0.*@sha256:0"):
        find_stored("0" * 12, Held(ref(1), ref(2)))


@pytest.mark.parametrize("said", [f"evidence/lifecycle/hello@{digest(1)}", "curated/hello:tag", f"other/x@{digest(1)}"])
def test_what_is_no_image_is_refused(catalogue, said):
    """A tag names no content, and what is said of images is none."""
    with pytest.raises(DeclarationInvalid):
        find_stored(said, catalogue)
