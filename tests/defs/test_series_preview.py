"""`series_preview` in Dagster's eyes: a picture in the metadata, and nobody else's business."""

import base64
import io
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from aneurysm_assets.cli import runner
from aneurysm_assets.cli.main import cli
from aneurysm_assets.cli.status import take_overview
from aneurysm_assets.defs.assets import series_preview as asset
from aneurysm_assets.errors import InputError
from aneurysm_assets.instance.data_root import open_instance
from aneurysm_assets.preview import picture
from aneurysm_assets.raw.fingerprints import fingerprints_of_previews, take_fingerprints
from aneurysm_assets.runs import partitions
from aneurysm_assets.runs.resources import NullReporter
from aneurysm_assets.sample.dicom import uid
from aneurysm_assets.schema.tables import SERIES_PREVIEW
from aneurysm_assets.settings import Settings
from tests.graph import Graph, each_once, failure, warnings_of
from tests.record import SERIES_TABLES

CTA, JPEG_2000 = uid("sample", "CTA"), uid("sample", "JPEG 2000")
PREVIEW = "series_preview"


@pytest.fixture
def graph(data: Path) -> Graph:
    return Graph(data)


def break_pixels(data: Path) -> None:
    for path in (data / "raw" / "series" / JPEG_2000).iterdir():
        path.write_bytes(path.read_bytes().replace(b"\xff\x4f\xff\x51", b"\x00\x00\x00\x00"))


def stale(graph: Graph) -> list[str]:
    now = fingerprints_of_previews(take_fingerprints(graph.settings, graph.series))
    return partitions.changed(graph.instance, SERIES_PREVIEW, [CTA, JPEG_2000], now)


def rewrite_a_file(data: Path) -> None:
    path = next((data / "raw" / "series" / CTA).iterdir())
    path.write_bytes(path.read_bytes())


def move_a_point(data: Path) -> None:
    csv = data / "raw" / "train_localizers.csv"
    csv.write_text(csv.read_text().replace("'x': 31,", "'x': 30,"))


def lose_the_segmentation(data: Path) -> None:
    (data / "raw" / "segmentations" / CTA / f"{CTA}_cowseg.nii").unlink()


@pytest.mark.parametrize("how", [{"partition": CTA}, {"series": [CTA, JPEG_2000]}])
def test_a_series_event_holds_the_picture_its_path_and_its_points(how, graph, data) -> None:
    assert graph.run(PREVIEW, **how).success
    metadata = graph.metadata(PREVIEW, CTA)
    path = data / "interim" / PREVIEW / f"{CTA}.png"
    assert metadata["path"] == str(path)
    assert metadata["picture_bytes"] == path.stat().st_size
    assert (metadata["points"], metadata["points_shown"], metadata["layout"]) == (4, 3, "planes")
    assert metadata["files"] == 25
    assert "rows" not in metadata
    text, _, encoded = metadata["preview"].partition("](data:image/jpeg;base64,")
    assert text == f"![{CTA}: three planes, 3 of 4 points marked"
    assert len(metadata["preview"]) < 60_000
    assert Image.open(io.BytesIO(base64.b64decode(encoded.removesuffix(")")))).format == "JPEG"


def test_a_series_that_cannot_be_decoded_fails_alone_and_says_why(graph, data) -> None:
    break_pixels(data)
    result = graph.run_all(PREVIEW)
    assert not result.success
    assert graph.with_status(PREVIEW, "FAILED") == [JPEG_2000]
    others = [series for series in graph.series if series != JPEG_2000]
    assert graph.events(PREVIEW) == each_once(others)
    reason = failure(result, PREVIEW)
    assert f"1 of {len(graph.series)} series failed" in reason
    assert f"{JPEG_2000}: " in reason
    assert "JPEG 2000" in reason
    assert ".dcm" in reason
    names = {path.name for path in (data / "interim" / PREVIEW).iterdir()}
    assert names == {f"{series}.png" for series in others}


def test_it_needs_no_other_asset_and_no_csv(graph, data) -> None:
    (data / "raw" / "train_localizers.csv").unlink()
    (data / "raw" / "train.csv").unlink()
    assert graph.run(PREVIEW, partition=CTA).success
    assert {path.name for path in (data / "interim").iterdir()} == {PREVIEW}
    assert graph.metadata(PREVIEW, CTA)["points"] == 0


