"""A real PostgreSQL with a password, where its server and psycopg are installed: what leaves a trace of the password.

The server is Debian's package; the test starts it on loopback, in a folder of its own.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from data.held_ports import held_ports
from study import report
from study.results_folder import StudyFolder
from study.search import finalists, starting_over, storage
from study.search.storage_url import PASSWORD_FROM
from tests.study.search.test_identity import asked_for, begin, refusal

pytest.importorskip("psycopg")
BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: int(path.parent.name))
pytestmark = pytest.mark.skipif(BIN is None, reason="no PostgreSQL server")

PASSWORD = "hush/7@x"


def as_nobody(*words: str | Path) -> list[str]:
    """The server refuses to run as root."""
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    return [*drop, *map(str, words)]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Host, port and database of a server whose user anna has :data:`PASSWORD`."""
    assert BIN is not None
    folder = Path(subprocess.run(as_nobody("mktemp", "-d"), capture_output=True, text=True, check=True).stdout.strip())
    (folder.parent / f"{folder.name}.secret").write_text(PASSWORD)
    secret = folder.parent / f"{folder.name}.secret"
    secret.chmod(0o644)
    made = ["-D", folder / "data", "-U", "anna", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"]
    subprocess.run(as_nobody(BIN / "initdb", *made), capture_output=True, check=True)
    secret.unlink()
    (port,), (holder,) = held_ports(1)
    options = ["-h", "127.0.0.1", "-p", str(port), "-k", folder, "-F"]
    process = subprocess.Popen(as_nobody(BIN / "postgres", "-D", folder / "data", *options), stderr=subprocess.DEVNULL)
    try:
        ready = [str(BIN / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
        while subprocess.run(ready, capture_output=True).returncode:
            assert process.poll() is None
        yield f"127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)  # do not wait for open connections
        process.wait()
        holder.close()
        shutil.rmtree(folder, ignore_errors=True)


def dump(server: str) -> str:
    """All that the database holds."""
    host, _, port = server.partition("/")[0].partition(":")
    words = [str(BIN / "pg_dump"), "-h", host, "-p", port, "-U", "anna", "--inserts", "postgres"]  # type: ignore[operator]
    done = subprocess.run(words, env=os.environ | {"PGPASSWORD": PASSWORD}, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_password_is_nowhere_however_it_comes(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    quoted = PASSWORD.replace("/", "%2F").replace("@", "%40")
    whole, without = f"postgresql+psycopg://anna:{quoted}@{server}", f"postgresql+psycopg://anna@{server}"
    folder = begin(asked_for(tmp_path, storage=whole))
    assert report.main([str(folder.path), "--storage", whole]) == 0
    held = dump(server) + capsys.readouterr().out
    held += "".join(path.read_text(errors="replace") for path in folder.path.rglob("*") if path.is_file())
    assert without in held and "hush" not in held

    def trials(url: str) -> int:
        return len(storage.load_study(folder.path, url).get_trials())

    with pytest.raises(ValueError) as caught:
        trials(without)
    assert f"Optuna storage {without} cannot be opened" in str(caught.value) and PASSWORD_FROM in str(caught.value)
    with pytest.raises(ValueError, match="password authentication failed") as caught:
        trials(f"postgresql+psycopg://anna:wrong@{server}")
    assert "wrong" not in str(caught.value)
    monkeypatch.setenv(PASSWORD_FROM, PASSWORD)
    assert trials(without) == 3
    monkeypatch.delenv(PASSWORD_FROM)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert trials(without) == 3
    monkeypatch.delenv("PGPASSWORD")
    (tmp_path / ".pgpass").write_text(f"*:*:*:anna:{PASSWORD}\n")
    (tmp_path / ".pgpass").chmod(0o600)
    assert trials(without) == 3
    assert "clevrtex" in refusal(asked_for(tmp_path, storage=without)), "the same study: only its data are missing"
    (folder.path / "study.json").unlink()
    assert "steps is 60 there and 30 here" in refusal(asked_for(tmp_path, storage=without, steps=30))


def test_starting_over_in_a_database_of_several_studies(server, tmp_path):
    url = f"postgresql+psycopg://anna:{PASSWORD.replace('/', '%2F').replace('@', '%40')}@{server}"
    old = asked_for(tmp_path, storage=url, name="over")
    folder, other = begin(old), begin(asked_for(tmp_path, storage=url, name="other"))
    finalists.open_reruns(old, folder, optuna.study.StudyDirection.MAXIMIZE).enqueue_trial({})
    fresh = asked_for(tmp_path, storage=url, name="over", fresh=True)
    replaces = starting_over.set_aside(fresh, folder)
    made = storage.open_study(fresh, folder, {"seed": 1})
    config = {"model": "slot_attention", "data": "clevrtex", "size": 32}
    storage.record(made, folder, config=config, storage=fresh.storage, replaces=replaces)
    assert made.get_trials() == []
    starting_over.remove_old(fresh, folder)
    names = optuna.get_all_study_names(url)
    assert "over-2" in names and not {"over", "over-finalists"} & set(names)
    assert len(storage.load_study(StudyFolder(other.path).path, url).get_trials()) == 3
