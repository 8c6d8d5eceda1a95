"""Build contexts: the snapshot's own, or a copy with the root filesystem that a base declares."""

import pytest

from supply_chain.adapters.docker.build_context import build_context


@pytest.fixture
def snapshot(make, tmp_path):
    def build(manifest):
        return make.snapshot(tmp_path / "snapshot", manifest=manifest, source=make.source(committed=7))

    return build


def never(*_):
    raise AssertionError("there is nothing to make")


@pytest.mark.parametrize("kind", ["manifest", "base"])
def test_without_a_root_filesystem_the_snapshot_itself_is_built(make, snapshot, kind):
    """No copy is made."""
    taken = snapshot(getattr(make, kind)())

    with build_context(taken, never) as place:
        assert place == taken.context


def test_a_base_gets_its_root_filesystem_in_a_copy(make, snapshot):
    """The snapshot stays as it is."""
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


def test_a_copy_is_gone_when_the_root_filesystem_cannot_be_made(make, snapshot, tmp_path, monkeypatch):
    """And when the build fails, for the same reason."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    with (
        pytest.raises(AssertionError),
        build_context(snapshot(make.base(rootfs={"packages": ["python3"]})), never),
    ):
        pass
    assert list(temporary.iterdir()) == []


def test_a_root_filesystem_takes_the_place_of_a_link_of_its_name(make, snapshot, tmp_path):
    """It is not written to where the link leads."""
    taken = snapshot(make.base(rootfs={"packages": ["python3"]}))
    (tmp_path / "outside").write_text("of the machine")
    (taken.context / "rootfs.tar").symlink_to(tmp_path / "outside")

    with build_context(taken, lambda wanted, target, *_: target.write_text("new")) as place:
        assert not (place / "rootfs.tar").is_symlink()
    assert (tmp_path / "outside").read_text() == "of the machine"
