from __future__ import annotations

from senders import lost_samples

LOG = """12:00 DEBUG quota evicting ids=a,b
12:00 INFO quota evicted samples=2 bytes=9 due=1
12:01 DEBUG quota evicting ids=d
"""


def test_a_sample_that_is_gone_and_was_not_evicted_is_lost() -> None:
    assert lost_samples({"a", "b", "c", "d"}, {"c", "d"}, LOG) == set()
    assert lost_samples({"a", "b", "c", "d"}, {"d"}, LOG) == {"c"}
