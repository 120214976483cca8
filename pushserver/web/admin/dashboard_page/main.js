// The operators' page: unlock with an API key, then look every two seconds until it is locked.

import { call, lock, unlock } from "./api.js"
import { get, say } from "./dom.js"
import { parse } from "./metrics.js"
import * as message from "./message.js"
import * as overview from "./overview.js"
import * as user from "./user.js"

const EVERY_MS = 2000
const SLOWEST_MS = 30_000
const SOURCES = { pods: "v1/pods", categories: "v1/categories", exposures: "v1/exposures" }

let round = 0  // of whoever is unlocked; a poll of a former one shows nothing
let wake = () => {}

async function poll() {
  // The first two are the pod's own; the others may fail alone, while Redis is away.
  const [stats, metrics, ...others] = await Promise.all([
    call("GET", "v1/stats"), call("GET", "metrics", undefined, parse),
    ...Object.values(SOURCES).map(path => call("GET", path).catch(error => error)),
  ])
  return { stats, metrics, ...Object.fromEntries(Object.keys(SOURCES).map((name, i) => [name, others[i]])) }
}

async function watch(mine) {
  let failures = 0
  while (mine === round) {
    if (document.hidden) {
      say(get("status"), "Paused")
      await slept(Infinity)
      continue
    }
    try {
      const told = await poll()
      if (mine !== round) return
      overview.overview(told)
      // It says itself what is wrong with a user.
      await user.refresh().catch(() => {})
      failures = 0
      say(get("status"), "Live")
    } catch (error) {
      if (mine !== round) return
      if (error.status === 401) return close("The key is not valid any more.")
      failures += 1
      say(get("status"), `✗ Not up to date: ${error.message}. Trying again.`)
    }
    await slept(Math.min(EVERY_MS * 2 ** failures, SLOWEST_MS))
  }
}

// Until the time is over, the page is shown or hidden, or it is locked.
const slept = ms => new Promise(resolve => {
  const timer = ms === Infinity ? 0 : setTimeout(resolve, ms)
  wake = () => { clearTimeout(timer); resolve() }
})

function open(withKey) {
  get("locked").hidden = true
  get("open").hidden = false
  get("lock").hidden = !withKey
  say(get("login-result"), "")
  watch(++round)
}

function close(why = "") {
  round += 1
  lock()
  wake()
  for (const part of [overview, user, message]) part.forget()
  if (get("confirm").open) get("confirm").close("locked")
  get("open").hidden = true
  get("lock").hidden = true
  get("locked").hidden = false
  say(get("status"), "Locked")
  say(get("login-result"), why, "bad")
  get("key").focus()
}

async function login(event) {
  event.preventDefault()
  const field = get("key")
  const given = field.value
  field.value = ""
  say(get("login-result"), "")
  if (!/^[!-~]+$/.test(given)) return close("A key is printable ASCII without spaces.")
  unlock(given)
  try {
    await call("GET", "v1/stats")
    open(true)
    get("lock").focus()
  } catch (error) {
    close(error.status === 401 ? "This is not the right key." : error.message)
  }
}

for (const part of [user, message]) part.start()
get("login").addEventListener("submit", login)
get("lock").addEventListener("click", () => close())
document.addEventListener("visibilitychange", () => wake())

// A pod in development may have no keys; then nothing is asked for.
call("GET", "v1/stats").then(() => open(false), error => close(error.status === 401 ? "" : error.message))
