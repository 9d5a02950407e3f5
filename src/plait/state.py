"""What a node keeps over a restart: name, targets, attachments, exposures, addresses, in `<state_dir>/plait.db`.

Reads come from memory; a write is first made durable and only then seen. One node per directory, held by a lock.
It decides nothing about what the values mean.
"""

import contextlib
import fcntl
import ipaddress
import json
import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from plait.errors import StateError
from plait.ipam import table
from plait.ipam.records import Snapshot
from plait.mesh.name import InvalidPeerName, PeerName

FILE_NAME = "plait.db"
LOCK_NAME = "plait.lock"
SCHEMA_VERSION = 3
APPLICATION_ID = 0x706C6974  # "plit": tells our file from another program's SQLite file

_RECLAIM = "CREATE TABLE reclaim (only INTEGER PRIMARY KEY CHECK (only = 0), content BLOB NOT NULL);\n"
_SCHEMA = f"""
CREATE TABLE identity (only INTEGER PRIMARY KEY CHECK (only = 0), peer_name TEXT NOT NULL);
CREATE TABLE targets (position INTEGER PRIMARY KEY, target TEXT NOT NULL);
CREATE TABLE attachments (
    ident TEXT PRIMARY KEY, netns TEXT NOT NULL, netns_id TEXT NOT NULL, pid INTEGER, docker_id TEXT,
    cidrs TEXT NOT NULL, multicast_route INTEGER NOT NULL
);
CREATE TABLE exposures (cidr TEXT PRIMARY KEY, masquerade INTEGER NOT NULL);{table.SCHEMA}{_RECLAIM}
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""
# What is run on a file of the version before.
_MIGRATIONS = {2: table.SCHEMA, 3: _RECLAIM}
_PUT_ATTACHMENT = """
INSERT INTO attachments VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (ident) DO UPDATE SET netns = excluded.netns, netns_id = excluded.netns_id, pid = excluded.pid,
    docker_id = excluded.docker_id, cidrs = excluded.cidrs, multicast_route = excluded.multicast_route
"""
# Pages in the write-ahead log before they are folded back: the whole state is a few pages, so the log stays small.
_CHECKPOINT_PAGES = 64


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container with `ethwe`. `netns` is a path, `netns_id` tells this namespace from a later one at that path."""

    ident: str
    netns: str
    netns_id: str
    pid: int | None
    docker_id: str | None
    cidrs: tuple[str, ...]
    multicast_route: bool


@dataclass(frozen=True, slots=True)
class Exposure:
    """An address of the host on the bridge."""

    cidr: str
    masquerade: bool


