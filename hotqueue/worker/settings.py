"""What a worker was told: a frozen record that travels from the supervisor to its template and children."""

import json
import tomllib
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hotqueue.errors import ConfigurationError
from hotqueue.keys import check_name

ROOM = 64 + 1  # for children that TTIN asks for, and a successor: memory that nobody touches until then


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
    max_dead: int | None = None
    max_dead_age: float | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    max_messages: int | None = None
    max_memory: float | None = None  # MiB
    prefetch: int | None = None  # by estimate
    prefetch_ms: float = 10.0
    threads: int = 1  # of a child, for messages
    tasks: int = 1  # likewise
    burst: bool = False
    check: bool = False
    name: str = ""
    status_file: str | None = None
    metrics: tuple[str, int] | None = None  # host and port
    pid: str | None = None  # the path of a pid file
    reload: bool = False
    log_level: str = "info"
    log_format: str = "auto"

    @property
    def most_children(self) -> int:
        """How many children there may be at a time, after any number of TTIN."""
        return self.concurrency + ROOM

    @property
    def seats(self) -> int:
        """How many messages a child may run at a time."""
        return max(self.threads, self.tasks)

    def dump(self) -> str:
        """Return JSON for `load`."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> "Settings":
        """Read what `dump` wrote."""
        found = json.loads(text)
        queues = found.pop("queues")
        choice = QueueChoice(tuple(queues["names"]), queues["weights"])
        address = found.pop("metrics")
        metrics = None if address is None else tuple(address)
        return cls(**{**found, "targets": tuple(found["targets"]), "queues": choice, "metrics": metrics})


def here() -> Path:
    """Return the current folder. Raises ConfigurationError if it is gone."""
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        msg = "the folder in which the worker was started is gone: start it again"
        raise ConfigurationError(msg) from error


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


def from_pyproject(path: Path, options: AbstractSet[str]) -> dict[str, str]:
    """Return [tool.hotqueue] of the file, if it is there, each value as the command line would have it.

    Raises ConfigurationError for what is no option, or no text, number or boolean.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("hotqueue", {})
        chosen = {name.replace("-", "_"): value for name, value in table.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:  # unreadable, no TOML, no table
        msg = f"cannot read [tool.hotqueue] in {path.resolve()}: {error}"
        raise ConfigurationError(msg) from error
    for name, value in chosen.items():
        problem = f"there is no option {name!r}" if name not in options else None
        if not isinstance(value, str | int | float):
            problem = problem or f"{name} = {value!r} is not text: write it as on the command line"
        if problem is not None:
            msg = f"[tool.hotqueue] in {path.resolve()}: {problem}"
            raise ConfigurationError(msg)
    return {name: _as_typed(value) for name, value in chosen.items()}


def _as_typed(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _weight(part: str) -> int:
    number = part.partition("=")[2]
    if not number.isdecimal() or int(number) < 1:
        msg = f"{part!r}: a weight is a whole number from 1"
        raise ConfigurationError(msg)
    return int(number)