def test_worker_processes_draw_the_same_pictures(data) -> None:
    graph = Graph(data, processes=2)
    assert graph.run_all(PREVIEW).success
    assert graph.events(PREVIEW) == each_once(graph.series)


def test_without_pillow_the_step_says_what_to_install(graph, monkeypatch) -> None:
    def missing() -> None:
        raise InputError("Pillow is not installed: install it")

    monkeypatch.setattr(asset, "require_pillow", missing)
    assert failure(graph.run(PREVIEW, partition=CTA), PREVIEW) == (
        "Pillow is not installed: install it"
    )


def test_without_pillow_a_run_of_everything_makes_the_rest(graph, monkeypatch) -> None:
    def missing() -> None:
        raise InputError("Pillow is not installed: install it")

    monkeypatch.setattr(asset, "require_pillow", missing)
    done = graph.run(*SERIES_TABLES, PREVIEW, "unified_metadata", partition=CTA)
    assert done.success
    assert graph.metadata("unified_metadata")["series"] == 1
    assert graph.events(PREVIEW) == {}
    assert "left out: Pillow is not installed: install it" in warnings_of(graph, done)


def test_the_default_run_neither_draws_nor_waits_for_pictures(data, monkeypatch) -> None:
    monkeypatch.setenv("ANEURYSM_DATA", str(data))
    monkeypatch.setenv("ANEURYSM_WORKERS", "1")
    settings = Settings.from_environment()
    summary = runner.run(settings, NullReporter(), only=[CTA])
    assert (summary.materialized, summary.problems) == (1, [])
    assert not (data / "interim" / PREVIEW).exists()
    assert set(take_overview(settings).assets) == set(SERIES_TABLES)
    with open_instance(settings) as instance:
        assert partitions.complete(instance, settings)[0] == [CTA]
        assert partitions.is_combined(instance, settings, [CTA])


def test_a_new_picture_makes_the_unified_table_no_older(graph) -> None:
    graph.run(*SERIES_TABLES, "unified_metadata", partition=CTA)
    assert graph.run(PREVIEW, partition=CTA).success
    assert partitions.is_combined(graph.instance, graph.settings, [CTA])
    assert partitions.complete(graph.instance, graph.settings)[0] == [CTA]


@pytest.mark.parametrize("change", [rewrite_a_file, move_a_point, lose_the_segmentation])
def test_a_picture_is_stale_once_what_it_was_drawn_from_has_changed(change, graph, data) -> None:
    assert graph.run(PREVIEW, series=[CTA, JPEG_2000]).success
    assert stale(graph) == []
    change(data)
    assert stale(graph) == [CTA]
    assert graph.run(PREVIEW, partition=CTA).success
    assert stale(graph) == []


def test_a_file_that_changes_while_its_series_is_drawn_makes_the_picture_stale(
    graph, data, monkeypatch
) -> None:
    read = picture.read_series

    def read_then_change(*where):
        table = read(*where)
        rewrite_a_file(data)
        return table

    monkeypatch.setattr(picture, "read_series", read_then_change)
    assert graph.run(PREVIEW, partition=CTA).success
    assert stale(graph) == [CTA]


def test_status_names_the_pictures_that_are_out_of_date(graph, data, monkeypatch) -> None:
    monkeypatch.setenv("ANEURYSM_DATA", str(data))
    settings = Settings.from_environment()
    assert take_overview(settings).series_preview == {}
    with open_instance(settings) as instance:
        partitions.register(instance, graph.series)
        graph.instance = instance
        assert graph.run(PREVIEW, series=[CTA, JPEG_2000]).success
    assert take_overview(settings).series_preview == {
        "materialized": 2,
        "stale": 0,
        "stale_series": [],
    }
    move_a_point(data)
    (data / "interim" / PREVIEW / f"{JPEG_2000}.png").unlink()
    told = CliRunner().invoke(cli, ["status"])
    assert told.exit_code == 0
    assert "series_preview: pictures of 1 series, 1 out of date" in told.output
    assert f"picture out of date: {CTA}" in told.output
