/** A message. Numbers beyond 2^53 have lost digits by `JSON.parse`; a back end sends those as text. */
export interface Message {
  id: string;
  /** When it was sent: milliseconds since 1970 by the server's clock. */
  time: number;
  content: unknown;
}

/** First on each connection, and again after a refresh. */
export interface Welcome {
  connection: string;
  pod: string;
  user: string;
  categories: Record<string, string[]>;
  /** Of the token: seconds since 1970. */
  expires: number;
  version: string;
}

/** What was waiting has been sent; once a connection. */
export interface Live {
  delivered: number;
  /** Messages that this user will not get. */
  missed: { expired: number; evicted: number; parked: number };
  /** Whether messages to categories or everyone may be missing, for the user was away for too long. */
  gap: boolean;
  retry: { min_ms: number; max_ms: number };
}

/**
 * `connecting`: asking for a token, or in the handshake. `open`: what waited is coming. `live`: all of that
 * has come. `waiting`: for the next try. `closed`: until `open()` is called.
 */
export type State = "connecting" | "open" | "live" | "waiting" | "closed";

/** With `closed`: the close code and its reason, 1000 after `close()`. */
export type StateChange =
  | { state: Exclude<State, "closed"> }
  | { state: "closed"; code: number; reason: string };

/** `code`: of the server's error frame, else `token`, `connect`, `frame`, `listener` or `storage`. */
export interface ClientError {
  code: string;
  message: string;
  /** What was thrown, if anything was. */
  cause?: unknown;
}

export interface Events {
  message: Message;
  welcome: Welcome;
  live: Live;
  state: StateChange;
  error: ClientError;
}

export interface Options {
  /**
   * The token, or who gets one. Asked for at the first connect, before the token expires, and after it was
   * refused; in between it is kept. A call that fails or takes 30 s is repeated. With a text, the client
   * ends with 4401 when that expires.
   */
  token: string | (() => string | Promise<string>);
  /**
   * Confirm a message when its listeners have done their work, not when the browser received it. One that
   * throws or rejects leaves it unconfirmed: it comes again with the next connection.
   */
  ack?: boolean;
  /**
   * Where the ids of the last 2000 messages are kept over a reload, `sessionStorage` mostly: of what the
   * server could not settle before, none is then handed on twice.
   */
  storage?: Pick<Storage, "getItem" | "setItem"> | null;
}

/** Stays connected from `open()` until `close()`, and hands on each message once. */
export class Client {
  /** Throws `TypeError` for a URL that is none of ws, wss, http or https, and without a token. */
  constructor(url: string | URL, options: Options);

  readonly state: State;

  /**
   * Call `listener` for each event of a type; what comes back ends that. Listeners may be async. What they
   * throw is an `error` event, and without a listener for those it is written to the console.
   */
  on<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => unknown): () => void;

  /** Connect, and come back whenever the connection is lost. Twice is once. */
  open(): void;

  /** Confirm what was handed on, and disconnect. Twice is once. `open()` begins anew. */
  close(): void;
}
