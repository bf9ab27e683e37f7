"""What a user of the Dagster UI sees and clicks: real Chromium, a real `dagster dev`.

The tests are one story, in the order in which they stand. Its pictures are the README's:
`make pictures` takes them anew.
"""

import json
import re
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from PIL import Image
from playwright.sync_api import Error, Locator, Page, expect

from aneurysm_assets.cli.runner import STARTED_BY
from aneurysm_assets.definitions import defs
from aneurysm_assets.defs.presentation import DOCS
from aneurysm_assets.sample.dicom import uid
from aneurysm_assets.schema.tables import UNIFIED_METADATA
from tests.chromium import PATIENCE_FOR_A_RUN, Browser, chromium, executable, wait_for_colour
from tests.dagster_dev import Dev, dagster_dev
from tests.processes import call, wait_until
from tests.record import instance_of

SERIES = 12

# How wide a phone's screen is, CSS pixels.
PHONE = 390

AUTOMATION, LIGHT = "series_automation", "table_automation"

STATE_OF_SENSOR = """
query ($name: String!) {
  sensorOrError(sensorSelector: {
    repositoryLocationName: "aneurysm_assets", repositoryName: "__repository__", sensorName: $name
  }) { ... on Sensor { sensorState { id status ticks(limit: 1) { status } } } }
}
"""

# The series whose files are away in the first backfill.
EMPTIED = uid("sample", "CTA")

# How light a page's ground is, from 0 to 1; that of the root where the body has none.
LIGHTNESS = """
() => {
  for (const element of [document.body, document.documentElement]) {
    const ground = getComputedStyle(element).backgroundColor;
    const [r, g, b, a = 1] = ground.match(/[\\d.]+/g).map(Number);
    if (a) return (r + g + b) / 765;
  }
  return 1;
}
"""


@pytest.fixture(scope="module")
def dev(project, sample_data, tmp_path_factory) -> Iterator[Dev]:
    executable()
    with dagster_dev(project, sample_data, tmp_path_factory.mktemp("browser")) as dev:
        turn_off_the_light_sensor(dev)
        yield dev


def ask(dev: Dev, query: str, **variables: str) -> dict[str, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{dev.url}/graphql", body, headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["data"]


def state_of(dev: Dev, sensor: str) -> dict[str, Any]:
    """Return `id`, `status` and the last of `ticks`; nothing before the sensor is loaded."""
    return ask(dev, STATE_OF_SENSOR, name=sensor)["sensorOrError"].get("sensorState", {})


def turn_off_the_light_sensor(dev: Dev) -> None:
    """Let only clicks make anything."""
    wait_until(lambda: state_of(dev, LIGHT), "the sensor was loaded")
    stop = "mutation ($id: String!) { stopSensor(id: $id) { __typename } }"
    stopped = ask(dev, stop, id=state_of(dev, LIGHT)["id"])
    assert stopped["stopSensor"]["__typename"] == "StopSensorMutationResult", stopped


@pytest.fixture(scope="module")
def browser(dev) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser) -> Iterator[Page]:
    with browser.page() as page:
        yield page


@pytest.fixture(scope="module")
def pictures(request, tmp_path_factory) -> Path:
    """Return where pictures go: the directory of `--pictures`, else one of the tests' own."""
    chosen = request.config.getoption("--pictures")
    return (
        Path(request.config.invocation_params.dir, chosen)
        if chosen
        else (tmp_path_factory.mktemp("pictures"))
    )


def lineage(dev: Dev, page: Page) -> None:
    """Open the lineage graph, unfold its groups, and wait until every asset is drawn."""
    page.goto(f"{dev.url}/asset-groups")
    specs = list(defs.resolve_all_asset_specs())
    groups = {spec.group_name for spec in specs}
    for group in groups:
        expect(drawn(page, group)).to_have_count(1)
    page.keyboard.press("Alt+e")
    for spec in specs:
        name = spec.key.path[-1]
        expect(drawn(page, name)).to_have_count(2 if name in groups else 1)


