"""The page in a real browser: opens without a complaint, shows the right figures, sorts, filters, chooses."""

import json
import shutil

import pytest

from ipu_train import cli, config, pages, planning

from .conftest import RECIPE

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("chrome"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium with its driver")
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in [*ARGUMENTS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture()
def opened(browser, contents, tmp_path):
    browser.get(pages.write(tmp_path / "page.html", contents).as_uri())
    yield browser
    assert browser.get_log("browser") == []


def find(browser, selector):
    return browser.find_element("css selector", selector)


def column(browser, table, position):
    """Texts of a column of a table's body."""
    script = (
        "return [...document.querySelectorAll(arguments[0])].map(row => row.cells[arguments[1]].textContent)"
    )
    return browser.execute_script(script, f"#{table} tbody tr", position)


def number(text):
    return int(text.replace(",", ""))


def test_every_section_is_there_with_the_predictions_figures(opened, planned, contents):
    _, report, _ = planned
    sections = ["curves", "memory", "liveness", "timeline", "whatif", "layers", "published"]
    assert [one.get_attribute("id") for one in opened.find_elements("css selector", "section")] == sections
    figures = [one.text for one in opened.find_elements("css selector", ".figure b")]
    assert number(figures[0]) == round(report.images_per_second)
    assert figures[2] == report.verdict
    assert number(figures[3]) == round(report.cycles)
    for chart in opened.find_elements("css selector", ".chart"):
        assert chart.find_elements("css selector", "svg path, svg rect, svg circle"), chart.get_attribute(
            "id"
        )
    opened.execute_script("document.querySelector('#memory details').open = true")
    rows = dict(zip(column(opened, "memory-table", 0), column(opened, "memory-table", 2)))
    assert number(rows["fullest tile, bytes"]) == report.ipus[1].memory.worst_tile_bytes
    assert rows["weights"] == f"{report.ipus[1].memory.categories['weights'] / 1e6:,.1f}"
    assert "50.00 %" in find(opened, "#last-validation").text


def test_the_layers_at_the_peak_are_listed_largest_first_and_another_ipu_has_its_own(opened, contents):
    fullest = max(contents["plan"]["ipus"], key=lambda ipu: ipu["worst_tile_bytes"])
    for ipu in (fullest, contents["plan"]["ipus"][0], contents["plan"]["ipus"][1]):
        opened.find_elements("css selector", "#liveness .controls button")[ipu["ipu"]].click()
        sizes = [float(text) for text in column(opened, "alive-table", 2)]
        assert sizes == sorted(sizes, reverse=True)
        assert sum(sizes) == pytest.approx(
            ipu["live_bytes"][ipu["peak"]["step"]] / 1e6, abs=0.01 * len(sizes)
        )
        assert "the peak" in find(opened, "#alive p").text


def test_the_layer_table_sorts_filters_and_sums(opened, contents):
    layers = contents["plan"]["layers"]
    assert len(column(opened, "layer-table", 0)) == len(layers)
    backward = find(opened, 'th[data-key="backward_cycles"]')
    place = [
        h.get_attribute("data-key") for h in opened.find_elements("css selector", "#layer-table th")
    ].index("backward_cycles")
    for falling in (True, False):
        backward.click()
        shown = [number(text) for text in column(opened, "layer-table", place)]
        assert shown == sorted((row["backward_cycles"] for row in layers), reverse=falling)
        assert backward.get_attribute("aria-sort") == ("descending" if falling else "ascending")
    find(opened, "#layer-filter").send_keys("layer2.0.conv")
    wanted = [row for row in layers if "layer2.0.conv" in row["layer"]]
    assert wanted and sorted(column(opened, "layer-table", 1)) == sorted(row["layer"] for row in wanted)
    total = opened.execute_script(
        "return document.querySelector('#layer-table tfoot tr').cells[arguments[0]].textContent", place
    )
    assert number(total) == sum(row["backward_cycles"] for row in wanted)
    assert find(opened, "#layer-count").text == f"{len(wanted)} of {len(layers)} rows"


def test_another_choice_shows_its_own_prediction(opened, contents):
    sizes = sorted({point["choice"]["micro_batch_size"] for point in contents["points"]})
    slider = '#whatif input[data-key="micro_batch_size"]'
    for size in sizes:
        opened.execute_script(
            "const one = document.querySelector(arguments[0]); one.value = arguments[1];"
            "one.dispatchEvent(new Event('input'))",
            slider,
            sizes.index(size),
        )
        for norm, button in (("batch", 0), ("group+pn", 1)):
            opened.find_elements("css selector", '#whatif [data-key="norm"] button')[button].click()
            (point,) = [
                one
                for one in contents["points"]
                if one["choice"] == {"norm": norm, "micro_batch_size": size, "recompute": "pipeline"}
            ]
            assert number(find(opened, "#whatif-bytes").text.split()[0]) == point["worst_tile_bytes"]
            assert number(find(opened, "#whatif-rate").text.split()[0]) == round(point["images_per_second"])


def test_the_pipelines_blocks_neither_overlap_nor_lose_work(opened, contents):
    plan = contents["plan"]
    lengths = [
        {
            "forward": ipu["cycles_by_phase"]["forward"],
            "backward": ipu["cycles"] - ipu["cycles_by_phase"]["forward"],
        }
        for ipu in plan["ipus"]
    ]
    made = opened.execute_script("return pipelineBlocks(arguments[0], 8)", lengths)
    for ipu, length in enumerate(lengths):
        blocks = sorted((b for b in made["blocks"] if b["ipu"] == ipu), key=lambda b: b["start"])
        assert all(a["end"] <= b["start"] for a, b in zip(blocks, blocks[1:]))
        for phase in ("forward", "backward"):
            here = [b for b in blocks if b["phase"] == phase]
            assert [b["micro"] for b in here] == list(range(8))
            assert sum(b["end"] - b["start"] for b in here) == pytest.approx(8 * length[phase])
    start = {(b["ipu"], b["phase"], b["micro"]): b["start"] for b in made["blocks"]}
    end = {(b["ipu"], b["phase"], b["micro"]): b["end"] for b in made["blocks"]}
    for micro in range(8):  # forward down the stages, backward up again
        assert end[0, "forward", micro] <= start[1, "forward", micro] < start[1, "backward", micro]
        assert end[1, "backward", micro] <= start[0, "backward", micro]


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window_and_text_is_readable(opened, width, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    opened.refresh()
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    colours = opened.execute_script(
        "const of = (node, key) => getComputedStyle(node)[key].match(/[\\d.]+/g).slice(0, 3).map(Number);"
        "const card = document.querySelector('section');"
        "return [of(card, 'backgroundColor'), of(card, 'color'), of(card.querySelector('.soft'), 'color')]"
    )
    background, *texts = (_luminance(colour) for colour in colours)
    for text in texts:  # WCAG 2: 4.5 for running text
        assert (max(background, text) + 0.05) / (min(background, text) + 0.05) >= 4.5
    assert (background > 0.5) == (scheme == "light")


def _luminance(colour):
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("kind", ["sweep", "one point"])
def test_a_page_without_a_plan_opens_too(browser, contents, tmp_path, kind):
    points = contents["points"] if kind == "sweep" else contents["points"][:1]
    shown = {key: contents[key] for key in ("title", "head", "error_ranges", "bounds", "published")}
    browser.get(pages.write(tmp_path / "page.html", {**shown, "points": points, "words": ["said"]}).as_uri())
    assert browser.get_log("browser") == []
    ids = [one.get_attribute("id") for one in browser.find_elements("css selector", "section")]
    assert ids == (["words", "whatif", "published"] if kind == "sweep" else ["words", "published"])
    assert json.loads(browser.execute_script("return JSON.stringify(contents.points.length)")) == len(points)


def test_the_page_of_a_search_shows_the_best_choice_and_all_that_was_looked_at(browser, tmp_path, capsys):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.replace("device: {pipeline_splits: [layer2]}", ""))
    page, tuned = tmp_path / "tuned.html", tmp_path / "tuned.yaml"
    arguments = [
        "--config",
        str(recipe),
        "--ipus",
        "1,2",
        "--jobs",
        "1",
        "--output",
        str(tuned),
        "--html",
        str(page),
    ]
    assert cli.main(["tune", *arguments]) == 0
    report = planning.predict(config.load(tuned))
    printed = capsys.readouterr().out
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    figures = [one.text for one in browser.find_elements("css selector", ".figure b")]
    assert number(figures[0]) == round(report.images_per_second)
    assert f"{figures[0]} images/s" in printed
    ids = [one.get_attribute("id") for one in browser.find_elements("css selector", "section")]
    assert {"memory", "liveness", "whatif", "layers"} <= set(ids)
    points = json.loads(browser.execute_script("return JSON.stringify(contents.points)"))
    assert {point["choice"]["IPUs_per_replica"] for point in points} == {1, 2}
    assert sum(point["given"] for point in points) == 1
    for point in points:  # every choice, chosen in the page, shows its own figures
        for key, value in point["choice"].items():
            _choose(browser, key, value, points)
        assert number(find(browser, "#whatif-rate").text.split()[0]) == round(point["images_per_second"])
        assert number(find(browser, "#whatif-bytes").text.split()[0]) == point["worst_tile_bytes"]
    assert browser.get_log("browser") == []


def _choose(browser, key, value, points):
    """One value of a slider or a row of buttons."""
    values = list(dict.fromkeys(point["choice"][key] for point in points))
    script = (
        "const [key, value] = arguments, slider = document.querySelector(`#whatif input[data-key='${key}']`);"
        "if (slider) { slider.value = value; slider.dispatchEvent(new Event('input')); }"
    )
    sliders = browser.find_elements("css selector", f"#whatif input[data-key='{key}']")
    if sliders:
        browser.execute_script(script, key, sorted(values).index(value))
        return
    buttons = browser.find_elements("css selector", f"#whatif [data-key='{key}'] button")
    for button in buttons:
        if button.text == str(value):
            browser.execute_script("arguments[0].click()", button)
