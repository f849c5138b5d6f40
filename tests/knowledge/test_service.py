"""Whose collection it is: nobody reads, changes, opens or guesses another's."""

from base64 import urlsafe_b64decode
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.access.identity import guest_of
from app.access.links import Links
from app.errors import BadInput
from app.knowledge.answer.document_links import ADDRESS, Place, document_routes
from app.knowledge.service import KnowledgeService
from app.knowledge.store.collections import DataInUse, NoSuchCollection, NotYours, Owner
from tests.knowledge.conftest import ANN, BOB, Start, run
from tests.knowledge.leases import lease_of

GUEST = Owner("ann", guest=True)


@pytest.fixture
def service(start: Start, notes: Path) -> KnowledgeService:
    service = start()
    run(service.index_folder(ANN, "course", notes))
    return service


@pytest.mark.parametrize("stranger", [BOB, GUEST], ids=["another login", "a guest of the same name"])
def test_a_private_collection_does_not_exist_for_others(service: KnowledgeService, stranger: Owner) -> None:
    assert service.collections(stranger) == []
    (file, *_) = service.files(ANN, "course")
    for attempt in (
        lambda: service.search(stranger, "course", "量化"),
        lambda: service.files(stranger, "course"),
        lambda: service.document(stranger, "course", file.id),
        lambda: service.delete(stranger, "course"),
        lambda: service.share(stranger, "course", True),
        lambda: service.remove_files(stranger, "course", [file.id]),
        lambda: service.store(stranger, "course"),
        lambda: service.search(stranger, "../course", "量化"),
    ):
        with pytest.raises((NoSuchCollection, BadInput)):
            attempt()
    assert len(service.files(ANN, "course")) == 3


def test_a_shared_collection_can_be_asked_and_not_changed(service: KnowledgeService, notes: Path) -> None:
    service.share(ANN, "course", True)
    assert service.search(BOB, "course", "量化")
    for attempt in (
        lambda: service.delete(BOB, "course"),
        lambda: service.remove_files(BOB, "course", [1]),
        lambda: run(service.index_uploads(BOB, "course", [(notes / "gbk.txt", "gbk.txt")])),
        lambda: service.embed_anew(BOB, "course"),
    ):
        with pytest.raises(NotYours):
            attempt()
    service.share(ANN, "course", False)
    with pytest.raises(NoSuchCollection):
        service.search(BOB, "course", "量化")


def test_equal_names_of_two_owners_are_two_collections(service: KnowledgeService, notes: Path) -> None:
    run(service.index_uploads(BOB, "course", [(notes / "gbk.txt", "only.txt")]))
    assert [file.path for file in service.files(BOB, "course")] == ["only.txt"]
    assert len(service.files(ANN, "course")) == 3
    service.delete(BOB, "course")
    assert len(service.files(ANN, "course")) == 3


def test_only_who_runs_the_server_indexes_its_folders(service: KnowledgeService, notes: Path) -> None:
    for stranger in (BOB, GUEST):
        with pytest.raises(BadInput, match="runs the server"):
            service.index_folder(stranger, "mine", notes)


def test_guests_share_nothing(service: KnowledgeService) -> None:
    service.make(GUEST, "mine")
    with pytest.raises(BadInput, match="Log in"):
        service.share(GUEST, "mine", True)


def test_deleting_removes_the_originals(service: KnowledgeService, notes: Path, tmp_path: Path) -> None:
    run(service.index_uploads(ANN, "papers", [(notes / "gbk.txt", "unique-name.txt")]))
    assert list(tmp_path.rglob("originals/unique-name.txt"))
    service.delete(ANN, "papers")
    assert not list(tmp_path.rglob("originals/unique-name.txt"))


def test_search_can_be_restricted_to_files(service: KnowledgeService) -> None:
    week1 = next(file for file in service.files(ANN, "course") if file.path.startswith("week1"))
    hits = service.search(ANN, "course", "量化 显存", files=[week1.id])
    assert {hit.passage.path for hit in hits} == {"week1/notes.md"}