def made() -> list[dg.AssetSpec]:
    """Return the assets that can be materialized."""
    keys = defs.resolve_asset_graph().executable_asset_keys
    return [spec for spec in defs.resolve_all_asset_specs() if spec.key in keys]


def drawn(page: Page, name: str) -> Locator:
    """Return where the graph has a name; the middle of a long one is left out."""
    pattern = f"^({name}|{name[:8]}.*….*{name[-4:]})$"
    return page.locator("svg").get_by_text(re.compile(pattern))


def materialize_all(page: Page, partitions: str, launch: str) -> str:
    """Materialize every asset by clicking, and return the id of what was launched."""
    page.get_by_role("button", name="Materialize all").click()
    page.get_by_role("button", name=partitions, exact=True).click()
    page.get_by_role("button", name=launch).click()
    launched = page.get_by_text(re.compile("^(Created backfill|Launched run)"))
    expect(launched).to_be_visible()
    return launched.inner_text().split()[2]


def partitions_of(dev: Dev, page: Page, asset: str, *, failed: set[str]) -> None:
    """Open an asset's partitions: those that failed are red, all others are green."""
    page.goto(f"{dev.url}/assets/{asset}?view=partitions")
    expect(page.get_by_text(f"Materialized ({SERIES - len(failed)})")).to_be_visible()
    expect(page.get_by_text(f"Failed ({len(failed)})")).to_be_visible()
    for path in (dev.project / "data" / "interim" / "labels").iterdir():
        series = path.name.removesuffix(".parquet")
        colour = "red" if series in failed else "green"
        wait_for_colour(page.get_by_title(series, exact=True), colour)


def picture(page: Page, path: Path) -> None:
    """Save what the page shows, with nothing of the pointer's over it."""
    page.mouse.move(0, 0)
    expect(page.get_by_role("tooltip")).to_have_count(0)
    page.screenshot(path=path)
    # A palette takes a third of the bytes; of this kind it keeps the colours of small things.
    with Image.open(path) as full:
        palette = full.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, 3)
    palette.save(path, optimize=True)


def test_the_job_that_registers_the_series_is_launched_by_a_click(dev, page) -> None:
    page.goto(f"{dev.url}/locations/aneurysm_assets/jobs/register_series/playground")
    page.get_by_role("button", name="Launch run").click()
    # The sensor that is on by default may have come first.
    new = page.get_by_text(re.compile(rf"{SERIES} series, \d+ of them new"))
    expect(new).to_be_visible(timeout=PATIENCE_FOR_A_RUN)
    succeeded = page.get_by_text("Success", exact=True).first
    expect(succeeded).to_be_visible(timeout=PATIENCE_FOR_A_RUN)


def test_the_lineage_graph_shows_every_asset(dev, page) -> None:
    lineage(dev, page)


def test_a_backfill_by_clicks_turns_its_partitions_green_and_a_failed_one_red_with_its_reason(
    dev, page, pictures
) -> None:
    directory = dev.project / "data" / "raw" / "series" / EMPTIED
    directory.rename(dev.project / "away")
    directory.mkdir()
    lineage(dev, page)
    backfill = materialize_all(page, "All", "Launch backfill")

    page.goto(f"{dev.url}/runs/b/{backfill}")
    failed = page.get_by_text("Failed", exact=True).first
    expect(failed).to_be_visible(timeout=PATIENCE_FOR_A_RUN)
    page.get_by_role("button", name="Hide navigation").click()
    partitions_of(dev, page, "labels", failed=set())
    partitions_of(dev, page, "dicom_tags", failed={EMPTIED})

    page.get_by_title(EMPTIED, exact=True).click()
    expect(page.get_by_text("failed, and did not materialize this asset")).to_be_visible()
    picture(page, pictures / "partitions.png")
    page.get_by_text("View logs").click()
    expect(page.get_by_text(f"{EMPTIED}: {directory} has no files").first).to_be_visible()


