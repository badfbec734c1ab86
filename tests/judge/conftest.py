"""An endpoint of a judge on the loopback, and a small review to analyse."""

import pytest

from leap.cli import parse_knobs
from leap.judge import analysis
from leap.judge.options import JudgeOptions
from tests.endpoint_server import serving
from tests.judge.judge_server import Judge
from tests.judge.judging import command, environment
from tests.judge.review import write_review

PRICES = "judge-1: {input: 1.0, output: 2.0, picture_tokens: 100, picture_tokens_most: 500}\n"


@pytest.fixture
def server():
    with serving() as running:
        running.reply = Judge(running)
        yield running


@pytest.fixture
def review(tmp_path):
    folder = tmp_path / "my review"
    write_review(folder)
    (folder / "prices.yaml").write_text(PRICES)
    return folder


@pytest.fixture
def analyse(review, monkeypatch, capsys):
    """Analyse in this process; returns the exit status and what was printed."""
    monkeypatch.chdir(review)

    def run(*arguments, url=""):
        for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment(url).items():
            if name.startswith("OPENAI_"):
                monkeypatch.setenv(name, value)
        status = analysis.analyse(parse_knobs(JudgeOptions, command(review, *arguments)[2:], "Judge."))
        return status, capsys.readouterr().out

    return run
