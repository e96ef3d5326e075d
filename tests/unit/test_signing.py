import hashlib
import hmac

import pytest

from hotqueue.errors import BadMessage, ConfigurationError
from hotqueue.frame import pack, unpack, with_trail, wrap
from hotqueue.serializers import JSON
from hotqueue.signing import Signer, signer_from

OLD = b"the old secret, 24 bytes"
NEW = b"the new secret, 24 bytes"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOTQUEUE_SECRET", raising=False)
    monkeypatch.delenv("HOTQUEUE_STRICT", raising=False)


def signed(secret: bytes = NEW, queue: str = "q") -> bytes:
    return pack(b'"hi"', JSON, headers=b'{"a":1}', signer=Signer([secret], strict=True), queue=queue)


def test_the_tag_is_the_documented_hmac() -> None:
    frame = unpack(signed(queue="é"))
    covered = b"\x00\x00\x00\x02" + "é".encode() + frame.signed_part
    assert frame.tag == hmac.new(NEW, covered, hashlib.sha256).digest()
    assert frame.key_id == hashlib.sha256(b"hotqueue key id\x00" + NEW).digest()[:4]


def test_what_was_signed_is_accepted_again_and_again() -> None:
    signer = Signer([NEW], strict=True)
    for _ in range(3):
        signer.verify("q", unpack(signed()))


def test_the_first_secret_signs_and_all_verify() -> None:
    both = Signer([NEW, OLD], strict=True)
    by_both = unpack(pack(b"1", JSON, signer=both, queue="q"))
    both.verify("q", unpack(signed(OLD)))
    both.verify("q", unpack(signed(NEW)))
    Signer([NEW], strict=True).verify("q", by_both)
    with pytest.raises(BadMessage):
        Signer([OLD], strict=True).verify("q", by_both)


@pytest.mark.parametrize("strict", [True, False])
def test_a_signature_by_an_unknown_key_is_refused(*, strict: bool) -> None:
    frame = unpack(signed(OLD))
    with pytest.raises(BadMessage, match=rf"^the message is signed with key {frame.key_id.hex()}, "):
        Signer([NEW], strict=strict).verify("q", frame)


@pytest.mark.parametrize("strict", [True, False])
def test_a_wrong_signature_is_refused(*, strict: bool) -> None:
    altered = signed().replace(b'"hi"', b'"ho"')
    with pytest.raises(BadMessage, match=r"^the signature is wrong: "):
        Signer([NEW], strict=strict).verify("q", unpack(altered))


def test_a_message_signed_for_one_queue_is_refused_on_another() -> None:
    with pytest.raises(BadMessage, match=r"not signed for queue 'other'$"):
        Signer([NEW], strict=True).verify("other", unpack(signed(queue="q")))


def test_the_name_of_the_queue_cannot_flow_into_the_message() -> None:
    signer = Signer([NEW], strict=True)
    assert signer.sign("ab", b"c") != signer.sign("a", b"bc")


def test_unsigned_messages_are_refused_in_strict_mode_only() -> None:
    frame = unpack(pack(b"1", JSON))
    Signer([NEW], strict=False).verify("q", frame)
    with pytest.raises(
        BadMessage, match=r"^the message is not signed, and queue 'q' takes only signed ones$"
    ):
        Signer([NEW], strict=True).verify("q", frame)


def test_a_wrapped_body_is_not_signed_whatever_it_holds() -> None:
    with pytest.raises(BadMessage, match=r"^the message is not signed, "):
        Signer([NEW], strict=True).verify("q", unpack(wrap(signed())))


def test_a_trail_changes_nothing_about_the_signature() -> None:
    Signer([NEW], strict=True).verify("q", unpack(with_trail(signed(), b'{"failures":1}')))


def test_no_secret_is_ever_shown() -> None:
    assert NEW.decode() not in repr(Signer([NEW, OLD], strict=True))
    with pytest.raises(ConfigurationError) as caught:
        Signer([b"short one"], strict=True)
    assert "short one" not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        signer_from("also too short", None)
    assert "also too short" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 1, 15])
