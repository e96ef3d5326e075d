"""The work of the demo: a message is the path of a text; what is found in it goes into a second queue."""

import hashlib
import os
import re
import time
from collections import Counter
from pathlib import Path

from hotqueue import HotQueue

texts = HotQueue("demo-texts")
results = HotQueue("demo-results", serializer="json")

WORD = re.compile(r"[^\W\d_]{4,}")


@texts.worker
def measure(path: str) -> None:
    started = time.time()
    content = Path(path).read_bytes()
    words = Counter(WORD.findall(content.decode("utf-8", "replace").casefold()))
    results.enqueue(
        {
            "path": path,
            "bytes": len(content),
            "lines": content.count(b"\n"),
            "sha256": hashlib.sha256(content).hexdigest(),
            "words": words,
            "pid": os.getpid(),
            "started": started,
            "ended": time.time(),
        }
    )
