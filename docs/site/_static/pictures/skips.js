// A small trained U-Net in the page: draw on the section, cut the skip connections, see what it predicts.
// Feature maps are {side, channels, data}, channels last, as in npunet.
(function (N) {
  "use strict";
  const compute = N.compute.skips = {
    // Valid 3x3 (or 1x1) convolution, bias, ReLU
    convolve(x, weight, bias, relu) {
      const [kh, kw, C, K] = weight.shape, side = x.side - kh + 1, y = new Float32Array(side * side * K);
      for (let i = 0; i < side; i++) for (let j = 0; j < side; j++) {
        const out = (i * side + j) * K;
        for (let k = 0; k < K; k++) y[out + k] = bias.data[k];
        for (let u = 0; u < kh; u++) for (let v = 0; v < kw; v++) {
          const from = ((i + u) * x.side + j + v) * C, tap = (u * kw + v) * C * K;
          for (let c = 0; c < C; c++) {
            const value = x.data[from + c];
            if (value === 0) continue;
            const row = tap + c * K;
            for (let k = 0; k < K; k++) y[out + k] += value * weight.data[row + k];
          }
        }
        if (relu) for (let k = 0; k < K; k++) if (y[out + k] < 0) y[out + k] = 0;
      }
      return {side, channels: K, data: y};
    },
    pool(x) {
      const side = x.side / 2, C = x.channels, y = new Float32Array(side * side * C);
      for (let i = 0; i < side; i++) for (let j = 0; j < side; j++) for (let c = 0; c < C; c++) {
        const at = (a, b) => x.data[((2 * i + a) * x.side + 2 * j + b) * C + c];
        y[(i * side + j) * C + c] = Math.max(at(0, 0), at(0, 1), at(1, 0), at(1, 1));
      }
      return {side, channels: C, data: y};
    },
    // 2x2 up-convolution: each pixel paints a 2x2 block
    up(x, weight, bias) {
      const [, , C, K] = weight.shape, side = 2 * x.side, y = new Float32Array(side * side * K);
      for (let i = 0; i < side; i++) for (let j = 0; j < side; j++) {
        const out = (i * side + j) * K, from = ((i >> 1) * x.side + (j >> 1)) * C, tap = ((i & 1) * 2 + (j & 1)) * C * K;
        for (let k = 0; k < K; k++) {
          let sum = bias.data[k];
          for (let c = 0; c < C; c++) sum += x.data[from + c] * weight.data[tap + c * K + k];
          y[out + k] = sum;
        }
      }
      return {side, channels: K, data: y};
    },
    // [up, central part of skip]; a cut connection carries zeros
    join(up, skip, cut) {
      const side = up.side, A = up.channels, B = skip.channels, border = (skip.side - side) >> 1;
      const y = new Float32Array(side * side * (A + B));
      for (let i = 0; i < side; i++) for (let j = 0; j < side; j++) {
        const out = (i * side + j) * (A + B), from = ((i + border) * skip.side + j + border) * B;
        for (let c = 0; c < A; c++) y[out + c] = up.data[(i * side + j) * A + c];
        if (!cut) for (let c = 0; c < B; c++) y[out + A + c] = skip.data[from + c];
      }
      return {side, channels: A + B, data: y};
    },
    // grey values 0..1 of a square tile -> {side, data}: probability of "interior". cut: a Set of levels
    forward(net, grey, cut) {
      const p = name => net.parameters[name];
      const twice = (x, place) => {
        for (const conv of ["conv1", "conv2"]) x = compute.convolve(x, p(`${place}.${conv}.weight`), p(`${place}.${conv}.bias`), true);
        return x;
      };
      let x = {side: Math.sqrt(grey.length), channels: 1, data: Float32Array.from(grey, g => (g - net.mean) / net.std)};
      const skips = [];
      for (let level = 0; level < net.depth; level++) {
        x = twice(x, `contracting.${level}`);
        skips.push(x);
        x = compute.pool(x);
      }
      x = twice(x, "bottleneck");
      for (let level = net.depth - 1; level >= 0; level--) {
        const up = compute.up(x, p(`expansive.${level}.up.weight`), p(`expansive.${level}.up.bias`));
        x = twice(compute.join(up, skips[level], cut.has(level)), `expansive.${level}`);
      }
      const logits = compute.convolve(x, p("output.weight"), p("output.bias"), false), n = logits.side ** 2;
      const data = new Float32Array(n);
      for (let i = 0; i < n; i++) data[i] = 1 / (1 + Math.exp(logits.data[2 * i] - logits.data[2 * i + 1]));
      return {side: logits.side, data};
    },
    load(numbers) {
      const parameters = {};
      for (const [name, {shape, data}] of Object.entries(numbers.weights)) parameters[name] = {shape, data: N.halves(data)};
      return {depth: numbers.depth, mean: numbers.mean, std: numbers.std, parameters};
    },
  };

  N.picture("skips", (place, numbers) => {
    const net = compute.load(numbers), {width, height} = numbers.image;
    const original = Float32Array.from(N.bytes(numbers.image.grey), g => g / 255);
    let grey = original.slice(), cut = new Set(), brush = 0.1, pressed = false, waiting = false, cursor = [height / 2, width / 2];
    const input = N.canvas(width, height, "the section; draw on it");
    input.classList.add("np-drawing");
    input.setAttribute("tabindex", "0");
    const side = compute.forward(net, grey, cut).side, border = (width - side) / 2;
    const output = N.canvas(side, side, "probability of cell interior");
    const says = N.element("p", {class: "np-says", "aria-live": "polite"});

    function show() {
      input.paint(i => {
        const y = Math.floor(i / width), x = i % width, g = Math.round(255 * grey[i]);
        const inside = x >= border && y >= border && x < width - border && y < height - border;
        return inside ? [g, g, g] : [g * 0.6, g * 0.6, g * 0.75].map(Math.round);
      });
    }

    function predict() {
      waiting = false;
      const start = performance.now(), found = compute.forward(net, grey, cut);
      output.paint(i => { const v = Math.round(255 * found.data[i]); return [v, v, v]; });
      const mean = found.data.reduce((a, b) => a + b, 0) / found.data.length;
      says.textContent = `${width} x ${height} in, ${found.side} x ${found.side} out, ${Math.round(performance.now() - start)} ms in this page; ` +
        `mean probability of "interior" ${mean.toFixed(3)}` + (cut.size ? `; skip connections cut at level ${[...cut].sort().join(", ")}` : "");
      says.dataset.mean = mean;
    }

    function later() {
      show();
      if (!waiting) { waiting = true; setTimeout(predict, 60); }
    }

    function paintAt(y, x) {
      for (let i = Math.max(0, Math.floor(y - 3)); i <= Math.min(height - 1, y + 3); i++)
        for (let j = Math.max(0, Math.floor(x - 3)); j <= Math.min(width - 1, x + 3); j++)
          if ((i - y) ** 2 + (j - x) ** 2 <= 6) grey[i * width + j] = brush;
      later();
    }

    const stroke = event => { const [x, y] = N.position(event, input, width, height); paintAt(y, x); };
    input.addEventListener("pointerdown", event => { pressed = true; input.setPointerCapture(event.pointerId); stroke(event); event.preventDefault(); });
    input.addEventListener("pointermove", event => { if (pressed) stroke(event); });
    for (const name of ["pointerup", "pointercancel"]) input.addEventListener(name, () => { pressed = false; });
    input.addEventListener("keydown", event => {
      const step = {ArrowUp: [-4, 0], ArrowDown: [4, 0], ArrowLeft: [0, -4], ArrowRight: [0, 4]}[event.key];
      if (!step) return;
      event.preventDefault();
      cursor = [Math.min(height - 1, Math.max(0, cursor[0] + step[0])), Math.min(width - 1, Math.max(0, cursor[1] + step[1]))];
      paintAt(...cursor);
    });

    const switches = [...Array(net.depth).keys()].map(level => N.toggle(`skip at level ${level}`, true, on => {
      on ? cut.delete(level) : cut.add(level);
      predict();
    }).row);
    const brushes = N.tabs(["draw membrane (dark)", "draw interior (bright)"], 0, index => { brush = [0.1, 0.75][index]; });
    brushes.choose(0);
    const again = N.element("button", {type: "button", class: "np-tab", onclick: () => { grey = original.slice(); later(); }}, "start again");
    N.frame(place, "A trained U-Net that you can cut", "Draw on the left with mouse, finger or arrow keys; switch skip connections off.",
      N.element("div", {class: "np-tabs"}, ...switches), N.element("div", {class: "np-tabs"}, brushes.row, again),
      N.element("div", {class: "np-grids"}, N.element("figure", {}, N.element("figcaption", {}, "the section"), input),
        N.element("figure", {}, N.element("figcaption", {}, "what the network says"), output)), says);
    show();
    predict();
  });
})(window.NPUNET);
