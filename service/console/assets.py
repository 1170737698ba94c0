"""Files of the console: style, script and plotly.js, all from installed packages, and how long browsers keep them."""

from __future__ import annotations

import gzip
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.http.problems import Problem
from service.target_colours import target_css

router = APIRouter(include_in_schema=False)

FILES = {
    "report.css": ("service", "templates/report.css", "text/css; charset=utf-8"),
    "console.css": ("service", "console/templates/console.css", "text/css; charset=utf-8"),
    "report.js": ("service", "templates/report.js", "text/javascript; charset=utf-8"),
    "plotly.js": ("plotly", "package_data/plotly.min.js", "text/javascript; charset=utf-8"),
}
_KEEP = "public, max-age=31536000, immutable"


@router.get("/static/{name}")
def get_asset(request: Request, name: str) -> Response:
    """A file; its address changes with its content, so browsers keep it for good."""
    if name not in FILES:
        raise Problem(404, "unknown-file", "There is no such file.")
    plain, packed = _content(name)
    zipped = "gzip" in request.headers.get("accept-encoding", "")
    headers = {"cache-control": _KEEP, "vary": "accept-encoding"} | ({"content-encoding": "gzip"} if zipped else {})
    return Response(packed if zipped else plain, headers=headers, media_type=FILES[name][2])


@lru_cache
def asset_path(name: str) -> str:
    """Where a page finds a file."""
    return f"/static/{name}?v={sha256(_content(name)[0]).hexdigest()[:12]}"


def text_of(package: str, path: str) -> str:
    """A text file of an installed package."""
    return files(package).joinpath(*path.split("/")).read_text(encoding="utf-8")


@lru_cache
def _content(name: str) -> tuple[bytes, bytes]:
    """A file, and the same packed."""
    package, path, _ = FILES[name]
    own = target_css() if name == "report.css" else ""
    plain = (own + text_of(package, path)).encode()
    return plain, gzip.compress(plain, 6)
