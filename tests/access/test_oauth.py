"""A server that is entered with an account kept elsewhere: a real provider, a real server, a real browser."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from joserfc.jwk import RSAKey

from tests.access.openid_provider import CLIENT, SECRET, Provider, openid_provider
from tests.real_server import FULL_WEIGHTS, StudioData, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

from app.access.oauth import require_client
from app.errors import SettingsError
from app.settings import Settings, read_settings

ADA = {"sub": "1", "preferred_username": "ada"}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with openid_provider() as running:
        yield running


@pytest.fixture(scope="module")
def address(studio_data: StudioData, provider: Provider) -> Iterator[str]:
    data = str(studio_data("openid"))
    flags = ("--auth", "huggingface", "--allowed-users", "ada, owls", "--port", "0", "--data", data)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OPENID_PROVIDER_URL", provider.address)
        environment.setenv("OAUTH_CLIENT_ID", CLIENT)
        environment.setenv("OAUTH_CLIENT_SECRET", SECRET)
        settings = read_settings([*flags, *FULL_WEIGHTS])
    with serving(settings) as (address, _, _):
        yield address


@pytest.fixture
def visitor(address: str, provider: Provider) -> Iterator[httpx.Client]:
    provider.person, provider.sign_with = dict(ADA), None
    with httpx.Client(base_url=address, follow_redirects=True) as client:
        yield client


def signed_in_as(visitor: httpx.Client) -> str | None:
    return visitor.get("/gradio_api/user").json()


def test_before_signing_in_there_is_one_sentence_and_nothing_else(visitor: httpx.Client) -> None:
    page = visitor.get("/", headers={"accept-language": "zh-CN"})
    assert "登录之后才能使用" in page.text and 'href="/sign-in"' in page.text and "gradio" not in page.text
    assert "have signed in" in visitor.get("/", headers={"accept-language": "en"}).text
    for path in ("/config", "/gradio_api/info", "/gradio_api/file=/etc/passwd", "/gradio_api/queue/data"):
        assert visitor.get(path).status_code == 401, path
    assert visitor.post("/gradio_api/call/chat", json={"data": ["Hi"]}).status_code == 401
    assert visitor.post("/gradio_api/upload", files={"files": b"x"}).status_code == 401
    assert visitor.post("/v1/chat/completions", json={}).status_code == 401
    assert visitor.post("/login", data={"username": "ada", "password": "x"}).status_code == 400


def test_who_signs_in_is_known_by_a_name_no_users_file_can_hold(visitor: httpx.Client) -> None:
    assert visitor.get("/sign-in").status_code == 200
    assert signed_in_as(visitor) == "sso:ada"
    assert visitor.get("/config").status_code == 200
    visitor.get("/logout")
    assert signed_in_as(visitor) is None


def test_an_organisation_may_be_invited_and_others_are_told_so(visitor: httpx.Client, provider: Provider) -> None:
    provider.person = {"sub": "2", "preferred_username": "eve", "orgs": [{"preferred_username": "cats"}]}
    refused = visitor.get("/sign-in", headers={"accept-language": "en"})
    assert "The account eve may not use this server" in refused.text and signed_in_as(visitor) is None
    provider.person["orgs"] = [{"preferred_username": "owls"}]
    visitor.get("/sign-in")
    assert signed_in_as(visitor) == "sso:eve"


def test_what_the_provider_did_not_sign_is_not_believed(visitor: httpx.Client, provider: Provider) -> None:
    provider.sign_with = RSAKey.generate_key(2048, {"kid": "one"})
    assert "did not work" in visitor.get("/sign-in", headers={"accept-language": "en"}).text
    assert signed_in_as(visitor) is None


def test_a_code_brought_to_another_browser_signs_nobody_in(visitor: httpx.Client, address: str) -> None:
    to_provider = visitor.get("/sign-in", follow_redirects=False).headers["location"]
    back = httpx.get(to_provider).headers["location"]
    with httpx.Client(base_url=address, follow_redirects=True) as victim:
        assert "login/callback" in back and victim.get(back).status_code == 403
        assert signed_in_as(victim) is None


def test_a_made_up_cookie_is_refused(visitor: httpx.Client) -> None:
    visitor.get("/sign-in")
    (real,) = [cookie for cookie in visitor.cookies.jar if cookie.name.startswith("access-token")]
    for value in ("", "sso:ada", "x" * 43, str(real.value)[:-1]):
        forged = httpx.get(f"{visitor.base_url}/config", cookies={real.name: value})
        assert forged.status_code == 401
    assert httpx.get(f"{visitor.base_url}/config", cookies={real.name: str(real.value)}).status_code == 200


def test_without_a_client_at_the_provider_the_server_does_not_start() -> None:
    with pytest.raises(SettingsError, match="OAUTH_CLIENT_ID"):
        require_client(Settings(auth="huggingface", oauth_client_id="studio"))


@pytest.mark.browser
def test_in_a_browser_one_signs_in_chats_and_signs_out(
    address: str, chromium: "Browser", visitor: httpx.Client
) -> None:
    visitor.get("/logout")
    context = chromium.new_context(locale="en-US")
    context.set_default_timeout(120_000)  # a whole page on a busy machine
    page = context.new_page()
    page.goto(address)
    page.get_by_role("link", name="Sign in with 127.0.0.1").click()
    page.locator("html[data-studio-ready]").wait_for(state="attached")
    page.locator("#who").get_by_text("ada", exact=True).wait_for()
    page.get_by_label("Temperature").first.fill("0")  # else a small model may wander off
    box = page.locator("#chat-box textarea")
    box.fill("What is the capital of France?")
    box.press("Enter")
    page.locator("#chatbot .bot").get_by_text("Paris").wait_for()
    page.get_by_role("link", name="Sign out").click()
    page.get_by_role("link", name="Sign in with 127.0.0.1").wait_for()
    context.close()
