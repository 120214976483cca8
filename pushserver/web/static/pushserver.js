/**
 * pushserver's client for browsers: it stays connected, and hands on each message once.
 *
 *     import { Client } from "https://push.example/pushserver.js";
 *
 *     const client = new Client("wss://push.example/ws", { token: async () => (await fetch("/token")).text() });
 *     client.on("message", ({ id, time, content }) => show(content));
 *     client.open();
 *
 * The types are in pushserver.d.ts, the protocol in docs/protocol.md. Nothing else is needed.
 */

const GOING_AWAY = 1001, ABNORMAL_CLOSURE = 1006, SERVICE_RESTART = 1012, NOT_AUTHENTICATED = 4401;
const NO_PROGRESS = 4408, RATE = 4429;
const COMES_BACK = new Set([GOING_AWAY, ABNORMAL_CLOSURE, SERVICE_RESTART, NO_PROGRESS, RATE]);

const RETRY = { min_ms: 500, max_ms: 20_000 }; // until `live` says otherwise
const MAX_RETRY_MS = 3_600_000;
const TOKEN_MS = 30_000; // how long `token()` may take
const CONNECT_MS = 20_000; // from the handshake to `welcome`
const QUIET_MS = 60_000; // after so long without a frame the path is asked whether it is there
const PONG_MS = 5_000; // and has to answer within this
const REFRESH_MIN_MS = 1_000; // with a clock that is wrong every token may seem to be nearly over
const REFRESH_AGAIN_MS = 5_000; // after a refresh that failed
const ACK_MS = 50; // acks that come within it share a frame: the server bounds frames a second
const MAX_ACKS = 256; // ids in one frame
const SAVE_MS = 250; // how late the storage may be
const MAX_SEEN = 2000; // ids that are remembered; the oldest go first
const MAX_TIMER_MS = 2 ** 31 - 1; // what is later fires at once
const SUBPROTOCOL_TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

export class Client {
  #url; #askToken; #ack; #protocol; #seen;
  #listeners = new Map();
  #state = "closed";
  #socket = null;
  #attempt = 0; // what was begun for an earlier one comes to nothing
  #token = ""; // kept until it is refused, or over; empty: ask
  #expires = Infinity; // of the token, in ms by this machine's clock
  #isFresh = false; // asked for by this attempt
  #welcomed = false;
  #retry = RETRY;
  #ceiling = RETRY.min_ms;
  #heardAt = 0;
  #working = new Set(); // with ack: ids of this user whose listeners are not done
  #unacked = [];
  #timers = {};
  #page = null; // ends the listening to the page
  #hidden = false; // left, and perhaps to be shown again as it was

