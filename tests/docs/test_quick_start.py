"""What the pages tell people to type is typed, in a folder like theirs, with a pod beside it.

`TYPED` is what is typed here. One pod serves all of it; each test leaves nothing that another one reads.
"""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.docs.blocks import ROOT, block
from tests.docs.folder import Folder, Running, until

pytestmark = pytest.mark.system

README = "README.md"
START, TESTS, SEED, MESSAGES, KEEP = (
    "git clone",
    "scripts/test",
    ".venv/bin/pushserver seed",
    ".venv/bin/pushserver publish",
    ".venv/bin/pushserver consume",
)
PUBLISHING = "docs/publishing.md"
ONE, BATCH, ERASE, SHELL = (
    "curl -s http://127.0.0.1:8001/v1/messages",
    "curl -sN",
    "DELETE FROM",
    "pushserver publish",
)
EXPLAIN = ".venv/bin/pushserver publish"
EXPOSURES = "docs/exposures.md"
TYPED = {
    README: [START, TESTS, SEED, MESSAGES, KEEP],
    "docs/delivery.md": ["SET ps:msg:ID"],
    "docs/explaining.md": [EXPLAIN],
    EXPOSURES: ["scripts/run", "SELECT value"],
    PUBLISHING: [ONE, BATCH, ERASE, SHELL],
}
LEFT_OUT = {
    "git clone <this repository> pushserver && cd pushserver": "the folder is the clone",
    "scripts/test    # style, types, and every test on real engines, with coverage": "this is it",
}

# Columns after which a terminal's client prints its content.
SHOWN = r"^message +\S+ \S+ "


def commands(page: str, start: str) -> list[str]:
    """The commands of a block but for those left out."""
    return [line for line in block(page, start).commands if line not in LEFT_OUT]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A fresh clone in which a pod is served by the command of the README."""
    folder = Folder(tmp_path_factory.mktemp("clone"))
    (serve,) = commands(README, START)
    with folder.running(serve) as pod:
        pod.says("Ctrl-C ends it")
        until(lambda: folder.ask("/readyz"))
        yield folder
        assert pod.interrupt() == 0, pod.text


@pytest.fixture(autouse=True)
def _forgotten(folder: Folder) -> None:
    folder.forget()


def exposures(folder: Folder) -> int:
    """How many rows the consumer has kept."""
    file = folder.path / ".pushserver/exposures.db"
    if not file.exists():
        return 0
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
        try:
            return int(database.execute("SELECT count(*) FROM exposures").fetchone()[0])
        except sqlite3.OperationalError:  # its tables are being made
            return 0


def ask_database(folder: Folder, statement: str) -> list[tuple[Any, ...]]:
    """The rows that a statement answers."""
    with sqlite3.connect(folder.path / ".pushserver/exposures.db") as database:
        return database.execute(statement).fetchall()


def message_to_everyone(folder: Folder) -> str:
    """The id of the only message of which an exposure says that it came by the log."""
    ids = "SELECT message_id FROM exposures GROUP BY 1 LIMIT 1"
    return str(ask_database(folder, ids)[0][0])


def contents(client: Running) -> list[str]:
    """What the client in the terminal showed, in its order."""
    return re.findall(SHOWN + "(.*)$", client.text, re.MULTILINE)


def words(line: str) -> tuple[str, ...]:
    """A command without its comment."""
    return tuple(shlex.split(line, comments=True))


def as_json(lines: Iterable[str]) -> list[Any]:
    """What each line says."""
    return [json.loads(line) for line in lines]


def timeless(text: str) -> str:
    """With all moments the same."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "MOMENT", text)