class Store:
    """The state of one node. Every method may be called from any thread; each write raises StateError if it cannot
    be made durable, and then nothing has changed, neither in the file nor in memory.

    `damage` is None, or the StateError that says which unreadable file was found and kept aside when this store was
    opened; the store then began empty.
    """

    damage: StateError | None

    def __init__(self, state_dir: str | os.PathLike[str]) -> None:
        """Open or create the state in this directory. Raise StateError if another node holds it, it cannot be
        written, or a newer plait wrote it (the file is left as it is)."""
        self.path = Path(state_dir) / FILE_NAME
        self.damage = None
        self._peer_name: PeerName | None = None
        self._addresses: Snapshot | None = None
        self._reclaim: bytes | None = None
        self._mutex = threading.Lock()
        with contextlib.ExitStack() as undo:
            self._lock_fd = _lock(self.path.parent)
            undo.callback(os.close, self._lock_fd)
            self._db = self._open()
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up the file and the lock; a second call does nothing."""
        with self._mutex:
            if self._lock_fd < 0:
                return
            self._db.close()
            os.close(self._lock_fd)
            self._lock_fd = -1

    @property
    def peer_name(self) -> PeerName | None:
        """The name this node last had."""
        return self._peer_name

    @property
    def targets(self) -> list[str]:
        """Targets as the user gave them, in the user's order."""
        return list(self._targets)

    @property
    def attachments(self) -> list[Attachment]:
        """All attachments, oldest first."""
        return list(self._attachments.values())

    @property
    def exposures(self) -> list[Exposure]:
        """All exposures, oldest first."""
        return list(self._exposures.values())

    @property
    def addresses(self) -> Snapshot | None:
        """The range's division and who holds which address, as last kept; None if that never was."""
        return self._addresses

    @property
    def reclaim(self) -> bytes | None:
        """What `ipam.reclaim` keeps, which only that can read; None if that never was."""
        return self._reclaim

    def attachment(self, ident: str) -> Attachment | None:
        """The attachment of one container."""
        return self._attachments.get(ident)

    def set_peer_name(self, name: PeerName) -> None:
        """Remember the node's name."""
        with self._mutex:
            self._run(("INSERT OR REPLACE INTO identity VALUES (0, ?)", [(str(name),)]))
            self._peer_name = name

    def set_targets(self, targets: list[str]) -> None:
        """Replace the whole list of targets."""
        with self._mutex:
            self._run(
                ("DELETE FROM targets", [()]),
                ("INSERT INTO targets VALUES (?, ?)", list(enumerate(targets))),
            )
            self._targets = list(targets)

    def put_attachment(self, attachment: Attachment) -> None:
        """Add an attachment, or replace the one with the same ident."""
        row = (
            attachment.ident,
            attachment.netns,
            attachment.netns_id,
            attachment.pid,
            attachment.docker_id,
            json.dumps(attachment.cidrs),
            attachment.multicast_route,
        )
        with self._mutex:
            self._run((_PUT_ATTACHMENT, [row]))
            self._attachments[attachment.ident] = attachment

    def forget_attachment(self, ident: str) -> None:
        """Remove an attachment, if it is there."""
        with self._mutex:
            self._run(("DELETE FROM attachments WHERE ident = ?", [(ident,)]))
            self._attachments.pop(ident, None)

    def set_exposures(self, exposures: list[Exposure]) -> None:
        """Replace the whole set of exposures."""
        with self._mutex:
            self._run(
                ("DELETE FROM exposures", [()]),
                ("INSERT INTO exposures VALUES (?, ?)", [(e.cidr, e.masquerade) for e in exposures]),
            )
            self._exposures = {exposure.cidr: exposure for exposure in exposures}

    def set_addresses(self, snapshot: Snapshot) -> None:
        """Replace the division of the range and the holdings, both in one; writes only what differs."""
        with self._mutex:
            self._run(*table.changes(self._addresses, snapshot))
            self._addresses = snapshot

    def set_reclaim(self, content: bytes) -> None:
        """Replace what `ipam.reclaim` keeps."""
        with self._mutex:
            self._run(("INSERT OR REPLACE INTO reclaim VALUES (0, ?)", [(content,)]))
            self._reclaim = content

    def forget_addresses(self) -> None:
        """Remove the division of the range and all holdings."""
        with self._mutex:
            self._run(*table.clear())
            self._addresses = None

    def _run(self, *statements: tuple[str, list[tuple[object, ...]]]) -> None:
        """Run statements, each once for every row, as one durable transaction."""
        if self._lock_fd < 0:
            raise StateError(f"the state file {self.path} is closed; the node is going down")
        try:
            with self._db:  # commits, or rolls back on any exception
                self._db.execute("BEGIN IMMEDIATE")
                for sql, rows in statements:
                    self._db.executemany(sql, rows)
        except sqlite3.Error as error:
            raise _explain(self.path, error) from error

    def _open(self) -> sqlite3.Connection:
        if not self.path.exists() and _log_of(self.path).exists():
            self.damage = _set_aside(self.path, "its main file is missing")
        try:
            return self._connect()
        except _Damaged as error:
            self.damage = _set_aside(self.path, str(error))
        try:
            return self._connect()
        except _Damaged as error:
            raise StateError(f"the new state file {self.path} is damaged at once ({error}); check the disk") from error

    def _connect(self) -> sqlite3.Connection:
        """Raise _Damaged if the content is not ours, StateError for what only a person can mend."""
        with contextlib.ExitStack() as undo:
            try:
                db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=1)
                undo.callback(db.close)
                _prepare(db, self.path)
                self._load(db)
            except UnicodeDecodeError as error:  # damage quoted in SQLite's message or schema
                raise _Damaged("its schema is no text") from error
            except sqlite3.Error as error:
                if _code(error) in _DAMAGE:
                    raise _Damaged(str(error)) from error
                raise _explain(self.path, error) from error
            undo.pop_all()
            return db

    def _load(self, db: sqlite3.Connection) -> None:
        try:
            names = [PeerName.parse(name) for (name,) in db.execute("SELECT peer_name FROM identity")]
            targets = [_text(target) for (target,) in db.execute("SELECT target FROM targets ORDER BY position")]
            attachments = [_attachment(row) for row in db.execute("SELECT * FROM attachments ORDER BY rowid")]
            exposures = [_exposure(row) for row in db.execute("SELECT * FROM exposures ORDER BY rowid")]
            addresses = table.load(db)
            reclaim = [_blob(content) for (content,) in db.execute("SELECT content FROM reclaim")]
        except (ValueError, TypeError, InvalidPeerName, sqlite3.OperationalError) as error:
            if isinstance(error, sqlite3.OperationalError) and _code(error) != sqlite3.SQLITE_ERROR:
                raise
            raise _Damaged(str(error)) from error
        self._peer_name = names[0] if names else None
        self._targets = targets
        self._attachments = {attachment.ident: attachment for attachment in attachments}
        self._exposures = {exposure.cidr: exposure for exposure in exposures}
        self._addresses = addresses
        self._reclaim = reclaim[0] if reclaim else None


