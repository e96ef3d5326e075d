"""Sentry: each error of a handler is reported, with the message that it came from.

Run `python -m examples.sentry_app`, then `SENTRY_DSN=... hotqueue-worker examples.sentry_app`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import sentry_sdk

from hotqueue import Delivery, HotQueue, hooks

queue = HotQueue("divisions")


@hooks.on_child_start
def start_reporting() -> None:
    sentry_sdk.init()  # to SENTRY_DSN, by a thread: after the fork


@hooks.on_child_stop
def report_the_rest() -> None:
    sentry_sdk.flush()


@hooks.around_message
@contextmanager
def reported(delivery: Delivery) -> Iterator[None]:
    with sentry_sdk.isolation_scope() as scope:
        scope.set_transaction_name(delivery.handler)
        scope.set_tags({"queue": delivery.queue, "attempt": delivery.attempt})
        scope.set_context("message", {"id": delivery.id})
        try:
            yield
        except Exception:
            sentry_sdk.capture_exception()
            raise


@queue.worker(retries=0)
def divide(by: int) -> None:
    print(12 // by)


if __name__ == "__main__":
    queue.enqueue(4, 0)
