import time
import uuid

import pytest

from hotqueue import frame as frames
from hotqueue.errors import BadMessage, TooLarge
from hotqueue.frame import (
    MAGIC,
    SIGNED,
    WRAPPED,
    enqueued_ms,
    id_text,
    is_frame,
    new_id,
    pack,
    unpack,
    with_trail,
    wrap,
)
from hotqueue.serializers import JSON, PICKLE, RAW
from hotqueue.signing import Signer

ID = bytes.fromhex("01977420dc0070008000000000000001")
SIGNER = Signer([b"a secret of 24 characters"], strict=True)


def test_an_id_is_a_uuid_of_version_7_with_the_time_in_front() -> None:
    before = time.time_ns() // 1_000_000
    message_id = new_id()
    after = time.time_ns() // 1_000_000
    parsed = uuid.UUID(bytes=message_id)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert before <= enqueued_ms(message_id) <= after


def test_ids_drawn_in_the_same_millisecond_differ() -> None:
    assert len({new_id() for _ in range(10_000)}) == 10_000


def test_the_random_bits_of_an_id_all_vary() -> None:
    ids = [int.from_bytes(new_id(), "big") for _ in range(200)]
    ever_set = ever_clear = 0
    for number in ids:
        ever_set |= number
        ever_clear |= ~number
    random_bits = (1 << 74) - 1
    assert ((ever_set & ever_clear) & 0xFFF << 64) == 0xFFF << 64
    assert ((ever_set & ever_clear) & random_bits & (1 << 62) - 1) == (1 << 62) - 1


def test_the_text_of_an_id_is_the_canonical_one() -> None:
    message_id = new_id()
    assert id_text(message_id) == str(uuid.UUID(bytes=message_id))


def test_a_frame_lies_in_redis_byte_by_byte_as_the_documentation_says() -> None:
    framed = pack(b'"hi"', JSON, headers=b'{"a":1}', message_id=ID)
    assert (
        framed
        == MAGIC + b"\x01" + b"\x02" + b"\x00" + b"\x00\x07" + ID + b"\x00\x00\x00\x04" + b'{"a":1}"hi"'
    )


def test_unpack_gives_back_what_pack_was_given() -> None:
    framed = pack(b"body", PICKLE, headers=b"{}", message_id=ID)
    frame = unpack(framed)
    assert (frame.message_id, frame.serializer, frame.flags) == (ID, PICKLE, 0)
    assert (frame.headers, frame.body) == (b"{}", b"body")
    assert frame.signed_part == framed
    assert (frame.key_id, frame.tag, frame.trail) == (b"", b"", b"")


def test_a_signed_frame_carries_key_id_and_tag_behind_what_they_cover() -> None:
    framed = pack(b"body", PICKLE, signer=SIGNER, queue="q")
    frame = unpack(framed)
    assert frame.flags == SIGNED
    assert (len(frame.key_id), len(frame.tag)) == (4, 32)
    assert frame.signed_part + frame.key_id + frame.tag == framed


def test_a_frame_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        unpack(pack(b"body", PICKLE)).body = b"other"  # type: ignore[misc]


def test_headers_of_64_kib_are_too_large() -> None:
    assert unpack(pack(b"", RAW, headers=b"x" * 65_535)).headers == b"x" * 65_535
    with pytest.raises(TooLarge, match=r"^65536 bytes of headers .* at most 65535 "):
        pack(b"", RAW, headers=b"x" * 65_536)


def test_a_body_over_the_length_field_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_BODY", 10)
    assert unpack(pack(b"x" * 10, RAW)).body == b"x" * 10
    with pytest.raises(TooLarge, match=r" 11 bytes of body do not fit in a frame: at most 65535 and 10 do$"):
        pack(b"x" * 11, RAW)


@pytest.mark.parametrize("signer", [None, SIGNER])
def test_a_frame_cut_short_anywhere_is_a_bad_message(signer: Signer | None) -> None:
    framed = pack(b"body", PICKLE, headers=b"{}", signer=signer, queue="q")
    for size in range(len(framed)):
        with pytest.raises(BadMessage, match=r"^(the frame is cut short: \d+ bytes of at least|not a frame)"):
            unpack(framed[:size])


def test_a_bare_body_is_no_frame() -> None:
    for bare in (b"", b"{}", b"\x80\x05N.", b"\xc1", b"\xc1H", b"x" * 100):
        assert not is_frame(bare)
        with pytest.raises(BadMessage, match=r"^not a frame: "):
            unpack(bare)


def test_an_unknown_version_is_named() -> None:
    framed = bytearray(pack(b"body", PICKLE))
    framed[3] = 2
    assert is_frame(bytes(framed))
    with pytest.raises(BadMessage, match=r"^the frame has version 2; this HotQueue reads version 1: "):
        unpack(bytes(framed))


@pytest.mark.parametrize("flags", [3, 4, 0x80, 0xFF])
def test_unknown_flags_are_refused_since_they_may_change_what_the_body_means(flags: int) -> None:
    framed = bytearray(pack(b"body" * 20, PICKLE))
    framed[5] = flags
    with pytest.raises(BadMessage, match=rf"^the frame has flags {flags:#04x}, "):
        unpack(bytes(framed))


@pytest.mark.parametrize("raw", [b"", b"blue", b"\xff" * 50, pack(b"body", PICKLE)[:20]], ids=len)
def test_any_bytes_can_be_wrapped_and_unwrapped(raw: bytes) -> None:
    frame = unpack(wrap(raw))
    assert (frame.flags, frame.serializer, frame.body) == (WRAPPED, RAW, raw)


def test_equal_bodies_wrapped_are_not_equal() -> None:
    assert wrap(b"blue") != wrap(b"blue")


@pytest.mark.parametrize("signer", [None, SIGNER])
def test_a_trail_is_replaced_and_the_rest_stays(signer: Signer | None) -> None:
    framed = pack(b"body", PICKLE, headers=b"{}", signer=signer, queue="q")
    once = with_trail(framed, b'{"failures":1}')
    twice = with_trail(once, b'{"failures":2}')
    assert once == framed + b'{"failures":1}'
    assert twice == framed + b'{"failures":2}'
    assert with_trail(twice, b"") == framed
    assert unpack(twice) == unpack(framed)._replace(trail=b'{"failures":2}', raw=twice)


def test_a_trail_over_16_kib_is_never_written_and_not_read() -> None:
    framed = pack(b"body", PICKLE)
    assert unpack(with_trail(framed, b"x" * 16_384)).trail == b"x" * 16_384
    with pytest.raises(TooLarge, match=r"16385"):
        with_trail(framed, b"x" * 16_385)
    assert unpack(framed + b"x" * 16_385).trail == b""


def test_a_broken_frame_gets_no_trail() -> None:
    with pytest.raises(BadMessage, match=r"cut short"):
        with_trail(pack(b"body", PICKLE)[:-1], b"{}")
