"""Wall time, CPU time, and what the server counts, between two moments."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis

_OWN = {"info"}  # the stopwatch's commands


def own_cpu_s() -> float:
    """Return the seconds of CPU that this process has used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class Measure:
    """What happened between start and stop; CPU in seconds."""

    seconds: float
    client_cpu: float
    server_cpu: float
    round_trips: int
    bytes_in: int  # by the server
    bytes_out: int
    aof_bytes: int
    commands: dict[str, int] = field(default_factory=dict)  # also those that scripts call


class Stopwatch:
    """Belongs to one server."""

    def __init__(self, port: int, cpu_s: Callable[[], float] = own_cpu_s) -> None:
        """`cpu_s` returns the seconds that the client has used so far, by default this process."""
        self.measure: Measure | None = None
        self._cpu_s = cpu_s
        self._client = redis.Redis(host="127.0.0.1", port=port)
        self._at_start: tuple[dict[str, Any], float, float] | None = None

    def press(self) -> None:
        """Start, or stop if it runs. What looking at the server costs is outside of the measured time."""
        if self._at_start is None:
            said = self._client.info("everything")
            self._at_start = (said, self._cpu_s(), time.perf_counter())
            return
        seconds, cpu = time.perf_counter(), self._cpu_s()
        before, cpu_before, seconds_before = self._at_start
        self._at_start = None
        self.measure = _difference(
            before, self._client.info("everything"), seconds - seconds_before, cpu - cpu_before
        )


def _difference(before: dict[str, Any], after: dict[str, Any], seconds: float, cpu: float) -> Measure:
    def grown(*names: str) -> Any:
        return sum(after.get(name, 0) - before.get(name, 0) for name in names)

    return Measure(
        seconds=seconds,
        client_cpu=cpu,
        server_cpu=grown("used_cpu_user", "used_cpu_sys"),
        round_trips=grown("total_reads_processed") - len(_OWN),
        bytes_in=grown("total_net_input_bytes"),
        bytes_out=grown("total_net_output_bytes"),
        aof_bytes=grown("aof_current_size"),
        commands={
            name: calls
            for name, calls in _commands(before, after).items()
            if calls and name not in _OWN
        },
    )  # fmt: skip


def _commands(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    prefix = "cmdstat_"
    return {
        name.removeprefix(prefix): stat["calls"] - before.get(name, {"calls": 0})["calls"]
        for name, stat in after.items()
        if name.startswith(prefix)
    }
