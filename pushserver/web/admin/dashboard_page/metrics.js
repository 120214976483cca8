// What Prometheus' text says: sums of counters, how they grow, and quantiles of histograms.

const KEPT = 61  // polls: two minutes of one every two seconds
const KEPT_MS = 130_000

// Name to its samples, `[labels as they stand, value]`.
export function parse(text) {
  const found = new Map()
  for (const line of text.split("\n")) {
    const match = /^pushserver_(\w+)(?:\{(.*)\})? (\S+)$/.exec(line)
    if (!match) continue
    if (!found.has(match[1])) found.set(match[1], [])
    found.get(match[1]).push([match[2] ?? "", Number(match[3])])
  }
  return found
}

export function sum(sample, name, label = "") {
  const meant = (sample.get(name) ?? []).filter(([labels]) => labels.includes(label))
  return meant.reduce((total, [, value]) => total + value, 0)
}

// Bounds of a histogram with how many observations were at most that.
const buckets = (sample, name) => (sample.get(`${name}_bucket`) ?? []).map(([labels, count]) => {
  const bound = /le="([^"]+)"/.exec(labels)[1]
  return [bound === "+Inf" ? Infinity : Number(bound), count]
})

export class History {
  #samples = []

  // `at` in milliseconds. What was counted under another boot, maybe by another process, is no past of this.
  add(at, sample) {
    const last = this.#samples.at(-1)
    if (last && sum(last.sample, "pod_boot") !== sum(sample, "pod_boot")) this.#samples = []
    this.#samples.push({ at, sample })
    this.#samples = this.#samples.slice(-KEPT).filter(one => at - one.at <= KEPT_MS)
  }

  clear() { this.#samples = [] }

  // Growth a second between each two polls.
  rates(name, label) {
    return this.#samples.slice(1).map((now, i) => {
      const before = this.#samples[i]
      const grown = sum(now.sample, name, label) - sum(before.sample, name, label)
      return Math.max(0, grown) / ((now.at - before.at) / 1000)
    })
  }

  // Seconds that `share` of what was observed meanwhile took at most, as Prometheus reckons; null of nothing.
  quantile(name, share) {
    if (this.#samples.length < 2) return null
    const before = buckets(this.#samples[0].sample, name)
    const now = buckets(this.#samples.at(-1).sample, name)
    const grown = now.map(([bound, count], i) => [bound, count - (before[i]?.[1] ?? 0)])
    const total = grown.at(-1)?.[1] ?? 0
    if (total <= 0) return null
    const rank = share * total
    const i = grown.findIndex(([, count]) => count >= rank)
    const [low, below] = i > 0 ? grown[i - 1] : [0, 0]
    const [high, count] = grown[i]
    return high === Infinity ? low : low + (high - low) * (rank - below) / (count - below)
  }
}
