// The pod and the cluster: figures, pods, categories.

import { foreign, get, make, moment, say, show, sparkline } from "./dom.js"
import { History, sum } from "./metrics.js"

const history = new History()
const whole = new Intl.NumberFormat("en")
const few = new Intl.NumberFormat("en", { maximumFractionDigits: 1 })

export const forget = () => {
  history.clear()
  for (const id of ["pod", "figures", "pods", "categories"]) get(id).replaceChildren()
}

// `metrics` are parsed. Of the others each is what a call answered; of the last three, or the error it ended with.
export function overview({ stats, metrics, pods, categories, exposures }) {
  show(get("pod"), foreign(stats.pod))
  history.add(performance.now(), metrics)
  show(get("figures"), ...figures(stats, metrics, exposures))
  table("pods", pods, told => told.pods.map(pod))
  table("categories", categories, told => told.categories.length ? told.categories.map(kind) : [make("p.note", "Nobody with a category is connected here.")])
}

function table(id, told, rows) {
  const failed = told instanceof Error
  say(get(`${id}-trouble`), failed ? `Not up to date: ${told.message}` : "")
  if (!failed) show(get(id), ...rows(told))
}

function figures(stats, sample, exposures) {
  return [
    figure("Users", whole.format(stats.users)),
    figure("Connections", whole.format(stats.connections)),
    rate("Deliveries a second", "deliveries_total"),
    rate("Confirms a second", "confirms_total"),
    rate("Connects a second", "handshakes_total", 'result="101"'),
    rate("Publishes a second", "publishes_total"),
    figure("Confirm delay p50", quantile("confirm_delay_seconds", 0.5), `p99 ${quantile("confirm_delay_seconds", 0.99)}`),
    figure("Exposures on their way", whole.format(sum(sample, "exposure_pending")), "being handed over"),
    backlog(exposures),
    figure("Redis", sum(sample, "redis_away") ? make("span.bad", "✗ away") : make("span.good", "✓ answers"), `${whole.format(stats.redis_waiting)} commands wait`),
    figure("Loop lag p99", quantile("loop_lag_seconds", 0.99), `p50 ${quantile("loop_lag_seconds", 0.5)}`),
    figure("Traffic", stats.ready ? make("span.good", "✓ ready") : make("span.bad", "✗ not ready"), `version ${stats.version}`),
  ]
}

const figure = (name, value, note = "", ...more) =>
  make("div", make("dt", name), make("dd", value, ...(note ? [make("small", note)] : []), ...more))

function rate(name, counter, label) {
  const rates = history.rates(counter, label)
  const now = rates.length ? few.format(rates.at(-1)) : "–"
  return figure(name, now, `at most ${few.format(Math.max(...rates, 0))}`, sparkline(rates))
}

function backlog(exposures) {
  if (exposures instanceof Error) return figure("Exposures waiting", "–", exposures.message)
  const where = { stream: "in the stream, for a consumer", pubsub: "in the spool", none: "in the stream" }[exposures.sink]
  return figure("Exposures waiting", whole.format(exposures.waiting), `${where}; room for ${whole.format(exposures.max)}`)
}

function quantile(name, share) {
  const seconds = history.quantile(name, share)
  if (seconds === null) return "–"
  return seconds < 1 ? `${few.format(seconds * 1000)} ms` : `${few.format(seconds)} s`
}

const pod = one => make("tr",
  Object.assign(make("th", foreign(one.pod)), { scope: "row" }),
  make("td", one.alive ? make("span.good", "✓ alive") : make("span.bad", "✗ lapsed"), make("br"), make("span.note", lease(one))),
  ...["address", "version", "boot"].map(name => make("td", foreign(one[name] ?? "–"))),
  make("td", moment(one.started)))

function lease({ lease_left_ms: left }) {
  if (left === undefined) return "no lease"
  return left > 0 ? `${few.format(left / 1000)} s left` : `ran out ${few.format(-left / 1000)} s ago`
}

const kind = one => make("div",
  make("h3", one.kind, " ", make("span.note", one.values === 1 ? "1 value" : `${whole.format(one.values)} values`)),
  make("ul", ...one.top.map(({ value, connections }) => make("li", foreign(value), `: ${whole.format(connections)}`)),
    ...(one.values > one.top.length ? [make("li.note", `and ${whole.format(one.values - one.top.length)} more`)] : [])))
