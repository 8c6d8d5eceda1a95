"""Cache files of one user."""

from supply_chain.adapters.files import free_space
from supply_chain.adapters.files.private_files import PrivateFiles


def test_cache_stores_nothing_if_free_space_is_low(tmp_path, monkeypatch):
    """What a cache takes would be missing elsewhere."""
    cache = PrivateFiles(tmp_path / "cache")
    cache.write("a", "b", b"content")
    monkeypatch.setattr(free_space, "free_bytes", lambda _: free_space.RESERVE - 1)

    cache.write("a", "c", b"content")
    assert cache.read("a", "b") == b"content" and cache.read("a", "c") is None
