"""What visitors are allowed follows from who can come in."""

import pytest

from app.models.registry.metering import Allowance
from app.services import allowance
from app.settings import read_settings

OPEN = ("--host", "0.0.0.0")


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ((), Allowance(requests_at_once=0)),
        (("--requests-at-once", "3"), Allowance(requests_at_once=3)),
        (("--auth", "ada:a long secret"), Allowance(requests_at_once=8)),
        ((*OPEN, "--public"), Allowance(requests_at_once=2, tokens_per_minute=20_000)),
    ],
)
def test_who_has_the_machine_alone_is_not_limited_and_strangers_are(
    arguments: tuple[str, ...], allowed: Allowance
) -> None:
    assert allowance(read_settings(list(arguments))) == allowed
