// A curve as an element of its own: drawn in the pixels that it has, so that its text stays readable on a phone.
import { h } from './dom.js';

const HEIGHT = 190;
const LEFT = 52;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 26;
const TICKS_MAX = 6;

class Curve extends HTMLElement {
  #data = null;
  #drawn = '';
  #observer = new ResizeObserver(() => this.#draw());

  // `{ points: [[x, y]…], label, format, unit }`, with x a round.
  set data(value) {
    this.#data = value;
    this.#draw();
  }

  get data() {
    return this.#data;
  }

  connectedCallback() {
    this.#observer.observe(this);
  }

  disconnectedCallback() {
    this.#observer.disconnect();
  }

  #draw() {
    const width = Math.floor(this.clientWidth);
    const { points, label, format, unit } = this.#data ?? { points: [] };
    const stamp = `${width} ${points.length} ${points.at(-1)} ${points[0]}`;
    if (width < 60 || stamp === this.#drawn) return;
    this.#drawn = stamp;
    const xs = points.map(([x]) => x);
    const ys = points.map(([, y]) => y);
    const [first, last] = [xs[0], xs.at(-1)];
    const ticks = scale(Math.min(...ys), Math.max(...ys));
    const [low, high] = [ticks[0], ticks.at(-1)];
    const x = (value) => LEFT + ((width - LEFT - RIGHT) * (value - first)) / Math.max(1, last - first);
    const y = (value) => TOP + ((HEIGHT - TOP - BOTTOM) * (high - value)) / (high - low);
    const path = points.map(([px, py], index) => `${index ? 'L' : 'M'}${x(px).toFixed(1)} ${y(py).toFixed(1)}`).join('');
    const summary = `${label}: ${format(ys[0])} in round ${first}, ${format(ys.at(-1))} in round ${last}`;
    const readout = h('text', { class: 'readout', x: width - RIGHT, y: TOP + 2, 'text-anchor': 'end' });
    const marker = h('circle', { class: 'marker', r: 4, visibility: 'hidden' });
    const svg = h(
      'svg',
      { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: 'img', 'aria-label': summary },
      ticks.map((value) => [
        h('line', { class: 'grid', x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
        h('text', { x: LEFT - 8, y: y(value) + 4, 'text-anchor': 'end' }, format(value, high - low)),
      ]),
      h('text', { x: LEFT, y: HEIGHT - 6 }, `${unit} ${first}`),
      last > first && h('text', { x: width - RIGHT, y: HEIGHT - 6, 'text-anchor': 'end' }, last),
      h('path', { class: 'line', d: path }),
      points.length === 1 && h('circle', { class: 'dot', cx: x(first), cy: y(ys[0]), r: 3 }),
      marker,
      readout,
    );
    svg.onpointermove = ({ offsetX }) => {
      const nearest = points.reduce((best, point) => (Math.abs(x(point[0]) - offsetX) < Math.abs(x(best[0]) - offsetX) ? point : best));
      marker.setAttribute('cx', x(nearest[0]));
      marker.setAttribute('cy', y(nearest[1]));
      marker.setAttribute('visibility', 'visible');
      readout.textContent = `${unit} ${nearest[0]}: ${format(nearest[1])}`;
    };
    svg.onpointerleave = () => {
      marker.setAttribute('visibility', 'hidden');
      readout.textContent = '';
    };
    this.replaceChildren(svg);
  }
}

// Round numbers around the values, also where they are all the same.
function scale(least, most) {
  const range = most - least || Math.abs(most) || 1;
  const magnitude = 10 ** Math.floor(Math.log10(range / (TICKS_MAX - 1)));
  for (const factor of [1, 2, 2.5, 5, 10, 20]) {
    const step = factor * magnitude;
    const [first, last] = [Math.floor(least / step), Math.ceil(most / step)];
    const end = last === first ? last + 1 : last;
    if (end - first < TICKS_MAX) return Array.from({ length: end - first + 1 }, (_, index) => (first + index) * step);
  }
  return [least, most];
}

customElements.define('pot-curve', Curve);

export const curve = (data) => h('pot-curve', { data });
