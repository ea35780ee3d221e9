"""Images beside the prompts that had them: those that the model saw, small, and nothing else of the store."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from PIL import Image
from playwright.sync_api import Browser
from starlette.testclient import TestClient

from infra.images import pixel_digest, store_image, stored_address
from infra.lineage.prompt_digest import prompt_digest
from infra.lineage.sample_files import write_samples
from infra.lineage.sample_row import KIND, SampleRow
from infra.lineage.web.site import Site
from infra.store.evaluation import Evaluation
from infra.store.open import open_store
from infra.store.records import StageRecord
from infra.store.store import object_prefix
from infra.store.stored_images import SIDE
from tests.infra.lineage.records import EVALUATION, History
from tests.infra.lineage.web.page_browser import Tab, served
from tests.infra.lineage.web.page_site import HOSTILE, Outline, client, empty_site
from tests.infra.lineage.web.test_page_accessibility import AXE, faults_of

QUESTION = "How many circles are there?"
WIDE = Image.linear_gradient("L").resize((800, 400)).convert("RGB")
SMALL = Image.new("RGB", (30, 20), "red")
PROMPT = prompt_digest(QUESTION, [stored_address(pixel_digest(WIDE)), stored_address(pixel_digest(SMALL))])


class Pictures:
    """A run whose curated prompts and test problems have images, and a site that shows it."""

    def __init__(self, folder: Path) -> None:
        self.store = open_store(folder / "store")
        (folder / "prompts").mkdir()
        (folder / "prompts" / "problems.jsonl").write_text("a secret of the data")
        self.images = [store_image(image, folder / "prompts") for image in (WIDE, SMALL)]
        self.digests = [pixel_digest(image) for image in (WIDE, SMALL)]
        content = (folder / "prompts" / self.images[1]).read_bytes()
        self.changed = "1" * 64
        (folder / "prompts" / stored_address(self.changed)).write_bytes(content)
        (folder / "prompts" / stored_address("2" * 64)).write_text("<script>no image</script>")
        self.prompts = self.store.put(folder / "prompts", "dataset")
        (folder / "samples").mkdir()
        row: dict[str, Any] = {"problem_id": "circles", "prompt_digest": PROMPT, "prompt": QUESTION, "tokens": 3}
        row |= {"response": "2", "role": "rollout", "outcome": "trained", "times_trained": 1, "reward": 1.0}
        hostile = row | {"images": [HOSTILE, "../../runs", "0" * 64], "prompt_digest": "3" * 64}
        rows = [SampleRow(**row, images=self.digests), SampleRow(**hostile)]
        write_samples(folder / "samples" / "samples.parquet", rows)
        self.samples = self.store.put(folder / "samples", KIND)
        history = History()
        history.add_run("first")
        history.records = [(name, self.with_images(record)) for name, record in history.records]
        self.site: Site = empty_site(folder, history)

    def with_images(self, record: Any) -> Any:
        if not isinstance(record, StageRecord):
            return record
        changes: dict[str, Any] = {
            "curation": {"outputs": {"prompts": self.prompts}, "gates": [self.gate]},
            "rl": {
                "outputs": record.outputs | {"samples": self.samples},
                "inputs": {"prompts": self.prompts},
            },
            "evaluate/rl": {
                "inputs": record.inputs | {"data": self.prompts},
                "evaluation": Evaluation.model_validate(EVALUATION | {"examples": [self.example]}),
            },
        }
        return record.model_copy(update=changes.get(record.stage, {}))

    @property
    def gate(self) -> dict[str, Any]:
        example = {"row": 0, "id": "circles", "value": "twice", "why": None, "images": [*self.digests, HOSTILE]}
        rule = {"rule": "once", "success": False, "severity": "stop", "unexpected": 2}
        rows = [example, example | {"images": HOSTILE}, {"row": 1, "id": "p1", "value": "x", "why": None}]
        return {"gate": "curated", "passed": False, "rows": 2, "checks": [rule | {"examples": rows}]}

    @property
    def example(self) -> dict[str, Any]:
        texts = {"problem_id": "circles", "domain": "shapes", "prompt": QUESTION, "response": "3", "reason": "wrong"}
        return {**texts, "reward": 0.0, "tokens": 3, "images": self.digests}

    def address(self, digest: str, **query: str) -> str:
        return f"/images/{digest}.png?{urlencode({'run': 'first', 'stage': 'rl'} | query)}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pictures]:
    made = Pictures(tmp_path_factory.mktemp("pictures"))
    yield made
    made.site.index.close()


@pytest.fixture
def visitor(pictures: Pictures) -> TestClient:
    return client(pictures.site)


def test_a_thumbnail_is_the_image_made_small_and_the_whole_is_as_it_was_stored(
    visitor: TestClient, pictures: Pictures
) -> None:
    wide, small = pictures.digests
    answer = visitor.get(pictures.address(wide))
    assert answer.headers["content-type"] == "image/png" and answer.headers["x-content-type-options"] == "nosniff"
    assert Image.open(io.BytesIO(answer.content)).size == (SIDE, SIDE // 2)
    whole = visitor.get(pictures.address(wide, whole="1")).content
    assert pixel_digest(Image.open(io.BytesIO(whole)).convert("RGB")) == wide
    assert Image.open(io.BytesIO(visitor.get(pictures.address(small)).content)).size == SMALL.size
    assert visitor.get(pictures.address(small, stage="evaluate/rl")).status_code == 200


def test_what_is_not_an_image_of_the_stage_is_not_had(visitor: TestClient, pictures: Pictures) -> None:
    digest = pictures.digests[0]
    refused = {
        pictures.address("0" * 64): "has this image",
        pictures.address(pictures.changed): "another digest",
        pictures.address("2" * 64): "no image of the kinds",
        pictures.address(digest, run="no-such-run"): "itself",
        "/images/x.png": "64 hexadecimal digits",
        f"/images/{digest}.png": "itself",
        f"/images/..%2Fproblems.jsonl?{urlencode({'run': 'first', 'stage': 'rl'})}": "There is no such page",
    }
    for address, words in refused.items():
        answer = visitor.get(address)
        assert answer.status_code == 404 and words in answer.text and "a secret" not in answer.text, address
        assert answer.headers["content-type"].startswith("text/html") and "<script>" not in answer.text


def test_an_image_that_was_damaged_or_deleted_is_not_shown(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path)
    visitor = client(pictures.site)
    place = Path(pictures.store.backend.address) / object_prefix(pictures.prompts.digest)
    file = place / "content" / pictures.images[0]
    file.chmod(0o644)
    file.write_bytes(b"another")
    assert visitor.get(pictures.address(pictures.digests[0])).status_code == 502
    shutil.rmtree(place)
    assert visitor.get(pictures.address(pictures.digests[1])).status_code == 502
    assert visitor.get(f"/samples/{pictures.samples.digest}").status_code == 200
    pictures.site.index.close()


def test_every_place_of_a_prompt_has_its_images_and_no_other_address(visitor: TestClient, pictures: Pictures) -> None:
    expected = [pictures.address(each) for each in pictures.digests]
    unknown = pictures.address("0" * 64)
    evaluated = [each.replace("stage=rl", "stage=evaluate%2Frl") for each in expected]
    broken = [each.replace("stage=rl", "stage=curation") for each in expected]
    for page, addresses in (
        ("/runs/first?tab=gates", broken),
        ("/graph?node=gate:first:curation:0", broken),
        (f"/samples/{pictures.samples.digest}", [*expected, unknown]),
        (f"/graph?node=artifact:{pictures.samples.digest}", [*expected, unknown]),
        (f"/prompts/{PROMPT}", expected),
        ("/runs/first?tab=evaluation", evaluated),
    ):
        outline = Outline(visitor.get(page).text)
        images = [each for each in outline.of("img") if "icon" not in each["src"]]
        assert [each["src"] for each in images] == addresses, page
        assert images[0]["alt"].startswith("Image 1 of ") and pictures.digests[0][:12] in images[0]["alt"]


def test_an_evaluated_response_leads_to_the_prompt_with_its_images(visitor: TestClient, pictures: Pictures) -> None:
    links = [each.get("href") for each in Outline(visitor.get("/runs/first?tab=evaluation").text).of("a")]
    assert f"/prompts/{PROMPT}" in links
    text = Outline(visitor.get(f"/prompts/{PROMPT}").text).text
    assert "Left: rl of first" in text and "Right: evaluate/rl of first" in text
    assert visitor.get(f"/prompts/{prompt_digest(QUESTION)}").status_code == 404, "the text alone"


def test_an_images_digest_finds_the_prompts_that_have_it(visitor: TestClient, pictures: Pictures) -> None:
    outline = Outline(visitor.get(f"/prompts?search={pictures.digests[1]}").text)
    assert f"/prompts/{PROMPT}" in [each.get("href") for each in outline.of("a")]
    assert visitor.get(f"/prompts?search={PROMPT}").headers["location"] == f"/prompts/{PROMPT}"


def test_the_samples_page_shows_the_image_that_the_model_saw(browser: Browser, pictures: Pictures) -> None:
    with served(pictures.site) as address:
        tab = Tab(browser, address, viewport={"width": 1300, "height": 900})
        tab.page.add_init_script(path=AXE / "axe.min.js")
        tab.page.goto(f"/samples/{pictures.samples.digest}")
        assert faults_of(tab.page, "samples with images") == []
        images = tab.page.get_by_role("img", name="of prompt 1")
        tab.page.wait_for_function("[...document.querySelectorAll('article img')].every(each => each.complete)")
        sizes = images.evaluate_all("all => all.map(each => [each.naturalWidth, each.naturalHeight])")
        assert sizes == [[SIDE, SIDE // 2], [30, 20]]
        images.first.click()
        tab.page.wait_for_url("**whole=1")
        assert tab.page.evaluate("document.images[0].naturalWidth") == 800
        tab.context.close()
    assert tab.outside == [] and tab.complaints == []
