"""The images of evaluated prompts, as the tracker gets them."""

from pathlib import Path

from PIL import Image

from infra.images import pixel_digest, store_image
from infra.stages.tracked_images import MAX_CHARACTERS, MAX_IMAGES, tracked_images
from infra.store.evaluation import Evaluation
from infra.store.open import open_store
from infra.store.stored_images import StoredImages


def test_the_tracker_gets_the_images_of_evaluated_prompts_with_both_texts(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    image = Image.new("RGB", (4, 3), "red")
    (tmp_path / "data").mkdir()
    store_image(image, tmp_path / "data")
    images = StoredImages(store, (store.put(tmp_path / "data", "dataset").digest,))
    texts = {"problem_id": "p", "domain": "d", "prompt": "How many?\x1b", "response": "1" * 300, "reason": "not equal"}
    example = {**texts, "reward": 0.0, "tokens": 1, "images": ["0" * 64, pixel_digest(image)]}
    figures = dict.fromkeys(("accuracy", "standard_error", "mean_tokens", "median_tokens", "p99_tokens"), 0.5)
    evaluation = Evaluation.model_validate({"problems": 1, "samples": 1, **figures, "examples": [example] * 40})
    pictures = tracked_images(evaluation, images)
    assert len(pictures) == MAX_IMAGES
    assert pictures[0] == (images.thumbnail(pixel_digest(image)), f"How many?␛\nnot equal: {'1' * MAX_CHARACTERS}…")
    assert tracked_images(None, images) == []
