"""The contract of the port `KeyStore`, for KMS in memory and the real one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from supply_chain.curation.encrypt import KeyStore
from supply_chain.errors import AccessDenied, KeyUnusable

CONTEXT = {"image": "sha256:" + "a" * 64}
ABSENT = "alias/cscm-absent"


@dataclass(frozen=True)
class Bench:
    """KMS, and the helpers that a test needs.

    `create` creates an enabled symmetric key, which is rotated every year if the argument is true, with an alias; it
    returns ARN and alias. `disable` disables a key. `denied` is KMS for a role without any permission.
    """

    kms: KeyStore
    create: Callable[[bool], tuple[str, str]]
    disable: Callable[[str], object]
    denied: KeyStore


class KmsContract:
    """The tests. A subclass has a fixture `bench`."""

    def test_state_of_key_is_read_by_each_of_its_names(self, bench: Bench) -> None:
        """Settings name a key by alias or id, and evidence by its ARN."""
        arn, alias = bench.create(True)

        states = [bench.kms.state(name) for name in (arn, alias, arn.rpartition("/")[2])]

        assert [each.arn for each in states] == [arn] * 3
        assert {(each.enabled, each.customer_managed, each.rotates) for each in states} == {(True, True, True)}

    def test_rotation_is_reported_only_if_it_is_requested(self, bench: Bench) -> None:
        """Reading it needs a permission of its own."""
        keys = [bench.create(rotated)[0] for rotated in (True, False)]

        assert [bench.kms.state(arn).rotates for arn in keys] == [True, False]
        assert [bench.kms.state(arn, rotation=False).rotates for arn in keys] == [None, None]

    def test_wrapped_secret_is_unwrapped_with_its_key_and_context_only(self, bench: Bench) -> None:
        """A wrapped key of one image does not open another image."""
        (key, alias), (other, _) = bench.create(True), bench.create(True)

        for secret in (b"private", b"x" * 4096):
            wrapped = bench.kms.wrap(alias, secret, CONTEXT)
            assert secret not in wrapped
            assert bench.kms.unwrap(key, wrapped, CONTEXT) == secret
        for context in ({"image": "sha256:" + "b" * 64}, {}):
            with pytest.raises(KeyUnusable):
                bench.kms.unwrap(key, wrapped, context)
        with contextlib.suppress(KeyUnusable):  # the emulator's KMS returns other bytes instead
            assert bench.kms.unwrap(other, wrapped, CONTEXT) != secret

    def test_disabled_key_has_a_state_and_opens_nothing(self, bench: Bench) -> None:
        """The step that needs the key names the reason before it writes anything."""
        key, _ = bench.create(True)
        wrapped = bench.kms.wrap(key, b"private", CONTEXT)

        bench.disable(key)

        assert not bench.kms.state(key).enabled
        with pytest.raises(KeyUnusable):
            bench.kms.wrap(key, b"private", CONTEXT)
        with pytest.raises(KeyUnusable):
            bench.kms.unwrap(key, wrapped, CONTEXT)

    def test_unknown_key_is_unusable(self, bench: Bench) -> None:
        """The error is not that of a missing permission."""
        for call in (
            lambda: bench.kms.state(ABSENT),
            lambda: bench.kms.wrap(ABSENT, b"private", CONTEXT),
            lambda: bench.kms.unwrap(ABSENT, b"wrapped", CONTEXT),
        ):
            with pytest.raises(KeyUnusable):
                call()

    def test_role_without_permission_is_denied(self, bench: Bench) -> None:
        """Only execution may unwrap, and only curation may wrap."""
        key, _ = bench.create(True)
        wrapped = bench.kms.wrap(key, b"private", CONTEXT)

        for call in (
            lambda: bench.denied.state(key),
            lambda: bench.denied.wrap(key, b"private", CONTEXT),
            lambda: bench.denied.unwrap(key, wrapped, CONTEXT),
        ):
            with pytest.raises(AccessDenied):
                call()
