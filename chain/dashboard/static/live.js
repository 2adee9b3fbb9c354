// What every page shares: the chain as it grows, told by the node over one WebSocket, and bounded in what is kept.
import { Rpc } from './rpc.js';
import { useToken } from './format.js';

// Two minutes of one-second blocks: as many as the widest page shows.
const BLOCKS_MAX = 120;
const FIRST_BLOCKS = 60;
const BLOCKS_AT_ONCE = 40;
// A chain that catches up has hundreds of blocks a second; a page is drawn a few times.
const REFRESH_MS_MIN = 400;

class Live {
  blocks = []; // the newest first, without gaps
  chain = null; // what does not change while the node runs
  node = null; // where it stands: `explorer_now`
  consensus = null;
  state = { kind: 'connecting' };
  #offset = 0;
  #heardAt = new Map(); // when the page heard of a block that was just sealed, by height and in the node's time
  #hasHead = false;
  #listeners = new Set();
  #isRefreshing = false;
  #isStale = false;

  start(url) {
    this.rpc = new Rpc(url, (kind, retryMs) => {
      this.state = { kind, retryAt: retryMs === undefined ? null : Date.now() + retryMs };
      if (kind === 'open') this.#begin();
      else this.#hasHead = false;
      this.#tell();
    });
    this.rpc.subscribe('chain_subscribeFinalizedHeads', [], ({ number }) => {
      this.#hear(Number(number));
      this.refresh();
    });
    document.addEventListener('visibilitychange', () => this.refresh());
    this.rpc.connect();
  }

  // Calls back after everything that is new; what it returns ends that.
  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  // The node's own time: a browser's clock may be wrong.
  now() {
    return Date.now() + this.#offset;
  }

  #hear(height) {
    // The first of a subscription is the head of before.
    if (this.#hasHead && this.node !== null) this.#heardAt.set(height, this.now());
    this.#hasHead = true;
    for (const old of this.#heardAt.keys()) {
      if (this.#heardAt.size <= BLOCKS_MAX) break;
      this.#heardAt.delete(old);
    }
  }

  // Milliseconds from a block's time, which is when it was proposed, to the news that it is final: the mean of the last
  // blocks, and how many of them; null where none was heard of yet.
  lag(most = 30) {
    const heard = this.blocks.filter(({ height, timestamp }) => timestamp !== null && this.#heardAt.has(height)).slice(0, most);
    if (!heard.length) return null;
    const sum = heard.reduce((total, { height, timestamp }) => total + Math.max(0, this.#heardAt.get(height) - timestamp), 0);
    return { ms: sum / heard.length, blocks: heard.length };
  }

  get head() {
    return this.blocks[0] ?? null;
  }

  request(method, params) {
    return this.rpc.request(method, params);
  }

  async #begin() {
    try {
      const names = ['system_chain', 'system_properties', 'system_version', 'system_nodeRoles', 'rpc_methods'];
      const asked = [...names.map((name) => this.request(name)), this.request('chain_getBlockHash', [0])];
      const [name, properties, version, roles, { methods }, genesis] = await Promise.all(asked);
      if (this.chain !== null && this.chain.genesis !== genesis) location.reload(); // another chain answers now
      useToken(properties);
      this.chain = { name, version, roles, genesis, prefix: properties.ss58Format, methods: new Set(methods) };
      this.#tell();
      this.refresh();
    } catch (error) {
      if (this.state.kind === 'open') console.error(error);
    }
  }

  has(method) {
    return this.chain?.methods.has(method) ?? false;
  }

  async refresh() {
    // Nobody looks: the node need not work for this page until somebody does.
    if (this.chain === null || document.visibilityState === 'hidden') return;
    this.#isStale = true;
    if (this.#isRefreshing) return;
    this.#isRefreshing = true;
    try {
      while (this.#isStale && this.rpc.isOpen) {
        this.#isStale = false;
        await this.#read();
        this.#tell();
        await new Promise((resume) => setTimeout(resume, REFRESH_MS_MIN));
      }
    } catch (error) {
      if (this.state.kind === 'open') console.warn(`the page could not be brought up to date: ${error.message}`);
    } finally {
      this.#isRefreshing = false;
    }
  }

  async #read() {
    const [node, consensus] = await Promise.all([this.request('explorer_now'), this.request('consensus_state')]);
    this.#offset = Number(node.now) - Date.now();
    this.node = node;
    this.consensus = consensus;
    const missing = this.head === null ? FIRST_BLOCKS : Math.min(node.height - this.head.height, FIRST_BLOCKS);
    let news = [];
    while (news.length < missing) {
      const before = news.length ? news.at(-1).height : node.height + 1;
      const found = await this.request('explorer_blocks', [Math.min(missing - news.length, BLOCKS_AT_ONCE), before]);
      if (!found.length) break;
      news = news.concat(found);
    }
    if (!news.length) return;
    const follows = this.head !== null && news.at(-1).parentHash === this.head.hash;
    this.blocks = (follows ? news.concat(this.blocks) : news).slice(0, BLOCKS_MAX);
  }

  #tell() {
    for (const listener of this.#listeners) listener();
  }
}

export const live = new Live();

// Milliseconds a block, over the last `most` of them; null where there are too few.
export function blockTime(blocks, most = 30) {
  const timed = blocks.slice(0, most + 1).filter((block) => block.timestamp !== null);
  return timed.length < 2 ? null : (timed[0].timestamp - timed.at(-1).timestamp) / (timed.length - 1);
}

// Who has helped to seal a block: the next one says it, with the votes that came late. Null for the head.
export function sealOf(blocks, index) {
  return index > 0 ? blocks[index - 1].parentSeal : null;
}
