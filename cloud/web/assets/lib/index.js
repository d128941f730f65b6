// What map and panel share: the fleet's state, kept by the server's messages (their form
// stands in feed.py), the selection, and how things are written.

import { computed, reactive, ref } from "vue";

export const fleet = reactive({ vehicles: {}, alerts: {}, problem: null, loaded: false });
export const ui = reactive({
  selected: null,
  following: false,
  mode: null, // the mode that the list and the map are filtered by
  lostAt: null, // the server's time when the connection was last seen alive
});
export const now = ref(Date.now()); // the server's clock, one tick a second

// Trails and areas are drawn on a canvas; Vue need not watch them.
const listeners = new Set();
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

let clockAhead = 0;
const tick = () => (now.value = Date.now() + clockAhead);
setInterval(() => {
  if (window.socket?.connected) ui.lostAt = null;
  else if (fleet.loaded) ui.lostAt ??= now.value;
  tick();
}, 1000);

export function apply(message) {
  clockAhead = message.now - Date.now();
  ui.lostAt = null;
  tick();
  if (message.reset) {
    fleet.vehicles = {};
    fleet.alerts = {};
  }
  for (const [id, change] of Object.entries(message.vehicles ?? {})) {
    if (Object.hasOwn(fleet.vehicles, id)) Object.assign(fleet.vehicles[id], change);
    else fleet.vehicles[id] = change;
  }
  for (const id of message.gone ?? []) delete fleet.vehicles[id];
  for (const [id, alert] of Object.entries(message.alerts ?? {})) {
    if (alert === null) delete fleet.alerts[id];
    else fleet.alerts[id] = alert;
  }
  if ("problem" in message) fleet.problem = message.problem;
  if (ui.selected && !fleet.vehicles[ui.selected]) select(null);
  fleet.loaded = true;
  for (const listener of listeners) listener(message);
}

export function select(id) {
  ui.selected = id;
  ui.following = id !== null;
}

export const alertsOf = computed(() => {
  const found = {};
  for (const alert of Object.values(fleet.alerts)) (found[alert.vehicle] ??= []).push(alert);
  return found;
});

// ---- what a vehicle is doing

export const MODES = {
  in_trip: "In trip",
  normal: "Normal",
  idle: "Idle",
  saver: "Saver",
  offline: "Offline",
  unknown: "No status",
};

export function modeOf(vehicle) {
  if (vehicle.state === "offline") return "offline";
  return MODES[vehicle.mode] ? vehicle.mode : "unknown";
}

export function isStale(vehicle) {
  if (!vehicle.fix) return false;
  return now.value - vehicle.fix > Math.max(30, 3 * (vehicle.interval ?? 1)) * 1000;
}

export const isShown = (vehicle) => ui.mode === null || modeOf(vehicle) === ui.mode;
export const isMoving = (vehicle) => (vehicle.speed ?? 0) >= 2 && vehicle.heading != null;

// ---- how it is written, in the viewer's own language and zone

export function age(time) {
  const seconds = Math.max(0, Math.round((now.value - time) / 1000));
  if (seconds < 2) return "now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

const hour = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
export function clockTime(time) {
  const isToday = new Date(time).toDateString() === new Date(now.value).toDateString();
  return (isToday ? hour : day).format(time);
}

export const count = (number) => new Intl.NumberFormat().format(number);

export const limit = (vehicle) => (vehicle.limited ? `${vehicle.limited} budget` : "");

export function rate(interval) {
  if (!interval) return "";
  return interval < 1 ? `${Math.round(1 / interval)} per s` : `every ${Math.round(interval)} s`;
}

export function coordinates(lat, lon) {
  const part = (value, positive, negative) =>
    `${Math.abs(value).toFixed(5)}° ${value < 0 ? negative : positive}`;
  return `${part(lat, "N", "S")}, ${part(lon, "E", "W")}`;
}

export function describe(vehicle) {
  const parts = [vehicle.name, MODES[modeOf(vehicle)].toLowerCase()];
  if (vehicle.speed != null) parts.push(`${Math.round(vehicle.speed)} km/h`);
  if (vehicle.battery != null) parts.push(`battery ${Math.round(vehicle.battery)} %`);
  if (vehicle.fix) parts.push(`fix ${age(vehicle.fix)}`);
  return parts.join(", ");
}
