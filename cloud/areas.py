"""Operating areas and geofences, read from GeoJSON (RFC 7946).

A FeatureCollection of Polygons or MultiPolygons, each with the properties ``name`` and
``kind`` (``operating_area`` or ``geofence``)::

    {"type": "FeatureCollection", "features": [{"type": "Feature",
      "properties": {"name": "Frankfurt", "kind": "operating_area"},
      "geometry": {"type": "Polygon", "coordinates": [[[8.4, 50.0], …]]}}]}

Several operating areas are one area together. Polygons that cross the antimeridian are
cut there, as section 3.1.9 of the RFC asks.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import shapely
from shapely.geometry import MultiPolygon, Point, Polygon, shape
from shapely.ops import nearest_points

from cloud.errors import ConfigError
from cloud.geo import distance_m


class AreaKind(StrEnum):
    """What an area is for."""

    OPERATING_AREA = "operating_area"
    GEOFENCE = "geofence"


@dataclass(frozen=True, slots=True)
class Area:
    """One area; ``geometry`` is its GeoJSON geometry, longitude before latitude."""

    name: str
    kind: AreaKind
    geometry: dict[str, Any]


_KINDS: Final = ", ".join(kind.value for kind in AreaKind)
_HINT: Final = (
    "A FeatureCollection of Polygons is needed, each with the properties "
    f'"name" and "kind" ({_KINDS}), coordinates as [longitude, latitude].'
)


class _Shape:
    """One polygon, with longitudes shrunk so that near it degrees are equally long."""

    def __init__(self, polygon: Polygon) -> None:
        south, north = polygon.bounds[1], polygon.bounds[3]
        self._shrink = max(math.cos(math.radians((south + north) / 2)), 1e-6)
        self._polygon = shapely.transform(polygon, lambda at: at * (self._shrink, 1.0))
        self._boundary = self._polygon.boundary
        shapely.prepare(self._polygon)

    def outside_by_m(self, lat: float, lon: float) -> float:
        point = Point(lon * self._shrink, lat)
        edge = nearest_points(self._boundary, point)[0]
        away_m = distance_m(lat, lon, edge.y, edge.x / self._shrink)
        return -away_m if self._polygon.contains(point) else away_m


@dataclass(frozen=True)
class Areas:
    """All areas of one installation; also an ``AreaSource`` that never changes."""

    areas: tuple[Area, ...] = ()
    _shapes: tuple[_Shape, ...] = field(default=(), repr=False, compare=False)

    def outside_by_m(self, lat: float, lon: float) -> float | None:
        """Distance outside every operating area, metres; negative inside; None: no area."""
        if not self._shapes:
            return None
        return min(one.outside_by_m(lat, lon) for one in self._shapes)

    def current(self) -> Areas:
        """Itself."""
        return self

    def geojson(self) -> dict[str, Any]:
        """As a FeatureCollection, for the map."""
        return {
            "type": "FeatureCollection",
            "features": [
                {
                    "type": "Feature",
                    "properties": {"name": area.name, "kind": area.kind.value},
                    "geometry": area.geometry,
                }
                for area in self.areas
            ],
        }


NO_AREAS: Final = Areas()


def load_areas(path: Path) -> Areas:
    """Read a GeoJSON file.

    Raises:
        ConfigError: names the file and the feature.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint=_HINT) from None
    return parse_areas(text, str(path))


def parse_areas(text: str, source: str) -> Areas:
    """Parse GeoJSON; ``source`` is named in errors.

    Raises:
        ConfigError: names the source and the feature.
    """
    try:
        collection = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{source}: not JSON: {error}", hint=_HINT) from None
    if not isinstance(collection, dict) or collection.get("type") != "FeatureCollection":
        raise ConfigError(f"{source}: not a FeatureCollection", hint=_HINT)
    features = collection.get("features")
    if not isinstance(features, list):
        raise ConfigError(f"{source}: features is not a list", hint=_HINT)
    areas: list[Area] = []
    shapes: list[_Shape] = []
    for index, feature in enumerate(features):
        area, polygons = _parse_feature(feature, f"{source}: features[{index}]")
        if any(area.name == other.name for other in areas):
            raise ConfigError(f"{source}: features[{index}]: a second {area.name!r}", hint=_HINT)
        areas.append(area)
        if area.kind is AreaKind.OPERATING_AREA:
            shapes.extend(_Shape(polygon) for polygon in polygons)
    return Areas(tuple(areas), tuple(shapes))


def _parse_feature(feature: object, where: str) -> tuple[Area, list[Polygon]]:
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise ConfigError(f"{where} is not a Feature", hint=_HINT)
    properties = feature.get("properties")
    name = properties.get("name") if isinstance(properties, dict) else None
    if not isinstance(properties, dict) or not isinstance(name, str) or not name:
        raise ConfigError(f"{where}.properties.name is missing or no text", hint=_HINT)
    try:
        kind = AreaKind(str(properties.get("kind")))
    except ValueError:
        raise ConfigError(
            f"{where}.properties.kind is {properties.get('kind')!r}; known are {_KINDS}",
            hint=_HINT,
        ) from None
    geometry = feature.get("geometry")
    if not isinstance(geometry, dict) or geometry.get("type") not in {"Polygon", "MultiPolygon"}:
        raise ConfigError(f"{where}.geometry is no Polygon or MultiPolygon", hint=_HINT)
    try:
        drawn = shape(geometry)
    except (shapely.errors.ShapelyError, ValueError, TypeError, LookupError, AttributeError) as e:
        raise ConfigError(f"{where}.geometry.coordinates: {e}", hint=_HINT) from None
    polygons = list(drawn.geoms) if isinstance(drawn, MultiPolygon) else [drawn]
    if drawn.is_empty or not drawn.is_valid:
        reason = "is empty" if drawn.is_empty else shapely.is_valid_reason(drawn)
        raise ConfigError(f"{where}.geometry: {reason}", hint=_HINT)
    west, south, east, north = drawn.bounds
    if west < -180 or east > 180 or south < -90 or north > 90:
        raise ConfigError(
            f"{where}.geometry reaches to longitude {west:g} to {east:g}, "
            f"latitude {south:g} to {north:g}",
            hint="Coordinates are [longitude, latitude] in degrees.",
        )
    return Area(name, kind, geometry), polygons
