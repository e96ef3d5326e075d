import json
import marshal
import pickle
import random
import sys
import threading

import pytest

from hotqueue.errors import BadMessage, ConfigurationError
from hotqueue.serializers import JSON, MSGPACK, OTHER, PICKLE, RAW, TEXT, Codec, codec_for, codec_for_frame


class Reversed:
    """A serializer of a user's own, as an object."""

    def dumps(self, message: str) -> str:
        return message[::-1]

    def loads(self, body: bytes) -> str:
        return body.decode()[::-1]


class Upper:
    """A serializer of a user's own, as a class."""

    @staticmethod
    def dumps(message: str) -> bytes:
        return message.upper().encode()

    @staticmethod
    def loads(body: bytes) -> str:
        return body.decode()


class Careless(Reversed):
    def __init__(self, body: object) -> None:
        self.body = body

    def dumps(self, message: object) -> object:  # type: ignore[override]
        return self.body


class Unprintable(Exception):
    def __str__(self) -> str:
        raise self


class Malicious:
    def __reduce__(self) -> str:
        raise Unprintable


def deep_list(depth: int) -> list[object]:
    nested: list[object] = []
    for _ in range(depth):
        nested = [nested]
    return nested


def circle() -> list[object]:
    items: list[object] = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    ("serializer", "code", "name", "framed"),
    [
        (pickle, PICKLE, "pickle", True),
        ("pickle", PICKLE, "pickle", True),
        (json, JSON, "json", False),
        ("json", JSON, "json", False),
        (None, TEXT, "text", False),
        ("text", TEXT, "text", False),
        (marshal, OTHER, "marshal", True),
        (Reversed(), OTHER, "Reversed", True),
        (Upper, OTHER, "Upper", True),
    ],
    ids=["pickle module", "pickle", "json module", "json", "None", "text", "other module", "object", "class"],
)
def test_each_kind_of_serializer_has_its_codec(
    serializer: object, code: int, name: str, *, framed: bool
) -> None:
    codec = codec_for(serializer)
    assert (codec.code, codec.name, codec.framed) == (code, name, framed)
    assert codec.loads(codec.dumps("AB")) == "AB"


def test_the_pickle_module_and_its_name_are_the_same_codec() -> None:
    assert codec_for(pickle) is codec_for("pickle")
    assert codec_for(json) is codec_for("json")
    assert codec_for(None) is codec_for("text")


def test_a_codec_is_its_own_codec() -> None:
    codec = codec_for(Reversed())
    assert codec_for(codec) is codec


def test_pickle_writes_protocol_5_whatever_the_python() -> None:
    assert codec_for(pickle).dumps({"a": 1}).startswith(b"\x80\x05")


def test_json_is_compact_and_ascii() -> None:
    assert codec_for("json").dumps({"a": [1, None], "é": "\ud800"}) == b'{"a":[1,null],"\\u00e9":"\\ud800"}'


def test_json_of_other_languages_is_read_as_utf_8_with_or_without_a_mark() -> None:
    assert codec_for("json").loads('{ "é" : 1.0 }'.encode()) == {"é": 1.0}
    assert codec_for("json").loads(b"\xef\xbb\xbf[1]") == [1]


@pytest.mark.parametrize(
    ("message", "text"),
    [("blue", "blue"), ("é", "é"), (42, "42"), (1.5, "1.5"), (None, "None"), (b"bytes", "bytes"), ("", "")],
)
def test_anything_goes_into_plain_text_and_comes_back_as_str(message: object, text: str) -> None:
    codec = codec_for(None)
    assert codec.dumps(message) == text.encode()
    assert codec.loads(codec.dumps(message)) == text


def test_messagepack_round_trips() -> None:
    pytest.importorskip("msgspec")
    codec = codec_for("msgpack")
    assert (codec.code, codec.framed) == (MSGPACK, True)
    assert codec.dumps({"a": 1}) == b"\x81\xa1a\x01"
    assert codec.loads(codec.dumps({"a": [1, b"x", None]})) == {"a": [1, b"x", None]}


def test_messagepack_without_msgspec_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgspec.msgpack", None)
    with pytest.raises(
        ConfigurationError, match=r"^serializer 'msgpack' needs msgspec: pip install 'hotqueue\[msgpack\]'$"
    ):
        codec_for("msgpack")


