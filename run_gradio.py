"""Start the server: settings, services, page, launch."""

import sys
from collections.abc import Sequence

from app.errors import StudioError
from app.process import complete_a_space, no_garbage_collection, prepare_process
from app.settings import read_settings
from app.terminal import say


def main(arguments: Sequence[str]) -> int:
    """Serve until told to stop; a wrong setting ends with one sentence and status 2."""
    try:
        settings = read_settings(arguments)
        prepare_process(settings.log_level, settings.log_format)
        complete_a_space()
        say("start.loading")
        with no_garbage_collection():
            from app.services import build_services  # after the settings: --help need not wait for torch

        services = build_services(settings)
        services.agent.warm_up()
        with no_garbage_collection():
            from app.web.server import serve  # after the services: a wrong model is said without waiting for gradio
            from app.web.ui import build

        serve(build(services), services)
    except StudioError as error:
        say(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
