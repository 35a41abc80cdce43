// Fig. 1 with the sizes of any tile, and what one output pixel sees at each level.
(function (N) {
  "use strict";
  const compute = N.compute.fig1 = {
    // Sides of all maps of the valid network for a tile; null if some pooling would meet an odd side or nothing is left.
    sizes(tile, depth = 4) {
      const down = [], up = [];
      let side = tile;
      for (let level = 0; level < depth; level++) {
        down.push([side, side - 2, side - 4]);
        side -= 4;
        if (side < 2 || side % 2) return null;
        side /= 2;
      }
      const bottom = [side, side - 2, side - 4];
      side -= 4;
      if (side < 1) return null;
      for (let level = depth - 1; level >= 0; level--) {
        side *= 2;
        up[level] = [side, side - 2, side - 4];
        side -= 4;
        if (side < 1) return null;
      }
      return {down, bottom, up, output: side};
    },
    // The interval [low, high] that output pixel p sees, level by level on the contracting path, the image last.
    sees(pixel, depth = 4) {
      let low = pixel, high = pixel;
      const found = [];
      for (let level = 0; level < depth; level++) { high += 4; low = Math.floor(low / 2); high = Math.floor(high / 2); }
      high += 4;
      found[depth] = [low, high];
      for (let level = depth - 1; level >= 0; level--) {
        low = 2 * low; high = 2 * high + 1; high += 4;
        found[level] = [low, high];
      }
      return found;
    },
  };

  N.picture("fig1", (place) => {
    const svg = N.element("svg", {viewBox: "0 0 760 500", class: "np-fig1", role: "group"});
    const says = N.element("p", {class: "np-says", "aria-live": "polite"});
    let tile = 572, focus = null;

    function map(x, y, side, label, channels, kind, level) {
      const height = Math.max(8, 60 * side / tile + 8), width = 6 + 3 * Math.log2(channels + 1);
      const group = N.element("g", {class: `np-map np-${kind}`, tabindex: "0", role: "button",
        "aria-label": `${label}: ${side} x ${side}, ${channels} channels`, "data-side": side},
        N.element("rect", {x: x - width / 2, y: y - height / 2, width, height, rx: 1}),
        N.element("text", {x, y: y - height / 2 - 4, "text-anchor": "middle"}, `${channels}`),
        N.element("text", {x, y: y + height / 2 + 12, "text-anchor": "middle"}, `${side}²`));
      const look = () => { focus = {label, side, channels, level}; explain(); };
      for (const name of ["pointermove", "focus", "pointerdown"]) group.addEventListener(name, look);
      return group;
    }

    function explain() {
      const found = compute.sizes(tile);
      const seen = compute.sees(0);
      const width = level => seen[level][1] - seen[level][0] + 1;
      if (!found) {
        says.textContent = `A tile of ${tile} is not valid: some pooling would meet an odd side.`;
        return;
      }
      let text = `Tile ${tile} -> ${found.output}. `;
      if (focus) {
        text += `${focus.label}: ${focus.side} x ${focus.side} pixels, ${focus.channels} channels. `;
        if (focus.level !== undefined && focus.level !== null)
          text += `One output pixel sees ${width(focus.level)} x ${width(focus.level)} pixels of what enters level ${focus.level}` +
                  (focus.level ? ", " : ", the image; ") + `each of them is ${2 ** focus.level} image pixels wide.`;
      } else text += `One output pixel sees about ${width(0)} x ${width(0)} pixels of the image.`;
      says.textContent = text;
      says.dataset.output = found.output;
    }

    function draw() {
      const found = compute.sizes(tile);
      svg.replaceChildren();
      if (!found) { explain(); return; }
      svg.setAttribute("aria-label", `The U-Net for a tile of ${tile}: output ${found.output}`);
      const yOf = level => 58 + level * 100, names = ["enters", "after the first convolution", "after the second"];
      const line = (x1, y1, x2, y2, kind) => svg.append(N.element("line", {x1, y1, x2, y2, class: `np-arrow np-${kind}`}));
      for (let level = 0; level < 4; level++) {
        const base = 64 * 2 ** level, y = yOf(level), x = 40 + level * 58, right = 720 - level * 58;
        const channels = [level ? base / 2 : 1, base, base];
        line(x + 104, y, right - 110, y, "copy");
        line(x + 80, y + 24, x + 62, yOf(level + 1) - 30, "pool");
        line(right - 64, yOf(level + 1) - 30, right - 84, y + 24, "up");
        line(x, y, x + 88, y, "conv");
        line(right - 90, y, right, y, "conv");
        found.down[level].forEach((side, i) =>
          svg.append(map(x + 44 * i, y, side, `level ${level}, ${names[i]}`, channels[i], "down", level)));
        found.up[level].forEach((side, i) =>
          svg.append(map(right - 90 + 45 * i, y, side, `level ${level} on the way up, ${i ? names[i] : "concatenated"}`,
                         i ? base : 2 * base, i ? "up" : "joined", null)));
      }
      const y = yOf(4);
      line(316, y, 444, y, "conv");
      found.bottom.forEach((side, i) =>
        svg.append(map(316 + 64 * i, y, side, `bottleneck, ${names[i]}`, i ? 1024 : 512, "down", 4)));
      explain();
    }

    const slider = N.slider("tile", 188, 892, 16, 572, value => { tile = value; focus = null; draw(); }, v => `${v} px`);
    const odd = N.element("button", {type: "button", class: "np-tab", onclick: () => { tile = 570; focus = null; draw(); }},
      "try 570, which is not valid");
    N.frame(place, "Fig. 1 for any tile", "Choose a tile; move over a map, touch it or tab to it.",
      slider.row, N.element("div", {class: "np-scroll"}, svg), says, odd);
    draw();
  });
})(window.NPUNET);
