"""Open an accordion of the page."""

from playwright.sync_api import Locator, TimeoutError

from tests.waiting import wait_for


def unfold(accordion: Locator, content: Locator) -> None:
    """Click its title until `content` is drawn: what still moves as a tab opens can slip away under the pointer."""

    def drawn() -> bool:
        if not accordion.locator(".label-wrap.open").count():
            accordion.locator(".label-wrap").click()
        try:
            content.wait_for(timeout=10_000)
        except TimeoutError:
            return False
        return True

    wait_for(drawn)