def test_a_secret_under_16_bytes_is_refused_in_one_line(size: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"^a secret of {size} bytes is too short: [^\n]*16"):
        Signer([NEW, b"x" * size], strict=True)
    Signer([b"x" * 16], strict=True)


@pytest.mark.parametrize("secrets", [[], ()])
def test_a_signer_needs_a_secret(secrets: list[bytes]) -> None:
    with pytest.raises(ConfigurationError, match=r"^signing needs at least one secret$"):
        Signer(secrets, strict=True)
    with pytest.raises(ConfigurationError, match=r"^signing needs at least one secret$"):
        signer_from(secrets, None)


def verifies(signer: Signer | None, *frames: bytes) -> bool:
    assert signer is not None
    for framed in frames:
        signer.verify("q", unpack(framed))
    return True


def test_without_a_secret_nothing_is_signed() -> None:
    assert signer_from(None, None) is None
    assert signer_from(None, strict=False) is None


@pytest.mark.parametrize("secret", [NEW, NEW.decode(), [NEW], (NEW.decode(), OLD)], ids=repr)
def test_a_secret_may_be_text_or_bytes_one_or_several(secret: str | bytes | list[str | bytes]) -> None:
    assert verifies(signer_from(secret, None), signed(NEW))


def test_a_secret_given_as_an_argument_is_one_key_even_with_a_comma_in_it() -> None:
    signer = signer_from("a secret, with spaces, of 36 letters", None)
    assert verifies(signer, signed(b"a secret, with spaces, of 36 letters"))


@pytest.mark.parametrize("between", [" ", ",", ", ", "\n", "\t \n,"])
def test_the_variable_holds_several_secrets(monkeypatch: pytest.MonkeyPatch, between: str) -> None:
    monkeypatch.setenv("HOTQUEUE_SECRET", f"new-secret-of-24-letters{between}old-secret-of-24-letters\n")
    signer = signer_from(None, None)
    assert verifies(signer, signed(b"new-secret-of-24-letters"), signed(b"old-secret-of-24-letters"))
    assert (
        pack(b"1", JSON, signer=signer, queue="q")[-36:-32]
        == unpack(signed(b"new-secret-of-24-letters")).key_id
    )


def test_an_argument_wins_over_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTQUEUE_SECRET", "old-secret-of-24-letters")
    assert verifies(signer_from(NEW, None), signed(NEW))


@pytest.mark.parametrize("blank", ["", " ", ",\n"])
def test_a_blank_variable_is_no_secret(monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    monkeypatch.setenv("HOTQUEUE_SECRET", blank)
    assert signer_from(None, None) is None


@pytest.mark.parametrize("secret", [5, [NEW, None], {NEW}, bytearray(NEW)])
def test_a_secret_of_another_type_is_refused_in_one_line(secret: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^a secret must be str or bytes, got \w+$"):
        signer_from(secret, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("argument", "variable", "strict"),
    [
        (None, None, True),
        (None, "", True),
        (None, "1", True),
        (None, " Yes ", True),
        (None, "0", False),
        (None, "false", False),
        (False, "1", False),
        (True, "0", True),
    ],
)
def test_strict_is_the_argument_then_the_variable_then_on(
    monkeypatch: pytest.MonkeyPatch,
    *,
    argument: bool | None,
    variable: str | None,
    strict: bool,
) -> None:
    if variable is not None:
        monkeypatch.setenv("HOTQUEUE_STRICT", variable)
    signer = signer_from(NEW, argument)
    assert signer is not None
    assert signer.strict is strict


def test_strict_without_a_secret_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^strict mode needs a secret: set HOTQUEUE_SECRET or pass secret=$"
    ):
        signer_from(None, strict=True)
    monkeypatch.setenv("HOTQUEUE_STRICT", "on")
    with pytest.raises(ConfigurationError, match=r"^strict mode needs a secret"):
        signer_from(None, None)


def test_a_strict_variable_that_means_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTQUEUE_STRICT", "perhaps")
    with pytest.raises(ConfigurationError, match=r"^HOTQUEUE_STRICT is 'perhaps': use 1 or 0$"):
        signer_from(NEW, None)
