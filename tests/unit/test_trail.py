import json

import pytest

from hotqueue.frame import MAX_TRAIL
from hotqueue.trail import MAX_CRASHES, Trail


def test_the_first_attempt_has_number_1() -> None:
    assert Trail().attempt == 1


def test_every_run_that_ended_early_counts_as_an_attempt() -> None:
    trail = Trail().failed().failed().crashed(1_750_000_000_000).interrupted()
    assert (trail.failures, trail.crashes, trail.interruptions) == (2, (1_750_000_000_000,), 1)
    assert trail.attempt == 5


def test_a_trail_is_read_back_as_it_was_written() -> None:
    trail = Trail().failed().crashed(7).crashed(9).interrupted()
    trail = trail.with_reason(kind="failed", error="ValueError: é", at=1.5, handler=None, final=True)
    assert Trail.load(trail.dump()) == trail


def test_what_never_happened_takes_no_bytes() -> None:
    assert Trail().dump() == b""
    assert Trail.load(b"") == Trail()
    assert Trail().failed().dump() == b'{"failures":1}'


def test_a_trail_is_not_changed_by_what_is_made_of_it() -> None:
    trail = Trail()
    trail.failed().crashed(1).interrupted().with_reason(kind="crashed")
    assert trail == Trail()


def test_a_new_reason_takes_the_place_of_the_old_one() -> None:
    trail = Trail().with_reason(kind="failed", error="first").with_reason(kind="crashed")
    assert trail.reason == {"kind": "crashed"}


def test_the_newest_32_crashes_are_kept() -> None:
    trail = Trail()
    for at_ms in range(100):
        trail = trail.crashed(at_ms)
    assert trail.crashes == tuple(range(100 - MAX_CRASHES, 100))
    assert Trail.load(trail.dump()) == trail


def test_a_long_text_loses_its_middle_and_the_short_ones_stay() -> None:
    traceback = "Traceback begins\n" + "x" * 1_000_000 + "\nValueError: the end"
    dumped = Trail().failed().with_reason(kind="failed", traceback=traceback, handler="app.tasks.send").dump()
    trail = Trail.load(dumped)
    assert MAX_TRAIL // 4 < len(dumped) <= MAX_TRAIL
    assert trail.failures == 1
    assert trail.reason["kind"] == "failed"
    assert trail.reason["handler"] == "app.tasks.send"
    shortened = str(trail.reason["traceback"])
    assert shortened.startswith("Traceback begins\n")
    assert shortened.endswith("\nValueError: the end")


@pytest.mark.parametrize("text", ["\ud800" * 50_000, "\x00" * 50_000, "😀" * 50_000, '"\\' * 50_000])
def test_texts_that_grow_when_written_stay_within_the_bound(text: str) -> None:
    dumped = Trail().with_reason(error=text, traceback=text).dump()
    assert len(dumped) <= MAX_TRAIL
    assert set(Trail.load(dumped).reason) == {"error", "traceback"}


def test_the_bound_is_used_to_the_last_byte_and_never_passed() -> None:
    sizes = [len(Trail().with_reason(error="x" * size).dump()) for size in range(MAX_TRAIL - 40, MAX_TRAIL)]
    assert max(sizes) == MAX_TRAIL


def test_half_a_character_is_written_so_that_it_can_be_printed() -> None:
    dumped = Trail().with_reason(error="a\ud800b").dump()
    assert str(Trail.load(dumped).reason["error"]).encode() == b"a\\ud800b"
    assert Trail.load(b'{"reason":{"\\ud800":"\\udfff"}}').reason == {"\\ud800": "\\udfff"}


def test_a_reason_that_cannot_be_shortened_is_left_out_and_the_counters_stay() -> None:
    reason = {f"key {number}": number for number in range(10_000)}
    assert Trail.load(Trail(failures=3, reason=reason).dump()) == Trail(failures=3)


def test_numbers_that_are_no_json_are_left_out() -> None:
    trail = Trail().with_reason(kind="failed", took=float("nan"), limit=float("inf"), huge=10**5000)
    assert Trail.load(trail.dump()).reason == {"kind": "failed"}


@pytest.mark.parametrize(
    "raw",
    [
        b"not json",
        b"\xff\xfe\x00",
        b"\x00",
        b"[]",
        b"null",
        b"1",
        b'"failures"',
        b"[" * 16_000,
        b'{"reason":' * 1_600,
        b'{"failures":' + b"9" * 5_000 + b"}",
        b'{"failures":1}' + b" " * MAX_TRAIL,
        b"{}",
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_what_cannot_be_read_is_an_empty_trail(raw: bytes) -> None:
    assert Trail.load(raw) == Trail()


@pytest.mark.parametrize("absurd", [-1, 1.0, 1e300, "1", True, None, [1], {"a": 1}, 10**9])
def test_an_absurd_count_is_not_believed(absurd: object) -> None:
    raw = json.dumps({"failures": absurd, "interruptions": 2}).encode()
    assert Trail.load(raw) == Trail(interruptions=2)


def test_absurd_crashes_are_not_believed() -> None:
    raw = json.dumps({"crashes": [-1, 5, "6", True, 1.5, None, 2**60, [7], 8]}).encode()
    assert Trail.load(raw).crashes == (5, 8)
    assert Trail.load(b'{"crashes":{"0":1}}').crashes == ()
    assert len(Trail.load(json.dumps({"crashes": list(range(500))}).encode()).crashes) == MAX_CRASHES


def test_only_plain_values_are_taken_from_a_reason() -> None:
    raw = b'{"reason":{"kind":"failed","at":1.5,"deep":{"a":1},"list":[1],"nan":NaN,"inf":1e999,"none":null}}'
    assert Trail.load(raw).reason == {"kind": "failed", "at": 1.5, "none": None}
    assert Trail.load(b'{"reason":["kind"],"failures":1}') == Trail(failures=1)


def test_a_trail_with_absurd_counters_of_its_own_is_written_within_bounds() -> None:
    trail = Trail(failures=10**5000, interruptions=10**5000, crashes=tuple(range(1_000)))
    assert Trail.load(trail.dump()) == Trail(1_000_000, tuple(range(968, 1_000)), 1_000_000)


def test_a_suspect_is_one_until_it_has_failed() -> None:
    suspect = Trail().suspected()
    assert (suspect.suspect, suspect.attempt, suspect.crashes) == (True, 2, ())
    assert Trail.load(suspect.dump()) == suspect
    assert suspect.interrupted().suspect
    assert suspect.crashed(5).suspect
    assert Trail().crashed(5).suspect
    assert not suspect.failed().suspect
    assert not Trail.load(b'{"suspect":1}').suspect
