"""The folder of a checkpoint: a manifest, and the files that it lists with their hashes.

They hold rounds, and at most one of them what nodes kept beside their shards.

Files are written under another name and then renamed, the manifest last of all: what it lists is
whole, whenever the process ends.  Every byte counts towards a hash that is checked before
anything is used, that of the manifest standing in its first line.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from dask_dml.rounds.packing import pack, unpack

MANIFEST = "manifest.json"
SUFFIX = ".rounds"
#: Begins every file; its number is that of the format.
MAGIC = b"dask_dml checkpoint 1\n"


class CheckpointDamaged(ValueError):
    """A checkpoint is truncated, corrupted, or none at all."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"The checkpoint in {url!r} is damaged and cannot be used: {why}. Restore it from a "
            "copy, or delete it to begin anew."
        )


@dataclass(frozen=True)
class Segment:
    """A file of consecutive rounds.

    Attributes
    ----------
    name : str
        In the checkpoint's folder.
    size : int
        Bytes.
    sha256 : str
        Of these.
    records : int
        How many of its records count, from the first.
    """

    name: str
    size: int
    sha256: str
    records: int


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint consists of.

    Attributes
    ----------
    facts : dict
        What is known of the fit; JSON.
    segments : list of Segment
        Files of rounds, in order.
    state : Segment or None
        File of what nodes kept.
    """

    facts: dict[str, Any]
    segments: list[Segment]
    state: Segment | None = None


class Store:
    """Reads and writes the files of one checkpoint.

    Parameters
    ----------
    url : str
        A path, or a URL that fsspec knows.

    Raises
    ------
    ValueError
        If fsspec cannot make anything of the URL.
    """

    def __init__(self, url: str) -> None:
        import fsspec  # type: ignore[import-untyped]  # no stubs

        self.url = url
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise ValueError(
                "The 'checkpoint' parameter is neither a path nor a URL that fsspec can open: "
                f"{url!r} ({error})"
            ) from error
        self._local = "file" in self._fs.protocol or "local" in self._fs.protocol

    def read_manifest(self) -> Manifest | None:
        """Return what is known of the checkpoint and its files, all of them checked.

        Returns None where there is no checkpoint.

        Raises
        ------
        CheckpointDamaged
            If a single byte is not as it was written.
        """
        try:
            raw = self._fs.cat_file(self._path(MANIFEST))
        except FileNotFoundError:
            return None
        first, _, body = raw.removeprefix(MAGIC).partition(b"\n")
        if not raw.startswith(MAGIC) or first != hashlib.sha256(body).hexdigest().encode():
            raise CheckpointDamaged(self.url, f"{MANIFEST} does not match its checksum")
        content = json.loads(body)
        segments = [Segment(**entry) for entry in content["segments"]]
        state = None if content["state"] is None else Segment(**content["state"])
        for segment in (*segments, *([] if state is None else [state])):
            self._read_checked(segment)
        return Manifest(content["facts"], segments, state)

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest."""
        body = json.dumps(asdict(manifest), indent=1).encode()
        check = hashlib.sha256(body).hexdigest().encode()
        self._fs.makedirs(self._root, exist_ok=True)
        self._write(MANIFEST, MAGIC + check + b"\n" + body)

    def read_segment(self, segment: Segment) -> list[Any]:
        """Return the records of a segment.

        Raises
        ------
        CheckpointDamaged
            If it is not as it was written.
        """
        raw = memoryview(self._read_checked(segment))[len(MAGIC) :]
        length = int.from_bytes(raw[:8], "little")
        head = json.loads(bytes(raw[8 : 8 + length]))
        place, buffers = 8 + length, []
        for size in head["sizes"]:
            buffers.append(raw[place : place + size])
            place += size
        records: list[Any] = unpack(head["records"], buffers)
        return records[: segment.records]

    def write_segment(self, title: str, records: Sequence[Any]) -> Segment:
        """Write records to a file of their own, which counts once the manifest lists it."""
        tree, buffers = pack(list(records))
        head = json.dumps({"records": tree, "sizes": [len(one) for one in buffers]}).encode()
        raw = b"".join([MAGIC, len(head).to_bytes(8, "little"), head, *buffers])
        check = hashlib.sha256(raw).hexdigest()
        name = f"{title}-{check[:16]}{SUFFIX}"
        self._write(name, raw)
        return Segment(name, len(raw), check, len(records))

    def remove(self, segment: Segment) -> None:
        """Remove a file that the manifest does not list any more."""
        with suppress(OSError):
            self._fs.rm_file(self._path(segment.name))

    def delete(self) -> None:
        """Remove the checkpoint, the manifest first, and the folder where nothing else is in it."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(MANIFEST))
        for path in self._fs.ls(self._root, detail=False):
            if path.endswith(SUFFIX):
                with suppress(FileNotFoundError):
                    self._fs.rm_file(path)
        with suppress(OSError):
            self._fs.rmdir(self._root)

    def _read_checked(self, segment: Segment) -> bytes:
        try:
            raw: bytes = self._fs.cat_file(self._path(segment.name))
        except FileNotFoundError:
            raise CheckpointDamaged(self.url, f"{segment.name} is missing") from None
        if len(raw) != segment.size or hashlib.sha256(raw).hexdigest() != segment.sha256:
            raise CheckpointDamaged(self.url, f"{segment.name} does not match its checksum")
        return raw

    def _write(self, name: str, raw: bytes) -> None:
        """Write a file so that there is either the old one or the whole of the new one."""
        path, passing = self._path(name), self._path(f"{uuid.uuid4().hex}.part")
        if not self._local:
            # An object store shows an object once it is whole.
            self._fs.pipe_file(path, raw)
            return
        try:
            with self._fs.open(passing, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            os.replace(passing, path)
        finally:
            with suppress(FileNotFoundError):
                self._fs.rm_file(passing)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
