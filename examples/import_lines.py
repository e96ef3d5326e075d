"""Many messages by few commands: `seq 5000 | python -m examples.import_lines` makes each line a message."""

import sys

from hotqueue import HotQueue

queue = HotQueue("lines", serializer=None)

if __name__ == "__main__":
    with queue.batch(count=500) as batch:
        for line in sys.stdin:
            batch.enqueue(line.rstrip("\n"))
    print(batch.accepted, "lines are accepted")
