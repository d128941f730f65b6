import {
  MODES, age, alertsOf, clockTime, coordinates, count, fleet, isMoving, isShown, isStale, limit,
  modeOf, rate, select, ui,
} from "milepost-web";

const ACCOUNT_MS = 5000; // how often the selected vehicle's account is asked for
const MANY = 8; // from here on there is a field to search by name

export default {
  template: `
    <aside class="fleet-panel" :class="{ tall }" aria-label="Fleet">
      <button type="button" class="grip" :aria-expanded="String(tall)"
              aria-controls="fleet-scroll" @click="tall = !tall">
        <span class="visually-hidden">{{ tall ? "Show more of the map" : "Show more of the list" }}</span>
      </button>
      <header class="head">
        <h1><svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 2a8 8 0 0 0-8 8c0 5.4 8 12 8 12s8-6.6 8-12a8 8 0 0 0-8-8z"/><circle cx="12" cy="10" r="3.2"/></svg>Milepost</h1>
        <p class="live" :class="link.kind" role="status"><i></i>{{ link.text }}</p>
      </header>
      <p v-if="notice" class="notice" role="alert">{{ notice }}</p>

      <div id="fleet-scroll" class="scroll">
        <section class="alerts" :class="{ some: alerts.length }" aria-labelledby="alerts-title">
          <h2 id="alerts-title">Alerts <span class="number">{{ alerts.length }}</span></h2>
          <div aria-live="polite">
            <p v-if="!alerts.length" class="none">Nothing needs attention.</p>
            <ul v-else>
              <li v-for="alert in alerts" :key="alert.id">
                <button type="button" class="alert-row" :data-alert="alert.id" @click="select(alert.vehicle)">
                  <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 3 2 20.5h20z"/><path class="cut" d="M12 10v5m0 2.2v.3"/></svg>
                  <span class="what"><b>{{ alert.title }}</b>
                    <small>{{ nameOf(alert.vehicle) }}<template v-if="alert.detail"> · {{ alert.detail }}</template></small></span>
                  <time :datetime="iso(alert.opened)" :title="clockTime(alert.opened)">{{ age(alert.opened) }}</time>
                </button>
              </li>
            </ul>
          </div>
        </section>

        <section class="vehicles" aria-labelledby="vehicles-title">
          <h2 id="vehicles-title">Vehicles <span class="number">{{ total }}</span></h2>
          <div v-if="total" class="modes" role="group" aria-label="Show only one mode">
            <button v-for="(text, mode) in shownModes" :key="mode" type="button" class="chip" :class="mode"
                    :aria-pressed="String(ui.mode === mode)" @click="toggle(mode)">
              <i></i>{{ text }} <b>{{ perMode[mode] }}</b>
            </button>
          </div>
          <input v-if="total >= many" v-model.trim="search" type="search" class="search"
                 placeholder="Find a vehicle" aria-label="Find a vehicle">
          <ul class="rows">
            <li v-for="vehicle in rows" :key="vehicle.id" :class="{ open: vehicle.id === ui.selected }">
              <button type="button" class="row" :data-vehicle="vehicle.id"
                      :class="[modeOf(vehicle), { stale: isStale(vehicle) }]"
                      :aria-expanded="String(vehicle.id === ui.selected)" @click="choose(vehicle.id)">
                <span class="badge" aria-hidden="true">
                  <svg v-if="isMoving(vehicle)" viewBox="0 0 24 24" :style="{ rotate: vehicle.heading + 'deg' }"><path d="M12 3.5 18.5 20 12 16.5 5.5 20z"/></svg>
                  <svg v-else viewBox="0 0 24 24"><circle cx="12" cy="12" r="5"/></svg>
                </span>
                <span class="who">{{ vehicle.name }}</span>
                <small class="doing"><span v-if="alertsOf[vehicle.id]" class="flag">{{ alertsOf[vehicle.id][0].title }}</span><template v-else>{{ MODES[modeOf(vehicle)] }}</template><template v-if="vehicle.backlog > 20"> · {{ count(vehicle.backlog) }} waiting</template></small>
                <span class="speed"><template v-if="vehicle.speed != null"><b>{{ Math.round(vehicle.speed) }}</b> km/h</template></span>
                <span class="battery" :class="level(vehicle)">
                  <template v-if="vehicle.battery != null">
                    <svg viewBox="0 0 26 12" aria-hidden="true"><rect class="case" x=".6" y=".6" width="21.8" height="10.8" rx="3"/><rect class="fill" x="2.4" y="2.4" :width="18.2 * vehicle.battery / 100" height="7.2" rx="1.5"/><path class="tip" d="M24 4v4"/></svg>
                    <span><span class="visually-hidden">Battery </span>{{ Math.round(vehicle.battery) }} %<span v-if="vehicle.charging" title="Charging"> ⚡<span class="visually-hidden">charging</span></span></span>
                  </template>
                </span>
                <time v-if="vehicle.fix" class="age" :datetime="iso(vehicle.fix)" :title="clockTime(vehicle.fix)">{{ age(vehicle.fix) }}</time>
                <span v-else class="age">no fix</span>
              </button>
              <dl v-if="vehicle.id === ui.selected" class="details">
                <template v-for="[term, value] in details(vehicle)" :key="term"><dt>{{ term }}</dt><dd>{{ value }}</dd></template>
              </dl>
            </li>
          </ul>
          <p v-if="total && !rows.length" class="none">No vehicle matches. <button type="button" class="link" @click="clear">Show all</button></p>
          <div v-if="fleet.loaded && !total" class="empty">
            <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 2a8 8 0 0 0-8 8c0 5.4 8 12 8 12s8-6.6 8-12a8 8 0 0 0-8-8z"/><circle cx="12" cy="10" r="3.2"/></svg>
            <h3>No vehicle has reported yet</h3>
            <p>Issue a certificate with<br><code>milepost-cloud certs issue van-1 --out van-1</code></p>
            <p>and start the agent with it. It appears here with its first message; this page needs no reload.</p>
          </div>
        </section>
      </div>
    </aside>`,

  data: () => ({ search: "", tall: false, many: MANY, account: null }),

  mounted() {
    this.accountTimer = setInterval(() => this.askAccount(ui.selected), ACCOUNT_MS);
  },

  unmounted() {
    clearInterval(this.accountTimer);
  },

  computed: {
    MODES: () => MODES,
    fleet: () => fleet,
    ui: () => ui,
    alertsOf: () => alertsOf.value,
    total: () => Object.keys(fleet.vehicles).length,

    alerts: () =>
      Object.entries(fleet.alerts)
        .map(([id, alert]) => ({ ...alert, id }))
        .sort((a, b) => b.opened - a.opened || a.id.localeCompare(b.id)),

    all: () =>
      Object.entries(fleet.vehicles)
        .map(([id, vehicle]) => ({ ...vehicle, id }))
        .sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true })),

    rows() {
      const wanted = this.search.toLowerCase();
      return this.all.filter(
        (vehicle) =>
          isShown(vehicle) && `${vehicle.name}\n${vehicle.id}`.toLowerCase().includes(wanted),
      );
    },

    perMode() {
      const found = {};
      for (const vehicle of this.all) found[modeOf(vehicle)] = (found[modeOf(vehicle)] ?? 0) + 1;
      return found;
    },

    shownModes() {
      return Object.fromEntries(
        Object.entries(MODES).filter(([mode]) => this.perMode[mode] || ui.mode === mode),
      );
    },

    link() {
      if (ui.lostAt) return { kind: "bad", text: "Connection lost" };
      if (!fleet.loaded) return { kind: "", text: "Connecting" };
      if (fleet.problem) return { kind: "bad", text: "Not up to date" };
      return { kind: "good", text: "Live" };
    },

    notice: () =>
      ui.lostAt
        ? `No connection to the server since ${clockTime(ui.lostAt)}; trying again. What you see is from then.`
        : fleet.problem,
  },

  watch: {
    alerts: {
      immediate: true,
      handler: (alerts) => (document.title = (alerts.length ? `(${alerts.length}) ` : "") + "Milepost"),
    },
    "ui.selected": {
      flush: "post",
      handler(id) {
        this.account = null;
        if (id === null) return;
        this.askAccount(id);
        const row = this.$el.querySelector(`.row[data-vehicle="${CSS.escape(id)}"]`);
        row?.parentElement.scrollIntoView({ block: "nearest" });
      },
    },
  },

  methods: {
    age, clockTime, count, isMoving, isStale, modeOf, select,
    iso: (time) => new Date(time).toISOString(),
    nameOf: (id) => fleet.vehicles[id]?.name ?? id,
    choose(id) {
      if (ui.selected === id && ui.following) return select(null);
      this.tall = false;
      select(id);
    },
    async askAccount(id) {
      if (id === null || ui.lostAt) return;
      try {
        const answer = await fetch(`api/vehicles/${encodeURIComponent(id)}/account`);
        if (answer.ok && ui.selected === id) this.account = await answer.json();
      } catch {
        // the page says already that the server is not there; it is asked again
      }
    },
    toggle: (mode) => (ui.mode = ui.mode === mode ? null : mode),
    clear() {
      this.search = "";
      ui.mode = null;
    },
    level(vehicle) {
      if (vehicle.charging) return "charging";
      return vehicle.battery < 15 ? "low" : "";
    },
    details(vehicle) {
      const rows = [];
      const row = (term, value) => value && rows.push([term, value]);
      row("Type", vehicle.type?.replaceAll("_", " "));
      row("Vehicle id", vehicle.id === vehicle.name ? null : vehicle.id);
      row("Mode", [MODES[modeOf(vehicle)], rate(vehicle.interval), limit(vehicle)].filter(Boolean).join(", "));
      row("Trip", vehicle.trip);
      row("Position", vehicle.lat != null && coordinates(vehicle.lat, vehicle.lon));
      row("Accuracy", vehicle.accuracy != null && `${Math.round(vehicle.accuracy)} m`);
      row("Last fix", vehicle.fix && `${clockTime(vehicle.fix)} (${age(vehicle.fix)})`);
      row("Heading", vehicle.heading != null && `${Math.round(vehicle.heading)}°`);
      row("Backlog", vehicle.backlog != null && `${count(vehicle.backlog)} messages`);
      if (this.account) {
        const { received, late, duplicates, missing, causes } = this.account;
        const why = Object.entries(causes).map(([cause, n]) => `${count(n)} ${cause.replaceAll("_", " ")}`);
        row("Received", `${count(received)}, ${count(late)} of them late, ${count(duplicates)} more than once`);
        row("Missing", missing ? `${count(missing)}: ${why.join(", ")}` : "none");
      }
      row("Last status", vehicle.said && `${clockTime(vehicle.said)} (${age(vehicle.said)})`);
      row("Software", vehicle.version);
      return rows;
    },
  },
};
