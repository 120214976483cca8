// The pod and the cluster: figures, pods, categories.

import { bad, foreign, get, good, make, moment, say, show, sparkline } from "./dom.js"
import { History, sum } from "./metrics.js"

const history = new History()
const whole = new Intl.NumberFormat("en")
const few = new Intl.NumberFormat("en", { maximumFractionDigits: 1 })

export const forget = () => {
  history.clear()
  for (const id of ["pod", "figures", "pods", "categories"]) get(id).replaceChildren()
}

// Each is what a call answered, `metrics` parsed; the last three may be the errors that they ended with.
export function overview({ stats, metrics, pods, categories, exposures }) {
  show(get("pod"), foreign(stats.pod))
  history.add(performance.now(), metrics)
  show(get("figures"), ...figures(stats, metrics, exposures))
  table("pods", pods, told => told.pods.map(pod))
  table("categories", categories, told => told.categories.length ? told.categories.map(kind) : [nobody()])
}

const nobody = () => make("p.note", "Nobody with a category is connected here.")

function table(id, told, rows) {
  const failed = told instanceof Error
  say(get(`${id}-trouble`), failed ? `Not up to date: ${told.message}` : "")
  if (!failed) show(get(id), ...rows(told))
}

function figures(stats, sample, exposures) {
  const redis = sum(sample, "redis_away") ? bad("away") : good("answers")
  const traffic = stats.ready ? good("ready") : bad("not ready")
  return [
    figure("Users", whole.format(stats.users)),
    figure("Connections", whole.format(stats.connections)),
    rate("Deliveries a second", "deliveries_total"),
    rate("Confirms a second", "confirms_total"),
    rate("Connects a second", "handshakes_total", 'result="101"'),
    rate("Publishes a second", "publishes_total"),
    delay("Confirm delay p50", "confirm_delay_seconds", 0.5, 0.99),
    figure("Exposures on their way", whole.format(sum(sample, "exposure_pending")), "being handed over"),
    backlog(exposures),
    figure("Redis", redis, `${whole.format(stats.redis_waiting)} commands wait`),
    delay("Loop lag p99", "loop_lag_seconds", 0.99, 0.5),
    figure("Traffic", traffic, `version ${stats.version}`),
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
  const { sink, waiting, max } = exposures
  const where = sink === "stream" ? "in the stream, for a consumer" : "in the spool"
  return figure("Exposures waiting", whole.format(waiting), `${where}; room for ${whole.format(max)}`)
}

const delay = (name, histogram, share, other) =>
  figure(name, quantile(histogram, share), `p${other * 100} ${quantile(histogram, other)}`)

function quantile(name, share) {
  const seconds = history.quantile(name, share)
  if (seconds === null) return "–"
  return seconds < 1 ? `${few.format(seconds * 1000)} ms` : `${few.format(seconds)} s`
}

const pod = one => make("tr",
  Object.assign(make("th", foreign(one.pod)), { scope: "row" }),
  make("td", one.alive ? good("alive") : bad("lapsed"), make("br"), make("span.note", lease(one))),
  ...["address", "version", "boot"].map(name => make("td", foreign(one[name] ?? "–"))),
  make("td", moment(one.started)))

function lease({ lease_left_ms: left }) {
  if (left === undefined) return "no lease"
  return left > 0 ? `${few.format(left / 1000)} s left` : `ran out ${few.format(-left / 1000)} s ago`
}

function kind(one) {
  const size = ({ value, connections }) => make("li", foreign(value), `: ${whole.format(connections)}`)
  const sizes = one.top.map(size)
  const others = one.values - one.top.length
  if (others) sizes.push(make("li.note", `and ${whole.format(others)} more`))
  const values = one.values === 1 ? "1 value" : `${whole.format(one.values)} values`
  return make("div", make("h3", one.kind, " ", make("span.note", values)), make("ul", ...sizes))
}
