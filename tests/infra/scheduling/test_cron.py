"""The times of five cron fields: as cron has them, and where clocks are put forward and back."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.scheduling.config import ScheduleConfig
from infra.scheduling.cron import Cron

BERLIN = "Europe/Berlin"


def times(text: str, timezone: str, after: datetime, count: int) -> list[str]:
    """UTC, as 'DD HH:MM'."""
    cron, results = Cron.parse(text), []
    for _ in range(count):
        time = cron.next(timezone, after)
        assert time is not None and time.utcoffset() == timedelta(0)
        results.append(f"{time:%d %H:%M}")
        after = time
    return results


def test_a_time_that_spring_skips_comes_an_hour_later_and_not_twice() -> None:
    # On 28 March 2027 Berlin's clock goes from 02:00 to 03:00, which is 01:00 UTC.
    assert times("30 2 * * *", BERLIN, datetime(2027, 3, 26, 12, tzinfo=UTC), 3) == ["27 01:30", "28 01:30", "29 00:30"]
    assert times("*/30 * * * *", BERLIN, datetime(2027, 3, 28, 0, 20, tzinfo=UTC), 3) == [
        "28 00:30",
        "28 01:00",
        "28 01:30",
    ]


def test_a_time_that_autumn_repeats_comes_at_both() -> None:
    # On 31 October 2027 Berlin's clock goes from 03:00 back to 02:00, which is 01:00 UTC.
    assert times("30 2 * * *", BERLIN, datetime(2027, 10, 30, 12, tzinfo=UTC), 3) == [
        "31 00:30",
        "31 01:30",
        "01 01:30",
    ]
    assert times("0 3 * * *", BERLIN, datetime(2027, 10, 30, 12, tzinfo=UTC), 2) == ["31 02:00", "01 02:00"]


def test_weekdays_count_from_sunday_as_crons_do() -> None:
    after = datetime(2027, 11, 1, 12, tzinfo=UTC)  # a Monday
    assert times("0 3 * * 1", "UTC", after, 2) == ["08 03:00", "15 03:00"]
    assert times("0 3 * * 0", "UTC", after, 1) == ["07 03:00"]
    assert times("0 3 * * mon-fri", "UTC", after, 5) == ["02 03:00", "03 03:00", "04 03:00", "05 03:00", "08 03:00"]
    assert times("0 3 * * */2", "UTC", after, 3) == ["02 03:00", "04 03:00", "06 03:00"]


def test_either_day_is_enough_where_both_are_restricted() -> None:
    assert times("0 0 13 * 5", "UTC", datetime(2027, 8, 10, tzinfo=UTC), 4) == [
        "13 00:00",
        "20 00:00",
        "27 00:00",
        "03 00:00",
    ]
    assert times("0 0 13 * 1", "UTC", datetime(2027, 8, 10, tzinfo=UTC), 2) == ["13 00:00", "16 00:00"]


def test_a_leap_day_is_waited_for() -> None:
    assert Cron.parse("0 0 29 2 *").next("UTC", datetime(2097, 1, 1, tzinfo=UTC)) == datetime(2104, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("* * * *", "4 fields; expected five"),
        ("@daily", "1 fields"),
        ("60 * * * *", "minute '60': '60' is not in 0 to 59"),
        ("0 3 * * 7", "day of week '7': '7' is not in 0 to 6, or sun"),
        ("0 3 * * fri-mon", "a range goes upwards"),
        ("*/0 * * * *", "steps of 1 or more"),
        ("0 3 30 2 *", "never comes"),
        ("0 3 L * *", "'L' is not in 1 to 31"),
        ("0 3 1,,2 * *", "none of"),
        ("0 3 *-5 * *", "none of"),
        ("٣ 3 * * *", "none of"),
        ("0 3 * * 1; rm", "6 fields"),
    ],
)
def test_what_is_not_a_cron_is_refused_by_field(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("*", r"\*").replace("?", r"\?")):
        Cron.parse(text)


FIELDS = [(0, 59), (0, 23), (1, 28), (1, 12), (0, 6)]


@st.composite
def expressions(draw: st.DrawFn) -> str:
    fields = []
    for least, most in FIELDS:
        value = st.integers(least, most)
        low, high = sorted((draw(value), draw(value)))
        step = draw(st.integers(1, 9))
        forms = ["*", f"*/{step}", f"{low}", f"{low},{high}", f"{low}-{high}", f"{low}-{high}/{step}", f"{low}/{step}"]
        fields.append(draw(st.sampled_from(forms)))
    return " ".join(fields)


def allowed(field: str, least: int, most: int) -> set[int]:
    """What a field allows, by another way than the module's."""
    results: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        low, dash, high = span.partition("-")
        first = least if span == "*" else int(low)
        last = int(high) if dash else most if span == "*" or step else first
        results |= {value for value in range(first, last + 1) if (value - first) % int(step or 1) == 0}
    return results


def holds(text: str, time: datetime) -> bool:
    fields = text.split()
    minute, hour, day, month, weekday = (allowed(f, *limits) for f, limits in zip(fields, FIELDS, strict=True))
    # FIELDS ends at 28 so that a day never is too late for its month; the field itself ends at 31.
    day |= allowed(fields[2], 1, 31)
    days = time.day in day, (time.weekday() + 1) % 7 in weekday
    both = fields[2].startswith("*") or fields[4].startswith("*")
    return time.minute in minute and time.hour in hour and time.month in month and (all(days) if both else any(days))


@settings(max_examples=40, deadline=None)
@given(expressions(), st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1)))
def test_every_time_is_one_at_which_the_fields_hold_and_none_is_left_out(text: str, start: datetime) -> None:
    zone = ZoneInfo("Asia/Kolkata")  # half an hour beside the others, and its clock is never put forward
    after = start.replace(tzinfo=UTC)
    time = Cron.parse(text).next("Asia/Kolkata", after)
    assert time is not None and time > after
    assert holds(text, time.astimezone(zone)) and time.second == time.microsecond == 0
    minute = after.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for _ in range(400):
        if minute >= time:
            break
        assert not holds(text, minute.astimezone(zone))
        minute += timedelta(minutes=1)


def test_a_schedule_says_what_it_lacks() -> None:
    assert ScheduleConfig.model_validate({"when": "data-changed"}).cron == "*/10 * * * *"
    for values, message in (
        ({}, "give `cron`"),
        ({"cron": "0 3 * * *", "timezone": "Europe/Atlantis"}, "is not a time zone"),
        ({"cron": "0 3 * * *", "timezone": "../../etc/passwd"}, "is not a time zone"),
        ({"when": "data-changed", "what": "evaluate"}, "reads no new data"),
        ({"cron": "0 3 * * *", "grace_s": 0}, "greater than 0"),
        ({"cron": "0 3 * * *", "every": 5}, "Extra inputs"),
    ):
        with pytest.raises(ValueError, match=message):
            ScheduleConfig.model_validate(values)
