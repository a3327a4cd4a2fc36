"""Documents for users name commands, options, knobs, targets and files that there are; translations hold the same of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.cli import main
from shared.settings import environment_name, knobs, load_settings
from tests.conftest import PROJECT
from tests.house.documents import code_blocks, commands, headings, inline_code, links, prose, table_rows, targets

DOCUMENTS = sorted([*PROJECT.glob("README*.md"), *PROJECT.glob("docs/*.md")])
TRANSLATED = [
    (document, document.with_name(f"{document.stem}.zh-CN.md"))
    for document in DOCUMENTS
    if document.with_name(f"{document.stem}.zh-CN.md").exists()
]
KNOBS = {environment_name(section, name) for section, name, _ in knobs()}
PLACES = {f"{section}.{name}" for section, name, _ in knobs()}
FILES = (".csv", ".json", ".parquet", ".py", ".safetensors", ".yaml")
SECTIONS = "|".join(sorted({section for section, _, _ in knobs()}))


def named(document: Path) -> str:
    return document.relative_to(PROJECT).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_command_and_option_that_a_document_names_is_one(document: Path) -> None:
    for words in commands(document.read_text(), "kronos-live"):
        if not words or words[0].startswith(("-", "...")):
            continue
        assert words[0] in main.commands, f"kronos-live {' '.join(words)}"
        known = {name for option in main.commands[words[0]].params for name in (*option.opts, *option.secondary_opts)}
        for word in words[1:]:
            if word.startswith("--"):
                assert word.partition("=")[0] in known | {"--help"}, f"kronos-live {' '.join(words)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_target_of_make_that_a_document_names_is_one(document: Path) -> None:
    known = targets(PROJECT / "Makefile")
    for words in commands(document.read_text(), "make"):
        assert {word for word in words if re.fullmatch("[a-z-]+", word)} <= known, words


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_knob_that_a_document_names_is_one(document: Path) -> None:
    text = document.read_text()
    assert set(re.findall(r"\bKRONOS_(?!COMPOSE_)[A-Z]+__[A-Z0-9_]*[A-Z0-9]", text)) <= KNOBS
    places = {one for one in inline_code(text) if re.fullmatch(rf"(?:{SECTIONS})\.[a-z_]+", one)}
    assert {one for one in places if not one.endswith(FILES)} <= PLACES


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_value_that_a_block_gives_a_knob_is_allowed(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _, block in code_blocks(document.read_text()):
        for line in block.splitlines():
            given = dict(re.findall(r"\b(KRONOS_(?!COMPOSE_)[A-Z]+__[A-Z0-9_]+)=([^\s\"'$]+)(?=\s|$)", line))
            with monkeypatch.context() as environment:
                for name, value in given.items():
                    environment.setenv(name, value)
                load_settings()


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_file_that_a_document_leads_to_is_there(document: Path) -> None:
    for link in links(document.read_text()):
        if "://" not in link and not link.startswith("#"):
            assert (document.parent / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize(("document", "translation"), TRANSLATED, ids=named)
def test_a_translation_has_the_same_headings_code_and_tables(document: Path, translation: Path) -> None:
    text, translated = document.read_text(), translation.read_text()
    assert code_blocks(translated) == code_blocks(text)
    assert headings(translated) == headings(text)
    assert [row[0] for row in table_rows(translated) if "`" in row[0]] == [
        row[0] for row in table_rows(text) if "`" in row[0]
    ]
    assert [len(row) for row in table_rows(translated)] == [len(row) for row in table_rows(text)]
    assert sorted(set(inline_code(translated))) == sorted(set(inline_code(text)))


@pytest.mark.parametrize(("document", "translation"), TRANSLATED, ids=named)
def test_a_document_and_its_translation_lead_to_the_same_files_and_to_each_other(
    document: Path, translation: Path
) -> None:
    to, back = links(document.read_text()), links(translation.read_text())
    assert translation.name in to
    assert document.name in back
    assert set(to) - {translation.name} == set(back) - {document.name}


def test_the_faq_is_there_in_both_languages() -> None:
    assert PROJECT / "docs/faq.md" in [document for document, _ in TRANSLATED]
    assert not re.search("[一-鿿]", prose((PROJECT / "docs/faq.md").read_text()).replace("中文", ""))
