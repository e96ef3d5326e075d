"""The fixtures of tests that run workers."""

from tests.support.shop import delivery, parent, shop

__all__ = ["delivery", "parent", "shop"]
