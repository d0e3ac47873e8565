"""store.duckdb: short ATTACHes from this process's one DuckDB instance, arbitrated by our own file locks.

DuckDB guards its file with a POSIX record lock, and a process loses those locks as soon as it closes *any* descriptor
of the file. So in a process that uses this module nobody may open the file: no `open(path)`, no `shutil.copy`, no
second DuckDB instance on it. `os.stat` and `os.rename` are harmless, and copies are made by a `cp` of its own process.
Among our processes `store.gate` decides: shared to read, exclusive to write, held for some milliseconds.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import duckdb

from store import last_copy
from store.disk_refusal import refusal_in
from store.errors import StoreBusy, StoreDamaged, StoreError, StoreFull, explained, explained_in_query
from store.filesystem import sql_path
from store.instance import add_columns, connect, lacking, opened_copy
from store.locks import LockBusy, allowance, locked, waited
from store.private import FILE_MODE
from store.schema import STORAGE_VERSION, TABLES, create_statements
from store.scratch import scratch_folder
from store.steady_copy import CopyFailed, Unsteady, copy, steady_copy

READ_PATIENCE = 5.0  # seconds that a reader waits for the gate: at most behind an ingest of a long journal
RETRY_SECONDS = 0.005
ROW_GROUP = 122_880  # rows: DuckDB's own size, which is read fastest


class _Instance:
    """The one in-memory DuckDB instance of this process; connecting costs 10 ms, attaching 0.2."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._parents: duckdb.DuckDBPyConnection | None = None

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = connect()
        return self._connection

    def drop(self) -> None:
        """Forgets the instance, and with it whatever an error left attached."""
        if self._connection is not None:
            with suppress(duckdb.Error):
                self._connection.close()
        self._connection = None

    def leave_behind(self) -> None:
        """Starts anew in a forked child. The parent's instance has no threads here: even to close it would hang."""
        self._parents = self._connection
        self.lock = threading.RLock()
        self._connection = None


_instance = _Instance()
os.register_at_fork(after_in_child=_instance.leave_behind)


