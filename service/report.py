"""A labelled run as one HTML page: run directory -> report.html. Last step of a batch run, and `probewatch report DIR`.

The page is self-contained (plotly.js inside) and its content-security policy lets it load nothing and run only the
scripts that this module wrote into it. It holds no prompt text: the tables it is made of hold none.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path

from jinja2 import BaseLoader, DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from service.files import replacing
from service.report_data import read_run
from service.report_plots import script_json
from service.report_view import ReportView, build_view, certified
from service.report_words import basis_of, counted, exponent, moment, percent, title_of, visible
from service.target_colours import target_css


def write_report(run_dir: Path, out: Path | None = None) -> Path:
    """Write `out`, `run_dir`/report.html if None, replacing an earlier one only once the new one is whole; its path.

    Raises InputError if `run_dir` is not a labelled run, OutputError if the page cannot be written there.
    """
    page = render(build_view(read_run(run_dir)))
    path = out if out is not None else run_dir / "report.html"
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    return path


def render(view: ReportView) -> str:
    """The page. Every string of the run is escaped by the template, or by `script_json` where a script reads it."""
    plotly = _text_of("plotly", "package_data/plotly.min.js").replace("</script", "<\\/script")
    script = _text_of("service", "templates/report.js")
    sources = {name: _text_of("service", f"templates/{name}.html.j2") for name in ("report", "macros")}
    return (
        make_environment(DictLoader(sources))
        .get_template("report")
        .render(
            view=view,
            css=Markup(target_css() + _text_of("service", "templates/report.css")),
            plotly=Markup(plotly),
            script=Markup(script),
            script_sources=f"{_source(plotly)} {_source(script)}",
            figures=Markup(script_json(view.figures)),
        )
    )


def make_environment(loader: BaseLoader) -> Environment:
    """Templates that escape everything, and say things as the report does. The console's too."""
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "visible": visible,
        "title_of": title_of,
        "basis_of": basis_of,
        "certified": certified,
        "percent": percent,
        "exponent": exponent,
        "moment": moment,
        "counted": counted,
    }
    return environment


def _text_of(package: str, path: str) -> str:
    return files(package).joinpath(*path.split("/")).read_text(encoding="utf-8")


def _source(script: str) -> str:
    """The content-security-policy source that allows exactly this inline script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
