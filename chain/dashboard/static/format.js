// Numbers, amounts, times and addresses as people read them. Amounts are exact: BigInt in, text out.

// What strangers wrote, such as a task's name, without what turns round the text behind it or cannot be seen: as
// `printable` shows it in terminals, but for line ends, and the joiners of scripts and emoji, which do neither.
export const printable = (text) => text.replace(/(?![\t\n\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?');

let token = { symbol: 'POT', decimals: 12 };

export function useToken(properties) {
  token = { symbol: properties.tokenSymbol, decimals: properties.tokenDecimals };
}

export const tokenSymbol = () => token.symbol;

// Planck as tokens, `1,234.5 POT`: exact, without needless zeros. `places` cuts the fraction for tables.
export function amount(planck, { places = token.decimals, unit = true } = {}) {
  const value = BigInt(planck);
  const size = 10n ** BigInt(token.decimals);
  const absolute = value < 0n ? -value : value;
  const digits = (absolute % size).toString().padStart(token.decimals, '0').slice(0, places).replace(/0+$/, '');
  const whole = (absolute / size).toString().replace(/\B(?=(\d{3})+$)/g, ',');
  const isCut = places < token.decimals && digits === '' && whole === '0' && absolute > 0n;
  const text = isCut ? `<0.${'0'.repeat(places - 1)}1` : `${whole}${digits && '.'}${digits}`;
  return `${value < 0n ? '−' : ''}${text}${unit ? ` ${token.symbol}` : ''}`;
}

// The planck in a decimal number of tokens; an Error says what is wrong with it.
export function planck(text) {
  const found = /^(\d{1,30})(?:\.(\d*))?$/.exec(text.trim());
  if (!found) throw new Error('an amount such as 1.5 is expected');
  const fraction = found[2] ?? '';
  if (fraction.length > token.decimals) throw new Error(`${token.symbol} has ${token.decimals} decimals`);
  return BigInt(found[1] + fraction.padEnd(token.decimals, '0'));
}

export const count = (value) => Number(value).toLocaleString('en-US');
export const plural = (value, noun, several = `${noun}s`) => `${count(value)} ${Number(value) === 1 ? noun : several}`;
// A round that is not evaluated has neither loss nor accuracy.
export const percent = (share, places = 1) => (share === null ? '–' : `${(100 * share).toFixed(places)} %`);
export const loss = (value) => (value === null ? '–' : value.toFixed(4));

export function bytes(value) {
  if (value < 1024) return `${count(value)} B`;
  return value < 1024 ** 2 ? `${(value / 1024).toFixed(1)} KiB` : `${(value / 1024 ** 2).toFixed(1)} MiB`;
}

// A span of time in its greatest unit.
export function span(ms) {
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

export const ago = (ms) => (ms < 1000 ? 'just now' : `${ms < 10_000 ? `${Math.floor(ms / 1000)} s` : span(ms)} ago`);

export const dateTime = (ms) => new Date(ms).toISOString().replace('T', ' ').replace(/\.\d+Z$/, ' UTC');

// `transfer_keep_alive` stays as the chain calls it; fields are split into words.
export const words = (name) => name.replace(/_/g, ' ').replace(/([a-z])([A-Z])/g, (_, a, b) => `${a} ${b.toLowerCase()}`);

// Bytes that are readable text, as names are; null for any other.
export function textOf(hex) {
  if (!/^0x(?:[0-9a-f]{2}){1,64}$/.test(hex)) return null;
  try {
    const octets = Uint8Array.from(hex.slice(2).match(/../g), (pair) => parseInt(pair, 16));
    const text = new TextDecoder('utf-8', { fatal: true }).decode(octets);
    return /^[^\p{C}]+$/u.test(text) ? text : null;
  } catch {
    return null;
  }
}