class OnlyDumps:
    dumps = staticmethod(str)


@pytest.mark.parametrize("useless", [5, object(), "xml", "", "PICKLE", OnlyDumps, OnlyDumps(), sys, b"json"])
def test_what_cannot_serialize_is_a_configuration_error_of_one_line(useless: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        codec_for(useless)
    assert "\n" not in str(caught.value)
    assert "'pickle'" in str(caught.value)


@pytest.mark.parametrize(
    ("serializer", "message", "says"),
    [
        (pickle, threading.Lock(), "type lock as pickle: TypeError: cannot pickle '_thread.lock' object"),
        (pickle, lambda: None, "type function as pickle: "),
        (pickle, deep_list(100_000), "type list as pickle: RecursionError: "),
        (pickle, Malicious(), "type Malicious as pickle: Unprintable"),
        (json, {1, 2}, "type set as json: TypeError: Object of type set is not JSON serializable"),
        (json, circle(), "type list as json: ValueError: Circular reference detected"),
        (json, deep_list(100_000), "type list as json: RecursionError: "),
        (None, "\ud800", "type str as text: UnicodeEncodeError: "),
        (None, b"\xff", "type bytes as text: UnicodeDecodeError: "),
        (Careless("\ud800"), 1, "type int as Careless: UnicodeEncodeError: "),
        (marshal, object(), "type object as marshal: ValueError: unmarshallable object"),
    ],
    ids=[
        "a lock",
        "a lambda",
        "a deep pickle",
        "an unprintable error",
        "a set",
        "a circle",
        "deep json",
        "half a character",
        "bytes that are no text",
        "half a character out of dumps",
        "another error",
    ],
)
def test_a_message_that_cannot_be_written_is_named_by_type_and_cause(
    serializer: object, message: object, says: str
) -> None:
    with pytest.raises(BadMessage) as caught:
        codec_for(serializer).dumps(message)
    assert str(caught.value).startswith(f"cannot write a message of {says}")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, Exception)


@pytest.mark.parametrize("body", [None, 5, ["x"], bytearray(b"x")])
def test_dumps_must_return_bytes_or_str(body: object) -> None:
    with pytest.raises(
        BadMessage, match=rf"^the dumps of Careless must return bytes or str, got {type(body).__name__}$"
    ):
        codec_for(Careless(body)).dumps("message")


@pytest.mark.parametrize(
    ("serializer", "body", "says"),
    [
        (pickle, b"", "0 bytes as pickle: EOFError: Ran out of input"),
        (pickle, b"blue", "4 bytes as pickle: UnpicklingError: "),
        (pickle, b"cnowhere\nGone\n.", "15 bytes as pickle: ModuleNotFoundError: No module named 'nowhere'"),
        (pickle, b"cpickle\nGone\n.", "14 bytes as pickle: AttributeError: "),
        (json, b"", "0 bytes as json: JSONDecodeError: "),
        (json, b"\xff\xff", "2 bytes as json: UnicodeDecodeError: "),
        (json, b"[" * 200_000, "200000 bytes as json: RecursionError: "),
        (json, b"1" * 5_000, "5000 bytes as json: ValueError: "),
        (None, b"\xff", "1 bytes as text: UnicodeDecodeError: "),
        (marshal, b"", "0 bytes as marshal: EOFError"),
    ],
    ids=[
        "an empty pickle",
        "no pickle",
        "a module gone",
        "a class gone",
        "empty json",
        "binary as json",
        "deep json",
        "a long number",
        "binary as text",
        "another error",
    ],
)
def test_a_body_that_cannot_be_read_is_named_by_size_and_cause(
    serializer: object, body: bytes, says: str
) -> None:
    with pytest.raises(BadMessage) as caught:
        codec_for(serializer).loads(body)
    assert str(caught.value).startswith(f"cannot read {says}")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, Exception)


@pytest.mark.parametrize("body", [b'{"a":1}', b"[1]", b'"a"'], ids=["object", "array", "string"])
def test_json_where_a_pickle_should_be_is_told_so(body: bytes) -> None:
    with pytest.raises(BadMessage, match=r"as pickle: .* \(it may be JSON: give both sides the same"):
        codec_for("pickle").loads(body)