def test_the_failed_series_is_taken_by_clicks_and_then_everything_is_green(
    dev, page, pictures
) -> None:
    directory = dev.project / "data" / "raw" / "series" / EMPTIED
    directory.rmdir()
    (dev.project / "away").rename(directory)
    lineage(dev, page)
    materialize_all(page, "Failed and missing", "Launch 1 run")
    for spec in made():
        wait_for_colour(drawn(page, spec.key.path[-1]), "green")
    # Loaded anew, the graph is fitted to the window.
    page.reload()
    for spec in made():
        wait_for_colour(drawn(page, spec.key.path[-1]), "green")
    picture(page, pictures / "lineage.png")
    partitions_of(dev, page, "dicom_tags", failed=set())


def test_the_preview_of_a_series_is_an_image_on_the_page_of_its_materialisation(
    dev, page, pictures
) -> None:
    page.goto(f"{dev.url}/assets/series_preview?view=partitions&partition={EMPTIED}")
    page.get_by_role("button", name="Hide navigation").click()
    page.get_by_text("Show Markdown").click()
    preview = page.get_by_role("dialog").get_by_role("img", name=re.compile("points marked"))
    expect(preview).to_be_visible()
    assert preview.evaluate("async image => (await image.decode(), image.naturalWidth)") > 300
    picture(page, pictures / "preview.png")


def test_the_page_of_the_unified_table_tells_its_rows_columns_and_code(dev, page, pictures) -> None:
    rows = pl.read_parquet(dev.project / "data" / "interim" / "dicom_metadata_with_csv.parquet")
    page.goto(f"{dev.url}/assets/unified_metadata?view=overview")
    page.get_by_role("button", name="Hide navigation").click()
    expect(page.get_by_text("Row count")).to_be_visible()
    expect(page.get_by_text(str(rows.height), exact=True).first).to_be_visible()
    expect(page.get_by_text("since last materialization")).to_have_count(0)
    expect(page.get_by_role("link", name="in editor")).to_have_attribute(
        "href", re.compile("unified_metadata.py")
    )
    shown = page.locator("body").inner_text().split()
    assert {column.split()[0] for column in UNIFIED_METADATA.column_names} <= set(shown)
    for address in DOCS[dg.AssetKey("unified_metadata")].values():
        expect(page.get_by_role("link", name=address)).to_have_attribute("href", address)
    picture(page, pictures / "unified_metadata.png")
    page.get_by_role("button", name="Plots").click()
    expect(page.get_by_text("dagster/row_count")).to_be_visible()


def test_the_page_of_a_partition_tells_its_series(dev, page) -> None:
    for asset, told in {
        "dicom_tags": {"modality": "CT", "matrix": "56 x 64", "plane": "axial", "slices": "24"},
        "labels": {"age": "61", "sex": "Female", "modality": "CTA"},
    }.items():
        page.goto(f"{dev.url}/assets/{asset}?view=partitions&partition={EMPTIED}")
        for name, value in told.items():
            fact = page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))
            expect(fact.get_by_text(value, exact=True)).to_be_visible()


