import socket
import time

import pytest

from data import places


def test_places():
    assert places.inside("s3://b/x/?region=r", "y", "z.arrow") == "s3://b/x/y/z.arrow?region=r"
    assert places.inside("/what?/x/", "y") == "/what?/x/y"
    assert places.shown("in s3://k:s@b/x?secret_key=s&region=r now") == "in s3://***@b/x?secret_key=***&region=r now"
    assert places.shown("'s3://b/x?access_key=k&secret_key=s'") == "'s3://b/x?access_key=***&secret_key=***'"
    assert [places.is_remote(each) for each in ("s3://b", "file:///x", "/x")] == [True, False, False]


def test_files_are_opened_where_the_query_says():
    for text in ("s3://k:s@b/x?region=r", "s3://b/x?region=r&access_key=k&secret_key=a%2Fb&scheme=http"):
        files, path = places.filesystem(text)
        assert (files.type_name, files.region, path) == ("s3", "r", "b/x")
    assert places.filesystem("/x?y")[1] == "/x?y"
    with pytest.raises(ValueError, match=r"s3://b/x\?colour=red&secret_key=\*\*\* cannot be used .*'colour'"):
        places.filesystem("s3://b/x?colour=red&secret_key=s")


@pytest.fixture
def silent():
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_one_that_never_answers(monkeypatch, silent, scheme):
    monkeypatch.setattr(places, "ANSWERS_WITHIN", 2.0)
    place = f"{scheme}://bucket/x?endpoint_override=127.0.0.1:{silent}&scheme=http"
    start = time.monotonic()
    with pytest.raises(ValueError) as error:
        places.check(place)
    assert time.monotonic() - start < 20
    assert str(error.value).startswith(f"{place} cannot be used (no answer within 2 s); check the bucket")


def test_what_a_library_prints_is_not_shown(capfd):
    with pytest.raises(ValueError, match=r"^hdfs://nowhere:9000/x cannot be used \(.*\); check the address") as error:
        places.check("hdfs://nowhere:9000/x")
    assert "\n" not in str(error.value) and capfd.readouterr() == ("", "")


def test_a_folder_is_not_asked(tmp_path):
    places.check(str(tmp_path / "nothing"))
    places.check(f"file://{tmp_path}/nothing")
