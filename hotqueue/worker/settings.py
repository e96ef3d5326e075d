"""What a worker was told: a frozen record that travels from the supervisor to its template and children."""

import json
import tomllib
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hotqueue.errors import ConfigurationError
from hotqueue.keys import check_name


@dataclass(frozen=True, slots=True)
class QueueChoice:
    """Which queues to serve and in which order: all in turn, or as `-Q` says."""

    names: tuple[str, ...] = ()
    weights: dict[str, int] | None = None

    @property
    def strict(self) -> bool:
        """Whether an earlier queue always comes first."""
        return bool(self.names) and self.weights is None


@dataclass(frozen=True, slots=True)
class Settings:
    """All options of `hotqueue-worker`. Times are in seconds."""

    targets: tuple[str, ...]
    concurrency: int = 1
    concurrency_why: str = ""
    queues: QueueChoice = field(default_factory=QueueChoice)
    url: str | None = None
    shutdown_timeout: float = 25.0
    connect_timeout: float = 30.0
    max_crashes: int = 3
    prefetch: int = 1
    burst: bool = False
    check: bool = False
    log_level: str = "info"
    log_format: str = "auto"

    def dump(self) -> str:
        """Return JSON for `load`."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> "Settings":
        """Read what `dump` wrote."""
        found = json.loads(text)
        queues = found.pop("queues")
        choice = QueueChoice(tuple(queues["names"]), queues["weights"])
        return cls(**{**found, "targets": tuple(found["targets"]), "queues": choice})


def parse_queues(text: str) -> QueueChoice:
    """Read `a,b` (strict order) or `critical=5,default=1` (weights). Raises ConfigurationError."""
    parts = [part.strip() for part in text.split(",")]
    weighted = [part for part in parts if "=" in part]
    if weighted and len(weighted) < len(parts):
        msg = f"{text!r} mixes an order with weights: write a,b or a=5,b=1"
        raise ConfigurationError(msg)
    names = tuple(check_name(part.partition("=")[0]) for part in parts)
    if len(set(names)) < len(names):
        msg = f"{text!r} names a queue twice"
        raise ConfigurationError(msg)
    return QueueChoice(
        names, {n: _weight(part) for n, part in zip(names, parts, strict=True)} if weighted else None
    )


def from_pyproject(path: Path, options: AbstractSet[str]) -> dict[str, Any]:
    """Return [tool.hotqueue] of the file, if it is there. Raises ConfigurationError for what is no option."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("hotqueue", {})
        chosen = {name.replace("-", "_"): value for name, value in table.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:  # unreadable, no TOML, no table
        msg = f"cannot read [tool.hotqueue] in {path.resolve()}: {error}"
        raise ConfigurationError(msg) from error
    for name in chosen:
        if name not in options:
            msg = f"[tool.hotqueue] in {path.resolve()}: there is no option {name!r}"
            raise ConfigurationError(msg)
    return chosen


def _weight(part: str) -> int:
    number = part.partition("=")[2]
    if not number.isdecimal() or int(number) < 1:
        msg = f"{part!r}: a weight is a whole number from 1"
        raise ConfigurationError(msg)
    return int(number)
