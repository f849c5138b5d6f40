"""Fetch from the hub named on the command line, telling progress by the line: HUB CACHE [LARGEST_FILE]."""

import os
import resource
import sys

if __name__ == "__main__":
    os.environ |= {"HF_ENDPOINT": sys.argv[1], "HF_HUB_CACHE": sys.argv[2], "HF_HUB_OFFLINE": "0"}
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))

    from app.errors import StudioError
    from app.models.catalog import hub, known_models

    def tell(*what: object) -> None:
        sys.stdout.write(" ".join(map(str, what)) + "\n")
        sys.stdout.flush()

    try:
        hub.fetch_repository(known_models.find("someone/model"), tell)
    except StudioError as error:
        tell(error.text("en"))
