"""OpenTelemetry: a trace goes on in the worker, from the request that sent the message.

Run `python -m examples.opentelemetry_app`, then `hotqueue-worker examples.opentelemetry_app`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from hotqueue import Delivery, HotQueue, hooks

provider = TracerProvider()
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("examples")
queue = HotQueue("greetings")


@hooks.on_child_start
def start_exporting() -> None:
    provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))  # it has a thread: after the fork


@hooks.on_child_stop
def export_the_rest() -> None:
    provider.shutdown()


@hooks.around_message
@contextmanager
def traced(delivery: Delivery) -> Iterator[None]:
    attributes = {
        "messaging.system": "hotqueue",
        "messaging.destination.name": delivery.queue,
        "messaging.message.id": delivery.id or "",
    }
    kind = trace.SpanKind.CONSUMER
    context = extract(delivery.headers)
    with tracer.start_as_current_span(delivery.handler, context, kind, attributes):
        yield


@queue.worker
def greet(name: str) -> None:
    print(f"Hello, {name}!")


def greet_later(name: str) -> None:
    with tracer.start_as_current_span("send greeting", kind=trace.SpanKind.PRODUCER):
        headers: dict[str, str] = {}
        inject(headers)
        greet.send(name, headers=headers)


if __name__ == "__main__":
    with tracer.start_as_current_span("request") as request:
        greet_later("Ada")
        print(f"trace {request.get_span_context().trace_id:032x}")
