"""Tests of build contexts: the snapshot itself, or a copy with the root filesystem that a base declares."""

import pytest

from supply_chain.adapters.docker.build_context import build_context
from supply_chain.adapters.files import free_space
from supply_chain.errors import DiskFull, SourceInvalid


@pytest.fixture
def snapshot(make, tmp_path):
    def build(declaration):
        return make.snapshot(tmp_path / "snapshot", declaration=declaration, source=make.source(committed=7))

    return build


def never(*_):
    raise AssertionError("there is nothing to make")


@pytest.mark.parametrize("kind", ["declaration", "base"])
def test_build_context_without_rootfs_is_the_snapshot(make, snapshot, kind):
    """No copy is made."""
    taken = snapshot(getattr(make, kind)())

    with build_context(taken, never) as place:
        assert place == taken.context


def test_build_context_with_rootfs_is_a_copy(make, snapshot):
    """The snapshot stays unchanged."""
    asked = []

    def rootfs(wanted, target, epoch, work):
        asked.append((wanted.packages, epoch, work.exists()))
        target.write_text("the root filesystem")

    taken = snapshot(make.base(rootfs={"packages": ["python3"]}))
    with build_context(taken, rootfs) as place:
        assert (place / "rootfs.tar").read_text() == "the root filesystem"
        assert (place / "Dockerfile").read_text() == "FROM scratch\n"
    assert asked == [(("python3",), 7, False)]
    assert not place.exists()
    assert not (taken.context / "rootfs.tar").exists()


def test_build_context_copy_is_removed_if_rootfs_fails(make, snapshot, tmp_path, monkeypatch):
    """A failed build removes the copy in the same way."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    with (
        pytest.raises(AssertionError),
        build_context(snapshot(make.base(rootfs={"packages": ["python3"]})), never),
    ):
        pass
    assert list(temporary.iterdir()) == []


def test_build_context_copy_ends_before_disk_is_full(make, snapshot, monkeypatch):
    """A context may have gigabytes, and the disk is one that everything else needs, too."""
    monkeypatch.setattr(free_space, "free_bytes", lambda _: free_space.RESERVE - 1)

    with (
        pytest.raises(DiskFull, match="The build context is not copied"),
        build_context(snapshot(make.base(rootfs={"packages": ["python3"]})), never),
    ):
        pass


def test_build_context_rootfs_replaces_symlink_of_same_name(make, snapshot, tmp_path):
    """The root filesystem must not be written to the target of the symbolic link."""
    taken = snapshot(make.base(rootfs={"packages": ["python3"]}))
    (tmp_path / "outside").write_text("of the machine")
    (taken.context / "rootfs.tar").symlink_to(tmp_path / "outside")

    with build_context(taken, lambda wanted, target, *_: target.write_text("new")) as place:
        assert not (place / "rootfs.tar").is_symlink()
    assert (tmp_path / "outside").read_text() == "of the machine"


def test_build_context_with_directory_of_the_rootfs_name_is_refused(make, snapshot):
    """It can be neither replaced nor overwritten."""
    taken = snapshot(make.base(rootfs={"packages": ["python3"]}))
    (taken.context / "rootfs.tar").mkdir()

    with pytest.raises(SourceInvalid, match="needs that name"), build_context(taken, never):
        pass
