"""Launch a Chromium for tests and measurements: Debian's headless build, its whole browser, or Playwright's own."""

import shutil

from playwright.sync_api import Browser, Playwright

BUILDS = ("chromium-headless-shell", "chromium")  # the first takes half of the other's processor time for a page
ARGUMENTS = ("--no-sandbox", "--disable-background-networking")


def launched(driver: Playwright, *more: str) -> Browser:
    """`more`: further arguments of its command line."""
    installed = next((found for build in BUILDS if (found := shutil.which(build))), None)
    return driver.chromium.launch(executable_path=installed, args=[*ARGUMENTS, *more])