def test_the_first_messages_of_the_readme_and_what_is_kept_of_them(folder: Folder) -> None:
    """The quick start, and then what the pages ask of its database and how they erase somebody."""
    folder.put("/v1/users/alice/categories", {"vip": ["3"]})
    seed, connect = commands(README, SEED)
    folder.run(seed)
    with folder.running(connect) as alice:
        alice.says("^live ")
        assert [json.loads(one)["number"] for one in contents(alice)] == list(range(1, 501))
        to_alice, to_everyone, post, user, metrics = commands(README, MESSAGES)
        folder.run(to_alice)
        alice.says(SHOWN + '"Hello"$')
        folder.run(to_everyone)
        alice.says("22:00")
        assert json.loads(folder.run(post)).items() >= {"users": 2, "online": 1}.items()
        alice.says("a back end by HTTP")
        until(lambda: json.loads(folder.run(user))["inbox"]["waiting"] == 0)
        assert json.loads(folder.run(user))["online"]
        assert 'where="published"} 503' in folder.run(metrics)
        assert alice.interrupt() == 0, alice.text
    consume, by_source, page, reconcile = commands(README, KEEP)
    with folder.running(consume) as consumer:
        until(lambda: exposures(folder) == 503)
        assert consumer.interrupt() == 0, consumer.text
    told, _, total = folder.run_all(by_source, page, reconcile)
    assert re.search(r"offline\s+500\b", told)
    assert (folder.path / "exposures.html").stat().st_size > 1000
    assert total.rstrip().endswith("0 difference")
    question = block(EXPOSURES, "SELECT value").text.replace("spring-offer", message_to_everyone(folder))
    assert ask_database(folder, question) == [("3", 1, 1)]
    # The statement for PostgreSQL is left out here.
    statements = re.sub("--.*", "", block(PUBLISHING, ERASE).text).split(";")
    for statement in statements:
        if "convert_to" not in statement:
            ask_database(folder, statement)
    assert exposures(folder) == 0


def test_the_page_of_exposures_tells_what_the_readme_tells() -> None:
    typed = block(EXPOSURES, "scripts/run").commands
    known = {words(line) for start in (START, KEEP) for line in commands(README, start)}
    # One report without an option, as its comment says.
    assert {words(line) for line in typed} - known == {(".venv/bin/pushserver", "exposures")}


def test_a_message_is_explained_as_it_is_written(folder: Folder) -> None:
    """Word for word but for the times."""
    publish, connect, explain, *told, reconcile, total = commands("docs/explaining.md", EXPLAIN)
    folder.run(publish)
    with folder.running(".venv/bin/pushserver consume") as consumer:
        with folder.running(connect) as alice:
            alice.says(SHOWN + '"hi"$')
            until(lambda: exposures(folder) == 1)
            assert alice.interrupt() == 0, alice.text
        assert timeless(folder.run(explain)) == timeless("\n".join([*told, ""]))
        assert folder.run(reconcile) == total + "\n"
        assert consumer.interrupt() == 0, consumer.text


def test_the_answers_of_the_api_are_those_of_the_page(folder: Folder) -> None:
    post, answer = commands(PUBLISHING, ONE)
    with folder.running("pushserver connect alice") as alice:
        alice.says("^live ")
        assert json.loads(folder.run(post)) == json.loads(answer)
        alice.says(SHOWN + re.escape('{"amount":1.1}') + "$")
        assert alice.interrupt() == 0, alice.text
    batch, *answers = commands(PUBLISHING, BATCH)
    lines = ['{"id":"a","to":{"users":["carol"]},"content":1}', '{"content":1}']
    (folder.path / "batch.ndjson").write_text("\n".join(lines))
    assert as_json(folder.run(batch).splitlines()) == as_json(answers)


def test_messages_are_published_from_the_shell(folder: Folder) -> None:
    line = '{"to":{"users":["carol"]},"content":1}'
    typed = [one.replace("generate", f"echo '{line}'") for one in commands(PUBLISHING, SHELL)]
    to_users, to_categories, to_live, batch, pods = as_json(folder.run_all(*typed))
    assert to_users["users"] == 2
    assert to_categories["users"] is None
    assert to_live["id"]
    assert batch["status"] == 202
    assert len(pods) == 1


def test_a_program_of_others_sends_a_message_by_two_commands(folder: Folder) -> None:
    content, inbox = commands("docs/delivery.md", "SET ps:msg:ID")
    content = content.replace("MS", "1700000000000").replace("ANY", "[1]")
    with folder.redis() as redis:
        for line in (content, inbox):
            redis.execute_command(*shlex.split(line.replace("ID", "other-1")))
    assert re.search(SHOWN + r"\[1\]$", folder.run("pushserver connect alice --count 1"), re.MULTILINE)


def test_what_is_left_out_is_still_there_and_has_its_reason() -> None:
    typed = [one for page, starts in TYPED.items() for start in starts for one in block(page, start).commands]
    assert set(LEFT_OUT) <= set(typed)


def test_the_way_to_a_first_message_in_a_browser_is_two_commands(folder: Folder) -> None:
    """Counted, so that it does not grow unnoticed. What the page does is in `tests/system/test_demo.py`."""
    assert len(block(README, START).commands) == 2
    text = (ROOT / README).read_text()
    for page in ("http://127.0.0.1:8000/demo", "http://127.0.0.1:8001/dashboard"):
        assert f"<{page}>" in text
        assert "<html" in folder.run(f"curl -sf {page}")
