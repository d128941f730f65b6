"""The default drive: a loop around the old town of Frankfurt am Main.

From a depot in Wilhelm-Leuschner-Straße through the tunnel under Willy-Brandt-Platz,
along the green belt to the east, over the Main to Sachsenhausen, which lies outside the
operating area of ``traces/default-areas.geojson``, and back. Streets are drawn by hand,
to within a few tens of metres.
"""

from __future__ import annotations

from typing import Final

from simulator.synth.route import WayPoint

WAY_POINTS: Final = (
    # depot, Wilhelm-Leuschner-Straße
    WayPoint(50.10598, 8.66830, 15),
    WayPoint(50.10610, 8.66805, 30),
    WayPoint(50.10720, 8.67110, 30),
    WayPoint(50.10785, 8.67295, 50, stop=True),
    # Untermainanlage, then under Willy-Brandt-Platz
    WayPoint(50.10800, 8.67345, 50),
    WayPoint(50.10850, 8.67325, 50, tunnel=True),
    WayPoint(50.10985, 8.67265, 50, tunnel=True),
    WayPoint(50.11105, 8.67185, 50),
    # Taunusanlage, Opernplatz
    WayPoint(50.11205, 8.67045, 50),
    WayPoint(50.11360, 8.66905, 50),
    WayPoint(50.11495, 8.66960, 50),
    WayPoint(50.11590, 8.67060, 50, stop=True),
    # Bockenheimer Anlage, Eschenheimer Tor, Eschenheimer Anlage
    WayPoint(50.11660, 8.67310, 50),
    WayPoint(50.11690, 8.67610, 50),
    WayPoint(50.11705, 8.67935, 50, stop=True),
    WayPoint(50.11790, 8.68210, 50),
    WayPoint(50.11870, 8.68480, 50),
    WayPoint(50.11900, 8.68770, 50),
    # Friedberger Anlage to the Zoo, Obermainanlage
    WayPoint(50.11790, 8.69080, 50),
    WayPoint(50.11660, 8.69330, 50),
    WayPoint(50.11545, 8.69500, 50),
    WayPoint(50.11385, 8.69590, 50),
    WayPoint(50.11235, 8.69560, 50),
    WayPoint(50.11060, 8.69400, 50, stop=True),
    # Ignatz-Bubis-Brücke
    WayPoint(50.10965, 8.69340, 50),
    WayPoint(50.10770, 8.69225, 50),
    # the other bank: Deutschherrnufer, Sachsenhäuser Ufer, Schaumainkai
    WayPoint(50.10715, 8.69190, 30, stop=True),
    WayPoint(50.10690, 8.69010, 50),
    WayPoint(50.10672, 8.68760, 50),
    WayPoint(50.10655, 8.68500, 50),
    WayPoint(50.10615, 8.68210, 30),
    WayPoint(50.10560, 8.67920, 30, stop=True),
    WayPoint(50.10500, 8.67700, 30),
    # Untermainbrücke and home
    WayPoint(50.10470, 8.67580, 50),
    WayPoint(50.10560, 8.67510, 50),
    WayPoint(50.10700, 8.67400, 50, stop=True),
    WayPoint(50.10768, 8.67352, 30),
    WayPoint(50.10785, 8.67290, 30),
    WayPoint(50.10715, 8.67098, 30),
    WayPoint(50.10606, 8.66803, 15),
    WayPoint(50.10596, 8.66828, 15),
)

ROUTES: Final = {"frankfurt": WAY_POINTS, "hop": WAY_POINTS[:4]}
"""By name: the whole loop, about nine minutes; the first 400 m of it, about one."""
