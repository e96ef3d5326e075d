"""Signing: HMAC-SHA256 over the queue's name and the signed part of a frame."""

import hmac
import os
import re
from collections.abc import Sequence
from hashlib import sha256

from hotqueue.errors import BadMessage, ConfigurationError
from hotqueue.frame import SIGNED, Frame

KEY_ID_SIZE = 4
SHORTEST_SECRET = 16  # bytes

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class Signer:
    """Signs with the first of its secrets and accepts the signatures of all of them.

    If `strict`, unsigned frames are refused. Raises ``ConfigurationError`` for no secret or a short one.
    """

    __slots__ = ("_hmacs", "_key_id", "_keys", "strict")

    def __init__(self, secrets: Sequence[bytes], strict: bool) -> None:  # noqa: FBT001 - the second of two
        if not secrets:
            msg = "signing needs at least one secret"
            raise ConfigurationError(msg)
        for secret in secrets:
            _check(secret)
        self._keys = {_key_id(secret): secret for secret in secrets}
        self._key_id = _key_id(secrets[0])
        self._hmacs: dict[tuple[bytes, str], hmac.HMAC] = {}
        self.strict = strict

    def __repr__(self) -> str:
        """Show the ids of the keys and never the secrets."""
        ids = " ".join(key_id.hex() for key_id in self._keys)
        return f"<Signer keys={ids} strict={self.strict}>"

    def sign(self, queue: str, signed_part: bytes) -> bytes:
        """Return what follows the signed part in a frame for `queue`: 4 bytes of key id and 32 of tag."""
        return self._key_id + self._tag(self._key_id, queue, signed_part)

    def verify(self, queue: str, frame: Frame) -> None:
        """Raise ``BadMessage`` unless `frame` was signed for `queue` by a known key, or may be unsigned."""
        if not frame.flags & SIGNED:
            if self.strict:
                msg = f"the message is not signed, and queue {queue!r} takes only signed ones"
                raise BadMessage(msg)
            return
        if frame.key_id not in self._keys:
            msg = f"the message is signed with key {frame.key_id.hex()}, and no secret known here is that key"
            raise BadMessage(msg)
        if not hmac.compare_digest(frame.tag, self._tag(frame.key_id, queue, frame.signed_part)):
            msg = f"the signature is wrong: the message was altered, or not signed for queue {queue!r}"
            raise BadMessage(msg)

    def _tag(self, key_id: bytes, queue: str, signed_part: bytes) -> bytes:
        prepared = self._hmacs.get((key_id, queue))
        if prepared is None:
            name = queue.encode()
            prepared = hmac.new(self._keys[key_id], len(name).to_bytes(4, "big") + name, "sha256")
            self._hmacs[key_id, queue] = prepared
        mac = prepared.copy()
        mac.update(signed_part)
        return mac.digest()


def signer_from(
    secret: str | bytes | Sequence[str | bytes] | None,
    strict: bool | None,  # noqa: FBT001 - the second of two
) -> Signer | None:
    """Return the signer for what a user configured, or ``None`` if nothing is to be signed.

    Without `secret` the variable ``HOTQUEUE_SECRET`` is read: keys separated by spaces or commas. Without
    `strict`, ``HOTQUEUE_STRICT``; strict is the default as soon as there is a secret.
    Raises ``ConfigurationError``.
    """
    secrets = _secrets_from_environment() if secret is None else _secrets(secret)
    strict = _strict_from_environment() if strict is None else strict
    if secret is not None or secrets:
        return Signer(secrets, strict=strict is not False)
    if strict:
        msg = "strict mode needs a secret: set HOTQUEUE_SECRET or pass secret="
        raise ConfigurationError(msg)
    return None


def _secrets(secret: object) -> list[bytes]:
    several = secret if isinstance(secret, list | tuple) else [secret]
    return [_secret(one) for one in several]


def _secret(one: object) -> bytes:
    if isinstance(one, str):
        return one.encode("utf-8", "surrogateescape")
    if isinstance(one, bytes):
        return one
    msg = f"a secret must be str or bytes, got {type(one).__name__}"
    raise ConfigurationError(msg)


def _secrets_from_environment() -> list[bytes]:
    return [os.fsencode(one) for one in re.split(r"[\s,]+", os.environ.get("HOTQUEUE_SECRET", "")) if one]


def _strict_from_environment() -> bool | None:
    value = os.environ.get("HOTQUEUE_STRICT", "").strip().lower()
    if not value:
        return None
    if value in _TRUE | _FALSE:
        return value in _TRUE
    msg = f"HOTQUEUE_STRICT is {value!r}: use 1 or 0"
    raise ConfigurationError(msg)


def _check(secret: bytes) -> None:
    if len(secret) < SHORTEST_SECRET:
        msg = f"a secret of {len(secret)} bytes is too short: use at least {SHORTEST_SECRET} random ones"
        raise ConfigurationError(msg)


def _key_id(secret: bytes) -> bytes:
    return sha256(b"hotqueue key id\0" + secret).digest()[:KEY_ID_SIZE]
