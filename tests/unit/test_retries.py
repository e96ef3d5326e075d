"""Whether and when a failed message runs again, and which wishes are refused."""

import random
from datetime import timedelta
from typing import Any

import pytest

from hotqueue import HotQueue, Reject, Retry
from hotqueue.durations import seconds_of
from hotqueue.errors import ConfigurationError
from hotqueue.retries import LONGEST_S, Retries, exponential, retries_from

A_BACKOFF = "backoff must be seconds, a list of them, or a function of how many failures, got"
KINDS = "retry_on must be a class of exceptions or a tuple of them, got"


def chosen(**options: Any) -> Retries:
    wishes = {"retries": None, "backoff": None, "retry_on": None, "at_most_once": False} | options
    return retries_from(**wishes)


def test_by_default_a_message_has_ten_retries() -> None:
    policy = chosen()
    delays = [policy.delay_s(ValueError(), failures) for failures in range(1, 12)]
    assert None not in delays[:10]
    assert delays[10] is None


@pytest.mark.parametrize(
    ("failures", "longest"), [(1, 15), (2, 30), (3, 60), (8, 1920), (9, 3600), (10, 3600), (10_000, 3600)]
)
def test_the_default_delay_doubles_up_to_an_hour_and_half_of_it_is_random(
    monkeypatch: pytest.MonkeyPatch, failures: int, longest: int
) -> None:
    assert longest / 2 <= exponential(failures) <= longest
    monkeypatch.setattr(random, "uniform", lambda low, _high: low)
    assert exponential(failures) == longest / 2
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)
    assert exponential(failures) == longest


def test_without_retries_the_first_failure_is_the_last() -> None:
    assert chosen(retries=0).delay_s(ValueError(), 1) is None
    assert chosen(retries=0).delay_s(Retry(delay=1), 1) is None


def test_a_number_is_the_delay_after_every_failure() -> None:
    policy = chosen(backoff=2.5)
    assert [policy.delay_s(ValueError(), failures) for failures in (1, 2, 10, 11)] == [2.5, 2.5, 2.5, None]


def test_of_a_list_the_last_delay_repeats() -> None:
    policy = chosen(backoff=[1, timedelta(minutes=1)])
    assert [policy.delay_s(ValueError(), failures) for failures in (1, 2, 3)] == [1, 60, 60]


def test_a_list_that_is_changed_later_changes_nothing() -> None:
    delays = [1.0]
    policy = chosen(backoff=delays)
    delays.clear()
    assert policy.delay_s(ValueError(), 1) == 1


def test_a_function_is_asked_with_the_number_of_failures() -> None:
    policy = chosen(backoff=lambda failures: timedelta(seconds=failures * 10))
    assert [policy.delay_s(ValueError(), failures) for failures in (1, 2, 3)] == [10, 20, 30]


@pytest.mark.parametrize("nonsense", [None, -1, "soon", float("nan"), float("inf"), 1e300, True])
def test_a_function_that_returns_nonsense_is_an_error_and_no_delay(nonsense: Any) -> None:
    with pytest.raises(ConfigurationError, match="what the backoff returns must be seconds"):
        chosen(backoff=lambda _failures: nonsense).delay_s(ValueError(), 1)


def test_after_other_errors_than_those_of_retry_on_there_is_no_retry() -> None:
    policy = chosen(retry_on=(OSError, KeyError))
    assert policy.delay_s(FileNotFoundError(), 1) is not None
    assert policy.delay_s(KeyError(), 1) is not None
    assert policy.delay_s(ValueError(), 1) is None
    assert policy.delay_s(SystemExit(), 1) is None


@pytest.mark.parametrize("error", [ValueError(), SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_by_default_whatever_a_handler_raises_is_retried(error: BaseException) -> None:
    assert chosen().delay_s(error, 1) is not None


def test_who_asks_for_a_retry_gets_one_whatever_retry_on_says() -> None:
    policy = chosen(retry_on=OSError, backoff=7, retries=2)
    assert policy.delay_s(Retry(), 1) == 7
    assert policy.delay_s(Retry(delay=3), 2) == 3
    assert policy.delay_s(Retry(delay=0), 2) == 0
    assert policy.delay_s(Retry(delay=timedelta(hours=1)), 2) == 3600
    assert policy.delay_s(Retry(delay=3), 3) is None


def test_what_is_rejected_is_never_retried() -> None:
    assert chosen(retry_on=Reject).delay_s(Reject("no"), 1) is None


def test_a_retry_and_a_rejection_say_why() -> None:
    assert str(Retry("busy", delay=1)) == "busy"
    assert str(Retry()) == "the handler asked for it"
    assert str(Reject("no such user")) == "no such user"


def test_a_retry_refuses_a_negative_delay() -> None:
    with pytest.raises(
        ConfigurationError, match="delay must be seconds or a timedelta, not negative, got -1"
    ):
        Retry(delay=-1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retries": -1}, "retries must be a whole number from 0, got -1"),
        ({"retries": 2.0}, "retries must be a whole number from 0, got 2.0"),
        ({"retries": True}, "retries must be a whole number from 0, got True"),
        ({"backoff": -1}, f"{A_BACKOFF} -1"),
        ({"backoff": []}, f"{A_BACKOFF} []"),
        ({"backoff": "1"}, f"{A_BACKOFF} '1'"),
        ({"backoff": [1, "2"]}, "each backoff must be seconds or a timedelta, not negative, got '2'"),
        ({"retry_on": "OSError"}, f"{KINDS} 'OSError'"),
        ({"retry_on": [OSError]}, f"{KINDS} {[OSError]!r}"),
        ({"retry_on": (int,)}, f"{KINDS} (<class 'int'>,)"),
        ({"max_age": -1}, "max_age must be seconds or a timedelta, not negative, got -1"),
    ],
)  # fmt: skip
def test_a_wish_that_makes_no_sense_is_refused_in_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        HotQueue("myqueue", port=1).worker(**options)
    assert str(caught.value) == said


@pytest.mark.parametrize("options", [{"retries": 1}, {"backoff": 1}, {"retry_on": OSError}], ids=str)
def test_at_most_once_knows_no_retries(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="retries need delivery='at-least-once'"):
        HotQueue("myqueue", port=1).worker(delivery="at-most-once", **options)


def test_at_most_once_may_say_that_it_has_none() -> None:
    handler = HotQueue("myqueue", port=1).worker(delivery="at-most-once", retries=0)(print)
    assert handler.options.policy.delay_s(Retry(delay=0), 1) is None


@pytest.mark.parametrize("given", [0, 1.5, timedelta(seconds=1.5), LONGEST_S])
def test_seconds_are_a_number_or_a_timedelta(given: Any) -> None:
    assert seconds_of("it", given) == (given.total_seconds() if isinstance(given, timedelta) else given)
