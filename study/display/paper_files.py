"""What a paper or a reader of the weights needs, beside report.html: Markdown, LaTeX, references, and a model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data import atomic
from study.display import budget_section
from study.display.findings import Findings
from study.display.found_section import how_to_load
from study.display.page_table import Table, framed, tex
from study.display.score_section import OVER_IMAGES, board, gaps_table, protocol, published_table
from study.scoring import published
from study.scoring.leaderboard import BRIEF, Section, between, cell, sections

REFERENCES = Path(__file__).with_name("references.bib")
"""BibTeX entries, each below a line ``% when KEY VALUE|VALUE`` (of a study's configuration), or ``% when always``."""

MARKDOWN, LATEX, BIBTEX, CARD = "report.md", "tables.tex", "results.bib", "README.md"


def write(found: Findings) -> None:
    """Write report.md, tables.tex and results.bib to the study's folder, and the model card to its ``best/``.

    Before the end of the final stage there is no LaTeX and no card.
    """
    _write(found.folder / MARKDOWN, markdown(found))
    _write(found.folder / BIBTEX, references(found.config))
    if found.rows:
        _write(found.folder / LATEX, latex(found))
    if found.best.get("hyperparameters") and (found.folder / "best").is_dir():
        _write(found.folder / "best" / CARD, card(found))


def read_latex(folder: Path) -> str:
    """The tables that :func:`write` has made of the study in ``folder``. Raises ValueError before its final stage."""
    if not (folder / "evaluation.parquet").exists():
        raise ValueError(f"{folder.name} has no scores yet, so there are no tables; run the study's command to its end")
    return (folder / LATEX).read_text(encoding="utf-8")


def markdown(found: Findings) -> str:
    """The report in Markdown, without pictures."""
    config = found.config
    facts = f"{config['preset']} preset, {config['size']}x{config['size']}, {config['steps']:,} steps"
    lines = [f"# {found.title}", "", f"Study {found.name}: {facts}, seed {config['seed']}.", ""]
    lines += [f"- {line}" for line in [*found.verdicts, *found.missing]] + [""]
    for table in _tables(found):
        lines += table.markdown()
    lines += [f"- {line}" for line in _notes(found)] + ["", "## Again", "", "```"]
    lines += [budget_section.command(found.name, found.folder, found.record, len(found.trials)), "```"]
    return "\n".join(lines) + "\n"


def latex(found: Findings) -> str:
    """Tables of the package booktabs: scores by split, gaps, and published numbers."""
    lines = ["% made by clevrtune; needs \\usepackage{booktabs}", ""]
    lines += scores_latex(sections(found.rows, found.config["size"], BRIEF), found)
    for table, label in (
        (_gains(found), "gains"),
        (_gaps(found), "gaps"),
        (_published(found), "published"),
    ):
        if table is not None:
            lines += table.latex(label)
    return "\n".join(lines)


def scores_latex(splits: Sequence[Section], found: Findings) -> list[str]:
    """One table, a block of rows per split so that it fits the width of a page; the best of each column is bold."""
    width = 1 + len(BRIEF)
    body: list[str] = []
    for split in splits:
        body += [*([r"\midrule"] if body else []), rf"\multicolumn{{{width}}}{{l}}{{\emph{{{tex(split.title)}}}}} \\"]
        previous = None
        for row, cells, bold in split.rows:
            if row.kind == "gain":
                continue  # it has a table of its own
            if previous is not None and row.kind == "baseline" != previous:
                body.append(rf"\cmidrule(l){{1-{width}}}")
            words = [rf"\textbf{{{tex(text)}}}" if best else tex(text) for text, best in zip(cells, bold, strict=True)]
            body.append(" & ".join([tex(row.entry), *words]) + r" \\")
            previous = row.kind
    size = found.config["size"]
    about = f"mIoU_fg and ARI_FG in %, MSE summed over 3x{size}x{size} values (less is better); "
    about += "; ".join(line for line in found.remarks if "±" in line)
    head = [" & ".join(["", *map(tex, BRIEF)]) + r" \\", r"\midrule"]
    return framed(f"{found.title}: {about}".rstrip("; "), "scores", "l" + "r" * len(BRIEF), [*head, *body])


def references(config: Mapping[str, Any]) -> str:
    """BibTeX entries of what a study with ``config`` rests on."""
    found = []
    for block in REFERENCES.read_text(encoding="utf-8").split("% when ")[1:]:
        condition, _, entry = block.partition("\n")
        key, _, value = condition.strip().partition(" ")
        if key == "always" or str(config.get(key)) in value.split("|"):
            found.append(entry.strip() + "\n")
    return "\n".join(found)


def card(found: Findings) -> str:
    """The model card: what the weights are, what they score, and how to load them."""
    best, config = found.best, found.config
    lines = [f"# {config['model']}, trained on {config['data']}", ""]
    lines += [
        f"Unsupervised object segmentation at {config['size']}x{config['size']} pixels: the winner ({found.winner}) of",
        f"the study {found.name}, trained for {best['step']:,} steps with seed {best.get('seed')}. Labels chose its",
        "hyperparameters; no gradient saw one.",
        "",
        "```python",
        how_to_load(found.name, best),
        "```",
        "",
    ]
    scores = [
        [row.entry, split.split, *(cell(metric, row.means[metric], row.stds.get(metric)) for metric in BRIEF)]
        for split in sections(found.rows, config["size"], BRIEF)
        for row, _, _ in split.rows
        if row.entry in (found.winner, "base")
    ]
    if scores:
        lines += Table(["", "split", *BRIEF], scores, "scores").markdown()
        seeds = max((row.seeds for row in found.rows), default=1)
        said = f"over {seeds} seeds, of which these weights have the first" if seeds > 1 else "of one seed"
        lines += [f"mIoU_fg and ARI_FG in percent, {said}.", ""]
    hyperparameters = [[key, str(value)] for key, value in best["hyperparameters"].items()]
    lines += Table(["hyperparameter", "value"], hyperparameters, "hyperparameters").markdown()
    lines += ["What to cite is in `results.bib`, all scores are in `evaluation.parquet`, one folder up.", ""]
    return "\n".join(lines)


def _tables(found: Findings) -> list[Table]:
    wanted = [
        *([found.chosen.table()] if found.chosen else []),
        *board(found.rows, found.config["size"]),
        gaps_table(found.gaps),
        _published(found),
        protocol(found.record, found.rows),
    ]
    return [table for table in wanted if table is not None]


def _gains(found: Findings) -> Table | None:
    """What the winner has more than the base, split by split, with intervals over seeds; None without it."""
    gains = [
        [split.split, *cells]
        for split in sections(found.rows, found.config["size"], BRIEF)
        for row, cells, _ in split.rows
        if row.kind == "gain"
    ]
    name = next((row.entry for row in found.rows if row.kind == "gain"), "")
    return Table(["", *BRIEF], gains, "gains", f"{name}, with 95 % intervals over seeds") if gains else None


def _gaps(found: Findings) -> Table | None:
    """The gaps with a row per entry and split, which fits the width of a page; None without any."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for gap in found.gaps:
        words = cell(gap.metric, gap.difference, gain=True)
        around = f" {between(gap.metric, gap.interval, signed=True)}" if gap.interval else ""
        lines.setdefault((gap.entry, gap.split), {})[gap.metric] = words + around
    rows = [[f"{entry}, {split}", *(by.get(metric, "-") for metric in BRIEF)] for (entry, split), by in lines.items()]
    title = "What is lost: test minus the other split, mIoU_fg and ARI_FG in points, with 95 % intervals over images"
    return Table(["", *BRIEF], rows, "gaps", title) if rows else None


def _published(found: Findings) -> Table | None:
    return published_table(found.published, found.winner or "ours")


def _notes(found: Findings) -> list[str]:
    about = [f"published numbers: {published.source()}"] if found.published else []
    why = [found.why_not] if found.why_not else []
    return [*found.remarks, *([OVER_IMAGES] if found.drawn else []), *about, *why]


def _write(path: Path, words: str) -> None:
    with atomic.replacing(path) as partial:
        partial.write_text(words, encoding="utf-8")
