// The node's WebSocket: requests, subscriptions that outlive a lost connection, and coming back by itself.

const REQUEST_MS = 20_000;
// More would wait for an answer only on a page that asks without end.
const WAITING_MAX = 128;
// A connection that nothing came over for so long is asked whether it is still there.
const QUIET_MS = 15_000;
const RETRY_MS_FIRST = 500;
const RETRY_MS_MAX = 15_000;

export class RpcError extends Error {
  constructor({ code, message, data }) {
    super(data === undefined ? message : `${message}: ${data}`);
    this.code = code;
  }
}

export class Disconnected extends Error {}

// JSON with every whole number exact: what a double cannot hold becomes a BigInt.
export function parse(text) {
  const marked = text.replace(/"(?:[^"\\]|\\.)*"|-?\d{16,}(?=[,\]}])/g, (found) => (found[0] === '"' ? found : `"\u0001${found}"`));
  if (marked.length === text.length) return JSON.parse(text);
  return JSON.parse(marked, (_, value) => (typeof value === 'string' && value[0] === '\u0001' ? BigInt(value.slice(1)) : value));
}

export class Rpc {
  #url;
  #socket = null;
  #nextId = 1;
  #waiting = new Map(); // by request id
  #kept = new Set(); // subscriptions that are wanted
  #live = new Map(); // the same by the id that the node gave them
  #early = new Map(); // what came for an id that we do not know yet
  #retryMs = RETRY_MS_FIRST;
  #timer = null;
  #heardAt = 0;
  #onState;

  // `onState` hears 'connecting', 'open', and 'closed' with the milliseconds until the next try.
  constructor(url, onState) {
    this.#url = url;
    this.#onState = onState;
    setInterval(() => this.isOpen && Date.now() - this.#heardAt > QUIET_MS && this.request('system_name').catch(() => {}), QUIET_MS);
    window.addEventListener('online', () => this.tryNow());
    document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && this.tryNow());
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  connect() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#onState('connecting');
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => {
      this.#heardAt = Date.now();
      this.#retryMs = RETRY_MS_FIRST;
      for (const kept of this.#kept) this.#open(kept);
      this.#onState('open');
    };
    socket.onmessage = ({ data }) => {
      this.#heardAt = Date.now();
      this.#received(parse(data));
    };
    socket.onclose = () => this.#closed();
  }

  // Does not wait for the next try.
  tryNow() {
    if (this.#timer !== null) this.connect();
  }

  #drop() {
    this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
    this.#closed();
  }

  #closed() {
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new Disconnected('the connection to the node was lost'));
    }
    this.#waiting.clear();
    this.#live.clear();
    this.#early.clear();
    for (const kept of [...this.#kept]) {
      if (kept.once) {
        this.#kept.delete(kept);
        kept.lost();
      }
    }
    // A crowd of pages does not come back at once.
    const wait = this.#retryMs * (0.75 + Math.random() / 2);
    this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MS_MAX);
    this.#timer = setTimeout(() => this.connect(), wait);
    this.#onState('closed', wait);
  }

  // The result of one call; rejects with RpcError, or Disconnected.
  request(method, params = []) {
    if (!this.isOpen) return Promise.reject(new Disconnected('not connected to the node'));
    if (this.#waiting.size >= WAITING_MAX) return Promise.reject(new Error(`${method}: too many requests wait already`));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new Error(`${method}: the node did not answer in ${REQUEST_MS / 1000} s`));
        // A line that is dead, which nobody has told the browser: waiting for its end would take minutes.
        if (Date.now() - this.#heardAt > REQUEST_MS && this.isOpen) this.#drop();
      }, REQUEST_MS);
      this.#waiting.set(id, { resolve, reject, timer });
      this.#socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }));
    });
  }

  // Hears every item for as long as the page lives, over however many connections.
  subscribe(method, params, onItem) {
    const kept = { method, params, onItem, once: false };
    this.#kept.add(kept);
    if (this.isOpen) this.#open(kept);
  }

  // Hears the items of one subscription until it returns true; rejects when the connection ends before.
  async watch(method, params, unsubscribe, onItem) {
    const id = await this.request(method, params);
    return new Promise((resolve, reject) => {
      const end = () => {
        this.#kept.delete(kept);
        this.#live.delete(id);
      };
      const kept = {
        once: true,
        lost: () => reject(new Disconnected('the connection was lost; look for the transaction in the last blocks')),
        onItem: (item) => {
          try {
            if (!onItem(item)) return;
            resolve();
          } catch (error) {
            reject(error);
          }
          end();
          this.request(unsubscribe, [id]).catch(() => {});
        },
      };
      this.#kept.add(kept);
      this.#take(id, kept);
    });
  }

  async #open(kept) {
    try {
      this.#take(await this.request(kept.method, kept.params), kept);
    } catch (error) {
      if (!(error instanceof Disconnected)) console.error(`${kept.method}: ${error.message}`);
    }
  }

  #take(id, kept) {
    this.#live.set(id, kept);
    const early = this.#early.get(id) ?? [];
    this.#early.delete(id);
    early.forEach((item) => kept.onItem(item));
  }

  #received(message) {
    if (message.id === undefined) {
      const { subscription, result } = message.params;
      const kept = this.#live.get(subscription);
      if (kept) kept.onItem(result);
      else if (this.#early.size < WAITING_MAX) this.#early.set(subscription, [...(this.#early.get(subscription) ?? []), result].slice(-8));
      return;
    }
    const waiting = this.#waiting.get(message.id);
    if (!waiting) return;
    this.#waiting.delete(message.id);
    clearTimeout(waiting.timer);
    if (message.error) waiting.reject(new RpcError(message.error));
    else waiting.resolve(message.result);
  }
}
