"""Signs statements and images with a key in KMS, and verifies them with a public key only, using cosign 3 or later.

With a key, there is no transparency log and no timestamp authority: the signing configuration and the trusted root are
empty, so that cosign downloads nothing. Only people sign keyless, with the signing service of the project.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from supply_chain.adapters.process import tool_errors
from supply_chain.adapters.process.command import CommandResult, Tool
from supply_chain.errors import (
    AccessDenied,
    AwsUnavailable,
    ClockWrong,
    KeyUnusable,
    RegistryUnavailable,
    SettingInvalid,
    SignatureFailed,
    SupplyChainError,
)
from supply_chain.evidence.statement import Statement
from supply_chain.model.image import ImageRef
from supply_chain.scratch import make_scratch_directory
from supply_chain.text import sanitize_text

SIGNING_CONFIG = (
    '{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json","rekorTlogConfig":{},"tsaConfig":{}}'
)
TRUSTED_ROOT = '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'
TIMEOUT = 60.0
LOGIN = 240.0
"""Seconds for a person to log in: less than the time that a signature may have after its decision (`clock.SKEW`)."""
KEYLESS = "keyless"
"""In place of a key: a signing service certifies a new key for the identity with which the person logs in."""
ADMITTED = "admitted-by=curation"
"""Annotation that image signatures have and attestations do not have. Without it, `cosign verify` accepts any statement
that the key signed, even an attestation of a refused image.
"""


@dataclass(frozen=True)
class Cosign:
    """Signs with one tier's KMS key (`awskms:///alias/…`).

    `environment` returns the credentials for KMS. It is called for each signature, because credentials expire.
    """

    tool: Tool
    key: str
    host: str
    docker_config: Callable[[], AbstractContextManager[Path]]
    insecure: bool = False
    environment: Callable[[], Mapping[str, str]] = dict

    def sign(self, statement: Statement) -> bytes:
        """Return a sigstore bundle (v0.3) of the signed statement.

        Raises `SignatureFailed`, `AccessDenied`, `KeyUnusable`, `ClockWrong`, `AwsUnavailable` or
        `RegistryUnavailable`.
        """
        return sign_statement(self._with_credentials(), self.key, statement)

    def sign_image(self, ref: ImageRef) -> None:
        """Sign the image itself, as `cosign sign` does; the signature is a referrer."""
        with _workspace() as work, self.docker_config() as config:
            done = self._with_credentials().with_environment(DOCKER_CONFIG=str(config)).run(
                "sign", "--annotations", ADMITTED,
                *_signing(work, self.key), *self._insecure(), f"{self.host}/{ref}", "--yes",
                timeout=TIMEOUT, check=False, quiet=True,
            )  # fmt: skip
        _check_result(done, self.key)

    def verify_image(self, ref: ImageRef, public_key: str) -> None:
        """Run plain `cosign verify` with only the public key, as anybody can.

        Raises `SignatureFailed` without a valid signature, `RegistryUnavailable` or `AwsUnavailable` without an answer.
        """
        with _workspace() as work, self.docker_config() as config:
            (work / "key.pub").write_text(public_key)
            done = self.tool.with_environment(DOCKER_CONFIG=str(config)).run(
                "verify", "--annotations", ADMITTED, "--key", work / "key.pub",
                "--insecure-ignore-tlog", "--trusted-root", work / "root.json", *self._insecure(), f"{self.host}/{ref}",
                timeout=TIMEOUT, check=False, quiet=True,
            )  # fmt: skip
        if done.status != 0 and tool_errors.is_transient(done.stderr):
            raise _unavailable_error(f"The signature of {ref} could not be looked for", done.stderr[-1000:].strip())
        if done.status != 0:
            raise SignatureFailed(
                f"{ref} has no signature that its tier's public key verifies: {done.stderr[-1000:].strip()}\n"
                "Run the curation tier again; if it was signed before, find out what changed."
            )

    def _with_credentials(self) -> Tool:
        return self.tool.with_environment(**self.environment())

    def _insecure(self) -> tuple[str, ...]:
        return ("--allow-insecure-registry",) if self.insecure else ()


def read_signing_variables() -> dict[str, str]:
    """Return the variables with which people sign, such as COSIGN_PASSWORD; SIGSTORE_ID_TOKEN replaces a login."""
    return {
        name: value for name, value in os.environ.items() if name.startswith("COSIGN_") or name == "SIGSTORE_ID_TOKEN"
    }


def sign_for_person(tool: Tool, key: str, statement: Statement, service: Path) -> bytes:
    """Return a sigstore bundle (v0.3) of a statement, signed with a person's key, or keyless if `key` is `KEYLESS`.

    `service` is the directory of the signing service: `signing_config.json` has its addresses, `trusted_root.json` what
    verifies its answers. What cosign asks the person, such as to open an address, goes to standard error. Raises the
    errors of `Cosign.sign`, or `SettingInvalid` if there is no signing service.
    """
    if key != KEYLESS:
        return sign_statement(tool, key, statement)
    config, root = service / "signing_config.json", service / "trusted_root.json"
    for file in (config, root):
        if not file.is_file():
            raise SettingInvalid(
                f"There is no {file}, so nobody can sign keyless.\n"
                "Write it as docs/how-to/approvals.md says, or sign with a key."
            )
    signing = "--signing-config", config, "--trusted-root", root
    with make_scratch_directory("cosign") as work:
        return _attest(tool, work, statement, signing, _check_login, LOGIN, _show)


def _show(line: str) -> None:
    sys.stderr.write(f"{sanitize_text(line)}\n")


def _check_login(done: CommandResult) -> None:
    if done.status != 0:
        raise SignatureFailed(
            f"cosign ended with status {done.status}: {done.stderr[-1500:].strip()}\n"
            "Nothing was signed. Log in again, or look at the addresses in signing_config.json."
        )


def sign_statement(tool: Tool, key: str, statement: Statement) -> bytes:
    """Return a sigstore bundle (v0.3) of a statement, signed with any key that cosign can name.

    Credentials and passwords are in the environment of `tool`. Raises the errors of `Cosign.sign`.
    """
    with _workspace() as work:
        return _attest(tool, work, statement, _signing(work, key), lambda done: _check_result(done, key), TIMEOUT)


def _attest(
    tool: Tool, work: Path, statement: Statement, signing: Sequence[str | Path],
    check: Callable[[CommandResult], None], timeout: float, on_line: Callable[[str], None] | None = None,
) -> bytes:  # fmt: skip
    """Return a bundle of a statement; `signing` says with what cosign signs, and `check` raises if it failed.

    `work` is a private directory.
    """
    (work / "statement.json").write_bytes(statement.bytes())
    done = tool.run(
        "attest-blob", "--statement", work / "statement.json", *signing, "--bundle", work / "bundle.json", "--yes",
        timeout=timeout, check=False, quiet=True, on_line=on_line,
    )  # fmt: skip
    check(done)
    if not (work / "bundle.json").is_file():
        raise SignatureFailed("cosign wrote no bundle.\nLook at its version (`cscm doctor`) and sign again.")
    return (work / "bundle.json").read_bytes()


def _signing(work: Path, key: str) -> tuple[str | Path, ...]:
    return "--key", key, "--signing-config", work / "signing.json", "--trusted-root", work / "root.json"


def _check_result(done: CommandResult, key: str) -> None:
    if done.status == 0:
        return
    message = done.stderr[-1500:].strip()
    if tool_errors.is_clock_skew(message):
        raise ClockWrong(
            f"AWS rejected the request to sign with {key}, because of this machine's time: {message}\n"
            "Nothing was signed. Set this machine's clock, and try again."
        )
    if tool_errors.is_denied(message):
        raise AccessDenied(
            f"This identity may not sign with {key}: {message}\n"
            "A tier needs its own role and key, which `cscm doctor` shows; a person, a key that they may use."
        )
    if any(word in message for word in ("DisabledException", "NotFoundException", "KMSInvalidState")):
        raise KeyUnusable(
            f"{key} cannot sign: {message}\nEnable the key, or name the right one: a tier's is in its block."
        )
    if tool_errors.is_transient(message):
        raise _unavailable_error(f"Nothing could be signed with {key}", message)
    raise SignatureFailed(f"cosign ended with status {done.status}: {message}\nNothing was signed. Try again.")


def _unavailable_error(what: str, message: str) -> SupplyChainError:
    if "KMS" in message:
        return AwsUnavailable(f"{what}, as KMS did not answer: {message}\nA step is retried; a person tries again.")
    return RegistryUnavailable(f"{what}, as the registry did not answer: {message}\nThe step is retried.")


@contextlib.contextmanager
def _workspace() -> Iterator[Path]:
    """Yield a private directory with the empty configuration in it, and remove it afterwards."""
    with make_scratch_directory("cosign") as work:
        (work / "signing.json").write_text(SIGNING_CONFIG)
        (work / "root.json").write_text(TRUSTED_ROOT)
        yield work
