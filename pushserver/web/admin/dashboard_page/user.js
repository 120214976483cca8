// One user: where they are, what waits for them; disconnect.

import { call, part } from "./api.js"
import { confirmed, facts, foreign, get, make, moment, say, short, show, works } from "./dom.js"

const SHOWN = 20

let user = ""

export const forget = () => {
  user = ""
  for (const id of ["user", "message", "message-user"]) get(id).value = ""
  for (const id of ["seen-user", "seen-facts", "waiting", "explained", "user-result", "message-result", "user-trouble"]) get(id).replaceChildren()
  get("seen").hidden = true
}

// Read anew whoever is looked at, if anybody is.
export async function refresh() {
  if (!user) return
  const asked = user
  try {
    const path = `v1/users/${part(asked)}`
    const [about, inbox, parked] = await Promise.all([call("GET", path), call("GET", `${path}/inbox`), call("GET", `${path}/parked`)])
    if (asked !== user) return
    tell(about, inbox.ids, parked.ids)
    say(get("user-trouble"), "")
  } catch (error) {
    if (asked === user && error.code !== "locked") say(get("user-trouble"), `Not up to date: ${error.message}`)
    throw error
  }
}

function tell(about, waiting, parked) {
  get("seen").hidden = false
  show(get("seen-user"), foreign(about.user))
  show(get("seen-facts"), ...facts([
    ["Presence", about.online ? make("span.good", "✓ online") : make("span", "○ offline"), list(Object.entries(about.pods).map(present))],
    ["Connections on this pod", about.connections.length ? list(about.connections.map(connection)) : "none"],
    ["Categories", foreign(categories(about.categories))],
    ["Inbox", `${about.inbox.waiting} waiting`, list(ids(waiting))],
    ["Parked", `${about.inbox.parked}`, list(ids(parked))],
  ]))
  show(get("waiting"), ...[...waiting, ...parked].slice(0, SHOWN).map(id => Object.assign(make("option"), { value: id })))
}

const list = items => make("ul", ...items.map(item => make("li", ...[item].flat())))
const ids = all => [...all.slice(0, SHOWN).map(foreign), ...(all.length > SHOWN ? [`and ${all.length - SHOWN} more`] : [])]
const present = ([pod, { since }]) => ["on ", foreign(pod), ` since ${moment(since)}`]
const connection = one => [foreign(one.id), `: ${one.state}, ${one.unconfirmed} unconfirmed, from `, foreign(one.ip)]
const categories = told => Object.entries(told).map(([kind, values]) => `${kind}=${[values].flat().join(",")}`).join("  ") || "none"

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
    if (!await confirmed(`Disconnect ${short(kicked)} on every pod? Whoever comes back is let in.`, "Disconnect")) return "Nothing was done."
    const { pods } = await call("POST", `v1/users/${part(kicked)}/disconnect`)
    return pods.length ? `${short(kicked)} is being disconnected, on ${pods.join(", ")}.` : `${short(kicked)} was on no pod.`
  })
}
