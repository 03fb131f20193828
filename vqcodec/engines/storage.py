"""Folders and buckets, by their fsspec URL: s3://, gs://, file://, or a path.

A file is named by its key, its path below the root. It appears whole: on object stores because a
put is atomic, on others because it is moved to its name.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import fsspec
from fsspec.core import url_to_fs

from vqcodec.errors import InputError, OutputError

TEMPORARY = ".vqcodec-"  # begins the names of files that are not finished
_ATOMIC = {"s3", "s3a", "gs", "gcs", "az", "abfs", "memory"}  # puts of these file systems

Value = TypeVar("Value")


@dataclass(frozen=True)
class Storage:
    """All keys below a URL. Transient errors are tried again, ``retries`` times."""

    url: str
    retries: int = 3

    @cached_property
    def _opened(self) -> tuple[fsspec.AbstractFileSystem, str]:
        fs, root = url_to_fs(self.url)
        return fs, str(root).rstrip("/")

    def __getstate__(self) -> dict[str, Any]:  # a file system's connections stay in a process
        return {"url": self.url, "retries": self.retries}

    def path(self, key: str) -> str:
        return f"{self.url.rstrip('/')}/{key}"

    def list(self) -> dict[str, dict[str, Any]]:
        """What is there: what the file system tells of each key. Nothing where there is no root."""
        fs, root = self._opened
        fs.invalidate_cache()
        found = self._again(lambda: fs.find(root, detail=True) if fs.exists(root) else {})
        return {path[len(root) + 1 :]: info for path, info in sorted(found.items())}

    def read(self, key: str) -> bytes:
        """Raises InputError."""
        fs, root = self._opened
        try:
            data: bytes = self._again(lambda: fs.cat_file(f"{root}/{key}"))
        except OSError as error:
            raise InputError(f"{self.path(key)}: cannot be read: {error}") from error
        return data

    def write(self, key: str, data: bytes) -> None:
        """Replaces what is there. Raises OutputError."""
        fs, root = self._opened
        path = f"{root}/{key}"
        folder = path.rpartition("/")[0]
        protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]

        def put() -> None:
            if protocol in _ATOMIC:
                fs.pipe_file(path, data)
                return
            fs.makedirs(folder, exist_ok=True)
            temporary = f"{folder}/{TEMPORARY}{secrets.token_hex(8)}.tmp"
            fs.pipe_file(temporary, data)
            fs.mv(temporary, path)

        try:
            self._again(put)
        except OSError as error:
            raise OutputError(f"{self.path(key)}: cannot be written: {error}") from error

    def remove(self, key: str) -> None:
        fs, root = self._opened
        fs.rm_file(f"{root}/{key}")

    def _again(self, work: Callable[[], Value]) -> Value:
        for attempt in range(self.retries):
            try:
                return work()
            except FileNotFoundError:
                raise
            except OSError:
                time.sleep(0.2 * 4**attempt)
        return work()


def version(info: dict[str, Any]) -> str:
    """What changes when a file does: its size, with its ETag, or else when it was written."""
    names = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "updated", "created")
    mark = next((info[name] for name in names if info.get(name)), "")
    return f"{info.get('size')}-{mark}"
