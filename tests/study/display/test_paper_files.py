"""What is written beside the report: Markdown, LaTeX, references and the model card."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import trainables
from study.display import paper_files, study_page
from study.display.page_table import Cell, Table, tex
from tests.study.results import CONFIG

BEST = {"entry": "trial_0005", "trial": 5, "seed": 11, "model": "space", "image_size": 32, "step": 400}
BEST |= {"hyperparameters": {"lr": 0.002, "num_slots": 7, "kernel": None}}


@pytest.fixture
def folder(results_folder: Path) -> Path:
    """A finished study whose winner has its weights, with the files written."""
    (results_folder / "best").mkdir()
    (results_folder / "best.json").write_text(json.dumps(BEST))
    record = json.loads((results_folder / "study.json").read_text())
    record |= {"base": {"lr": 0.001, "num_slots": 7, "kernel": 3}}
    record["ranges"] = {"lr": {"low": 1e-5, "high": 1e-2, "log": True}, "num_slots": {"low": 4, "high": 12}}
    (results_folder / "study.json").write_text(json.dumps(record))
    study_page.write(results_folder)
    return results_folder


def test_markdown_has_what_the_page_has(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    for line in (
        "# space on synthetic",
        "| lr | **0.002** | 0.001 | 1e-05 to 0.01, logarithmic |",
        "| num_slots | 7 | 7 | 4 to 12 |",
        "| trial 5 | 47.5 ± 5.0 [46.2, 48.8] | 47.5 ± 5.0 [46.2, 48.8] | 110 ± 10 [110, 110] |",
        "- test: trial 5 may or may not beat the base: mIoU_fg +7.0 [-24.2, +38.2]",
        "**What is lost: test minus the other split, mIoU_fg and ARI_FG in points, MSE as above**",
        "| train | 4,000 | gradients; its labels touch nothing |",
    ):
        assert line in text.splitlines(), line
    assert "published numbers are for" in text and "python study/run.py --name space-synthetic-tiny" in text


def test_latex_is_made_of_booktabs_and_balanced(folder: Path) -> None:
    text = (folder / "tables.tex").read_text()
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 3
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") >= 3
    for tabular in re.findall(r"\\begin\{tabular\}\{(.*?)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL):
        columns = re.sub(r"\*\{(\d+)\}\{r", lambda found: "r" * int(found[1]), tabular[0]).count("r") + 1
        for line in tabular[1].splitlines():
            if line.endswith(r"\\"):
                spanned = sum(int(width) - 1 for width in re.findall(r"\\multicolumn\{(\d+)\}", line))
                assert len(re.findall(r"(?<!\\)&", line)) + spanned == columns - 1, line
    assert r"trial 5 & 47.5 $\pm$ 5.0 & 47.5 $\pm$ 5.0 & 110 $\pm$ 10 \\" in text
    assert text.index("trial 5 &") < text.index("trial 2 &"), "in the order of validation"
    assert r"trial 5, OOD & +11.2 [+8.7, +14.0] &" in text or "trial 5, OOD & +" in text
    assert r"\textbf{62.0" not in text and r"trial 2 & \textbf{64.5 $\pm$ 2.0}" in text, "the best of a column is bold"
    assert not re.search(r"(?<!\\)[_%#]", re.sub(r"(?m)^%.*$|\\label\{.*?\}", "", text))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_the_tables_compile_and_fit_an_articles_page(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        f"\\input{{{folder / 'tables.tex'}}}\n\\end{{document}}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert run.returncode == 0, run.stdout[-2000:]
    assert "Overfull" not in run.stdout


def test_names_are_text_in_every_language() -> None:
    name = "a_b&c%<b>|{x}\\"
    table = Table(["", name], [[name, Cell("1.0", 1.0, "[-1, 2]", bold=True)]], "t", name)
    assert "<b>|" not in table.html() and "&lt;b&gt;|" in table.html()
    assert "a_b&c%<b>\\|{x}\\ | **1.0** [-1, 2] |" in table.markdown()[-2]
    assert tex(name) == r"a\_b\&c\%$<$b$>$|\{x\}\textbackslash{}"
    assert r"\textbf{1.0} [$-$1, 2] \\" in "\n".join(table.latex("t"))


def test_references_are_those_of_the_study() -> None:
    text = paper_files.references(CONFIG | {"pruner": "asha", "sampler": "random"})
    assert [key for key in re.findall(r"@\w+\{(\w+),", text)] == [
        *("karazija2021clevrtex", "liaw2018tune", "akiba2019optuna", "li2020asha", "lin2020space"),
    ]
    whole = paper_files.REFERENCES.read_text()
    assert {line[len("% when model ") :] for line in whole.splitlines() if line.startswith("% when model")} == set(
        trainables.names()
    ), "each model has its paper"
    keys = [key for key, _ in entries(whole)]
    assert len(keys) == len(set(keys)) == whole.count("% when "), "one entry below each condition, each with its key"
    for key, fields in entries(whole):
        assert {"title", "author", "year"} < fields.keys() and ("booktitle" in fields) != ("journal" in fields), key
        assert re.fullmatch(r"(19|20)\d\d", fields["year"]) and fields["year"] in key, key
        names = fields["author"].split(" and ")
        assert all(name.count(",") == 1 and name == name.strip() for name in names), f"{key}: Family, Given"
        assert re.sub(r"[^a-z]", "", names[0].split(",")[0].lower()) in key, f"{key} begins with its first author"
        if "eprint" in fields:
            assert fields["archivePrefix"] == "arXiv" and re.fullmatch(r"\d{4}\.\d{5}", fields["eprint"]), key
    prior = dict(entries(paper_files.references(CONFIG | {"sampler": "prior"})))
    assert {"bergstra2011tpe", "mallik2023priorband", "hvarfner2022pibo"} < prior.keys()
    assert "mallik2023priorband" not in paper_files.references(CONFIG | {"sampler": "tpe"})


def entries(text: str) -> list[tuple[str, dict[str, str]]]:
    """Key and fields of each BibTeX entry of ``text``; raises where braces do not match."""
    found = []
    for start in re.finditer(r"(?m)^@\w+\{(\w+),", text):
        depth, at = 1, start.end()
        fields: dict[str, str] = {}
        while depth:
            field = re.compile(r"\s*(\w+) = \{").match(text, at) if depth == 1 else None
            if field:
                inside, end = 1, field.end()
                while inside:
                    inside += {"{": 1, "}": -1}.get(text[end], 0)
                    end += 1
                assert field[1] not in fields, f"{field[1]} twice"
                fields[field[1]], at = text[field.end() : end - 1], end
            else:
                assert text[at] in ",} \n", f"{text[at : at + 30]!r} is no field"
                depth -= text[at] == "}"
                at += 1
        found.append((start[1], fields))
    return found


def test_the_card_says_how_to_load_the_weights(folder: Path) -> None:
    text = (folder / "best" / "README.md").read_text()
    assert 'model = load_best("results/space-synthetic-tiny/best")' in text
    (code,) = re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)
    compile(code, "card", "exec")
    assert len([line for line in code.splitlines() if line]) <= 5
    assert "| trial 5 | test | 47.5 ± 5.0 | 47.5 ± 5.0 | 110 ± 10 |" in text and "| trial 2 |" not in text
    assert "over 2 seeds, of which these weights have the first" in text and "| kernel | None |" in text


def test_an_unfinished_study_has_neither_tables_nor_card(results_folder: Path) -> None:
    for name in ("evaluation.parquet", "best.json"):
        (results_folder / name).unlink()
    study_page.write(results_folder)
    assert (results_folder / "report.md").exists() and (results_folder / "results.bib").exists()
    assert not (results_folder / "tables.tex").exists() and not (results_folder / "best").exists()
