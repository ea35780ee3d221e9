"""The times of a line of cron: those of robfig/cron 3.0.1, and no others."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.scheduling.config import ScheduleConfig
from infra.scheduling.cron import Cron

TABLE = [
    [cell.strip() for cell in line.split(" | ")]
    for line in (Path(__file__).parent / "robfig_cron.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize(("line", "timezone", "after", "expected"), TABLE, ids=[f"{row[0]} {row[1]}" for row in TABLE])
def test_a_line_comes_when_robfigs_cron_says(line: str, timezone: str, after: str, expected: str) -> None:
    time = datetime.fromisoformat(after).replace(tzinfo=UTC)
    if expected == "refused":
        with pytest.raises(ValueError, match=r"."):
            Cron.parse(line)
    elif expected == "never" and time.year < 2097:
        with pytest.raises(ValueError, match="never comes"):
            Cron.parse(line)
    elif expected == "never":
        assert Cron.parse(line).next(timezone, time) is None
    else:
        for one in expected.split():
            following = Cron.parse(line).next(timezone, time)
            assert following == datetime.fromisoformat(one).replace(tzinfo=UTC)
            assert following.utcoffset() == timedelta(0)
            time = following


def test_the_table_is_whole() -> None:
    assert len(TABLE) >= 70 and all(len(row) == 4 for row in TABLE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("* * * *", "4 fields; expected five"),
        ("@fortnightly", "is not known: expected five fields, or one of @yearly"),
        ("@every 1", "is not a length of time: expected one like 30m"),
        ("@every 99999h", "more than 5 years"),
        ("CRON_TZ=Asia/Tokyo 0 3 * * *", "names a time zone: put it into the key `timezone`"),
        ("60 * * * *", "minute '60': '60' is not in 0 to 59"),
        ("0 3 * * 7", "day of week '7': '7' is not in 0 to 6, or sun"),
        ("0 3 * * fri-mon", "a range goes upwards"),
        ("*/0 * * * *", "steps of 1 or more"),
        ("0 3 30 2 *", "never comes"),
        ("0 3 L * *", "'L' is not a whole number in 1 to 31"),
        ("0 3 1-2-3 * *", "none of"),
        ("٣ 3 * * *", "is not a whole number"),
        ("9999999999999999999999 3 * * *", "is not a whole number"),
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
        fields.append(draw(st.sampled_from([*forms, f"{low},*"])))
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
    both = any(part in ("*", "*/1") for field in (fields[2], fields[4]) for part in field.split(","))
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
