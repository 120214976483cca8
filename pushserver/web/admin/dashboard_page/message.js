// Messages: send one, explain one, recall one.

import { call, part } from "./api.js"
import { confirmed, facts, foreign, get, make, moment, short, show, works } from "./dom.js"

const LABELS = { users: "User names, one a line", categories: "Categories, one a line, as vip=3" }
const TIMES = { queued_at: "Queued", accepted_at: "Accepted", expires_at: "Expires", recalled_at: "Recalled" }

// The same until the message was accepted or is another: pressing again completes it, and doubles nothing.
let id = ""

export const forget = () => {
  id = ""
  for (const form of ["send", "explain"]) get(form).reset()
  for (const told of ["send-result", "message-result", "explained"]) get(told).replaceChildren()
  target()
}

export function start() {
  get("send").addEventListener("input", () => { id = "" })
  get("send").addEventListener("change", target)
  works(get("send"), "submit", get("send-result"), send)
  works(get("explain"), "submit", get("message-result"), explain)
  works(get("recall"), "click", get("message-result"), recall)
}

const chosen = name => get("send").querySelector(`input[name=${name}]:checked`).value
const lines = () => get("names").value.split("\n").filter(line => line.trim())

function target() {
  const to = chosen("to")
  get("target").hidden = to === "everyone"
  get("names").required = to !== "everyone"
  get("names-label").textContent = LABELS[to] ?? ""
}

async function send() {
  const to = chosen("to")
  const body = request(to)
  const many = { categories: `all of ${short(lines().join(", "))}`, everyone: "everyone" }[to]
  if (many && !await confirmed(`Send this to ${many}?`, "Send")) return "Nothing was sent."
  const told = await call("POST", "v1/messages", body)
  id = ""
  const reached = told.users === null ? "" : ` ${told.users} in all, ${told.online} of them online.`
  get("message").value = told.id
  return `Message ${told.id} was ${told.duplicate ? "there already" : "accepted"}.${reached}`
}

// JSON goes as it stands, digits and all, once it is one value.
function request(to) {
  const content = get("content").value
  if (chosen("as") === "json") check(content)
  id ||= newId()
  const about = { id, to: { [to]: { users: lines, categories, everyone: () => true }[to]() } }
  if (get("ttl").value) about.ttl = Number(get("ttl").value)
  if (get("live-only").checked) about.offline = false
  const text = chosen("as") === "json" ? content : JSON.stringify(content)
  return `${JSON.stringify(about).slice(0, -1)},"content":${text}}`
}

// Not `randomUUID`, which is only there with TLS or on loopback.
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12))
  return `dashboard-${Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("")}`
}

function check(text) {
  try {
    JSON.parse(text)
  } catch (error) {
    throw new Error(`The content is not JSON: ${error.message}`)
  }
}

function categories() {
  const found = new Map()
  for (const line of lines()) {
    const [kind, ...value] = line.split("=")
    found.set(kind.trim(), [...found.get(kind.trim()) ?? [], value.join("=").trim()])
  }
  return Object.fromEntries(found)
}

async function explain() {
  get("explained").replaceChildren()
  const user = get("message-user").value
  const path = `v1/messages/${part(get("message").value.trim())}`
  const told = await call("GET", user ? `${path}?user=${encodeURIComponent(user)}` : path)
  const times = Object.entries(TIMES).filter(([name]) => told[name] !== null)
  show(get("explained"), ...facts([
    ["Message", foreign(told.id), told.kind ? `, to ${told.kind}` : ""],
    ["State", make("b", told.state), `: ${told.why}`],
    ...times.map(([name, term]) => [term, moment(told[name])]),
    ...(told.users === null ? [] : [["Users", told.users]]),
    ...(told.log === null ? [] : [["Log", told.log.id, " ", foreign(JSON.stringify(told.log.to))]]),
    ...way(told.user),
  ]))
}

function way(user) {
  if (!user) return []
  const on = user.connections.map(sentOn)
  return [["To", foreign(user.user), ": ", make("b", user.state), `: ${user.why}`, make("ul", ...on)]]
}

const sentOn = ({ pod, connection, state }) =>
  make("li", foreign(pod), ": ", foreign(connection ?? "no answer in time"), state ? `, ${state}` : "")

async function recall() {
  const recalled = get("message").value.trim()
  if (!recalled) throw new Error("Which message? Its id is missing.")
  const what = `Recall ${short(recalled)}? Whoever has not got it yet will not get it.`
  if (!await confirmed(what, "Recall")) return "Nothing was done."
  await call("DELETE", `v1/messages/${part(recalled)}`)
  return `${short(recalled)} is recalled.`
}