def test_a_class_of_the_script_that_sent_it_is_told_to_move_into_a_module() -> None:
    body = b"\x80\x04\x8c\x08__main__\x8c\x07Nowhere\x93."
    with pytest.raises(
        BadMessage, match=r"Can't get attribute 'Nowhere' .* \(its class is in the script that sent"
    ):
        codec_for("pickle").loads(body)


@pytest.mark.parametrize("name", ["pickle", "json"])
def test_a_function_is_no_message_and_told_so(name: str) -> None:
    with pytest.raises(BadMessage, match=r"\(a message is data: to have a handler run, call its send\)$"):
        codec_for(name).dumps(lambda: None)


@pytest.mark.parametrize(
    "failure",
    [MemoryError(), RecursionError(), Unprintable(), ValueError("two\nlines\n" * 500), StopIteration()],
)
def test_every_exception_out_of_loads_is_a_bad_message_of_one_short_line(failure: Exception) -> None:
    class Failing(Reversed):
        def loads(self, body: bytes) -> str:
            raise failure

    with pytest.raises(BadMessage) as caught:
        codec_for(Failing()).loads(b"body")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert caught.value.__cause__ is failure


def test_an_interrupt_is_not_taken_for_a_bad_message() -> None:
    class Interrupted(Reversed):
        def loads(self, body: bytes) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        codec_for(Interrupted()).loads(b"body")


def test_a_pickle_nested_200_000_deep_is_read_or_refused_and_the_process_lives() -> None:
    codec = codec_for(pickle)
    depth = 200_000
    body = b"\x80\x05" + b"]" * depth + b"a" * (depth - 1) + b"."
    try:
        nested = codec.loads(body)
    except BadMessage:
        return
    assert isinstance(nested, list)
    with pytest.raises(BadMessage, match=r"RecursionError"):
        codec.dumps(nested)


def test_2_000_damaged_pickles_raise_nothing_but_bad_message() -> None:
    # Neither this pickle nor the damage has a "p" or "r": as opcodes they make the unpickler clear as much
    # memory as a number in the pickle says, up to 32 GiB, and that is the machine's test, not ours.
    whole = (
        b"\x80\x05\x95E\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x04name\x94\x8c\x04blue\x94\x8c\x05sizes\x94]\x94"
        b"(K\x01M,\x01G?\xf8\x00\x00\x00\x00\x00\x00e\x8c\x04both\x94K\x01N\x86\x94\x8c\x04data\x94C\x02\x00\xff\x94u."
    )
    codec = codec_for(pickle)
    assert codec.loads(whole) == {
        "name": "blue",
        "sizes": [1, 300, 1.5],
        "both": (1, None),
        "data": b"\x00\xff",
    }
    dice = random.Random(14)
    harmless = bytes(set(range(256)) - set(b"pr"))
    refused = set()
    for _ in range(2_000):
        damaged = bytearray(whole)
        for _ in range(dice.randint(1, 3)):
            damaged[dice.randrange(len(damaged))] = dice.choice(harmless)
        try:
            codec.loads(bytes(damaged))
        except BadMessage as error:
            refused.add(type(error.__cause__))
    assert len(refused) >= 4


@pytest.mark.parametrize("own", ["pickle", "json", "text"])
def test_a_queue_reads_its_own_frames_wrapped_bodies_and_json(own: str) -> None:
    codec = codec_for(own)
    assert codec_for_frame(codec.code, codec) is codec
    assert codec_for_frame(RAW, codec) is codec
    assert codec_for_frame(JSON, codec) is codec_for("json")


@pytest.mark.parametrize("own", ["json", "text", Upper])
def test_a_frame_cannot_make_a_queue_unpickle(own: object) -> None:
    with pytest.raises(BadMessage, match=r"^framed as pickle, but this queue reads (json|text|Upper): "):
        codec_for_frame(PICKLE, codec_for(own))


@pytest.mark.parametrize(("code", "name"), [(TEXT, "text"), (MSGPACK, "msgpack"), (77, "serializer 77")])
def test_a_frame_of_another_serializer_is_refused_by_name(code: int, name: str) -> None:
    with pytest.raises(BadMessage, match=rf"^framed as {name}, but this queue reads pickle: "):
        codec_for_frame(code, codec_for(pickle))


def test_a_codec_cannot_be_changed() -> None:
    codec: Codec = codec_for(pickle)
    with pytest.raises(AttributeError):
        codec.loads = json.loads  # type: ignore[misc]
