"""The manifests in docs/how-to/kubernetes.md are YAML, and what they say of the worker is true."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from hotqueue import key_for_name
from hotqueue.cli.group import hotqueue
from hotqueue.worker.cli import command

PAGE = (Path(__file__).resolve().parents[2] / "docs/how-to/kubernetes.md").read_text(encoding="utf-8")
MANIFESTS = {
    manifest["kind"]: manifest["spec"]
    for manifest in map(yaml.safe_load, re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
}


@pytest.fixture
def pod() -> dict[str, Any]:
    return dict(MANIFESTS["Deployment"]["template"]["spec"])


def test_the_worker_takes_the_options_and_stops_before_kubernetes_loses_patience(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    name, *arguments = container["args"]
    assert name == "hotqueue-worker"
    settings, _ = command.main(arguments, standalone_mode=False)
    assert settings.shutdown_timeout + 5 <= pod["terminationGracePeriodSeconds"]


def test_the_probes_are_commands_that_there_are(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        name, *arguments = container[probe]["exec"]["command"]
        assert name == "hotqueue"
        assert CliRunner().invoke(hotqueue, [*arguments, "--help"]).exit_code == 0


def test_keda_looks_at_the_key_of_a_queue_and_leaves_one_pod() -> None:
    spec = MANIFESTS["ScaledObject"]
    (trigger,) = spec["triggers"]
    assert trigger["metadata"]["listName"] == key_for_name("emails")
    assert spec["minReplicaCount"] == 1
