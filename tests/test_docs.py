"""README and docs/: links lead somewhere, and commands are read as they stand."""

import re
import shlex

import pytest
import yaml
from conftest import write

from bench.cli import _make_parser
from bench.cli import run as app
from bench.config import CONF, plugins
from bench.version import __version__

ROOT = CONF.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OF_RESULTS = [ROOT / "results" / "README.md", *sorted((ROOT / "results").glob("*/README.md"))]
COMMANDS = sorted({line for page in PAGES for line in re.findall(r"^    (regbench .*)$", page.read_text(), re.M)})


def anchors(page):
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *OF_RESULTS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page):
    for path in re.findall(r"`((?:bench|conf|tests|scripts)/[\w/.-]+)`", page.read_text()):
        assert "NAME" in path or (ROOT / path).exists(), path


def test_readme_fits_a_screen_or_two_and_leads_to_every_page():
    readme = PAGES[0].read_text()
    assert len(readme.splitlines()) <= 150
    for page in PAGES[1:]:
        assert f"](docs/{page.name})" in readme


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_read_as_they_stand(command, tmp_path, monkeypatch):
    """`run` and `plan` compose; the others' flags exist."""
    own = re.findall(
        r"^`(mine/\S+)`\n\n```\w+\n(.*?)^```$", (ROOT / "docs" / "bring-your-own.md").read_text(), re.M | re.S
    )
    monkeypatch.chdir(write(tmp_path, dict(own)))
    _, verb, *arguments = shlex.split(command, comments=True)
    arguments = [argument for argument in arguments if argument != "--dry-run"]
    if "--config-dir" in arguments:
        i = arguments.index("--config-dir")
        (tmp_path / arguments[i + 1]).mkdir(exist_ok=True)
        plugins.use_folder(tmp_path / arguments[i + 1])
        del arguments[i : i + 2]
    if verb in ("run", "plan", "tune", "speed"):
        if "_tuned" in command:
            pytest.skip("needs what tune has written: tests/test_tune.py has the same command")
        arguments = [argument for argument in arguments if not argument.startswith("trials=")]
        if "image_folder" in command:
            pytest.skip("needs a folder of pictures: tests/test_image_folder.py has the same command")
        arguments = [argument.replace("<run_id>", "0") for argument in arguments]
        assert app.compose(arguments).runs
    else:
        _make_parser().parse_args([verb, *arguments])


def test_the_citation_names_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["authors"] == [{"name": "The regbench developers"}]
    assert (citation["type"], citation["title"], citation["license"]) == ("software", "regbench", "MIT")
    assert {"cff-version", "message"} <= citation.keys()