def test_the_span_of_a_hit_is_exact(service: KnowledgeService) -> None:
    for hit in service.search(ANN, "course", "显存", k=10):
        _, text = service.document(ANN, "course", hit.passage.file_id)
        assert text.content[hit.passage.start : hit.passage.end] == hit.passage.content


@pytest.fixture
def browser(service: KnowledgeService) -> TestClient:
    app = FastAPI()
    app.router.routes += document_routes(service, lambda request: request.headers.get("x-user"))
    return TestClient(app)


def test_a_link_opens_the_document_at_the_passage(service: KnowledgeService, browser: TestClient) -> None:
    link = service.link(ANN, "course", service.search(ANN, "course", "量化")[0])
    opened = browser.get(link, headers={"x-user": "ann"})
    assert opened.status_code == 200
    assert "4 比特量化把显存降到三成。</mark>" in opened.text
    assert "default-src 'none'" in opened.headers["content-security-policy"]


def test_a_link_is_for_one_person_and_cannot_be_forged(service: KnowledgeService, browser: TestClient) -> None:
    hit = service.search(ANN, "course", "量化")[0]
    link = service.link(ANN, "course", hit)
    assert browser.get(link, headers={"x-user": "bob"}).status_code == 403
    place = Place(ANN, "course", hit.passage.file_id, hit.passage.path, 0, 5)
    assert browser.get(Links(ADDRESS).make(place), headers={"x-user": "ann"}).status_code == 403
    assert browser.get(service.links.make(place, now=0), headers={"x-user": "ann"}).status_code == 403
    refused = browser.get("/knowledge/document?key=nonsense", headers={"accept-language": "zh-CN"})
    assert refused.status_code == 403 and "重新提问" in refused.text
    service.delete(ANN, "course")
    assert browser.get(link, headers={"x-user": "ann"}).status_code == 404


def test_a_guest_s_link_opens_that_one_document_for_whoever_has_it_and_tells_nothing_of_the_guest(
    service: KnowledgeService, browser: TestClient, tmp_path: Path
) -> None:
    guest = guest_of("f" * 32)
    owner = Owner(guest, guest=True)
    (tmp_path / "x.txt").write_text("about elephants")
    run(service.index_uploads(owner, "my papers", [(tmp_path / "x.txt", "x.txt")]))
    link = service.link(owner, "my papers", service.search(owner, "my papers", "elephants")[0])
    assert link == service.link(owner, "my papers", service.search(owner, "my papers", "elephants")[0])
    key = parse_qs(urlsplit(link).query)["key"][0]
    for told in (key, urlsafe_b64decode(key + "=" * (-len(key) % 4)).decode("latin1")):
        assert not any(secret in told for secret in (guest.removeprefix("guest:"), "f" * 32, "my papers", "x.txt"))
    assert "about elephants</mark>" in browser.get(link).text
    service.remove_files(owner, "my papers", [file.id for file in service.files(owner, "my papers")])
    run(service.index_uploads(owner, "my papers", [(tmp_path / "x.txt", "another.txt")]))
    assert [file.id for file in service.files(owner, "my papers")] == [1], "ids are given again"
    assert browser.get(link).status_code == 404


def test_markup_in_a_document_is_shown_and_not_run(
    service: KnowledgeService, browser: TestClient, tmp_path: Path
) -> None:
    (tmp_path / "x.txt").write_text("<script>alert(1)</script> poison")
    run(service.index_uploads(ANN, "course", [(tmp_path / "x.txt", "<img src=x>.txt")]))
    page = browser.get(service.link(ANN, "course", service.search(ANN, "course", "poison")[0])).text
    assert "<script>" not in page
    assert "<img" not in page


def test_one_process_at_a_time(service: KnowledgeService, tmp_path: Path) -> None:
    with pytest.raises(DataInUse):
        KnowledgeService(service.registry, tmp_path / "data", lease_embedder=lease_of(), embedder="words")


def test_the_samples_are_there_for_everyone(start: Start) -> None:
    from bench.question_set import SAMPLES

    service = start(samples=SAMPLES)
    service.start().join()
    assert [(record.name, record.shared) for record in service.collections(GUEST)] == [("samples", True)]
    assert service.search(GUEST, "samples", "jieba")
    with pytest.raises(NotYours):
        service.delete(ANN, "samples")
