"""The two elements of the page, Vue components below ``assets/``.

Leaflet and Vue come from NiceGUI's wheel. The components share their state in the browser
(``assets/lib/index.js``); the server speaks to one of them, with ``push``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nicegui import ui
from nicegui.dependencies import register_esm
from nicegui.elements.leaflet import Leaflet

from cloud.web.ports import Json

ASSETS: Final = Path(__file__).parent / "assets"
STYLE: Final = ASSETS / "style.css"

_LEAFLET: Final = Path(inspect.getfile(Leaflet)).parent / "dist"
_LIB: Final = ASSETS / "lib"

# The key under which browsers cache them is made from the newest of these times.
register_esm("milepost-web", _LIB, max_time=max(file.stat().st_mtime for file in _LIB.iterdir()))


class FleetMap(ui.element, component=ASSETS / "fleet_map.js"):
    """Markers, trails and areas on tiles or a grid."""

    def __init__(self, areas: Json, *, tiles: bool, on_join: Callable[[], None]) -> None:
        """``on_join`` is called when the browser is ready for ``push``; maybe repeatedly."""
        super().__init__()
        self.add_resource(_LEAFLET)
        self._props["areas"] = areas
        self._props["tiles"] = tiles
        self.on("join", lambda _: on_join(), args=[])

    def push(self, message: Json) -> None:
        """Send one message of the feed."""
        self.run_method("apply", message)


class FleetPanel(ui.element, component=ASSETS / "fleet_panel.js"):
    """The list of vehicles and the open alerts."""
