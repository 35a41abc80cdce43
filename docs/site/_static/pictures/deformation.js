// §3.1: nine vectors on a 3 x 3 grid, interpolated bicubically, bend a section.
(function (N) {
  "use strict";
  const SIZE = 128;
  const compute = N.compute.deformation = {
    // field[c][y][x] = sum over the grid of basis[y][a] vectors[c][a][b] basis[x][b]     (2, size, size)
    field(vectors, basis) {
      return vectors.map(plane => {
        const half = basis.map(row => [0, 1, 2].map(b => row.reduce((sum, value, a) => sum + value * plane[a][b], 0)));
        return half.map(row => basis.map(column => row.reduce((sum, value, b) => sum + value * column[b], 0)));
      });
    },
    mirror(i, length) {
      const period = 2 * (length - 1), k = ((i % period) + period) % period;
      return k < length ? k : period - k;
    },
    // The grey value at a place between pixels; outside, the image is mirrored.
    read(grey, y, x) {
      const y0 = Math.floor(y), x0 = Math.floor(x), fy = y - y0, fx = x - x0;
      const at = (i, j) => grey[compute.mirror(i, SIZE) * SIZE + compute.mirror(j, SIZE)];
      return (1 - fy) * ((1 - fx) * at(y0, x0) + fx * at(y0, x0 + 1)) + fy * ((1 - fx) * at(y0 + 1, x0) + fx * at(y0 + 1, x0 + 1));
    },
  };

  N.picture("deformation", (place, numbers) => {
    const grey = N.bytes(numbers.image.grey), edge = 12, places = [0, (SIZE - 1) / 2, SIZE - 1];
    const zeros = () => [0, 1].map(() => [0, 1, 2].map(() => [0, 0, 0]));
    let vectors = zeros(), lines = true, chosen = null;
    const canvas = N.canvas(SIZE, SIZE, "the bent section");
    const svg = N.element("svg", {viewBox: `${-edge} ${-edge} ${SIZE + 2 * edge} ${SIZE + 2 * edge}`, class: "np-vectors"});
    const says = N.element("p", {class: "np-says", "aria-live": "polite"});

    function draw() {
      const [dy, dx] = compute.field(vectors, numbers.basis);
      canvas.paint(i => {
        const y = Math.floor(i / SIZE), x = i % SIZE, sy = y + dy[y][x], sx = x + dx[y][x];
        const value = Math.round(compute.read(grey, sy, sx));
        const near = v => Math.abs(v / 16 - Math.round(v / 16)) < 0.035;
        return lines && (near(sy) || near(sx)) ? [230, 159, 0] : [value, value, value];
      });
      svg.replaceChildren();
      places.forEach((y, a) => places.forEach((x, b) => {
        const [v, u] = [vectors[0][a][b], vectors[1][a][b]];
        const knob = N.element("circle", {cx: x + u, cy: y + v, r: 3.5, class: "np-knob", tabindex: "0", role: "slider",
          "aria-label": `vector in row ${a + 1}, column ${b + 1}`, "aria-valuenow": Math.round(Math.hypot(v, u)),
          "aria-valuetext": `${v.toFixed(0)} down, ${u.toFixed(0)} right`, "data-knob": `${a},${b}`});
        knob.addEventListener("pointerdown", event => { chosen = [a, b]; svg.setPointerCapture(event.pointerId); event.preventDefault(); });
        knob.addEventListener("keydown", event => {
          const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
          if (!step) return;
          event.preventDefault();
          move(a, b, v + 2 * step[0], u + 2 * step[1]);
          svg.querySelector(`[data-knob="${a},${b}"]`).focus();
        });
        svg.append(N.element("line", {x1: x, y1: y, x2: x + u, y2: y + v, class: "np-vector"}), knob);
      }));
      const all = vectors.flat(2), spread = Math.sqrt(all.reduce((sum, v) => sum + v * v, 0) / all.length);
      says.textContent = `A pixel takes its value from where the field points. Root mean square of the 18 numbers: ${spread.toFixed(1)} pixels; the paper draws them with 10.`;
      says.dataset.spread = spread;
    }

    function move(a, b, v, u) {
      const limit = t => Math.min(40, Math.max(-40, t));
      vectors[0][a][b] = limit(v);
      vectors[1][a][b] = limit(u);
      draw();
    }

    svg.addEventListener("pointermove", event => {
      if (!chosen) return;
      const whole = SIZE + 2 * edge, [x, y] = N.position(event, svg, whole, whole);
      move(...chosen, y - edge - places[chosen[0]], x - edge - places[chosen[1]]);
    });
    for (const name of ["pointerup", "pointercancel"]) svg.addEventListener(name, () => { chosen = null; });

    const gaussian = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    const drawn = N.element("button", {type: "button", class: "np-tab", onclick: () => {
      vectors = vectors.map(plane => plane.map(row => row.map(() => 10 * gaussian())));
      draw();
    }}, "draw nine vectors, 10 pixels");
    const flat = N.element("button", {type: "button", class: "np-tab", onclick: () => { vectors = zeros(); draw(); }}, "straighten");
    const grid = N.toggle("show grid lines", true, on => { lines = on; draw(); });
    N.frame(place, "The elastic deformation of §3.1", "Drag a knob, or tab to it and use the arrow keys.",
      N.element("div", {class: "np-tabs"}, drawn, flat, grid.row),
      N.element("div", {class: "np-stack"}, canvas, svg), says);
    draw();
  });
})(window.NPUNET);
