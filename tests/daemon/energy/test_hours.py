from __future__ import annotations

from dance_ondevice.daemon.energy.hours import Hours


def test_joules_are_summed_by_hour_and_two_days_are_kept() -> None:
    hours = Hours()
    for minute in range(0, 60 * 72, 20):
        hours.add(1_700_006_400.0 + 60 * minute, "ingest", 2.0)
    hours.add(1_700_006_400.0 + 3600 * 71, "training", 5.0)
    rows = hours.rows()
    assert len({row["hour"] for row in rows}) == 48
    assert rows[0] == {"hour": "2023-11-16T00:00Z", "workload": "ingest", "joules": 6.0}
    assert rows[-1] == {"hour": "2023-11-17T23:00Z", "workload": "training", "joules": 5.0}
