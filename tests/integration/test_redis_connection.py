"""The one way to Redis, against one that asks for a password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.errors import SettingsError, StoreUnavailableError
from shared.redis_connection import connect, redis_errors_translated
from tests.builders import settings
from tests.conftest import redis_server

PASSWORD = "s3cret"  # noqa: S105 - of a Redis that lives as long as its test


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Redis that has a password."""
    with redis_server(tmp_path_factory.mktemp("guarded"), password=PASSWORD) as port:
        yield port


def asked(port: int, *, in_url: str = "", file: Path | str = "") -> None:
    url = f"redis://{f':{in_url}@' if in_url else ''}127.0.0.1:{port}/0"
    where = settings().redis.model_copy(update={"url": SecretStr(url), "password_file": str(file)})
    with connect(where) as redis, redis_errors_translated():
        redis.ping()


def test_the_password_comes_from_the_address_or_from_a_file(guarded: int, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    asked(guarded, file=file)
    asked(guarded, in_url=PASSWORD)
    file.write_text("another")
    asked(guarded, in_url=PASSWORD, file=file)  # the address goes before
    for wrong in ({"file": file}, {"in_url": "another"}, {}):
        with pytest.raises(StoreUnavailableError) as refused:
            asked(guarded, **wrong)  # type: ignore[arg-type]
        assert "another" not in refused.value.message


def test_a_file_without_a_password_is_told_in_one_sentence(guarded: int, tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n")
    binary.write_bytes(b"\xff\xfe")
    for file, words in (
        (tmp_path / "none", r"cannot be read \(No such file"),
        (tmp_path, r"cannot be read \(Is a directory"),
        (binary, "cannot be read .it is not text"),
        (empty, "which is empty"),
    ):
        with pytest.raises(SettingsError, match=f"KRONOS_REDIS__PASSWORD_FILE.*{words}"):
            asked(guarded, file=file)
