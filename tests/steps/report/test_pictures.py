"""The report on a model that reads images: its prompts' pictures, accuracy by modality and the consistency gap."""

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser

from flows.cli.report import print_report
from infra.images import pixel_digest, store_image, stored_address
from infra.lineage.figures import figures_of, modality_figures
from infra.pictures import MAX_BYTES, MAX_OF_PROMPT, Pictures
from infra.store import records
from infra.store.open import open_store
from infra.store.records import StageRecord
from infra.store.stored_images import SIDE, StoredImages
from steps.report import figures
from steps.report.evaluation_page import render_evaluation
from steps.report.modalities import gap_figure
from steps.report.page import render_report
from tests.steps.report.made_up_run import HOSTILE, STAGES, evaluation, record
from tests.steps.report.outline import Outline
from tests.steps.report.test_page_in_browser import look

WIDE = Image.linear_gradient("L").resize((800, 400)).convert("RGB")
SMALL = Image.new("RGB", (30, 20), "red")
DIGESTS = [pixel_digest(WIDE), pixel_digest(SMALL)]
MISSING = "0" * 64


def seen(stage: str, images: list[str], texts: float, drawn: float) -> dict[str, Any]:
    """An evaluation on text and images; its first example's prompt has these images."""
    result = evaluation(stage)
    result["examples"][0]["images"] = images
    modality = {"problems": 75, "mean_tokens": 40.5}
    result["modalities"] = {"text": modality | {"accuracy": texts}, "image": modality | {"accuracy": drawn}}
    return result | {"twins": {"pairs": 50, "text_accuracy": texts, "image_accuracy": drawn}}


class Run:
    """A run whose test problems have images, in a store."""

    def __init__(self, folder: Path) -> None:
        data = folder / "data"
        data.mkdir()
        for image in (WIDE, SMALL):
            store_image(image, data)
        store = open_store(folder / "store")
        ref = store.put(data, "dataset")
        results = {"vanilla_sft": (0.5, 0.125), "rl": (0.75, 0.625)}
        self.records: list[StageRecord] = []
        for stage in STAGES:
            changes: dict[str, Any] = {"evaluation": None}
            if stage == "data":
                changes = {"outputs": {"data": ref}}
            elif stage in results:
                changes = {"evaluation": seen(stage, [*DIGESTS, MISSING], *results[stage])}
            self.records.append(record(stage, **changes))
        self.images = StoredImages.of(store, self.records)

    @property
    def page(self) -> str:
        return render_report("nano-vision", self.records, self.images)


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    yield Run(tmp_path_factory.mktemp("run"))


def pictures_of(page: str) -> list[dict[str, str | None]]:
    return [attributes for tag, attributes in Outline(page).tags if tag == "img"]


