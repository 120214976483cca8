// One user: where they are, what waits for them; disconnect.

import { call, part } from "./api.js"
import { confirmed, facts, foreign, get, good, make, moment, say, short, show, works } from "./dom.js"

const SHOWN = 20

let user = ""

export const forget = () => {
  user = ""
  get("user").value = ""
  for (const id of ["seen-user", "seen-facts", "waiting", "user-result", "user-trouble"]) {
    get(id).replaceChildren()
  }
  get("seen").hidden = true
}

// Read anew whoever is looked at, if anybody is.
export async function refresh() {
  if (!user) return
  const asked = user
  try {
    const path = `v1/users/${part(asked)}`
    const calls = [path, `${path}/inbox`, `${path}/parked`].map(one => call("GET", one))
    const [about, inbox, parked] = await Promise.all(calls)
    if (asked !== user) return
    tell(about, inbox.ids, parked.ids)
    say(get("user-trouble"), "")
  } catch (error) {
    const trouble = asked === user && error.code !== "locked"
    if (trouble) say(get("user-trouble"), `Not up to date: ${error.message}`)
    throw error
  }
}

function tell(about, waiting, parked) {
  const pods = Object.entries(about.pods)
  get("seen").hidden = false
  show(get("seen-user"), foreign(about.user))
  show(get("seen-facts"), ...facts([
    ["Presence", about.online ? good("online") : "○ offline", list(pods.map(present))],
    ["Connections on this pod", about.connections.length ? list(about.connections.map(connection)) : "none"],
    ["Categories", foreign(categories(about.categories))],
    ["Inbox", `${about.inbox.waiting} waiting`, list(ids(waiting))],
    ["Parked", `${about.inbox.parked}`, list(ids(parked))],
  ]))
  show(get("waiting"), ...[...waiting, ...parked].slice(0, SHOWN).map(id => new Option("", id)))
}

const list = items => make("ul", ...items.map(item => make("li", ...[item].flat())))
const ids = all => [...all.slice(0, SHOWN).map(foreign), ...rest(all.length - SHOWN)]
const rest = more => more > 0 ? [`and ${more} more`] : []
const present = ([pod, { since }]) => ["on ", foreign(pod), ` since ${moment(since)}`]
const connection = ({ id, state, unconfirmed, ip }) =>
  [foreign(id), `: ${state}, ${unconfirmed} unconfirmed, from `, foreign(ip)]

function categories(told) {
  const kinds = Object.entries(told).map(([kind, values]) => `${kind}=${[values].flat().join(",")}`)
  return kinds.join("  ") || "none"
}

export function start() {
  works(get("look"), "submit", get("user-result"), async () => {
    user = get("user").value
    get("seen").hidden = true
    say(get("user-trouble"), "")
    get("message-user").value = user
    await refresh().catch(error => { user = ""; say(get("user-trouble"), ""); throw error })
  })
  works(get("kick"), "click", get("user-result"), async () => {
    const kicked = user
    const what = `Disconnect ${short(kicked)} on every pod? Whoever comes back is let in.`
    if (!await confirmed(what, "Disconnect")) return "Nothing was done."
    const { pods } = await call("POST", `v1/users/${part(kicked)}/disconnect`)
    if (!pods.length) return `${short(kicked)} was on no pod.`
    return `${short(kicked)} is being disconnected, on ${pods.join(", ")}.`
  })
}
