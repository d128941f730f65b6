"""The live map on a data directory, in a process of its own.

NiceGUI serves one map a process, so tests start this: ``live_map_server.py DATA [--tiles]
[--port N]``. Prints the URL as its first line; ends on SIGTERM.
"""

import argparse
import socket
from pathlib import Path

import uvicorn

from cloud.areas import NO_AREAS, load_areas
from cloud.fleet_file import load_fleet
from cloud.stores.queries import Queries
from cloud.web.app import create_app


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--tiles", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    fleet, areas = given.data / "fleet.toml", given.data / "areas.geojson"
    queries = Queries.open(given.data, load_fleet(fleet) if fleet.is_file() else None)
    app = create_app(
        queries, areas=load_areas(areas) if areas.is_file() else NO_AREAS, tiles=given.tiles
    )
    listener = socket.create_server(("127.0.0.1", given.port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)  # noqa: T201  for the test
    server.run(sockets=[listener])
    queries.close()


if __name__ == "__main__":
    main()