def test_a_prompts_pictures_stand_once_beside_the_responses_of_all_models(seeing: Run) -> None:
    images = pictures_of(seeing.page)
    assert [(each["alt"], each["title"]) for each in images] == [
        (f"Image {place} of the prompt, {digest[:12]}", digest[:12]) for place, digest in enumerate(DIGESTS, 1)
    ]
    sources = [each["src"] or "" for each in images]
    assert all(re.fullmatch(r"data:image/png;base64,[A-Za-z0-9+/=]+", source) for source in sources)
    thumbnails = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]
    assert [each.size for each in thumbnails] == [(SIDE, SIDE // 2), SMALL.size]
    assert pixel_digest(thumbnails[1].convert("RGB")) == DIGESTS[1]
    texts = " ".join(" ".join(Outline(seeing.page).texts).split())
    assert f"Image 3, {MISSING[:12]} , cannot be displayed: " in texts
    assert "3 images, search" in texts


def test_accuracy_length_and_gap_by_modality_stand_in_a_table_and_a_figure(seeing: Run) -> None:
    texts = " ".join(" ".join(Outline(seeing.page).texts).split())
    assert "vanilla_sft 75 50.0% 40.5 75 12.5% 40.5 50 50.0% 12.5% 37.5" in texts
    assert "rl 75 75.0% 40.5 75 62.5% 40.5 50 75.0% 62.5% 12.5" in texts
    figure = gap_figure({each.stage: each for each in seeing.records if each.evaluation})
    assert figure is not None and figure.svg in seeing.page
    assert "rl: 75.0% in text, 62.5% as images, a gap of +12.5 points" in figure.alt


def test_a_report_on_text_alone_has_nothing_of_images(page: str) -> None:
    assert "By modality" not in page and not pictures_of(page) and 'class="pictures"' not in page


def test_modalities_and_gap_are_figures_of_the_record(seeing: Run) -> None:
    (rl,) = [each for each in seeing.records if each.stage == "rl"]
    expected = {"text accuracy": 0.75, "image accuracy": 0.625, "consistency gap": 0.125}
    values = figures_of(rl)
    assert {name: values[name] for name in expected} == expected
    assert modality_figures(record("rl").evaluation) == modality_figures(None) == {}


def test_the_command_prints_them_where_there_are_some(seeing: Run, capsys: pytest.CaptureFixture[str]) -> None:
    store, run = seeing.images.store, seeing.records[0].run
    for each in seeing.records:
        records.write(store, f"stage-runs/{run}", each)
    print_report(store.backend.address, run, as_json=True)
    printed = {each["stage"]: each for each in json.loads(capsys.readouterr().out)["modalities"]}
    assert printed["rl"]["image"]["accuracy"] == 0.625 and printed["vanilla_sft"]["twins"]["gap"] == 0.375
    print_report(store.backend.address, run, as_json=False)
    (line,) = [each for each in capsys.readouterr().out.splitlines() if "+12.5" in each]
    assert line.split() == ["rl", "75.0%", "40.5", "62.5%", "40.5", "75.0%", "62.5%", "+12.5"]


def test_rl_has_curves_by_modality_where_iterations_report_them() -> None:
    history = [{"rl/accuracy": 0.5, "rl/text_accuracy": 0.6, "rl/image_accuracy": share} for share in (0.1, 0.3)]
    drawn = {each.caption: each.alt for each in figures.rl_figures(record("rl", history=history))}
    assert "with images: first 0.1, last 0.3" in drawn["Accuracy by modality"]


def test_a_record_that_names_no_digest_or_many_pictures_neither_writes_markup_nor_grows_the_page(seeing: Run) -> None:
    names = [HOSTILE, "../../etc/passwd", *DIGESTS * MAX_OF_PROMPT]
    page = render_report("n", [record("rl", evaluation=seen("rl", names, 1.0, 1.0))], seeing.images)
    outline = Outline(page)
    assert "script" not in {tag for tag, _ in outline.tags} and len(pictures_of(page)) == MAX_OF_PROMPT - 2
    assert f"{len(names) - MAX_OF_PROMPT} more" in " ".join(outline.texts)
    assert Pictures(None).of([DIGESTS[0]])[0].reason == "the page was made without the data"


def test_pictures_stop_before_the_page_is_too_large(tmp_path: Path) -> None:
    noisy = [Image.effect_noise((SIDE, SIDE), 60 + shade).convert("RGB") for shade in range(40)]
    (tmp_path / "data").mkdir()
    for image in noisy:
        store_image(image, tmp_path / "data")
    store = open_store(tmp_path / "store")
    pictures = Pictures(StoredImages(store, (store.put(tmp_path / "data", "dataset").digest,)).thumbnail)
    made = [picture for image in noisy for picture in pictures.of([pixel_digest(image)])]
    assert 0 < sum(len(picture.uri or "") for picture in made) < MAX_BYTES * 1.4
    assert made[-1].uri is None and "pictures enough" in made[-1].reason


def test_a_file_that_was_changed_is_not_shown_as_what_its_name_says(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    store_image(SMALL, tmp_path / "data")
    (tmp_path / "data" / stored_address(MISSING)).write_bytes(
        (tmp_path / "data" / stored_address(DIGESTS[1])).read_bytes()
    )
    store = open_store(tmp_path / "store")
    images = StoredImages(store, (store.put(tmp_path / "data", "dataset").digest,))
    assert [picture.reason for picture in Pictures(images.thumbnail).of([DIGESTS[1], MISSING])] == [
        "",
        "its pixels have another digest",
    ]


def test_the_page_on_an_evaluation_has_the_pictures_and_the_gap(seeing: Run) -> None:
    def model(stage: str) -> dict[str, Any]:
        made = next(each.evaluation for each in seeing.records if each.stage == stage)
        assert made is not None
        return {"digest": DIGESTS[0], "stage": stage, "run": "r", "evaluated_in": "r", "evaluation": made.model_dump()}

    comparison = {
        "tag": "production",
        "model": model("rl"),
        "tagged": model("vanilla_sft"),
        "verdict": "",
        "checks": [],
    }
    page = render_evaluation("nano-vision", comparison, seeing.images)
    texts = " ".join(" ".join(Outline(page).texts).split())
    assert "Drawn problems, as images 62.5% 12.5% Consistency gap 12.5% 37.5%" in texts
    assert [each["title"] for each in pictures_of(page)] == [digest[:12] for digest in DIGESTS]


@pytest.mark.parametrize("width", [400, 1200])
def test_the_browser_decodes_the_pictures_and_asks_for_nothing(
    browser: Browser, seeing: Run, tmp_path: Path, width: int
) -> None:
    displayed = look(browser, seeing.page, tmp_path, width, "light", opened=True)
    assert displayed["asked"] == [] and displayed["complaints"] == []
    assert displayed["overflow"] <= 0 and displayed["cut_off"] == []
    assert displayed["pictures"] == [[SIDE, SIDE // 2], [30, 20]]