# What SQLite says of content that is not its own. SQLITE_ERROR is "unsupported file format" here: our statements are
# the same for every file.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR)


class _Damaged(Exception):
    """The file is not a state file of ours, or not any more."""


def _lock(state_dir: Path) -> int:
    """Create the directory if need be and hold it; the lock dies with the process, however that ends."""
    path = state_dir / LOCK_NAME
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(state_dir, error.strerror or str(error)) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        owner = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise StateError(
            f"the state directory {state_dir} is in use by the node with process id {owner}; "
            "stop that node, or give this one another --state-dir"
        ) from error
    except OSError as error:
        os.close(fd)
        raise _unwritable(state_dir, error.strerror or str(error)) from error
    return fd


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Check whose file it is before the first write to it, then bring it to the current schema."""
    # The lock keeps other nodes out, so the log's shared-memory file (a SIGBUS on a full tmpfs) is not needed.
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA synchronous = FULL")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION_ID:
        raise _Damaged("it is another program's file")
    if version > SCHEMA_VERSION:
        raise StateError(
            f"the state file {path} was written by a newer plait (schema {version}, this one knows {SCHEMA_VERSION}); "
            "run that version, or move the file away to begin afresh"
        )
    if tables:
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _Damaged(str(verdict).replace("\n", " "))
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    if not tables:
        _run_script(db, _SCHEMA)
    for newer in range(version + 1, SCHEMA_VERSION + 1) if tables else ():
        _run_script(db, f"{_MIGRATIONS.get(newer, '')};\nPRAGMA user_version = {newer};\n")


def _run_script(db: sqlite3.Connection, script: str) -> None:
    """All in one transaction: a crash leaves the file as it was or a whole schema."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        for statement in filter(str.strip, script.split(";\n")):
            db.execute(statement)


def _attachment(row: tuple[object, ...]) -> Attachment:
    ident, netns, netns_id, pid, docker_id, cidrs, multicast_route = row
    decoded = json.loads(_text(cidrs))
    if not isinstance(decoded, list):
        raise TypeError(f"the addresses of {ident} are no list")
    return Attachment(
        ident=_text(ident),
        netns=_text(netns),
        netns_id=_text(netns_id),
        pid=None if pid is None else _whole(pid),
        docker_id=None if docker_id is None else _text(docker_id),
        cidrs=tuple(_cidr(cidr) for cidr in decoded),
        multicast_route=bool(_whole(multicast_route)),
    )


def _exposure(row: tuple[object, ...]) -> Exposure:
    cidr, masquerade = row
    return Exposure(_cidr(cidr), bool(_whole(masquerade)))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _blob(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"{value!r} is no blob")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value


def _cidr(value: object) -> str:
    return str(ipaddress.ip_interface(_text(value)))


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _set_aside(path: Path, why: str) -> StateError:
    """Rename the file and its log, main file first: a crash in between leaves a lone log, seen at the next start."""
    kept = _free_name(path)
    try:
        for suffix in ("", "-wal", "-shm", "-journal"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(kept.with_name(kept.name + suffix))
    except OSError as error:
        raise _unwritable(path.parent, error.strerror or str(error)) from error
    return StateError(
        f"the state file {path} was damaged ({why}) and is kept as {kept}; the peer name, the targets and the lists of "
        "attached containers, of exposed and of allocated addresses in it are lost: connect, attach and expose again "
        "what is missing"
    )


def _free_name(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    candidate, number = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while any(candidate.with_name(candidate.name + suffix).exists() for suffix in ("", "-wal")):
        number += 1
        candidate = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    return candidate


def _code(error: sqlite3.Error) -> int:
    """The primary result code; errors that Python's module raises by itself carry none."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def _explain(path: Path, error: sqlite3.Error) -> StateError:
    match _code(error):
        case sqlite3.SQLITE_FULL:
            return _unwritable(path.parent, "no space left on the device")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StateError(f"the state file {path} was damaged while the node ran ({error}); restart the node")
        case sqlite3.SQLITE_BUSY:
            return StateError(f"the state file {path} is open in another program; close that program and try again")
        case _:
            return _unwritable(path.parent, str(error))


def _unwritable(state_dir: Path, why: str) -> StateError:
    return StateError(
        f"cannot write the node's state in {state_dir}: {why}; free some space or make the directory writable, "
        "or choose another one with --state-dir"
    )