  constructor(url, { token, ack = false, storage = null }) {
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    if (!["ws:", "wss:"].includes(this.#url.protocol)) throw new TypeError("url must be ws:// or wss://");
    if (typeof token !== "function" && typeof token !== "string") throw new TypeError("token is needed");
    this.#askToken = typeof token === "function" ? token : null;
    this.#token = this.#askToken ? "" : token;
    this.#ack = ack;
    this.#protocol = ack ? "pushserver.v1.ack" : "pushserver.v1";
    this.#seen = new Seen(storage, error => this.#report("storage", error));
  }

  get state() {
    return this.#state;
  }

  on(type, listener) {
    if (!this.#listeners.has(type)) this.#listeners.set(type, new Set());
    this.#listeners.get(type).add(listener);
    return () => this.#listeners.get(type).delete(listener);
  }

  open() {
    if (this.#state !== "closed") return;
    this.#listenToPage();
    this.#connect();
  }

  close() {
    if (this.#state === "closed") return;
    this.#sendAcks();
    this.#end(1000, "");
  }

  // -- connect, wait, end

  async #connect() {
    const attempt = ++this.#attempt;
    this.#welcomed = false;
    this.#to("connecting");
    if (attempt !== this.#attempt) return; // a listener closed it
    try {
      this.#isFresh = this.#askToken !== null && (!this.#token || this.#expires <= Date.now());
      if (this.#isFresh) {
        const token = await this.#newToken();
        if (attempt !== this.#attempt) return;
        this.#token = token;
        this.#expires = Infinity;
      }
    } catch (error) {
      if (attempt !== this.#attempt) return;
      this.#report("token", error);
      this.#wait();
      return;
    }
    try {
      // Looked at here, for the browser's own error would quote it.
      if (!SUBPROTOCOL_TOKEN.test(this.#token)) throw new TypeError("token is not of a token's characters");
      this.#follow(new WebSocket(this.#url, [this.#protocol, `bearer.${this.#token}`]));
    } catch (error) {
      this.#report("connect", error);
      this.#end(ABNORMAL_CLOSURE, "cannot connect");
    }
  }

  #follow(socket) {
    this.#socket = socket;
    this.#later("connect", CONNECT_MS, () => this.#abandon());
    socket.onmessage = event => this.#received(event.data);
    socket.onclose = event => this.#closed(event.code, event.reason);
  }

  #closed(code, reason) {
    const mayGetAnother = this.#askToken && (this.#welcomed || !this.#isFresh);
    this.#letGo();
    if (code === NOT_AUTHENTICATED && mayGetAnother) {
      this.#token = "";
      this.#wait();
    } else if (COMES_BACK.has(code)) {
      this.#wait();
    } else {
      this.#end(code, reason);
    }
  }

  /** The path is dead though the socket does not know; its own goodbye could take minutes. */
  #abandon() {
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#closed(ABNORMAL_CLOSURE, "");
  }

  #letGo() {
    this.#attempt += 1;
    this.#socket = null;
    this.#unacked = []; // what was not confirmed comes again, and is confirmed then
    for (const name of ["connect", "quiet", "pong", "refresh", "ack", "retry"]) this.#stop(name);
  }

  /** Full jitter in a range that doubles with each try. */
  #wait() {
    const { min_ms, max_ms } = this.#retry;
    this.#ceiling = Math.min(max_ms, this.#ceiling * 2);
    const isOffline = globalThis.navigator?.onLine === false;
    this.#later("retry", isOffline ? max_ms : between(min_ms, this.#ceiling), () => this.#connect());
    this.#to("waiting");
  }

  #end(code, reason) {
    const socket = this.#socket;
    if (socket) socket.onmessage = socket.onclose = null;
    this.#letGo();
    socket?.close(1000);
    this.#page?.abort();
    this.#stop("save");
    this.#seen.save();
    if (this.#askToken) this.#token = "";
    this.#to("closed", { code, reason });
  }

  // -- what comes

  #received(text) {
    this.#heardAt = performance.now();
    this.#stop("pong");
    let frame;
    try {
      frame = JSON.parse(text);
    } catch (error) {
      this.#report("frame", error);
      return;
    }
    if (frame?.type === "message") this.#message(frame);
    else if (frame?.type === "welcome") this.#welcome(frame);
    else if (frame?.type === "live") this.#live(frame);
    else if (frame?.type === "error") this.#refused(frame);
  }

  #welcome({ type, ...welcome }) {
    const isFirst = !this.#welcomed;
    this.#welcomed = true;
    this.#stop("connect");
    if (this.#seen.of(welcome.user)) this.#working = new Set();
    // By this machine's clock, which may be wrong: then the token expires, and 4401 says so.
    this.#expires = welcome.expires * 1000;
    const left = this.#expires - Date.now();
    const due = Math.max(left * between(0.7, 0.9), REFRESH_MIN_MS);
    if (this.#askToken && left > 0) this.#later("refresh", due, () => this.#refresh());
    if (isFirst) {
      this.#listenForQuiet();
      this.#to("open");
    }
    this.#emit("welcome", welcome);
  }

  #live({ type, ...live }) {
    const { min_ms, max_ms } = live.retry ?? {};
    if (0 < min_ms && min_ms <= max_ms) {
      this.#retry = { min_ms: Math.min(min_ms, MAX_RETRY_MS), max_ms: Math.min(max_ms, MAX_RETRY_MS) };
    }
    this.#ceiling = this.#retry.min_ms;
    this.#to("live");
    this.#emit("live", live);
  }

  #refused({ code, message }) {
    if (code === "unavailable") {
      // It was a refresh, the only thing that is asked of the server's storage.
      this.#later("refresh", REFRESH_AGAIN_MS, () => this.#send({ type: "refresh", token: this.#token }));
    }
    this.#tell({ code, message });
  }

  async #message({ id, time, content }) {
    if (this.#seen.has(id)) {
      if (this.#ack) this.#acknowledge(id); // it came again because it was not settled
    } else if (!this.#ack) {
      this.#remember(id);
      this.#emit("message", { id, time, content });
    } else if (!this.#working.has(id)) {
      const working = this.#working.add(id);
      const isDone = await this.#emit("message", { id, time, content });
      working.delete(id);
      if (!isDone || working !== this.#working) return; // it was another user's, who may have one of this id
      this.#remember(id);
      this.#acknowledge(id);
    }
  }

  #remember(id) {
    this.#seen.add(id);
    this.#later("save", SAVE_MS, () => this.#seen.save(), true);
  }

  // -- what goes

  #send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #acknowledge(id) {
    if (!this.#welcomed || !this.#socket) return;
    this.#unacked.push(id);
    this.#later("ack", ACK_MS, () => this.#sendAcks(), true);
  }

  #sendAcks() {
    while (this.#unacked.length) this.#send({ type: "ack", ids: this.#unacked.splice(0, MAX_ACKS) });
  }

  async #refresh() {
    const attempt = this.#attempt;
    try {
      const token = await this.#newToken();
      // The same again is no news: it will expire, and 4401 asks once more.
      if (attempt !== this.#attempt || token === this.#token) return;
      this.#token = token;
      this.#expires = Infinity; // until `welcome` tells
      this.#send({ type: "refresh", token });
    } catch (error) {
      if (attempt !== this.#attempt) return;
      this.#report("token", error);
      this.#later("refresh", REFRESH_AGAIN_MS, () => this.#refresh());
    }
  }

  async #newToken() {
    let timer;
    const tooLate = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("token() took too long")), TOKEN_MS);
    });
    try {
      const token = await Promise.race([this.#askToken(), tooLate]);
      if (typeof token !== "string" || !token) throw new TypeError("token() must answer a text");
      return token;
    } finally {
      clearTimeout(timer);
    }
  }

  // -- is the path alive?

  #listenForQuiet() {
    this.#heardAt = performance.now();
    const look = () => {
      const left = this.#heardAt + QUIET_MS - performance.now();
      if (left <= 0) this.#doubt();
      this.#later("quiet", left > 0 ? left : QUIET_MS, look);
    };
    this.#later("quiet", QUIET_MS, look);
  }

  #doubt() {
    if (!this.#welcomed || !this.#socket || performance.now() - this.#heardAt < PONG_MS) return;
    this.#send({ type: "ping" });
    this.#later("pong", PONG_MS, () => this.#abandon(), true);
  }

  // -- the page

  #listenToPage() {
    this.#page = new AbortController();
    const listen = (target, type, listener) =>
      target?.addEventListener?.(type, listener, { signal: this.#page.signal });
    listen(globalThis, "online", () => this.#hurry());
    listen(globalThis, "offline", () => this.#state === "waiting" && this.#wait());
    listen(globalThis, "pagehide", () => this.#pageHides());
    listen(globalThis, "pageshow", () => this.#pageShows());
    listen(globalThis.document, "visibilitychange", () => {
      if (document.visibilityState === "visible") this.#hurry();
      else this.#seen.save();
    });
  }

  /** There is reason to hope, or to doubt. */
  #hurry() {
    if (this.#state === "waiting" && !this.#hidden) {
      // Jitter here as well: what brought this page back may have brought many.
      this.#later("retry", between(0, this.#retry.min_ms), () => this.#connect());
    } else {
      this.#doubt();
    }
  }

  /** The page may be kept as it is and shown again later, but not with an open connection. */
  #pageHides() {
    this.#seen.save();
    this.#sendAcks();
    const socket = this.#socket;
    if (socket) socket.onmessage = socket.onclose = null;
    this.#letGo();
    socket?.close(1000);
    this.#hidden = true;
    this.#to("waiting");
  }

  #pageShows() {
    if (!this.#hidden) return;
    this.#hidden = false;
    this.#connect();
  }

  // -- listeners, timers

  #to(state, why = {}) {
    if (state === this.#state) return;
    this.#state = state;
    this.#emit("state", { state, ...why });
  }

  /** Call the listeners in order, now; true once all of them have done their work. */
  async #emit(type, detail) {
    const listeners = [...(this.#listeners.get(type) ?? [])];
    const results = await Promise.allSettled(listeners.map(async listener => listener(detail)));
    const failed = results.filter(result => result.status === "rejected");
    for (const { reason } of failed) this.#report("listener", reason);
    return failed.length === 0;
  }

  #report(code, cause) {
    this.#tell({ code, message: String(cause?.message ?? cause), cause });
  }

  #tell(error) {
    const listeners = this.#listeners.get("error") ?? new Set();
    if (!listeners.size) console.error(`pushserver: ${error.code}: ${error.message}`, error.cause ?? "");
    for (const listener of listeners) {
      // One that fails itself has nobody to be told of it.
      (async () => listener(error))().catch(cause => console.error("pushserver: error listener:", cause));
    }
  }

  /** One timer a name. `keep`: one that runs already stays as it is. */
  #later(name, ms, work, keep = false) {
    if (keep && name in this.#timers) return;
    this.#stop(name);
    this.#timers[name] = setTimeout(() => {
      delete this.#timers[name];
      work();
    }, Math.min(ms, MAX_TIMER_MS));
  }

  #stop(name) {
    clearTimeout(this.#timers[name]);
    delete this.#timers[name];
  }
}

