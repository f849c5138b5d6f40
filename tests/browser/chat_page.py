"""What a visitor does and sees in the chat."""

from playwright.sync_api import Locator, Page, expect


def box(page: Page) -> Locator:
    return page.locator("#chat-box textarea")


def ask(page: Page, text: str) -> None:
    box(page).fill(text)
    box(page).press("Enter")


def answers(page: Page) -> Locator:
    return page.locator("#chatbot [data-testid=bot]:not(:has(.thought-group))")


def notes(page: Page) -> Locator:
    return page.locator("#chatbot .thought-group")


def versions(page: Page) -> Locator:
    return page.locator("#chatbot .versions")


def titles(page: Page) -> Locator:
    return page.locator("#chat-list button[data-id]")


def settled(page: Page) -> None:
    """The send button is back: nothing is being written."""
    expect(page.locator("#chat-box .submit-button")).to_be_visible()


def say(page: Page, text: str) -> None:
    before = answers(page).count()
    ask(page, text)
    expect(answers(page)).to_have_count(before + 1)
    expect(answers(page).last).to_have_text(f"You said: {text}")
    settled(page)


def begin_another(page: Page) -> None:
    page.locator("#chat-new").click()
    expect(answers(page)).to_have_count(0)


def choose(page: Page, title: str, item: str) -> None:
    """An item of the menu of the conversation with this title."""
    page.get_by_role("button", name=f"More: {title}", exact=True).click()
    page.get_by_role("menuitem", name=item, exact=True).click()
