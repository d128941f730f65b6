import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.areas import NO_AREAS, AreaKind, load_areas, parse_areas
from cloud.errors import ConfigError
from cloud.fleet_file import load_fleet
from cloud.geo import distance_m, geohash_zone
from cloud.ports import Vehicle

SQUARE = [[8.6, 50.0], [8.8, 50.0], [8.8, 50.2], [8.6, 50.2], [8.6, 50.0]]


def feature(coordinates=None, kind="operating_area", name="Town", form="Polygon"):
    return {
        "type": "Feature",
        "properties": {"name": name, "kind": kind},
        "geometry": {"type": form, "coordinates": [SQUARE] if coordinates is None else coordinates},
    }


def areas(*features):
    return parse_areas(
        json.dumps({"type": "FeatureCollection", "features": list(features)}), "areas.geojson"
    )


def test_distances_outside_are_metres_and_negative_inside():
    town = areas(feature())
    assert town.outside_by_m(50.21, 8.7) == pytest.approx(1112, rel=0.01)
    assert town.outside_by_m(50.1, 8.81) == pytest.approx(713, rel=0.01)
    assert town.outside_by_m(50.19, 8.7) == pytest.approx(-1112, rel=0.01)


def test_a_hole_is_outside_and_several_areas_are_one():
    hole = [[8.69, 50.09], [8.71, 50.09], [8.71, 50.11], [8.69, 50.11], [8.69, 50.09]]
    east = [[[9.0, 50.0], [9.2, 50.0], [9.2, 50.2], [9.0, 50.2], [9.0, 50.0]]]
    both = areas(feature([SQUARE, hole]), feature([east], name="East", form="MultiPolygon"))
    assert both.outside_by_m(50.1, 8.7) > 500
    assert both.outside_by_m(50.05, 8.7) < 0
    assert both.outside_by_m(50.1, 9.1) < 0
    assert both.outside_by_m(50.1, 8.9) > 5000


def test_a_geofence_is_drawn_and_not_checked():
    fences = areas(feature(kind="geofence"))
    assert fences.outside_by_m(10, 10) is None
    assert NO_AREAS.outside_by_m(10, 10) is None
    (area,) = fences.areas
    assert area.kind is AreaKind.GEOFENCE
    drawn = fences.geojson()
    assert parse_areas(json.dumps(drawn), "again").areas == fences.areas


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"kind": "geo"}, r"features\[0\].properties.kind is 'geo'"),
        ({"name": ""}, r"features\[0\].properties.name"),
        ({"form": "Point", "coordinates": [8, 50]}, "no Polygon"),
        ({"coordinates": [[[8, 50], [9, 50]]]}, "geometry"),
        ({"coordinates": []}, "is empty"),
        ({"coordinates": 7}, "coordinates"),
        ({"coordinates": [[[8, "x"], [9, 50], [9, 51], [8, 50]]]}, "coordinates"),
        ({"coordinates": [[[8, 50], [9, 51], [9, 50], [8, 51], [8, 50]]]}, "Self-intersection"),
        ({"coordinates": [[[50, 190], [51, 190], [51, 191], [50, 190]]]}, "latitude 190"),
    ],
)
def test_a_wrong_feature_is_named(broken, message):
    with pytest.raises(ConfigError, match=message) as caught:
        areas(feature(**broken))
    assert "areas.geojson" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"type": "FeatureCollection"}', '{"type":"Feature"}']
)
def test_what_is_no_collection_is_refused(text):
    with pytest.raises(ConfigError, match="here"):
        parse_areas(text, "here")


def test_two_areas_of_one_name_are_refused():
    with pytest.raises(ConfigError, match=r"features\[1\]: a second 'Town'"):
        areas(feature(), feature())


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.geojson"):
        load_areas(tmp_path / "nothing.geojson")
    (tmp_path / "x.geojson").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"x\.geojson"):
        load_areas(tmp_path / "x.geojson")


def test_the_fleet_file_gives_type_and_name(tmp_path):
    path = tmp_path / "fleet.toml"
    path.write_text(
        '[vehicles."van-1"]\ntype = "electric_van"\nname = "Van 1"\n[vehicles.b]\ntype="x"'
    )
    fleet = load_fleet(path)
    assert fleet.find("van-1") == Vehicle("van-1", "electric_van", "Van 1")
    assert fleet.find("b") == Vehicle("b", "x")
    assert fleet.find("c") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[vehicles.a]", r"vehicles\.a\.type is missing"),
        ("[vehicles.a]\ntype = 5", r"vehicles\.a\.type"),
        ('[vehicles.a]\ntype = "x"\nname = 5', r"vehicles\.a\.name"),
        ('[vehicles.a]\ntype = "x"\ncolour = "red"', "unknown key 'colour'"),
        ('[vehicles."a b"]\ntype = "x"', "does not match"),
        ("vehicles = 5", "no table"),
        ("[vehicles]\na = 5", r"vehicles\.a is no table"),
        ("[vehicle.a]", "unknown key 'vehicle'"),
        ("[", "not TOML"),
    ],
)
def test_a_wrong_fleet_file_names_the_place(tmp_path, text, message):
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_fleet(path)
    assert "fleet.toml" in str(caught.value)
    assert caught.value.hint


def test_a_fleet_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"fleet\.toml"):
        load_fleet(tmp_path / "fleet.toml")


def test_known_zones_and_distances():
    assert geohash_zone(57.64911, 10.40744) == "u4pruyd"
    assert geohash_zone(42.6, -5.6, 5) == "ezs42"
    assert distance_m(52.5200, 13.4050, 48.1372, 11.5755) == pytest.approx(504_200, rel=0.006)


@given(st.floats(50.0, 50.2), st.floats(8.6, 8.8))
def test_a_point_of_the_square_is_never_outside(lat, lon):
    assert areas(feature()).outside_by_m(lat, lon) <= 1e-6
