"""results/<exp>/claims.html: each claim with its verdict, picture, what stands beside it, and what papers report."""

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.config import plugins
from bench.config.claim import claim_files
from bench.disk.files import write_atomically
from bench.disk.lock import wait_for
from bench.record.claims import Judged
from bench.record.experiment import Experiment
from bench.report.claims import (
    HEADER,
    describe_effect,
    describe_lost,
    describe_region,
    describe_verdicts,
    find_quantity,
    make_row,
)
from bench.report.figure.claims import draw_claim
from bench.report.figure.figures import to_png, to_svg
from bench.report.figure.style import house_style
from bench.report.formats import Grid, html_table
from bench.report.page import inline
from bench.version import __version__


def write_claims_page(experiment: Experiment, judged: Sequence[Judged]) -> None:
    """Writes the page, and each claim's picture as figures/claim_<id>.svg and .png, of several places with its place.

    Raises:
        OSError: they could not be written.
    """
    environment = Environment(loader=PackageLoader("bench.report", "."), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("claims.html").render(
        html_table=html_table,
        summary=describe_verdicts(judged),
        grid=Grid(HEADER, [[(text.replace("\n ", ":"), None) for text in make_row(each)] for each in judged]),
        claims=[_describe(experiment, each, name) for each, name in zip(judged, _name(judged), strict=True)],
        version=__version__,
    )
    with wait_for(experiment.folder):
        write_atomically(experiment.folder / "claims.html", page)


def _name(judged: Sequence[Judged]) -> list[str]:
    several = len({each.place for each in judged}) > 1
    return ["_".join(["claim", each.claim.id, *(each.place if several else ())]) for each in judged]


def _describe(experiment: Experiment, each: Judged, name: str) -> dict[str, Any]:
    claim, files = each.claim, claim_files()
    sources = plugins.read_sources(files[claim.id]) if claim.id in files else []
    return {
        "id": name.removeprefix("claim_"),
        "statement": claim.statement,
        "verdict": each.finding.verdict.capitalize(),
        "place": f"{each.place[1]} on {each.place[0]}",
        "claimed": describe_region(claim),
        "measure": find_quantity(claim.measure).title,
        "lost": describe_lost(each),
        "picture": _draw(experiment, each, name),
        "beside": _beside(each),
        "reported": claim.reported,
        "sources": [plugins.split_source(source) for source in sources],
    }


def _draw(experiment: Experiment, each: Judged, name: str) -> Markup | None:
    with house_style(name):
        figure = draw_claim(each)
    if figure is None:
        return None
    folder = experiment.folder / "figures"
    write_atomically(folder / f"{name}.svg", to_svg(name, figure))
    write_atomically(folder / f"{name}.png", to_png(figure))
    return inline(folder / f"{name}.svg", name)


def _beside(each: Judged) -> Grid:
    rows = []
    for compared in each.compared[1:]:
        for pair, effect in zip(compared.pairs, compared.effects, strict=True):
            mean, interval = describe_effect(effect, compared.measure, "difference")
            words = [find_quantity(compared.measure).title, pair.value, pair.arm, pair.baseline]
            rows.append([(text, None) for text in (*words, mean, interval, str(effect.seeds))])
    return Grid(["measure", "value", "arm", "against", "effect", "95 % interval", "seeds"], rows)
