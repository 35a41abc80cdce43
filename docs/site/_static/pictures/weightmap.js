// Eq. 2: w(x) = w_c(x) + w0 exp(-(d1 + d2)^2 / (2 sigma^2)), with w_c = 1.
(function (N) {
  "use strict";
  const HEIGHT = 72, WIDTH = 108;
  const compute = N.compute.weightmap = {
    HEIGHT, WIDTH,
    // The three cells of docs/site/numbers_of_pictures.py, numbered 1..3.
    cells(gap) {
      const left = 26, right = 26 + 32 + gap, found = new Uint8Array(HEIGHT * WIDTH);
      const discs = [[30, left, 16], [30, right, 15.5], [60, left + 20, 9]];
      for (let y = 0; y < HEIGHT; y++) for (let x = 0; x < WIDTH; x++)
        discs.forEach(([cy, cx, radius], k) => {
          if (!found[y * WIDTH + x] && (y - cy) ** 2 + (x - cx) ** 2 <= radius ** 2) found[y * WIDTH + x] = k + 1;
        });
      return found;
    },
    // Distances of every pixel to the nearest and the second nearest cell, by looking at all their pixels.
    distances(cells) {
      const of = [[], [], []];
      cells.forEach((cell, i) => { if (cell) of[cell - 1].push(i); });
      const d1 = new Float64Array(cells.length), d2 = new Float64Array(cells.length);
      for (let i = 0; i < cells.length; i++) {
        if (cells[i]) continue;
        const y = Math.floor(i / WIDTH), x = i % WIDTH;
        const sorted = of.map(pixels => {
          let best = Infinity;
          for (const p of pixels) {
            const dy = Math.floor(p / WIDTH) - y, dx = p % WIDTH - x;
            best = Math.min(best, dy * dy + dx * dx);
          }
          return Math.sqrt(best);
        }).sort((a, b) => a - b);
        [d1[i], d2[i]] = sorted;
      }
      return {d1, d2};
    },
    weights(cells, {d1, d2}, w0, sigma) {
      return Float64Array.from(cells, (cell, i) =>
        cell ? 1 : 1 + w0 * Math.exp(-((d1[i] + d2[i]) ** 2) / (2 * sigma ** 2)));
    },
  };

  N.picture("weightmap", (place) => {
    const canvas = N.canvas(WIDTH, HEIGHT, "weight of every pixel around three cells");
    const profile = N.element("svg", {viewBox: "0 0 324 90", class: "np-profile", role: "img",
      "aria-label": "weight along the line through the first two cells"});
    const says = N.element("p", {class: "np-says", "aria-live": "polite"});
    let cells, distances, w0 = 10, sigma = 5, gap = 4, at = [30, 44];

    function measure() { cells = compute.cells(gap); distances = compute.distances(cells); draw(); }

    function draw() {
      const weights = compute.weights(cells, distances, w0, sigma), top = 1 + Math.max(w0, 1);
      canvas.paint(i => cells[i] ? [[128, 128, 128], [150, 150, 150], [110, 110, 110]][cells[i] - 1]
                                 : N.heat((weights[i] - 1) / (top - 1)));
      const points = [];
      for (let x = 0; x < WIDTH; x++) points.push(`${3 * x + 1.5},${84 - 78 * weights[30 * WIDTH + x] / top}`);
      profile.replaceChildren(N.element("polyline", {points: points.join(" "), class: "np-curve"}),
        N.element("text", {x: 4, y: 14}, `${top}`), N.element("text", {x: 4, y: 86}, "0"));
      const i = at[0] * WIDTH + at[1];
      says.textContent = cells[i] ? `pixel (${at}): inside cell ${cells[i]}, weight 1` :
        `pixel (${at}): d1 = ${distances.d1[i].toFixed(1)}, d2 = ${distances.d2[i].toFixed(1)}, ` +
        `weight 1 + ${w0} exp(-${(distances.d1[i] + distances.d2[i]).toFixed(1)}² / (2·${sigma}²)) = ${weights[i].toFixed(2)}`;
      says.dataset.value = weights[i];
    }

    const look = event => {
      const [x, y] = N.position(event, canvas, WIDTH, HEIGHT);
      at = [Math.min(HEIGHT - 1, Math.max(0, Math.floor(y))), Math.min(WIDTH - 1, Math.max(0, Math.floor(x)))];
      draw();
    };
    canvas.addEventListener("pointermove", look);
    canvas.addEventListener("pointerdown", look);
    canvas.setAttribute("tabindex", "0");
    canvas.addEventListener("keydown", event => {
      const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
      if (!step) return;
      event.preventDefault();
      at = [Math.min(HEIGHT - 1, Math.max(0, at[0] + step[0])), Math.min(WIDTH - 1, Math.max(0, at[1] + step[1]))];
      draw();
    });
    N.frame(place, "Eq. 2: the separation border", "Change the sliders; move over the map to read one weight.",
      N.slider("w0, height", 0, 30, 1, w0, v => { w0 = v; draw(); }).row,
      N.slider("sigma, width", 1, 15, 0.5, sigma, v => { sigma = v; draw(); }, v => `${v} px`).row,
      N.slider("gap between the cells", 1, 20, 1, gap, v => { gap = v; measure(); }, v => `${v} px`).row,
      canvas, profile, says);
    measure();
  });
})(window.NPUNET);
