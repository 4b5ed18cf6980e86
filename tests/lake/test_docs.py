"""What docs/queries.md and docs/queries.ipynb show works, and links of all pages lead somewhere."""

from __future__ import annotations

import io
import json
import re
from datetime import timedelta
from pathlib import Path

import matplotlib
import pytest
from PIL import Image

from tests.lake.rows import DAY, publish_rows
from vidpipe.config import load_settings
from vidpipe.lake.query import run_query
from vidpipe.lake.views import VIEWS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "queries.md").read_text("utf-8")


def _anchors(page: Path) -> list[str]:
    """Of its sections, as GitHub makes them."""
    sections = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return ["#" + re.sub(r"[^\w\- ]", "", of.lower()).replace(" ", "-") for of in sections]


@pytest.mark.parametrize("page", [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))], ids=str)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        path, hash_mark, section = link.partition("#")
        if "://" in path:
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not hash_mark or f"#{section}" in _anchors(target), link


def test_the_page_on_models_begins_with_its_sections():
    page = DOCS / "models.md"
    begin, _, _ = page.read_text("utf-8").partition("\n## ")
    assert re.findall(r"\((#.+)\)", begin) == _anchors(page)[1:]


@pytest.fixture
def configured(lake, tmp_path, monkeypatch):
    """A lake with a little of everything, which this process is configured for."""
    jpeg = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(jpeg, "jpeg")
    video = {"video_id": "v", "source_uri": "s3://videos/v.mp4"}
    source = video | {"source_version": "1"}
    told = {"task": "motion", "video_id": "v", "label": "up"}
    model = {"task": "motion", "model": "m", "model_version": "1"}
    rows = {
        "sources": [source],
        "videos": [video],
        "frames": [{"video_id": "v", "jpeg": jpeg.getvalue()}],
        "annotations": [told],
        "promotions": [model | {"promoted_at": DAY - timedelta(1)}],
        "labels": [told | model | {"score": 0.6}],
        "reviews": [told | model | {"picked_for": "random"}],
    }
    publish_rows(lake, "r1", "label", rows, not_done={"x": "no_video"})
    config = tmp_path / "vidpipe.toml"
    s3 = lake.settings.s3
    config.write_text(
        f'[lake]\nuri = "{lake.uri}"\ncatalog_uri = "{lake.settings.lake.catalog_uri}"\n'
        f'[s3]\nendpoint_url = "{s3.endpoint_url}"\naccess_key_id = "{s3.access_key_id}"\n'
        f'secret_access_key = "{s3.secret_access_key}"\n'
    )
    monkeypatch.setenv("VIDPIPE_CONFIG", str(config))
    load_settings.cache_clear()
    yield lake
    load_settings.cache_clear()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("name", VIEWS)
def test_the_page_shows_the_sql_of_each_view(name):
    assert f"create or replace view {name} as\n{VIEWS[name]};" in PAGE
    assert f"| `{name}` |" in PAGE


def test_the_python_of_the_page_runs(configured):
    names: dict = {}
    for block in _blocks("python"):
        exec(block, names)
    assert names["counts"].to_pylist() == [{"label": "up", "videos": 1}]
    assert list(names["labels"].columns) == ["video_id", "label", "score"]
    assert names["best"]["labelled_by"].to_list() == ["people"]
    assert names["videos"]["source_uri"].to_list() == ["s3://videos/v.mp4"]


def test_the_questions_of_the_page_run(configured):
    statements = _blocks("sql")[0].strip().removesuffix(";").split(";\n")
    disagreements, times, best, not_used, precision, origins = statements
    assert run_query(disagreements).num_rows == 0
    assert run_query(times).num_rows == len(run_query("from current_labels where accepted"))
    assert run_query(best).to_pylist() == [
        {"source_uri": "s3://videos/v.mp4", "label": "up", "labelled_by": "people", "score": None}
    ]
    assert run_query(not_used).to_pylist() == [
        {"reason": "no_video", "items": 1, "example": "s3://b/x"}
    ]
    assert run_query(precision).to_pylist() == [
        {"task": "motion", "model_version": "1", "precision": 1.0, "judged": 1}
    ]
    assert run_query(origins)["run_key"].to_pylist() == ["r1"]


def test_the_notebook_runs(configured):
    matplotlib.use("Agg")
    names: dict = {}
    notebook = json.loads((DOCS / "queries.ipynb").read_text("utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            exec("".join(cell["source"]), names)
    assert names["jpeg_of"]["v"].startswith(b"\xff\xd8")
    assert [row["label"] for row in names["doubtful"]] == ["up"]
