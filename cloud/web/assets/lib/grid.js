// The plain map: lines of equal latitude and longitude with their degrees at the edge.
// It lies below the tiles, so it shows where there are none.

import { leaflet as L } from "nicegui-leaflet";

const STEPS = [30, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005];
const SPACING = 110; // pixels between two lines, at least

export const Grid = L.Layer.extend({
  onAdd(map) {
    this._map = map;
    this._canvas = L.DomUtil.create("canvas", "fleet-grid");
    this._canvas.setAttribute("aria-hidden", "true");
    map.getContainer().prepend(this._canvas);
    map.on("move zoomend resize viewreset", this.draw, this);
    map.on("zoomanim", this._fade, this);
    this.draw();
  },
  onRemove(map) {
    map.off("move zoomend resize viewreset", this.draw, this);
    map.off("zoomanim", this._fade, this);
    this._canvas.remove();
  },
  _fade() {
    this._canvas.style.opacity = 0;
  },
  draw() {
    const size = this._map.getSize();
    const ratio = window.devicePixelRatio || 1;
    const canvas = this._canvas;
    if (canvas.width !== size.x * ratio || canvas.height !== size.y * ratio) {
      canvas.width = size.x * ratio;
      canvas.height = size.y * ratio;
      canvas.style.width = `${size.x}px`;
      canvas.style.height = `${size.y}px`;
    }
    canvas.style.opacity = 1;
    const style = getComputedStyle(canvas);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, size.x, size.y);
    pen.font = `11px ${style.fontFamily}`;
    const line = style.getPropertyValue("--grid-line");
    const text = style.getPropertyValue("--grid-text");

    const bounds = this._map.getBounds();
    const perPixel = (bounds.getEast() - bounds.getWest()) / Math.max(1, size.x);
    const step = STEPS.findLast((candidate) => candidate >= perPixel * SPACING) ?? STEPS[0];
    const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
    const marks = (from, to, least, most) => {
      const found = [];
      for (let i = Math.ceil(Math.max(from, least) / step); i * step <= Math.min(to, most); i++)
        found.push(i * step);
      return found;
    };
    const degrees = (value, positive, negative) =>
      value === 0 ? "0°" : `${Math.abs(value).toFixed(digits)}° ${value < 0 ? negative : positive}`;

    pen.strokeStyle = line;
    pen.lineWidth = 1;
    pen.beginPath();
    const columns = marks(bounds.getWest(), bounds.getEast(), -540, 540).map((lon) => [
      Math.round(this._map.latLngToContainerPoint([0, lon]).x) + 0.5,
      (((lon + 180) % 360) + 360) % 360 - 180,
    ]);
    const rows = marks(bounds.getSouth(), bounds.getNorth(), -85, 85).map((lat) => [
      Math.round(this._map.latLngToContainerPoint([lat, 0]).y) + 0.5,
      lat,
    ]);
    for (const [x] of columns) {
      pen.moveTo(x, 0);
      pen.lineTo(x, size.y);
    }
    for (const [y] of rows) {
      pen.moveTo(0, y);
      pen.lineTo(size.x, y);
    }
    pen.stroke();
    pen.fillStyle = text;
    pen.textBaseline = "top";
    for (const [x, lon] of columns) pen.fillText(degrees(lon, "E", "W"), x + 5, 6);
    pen.textBaseline = "bottom";
    for (const [y, lat] of rows) if (y > 30) pen.fillText(degrees(lat, "N", "S"), 6, y - 3);
  },
});
