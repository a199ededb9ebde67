"""Passwords of databases: used to connect, and nowhere else."""

import copy
import dataclasses
import json
import pickle

import pytest
from sqlalchemy.engine import make_url

from study.config import StudyConfig
from study.results_folder import StudyFolder, this_session
from study.search import storage
from study.search.storage_url import PASSWORD_FROM, StorageURL, redacted

URLS = [
    ("postgresql://anna:hush@db:5432/studies", "postgresql://anna@db:5432/studies"),
    ("mysql+pymysql://anna:hush@db/x?charset=utf8", "mysql+pymysql://anna@db/x?charset=utf8"),
    ("postgresql://anna:hu%40sh/:@db/studies", "postgresql://anna@db/studies"),
    ("postgresql://:hush@db/studies", "postgresql://@db/studies"),
    ("postgresql://db/x?user=anna&password=hush&sslmode=off", "postgresql://db/x?user=anna&password=&sslmode=off"),
    ("postgresql://db/x?sslpassword=hush", "postgresql://db/x?sslpassword="),
    ("postgresql://anna@db/studies", "postgresql://anna@db/studies"),
    ("sqlite:////disk/a@b:c/optuna.db", "sqlite:////disk/a@b:c/optuna.db"),
]


@pytest.mark.parametrize(("given", "shown"), URLS)
def test_a_url_shows_no_password_and_keeps_it_to_connect(given, shown):
    url = StorageURL(given)
    assert f"{url}" == shown == json.loads(json.dumps(url)) and "hush" not in repr(url)
    for same in (url, StorageURL(url), copy.deepcopy(url), pickle.loads(pickle.dumps(url))):
        assert same == shown and same.complete() == given
    assert make_url(url.complete()).password == make_url(given).password
    assert redacted(f"python study/run.py --storage '{given}' --trials 3") == (
        f"python study/run.py --storage '{shown}' --trials 3"
    )


def test_a_password_that_is_left_out_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv(PASSWORD_FROM, "h@/:sh")
    url = StorageURL("postgresql://anna@db:5432/studies")
    assert make_url(url.complete()) == make_url("postgresql://anna:h%40%2F%3Ash@db:5432/studies") and url == url.secret
    assert StorageURL("postgresql://anna:own@db/x").complete() == "postgresql://anna:own@db/x"
    assert StorageURL("postgresql://db/x").complete() == "postgresql://db/x", "no user: the driver knows"
    assert StorageURL("sqlite:///a@b.db").complete() == "sqlite:///a@b.db"


def test_a_changed_password_is_the_same_study(tmp_path):
    def asked(url):
        return StudyConfig(model="slot_attention", preset="tiny", storage=url)

    old, new, none = (asked(f"postgresql://anna{part}@db/x") for part in (":old", ":new", ""))
    identities = [config.identity("tiny", 9, 32) for config in (old, new, none)]
    assert identities[0] == identities[1] == identities[2] and identities[0]["storage"] == "postgresql://anna@db/x"
    assert "old" not in repr(old) + json.dumps(identities) + str(dataclasses.asdict(old))
    assert dataclasses.replace(old, trials=3).storage.complete() == "postgresql://anna:old@db/x"
    folder = StudyFolder(tmp_path)
    folder.write(config={**identities[0], "storage": "postgresql://anna:oldest@db/x"}, ranges={})  # as earlier
    folder.check_identity(json.loads(json.dumps(identities[1])))


def test_no_message_and_no_command_quotes_it(tmp_path, monkeypatch):
    with pytest.raises(ValueError) as caught:
        storage.open_storage(StudyFolder(tmp_path), "nosuch://anna:hush@db/x")
    assert "nosuch://anna@db/x cannot be opened" in str(caught.value) and "hush" not in str(caught.value)
    hidden = StorageURL("postgresql://anna:hush@db/x").hides(
        'could not connect to "postgresql://anna:hush@db/x": hush?'
    )
    assert "hush" not in hidden and "postgresql://anna" in hidden
    monkeypatch.setattr("sys.argv", ["study/run.py", "--storage", "postgresql://anna:hush@db/x", "--trials", "3"])
    assert this_session()["command"] == "python study/run.py --storage postgresql://anna@db/x --trials 3"
    monkeypatch.setattr("sys.argv", ["/usr/bin/clevrtune", "run", "--trials", "3"])
    assert this_session()["command"] == "clevrtune run --trials 3"