class Database:
    """The file of one home folder. Every use attaches it as `store` and detaches it again."""

    def __init__(self, home: Path, folder: Path | None = None) -> None:
        """`folder`: where the file is, if it is not yet the one of `home`."""
        self.home = home
        folder = folder or home
        self.path = folder / "store.duckdb"
        self.wal = folder / "store.duckdb.wal"
        self.gate = folder / "store.gate"
        self.behind = (
            ""  # how old the last answer was and which process holds newer rows back; empty if it was new
        )
        self._current = 0  # inode of the file that is known to have every column

    @contextmanager
    def reading(
        self, patience: float = READ_PATIENCE, *, exact: bool = False
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection that sees the tables as `store.TABLE`, read-only; empty ones if there is no file yet.

        While another process holds the file, its last consistent copy answers, unless `exact`; `behind` then gives
        its age. Raises: StoreError.
        """
        with _instance.lock, ExitStack() as stack:
            try:
                connection = stack.enter_context(self._reading_file(patience))
                self.behind = ""
            except StoreBusy as busy:
                if exact:
                    raise
                connection = self._copy_in_its_place(busy)
            yield connection

    @contextmanager
    def _reading_file(self, patience: float) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self.path.exists():
            with _attached("':memory:'", "") as connection:
                for statement in create_statements("store"):
                    connection.execute(statement)
                yield connection
            return
        with self._examined():
            self._upgrade(patience)
            with self._gated(patience, shared=True), self._attached_to_read(patience) as found:
                yield found

    def _copy_in_its_place(self, busy: StoreBusy) -> duckdb.DuckDBPyConnection:
        """Return a connection to the file's last consistent copy, made without the gate. Raises: StoreError."""
        try:
            connection, state = last_copy.connection(self._files, self._scratch())
        except Unsteady:
            raise busy from None
        except CopyFailed as error:
            raise StoreFull(self._copy_failed(error, self._scratch())) from None
        except duckdb.Error as error:
            raise explained(error) from error
        self.behind = last_copy.warned(self.path, state, str(busy))
        return connection

    @property
    def _files(self) -> tuple[Path, Path]:
        return self.path, self.wal

    @contextmanager
    def preparing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection without the file, to make ready in memory what `writing` then only has to copy."""
        with _instance.lock:
            yield _instance.connection

    @contextmanager
    def writing(self, patience: float, row_group: int = ROW_GROUP) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write `store.TABLE`. Every COMMIT checkpoints, so the file stands alone afterwards.

        DuckDB puts neighbouring row groups together as long as they fit into one of `row_group` rows. The smaller
        that is, the less is written anew at once; the larger, the faster is reading.
        """
        with _instance.lock, self._examined():
            if self.path.exists():
                self._upgrade(patience)
            with self._gated(patience, shared=False), self._attached_to_write(row_group) as connection:
                yield connection

    @contextmanager
    def _attached_to_read(self, patience: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection to the file, for which a process that a stranger's client keeps from it waits once."""
        begun = time.monotonic()
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(
                    _attached(sql_path(self.path), "(READ_ONLY, TYPE DUCKDB)", allowance(self.path, patience))
                )
            except StoreBusy:
                waited(self.path, time.monotonic() - begun, got=False)
                raise
            waited(self.path, 0.0, got=True)
            yield connection

    @contextmanager
    def _attached_to_write(self, row_group: int) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self.path.exists():
            self._create()
        with _attached(sql_path(self.path), f"(TYPE DUCKDB, ROW_GROUP_SIZE {row_group})") as connection:
            if self.wal.exists():
                self._take_in_log(connection)
            yield connection

    def _upgrade(self, patience: float) -> None:
        """Add the columns that a file of an earlier version lacks, once and all together."""
        if self.inode() == self._current:
            return
        with (
            self._gated(patience, shared=True),
            self._attached_to_read(patience) as connection,
        ):
            lacks = bool(lacking(connection))
        if lacks:
            if not os.access(self.path, os.W_OK):
                raise StoreError(
                    f"{self.path}: made by an earlier version; open it once as a user who may write it"
                )
            with self._gated(patience, shared=False), self._attached_to_write(ROW_GROUP) as connection:
                add_columns(connection)
        self._current = self.inode()

    def inode(self) -> int:
        """The inode of the file; 0 if there is none."""
        try:
            return os.lstat(self.path).st_ino
        except FileNotFoundError:
            return 0

    @contextmanager
    def _examined(self) -> Iterator[None]:
        """Notes in a StoreDamaged which file it is about. Raises one for what is no file at all."""
        inode = self.inode()
        try:
            if inode and not self.path.is_file():
                raise StoreDamaged(f"{self.path.name} is not a file")
            yield
        except StoreDamaged as error:
            error.inode = error.inode or inode
            raise

    @contextmanager
    def copied(
        self, patience: float = READ_PATIENCE, niceness: int = 0
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to a consistent private copy, as `store.TABLE`: long queries on it hold nobody up.

        The copy has an instance of its own; it is another file, so the rule above is kept. The calling thread
        takes on `niceness`, for good, once the copy is made: who holds the gate should not wait for the processor.
        """
        with scratch_folder(self._scratch()) as folder, self._examined(), _explaining():
            self._copy_to(folder, patience)
            os.setpriority(os.PRIO_PROCESS, 0, max(niceness, os.getpriority(os.PRIO_PROCESS, 0)))
            connection = opened_copy(folder / self.path.name)
            try:
                connection.execute(f"SET temp_directory = {sql_path(folder)}")
                connection.execute("USE store")
                yield connection
            finally:
                connection.close()

    def is_sound(self) -> bool:
        """Read every value of the file. Return False if that fails. Raises: StoreBusy."""
        try:
            with self.reading(exact=True) as connection:
                for table, columns in TABLES.items():
                    hashes = ", ".join(f'bit_xor(hash("{name}"))' for name in columns)
                    connection.execute(f"SELECT {hashes} FROM store.{table}").fetchall()
        except (StoreDamaged, duckdb.Error):
            return False
        return True

    def set_wal_aside(self) -> Path | None:
        """Renames a damaged write-ahead log out of the way; what it held comes again from the journals."""
        return _set_aside(self.wal)

    def replace(self, fresh: Path, inode: int, patience: float) -> Path | None:
        """Set the damaged file with `inode`, and its log, aside and put `fresh` in its place; return the former's name.

        Return None, with nothing done, if another file is there by now.
        """
        with self._gated(patience, shared=False):
            if self.inode() != inode:
                return None
            _set_aside(self.wal)
            aside = _set_aside(self.path)
            fresh.rename(self.path)
            return aside

    def _take_in_log(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Leaves no log: one that is there is of a stranger that wrote and died, and may end in the middle.

        What of it can be read is in the connection since it was attached. DuckDB forgets a log that holds nothing
        else, and refuses it beside the file that was written next.
        """
        connection.execute("CHECKPOINT store")
        self.set_wal_aside()

    def _scratch(self) -> Path | None:
        """Copies lie beside the file, where there is room for them; elsewhere only if the home cannot be written."""
        return self.home if os.access(self.home, os.W_OK) else None

    def _copy_failed(self, error: CopyFailed, folder: Path | None) -> str:
        refused = refusal_in(str(error), folder)
        return f"{self.path}: cannot be copied: {refused or error}"

    def _copy_to(self, folder: Path, patience: float) -> None:
        if not self.path.exists():
            return
        try:
            with self._gated(patience, shared=True):
                copy(self._files, folder)
        except CopyFailed as error:
            raise StoreFull(self._copy_failed(error, folder)) from None
        except StoreBusy as busy:
            try:
                state = steady_copy(self._files, folder)
            except (Unsteady, CopyFailed):
                raise busy from None
            self.behind = last_copy.warned(self.path, state, str(busy))

    def _create(self) -> None:
        """Makes the file with its tables under a temporary name first: there is never a half-made store."""
        fresh = self.path.with_suffix(f".new-{os.getpid()}")
        fresh.unlink(missing_ok=True)
        try:
            with _attached(sql_path(fresh), f"(STORAGE_VERSION '{STORAGE_VERSION}')") as connection:
                for statement in create_statements("store"):
                    connection.execute(statement)
            fresh.chmod(FILE_MODE)
            fresh.rename(self.path)
        finally:  # on a full disk every process that tries would leave one, and its log
            fresh.unlink(missing_ok=True)
            fresh.with_name(f"{fresh.name}.wal").unlink(missing_ok=True)

    @contextmanager
    def _gated(self, patience: float, *, shared: bool) -> Iterator[None]:
        try:
            with locked(self.gate, patience=patience, shared=shared):
                yield
        except LockBusy as busy:
            raise StoreBusy(str(busy)) from None


@contextmanager
def _attached(path: str, options: str, patience: float = 0.0) -> Iterator[duckdb.DuckDBPyConnection]:
    """Attaches `path` as `store`, tries again for `patience` seconds while a stranger holds it, detaches."""
    deadline = time.monotonic() + patience
    connection = _instance.connection
    while True:
        try:
            connection.execute(f"ATTACH {path} AS store {options}")
            break
        except duckdb.Error as error:
            failure = explained(error)
            if not isinstance(failure, StoreBusy) or time.monotonic() >= deadline:
                raise failure from error
            time.sleep(RETRY_SECONDS)
    try:
        with _explaining():
            yield connection
    finally:
        _detach(connection)


@contextmanager
def _explaining() -> Iterator[None]:
    """Turns DuckDB's errors into StoreErrors, as `explained_in_query` does."""
    try:
        yield
    except duckdb.Error as error:
        failure = explained_in_query(error)
        if failure is error:
            raise
        raise failure from error


def _detach(connection: duckdb.DuckDBPyConnection) -> None:
    """Detaches `store`; where that fails (its checkpoint met a full disk) the instance goes, file and all."""
    try:
        connection.execute("DETACH store")
    except duckdb.Error as error:
        _instance.drop()
        raise explained(error) from error


def _set_aside(path: Path) -> Path | None:
    if not path.exists():
        return None
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    return path.rename(aside)