def test_the_timeline_has_the_runs_of_the_command_beside_those_of_clicks(dev, page) -> None:
    next((dev.project / "data" / "raw" / "series" / EMPTIED).iterdir()).touch()
    ran = call("aneurysm-assets", "run", "--data", dev.project / "data")
    assert ran.returncode == 0, ran.stderr
    with instance_of(dev.project / "data") as instance:
        runs = [run for run in instance.get_runs() if run.job_name.startswith("__")]
    assert any(STARTED_BY in run.tags for run in runs)
    page.goto(f"{dev.url}/overview/activity/timeline")
    # A row for all that is of no job; of half a day, so that they are one mark with their number.
    row = page.locator("[class*=timelineRow]").filter(has_text="Jobless asset materializations")
    expect(row.get_by_text(str(len(runs)), exact=True)).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_whole_by_itself_in_light_and_dark(dev, browser, pictures, scheme) -> None:
    report = dev.project / "data" / "interim" / "dataset_report.html"
    errors, asked = [], []
    with browser.page(color_scheme=scheme) as page:
        page.on("console", lambda m: errors.append(m.text) if m.type in {"error", "warning"} else 0)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())
        expect(page.get_by_role("heading").first).to_be_visible()
        paper = page.evaluate(LIGHTNESS)
        picture(page, pictures / f"dataset_report_{scheme}.png")
    assert errors == []
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert paper > 0.8 if scheme == "light" else paper < 0.3


def test_the_report_needs_no_sideways_scrolling_on_a_phone(dev, browser) -> None:
    report = dev.project / "data" / "interim" / "dataset_report.html"
    with browser.page(viewport={"width": PHONE, "height": 844}, is_mobile=True) as page:
        page.goto(report.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE


def test_a_problem_of_the_report_leads_to_the_row_of_its_series_and_back(dev, browser) -> None:
    report = dev.project / "data" / "interim" / "dataset_report.html"
    with browser.page() as page:
        page.goto(report.as_uri())
        page.locator("tr[id^=check-] .named a").first.click()
        row = page.locator("tr:target")
        expect(row).to_be_in_viewport()
        row.locator("a[href^='#check-']").first.click()
        expect(page.locator("tr:target .named a").first).to_be_in_viewport()


def test_the_automation_is_off_and_a_click_turns_it_on_and_another_off(dev, page) -> None:
    def recorded() -> str:
        return state_of(dev, AUTOMATION)["status"]

    page.goto(f"{dev.url}/automation")
    page.get_by_role("link", name=AUTOMATION).click()
    switch = page.get_by_role("checkbox")
    expect(switch).not_to_be_checked()
    assert recorded() == "STOPPED"
    for state in ("RUNNING", "STOPPED"):
        # What is seen and clicked is its label; the box itself is not painted.
        page.locator("label").filter(has=switch).click()
        # The switch is drawn in its new place at once, and takes no click until that is recorded.
        wait_until(lambda state=state: recorded() == state, f"the automation was {state}")
        expect(switch).to_be_checked(checked=state == "RUNNING")
        expect(switch).to_be_enabled()


def test_a_broken_csv_makes_the_tick_red_with_its_reason(dev, page) -> None:
    csv = dev.project / "data" / "raw" / "train.csv"
    csv.write_text("<html>")
    page.goto(f"{dev.url}/locations/aneurysm_assets/sensors/{LIGHT}")
    page.locator("label").filter(has=page.get_by_role("checkbox")).click()

    def has_failed() -> bool:
        return state_of(dev, LIGHT)["ticks"][:1] == [{"status": "FAILURE"}]

    wait_until(has_failed, "a tick had failed", every=0.2)
    # The page would ask for new ticks only once in half a minute.
    page.reload()
    failed = page.get_by_role("row").filter(has_text="Latest tick")
    wait_for_colour(failed.get_by_text("Failure", exact=True), "red")
    failed.get_by_text("View", exact=True).click()
    reason = page.get_by_role("dialog").get_by_text(f"{csv}: not a CSV but a page of HTML")
    expect(reason.first).to_be_visible()


def test_the_browser_asked_nothing_of_any_other_machine(browser) -> None:
    assert browser.foreign == []
    elsewhere = "http://192.0.2.1/"
    with browser.page() as page, pytest.raises(Error, match="ERR_FAILED"):
        page.goto(elsewhere)
    assert browser.foreign == [elsewhere]


def test_without_chromium_these_tests_fail_in_ci_and_are_skipped_elsewhere(monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="there is no Chromium"):
        executable()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="there is no Chromium"):
        executable()
