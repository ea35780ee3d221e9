"""The pages' templates, and how values are formatted in them.

Every value that a template prints is first made visible and cut to length (infra.text) and then escaped, both by the
engine, so that no place of a template can forget them.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from infra.images import stored_address
from infra.lineage.prompt_digest import prompt_digest
from infra.text import for_display

NONE = "–"
"""A missing value."""

_DIGEST = re.compile(r"[0-9a-f]{64}")

KINDS = {
    "artifact": "Artifact",
    "execution": "Execution",
    "source": "Source",
    "gate": "Gate",
    "run": "Run",
    "tag": "Tag",
}
"""Names of the graph's kinds of nodes for people."""


SECTIONS = (
    ("Overview", "/"),
    ("Runs", "/runs"),
    ("Models", "/models"),
    ("Data", "/data"),
    ("Prompts", "/prompts"),
    ("Tags", "/tags"),
    ("Failures", "/failures"),
    ("Gates", "/gates"),
    ("Benchmarks", "/benchmarks"),
    ("Schedules", "/schedules"),
    ("Graph", "/graph"),
    ("Compare", "/compare"),
)
"""The page's sections and their addresses, in the order of the navigation."""


def page(template: str, **values: Any) -> str:
    """A template's HTML. Raises jinja2.UndefinedError where a value is missing."""
    return _environment().get_template(template).render(**values)


def link(path: str, /, **query: Any) -> str:
    """An address on this page; values of None and empty texts are left out."""
    pairs = [(name, value) for name, value in query.items() if value is not None and value != ""]
    return quote(path, safe="/") + (f"?{urlencode(pairs, doseq=True)}" if pairs else "")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("infra.lineage.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: (
            for_display(value) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
    )
    filters: dict[str, Callable[..., Any]] = {
        "percent": percent,
        "plain": plain,
        "tokens": lambda value: f"{value:,.1f}" if _is_number(value) else NONE,
        "duration": duration,
        "size": size,
        "when": when,
        "short": lambda digest: NONE if digest is None else digest[:12],
        "digests": digests,
    }
    environment.filters |= filters
    environment.globals |= {
        "link": link,
        "digest_of_example": digest_of_example,
        "SECTIONS": SECTIONS,
        "KINDS": KINDS,
        "NONE": NONE,
    }
    return environment


def digest_of_example(example: Mapping[str, Any]) -> str:
    """The digest of the prompt of an evaluated response."""
    return prompt_digest(str(example.get("prompt")), [stored_address(each) for each in digests(example.get("images"))])


def digests(values: Sequence[str] | None) -> list[str]:
    """Those of some texts that are digests; of samples' images all should be, and none other becomes an address."""
    return [value for value in values or () if _DIGEST.fullmatch(value)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def percent(value: Any) -> str:
    """A share as per cent."""
    return f"{value:.1%}" if _is_number(value) else NONE


def plain(value: Any) -> str:
    """A value of a configuration or a metric, in few characters."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:,.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(each) for each in value) or "empty"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {plain(each)}" for name, each in value.items()) or "empty"
    return str(value)


def duration(seconds: float | None) -> str:
    """Seconds as people write durations."""
    if not _is_number(seconds):
        return NONE
    assert seconds is not None
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def size(value: float | None) -> str:
    """Bytes in the unit that leaves few digits."""
    if not _is_number(value):
        return NONE
    assert value is not None
    unit = "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:,.0f} B" if unit == "B" else f"{value:,.1f} {unit}"


def when(time: str | None) -> Markup | str:
    """A record's time (ISO 8601) as a <time> element in UTC; any other text stays as it is."""
    if not time:
        return NONE
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        return time
    zone = ""
    if moment.tzinfo is not None:
        moment, zone = moment.astimezone(UTC), " UTC"
    machine = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        machine, f"{moment:%Y-%m-%d %H:%M:%S}{zone}", f"{moment:%d %b %Y, %H:%M}{zone}"
    )
