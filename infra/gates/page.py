"""The results of gates, as a section of a page or as a page of its own that loads no other file.

Texts come from data sets and are hostile: each is made visible (infra/text.py), cut and escaped. The template engine
does so to every value, so that no place of a template can forget it.
"""

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from infra.gates.result import GateResult
from infra.pictures import Pictures
from infra.text import visible

SHOWN_CHARACTERS = 300
"""Longest text from the data that is displayed; a record keeps more of none (infra/gates/evaluate.py)."""

_SIGNS = {"passed": "✓", "warned": "!", "failed": "✗"}


def render_html(results: Sequence[GateResult], pictures: Pictures | None = None) -> str:
    """Gate results as one HTML section that needs no other file. Every text from the data is escaped and cut; the
    images of rows that broke a rule stand beside them."""
    pictures = pictures or Pictures(None)
    return _environment().get_template("section.html.j2").render(results=results, pictures_of=pictures.of)


def render_page(results: Sequence[GateResult], title: str, pictures: Pictures | None = None) -> str:
    """Gate results as a whole page, for one stage say. Every text from the data is escaped and cut."""
    counts = {outcome: sum(result.outcome == outcome for result in results) for outcome in _SIGNS}
    template = _environment().get_template("page.html.j2")
    section = Markup(render_html(results, pictures))
    return template.render(results=results, title=title, counts=counts, section=section)


def _displayed(value: Any) -> Any:
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return visible(value[:SHOWN_CHARACTERS]) + ("…" if len(value) > SHOWN_CHARACTERS else "")


def _outcome(check: dict[str, Any]) -> str:
    if check["success"]:
        return "passed"
    # Records made before rules had a severity have none: all rules stopped a stage.
    return "warned" if check.get("severity") == "warn" else "failed"


def _observed(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("infra.gates", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_displayed,
    )
    environment.filters |= {"outcome": _outcome, "sign": _SIGNS.__getitem__, "observed": _observed}
    return environment
