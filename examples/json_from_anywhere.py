"""JSON from another language: whatever can RPUSH can send.

Run `hotqueue-worker examples.json_from_anywhere`, and
`redis-cli RPUSH hotqueue:emails '{"to": "ada@example.org", "subject": "Hello"}'`.
"""

from hotqueue import HotQueue

queue = HotQueue("emails", serializer="json")


@queue.worker
def send_email(email: dict[str, str]) -> None:
    print(f"to {email['to']}: {email['subject']}")
