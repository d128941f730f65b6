import { leaflet as L } from "nicegui-leaflet";
import { watch } from "vue";
import { loadResource } from "../../static/utils/resources.js";
import {
  alertsOf, apply, describe, fleet, isMoving, isShown, isStale, modeOf, now, onChange, select, ui,
} from "milepost-web";
import { Grid } from "milepost-web/grid.js";

const TILES = "https://tile.openstreetmap.org/{z}/{x}/{y}.png";
const CREDIT =
  '© <a href="https://www.openstreetmap.org/copyright" target="_blank" rel="noopener">OpenStreetMap</a> contributors';
const FAILURES = 6; // tiles refused in a row before the grid takes over
const TRY_AGAIN_MS = 60_000;
const MANY = 14; // above this many vehicles only chosen ones carry their name
const CITY_M = 60_000; // areas smaller than this across are worth seeing whole
const GRID = 1e5; // trails come in 1e-5 degrees

const still = window.matchMedia("(prefers-reduced-motion: reduce)");
const dark = window.matchMedia("(prefers-color-scheme: dark)");

export default {
  template: `
    <section class="fleet-map" aria-label="Map of the fleet">
      <div ref="map" class="fleet-canvas"></div>
    </section>`,
  props: { resourcePath: String, tiles: Boolean, areas: Object },

  async mounted() {
    await this.$nextTick(); // window.path_prefix is set by then
    await loadResource(window.path_prefix + `${this.resourcePath}/leaflet/leaflet.css`);
    // Not in data(): Leaflet's objects must stay out of Vue's proxies.
    this.markers = new Map();
    this.trails = new Map();
    this.undo = [];
    this.fitted = false;
    this.keeps = true; // all vehicles in view, until somebody moves the map
    this.map = L.map(this.$refs.map, {
      center: [25, 10], zoom: 2, zoomControl: false, preferCanvas: true, minZoom: 2,
      maxZoom: 19, zoomAnimation: !still.matches, worldCopyJump: true,
    });
    this.map.attributionControl.setPrefix(false);
    L.control.scale({ position: "bottomleft", imperial: false }).addTo(this.map);
    L.control.zoom({ position: "bottomright" }).addTo(this.map);
    this.addFitButton();
    this.grid = new Grid().addTo(this.map);
    for (const [name, order] of [["areas", 300], ["trails", 350]])
      this.map.createPane(name).style.zIndex = order;
    this.pen = L.canvas({ pane: "trails", padding: 0.3 });
    this.drawAreas();
    this.fit();
    if (this.tiles) this.addTiles();

    this.map.on("dragstart", () => (ui.following = this.keeps = false));
    this.map.on("moveend", () => (this.fitting = false));
    this.map.on("zoomstart", () => {
      if (!this.fitting) this.keeps = false;
    });
    this.map.on("click", () => select(null));
    this.map.on("zoomstart", () => this.$el.classList.add("zooming"));
    this.map.on("zoomend", () => this.$el.classList.remove("zooming"));
    const repaint = () => this.repaint();
    dark.addEventListener("change", repaint);
    this.resized = new ResizeObserver(() => this.map.invalidateSize({ pan: false }));
    this.resized.observe(this.$refs.map);
    this.undo = [
      onChange((message) => this.take(message)),
      watch(() => [ui.selected, ui.mode], ([id], [before]) => this.choose(id, before)),
      watch(now, () => this.refreshMarks()),
      watch(alertsOf, () => this.refreshMarks()),
      () => dark.removeEventListener("change", repaint),
    ];
    const joined = () => {
      if (window.socket?.id === undefined) return setTimeout(joined, 50);
      this.$emit("join");
    };
    joined();
  },

  unmounted() {
    for (const undo of this.undo ?? []) undo();
    this.resized?.disconnect();
    clearTimeout(this.retry);
    this.map?.remove();
  },

  methods: {
    apply(message) {
      apply(message);
    },

    // ---- what the server says

    take(message) {
      if (message.reset) {
        for (const id of [...this.markers.keys()]) this.remove(id);
        for (const id of [...this.trails.keys()]) this.removeTrail(id);
      }
      for (const id of message.gone ?? []) {
        this.remove(id);
        this.removeTrail(id);
      }
      for (const [id, change] of Object.entries(message.trails ?? {})) this.takeTrail(id, change);
      for (const id of Object.keys(message.vehicles ?? {})) this.place(id);
      if (!this.fitted) this.fit();
      else if (this.keeps && this.hasEscaped()) this.fit(this.motion());
    },

    hasEscaped() {
      const view = this.map.getBounds();
      return [...this.markers.values()].some((marker) => !view.contains(marker.getLatLng()));
    },

    place(id) {
      const vehicle = fleet.vehicles[id];
      if (vehicle.lat == null) return this.remove(id);
      const at = [vehicle.lat, vehicle.lon];
      let marker = this.markers.get(id);
      if (!marker) {
        const icon = L.divIcon({
          className: "fleet-marker", iconSize: [36, 36],
          html: '<span class="mark"><i class="ring"></i><i class="dot"></i><i class="arrow"></i></span>' +
            '<span class="name"></span>',
        });
        marker = L.marker(at, { icon, keyboard: true, riseOnHover: true }).addTo(this.map);
        marker.on("click", () => select(id));
        L.DomEvent.on(marker.getElement(), "keydown", (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          L.DomEvent.stop(event);
          select(id);
        });
        this.markers.set(id, marker);
      } else if (!marker.getLatLng().equals(at)) {
        marker.setLatLng(at);
      }
      this.mark(id);
      this.reach(id);
      if (id === ui.selected && ui.following) this.follow(at);
    },

    remove(id) {
      this.markers.get(id)?.remove();
      this.markers.delete(id);
    },

    // ---- markers

    mark(id) {
      const element = this.markers.get(id)?.getElement();
      const vehicle = fleet.vehicles[id];
      if (!element || !vehicle) return;
      const look = [
        modeOf(vehicle), isMoving(vehicle) ? "moving" : "standing",
        isStale(vehicle) ? "stale" : "", alertsOf.value[id] ? "alert" : "",
        id === ui.selected ? "selected" : "", isShown(vehicle) ? "" : "faded",
        this.markers.size > MANY && id !== ui.selected ? "" : "named",
      ].join(" ");
      if (element.dataset.look !== look) {
        element.classList.remove(...(element.dataset.look ?? "").split(" ").filter(Boolean));
        element.classList.add(...look.split(" ").filter(Boolean));
        element.dataset.look = look;
        this.markers.get(id).setZIndexOffset(id === ui.selected ? 2000 : alertsOf.value[id] ? 1000 : 0);
        this.paintTrail(id);
      }
      if (vehicle.heading != null) this.turn(element, vehicle.heading);
      const name = element.querySelector(".name");
      if (name.textContent !== vehicle.name) name.textContent = vehicle.name;
      const label = describe(vehicle);
      if (element.getAttribute("aria-label") !== label) element.setAttribute("aria-label", label);
      element.dataset.vehicle = id;
    },

    turn(element, heading) {
      // The short way round: 359 to 1 is two degrees, not a whole turn.
      const before = Number(element.dataset.heading ?? heading);
      const turned = before + ((((heading - before) % 360) + 540) % 360) - 180;
      element.dataset.heading = turned;
      element.style.setProperty("--heading", `${turned}deg`);
    },

    refreshMarks() {
      for (const id of this.markers.keys()) this.mark(id);
    },

    choose(id, before) {
      this.refreshMarks();
      for (const other of this.trails.keys()) this.paintTrail(other);
      if (!id || id === before) return;
      const marker = this.markers.get(id);
      if (!marker) return;
      this.fitted = true;
      this.keeps = false;
      this.map.setView(marker.getLatLng(), Math.max(this.map.getZoom(), 14), this.motion());
    },

    follow(at) {
      this.map.panTo(at, { ...this.motion(), duration: 0.6, easeLinearity: 1 });
    },

    motion() {
      return { animate: !still.matches };
    },

    // ---- trails: solid where fixes followed each other, dashed where some are missing

    takeTrail(id, change) {
      let trail = this.trails.get(id);
      if (!trail) {
        const shape = { renderer: this.pen, interactive: false, lineJoin: "round" };
        trail = {
          segments: [],
          line: L.polyline([], shape).addTo(this.map),
          gaps: L.polyline([], { ...shape, dashArray: "2 7" }).addTo(this.map),
        };
        this.trails.set(id, trail);
      }
      if (change.all) {
        trail.segments = change.all.map((packed) => {
          const points = [];
          let [lat, lon] = [0, 0];
          for (let i = 0; i < packed.length; i += 2)
            points.push([(lat += packed[i]) / GRID, (lon += packed[i + 1]) / GRID]);
          return points;
        });
      } else {
        const point = [change.add[0] / GRID, change.add[1] / GRID];
        if (change.gap || !trail.segments.length) trail.segments.push([]);
        trail.segments.at(-1).push(point);
      }
      trail.gaps.setLatLngs(
        trail.segments.slice(1).map((segment, i) => [trail.segments[i].at(-1), segment[0]]),
      );
      this.reach(id);
      this.paintTrail(id);
    },

    // The trail's end is where the marker is.
    reach(id) {
      const trail = this.trails.get(id);
      const vehicle = fleet.vehicles[id];
      if (!trail?.segments.length || vehicle?.lat == null) return;
      const tip = [vehicle.lat, vehicle.lon];
      trail.line.setLatLngs([...trail.segments.slice(0, -1), [...trail.segments.at(-1), tip]]);
    },

    removeTrail(id) {
      this.trails.get(id)?.line.remove();
      this.trails.get(id)?.gaps.remove();
      this.trails.delete(id);
    },

    paintTrail(id) {
      const trail = this.trails.get(id);
      const vehicle = fleet.vehicles[id];
      if (!trail || !vehicle) return;
      const color = this.color(`--mode-${modeOf(vehicle)}`);
      const isChosen = id === ui.selected;
      const isCalm = this.markers.size > MANY;
      const isFaint = !isShown(vehicle) || (ui.selected && !isChosen);
      const opacity = isChosen ? 0.9 : isFaint ? 0.15 : isCalm ? 0.35 : 0.55;
      const weight = isChosen ? 4 : isCalm ? 2 : 3;
      const look = `${color} ${weight} ${opacity}`;
      if (trail.look === look) return;
      trail.look = look;
      trail.line.setStyle({ color, weight, opacity });
      trail.gaps.setStyle({ color, weight: Math.min(2, weight), opacity: opacity * 0.8 });
    },

    color(name) {
      return getComputedStyle(this.$el).getPropertyValue(name).trim();
    },

    // ---- areas

    drawAreas() {
      this.areaLayers?.remove();
      const operating = this.color("--area-operating");
      const fence = this.color("--area-geofence");
      this.areaLayers = L.geoJSON(this.areas, {
        pane: "areas",
        interactive: false,
        renderer: L.svg({ pane: "areas", padding: 0.5 }),
        style: ({ properties }) =>
          properties.kind === "operating_area"
            ? { color: operating, weight: 1.5, dashArray: "7 5", fillOpacity: 0.05 }
            : { color: fence, weight: 1.5, fillOpacity: 0.1 },
        onEachFeature: ({ properties }, layer) => {
          const name = document.createElement("span");
          name.textContent = properties.name;
          const isFence = properties.kind === "geofence";
          layer.bindTooltip(name, {
            permanent: true, direction: isFence ? "center" : "top", className: "fleet-area",
          });
        },
      }).addTo(this.map);
      // A large area carries its name at its upper edge, out of the way.
      this.areaLayers.eachLayer((layer) => {
        if (layer.feature.properties.kind !== "operating_area") return;
        const box = layer.getBounds();
        layer.getTooltip().setLatLng([box.getNorth(), box.getCenter().lng]);
      });
    },

    repaint() {
      this.grid.draw();
      this.drawAreas();
      for (const [id, trail] of this.trails) {
        trail.look = null;
        this.paintTrail(id);
      }
    },

    // ---- tiles

    addTiles() {
      let failures = 0;
      const layer = L.tileLayer(TILES, { maxZoom: 19, attribution: CREDIT, className: "fleet-tiles" });
      layer.on("tileload", () => {
        failures = 0;
        this.$el.classList.add("has-tiles");
      });
      layer.on("tileerror", () => {
        if (++failures < FAILURES) return;
        failures = 0;
        this.$el.classList.remove("has-tiles");
        layer.remove();
        clearTimeout(this.retry);
        this.retry = setTimeout(() => layer.addTo(this.map), TRY_AGAIN_MS);
      });
      layer.addTo(this.map);
    },

    // ---- the view

    fit(motion = { animate: false }) {
      const bounds = L.latLngBounds([]);
      for (const marker of this.markers.values()) bounds.extend(marker.getLatLng());
      for (const trail of this.trails.values())
        for (const segment of trail.segments) segment.forEach((point) => bounds.extend(point));
      this.fitted = this.markers.size > 0;
      const areas = this.areaLayers.getBounds();
      const isCity = areas.isValid() && areas.getSouthWest().distanceTo(areas.getNorthEast()) < CITY_M;
      if (isCity || !this.fitted) bounds.extend(areas);
      if (!bounds.isValid()) return;
      this.fitting = true;
      this.map.fitBounds(bounds, { padding: [48, 48], maxZoom: 15, ...motion });
    },

    addFitButton() {
      const Fit = L.Control.extend({
        onAdd: () => {
          const box = L.DomUtil.create("div", "leaflet-bar");
          const button = L.DomUtil.create("a", "fleet-fit", box);
          button.href = "#";
          button.role = "button";
          button.title = "Show all vehicles";
          button.setAttribute("aria-label", "Show all vehicles");
          L.DomEvent.disableClickPropagation(box);
          L.DomEvent.on(button, "click", (event) => {
            L.DomEvent.preventDefault(event);
            select(null);
            this.keeps = true;
            this.fit(this.motion());
          });
          return box;
        },
      });
      new Fit({ position: "bottomright" }).addTo(this.map);
    },
  },
};
