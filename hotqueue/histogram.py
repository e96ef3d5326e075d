"""How often something took how long: counts by bounds that are the same everywhere."""

from collections.abc import Sequence

# Upper bounds, each included in its bucket; one more bucket holds what took longer.
BOUNDS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
)
BUCKETS = len(BOUNDS_S) + 1


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Return what `share` of all took at the most, in seconds; None where nothing was counted.

    Within a bucket all are taken to be spread evenly, as by `histogram_quantile` of Prometheus. What took
    longer than the last bound is taken for that bound.
    """
    rank, below = share * sum(counts), 0
    for index, count in enumerate(counts[: len(BOUNDS_S)]):
        if count and below + count >= rank:
            least = BOUNDS_S[index - 1] if index else 0.0
            return least + (BOUNDS_S[index] - least) * (rank - below) / count
        below += count
    return BOUNDS_S[-1] if sum(counts) else None
