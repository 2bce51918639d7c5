"""The documentation: every link leads somewhere, every page is in the site, and the site builds without network."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
PAGES = [
    *sorted(DOCS.glob("*.md")),
    REPOSITORY / "README.md",
    REPOSITORY / "configs/README.md",
    *sorted((REPOSITORY / "ipu_train").rglob("README.md")),
]
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def prose(page):
    """A page without its code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page):
    """Names of a page's headings, as generators of sites and forges make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.strip().replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_files_and_headings_that_exist(page):
    for link in _LINK.findall(prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        place, _, heading = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


def test_the_programs_of_the_python_page_run_one_after_the_other(tmp_path, monkeypatch):
    """As they stand, but that the quick start trains one epoch, on few images."""
    from ipu_train import config

    load, short = config.load, ["training.epochs=1", "data.validation_fraction=0.9", "logging.progress=false"]
    monkeypatch.setattr(
        config, "load", lambda name, more=(): load(name, [*more, *short] if name == "quickstart" else more)
    )
    monkeypatch.chdir(tmp_path)
    programs = re.findall(
        r"^```python\n(.*?)^```", (DOCS / "python_api.md").read_text(encoding="utf-8"), re.M | re.S
    )
    names = {}
    for program in programs:
        exec(program, names)
    assert len(programs) == 6
    assert names["network"](names["torch"].zeros(1, 3, 64, 64)).shape == (1, 1000)
    assert (tmp_path / "plan.html").stat().st_size > 10_000
    assert names["outcome"].status == 0 and (names["outcome"].folder.path / "metrics.jsonl").exists()


def test_every_page_is_in_the_sites_navigation_once():
    def pages(entries):
        for entry in entries:
            for value in entry.values():
                yield from pages(value) if isinstance(value, list) else [value]

    nav = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(pages(nav)) == sorted(page.name for page in DOCS.glob("*.md"))


def test_the_site_builds_and_fetches_nothing(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    for name in ("mkdocs.yml", "docs"):
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = sorted((tmp_path / "site").glob("*.html"))
    assert len(built) == len(list(DOCS.glob("*.md"))) + 1  # and the page for what is not found
    for page in built:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe)[^>]*\bsrc=\"?(https?:[^\s\">]+)", text)
        fetched += re.findall(
            r"<link[^>]*rel=\"?(?:stylesheet|preconnect|preload)[^>]*href=\"?(https?:[^\s\">]+)", text
        )
        assert fetched == [], page.name
