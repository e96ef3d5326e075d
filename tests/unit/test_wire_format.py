"""The page about the wire format is checked against the code, and its JavaScript is run."""

import json
import pickle
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hotqueue import keys, serializers
from hotqueue.errors import BadMessage
from hotqueue.frame import MAX_TRAIL, SIGNED, enqueued_ms, id_text, pack, unpack, with_trail
from hotqueue.serializers import codec_for
from hotqueue.signing import Signer
from hotqueue.trail import Trail

PAGE = (Path(__file__).parents[2] / "docs/reference/wire-format.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    [found] = [text for text in blocks if containing in text]
    return str(found)


VECTORS: list[dict[str, Any]] = json.loads(block("json", '"frame"'))
READER = block("javascript", "function read(")

# Reads [{frame, queue, secrets}] and prints for each what `read` returns, or null where it throws.
HARNESS = """
const asked = JSON.parse(require("node:fs").readFileSync(0));
const answers = asked.map(({ frame, queue, secrets }) => {
  try {
    const parts = read(Buffer.from(frame, "hex"), queue, secrets ?? undefined);
    return { ...parts, body: parts.body.toString("hex") };
  } catch {
    return null;
  }
});
console.log(JSON.stringify(answers));
"""


def vector(name: str) -> dict[str, Any]:
    [found] = [vector for vector in VECTORS if vector["name"] == name]
    return found


def signer_of(vector: dict[str, Any]) -> Signer | None:
    return Signer([vector["secret"].encode()], strict=True) if vector["secret"] else None


def read_in_node(asked: list[dict[str, Any]], tmp_path: Path) -> list[dict[str, Any] | None]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = tmp_path / "reader.cjs"
    script.write_text(READER + HARNESS, encoding="utf-8")
    ran = subprocess.run(
        [node, script], input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    answers: list[dict[str, Any] | None] = json.loads(ran.stdout)
    return answers


def read_in_python(raw: bytes, signer: Signer | None) -> dict[str, Any] | None:
    try:
        frame = unpack(raw)
        if signer is not None:
            signer.verify("emails", frame)
    except BadMessage:
        return None
    return {
        "id": frame.message_id.hex(),
        "serializer": frame.serializer,
        "headers": frame.headers.decode(errors="replace"),
        "body": frame.body.hex(),
    }


def test_the_vectors_cover_what_a_frame_can_be() -> None:
    assert {vector["serializer"] for vector in VECTORS} >= {0, 1, 2}
    assert {vector["flags"] for vector in VECTORS} == {0, 1, 2}
    assert any(vector["headers"] and vector["trail"] and vector["secret"] for vector in VECTORS)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_vector_is_what_pack_writes(vector: dict[str, Any]) -> None:
    framed = pack(
        bytes.fromhex(vector["body"]),
        vector["serializer"],
        headers=vector["headers"].encode(),
        message_id=bytes.fromhex(vector["id"].replace("-", "")),
        flags=vector["flags"] & ~SIGNED,
        signer=signer_of(vector),
        queue=vector["queue"],
    )
    assert with_trail(framed, vector["trail"].encode()).hex() == vector["frame"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_vector_is_what_unpack_reads(vector: dict[str, Any]) -> None:
    frame = unpack(bytes.fromhex(vector["frame"]))
    assert (frame.serializer, frame.flags) == (vector["serializer"], vector["flags"])
    assert (frame.headers.decode(), frame.body.hex()) == (vector["headers"], vector["body"])
    assert (id_text(frame.message_id), frame.key_id.hex()) == (vector["id"], vector["key_id"])
    assert Trail.load(frame.trail).dump().decode() == vector["trail"]
    if signer := signer_of(vector):
        signer.verify(vector["queue"], frame)


def test_the_vectors_hold_the_messages_that_the_page_names() -> None:
    assert codec_for(pickle).loads(bytes.fromhex(vector("pickle")["body"])) == ["blue", 1]
    assert codec_for(json).loads(bytes.fromhex(vector("JSON")["body"])) == {"to": "Ada"}
    assert enqueued_ms(bytes.fromhex(vector("JSON")["id"].replace("-", ""))) == 1_750_000_000_000


def test_the_frame_shown_field_by_field_is_the_signed_vector() -> None:
    shown = "".join(line.partition("#")[0] for line in block("text", "# magic").splitlines())
    assert bytes.fromhex(shown).hex() == vector("signed")["frame"]
    assert f"its key id is `{vector('signed')['key_id']}`" in PAGE


def test_the_page_names_every_key_and_every_serializer_as_they_are() -> None:
    of_queue = [
        keys.consumers,
        keys.claims,
        keys.owners,
        keys.retired,
        keys.delayed,
        keys.dead,
        keys.key_for_name,
    ]
    for key in (*[key("NAME") for key in of_queue], keys.inflight("NAME", "INCARNATION"), keys.QUEUES):
        assert f"| `{key}` |" in PAGE
    for name in ("RAW", "PICKLE", "JSON", "TEXT", "MSGPACK", "OTHER"):
        assert f"\n| {getattr(serializers, name)} | " in PAGE
    assert f"| ≤ {MAX_TRAIL} |" in PAGE
    assert f"protocol {serializers.PICKLE_PROTOCOL} |" in PAGE


def test_the_javascript_reads_every_vector_as_python_does(tmp_path: Path) -> None:
    asked = [
        vector | {"secrets": {vector["key_id"]: vector["secret"]} if vector["secret"] else None}
        for vector in VECTORS
    ]
    answers = read_in_node(asked, tmp_path)
    assert answers == [
        read_in_python(bytes.fromhex(vector["frame"]), signer_of(vector)) for vector in VECTORS
    ]
    assert None not in answers


def test_the_javascript_refuses_what_python_refuses(tmp_path: Path) -> None:
    whole = vector("everything")
    secrets = {whole["key_id"]: whole["secret"]}
    signed = bytes.fromhex(whole["frame"])
    damaged = [signed[:size] for size in range(3, len(signed), 7)]
    damaged += [
        bytes([*signed[:place], signed[place] ^ 1 << bit, *signed[place + 1 :]])
        for place in range(3, 120)
        for bit in range(8)
    ]
    for known, signer in ((secrets, signer_of(whole)), (None, None)):
        asked = [{"frame": raw.hex(), "queue": "emails", "secrets": known} for raw in damaged]
        answers = read_in_node(asked, tmp_path)
        assert answers == [read_in_python(raw, signer) for raw in damaged]
        assert None in answers


def test_the_javascript_takes_bare_bodies_only_where_nothing_is_verified(tmp_path: Path) -> None:
    bare: dict[str, Any] = {"frame": b'{"to":"Ada"}'.hex(), "queue": "emails"}
    signed_for_another = vector("signed") | {
        "queue": "other",
        "secrets": {"7a5a8818": "correct horse battery staple"},
    }
    unsigned = vector("JSON") | {"secrets": {"7a5a8818": "correct horse battery staple"}}
    asked = [bare, bare | {"secrets": {}}, signed_for_another, unsigned]
    assert read_in_node(asked, tmp_path) == [{"body": bare["frame"]}, None, None, None]
