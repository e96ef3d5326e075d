"""What systemd is told: sd_notify(3) and sd_watchdog_enabled(3), without their library."""

import os
import socket
import time
from collections.abc import MutableMapping

from hotqueue.worker.policy import NEVER
from hotqueue.worker.roll import Census

EXTEND_S = 30.0  # asked for again and again while draining: more than the very last steps take
MOST_STATUS = 500  # characters: systemd takes no datagram of more than 4096 bytes


class Notifier:
    """Sends each message as one datagram, and never waits. Without systemd it does nothing."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Take what systemd has put into `environment` out of it: it is not meant for other processes."""
        path = environment.pop("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if path[:1] in {"@", "/"} else None
        self._feed_every_s = _feed_every_s(environment)
        self.feed_at_s = 0.0 if self._socket is not None and self._feed_every_s < NEVER else NEVER
        self._is_ready = self._is_stopping = False  # as systemd knows it

    def feed(self) -> None:
        """Say that the main loop turns, if it is time for that."""
        now_s = time.monotonic()
        if now_s >= self.feed_at_s:
            self.feed_at_s = now_s + self._feed_every_s
            self._say("WATCHDOG=1")

    def tell(self, phase: str, census: Census, trouble: str | None) -> None:
        """Say what is new, and while the worker stops that it still takes time.

        `trouble` is what it works in spite of: systemd has no word of its own for that.
        """
        words = [f"{phase}, {census.busy} of {census.size} children busy", *([trouble] if trouble else [])]
        lines = [_status("; ".join(words))]
        is_ready, is_stopping = self._is_ready, self._is_stopping
        if phase == "stopping":
            lines.append(f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1e6:.0f}")
            lines += [] if is_stopping else ["STOPPING=1"]
            is_stopping = True
        elif phase == "reloading" and is_ready:
            lines += ["RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"]
            is_ready = False
        elif phase != "reloading" and census.ready and not is_ready:
            lines.append("READY=1")
            is_ready = True
        if self._say(*lines):  # or it is said again the next time
            self._is_ready, self._is_stopping = is_ready, is_stopping

    def close(self, verdict: str) -> None:
        """Say what is to be read beside `failed`, and nothing more."""
        self._say(_status(verdict))
        if self._socket is not None:
            self._socket.close()

    def _say(self, *lines: str) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT, self._address)
        except OSError:  # systemd may be busy, or restarting itself
            return False
        return True


def _status(words: str) -> str:
    return f"STATUS={' '.join(words.split())[:MOST_STATUS]}"


def _feed_every_s(environment: MutableMapping[str, str]) -> float:
    """Return half of what systemd waits for a sign of life; infinite if it does not, or not for ours."""
    wanted, whose = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
    if not wanted.isdecimal() or not int(wanted) or whose not in {"", str(os.getpid())}:
        return NEVER
    return int(wanted) / 1e6 / 2
