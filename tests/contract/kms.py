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
class Harness:
    """KMS, and the helpers that a test needs.

    `create` creates an enabled symmetric key, which is rotated every year if the argument is true, with an alias; it
    returns ARN and alias. `disable` disables a key. `denied` is KMS for a role without any permission.
    """

    kms: KeyStore
    create: Callable[[bool], tuple[str, str]]
    disable: Callable[[str], object]
    denied: KeyStore


class KmsContract:
    """The tests. A subclass has a fixture `harness`."""

    def test_state_of_key_is_read_by_each_of_its_names(self, harness: Harness) -> None:
        """Settings name a key by alias or id, and evidence by its ARN."""
        arn, alias = harness.create(True)

        states = [harness.kms.state(name) for name in (arn, alias, arn.rpartition("/")[2])]

        assert [each.arn for each in states] == [arn] * 3
        assert {(each.enabled, each.customer_managed, each.rotates) for each in states} == {(True, True, True)}

    def test_rotation_is_reported_only_if_it_is_requested(self, harness: Harness) -> None:
        """Reading it needs a permission of its own."""
        keys = [harness.create(rotated)[0] for rotated in (True, False)]

        assert [harness.kms.state(arn).rotates for arn in keys] == [True, False]
        assert [harness.kms.state(arn, rotation=False).rotates for arn in keys] == [None, None]

    def test_wrapped_secret_is_unwrapped_with_its_key_and_context_only(self, harness: Harness) -> None:
        """A wrapped key of one image does not open another image."""
        (key, alias), (other, _) = harness.create(True), harness.create(True)

        for secret in (b"private", b"x" * 4096):
            wrapped = harness.kms.wrap(alias, secret, CONTEXT)
            assert secret not in wrapped
            assert harness.kms.unwrap(key, wrapped, CONTEXT) == secret
        for context in ({"image": "sha256:" + "b" * 64}, {}):
            with pytest.raises(KeyUnusable):
                harness.kms.unwrap(key, wrapped, context)
        with contextlib.suppress(KeyUnusable):  # the emulator's KMS returns other bytes instead
            assert harness.kms.unwrap(other, wrapped, CONTEXT) != secret

    def test_disabled_key_has_a_state_and_opens_nothing(self, harness: Harness) -> None:
        """The step that needs the key names the reason before it writes anything."""
        key, _ = harness.create(True)
        wrapped = harness.kms.wrap(key, b"private", CONTEXT)

        harness.disable(key)

        assert not harness.kms.state(key).enabled
        with pytest.raises(KeyUnusable):
            harness.kms.wrap(key, b"private", CONTEXT)
        with pytest.raises(KeyUnusable):
            harness.kms.unwrap(key, wrapped, CONTEXT)

    def test_unknown_key_is_unusable(self, harness: Harness) -> None:
        """The error is not that of a missing permission."""
        for call in (
            lambda: harness.kms.state(ABSENT),
            lambda: harness.kms.wrap(ABSENT, b"private", CONTEXT),
            lambda: harness.kms.unwrap(ABSENT, b"wrapped", CONTEXT),
        ):
            with pytest.raises(KeyUnusable):
                call()

    def test_role_without_permission_is_denied(self, harness: Harness) -> None:
        """Only execution may unwrap, and only curation may wrap."""
        key, _ = harness.create(True)
        wrapped = harness.kms.wrap(key, b"private", CONTEXT)

        for call in (
            lambda: harness.denied.state(key),
            lambda: harness.denied.wrap(key, b"private", CONTEXT),
            lambda: harness.denied.unwrap(key, wrapped, CONTEXT),
        ):
            with pytest.raises(AccessDenied):
                call()
