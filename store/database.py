"""Short attachments of store.duckdb, arbitrated by file locks.

DuckDB guards its file with a POSIX record lock. A process loses such a lock as soon as it closes *any*
descriptor of the file. So code in a process that uses this module must not open the file itself: no
`open(path)`, no `shutil.copy`, no second DuckDB instance on it. `os.stat` and `os.rename` are safe. Copies
are made by `cp` in a process of its own. Our processes are arbitrated by `store.gate`: shared to read,
exclusive to write, held for some milliseconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import duckdb

from store import last_copy
from store.attachment import INSTANCE, attached, translating_errors
from store.consistent_copy import CopyFailed, FilesChanged, consistent_copy, copy
from store.disk_refusal import refusal_in
from store.errors import StoreBusy, StoreDamaged, StoreError, StoreFull, explained
from store.filesystem import sql_path
from store.instance import add_columns, lacking, opened_copy
from store.locks import LockBusy, locked, record_wait, wait_budget
from store.private import FILE_MODE, set_aside
from store.schema import STORAGE_VERSION, TABLES, create_statements
from store.scratch import scratch_folder

# Seconds that a reader waits for the gate. The longest wait is for an ingest of a long journal.
READ_PATIENCE = 5.0
# Rows. This is DuckDB's own size, which is fastest to read.
ROW_GROUP = 122_880


class Database:
    """The database file of one home directory.

    Each use attaches the file as `store` and detaches it again.
    """

    def __init__(self, home: Path, folder: Path | None = None) -> None:
        """Create the object; nothing is opened yet.

        Args:
            folder: directory of the file, if it is not the home (a store that is being rebuilt).
        """
        self.home = home
        folder = folder or home
        self.path = folder / "store.duckdb"
        self.wal = folder / "store.duckdb.wal"
        self.gate = folder / "store.gate"
        self.behind = (
            # Age of the last answer, and which process holds newer rows back. Empty if the answer was
            # current.
            ""
        )
        # Inode of the file that is known to have every column.
        self._current = 0

    @contextmanager
    def reading(
        self, patience: float = READ_PATIENCE, *, exact: bool = False
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a read-only connection that sees the tables as `store.TABLE`.

        The tables are empty if the file does not exist yet. While another process holds the file, its last
        consistent copy is used, unless `exact`; `behind` then gives the copy's age.

        Raises: StoreError if neither the file nor a copy can be read.
        """
        with INSTANCE.lock, ExitStack() as stack:
            try:
                connection = stack.enter_context(self._reading_file(patience))
                self.behind = ""
            except StoreBusy as busy:
                if exact:
                    raise
                connection = self._fallback_copy(busy)
            yield connection

    @contextmanager
    def _reading_file(self, patience: float) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self.path.exists():
            with attached("':memory:'", "") as connection:
                for statement in create_statements("store"):
                    connection.execute(statement)
                yield connection
            return
        with self._with_inode():
            self._upgrade(patience)
            with self._gated(patience, shared=True), self._attached_to_read(patience) as found:
                yield found

    def _fallback_copy(self, busy: StoreBusy) -> duckdb.DuckDBPyConnection:
        """Return a connection to the last consistent copy, without the gate.

        Raises: StoreError if the file cannot be copied.
        """
        try:
            connection, state = last_copy.connection(self._files, self._scratch())
        except FilesChanged:
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
        """Yield a connection without the file, to prepare data in memory.

        `writing` then only has to copy that data.
        """
        with INSTANCE.lock:
            yield INSTANCE.connection

    @contextmanager
    def writing(self, patience: float, row_group: int = ROW_GROUP) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection that may write `store.TABLE`.

        Every COMMIT checkpoints, so the file is complete without a log afterwards. DuckDB merges neighbouring
        row groups as long as they fit into one of `row_group` rows. A smaller size rewrites less data at
        once; a larger one is faster to read.
        """
        with INSTANCE.lock, self._with_inode():
            if self.path.exists():
                self._upgrade(patience)
            with self._gated(patience, shared=False), self._attached_to_write(row_group) as connection:
                yield connection

    @contextmanager
    def _attached_to_read(self, patience: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection to the file.

        If another program holds the file, this process waits for it once.
        """
        begun = time.monotonic()
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(
                    attached(
                        sql_path(self.path), "(READ_ONLY, TYPE DUCKDB)", wait_budget(self.path, patience)
                    )
                )
            except StoreBusy:
                record_wait(self.path, time.monotonic() - begun, got=False)
                raise
            record_wait(self.path, 0.0, got=True)
            yield connection

    @contextmanager
    def _attached_to_write(self, row_group: int) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self.path.exists():
            self._create()
        with attached(sql_path(self.path), f"(TYPE DUCKDB, ROW_GROUP_SIZE {row_group})") as connection:
            if self.wal.exists():
                self._remove_foreign_log(connection)
            yield connection

    def _upgrade(self, patience: float) -> None:
        """Add the columns that an earlier version's file lacks, in one step."""
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
                    f"{self.path}: made by an earlier version; run any command once as a user that may write the file"
                )
            with self._gated(patience, shared=False), self._attached_to_write(ROW_GROUP) as connection:
                add_columns(connection)
        self._current = self.inode()

    def inode(self) -> int:
        """Return the inode of the file; 0 if it does not exist."""
        try:
            return os.lstat(self.path).st_ino
        except FileNotFoundError:
            return 0

    @contextmanager
    def _with_inode(self) -> Iterator[None]:
        """Set the inode of the file on any StoreDamaged that the block raises.

        Raises: StoreDamaged if the path is not a regular file.
        """
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
        """Yield a connection to a consistent private copy, as `store.TABLE`.

        Long queries on the copy block no other process. The copy is another file with its own DuckDB instance. The
        calling thread adds `niceness` permanently after the copy is made: a process with low priority should not
        hold the gate while it waits for the processor.
        """
        with scratch_folder(self._scratch()) as folder, self._with_inode(), translating_errors():
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
        """Read every value of the file. Return False if that fails.

        Raises: StoreBusy if another process holds the file.
        """
        try:
            with self.reading(exact=True) as connection:
                for table, columns in TABLES.items():
                    hashes = ", ".join(f'bit_xor(hash("{name}"))' for name in columns)
                    connection.execute(f"SELECT {hashes} FROM store.{table}").fetchall()
        except (StoreDamaged, duckdb.Error):
            return False
        return True

    def set_wal_aside(self) -> Path | None:
        """Rename a damaged write-ahead log; return its new path.

        Its rows are applied again from the journals. Returns: None without a log.
        """
        return set_aside(self.wal)

    def replace(self, fresh: Path, inode: int, patience: float) -> Path | None:
        """Put `fresh` in the place of the damaged file with `inode`.

        Returns: the new name of the damaged file, which is renamed with its log. None, with nothing done, if
            the path holds another file now.
        """
        with self._gated(patience, shared=False):
            if self.inode() != inode:
                return None
            set_aside(self.wal)
            aside = set_aside(self.path)
            fresh.rename(self.path)
            return aside

    def _remove_foreign_log(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Remove the write-ahead log that another program left when it died.

        Such a log may end in the middle of an entry. Its readable part was loaded when the connection
        attached the file. DuckDB drops a log that adds nothing more, and rejects it next to a file that was
        written later.
        """
        connection.execute("CHECKPOINT store")
        self.set_wal_aside()

    def _scratch(self) -> Path | None:
        """Return the directory for copies.

        It is the directory of the file, which has room for them. If the home is read-only, it is the system's
        default.
        """
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
                state = consistent_copy(self._files, folder)
            except (FilesChanged, CopyFailed):
                raise busy from None
            self.behind = last_copy.warned(self.path, state, str(busy))

    def _create(self) -> None:
        """Create the file with its tables under a temporary name, then rename it.

        So a partly created store never exists.
        """
        fresh = self.path.with_suffix(f".new-{os.getpid()}")
        fresh.unlink(missing_ok=True)
        try:
            with attached(sql_path(fresh), f"(STORAGE_VERSION '{STORAGE_VERSION}')") as connection:
                for statement in create_statements("store"):
                    connection.execute(statement)
            fresh.chmod(FILE_MODE)
            fresh.rename(self.path)
        # On a full disk, each process that tries would otherwise leave a temporary file and its log.
        finally:
            fresh.unlink(missing_ok=True)
            fresh.with_name(f"{fresh.name}.wal").unlink(missing_ok=True)

    @contextmanager
    def _gated(self, patience: float, *, shared: bool) -> Iterator[None]:
        try:
            with locked(self.gate, patience=patience, shared=shared):
                yield
        except LockBusy as busy:
            raise StoreBusy(str(busy)) from None
