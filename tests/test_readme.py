"""Every command and every snippet of the README runs."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fourier_circuits.cli import app
from fourier_circuits.reproduction import reproduce
from fourier_circuits.training.run import Run, bundled_run

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
LINES = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines() if line]
COMMANDS = [line for line in LINES if line.startswith("fourier-circuits")]
TARGETS = [line.split()[1] for line in LINES if line.startswith("make")]


def test_there_is_something_to_test():
    assert len(SNIPPETS) >= 2 and len(COMMANDS) >= 4 and {"reproduce", "test"} <= set(TARGETS)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_snippets_run(snippet, monkeypatch, tmp_path, capsys):
    (tmp_path / "data").symlink_to(REPOSITORY / "data")
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {"__name__": "readme"})


def test_commands_run_in_their_order(monkeypatch, tmp_path):
    (tmp_path / "data").symlink_to(REPOSITORY / "data")
    monkeypatch.chdir(tmp_path)
    for line in COMMANDS:
        arguments = shlex.split(line)[1:]
        if arguments[0] == "train":
            arguments += ["--epochs", "50"]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, (line, result.output)


def test_what_it_found_is_what_it_finds():
    """Every row of the table "What it found" says what `reproduce` says on the bundled run."""
    texts = {claim.printed.sentence: claim.ours.text for claim in reproduce(Run.open(bundled_run())).claims}
    section = README.split("## What it found")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", section, re.MULTILINE)[2:]
    assert len(rows) >= 8
    for sentence, _, ours in rows:
        assert texts[sentence] == ours


def test_make_targets_exist():
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in TARGETS:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_to_files_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (REPOSITORY / target).exists(), target