/** The ids of one user's messages that were handed on; in the storage, if there is one, over a reload. */
class Seen {
  #storage; #report;
  #user = null;
  #ids = new Set();
  #isSaved = true;

  constructor(storage, report) {
    this.#storage = storage;
    this.#report = report;
  }

  /** From now on it is this user's: the same id may have been sent to another, too. True if it was another's. */
  of(user) {
    if (user === this.#user) return false;
    this.save();
    this.#user = user;
    this.#ids = new Set(this.#stored());
    return true;
  }

  has(id) {
    return this.#ids.has(id);
  }

  add(id) {
    this.#ids.add(id);
    this.#isSaved = false;
    if (this.#ids.size > MAX_SEEN) this.#ids.delete(this.#ids.values().next().value);
  }

  save() {
    if (this.#isSaved) return;
    this.#isSaved = true;
    try {
      this.#storage?.setItem(this.#key(), JSON.stringify([...this.#ids]));
    } catch (error) {
      this.#report(error); // full, or forbidden: a reload may show again what was shown
    }
  }

  #stored() {
    try {
      const ids = JSON.parse(this.#storage?.getItem(this.#key()) ?? "[]");
      return Array.isArray(ids) ? ids.slice(-MAX_SEEN) : [];
    } catch (error) {
      this.#report(error);
      return [];
    }
  }

  #key() {
    return `pushserver.seen.${this.#user}`;
  }
}

function between(low, high) {
  return low + Math.random() * (high - low);
}
