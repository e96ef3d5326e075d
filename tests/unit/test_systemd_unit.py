"""The unit in docs/how-to/systemd.md is one that systemd takes and that stops workers in time."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hotqueue.worker.cli import command

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "systemd.md"


def unit() -> str:
    (text,) = re.findall(r"^```ini\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return str(text)


def service() -> configparser.SectionProxy:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(unit())
    return parsed["Service"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_systemd_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    path = tmp_path / "myapp-worker.service"
    path.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", unit(), flags=re.MULTILINE))
    verdict = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")


def test_systemd_waits_until_a_child_is_ready_and_watches_the_supervisor() -> None:
    assert service()["Type"] == "notify"
    assert int(service()["WatchdogSec"]) >= 10  # that of one pass of the main loop which waits for the kernel
    assert service()["RuntimeDirectory"] == "hotqueue"  # where the status file is looked for


def test_systemd_waits_longer_than_the_supervisor_waits_for_its_children() -> None:
    (patience,) = (option.default for option in command.params if option.name == "shutdown_timeout")
    assert isinstance(patience, float)
    assert int(service()["TimeoutStopSec"]) > patience


def test_only_the_supervisor_is_told_to_stop_and_one_child_out_of_memory_stops_nobody_else() -> None:
    assert service()["KillMode"] == "mixed"
    assert service()["OOMPolicy"] == "continue"
    assert service()["Restart"] == "always"
