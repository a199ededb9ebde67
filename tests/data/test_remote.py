"""Shards on S3, by moto's server on this machine: there and back, few requests, kills, and mistakes in one line."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data import convert, integrity, reading, store, unchanged, verify, writing
from data.convert import prepare
from data.shards import ShardIndex
from data.spec import parse
from tests.data import s3_server
from tests.data.held_conversion import SHARD_BYTES

pytest.importorskip("moto", reason="moto[s3], flask and flask-cors are not installed")

ROOT = Path(__file__).parent / "clevrtex"
CHECKOUT = Path(__file__).resolve().parents[2]
SPEC = parse("clevrtex:full-crop-(32,32)")


@pytest.fixture(scope="module")
def server():
    with s3_server.serving() as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch, tmp_path):
    """No keys or files of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(unchanged, "HERE", str(tmp_path / "here"))
    monkeypatch.setattr(reading, "COPIES", str(tmp_path / "copies"))


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(writing, "SHARD_BYTES", SHARD_BYTES)


def same(one, other):
    return one.encode() == other.encode() and all(
        one.read(shard).equals(other.read(shard)) for shard in one.shards("all")
    )


def test_there_and_back_with_all_in_the_uri(server, tmp_path, small_shards, capsys):
    cache = server.uri("there")
    index = prepare(SPEC, root=str(ROOT), cache=cache)
    assert index.folder == server.uri(f"there/clevrtex-full-crop-32x32-{index.folder.partition('?')[0][-12:]}")
    assert same(index, prepare(SPEC, root=str(ROOT), cache=str(tmp_path / "disk")))
    assert {key.rpartition("/")[2] for key in server.objects("there")} - {""} == {
        "index.json",
        *(shard.name for shard in index.shards("all")),
    }
    assert prepare(SPEC, cache=cache) == index
    for what in ([str(SPEC), "--cache", cache], [index.folder]):
        assert verify.main(what) == 0
    said = capsys.readouterr().out
    assert "verified" in said and "access_key=***" in said and "thing" not in said


def test_all_from_the_environment(server, monkeypatch):
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    index = prepare(SPEC, root=str(ROOT), cache=f"s3://{s3_server.BUCKET}/by-name/")
    assert index.folder.startswith(f"s3://{s3_server.BUCKET}/by-name/clevrtex-")
    assert integrity.inspect(index).faults == []


@pytest.mark.parametrize(
    "spec", ["synthetic:plain+siblings-20scenes-(16,16)", "concat(clevrtex:full,clevrtex:outd)-(16,16)"]
)
def test_names_with_signs(server, spec):
    index = prepare(parse(spec), root=str(ROOT), cache=server.uri("signs"))
    assert same(index, prepare(parse(spec), root=str(ROOT), cache=server.uri("signs")))


def test_the_newest_conversion_is_taken(server, tmp_path):
    """Folders have no times there."""
    cache = server.uri("newest")
    spec = parse("images-(16,16)")
    found = []
    for number in (3, 1, 2):
        root = tmp_path / str(number)
        root.mkdir()
        for name in "abcdefghij"[: 7 + number]:
            (root / f"{name}.png").write_bytes((ROOT / "clevrtex_full/0/CLEVRTEX_full_000000.png").read_bytes())
        found.append(prepare(spec, root=str(root), cache=cache))
        time.sleep(1.1)  # times there are in seconds
        assert prepare(spec, cache=cache).fingerprint == found[-1].fingerprint


def test_a_second_start_lists_and_asks_for_no_shard(server, small_shards):
    cache = server.uri("few")
    index = prepare(SPEC, root=str(ROOT), cache=cache)
    assert len(index.shards("all")) == 7
    for given in ({"root": str(ROOT)}, {}):
        server.asked.clear()
        prepare(SPEC, cache=cache, **given)
        assert [each for each in server.asked if ".arrow" in each] == []
        assert sum("list-type=2" in each for each in server.asked) <= 3
        assert len(server.asked) <= 7


def test_what_was_found_is_remembered_here(server, tmp_path, monkeypatch):
    monkeypatch.setattr(unchanged, "SETTLED", -60.0)  # the files of the checkout may be new
    cache = server.uri("remembered")
    index = prepare(SPEC, root=str(ROOT), cache=cache)
    assert len(list((tmp_path / "here").glob("found-*.json"))) == 1
    monkeypatch.setattr(type(SPEC.source), "find", None)
    assert prepare(SPEC, root=str(ROOT), cache=cache) == index


