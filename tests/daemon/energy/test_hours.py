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


def test_a_clock_that_was_ahead_hides_no_present_hour() -> None:
    hours = Hours()
    for hour in range(60):
        hours.add(4_000_000_000.0 + 3600 * hour, "ingest", 1.0)
    for hour in range(3):
        hours.add(1_700_006_400.0 + 3600 * hour, "ingest", 1.0)
    assert [row["hour"][:4] for row in hours.rows()] == ["2023"] * 3 + ["2096"] * 45
