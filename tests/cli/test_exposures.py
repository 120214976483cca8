"""`pushserver exposures`: arguments, forms and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pushserver.cli import main
from pushserver.database.database import Database
from tests.database.look import records
from tests.exposure.examples import an_exposure


@pytest.fixture
def _some(tmp_path: Path) -> None:
    """The database of development mode, with two messages of 2023 in it."""
    database = Database(f"sqlite:///{tmp_path / '.pushserver' / 'exposures.db'}")
    database.open()
    database.store(records(an_exposure("alice"), an_exposure("bob", message_id="m-2")), [])
    database.close()


@pytest.mark.usefixtures("_some")
def test_the_report_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exposures"]) == 0
    out = capsys.readouterr().out
    assert "m-1" in out
    assert "m-2" in out


@pytest.mark.usefixtures("_some")
@pytest.mark.parametrize(
    "arguments, delivered",
    [
        ([], 2),
        (["--message", "m-2"], 1),
        (["--category", "vip=3"], 2),
        (["--category", "vip=4"], 0),
        (["--since", "2023-11-14T22:13:20.020"], 2),
        (["--since", "2023-11-15"], 0),
        (["--since", "1h"], 0),
        (["--until", "2023-11-15T00:00+02:00"], 0),
        (["--until", "2023-11-15T00:30+02:00"], 2),
        (["--by", "time", "--bucket", "15m"], 2),
    ],
)
def test_filters(capsys: pytest.CaptureFixture[str], arguments: list[str], delivered: int) -> None:
    assert main(["exposures", "--json", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["delivered"] == delivered


@pytest.mark.usefixtures("_some")
def test_csv_and_the_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["exposures", "--csv", "--by", "pod"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("pod-1,2,2,0,2,10,10,10,10")
    assert main(["exposures", "--html", "page.html"]) == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert main(["exposures", "--html", "no/such/page.html"]) == 2
    assert "no/such/page.html" in capsys.readouterr().err


def test_without_a_database_it_says_who_makes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exposures"]) == 2
    assert "pushserver consume" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--by", "user"],
        ["--since", "yesterday"],
        ["--bucket", "0h"],
        ["--bucket", "1w"],
        ["--message", "a b"],
        ["--category", "rank=1"],
        ["--category", "vip"],
        ["--limit", "0"],
        ["--json", "--csv"],
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["exposures", *arguments])
    assert ended.value.code == 2
