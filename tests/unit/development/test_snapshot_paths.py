"""The rules for the names and links of a snapshot."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.development.snapshot_paths import check_collisions, check_links
from supply_chain.errors import SourceInvalid


@given(st.lists(st.text(st.sampled_from("aAbBéÉ/"), min_size=1, max_size=6)))
def test_check_collisions_refuses_exactly_names_that_differ_in_case(paths):
    """A case-insensitive file system would merge such names."""
    plain = ["/".join(part for part in path.split("/") if part) for path in paths]
    every = {"/".join(path.split("/")[:n]) for path in plain for n in range(1, path.count("/") + 2)} - {""}
    collide = len({path.casefold() for path in every}) < len(every)

    if collide:
        with pytest.raises(SourceInvalid):
            check_collisions(path for path in plain if path)
    else:
        check_collisions(path for path in plain if path)


steps = st.sampled_from(["..", "a", "b", "c", ".", ""])


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "a/b", "b/c"]), st.lists(steps, min_size=1, max_size=5)))
def test_accepted_link_resolves_inside_the_context(tmp_path_factory, links):
    """The result is compared with the resolution of the kernel."""
    targets = {path: "/".join(parts) for path, parts in links.items()}
    targets = {path: target for path, target in targets.items() if not any(path.startswith(f"{p}/") for p in targets)}
    try:
        check_links(targets)
    except SourceInvalid:
        return
    root = tmp_path_factory.mktemp("links") / "context"
    root.mkdir()
    for path, target in targets.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target)
    assert all((root / path).resolve().is_relative_to(root) for path in targets)


class Lookups(dict[str, str]):
    """Links that count the characters of the paths that are looked up in them."""

    characters = 0

    def get(self, path, default=None):
        self.characters += len(path)
        return super().get(path, default)

    def __getitem__(self, path):
        self.characters += len(path)
        return super().__getitem__(path)


def test_link_check_takes_linear_time():
    """With quadratic time, 100,000 links of 1,000 parts would take hours."""
    links = Lookups({f"link{n}": "/".join(["d"] * 1000) for n in range(20)})

    check_links(links)

    assert links.characters <= sum(map(len, links.values())) * 2


def test_link_check_calls_checkpoint_in_chain_of_links():
    """A chain of few links can still take long."""
    links = {f"{n}": f"{n + 1}" for n in range(30)}
    asked = itertools.count()

    def checkpoint():
        if next(asked) > 60:
            raise SourceInvalid("enough")

    with pytest.raises(SourceInvalid, match="enough"):
        check_links(links, checkpoint)