@pytest.mark.ray
@pytest.mark.parametrize("room", [True, False])
def test_a_study_loads_them(ray_cluster, server, tmp_path, monkeypatch, small_shards, room):
    index = prepare(SPEC, root=str(ROOT), cache=server.uri("study"))
    here = prepare(SPEC, root=str(ROOT), cache=str(tmp_path / "disk"))
    if not room:
        monkeypatch.setattr(store, "USABLE", 0.0)
        copies = tmp_path / "copies"
        mapped = [reading.MappedShard(index, shard) for shard in index.shards("train")]
        for shard in mapped:
            shard.check()
        server.asked.clear()
        tables = [shard.table() for shard in mapped]
        assert server.asked == [] and len(list(copies.glob("*/*.arrow"))) == len(tables) == 5
        assert all(one.equals(here.read(other)) for one, other in zip(tables, here.shards("train"), strict=True))
        return
    split, expected = (store.open_split(store.load(each, ["train"])["train"]) for each in (index, here))
    for one, other in zip(split.gather(np.arange(10)), expected.gather(np.arange(10)), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.ray
def test_a_conversion_that_is_killed_goes_on(server, tmp_path, small_shards):
    go, cache = tmp_path / "go", f"s3://{s3_server.BUCKET}/killed?region=us-east-1"
    command = [sys.executable, "-m", "tests.data.held_conversion", str(go), str(SPEC)]
    command += ["--data-root", str(ROOT), "--cache", cache]
    environment = os.environ | server.environment | {"HOME": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(command, cwd=CHECKOUT, env=environment, **pipes)
    try:
        deadline = time.monotonic() + 200
        while sum(key.endswith(".record") for key in server.objects("killed")) < 4:
            assert first.poll() is None and time.monotonic() < deadline, first.communicate()
            time.sleep(0.2)
    finally:
        first.kill()
        first.communicate()
    left = server.objects("killed")
    assert not [key for key in left if key.endswith("index.json")]
    with pytest.raises(ValueError, match="is not in s3://"):
        prepare(SPEC, cache=server.uri("killed"))
    go.touch()
    second = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    found = re.search(r"going on from an earlier start: (\d) of 7 shards are there", second.stderr)
    assert found and int(found[1]) >= 4, second.stderr
    assert not [key for key in server.objects("killed") if key.endswith((".record", ".partial"))]
    index = ShardIndex.load(server.uri("killed/" + Path(second.stdout.splitlines()[-1].partition("?")[0]).name))
    assert same(index, prepare(SPEC, root=str(ROOT), cache=str(tmp_path / "disk")))


def mistake(cache, capsys):
    """What the command says to ``cache``: one line."""
    capsys.readouterr()
    start = time.monotonic()
    assert convert.main([str(SPEC), "--data-root", str(ROOT), "--cache", cache]) == 2
    assert time.monotonic() - start < 20
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == "" and line.startswith("error: ") and "secret/key" not in line
    return line


@pytest.mark.parametrize(
    ("cache", "said"),
    [
        ("s3://other/x?{query}&access_key=a&secret_key=secret/key", "there is no bucket other"),
        ("s3://bucket/x?region=nowhere-1&access_key=a&secret_key=secret/key", "Could not resolve host"),
        ("s3://bucket/x?endpoint_override=127.0.0.1:9&scheme=http&access_key=a&secret_key=secret/key", "connect"),
        ("s3://a:secret%2Fkey@bucket/x?{query}&colour=red", r"Unexpected query parameter.*'colour'"),
        ("hdfs://nowhere:9000/x", "libjvm|libhdfs|no answer|Java"),
    ],
)
def test_a_mistake_is_one_line(server, capsys, cache, said):
    assert re.search(said, line := mistake(cache.format(query=server.query), capsys)), line


def test_a_wrong_key(server, capsys):
    with server.locked() as keys:
        assert prepare(SPEC, root=str(ROOT), cache=server.uri("locked", keys)).counts["train"] == 10
        line = mistake(server.uri("locked", "access_key=a&secret_key=secret/key"), capsys)
        known = keys.partition("&")[0]
        other = mistake(server.uri("locked", f"{known}&secret_key=secret/key"), capsys)
    for each in (line, other):
        assert re.search("AWS Error|ACCESS_DENIED|INVALID|SIGNATURE", each) and "AWS_SECRET_ACCESS_KEY" in each
