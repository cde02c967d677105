// Points written into the pixels of an image, and found again by a grid. Coordinates run from 0 to 65,535.

const EDGE = 65536;
const CELLS = 256; // on each side of the grid
const SHIFT = 8; // 65,536 / 256 cells

/** Return {start, member}: the points of cell c are member[start[c]] … member[start[c + 1] - 1]. */
function gridOf(x, y) {
  const start = new Uint32Array(CELLS * CELLS + 1), member = new Uint32Array(x.length);
  for (let i = 0; i < x.length; i++) start[(y[i] >> SHIFT) * CELLS + (x[i] >> SHIFT) + 1]++;
  for (let c = 0; c < CELLS * CELLS; c++) start[c + 1] += start[c];
  const next = start.slice();
  for (let i = 0; i < x.length; i++) member[next[(y[i] >> SHIFT) * CELLS + (x[i] >> SHIFT)]++] = i;
  return { start, member };
}

export class Plane {
  constructor(canvas, x, y) {
    Object.assign(this, { canvas, x, y, n: x.length, colour: new Uint32Array(x.length), ground: 0xffffffff, grid: gridOf(x, y) });
    this.context = canvas.getContext("2d", { alpha: false });
    this.view = { x: EDGE / 2, y: EDGE / 2, scale: 1 }; // middle, and pixels to a unit
  }

  resize(width, height) {
    const ratio = Math.min(devicePixelRatio || 1, 2), first = !this.width;
    Object.assign(this, { ratio, width: Math.round(width * ratio), height: Math.round(height * ratio) });
    this.canvas.width = this.width;
    this.canvas.height = this.height;
    this.image = this.context.createImageData(this.width, this.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    if (first) this.fit();
  }

  fit() { this.view = { x: EDGE / 2, y: EDGE / 2, scale: this.least() }; }
  least() { return 0.96 * Math.min(this.width, this.height) / EDGE; }
  zoom() { return this.view.scale / this.least(); }

  /** Zoom by `factor` and keep what is at the pixel (px, py) in its place. */
  zoomAt(factor, px = this.width / 2, py = this.height / 2) {
    const at = this.at(px, py), scale = Math.min(Math.max(this.view.scale * factor, this.least() * 0.7), this.least() * 400);
    this.view = { scale, x: at.x - (px - this.width / 2) / scale, y: at.y - (py - this.height / 2) / scale };
    this.hold();
  }
  move(dx, dy) { this.view.x -= dx / this.view.scale; this.view.y -= dy / this.view.scale; this.hold(); }
  hold() { for (const axis of ["x", "y"]) this.view[axis] = Math.min(Math.max(this.view[axis], 0), EDGE); }
  at(px, py) { return { x: this.view.x + (px - this.width / 2) / this.view.scale, y: this.view.y + (py - this.height / 2) / this.view.scale }; }
  to(i) { return [(this.x[i] - this.view.x) * this.view.scale + this.width / 2, (this.y[i] - this.view.y) * this.view.scale + this.height / 2]; }

  /** Diameter of a point in pixels: it grows more slowly than the map. */
  size() { return Math.max(1, Math.min(14, this.ratio * (this.n > 20000 ? 1.5 : 3) * Math.sqrt(this.zoom()))); }

  draw() {
    const { x, y, colour, pixels, width, height, n } = this, scale = this.view.scale;
    const left = width / 2 - this.view.x * scale, top = height / 2 - this.view.y * scale;
    pixels.fill(this.ground);
    const offsets = stamp(this.size(), width), reach = Math.ceil(this.size() / 2) + 1;
    for (let i = 0; i < n; i++) {
      const px = (x[i] * scale + left) | 0, py = (y[i] * scale + top) | 0;
      if (px < reach || py < reach || px >= width - reach || py >= height - reach) continue;
      const at = py * width + px, c = colour[i];
      for (let o = 0; o < offsets.length; o++) pixels[at + offsets[o]] = c;
    }
    this.context.putImageData(this.image, 0, 0);
  }

  /** Call `visit` with every point between two corners. */
  within(x0, y0, x1, y1, visit) {
    const cell = (value) => Math.min(Math.max(value >> SHIFT, 0), CELLS - 1), { start, member } = this.grid;
    for (let row = cell(y0); row <= cell(y1); row++) {
      for (let at = start[row * CELLS + cell(x0)]; at < start[row * CELLS + cell(x1) + 1]; at++) {
        const i = member[at];
        if (this.x[i] >= x0 && this.x[i] <= x1 && this.y[i] >= y0 && this.y[i] <= y1) visit(i);
      }
    }
  }

  /** Return the point nearest to a pixel, at most `reach` pixels away; -1 for none. */
  hit(px, py, reach = 9 * this.ratio) {
    const { x, y } = this.at(px, py), far = Math.max(reach, this.size()) / this.view.scale;
    let best = -1, least = far * far;
    this.within(x - far, y - far, x + far, y + far, (i) => {
      const distance = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
      if (distance <= least) { least = distance; best = i; }
    });
    return best;
  }

  inView() {
    const from = this.at(0, 0), to = this.at(this.width, this.height), found = [];
    this.within(from.x, from.y, to.x, to.y, (i) => found.push(i));
    return found;
  }

  /** Return the points inside a polygon of pixels [[x, y], …]. */
  inside(polygon) {
    const corners = polygon.map(([px, py]) => this.at(px, py)), found = [];
    const xs = corners.map((one) => one.x), ys = corners.map((one) => one.y);
    this.within(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys), (i) => {
      let within = false;
      for (let a = 0, b = corners.length - 1; a < corners.length; b = a++) {
        const one = corners[a], other = corners[b];
        if ((one.y > this.y[i]) !== (other.y > this.y[i])
          && this.x[i] < (other.x - one.x) * (this.y[i] - one.y) / (other.y - one.y) + one.x) within = !within;
      }
      if (within) found.push(i);
    });
    return found;
  }
}

/** Return offsets of the pixels of a disc; up to three pixels it is a square. */
function stamp(size, width) {
  const radius = size / 2, offsets = [], low = -Math.floor((Math.round(size) - 1) / 2), high = low + Math.round(size) - 1;
  for (let dy = low; dy <= high; dy++) {
    for (let dx = low; dx <= high; dx++) {
      if (size < 4 || (dx - (low + high) / 2) ** 2 + (dy - (low + high) / 2) ** 2 <= radius * radius) offsets.push(dy * width + dx);
    }
  }
  return offsets;
}
