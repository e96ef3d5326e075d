"""The trail: what retries and burials note behind a frame. It is not signed, so nothing in it is trusted."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from hotqueue.frame import MAX_TRAIL

MAX_CRASHES = 32
OVERRAN = "overran"
Scalar: TypeAlias = str | int | float | bool | None

_MAX_COUNT = 1_000_000
_MAX_INTEGER = 2**53  # beyond it JSON numbers are not exact in other languages
_TEXT_LIMITS = tuple(MAX_TRAIL >> halvings for halvings in range(11))
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Trail:
    """How often a message was begun and why it ended.

    `failures` counts handlers that raised, `crashes` has the time of each death while it ran (ms, newest
    last), `interruptions` counts stops that it was not to blame for, `reason` says why it is dead, `revived`
    when it came back from the dead list (ms), 0 if it never did. A `suspect` ran when its child crashed, and
    has come to no end since: it runs alone in its child until it does.
    """

    failures: int = 0
    crashes: tuple[int, ...] = ()
    interruptions: int = 0
    reason: Mapping[str, Scalar] = field(default_factory=dict)
    revived: int = 0
    suspect: bool = False

    @property
    def attempt(self) -> int:
        """The number of the next run, from 1."""
        return 1 + self.failures + len(self.crashes) + self.interruptions

    def failed(self) -> "Trail":
        """Return a trail with one failure more, which is an end."""
        return replace(self, failures=self.failures + 1, suspect=False)

    def crashed(self, at_ms: int) -> "Trail":
        """Return a trail with one crash more; the newest 32 are kept."""
        return replace(self, crashes=(*self.crashes, at_ms)[-MAX_CRASHES:], suspect=True)

    def interrupted(self) -> "Trail":
        """Return a trail with one interruption more."""
        return replace(self, interruptions=self.interruptions + 1)

    def suspected(self) -> "Trail":
        """Return a trail of one of several that ran when their child crashed, by whose fault nobody knows."""
        return replace(self, interruptions=self.interruptions + 1, suspect=True)

    def overran(self, limit_s: float) -> "Trail":
        """Return a trail of a run that was killed at its time limit, and is not settled yet."""
        return self.with_reason(kind=OVERRAN, limit_s=limit_s)

    @property
    def overran_s(self) -> float | None:
        """The time limit at which the last run was killed, if that is not settled yet."""
        limit_s = self.reason.get("limit_s") if self.reason.get("kind") == OVERRAN else None
        return float(limit_s) if isinstance(limit_s, int | float) else None

    def with_reason(self, **fields: Scalar) -> "Trail":
        """Return a trail whose reason is `fields`, in place of the old one."""
        return replace(self, reason=fields)

    def dump(self) -> bytes:
        """Return compact JSON of at most 16 KiB, nothing for an empty trail. Long texts lose their middle."""
        noted: dict[str, object] = {}
        if self.failures:
            noted["failures"] = min(self.failures, _MAX_COUNT)
        if self.crashes:
            noted["crashes"] = self.crashes[-MAX_CRASHES:]
        if self.interruptions:
            noted["interruptions"] = min(self.interruptions, _MAX_COUNT)
        if self.revived:
            noted["revived"] = self.revived
        if self.suspect:
            noted["suspect"] = True
        if self.reason:
            for limit in _TEXT_LIMITS:
                reason = {key: _shorten(value, limit) for key, value in _scalars(self.reason).items()}
                if len(raw := _encode(noted | {"reason": reason})) <= MAX_TRAIL:
                    return raw
        return _encode(noted) if noted else b""

    @classmethod
    def load(cls, raw: bytes) -> "Trail":
        """Read a trail from anywhere: what is missing, malformed or absurd in it counts as not there."""
        if not raw or len(raw) > MAX_TRAIL:
            return _EMPTY
        try:
            noted = json.loads(raw)
        except (ValueError, RecursionError):
            return _EMPTY
        if not isinstance(noted, dict):
            return _EMPTY
        return cls(
            failures=_count(noted.get("failures")),
            crashes=_times(noted.get("crashes")),
            interruptions=_count(noted.get("interruptions")),
            reason=_scalars(noted.get("reason")),
            revived=next(iter(_times([noted.get("revived")])), 0),
            suspect=noted.get("suspect") is True,
        )


_EMPTY = Trail()


def _encode(noted: dict[str, object]) -> bytes:
    # A lone surrogate becomes its JSON escape.
    return _ENCODER.encode(noted).encode("utf-8", "backslashreplace")


def _shorten(value: Scalar, limit: int) -> Scalar:
    if not isinstance(value, str) or len(value) <= limit:
        return value
    return f"{value[: limit // 2]} … {value[-limit // 2 :]}"


def _count(noted: object) -> int:
    return noted if type(noted) is int and 0 <= noted <= _MAX_COUNT else 0


def _times(noted: object) -> tuple[int, ...]:
    if not isinstance(noted, list):
        return ()
    return tuple(at for at in noted if type(at) is int and 0 <= at < _MAX_INTEGER)[-MAX_CRASHES:]


def _scalars(noted: object) -> dict[str, Scalar]:
    if not isinstance(noted, dict):
        return {}
    return {
        _printable(key): _printable(value) if isinstance(value, str) else value
        for key, value in noted.items()
        if _is_scalar(value)
    }


def _is_scalar(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) < _MAX_INTEGER
    return value is None or isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))


def _printable(text: str) -> str:
    # A lone surrogate cannot be printed or sent as UTF-8.
    return text.encode("utf-8", "backslashreplace").decode()
