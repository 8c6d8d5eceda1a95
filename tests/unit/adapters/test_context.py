"""Build contexts: the application's own directory, or a copy with the root filesystem it declares."""

import pytest

from supply_chain.adapters.context import build_context


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "application"
    (path / "inner").mkdir(parents=True)
    (path / "Dockerfile").write_text("FROM scratch\n")
    return path


def never(*_):
    raise AssertionError("there is nothing to make")


def test_a_service_is_built_where_it_lies(make, directory):
    """No copy is made."""
    with build_context(make.manifest(), directory, 7, never) as place:
        assert place == directory


def test_a_base_without_a_root_filesystem_is_built_where_it_lies(make, directory):
    """The same."""
    with build_context(make.base(), directory, 7, never) as place:
        assert place == directory


def test_a_base_gets_its_root_filesystem_in_a_copy(make, directory):
    """The application's own directory stays as it is."""
    asked = []

    def rootfs(wanted, target, epoch, work):
        asked.append((wanted.packages, epoch, work.exists()))
        target.write_text("the root filesystem")

    manifest = make.base(rootfs={"packages": ["python3"]}, build={"context": "inner"})
    with build_context(manifest, directory, 7, rootfs) as place:
        assert (place / "inner" / "rootfs.tar").read_text() == "the root filesystem"
        assert (place / "Dockerfile").read_text() == "FROM scratch\n"
    assert asked == [(("python3",), 7, False)]
    assert not place.exists()
    assert sorted(path.name for path in directory.rglob("*")) == ["Dockerfile", "inner"]


def test_a_copy_is_gone_when_the_root_filesystem_cannot_be_made(make, directory, tmp_path, monkeypatch):
    """And when the build fails, for the same reason."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    with pytest.raises(AssertionError), build_context(make.base(rootfs={"packages": ["python3"]}), directory, 7, never):
        pass
    assert list(temporary.iterdir()) == []


def test_links_are_copied_as_links(make, directory, tmp_path):
    """A copy holds nothing from outside, and a link that leads nowhere stops nothing."""
    (tmp_path / "secret").write_text("of the machine")
    (directory / "link").symlink_to(tmp_path / "secret")
    (directory / "nowhere").symlink_to("nothing")

    with build_context(make.base(rootfs={"packages": ["python3"]}), directory, 7, lambda *_: None) as place:
        assert (place / "link").is_symlink() and (place / "nowhere").is_symlink()
