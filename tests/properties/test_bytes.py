import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotqueue.errors import BadMessage
from hotqueue.frame import MAGIC, MAX_TRAIL, SIGNED, Frame, pack, unpack, with_trail, wrap
from hotqueue.serializers import RAW, codec_for
from hotqueue.signing import Signer
from hotqueue.trail import MAX_CRASHES, Scalar, Trail

SIGNER = Signer([b"a secret of 24 characters"], strict=True)

ids = st.binary(min_size=16, max_size=16)
# Everything that Python calls text, halves of surrogate pairs included.
any_text = st.text(st.characters(exclude_categories=[]))


parts: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "body": st.binary(),
        "serializer": st.integers(0, 255),
        "headers": st.binary(),
        "message_id": ids,
        "signer": st.sampled_from([None, SIGNER]),
    }
)
frames = parts.map(lambda parts: pack(**parts, queue="q"))
signed_frames = parts.map(lambda parts: pack(**parts | {"signer": SIGNER}, queue="q"))


def unpack_or_refuse(raw: bytes) -> Frame | None:
    try:
        return unpack(raw)
    except BadMessage:
        return None


@given(parts=parts, trail=st.binary())
def test_unpack_gives_back_what_was_packed(parts: dict[str, Any], trail: bytes) -> None:
    framed = pack(**parts, queue="q")
    frame = unpack(framed + trail)
    assert frame.trail == trail
    assert all(getattr(frame, name) == parts[name] for name in parts if name != "signer")
    assert (frame.flags == SIGNED) is (parts["signer"] is not None)
    assert frame.signed_part + frame.key_id + frame.tag + frame.trail == framed + trail


@given(raw=st.binary() | st.binary().map(MAGIC.__add__) | st.binary(min_size=24).map((MAGIC + b"\1").__add__))
def test_any_bytes_are_unpacked_or_refused(raw: bytes) -> None:
    frame = unpack_or_refuse(raw)
    if frame is not None:
        assert frame.signed_part + frame.key_id + frame.tag + frame.trail == raw


@given(framed=frames, data=st.data())
def test_a_truncated_frame_is_refused(framed: bytes, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(framed) - 1))
    with pytest.raises(BadMessage):
        unpack(framed[:size])


@given(framed=frames, trail=st.binary(), data=st.data())
def test_a_mutated_frame_is_unpacked_or_refused(framed: bytes, trail: bytes, data: st.DataObject) -> None:
    mutated = bytearray(framed + trail)
    changes = st.tuples(st.integers(0, len(mutated) - 1), st.integers(0, 255))
    for place, byte in data.draw(st.lists(changes, min_size=1, max_size=4)):
        mutated[place] = byte
    frame = unpack_or_refuse(bytes(mutated))
    if frame is not None:
        assert frame.signed_part + frame.key_id + frame.tag + frame.trail == mutated


@given(raw=st.binary())
def test_wrapping_keeps_every_byte(raw: bytes) -> None:
    once = wrap(raw)
    assert unpack(once).body == raw
    assert unpack(once).serializer == RAW
    assert unpack(wrap(once)).body == once


@given(framed=signed_frames, trails=st.lists(st.binary(), min_size=1))
def test_trails_touch_neither_the_message_nor_its_signature(framed: bytes, trails: list[bytes]) -> None:
    changed = framed
    for trail in trails:
        changed = with_trail(changed, trail)
    frame = unpack(changed)
    SIGNER.verify("q", frame)
    assert frame == unpack(framed)._replace(trail=trails[-1], raw=frame.raw)


@given(body=st.binary(max_size=8), headers=st.binary(max_size=4), message_id=ids)
def test_a_flipped_bit_anywhere_in_a_signed_frame_is_refused(
    body: bytes, headers: bytes, message_id: bytes
) -> None:
    framed = pack(body, 1, headers=headers, message_id=message_id, signer=SIGNER, queue="q")
    SIGNER.verify("q", unpack(framed))
    for bit in range(len(framed) * 8):
        flipped = bytearray(framed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadMessage):
            SIGNER.verify("q", unpack(bytes(flipped)))


@given(framed=signed_frames, queue=st.text(min_size=1).filter(lambda name: name != "q"))
def test_a_signature_is_good_for_one_queue_only(framed: bytes, queue: str) -> None:
    with pytest.raises(BadMessage):
        SIGNER.verify(queue, unpack(framed))


json_scalars = st.none() | st.booleans() | st.integers() | st.floats() | any_text
json_values = st.recursive(
    json_scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4)
)
noted_trails = st.dictionaries(
    st.sampled_from(["failures", "crashes", "interruptions", "reason", "other"]),
    json_values | st.lists(st.integers(), max_size=50) | st.integers(0, 5),
).map(lambda noted: json.dumps(noted).encode())


@given(raw=st.binary() | noted_trails | any_text.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_a_trail_of_any_bytes_is_read_and_what_it_says_is_sane(raw: bytes) -> None:
    trail = Trail.load(raw)
    assert 1 <= trail.attempt <= 2_000_001 + MAX_CRASHES
    assert all(at >= 0 for at in trail.crashes)
    for key, value in trail.reason.items():
        assert f"{key}{value}".encode().decode() == f"{key}{value}"
        assert not isinstance(value, float) or math.isfinite(value)
    assert Trail.load(trail.dump()) == trail


scalars: st.SearchStrategy[Scalar] = st.one_of(json_scalars, any_text.map(lambda text: text * 3_000))


@given(
    failures=st.integers(0, 10**9),
    crashes=st.lists(st.integers(0, 2**48), max_size=100).map(tuple),
    reason=st.dictionaries(any_text, scalars, max_size=10),
)
def test_a_trail_never_grows_over_its_bound(
    failures: int, crashes: tuple[int, ...], reason: dict[str, Scalar]
) -> None:
    dumped = Trail(failures, crashes, 0, reason).dump()
    assert len(dumped) <= MAX_TRAIL
    assert json.loads(dumped or "{}").get("failures", 0) == min(failures, 1_000_000)
    assert Trail.load(dumped).crashes == crashes[-MAX_CRASHES:]


exact_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
builtin_data = st.recursive(
    exact_json
    | st.binary()
    | st.frozensets(st.integers())
    | st.complex_numbers(allow_nan=False)
    | st.datetimes(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(message=exact_json)
def test_json_round_trips(message: object) -> None:
    codec = codec_for("json")
    body = codec.dumps(message)
    assert body.isascii()
    assert codec.loads(body) == message


@given(message=builtin_data)
def test_pickle_round_trips(message: object) -> None:
    codec = codec_for(pickle)
    assert codec.loads(codec.dumps(message)) == message


@given(message=st.text() | st.integers() | st.floats() | st.booleans() | st.none())
def test_plain_text_comes_back_as_the_text_of_the_message(message: object) -> None:
    codec = codec_for(None)
    assert codec.loads(codec.dumps(message)) == str(message)


@given(body=st.binary())
@pytest.mark.parametrize("name", ["json", "text", "msgpack"])
def test_any_bytes_are_read_or_refused(name: str, body: bytes) -> None:
    pytest.importorskip("msgspec")
    refusal = ""
    try:
        codec_for(name).loads(body)
    except BadMessage as error:
        refusal = str(error)
    assert "\n" not in refusal
