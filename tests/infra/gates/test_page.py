"""The page of gates: hostile texts are shown and not obeyed, and headless Chromium shows it light and dark."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser

from infra.gates.page import render_html, render_page
from infra.gates.result import GateResult
from infra.images import UnreadableImage
from infra.pictures import Pictures

HOSTILE = "<script>window.taken = 1</script><img src=https://example.org/x onerror='window.taken = 1'>"


def check(success: bool = True, severity: str = "stop", **fields: Any) -> dict[str, Any]:
    return {
        "expectation": "expect_column_values_to_be_unique",
        "column": "id",
        "rule": "no two rows share an id",
        "severity": severity,
        "success": success,
        "unexpected": 0 if success else 2,
        "examples": [] if success else [{"row": 3, "id": "p3", "value": "twice", "why": "it is there again"}],
        "observed": None,
        "error": None,
        **fields,
    }


def results() -> list[GateResult]:
    return [
        GateResult.of("test problems", 150, [check(), check(unexpected=None, observed=150, rule="there are rows")]),
        GateResult.of("RL prompts", 1200, [check(), check(False, "warn")]),
        GateResult.of("train problems", 1200, [check(False), check(False, unexpected=None, error="no column 'id'")]),
        GateResult.of("empty", 0, []),
    ]


def pictured() -> list[GateResult]:
    """A row with two images, of which one is not there, and what is not a digest."""
    example = {"row": 0, "id": "p0", "value": "twice", "why": None, "images": ["a" * 64, "b" * 64, HOSTILE]}
    return [GateResult.of("RL prompts", 2, [check(False, examples=[example])])]


def thumbnail(digest: str) -> bytes:
    if digest != "a" * 64:
        raise UnreadableImage(f"no data has this image {HOSTILE}")
    file = io.BytesIO()
    Image.new("RGB", (320, 40), "red").save(file, "PNG")
    return file.getvalue()


def hostile() -> list[GateResult]:
    example = {"row": 0, "id": HOSTILE, "value": "x" * 100_000, "why": HOSTILE + "\u202e\x1b[31m"}
    texts = {"rule": HOSTILE, "column": HOSTILE, "expectation": f'" onmouseover="{HOSTILE}'}
    checks = [check(False, examples=[example], **texts), check(False, unexpected=None, error=HOSTILE, observed=HOSTILE)]
    return [GateResult.of(HOSTILE, 4, checks)]


def test_each_outcome_is_named_in_words_and_not_by_colour_alone() -> None:
    page = render_page(results(), "rl")
    assert "Data gates: 2 passed, 1 warned, 1 failed." in page
    for reported in ("<h1>rl</h1>", "twice", "it is there again", "no column &#39;id&#39;", "2 broke it", "and more"):
        assert reported in page
    assert page.count("<!DOCTYPE html>") == 1
    assert render_html([]).count("No gate has run.") == 1
    assert "No rule." in render_html([GateResult("empty", True, 0, [])])


def test_hostile_text_is_escaped_made_visible_and_cut() -> None:
    for page in (render_html(hostile()), render_page(hostile(), HOSTILE)):
        assert "<script" not in page and "<img" not in page and 'onmouseover="' not in page
        assert "\u202e" not in page and "\x1b" not in page
        assert "⟨U+202E⟩␛[31m" in page
        assert "x" * 301 not in page and "x" * 300 + "…" in page


def test_a_row_that_broke_a_rule_stands_with_its_images() -> None:
    page = render_page(pictured(), "rl", Pictures(thumbnail))
    assert page.count("<img") == 1 and 'alt="Image 1 of p0, aaaaaaaaaaaa"' in page
    assert "image 2, <code>bbbbbbbbbbbb</code>, cannot be displayed: no data has this image &lt;script" in page
    assert "cannot be displayed: not a digest" in page and "<script" not in page
    assert "<img" not in render_html(pictured())


def test_records_made_before_there_were_severities_can_be_shown() -> None:
    old = {name: value for name, value in check(False).items() if name != "severity"}
    old["examples"] = [{"row": 3, "id": "p3", "value": "twice"}]
    page = render_html([GateResult.from_record({"gate": "old", "passed": False, "rows": 1, "checks": [old]})])
    assert 'class="outcome failed"' in page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("made", [results, hostile, pictured])
def test_the_page_asks_for_nothing_obeys_nothing_and_fits_its_window(
    browser: Browser, tmp_path: Path, made: Any, width: int, scheme: Any
) -> None:
    file = tmp_path / "gates.html"
    page = render_page(made(), HOSTILE if made is hostile else "long2short/rl", Pictures(thumbnail))
    file.write_text(page, encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 700}, color_scheme=scheme)
    tab = context.new_page()
    requested: list[str] = []
    complaints: list[str] = []
    tab.on("request", lambda request: requested.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text))
    tab.goto(file.as_uri())
    tab.screenshot(path=tmp_path / "page.png", full_page=True)
    assert requested == [file.as_uri()]
    assert complaints == []
    assert tab.evaluate("window.taken") is None
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    widths = tab.evaluate("[...document.images].map(each => each.naturalWidth)")
    assert widths == ([320] if made is pictured else [])
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)")
    context.close()
