"""Leases so short that a test can wait for their end, and processes that take this machine for another.

shop.env |= short_leases(tmp_path)
shop.env |= on_another_machine("a")
"""

from pathlib import Path

LEASE_S = 1.5
LAPSED_FOR_S = 1.0

# Python imports it before anything else; what is patched here is imported by name elsewhere.
SITECUSTOMIZE = f"""
import os
from hotqueue import at_least_once, caretaker, identity, upkeep

for module in (upkeep, at_least_once, caretaker):
    module.LEASE_MS = {LEASE_S * 1000:.0f}
for module in (upkeep, caretaker):
    module.RENEW_EVERY_S = 0.2
    module.TEND_EVERY_S = 0.1
upkeep.LAPSED_FOR_S = {LAPSED_FOR_S}

machine = os.environ.get("TEST_MACHINE")
if machine:
    host = identity._host()
    identity._host = lambda: host | {{"boot": machine}}
"""


def short_leases(folder: Path) -> dict[str, str]:
    """The environment in which they are."""
    patches = folder / "patches"
    patches.mkdir()
    (patches / "sitecustomize.py").write_text(SITECUSTOMIZE, encoding="utf-8")
    return {"PYTHONPATH": str(patches)}


def on_another_machine(name: str) -> dict[str, str]:
    """The environment of a machine that was booted at another time, whose processes nobody here can see."""
    return {"TEST_MACHINE": name}
