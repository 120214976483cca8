// Calls of the API. The key is here, in memory, and nowhere else: no storage, no cookie, no URL.

const WAIT_MS = 6000

let key = ""
let session = new AbortController()

export class CallError extends Error {
  constructor(status, code, message) {
    super(message)
    this.status = status
    this.code = code
  }
}

export const unlock = given => { key = given }

// Forget the key; calls that are under way end as if they had never been made.
export function lock() {
  key = ""
  session.abort()
  session = new AbortController()
}

// What is answered, decoded unless `read` says otherwise. Raises `CallError`.
export async function call(method, path, body, read = JSON.parse) {
  const { status, text } = await ask(method, path, body)
  if (status === 200 || status === 202) return read(text)
  let told = {}
  try { told = JSON.parse(text).error } catch { /* a proxy's own page */ }
  throw new CallError(status, told.code ?? "", told.message ?? `HTTP ${status}`)
}

async function ask(method, path, body) {
  const own = session.signal
  const headers = { Accept: "application/json, text/plain" }
  if (key) headers.Authorization = `Bearer ${key}`
  if (body !== undefined) headers["Content-Type"] = "application/json"
  try {
    const answer = await fetch(path, {
      method, headers, body, signal: AbortSignal.any([own, AbortSignal.timeout(WAIT_MS)]),
      cache: "no-store", credentials: "omit", mode: "same-origin", redirect: "error",
    })
    return { status: answer.status, text: await answer.text() }
  } catch (error) {
    if (own.aborted) throw new CallError(0, "locked", "locked meanwhile")
    const late = error.name === "TimeoutError" && `no answer within ${WAIT_MS / 1000} s`
    throw new CallError(0, "away", late || "the pod cannot be reached")
  }
}

// A user or an id as a part of a path.
export function part(text) {
  // Browsers resolve these two, however they are written.
  if (text === "." || text === "..") {
    throw new CallError(0, "bad_name", `a browser cannot ask for “${text}”`)
  }
  try {
    return encodeURIComponent(text)
  } catch {
    throw new CallError(0, "bad_name", "is not a text")
  }
}
