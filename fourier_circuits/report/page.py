"""Writing the folder: index.html, definitions.html, one shared plotly.min.js, the neurons' grids, PNGs on request."""

import base64
import json
import zlib
from importlib.resources import files
from pathlib import Path

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from plotly.offline import get_plotlyjs

from fourier_circuits.model.formats import write_whole
from fourier_circuits.report.gallery import Plate, figures, neuron_grids
from fourier_circuits.reproduction import Reproduction

HERE = Path(str(files("fourier_circuits.report")))
PNG_WIDTH = 900


class PngError(RuntimeError):
    """Figures cannot be drawn as PNG on this machine."""


def definitions() -> Path:
    """docs/definitions.md: in the installed package, or in the repository beside it."""
    return next(
        path for path in (HERE / "definitions.md", HERE.parents[1] / "docs" / "definitions.md") if path.exists()
    )


def write_report(reproduction: Reproduction, folder: Path, png: bool = False) -> Path:
    """Write the report, and return the path of its first page.

    Args:
        reproduction: what was measured.
        folder: where to; files of an earlier report there are replaced.
        png: also every figure as figures/*.png; needs kaleido and a Chromium.

    Raises:
        PngError: a PNG is asked for and cannot be drawn; the pages are written all the same.
    """
    pages = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    drawn = list(figures(reproduction))
    shown = [(plate, title_of(fig), safe_json(fig)) for plate, fig in drawn]
    config = reproduction.run.config
    write_whole(
        folder / "index.html",
        pages.get_template("index.html.j2")
        .render(
            r=reproduction,
            figures=shown,
            figure_of={claim: plate for plate, _ in reversed(drawn) for claim in plate.claims},
            holding=sum(claim.verdict == "holds" for claim in reproduction.claims),
            sections=sorted({section_of(claim.printed.where) for claim in reproduction.claims}),
            section_of=section_of,
            about={"key frequencies": ", ".join(map(str, reproduction.freqs)), "rule": reproduction.freqs.criterion}
            | {"engine": reproduction.run.about.get("engine", "unknown")}
            | reproduction.run.about.get("versions", {})
            | flat(config.to_dict()),
            command=command_of(reproduction),
        )
        .encode(),
    )
    text = MarkdownIt("commonmark", {"html": False}).enable("table").render(definitions().read_text())
    write_whole(folder / "definitions.html", pages.get_template("definitions.html.j2").render(text=text).encode())
    write_whole(folder / "plotly.min.js", get_plotlyjs().encode())
    for name in ("report.css", "report.js"):
        write_whole(folder / name, (HERE / name).read_bytes())
    write_whole(folder / "neurons.js", neurons_script(reproduction).encode())
    if png:
        write_pngs(drawn, folder / "figures")
    return folder / "index.html"


def write_pngs(drawn: list[tuple[Plate, go.Figure]], folder: Path, width: int = PNG_WIDTH) -> None:
    """Every figure as a PNG of so many pixels, at twice that resolution.

    Raises:
        PngError: kaleido or a Chromium is missing, or fails.
    """
    for plate, fig in drawn:
        try:
            content = fig.to_image(format="png", width=width, scale=2)
        except Exception as error:  # a browser of unknown make: whatever it fails with
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise PngError(
                f"PNGs need kaleido (pip install 'fourier-circuits[png]') and a Chromium or Chrome on the PATH or in "
                f"BROWSER_PATH; drawing {plate.id} failed: {reason}"
            ) from None
        write_whole(folder / f"{plate.id}.png", content)


def title_of(fig: go.Figure) -> str:
    """What a figure says, on one line."""
    return fig.layout.title.text.replace("<br>", " ")  # pyright: ignore


def safe_json(fig: go.Figure) -> str:
    """A figure as JSON that may stand inside a script element, its title left to the page."""
    bare = go.Figure(fig)
    bare.update_layout(title=None, margin_t=34, height=fig.layout.height - fig.layout.margin.t + 34)  # pyright: ignore
    return bare.to_json().replace("<", "\\u003c")  # pyright: ignore


def section_of(where: str) -> str:
    """The part of the paper that a claim is from: section 4, appendix C, ..."""
    first = where.split(",")[0]
    return first.split(".")[0] if first.startswith(("section", "appendix")) else "elsewhere"


def flat(values: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Nested options as `model.p`, `seed`, ..."""
    rows: dict[str, object] = {}
    for name, value in values.items():
        rows |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return rows


def command_of(reproduction: Reproduction) -> str:
    """How to train such a run again."""
    config = reproduction.run.config
    parts = ["fourier-circuits train --preset paper --out my-run"]
    parts += [f"--p {config.model.p}", f"--seed {config.seed}", f"--epochs {config.epochs}"]
    parts += [f"--train-fraction {config.train_fraction}", f"--weight-decay {config.weight_decay}"]
    parts += [f"--learning-rate {config.learning_rate}", f"--operation {config.operation}"]
    return " ".join(parts)


def neurons_script(reproduction: Reproduction) -> str:
    """The grids of all neurons as a script, because a page that is opened as a file may not fetch."""
    grids = neuron_grids(reproduction)
    packed = base64.b64encode(zlib.compress(grids.contiguous().numpy().tobytes(), 9)).decode()
    return f"window.NEURONS = {json.dumps({'p': grids.shape[1], 'count': grids.shape[0], 'deflated': packed})};\n"
