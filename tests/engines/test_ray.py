"""Encoding on a Ray cluster, and the storage it reads and writes."""

import json
import os
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import vqcodec
from vqcodec.cli.program import program
from vqcodec.errors import InputError, OutputError

fsspec = pytest.importorskip("fsspec")
from vqcodec.engines.storage import TEMPORARY, Storage, version  # noqa: E402

PHOTO = Path(__file__).parents[1] / "data" / "photo.png"


def png(seed: int, side: int = 32) -> bytes:
    with Image.open(PHOTO) as im:
        pixels = np.array(im)[5 * seed % 100 :, 7 * seed % 100 :][:side, :side]
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


# --- storage --------------------------------------------------------------------------------------


@pytest.fixture(params=["path", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    urls = {"path": str(tmp_path), "file": tmp_path.as_uri(), "memory": "memory://bucket/x"}
    yield Storage(urls[request.param], retries=0)
    if request.param == "memory":
        fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_what_is_written_is_listed_and_read(store: Storage) -> None:
    store.write("a.bin", b"one")
    store.write("deep/er/b.bin", b"three")
    store.write("a.bin", b"five")
    assert list(store.list()) == ["a.bin", "deep/er/b.bin"]
    assert store.read("a.bin") == b"five"
    assert store.list()["deep/er/b.bin"]["size"] == 5
    store.remove("a.bin")
    assert list(store.list()) == ["deep/er/b.bin"]
    with pytest.raises(InputError, match=r"a\.bin: cannot be read"):
        store.read("a.bin")


def test_where_nothing_is_nothing_is_listed(tmp_path: Path) -> None:
    assert Storage(str(tmp_path / "none")).list() == {}


def test_a_version_changes_with_the_file(store: Storage) -> None:
    store.write("a", b"one")
    before = version(store.list()["a"])
    assert version(store.list()["a"]) == before
    time.sleep(0.02)
    store.write("a", b"two")
    assert version(store.list()["a"]) != before


def test_transient_errors_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Storage(str(tmp_path), retries=2)
    store.write("a", b"one")
    fs, _ = store._opened
    plain, failures = fs.cat_file, [ConnectionError("a"), TimeoutError("b")]

    def cat_file(path: str) -> bytes:
        if failures:
            raise failures.pop()
        data: bytes = plain(path)
        return data

    monkeypatch.setattr(type(fs), "cat_file", lambda self, path: cat_file(path))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert store.read("a") == b"one" and not failures
    failures += [ConnectionError("c")] * 3
    with pytest.raises(InputError, match="cannot be read: c"):
        store.read("a")


def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Storage(str(tmp_path), retries=0)
    store.write("a", b"one")
    fs, _ = store._opened

    def broken(self: object, source: str, target: str) -> None:
        raise OSError("full")

    monkeypatch.setattr(type(fs), "mv", broken)
    with pytest.raises(OutputError, match="full"):
        store.write("a", b"two")
    assert store.read("a") == b"one"
    names = {path.name for path in tmp_path.iterdir()} - {"a"}
    assert all(name.startswith(TEMPORARY) for name in names)


# --- the engine -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[str | None]:
    """The URL of an empty bucket of a local server; None where what it needs is missing."""
    try:
        import s3fs  # noqa: F401
        from moto.server import ThreadedMotoServer
    except ImportError:
        yield None
        return
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("pictures")
        yield "s3://pictures"
    server.stop()


@pytest.fixture(scope="module")
def cluster(server: str | None) -> Iterator[Any]:
    """A head without work, and two nodes with one processor each, which know the server."""
    pytest.importorskip("ray.data")
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def task(source: str, target: str, rate: str = "5bit") -> Any:
    from vqcodec.engines import ray

    return ray.Encoding(Storage(source), Storage(target), rate, None, False, 1 << 28, "cpu")


@pytest.mark.slow
def test_a_node_that_is_killed_costs_nothing(cluster: Any, tmp_path: Path) -> None:
    from vqcodec.engines import ray

    source, target = Storage(str(tmp_path / "in")), Storage(str(tmp_path / "out"))
    keys = [f"{index % 3}/{index:02}.png" for index in range(24)]
    for index, key in enumerate(keys):
        source.write(key, png(index))
    source.write("bad.png", b"no picture")
    source.write("notes.txt", b"no picture by its name")
    victim = sorted(cluster.worker_nodes, key=str)[0]

    def kill() -> None:
        while len(target.list()) < 4:
            time.sleep(0.05)
        cluster.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    rows = list(ray.encode(task(source.url, target.url), batch=2))
    killer.join()
    assert victim not in cluster.worker_nodes
    cluster.add_node(num_cpus=1)

    assert sorted(row["key"] for row in rows) == sorted([*keys, "bad.png"])  # none lost or doubled
    assert [row["key"] for row in rows if "error" in row] == ["bad.png"]
    made = {key for key in target.list() if not key.startswith(ray.RECORDS)}
    assert made == {ray.output_of(key) for key in keys}
    for key in keys:
        expected = vqcodec.encode(source.read(key), "5bit", device="cpu")
        assert target.read(ray.output_of(key)) == expected
    assert [row["key"] for row in json.loads(target.read(ray.FAILED))] == ["bad.png"]

    # A run that is repeated does what has changed, and what failed.
    source.write("0/00.png", png(50))
    source.write("bad.png", png(51))
    target.remove("1/01.vqc")
    again = {row["key"]: row for row in ray.encode(task(source.url, target.url), batch=2)}
    assert {key for key, row in again.items() if "up_to_date" not in row} == {
        "0/00.png", "1/01.png", "bad.png",
    }  # fmt: skip
    assert not any("error" in row for row in again.values())
    assert json.loads(target.read(ray.FAILED)) == []
    assert all("up_to_date" in row for row in ray.encode(task(source.url, target.url)))


@pytest.mark.slow
def test_from_bucket_to_bucket_by_the_program(server: str | None, cluster: Any) -> None:
    if server is None:
        pytest.skip("s3fs or moto is not installed")
    bucket = server
    source = Storage(f"{bucket}/in")
    for index in range(3):
        source.write(f"{index}.png", png(index))
    args = ["encode", f"{bucket}/in", "-o", f"{bucket}/out", "--rate", "5bit", "--engine", "ray"]
    args += ["--device", "cpu", "--json"]
    for expected in ("bytes", "up_to_date"):
        result = CliRunner().invoke(program, args)
        assert result.exit_code == 0, result.stderr
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        assert sorted(line["output"] for line in lines) == [
            f"{bucket}/out/{index}.vqc" for index in range(3)
        ]
        assert all(expected in line for line in lines)
    assert vqcodec.decode(Storage(f"{bucket}/out").read("2.vqc"), device="cpu").size == (32, 32)


def test_wrong_usage_is_told_before_a_cluster_is_looked_for(tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    run = CliRunner().invoke
    assert run(program, ["encode", "a", "b", "-o", "c", "--engine", "ray"]).exit_code == 2
    assert run(program, ["encode", "a", "--engine", "ray"]).exit_code == 2
    os.makedirs(tmp_path / "empty")
    args = ["encode", str(tmp_path / "empty"), "-o", str(tmp_path), "--engine", "ray"]
    result = run(program, args)
    assert result.exit_code == 3 and "no picture" in result.stderr
    for name in ("a.png", "a.jpg"):
        (tmp_path / "empty" / name).touch()
    assert run(program, args).exit_code == 8
    result = run(program, [*args, "--rate", "nonsense"])
    assert result.exit_code == 7
