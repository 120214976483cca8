// What the page shows. Whatever comes from elsewhere becomes a text node, never markup.

import { CallError } from "./api.js"

const LONGEST = 300

export const get = id => document.getElementById(id)

// An element with children: elements, or texts; `kind` is its tag, with a class after a point.
export function make(kind, ...children) {
  const [tag, name] = kind.split(".")
  const made = document.createElement(tag)
  if (name) made.className = name
  made.append(...children.map(child => child instanceof Node ? child : String(child)))
  return made
}

// A text that may have any length, in a few lines.
export function short(text) {
  const letters = [...String(text)]
  if (letters.length <= LONGEST) return String(text)
  return `${letters.slice(0, LONGEST).join("")}… (${letters.length} characters)`
}

// A text of others: it turns no text around it.
export const foreign = text => make("bdi", short(text))

// A word that a sign goes with, so that its colour says nothing alone.
export const good = text => make("span.good", `✓ ${text}`)
export const bad = text => make("span.bad", `✗ ${text}`)

// Put children in place of what is there, unless that is the same: a selection stays, and a reader's place.
export function show(where, ...children) {
  const next = document.createElement("template").content
  next.append(...children)
  const same = where.childNodes.length === next.childNodes.length
    && [...where.childNodes].every((child, i) => child.isEqualNode(next.childNodes[i]))
  if (!same) where.replaceChildren(next)
}

export const say = (where, text, kind = "") => {
  if (where.textContent === text && where.className.includes(kind)) return
  where.textContent = text
  if (kind) where.className = kind
}

// Terms with what is to be said of each.
export const facts = pairs => pairs.flatMap(([term, ...told]) => [make("dt", term), make("dd", ...told)])

// Numbers over time as a line, for the eye; the number beside it says the same.
export function sparkline(values) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg")
  const path = document.createElementNS(svg.namespaceURI, "path")
  const top = Math.max(...values, 1e-9)
  const step = 100 / Math.max(values.length - 1, 1)
  const points = values.map((value, i) => [i * step, 27 - 26 * value / top].map(at => at.toFixed(1)))
  if (points.length > 1) path.setAttribute("d", `M${points.join("L")}`)
  svg.setAttribute("viewBox", "0 0 100 28")
  svg.setAttribute("preserveAspectRatio", "none")
  svg.setAttribute("aria-hidden", "true")
  svg.append(path)
  return svg
}

const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" })
export const moment = ms => ms === null || ms === undefined ? "–" : moments.format(ms)

// Ask before what cannot be taken back: whether it was confirmed. Fails when the page is locked meanwhile.
export function confirmed(what, yes) {
  const dialog = get("confirm")
  get("confirm-what").textContent = what
  get("confirm-yes").textContent = yes
  dialog.returnValue = "no"
  dialog.showModal()
  return new Promise((resolve, reject) => {
    dialog.addEventListener("close", () => {
      if (dialog.returnValue === "locked") reject(new CallError(0, "locked", ""))
      resolve(dialog.returnValue === "yes")
    }, { once: true })
  })
}

// Let a form or a button do its work, once at a time, and say how it went.
export function works(element, event, result, work) {
  const buttons = element.matches("form") ? element.querySelectorAll("button:not([type])") : [element]
  element.addEventListener(event, async happened => {
    happened.preventDefault()
    if (buttons[0].ariaBusy === "true") return
    buttons.forEach(button => { button.ariaBusy = "true" })
    say(result, "")
    try {
      const told = await work()
      if (told) say(result, told, "good")
    } catch (error) {
      if (error.code !== "locked") say(result, error.message, "bad")
    } finally {
      buttons.forEach(button => { button.ariaBusy = null })
    }
  })
}
