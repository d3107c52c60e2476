"""`tffjax report`: what the page says, from real runs of a small network; and how it behaves in a headless browser."""

import base64
import contextlib
import hashlib
import html.parser
import io
import json
import re
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import studies
from command import done, refused
from PIL import Image

import tffjax.studies.color.run
import tffjax.studies.dropout.find_k
import tffjax.studies.dropout.run
import tffjax.studies.ffrs.run
import tffjax.studies.lrpmax.figures
from tffjax.report import markup, patches
from tffjax.report.page import SECTIONS

pytestmark = pytest.mark.extended

EVIL = "<b onload=alert(1)>&\"'</script>".replace("/", "\N{FRACTION SLASH}")
GENERATORS = (EVIL, "cyclegan")  # as they are sorted
COUNT = 8
B0 = "EfficientNet-B0"
KEYS = ["head.#5(T=8)", *(key for key in studies.SHUFFLED if key != "head.#5(T=8)")]
OF_COMMAND = {
    "rank": "ranking",
    "dropout": "dropout",
    "find-k": "find-k",
    "lrpmax": "channels",
    "color": "color",
    "heatmap": "heatmaps",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Images that the decisive network tells apart, of a published generator and of one with a hostile name."""
    unsorted, folder = tmp_path_factory.mktemp("unsorted"), tmp_path_factory.mktemp("images")
    studies.make_images(unsorted, labels=("1_fake",), count=2 * COUNT)
    names = studies.paths_of(unsorted)
    logits = np.asarray(studies.network("decisive")(studies.inputs(unsorted, names)))[:, 0]
    for place, index in enumerate(np.argsort(logits)):
        target = folder / GENERATORS[place % 2] / ("0_real", "1_fake")[place >= 2 * COUNT] / f"{place:02d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(unsorted / names[index], target)
    return folder


@pytest.fixture(scope="module")
def runs(images, tmp_path_factory) -> dict[str, Path]:
    """A finished run of every command that a report shows, by command."""
    folder = tmp_path_factory.mktemp("runs")
    path = studies.make_ranking(folder / "ranking.csv", KEYS)
    given = ("decisive", images, "--ranking", path, "--batch-size", 8)
    options = {
        "rank": ("decisive", images, "--batch-size", 8, "--own-size", "--confidence", 0, "--k", 4, "--bootstrap", 20),
        "dropout": (*given, "--k", "2,5", "--random", 2, "--low", "--each", 4, "--greedy", 2, "--published", B0),
        "find-k": (*given, "--random", 2),
        "lrpmax": (*given, "--k", 26, "--top", 3),
        "color": (*given, "--k", 6, "--ablation", "grayscale", "--ablation", "jpeg:50", "--published", B0),
    }
    drawing = (
        tffjax.studies.ffrs.run,
        tffjax.studies.dropout.run,
        tffjax.studies.dropout.find_k,
        tffjax.studies.lrpmax.figures,
        tffjax.studies.color.run,
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(studies.networks_by_name())
        for module in drawing:  # drawing takes most of the time of a small run
            stack.enter_context(mock.patch.object(module, "save_figure"))
        for module in (tffjax.studies.dropout.run, tffjax.studies.dropout.find_k):
            stack.enter_context(mock.patch.object(module, "dropout_curves", mock.MagicMock()))
        for command, arguments in options.items():
            done(command, *arguments, "--out", folder / command, "--quiet")
    (folder / "heatmap").mkdir()
    for number in (1, 2):
        Image.new("RGB", (30, 20 * number), "red").save(folder / "heatmap" / f"contact_sheet_{number}.png")
    return {name: folder / name for name in (*options, "heatmap")}


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("page") / "new folder" / "report.html"
    ended = done("report", *runs.values(), "--out", out)
    assert ended.out.splitlines()[-1].startswith(f"6 runs in {out}, ")
    return out


class Page(html.parser.HTMLParser):
    """What an HTML file says: elements with their attributes and texts; fails where tags are not closed in order."""

    VOID = ("meta", "link", "img")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict, list[str]]] = []
        self._open: list[tuple[str, dict, list[str]]] = []
        self.feed(self.text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), []))
        if tag not in self.VOID:
            self._open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, texts in self._open:
            texts.append(data)

    def all(self, tag: str) -> list[str]:
        """The texts of all elements of a kind."""
        return ["".join(texts) for name, _, texts in self.elements if name == tag]

    def of(self, identity: str) -> str:
        """The text of the element with this id."""
        return next("".join(texts) for _, attributes, texts in self.elements if attributes.get("id") == identity)

    @property
    def sections(self) -> list[str]:
        return [attributes["id"] for tag, attributes, _ in self.elements if tag == "section"]

    @property
    def data(self) -> dict:
        return json.loads(self.of("data"))

    def picture(self, name: str) -> np.ndarray:
        """A picture that the page carries, as RGBA."""
        carriers = {a["data-name"]: "".join(texts) for _, a, texts in self.elements if "data-name" in a}
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(carriers[name]))).convert("RGBA"))


@pytest.fixture(scope="module")
def read(page) -> Page:
    return Page(page)


# What the page says


def test_a_page_needs_nothing_but_itself(read):
    urls = [a[name] for _, a, _ in read.elements for name in ("src", "href", "action", "data", "poster") if name in a]
    assert urls
    assert all(url.startswith(("#", "data:")) for url in urls)
    style = read.all("style")[0]
    assert "url(" not in style
    assert "@import" not in style
    script = next(t for tag, a, t in read.elements if tag == "script" and not a)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|innerHTML|outerHTML|eval\(|fetch\(", script[0])


def test_the_policy_allows_this_style_and_script_and_no_network(read):
    policy = next(a["content"] for _, a, _ in read.elements if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    script = next("".join(t) for tag, a, t in read.elements if tag == "script" and not a)
    for text, rule in ((read.all("style")[0], "style-src"), (script, "script-src")):
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data: blob:"
    assert not any("style" in a or name.startswith("on") for _, a, _ in read.elements for name in a)


def test_names_from_files_are_text_only(read):
    tags = {tag for tag, _, _ in read.elements}
    assert "b" not in tags
    assert EVIL in read.of("dropout")
    assert read.data["curves"][0]["generators"][0]["generator"] == EVIL
    assert "<b onload" not in read.text


def test_all_sections_are_there_and_named(read):
    shown = {name: heading for name, heading in SECTIONS.items() if name != "generator"}  # see test_generator_study.py
    assert read.sections == list(shown)
    assert read.all("h2") == list(shown.values())
    assert read.all("title") == read.all("h1")


def test_the_ranking_is_that_of_the_run(read, runs):
    rows = studies.read(runs["rank"] / "statistics.parquet")
    for ranking in read.data["rankings"]:
        own = [row for row in rows if row["label"] == ranking["label"]]
        sites = [ranking["sites"][site] for site in ranking["site"]]
        keys = [f"{site}.#{i}(T={count})" for (site, count), i in zip(sites, ranking["channel"], strict=True)]
        assert keys == [row["key"] for row in own]
        for name in ("omega", "standard_error", "low", "high", "in_top", "rank_low", "rank_high"):
            ours = [np.nan if value is None else value for value in ranking[name]]
            np.testing.assert_allclose(ours, [row[name] for row in own], rtol=6e-3)
        assert (ranking["k"], ranking["images"]) == (4, 2 * COUNT)
    assert [ranking["label"] for ranking in read.data["rankings"]] == list(dict.fromkeys(row["label"] for row in rows))
    groups = [row for row in studies.read(runs["rank"] / "groups.parquet") if row["key"] == KEYS[0]]
    ours = read.data["omega"][0]["channels"][KEYS[0]]
    assert [(label, generator) for label, generator, _, _ in ours] == [(r["label"], r["generator"]) for r in groups]


def test_curves_are_those_of_the_tables(read, runs):
    table = {(row["setting"], row["generator"]): row for row in studies.read(runs["dropout"] / "dropout.parquet")}
    draws = {(row["setting"], row["generator"]): row for row in studies.read(runs["dropout"] / "draws.parquet")}
    dropout, find_k = read.data["curves"]
    assert [one["generator"] for one in dropout["generators"]] == [*GENERATORS, "all"]
    for one in dropout["generators"]:
        generator = one["generator"]
        assert (one["num_real"], one["num_fake"]) == ((2 * COUNT,) * 2 if generator == "all" else (COUNT,) * 2)
        for measure, curves in one["measures"].items():
            assert curves["baseline"] == pytest.approx(table["baseline", generator][measure], rel=1e-5)
            for kind in ("top", "low", "random"):
                for k, value, *band in curves[kind]:
                    assert value == pytest.approx(table[f"{kind}-{k}", generator][measure], rel=1e-5)
                    single = [draws[f"random-{k}/{i}", generator][measure] for i in range(2)]
                    assert band == ([] if kind != "random" else pytest.approx([min(single), max(single)], rel=1e-5))
    published = [one["measures"]["ap"]["published"] for one in dropout["generators"]]  # on request
    assert [{kind: points[0][0] for kind, points in one.items()} for one in published] == [{}, {"top": 5}, {}]
    assert find_k["mark"] == 1  # the channel that decides is the first


def test_the_findings_are_said_in_words(read, runs):
    table = {(row["setting"], row["generator"]): row for row in studies.read(runs["dropout"] / "dropout.parquet")}
    overview = read.of("overview")
    assert f"100.0% → {table['top-5', 'all']['ap']:.1%}" in overview
    assert "Top 5 channels switched off" in overview  # of 2 and 5, nearest to the paper's 27
    assert "k = 1is the smallest for which on every generator" in overview
    first = studies.read(runs["rank"] / "statistics.parquet")[0]
    assert f"{first['omega']:.1%}" in overview
    assert f"that of {first['key']}, out of 26 channels" in overview
    assert f"{len(studies.read(runs['lrpmax'] / 'index.parquet'))}strongest neurons" in overview
    share = next(row for row in studies.read(runs["color"] / "shares.parquet") if row["generator"] == "cyclegan")
    assert f"{share['num_conditional']} of 6 on cyclegan" in overview


def test_patches_are_those_of_the_run_in_their_order(read, runs):
    data, index = read.data["patches"], studies.read(runs["lrpmax"] / "index.parquet")
    seen = 0
    for number, key in enumerate(KEYS, start=1):
        own = [row for row in index if row["key"] == key]
        items = [(row["generator"], *item) for row in data[key]["rows"] for item in row["items"]]
        assert [(generator, rank, read.data["paths"][path], *box) for generator, rank, _, path, *box in items] == [
            (*(row[name] for name in ("generator", "rank", "path", "top", "bottom", "left", "right")),) for row in own
        ]
        side = data[key]["cell"]
        picture = read.picture(f"patches {key}")
        assert picture.shape[:2] == (side, side * len(own))
        for place, row in enumerate(own):
            if row["value"] <= 0:
                continue
            folder = next((runs["lrpmax"] / "patches").glob(f"{number:03d}_*"))
            patch = np.asarray(Image.open(folder / f"{row['generator']}_{row['rank']:02d}.png").convert("RGB"))
            height, width = patch.shape[:2]
            if side > patches.LOSSLESS:
                continue
            top, left = (side - height) // 2, (side - width) // 2
            cell = picture[:, place * side : (place + 1) * side]
            np.testing.assert_array_equal(cell[top : top + height, left : left + width, :3], patch)
            assert (cell[..., 3] > 0).sum() == height * width
            seen += 1
        places = sum(row["places"] for row in data[key]["rows"])
        assert places == sum(row["value"] > 0 for row in own)
        if places:
            assert read.picture(f"places {key}").shape[:2] == (patches.PLACE, patches.PLACE * places)
    assert seen > 20


def test_many_and_large_patches_make_several_rows_of_a_picture():
    large = [Image.new("RGB", (200, 100), (place, 0, 0)) for place in range(patches.COLUMNS + 2)]
    sheet = np.asarray(Image.open(io.BytesIO(patches._sheet(large, 72))).convert("RGBA"))
    assert sheet.shape[:2] == (144, 72 * patches.COLUMNS)
    assert (sheet[72 + 18 : 72 + 54, : 2 * 72, 3] == 255).all()  # the last two, in their proportions
    assert (sheet[72:, 2 * 72 :, 3] == 0).all()


def test_densities_are_of_the_fake_images_of_a_generator(read, runs):
    color = read.data["color"]
    assert color["ablation"] == "grayscale"
    rows = [r for r in studies.read(runs["color"] / "per_image.parquet") if r["label"] == "fake"]
    tests = [r for r in studies.read(runs["color"] / "tests.parquet") if r["ablation"] == "grayscale"]
    drawn = 0
    for column, key in enumerate(KEYS[:6]):
        assert [generator for generator, *_ in color["densities"][key]] == list(GENERATORS)
        assert [(test[0], test[1]) for test in color["tests"][key]] == [
            (r["generator"], COUNT) for r in tests if r["key"] == key
        ]
        for generator, low, high, before, after in color["densities"][key]:
            samples = [[r["activations"][column + 6 * v] for r in rows if r["generator"] == generator] for v in (0, 1)]
            if isinstance(before, list) and isinstance(after, list):
                edges = np.histogram_bin_edges(np.array(samples, float), "sturges")  # few images
                heights = np.stack([np.histogram(sample, edges)[0] for sample in samples])
                grid = np.linspace(low, high, len(before))[1:-1]
                expected = heights[:, np.searchsorted(edges, grid) - 1]
                found = np.array([before, after])[:, 1:-1]
                np.testing.assert_allclose(found, 250 * expected / heights.max(), atol=2.5)
                drawn += 1
    assert drawn > 4


def test_a_channel_without_spread_is_one_value():
    from tffjax.report.color import _density

    low, high, before, after = _density(np.full(30, 2.0, np.float32), np.arange(30, dtype=np.float32))
    assert before == 2
    assert len(after) == 48
    assert low < 0 < 29 < high
    assert max(after) == 250


def test_numbers_for_json_and_for_people():
    assert [markup.number(x) for x in (None, float("nan"), float("inf"), -float("inf"), 1 / 3, 2.0)] == [
        *(None, None, "Infinity", "-Infinity", 0.333333, 2)
    ]
    assert [markup.percent(x) for x in (None, float("nan"), 0.1234)] == [markup.DASH, markup.DASH, "12.3%"]
    assert [markup.short(x) for x in (None, -0.5, float("inf"))] == [markup.DASH, "\N{MINUS SIGN}0.5", "\N{INFINITY}"]


def test_what_is_filled_in_is_escaped():
    table = markup.Table(EVIL, {"a": EVIL, "b": "n"}, [{"a": EVIL, "b": "1.5"}, {"a": markup.DASH, "b": "2"}])
    made = markup.render("color.html", count=1, ablations=EVIL, run=EVIL, shares=table, whiskers=False, published=False,
                         grayscale=None, metrics=table, classes=None)  # fmt: skip
    assert "<b onload" not in made
    assert made.count("&lt;b onload=alert(1)&gt;&amp;&#34;&#39;") == 10  # two in words, four a table
    assert table.numbers == {"a", "b"}  # a dash stands for a number


def test_notes_show_no_html_no_pictures_and_run_nothing():
    made = markup.markdown("# A\n\n### B\n\n[x](javascript:alert(1)) ![y](https://a/b.png) <script>\nline `code`")
    assert made.startswith("<h3>A</h3>\n<h4>B</h4>\n<p>[x](javascript:alert(1)) !<a href=")
    assert "<img" not in made
    assert "<script>" not in made
    assert "<br />\nline <code>code</code>" in made


def test_published_numbers_stand_beside_ours(read):
    table = read.of("color")
    assert "published AP" in table
    assert "97.3%" in table  # cyclegan, EfficientNet-B0, table I.1
    assert "published AP" in read.of("dropout")


def test_provenance_is_the_whole_record(read, runs):
    said = read.of("provenance")
    for command in OF_COMMAND:
        if command != "heatmap":
            record = json.loads((runs[command] / "run.json").read_text())
            assert str(record["identity"]["images"]["sha256"]) in said
            assert record["environment"]["jax"] in said
            assert str(runs[command]) in said


# Which runs


@pytest.mark.parametrize("command", OF_COMMAND)
def test_what_there_is_no_run_of_is_left_out(command, runs, tmp_path):
    done("report", runs[command], "--out", tmp_path / "r.html")
    provenance = [] if command == "heatmap" else ["provenance"]
    assert Page(tmp_path / "r.html").sections == ["overview", OF_COMMAND[command], *provenance]


def test_the_same_runs_give_the_same_bytes(runs, page, tmp_path):
    done("report", *runs.values(), "--out", tmp_path / "r.html")
    assert (tmp_path / "r.html").read_bytes() == page.read_bytes()
    assert "exists already; choose another name or pass --overwrite" in refused(
        "report", runs["rank"], "--out", tmp_path / "r.html"
    )
    done("report", runs["rank"], "--out", tmp_path / "r.html", "--overwrite")
    assert (tmp_path / "r.html").read_bytes() != page.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_notes_end_the_overview(runs, tmp_path):
    notes = tmp_path / "notes.md"
    notes.write_text("# Found\n\n**Yes.**\n\n- one <b>\n- two\n\nThe end.\n")
    done("report", runs["rank"], "--notes", notes, "--out", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    shown = "<h3>Found</h3><p><strong>Yes.</strong></p><ul><li>one &lt;b&gt;</li><li>two</li></ul><p>The end.</p>"
    assert shown in text.replace("\n", "")
    assert "The end." in Page(tmp_path / "r.html").of("overview")
    notes.write_bytes(b"\xff\xfe\xff")
    assert "--notes takes a text file" in refused("report", runs["rank"], "--notes", notes, "--out", tmp_path / "no")


def test_several_runs_of_a_kind(runs, tmp_path):
    """Each has its curves; of several LRP-max runs the last is shown, which is said."""
    for name in ("dropout", "lrpmax"):
        shutil.copytree(runs[name], tmp_path / f"second-{name}")
    given = (runs["dropout"], tmp_path / "second-dropout", runs["lrpmax"], tmp_path / "second-lrpmax")
    done("report", *given, "--out", tmp_path / "r.html")
    both = Page(tmp_path / "r.html")
    assert len(both.data["curves"]) == 2
    assert sum(a.get("class") == "curves" for _, a, _ in both.elements) == 2
    assert "Several runs of lrpmax: channel pages show second-lrpmax." in both.of("overview")
    assert "run second-lrpmax" in both.of("channels")
    assert "run lrpmax" not in both.of("channels")


def test_places_are_left_out_when_the_images_are_gone(runs, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(runs["lrpmax"], moved)
    record = json.loads((moved / "run.json").read_text())
    record["paths"]["data"] = [str(tmp_path / "gone")]
    (moved / "run.json").write_text(json.dumps(record))
    done("report", moved, "--out", tmp_path / "r.html")
    found = Page(tmp_path / "r.html")
    assert not any(row["places"] for one in found.data["patches"].values() for row in one["rows"])
    assert not any(a.get("data-name", "").startswith("places") for _, a, _ in found.elements)
    assert "no longer where they were" in found.of("channels")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run, record: shutil.rmtree(run), "no such run directory"),
        (lambda run, record: (run / "run.json").unlink(), "is not a run directory: it has no run.json"),
        (lambda run, record: record.pop("results"), "is not finished; go on with: tffjax lrpmax --resume"),
        (lambda run, record: record.update(command="train"), "is a run of tffjax train; a report shows rank, dropout"),
        (
            lambda run, record: record["identity"]["weights"].update(weights_sha256="x"),
            "are runs of different networks",
        ),
        (lambda run, record: (run / "index.parquet").unlink(), "index.parquet: cannot be read"),
        (lambda run, record: (run / "index.parquet").write_bytes(b""), "index.parquet: cannot be read"),
        (lambda run, record: shutil.rmtree(run / "patches"), "cannot be read (No such file or directory); run tffjax"),
    ],
)
def test_what_cannot_be_shown_is_said(change, message, runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["lrpmax"], run)
    record = json.loads((run / "run.json").read_text())
    change(run, record)
    if (run / "run.json").exists():
        (run / "run.json").write_text(json.dumps(record))
    assert message in refused("report", runs["rank"], run, "--out", tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_outputs_that_cannot_be(runs, tmp_path):
    assert "is a folder; give the name of a file" in refused("report", runs["rank"], "--out", tmp_path)
    twice = refused("report", runs["rank"], runs["rank"], "--out", tmp_path / "r.html")
    assert "is given twice" in twice
    (tmp_path / "heatmap").mkdir()
    (tmp_path / "heatmap" / "contact_sheet_1.png").write_bytes(b"no")
    assert "contact_sheet_1.png: not an image" in refused("report", tmp_path / "heatmap", "--out", tmp_path / "r.html")


# In a headless browser


FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900"),
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Chromium, driven by its own driver; nothing is looked for on the network."""
    selenium = pytest.importorskip("selenium.webdriver")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("there is no chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield started
    started.quit()


class Browser:
    """A page in a browser, and what the tests do with it."""

    def __init__(self, driver, path: Path) -> None:
        self.driver = driver
        self.media()
        driver.get("about:blank")
        driver.get(path.as_uri())

    def run(self, script: str, *arguments):
        """The value of a piece of JavaScript."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str):
        return self.driver.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)", selector)

    def press(self, *keys: str) -> None:
        """Press keys by the names of `selenium.webdriver.common.keys.Keys`, or type text."""
        from selenium.webdriver import ActionChains, Keys

        ActionChains(self.driver).send_keys(*(getattr(Keys, key, key) for key in keys)).perform()

    def wait(self, script: str, *arguments) -> None:
        """Until a piece of JavaScript is true."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, 20).until(lambda _: self.run(script, *arguments), script)

    def media(self, kind: str = "", **features: str) -> None:
        """Pretend that the reader prefers something, or prints."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": listed})

    def pictures_arrive(self, selector: str, at_least: int) -> None:
        """Until all pictures are decoded."""
        self.wait(
            """const all = [...document.querySelectorAll(arguments[0])];
            return all.length >= arguments[1] && all.every((one) => one.complete && one.naturalWidth > 0)""",
            selector,
            at_least,
        )


@pytest.fixture
def browser(chromium, page):
    """The report in the browser; the test fails if anything goes to the console."""
    chromium.get_log("browser")
    yield Browser(chromium, page)
    assert chromium.get_log("browser") == []


ACTIVE = "return document.activeElement.textContent"


@pytest.mark.slow
def test_the_ranking_is_sorted_and_searched(browser, read):
    assert browser.texts("#ranking-table tbody tr td:nth-child(1)") == [str(rank) for rank in range(1, 27)]
    omega = "#ranking-table th:nth-child(3) button"
    for order in ("descending", "ascending"):
        browser.find(omega).click()
        assert browser.find("#ranking-table th:nth-child(3)").get_attribute("aria-sort") == order
        shown = [float(text.rstrip("%")) for text in browser.texts("#ranking-table td.omega")]
        assert shown == sorted(shown, reverse=order == "descending")
        assert len(shown) == 26
    browser.find("#ranking-table input").send_keys(" HEAD.#5(")
    assert browser.texts("#ranking-table tbody a") == [KEYS[0]]
    assert browser.texts("#ranking-table [role=status]") == ["1 of 26 channels, 1 shown"]
    effects = browser.texts("#ranking-table tbody td:last-child")
    assert float(effects[0].replace("\N{MINUS SIGN}", "-")) == pytest.approx(read.data["effects"][KEYS[0]], abs=1e-3)
    browser.find("#ranking-table input").clear()
    browser.find("#ranking-table select option:nth-child(2)").click()
    assert len(browser.texts("#ranking-table tbody tr")) == 26


@pytest.mark.slow
def test_all_pictures_are_visible(browser, read):
    for section in ("heatmaps", "channels"):
        browser.run("document.getElementById(arguments[0]).scrollIntoView()", section)
        browser.pictures_arrive(f"#{section} img", 2)
    assert browser.run("return document.querySelectorAll('#covers img').length") == len(read.data["covers"])
    browser.find("#covers a").click()
    browser.pictures_arrive("#channel .patch img", 4)
    assert browser.texts("#channel h2") == [KEYS[0]]
    assert browser.texts("#channel h4") == [EVIL, "cyclegan"]
    sizes = browser.run(
        "return [...document.querySelectorAll('#channel .patch')].map((one) => one.getBoundingClientRect().width)"
    )
    assert set(sizes) == {76}
    assert len(browser.texts("#channel figure svg")) == 2  # densities


@pytest.mark.slow
def test_everything_is_reached_by_keyboard(browser):
    browser.press("TAB")
    assert browser.run(ACTIVE) == "Skip to the content"
    browser.run("document.querySelector('#ranking-table tbody a').focus()")
    browser.press("ENTER")
    browser.wait("return !document.getElementById('channel').hidden")
    first = browser.texts("#channel h2")
    browser.press("ARROW_RIGHT")
    browser.wait("return document.querySelector('#channel h2').textContent !== arguments[0]", first[0])
    browser.press("ARROW_LEFT")
    browser.wait("return document.querySelector('#channel h2').textContent === arguments[0]", first[0])
    browser.press("TAB")
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("ESCAPE")
    browser.wait("return document.getElementById('channel').hidden")
    assert browser.run(ACTIVE) == first[0]
    browser.run("document.querySelector('[role=slider]').focus()")
    said = []
    for key in ("HOME", "ARROW_RIGHT"):
        browser.press(key)
        said.append(browser.run("return document.activeElement.getAttribute('aria-valuetext')"))
    assert said[0].startswith("k = 2: top ")
    assert said[1].startswith("k = 5: top ")
    assert browser.texts("#dropout .readout")[0] == said[1]


@pytest.mark.slow
def test_curves_say_their_values_under_the_pointer(browser, read):
    from selenium.webdriver import ActionChains

    browser.find("#dropout select option:nth-child(2)").click()
    chart = browser.find("#dropout svg")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", chart)
    ActionChains(browser.driver).move_to_element_with_offset(chart, -chart.size["width"] // 2 + 50, 0).perform()
    top = read.data["curves"][0]["generators"][0]["measures"]["fake_calibrated"]["top"][0]
    assert browser.texts("#dropout .readout")[0].startswith(f"k = 2: top {top[1]:.1%}; random ")


@pytest.mark.slow
def test_dark_light_print_and_narrow(browser, chromium):
    color = "return getComputedStyle(document.body).backgroundColor"
    light = browser.run(color)
    browser.media(prefers_color_scheme="dark")
    assert light == "rgb(255, 255, 255)"
    assert max(map(int, re.findall(r"\d+", browser.run(color)))) < 40
    browser.media("print", prefers_color_scheme="dark")
    assert browser.run(color) == light
    assert browser.run("return getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.media()
    narrow = {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    try:
        assert browser.run("return document.documentElement.scrollWidth") == 360
        browser.run("location.hash = document.querySelector('#ranking-table tbody a').getAttribute('href')")
        browser.wait("return !document.getElementById('channel').hidden")
        assert browser.run("return document.documentElement.scrollWidth") == 360
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.slow
@pytest.mark.parametrize("command", OF_COMMAND)
def test_a_report_of_one_run_works(command, chromium, runs, tmp_path):
    """Nothing breaks where the other runs are missing; unknown channels are said to be."""
    done("report", runs[command], "--out", tmp_path / "r.html")
    chromium.get_log("browser")
    browser = Browser(chromium, tmp_path / "r.html")
    for key in (KEYS[0], "no.#1(T=2)"):
        browser.run("location.hash = '#/channel/' + encodeURIComponent(arguments[0])", key)
        browser.wait("return document.querySelector('#channel h2')?.textContent === arguments[0]", key)
    assert browser.texts("#channel .warning") == ["This report knows no such channel."]
    assert chromium.get_log("browser") == []
